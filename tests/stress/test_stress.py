"""A few rounds, and that they would find something; `make stress` runs many."""

import subprocess
import sys

import pytest
from tests.stress import put_back

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc"),
]


def stress(*words):
    return subprocess.run(
        [sys.executable, "-m", "tests.stress", *map(str, words)],
        cwd=put_back.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(180)
def test_all_is_well_after_some_rounds(unmeasured):
    done = stress("--seed", 1, "--rounds", 4)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "seeds 1 to 4: 0 failed\n"


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("bug", "seed"),
    [
        ("an interrupt cuts a step short", 1),
        ("the clock goes back after a snapshot", 10),
        ("who waits for an end is a ring", 3),
    ],
)
def test_what_was_wrong_once_is_found_if_it_comes_back(unmeasured, bug, seed):
    """By what does not know of it; `python -m tests.stress.put_back` tries them all."""
    found, _, what = put_back.stress(bug, seed, 3)

    assert found, what
