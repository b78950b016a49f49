"""A few rounds, and that they find what is wrong; `make stress` runs many."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc"),
]


def stress(*words):
    return subprocess.run(
        [sys.executable, "-m", "tests.stress", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(180)
def test_all_is_well_after_some_rounds(unmeasured):
    done = stress("--seed", 1, "--rounds", 4)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "seeds 1 to 4: 0 failed\n"
