"""The small examples run, and do what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def output_of(name: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_own_router_keeps_a_customer_with_one_agent():
    lines = output_of("own_router.py")

    pairs = [tuple(line.split()) for line in lines]
    assert len(pairs) == 8
    assert len({customer for customer, _ in pairs}) == len(set(pairs))
    assert {agent for _, agent in pairs} == {"paris", "tokyo"}


def test_own_validator_names_every_fault():
    assert output_of("own_validator.py") == [
        "cat.png is 640 wide",
        "refused: payload.width must be int, not 'wide'",
        "refused: payload.height is missing",
    ]
