"""The example says what a plan comes to, and runs none of it."""

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "simulate.py"


def test_the_example_prints_a_report():
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLE],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("19 tasks would take 3 h")
    assert "train → review → send" in done.stdout
    assert lines[-1] == "So: 2 more cpu."
