"""What `make test` and CI make of tests that fail once: `.ci/twice`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / ".ci" / "twice"

#: A test that fails at its first try alone, and some that always do.
TESTS = """
from pathlib import Path
import pytest

def test_of_one_chance():
    tried = Path(__file__).with_name("tried")
    if not tried.exists():
        tried.touch()
        pytest.fail("by chance")

@pytest.mark.parametrize("each", range({always}))
def test_that_fails(each):
    pytest.fail("always")
"""


def run(folder: Path, always: int) -> subprocess.CompletedProcess[str]:
    (folder / ".ci").mkdir()
    shutil.copy(SCRIPT, folder / ".ci")
    (folder / "pytest.ini").write_text("[pytest]\n", "utf-8")
    (folder / "test_chances.py").write_text(TESTS.format(always=always), "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "xdist", "test_chances.py"]
    return subprocess.run(
        [folder / ".ci" / "twice", "chances", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not SCRIPT.exists(), reason="the scripts of CI are not here")
class TestTwice:
    def test_what_passes_alone_is_green_and_named_in_the_last_line(
        self, tmp_path: Path
    ) -> None:
        run_of_tests = run(tmp_path, always=0)
        assert run_of_tests.returncode == 0, run_of_tests.stdout
        assert run_of_tests.stdout.splitlines()[-1].strip() == (
            "1 test passed at the second try: test_chances.py::test_of_one_chance"
        )

    def test_what_fails_again_is_red(self, tmp_path: Path) -> None:
        run_of_tests = run(tmp_path, always=2)
        assert run_of_tests.returncode == 1
        assert "2 failed, 1 passed" in run_of_tests.stdout

    def test_more_than_three_failures_are_red_at_once(self, tmp_path: Path) -> None:
        run_of_tests = run(tmp_path, always=3)
        assert run_of_tests.returncode == 1
        assert "4 failed" in run_of_tests.stdout
        assert "once more" not in run_of_tests.stdout
