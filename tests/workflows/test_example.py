"""The example runs, and does what it says."""

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "workflow.py"


def test_the_example_counts_words_and_restarts():
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLE],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "failed: {'report': OSError('the printer is out of paper')}"
    assert lines[1].startswith("monday is failed: 4 of 5 tasks completed, 1 failed.")
    assert lines[2] == "the 3, cat 2, dog 2"
