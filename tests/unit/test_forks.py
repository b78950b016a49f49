"""Tests that run in forks of the process that collected them: `tests/forks.py`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has no fork")

SOME = """
import os, signal, warnings
import pytest

@pytest.fixture(scope="session", autouse=True)
def torn_down():
    yield
    with open("torn", "a") as file:
        file.write("x")

@pytest.mark.parametrize("n", range(40))
def test_n(n, tmp_path):
    with open("began", "a") as file:
        file.write(f"{n}\\n")
    if n == 7:
        os._exit(3)
    if n == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    if n == 26:
        warnings.warn("of mine")
    print("said", n)
    assert n != 25
"""


@pytest.fixture
def run(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), os.pathsep)
    pytester.makepyfile(SOME)
    how = ("-p", "tests.forks", "--forks", "3", "-p", "no:xdist")
    return lambda *more: pytester.runpytest_subprocess(*how, *more)


def test_each_test_runs_once_and_a_process_that_is_lost_fails_what_it_ran(
    run, pytester
):
    found = run("-rf")
    found.assert_outcomes(passed=37, failed=3, warnings=1)
    text = found.stdout.str()
    assert "its process ended with 3" in text
    assert "its process ended with -9" in text
    assert "assert 25 != 25" in text
    assert "said 25" in text
    assert "said 24" not in text
    assert "of mine" in text
    began = (pytester.path / "began").read_text().split()
    assert sorted(map(int, began)) == [*range(40)]
    # Those of three forks that ended by themselves.
    assert (pytester.path / "torn").read_text() == "xxx"


def test_it_stops_at_the_first_failure_and_lets_the_others_clean_up(run, pytester):
    found = run("-x", "--deselect", "test_n[20]", "-k", "n")
    assert found.ret == pytest.ExitCode.TESTS_FAILED
    assert "failed" in found.stdout.str()
    began = (pytester.path / "began").read_text().split()
    assert len(began) == len(set(began))


def test_what_cannot_be_collected_is_an_error(run, pytester):
    pytester.makepyfile(test_broken="import nowhere_to_be_found")
    run().assert_outcomes(errors=1)
