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


def test_the_example_of_phases_fails_once_and_reports():
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLE.with_name("phases.py")],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("failed: {'A2': AssertionError(")
    assert lines[1].startswith("tuesday is failed: 2 of 14 tasks completed, 1 failed, ")
    assert lines[2] == "slowest: 0.8 s"
    assert lines[3].startswith("tuesday is completed: 17 tasks, 17 completed, in ")
    assert [line.split()[0] for line in lines[5::2]] == ["passed"] * 3
