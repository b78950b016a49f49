"""Functions of steps, killed at any moment: nothing that was told is done again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow("150 kills")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("seed", "times"), [(1, 150), (2, 150)])
def test_no_step_is_done_again_once_its_result_was_told(tmp_path, seed, times):
    """The ledger agrees with a world without kills, and so does the result."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.worlds.faults.stepping",
            tmp_path,
            str(seed),
            str(times),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout)
    assert seen["kills"] >= times
    # They came between many steps.
    assert seen["steps"] > times / 2
