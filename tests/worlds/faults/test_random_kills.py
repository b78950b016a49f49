"""Killed at moments that nobody has chosen."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow("up to a hundred kills")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("number", "seed", "times"),
    [(signal.SIGKILL, 1, 100), (signal.SIGKILL, 2, 50), (signal.SIGINT, 3, 25)],
)
def test_however_often_it_is_ended_no_result_changes(tmp_path, number, seed, times):
    """The results are those of an uninterrupted run, and the ledger agrees."""
    program = [sys.executable, "-m", "tests.worlds.faults.random_kills"]

    done = subprocess.run(
        [*program, tmp_path, str(seed), str(int(number)), str(times)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout)
    assert len(seen["kills"]) >= times
    # They came before anything, towards the end, and at much in between.
    assert len(set(seen["kills"])) > min(8, times // 6)
    assert seen["journals"] > 3
