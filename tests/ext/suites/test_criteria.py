"""What must hold for a test task to have succeeded, to the last digit."""

import pytest

from taskorch.ext.suites import Criteria
from taskorch.ext.suites._judging import Counts, Measures, judge


def verdict(criteria=None, *, seconds=1.0, exit_code=0, **measures):
    """Whether it has succeeded, and what does not hold."""
    asked = Criteria(**criteria or {})
    findings = judge(asked, Measures(seconds, exit_code, **measures))
    bad = [finding.said for finding in findings if not finding.holds]
    return (not bad, *bad)


# -- the rate of tests that pass ---------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "rate"),
    [
        (Counts(passed=1, skipped=9), 1.0),  # what was skipped does not count
        (Counts(passed=1, xfailed=9), 1.0),  # nor what failed as expected
        (Counts(passed=1, xpassed=1, failed=2), 0.5),  # a lucky one has passed
        (Counts(passed=3, errors=1), 0.75),  # what broke has not
        (Counts(skipped=3), 1.0),  # nothing has failed
        (Counts(errors=1), 0.0),
        (Counts(), None),
    ],
)
def test_what_the_rate_is_made_of(counts, rate):
    assert counts.pass_rate == rate


def test_no_test_at_all_is_no_success():
    """pytest exits with 5 then."""
    for code in (0, 5):
        found = verdict({"pass_rate": 0.0}, exit_code=code, counts=Counts())
        assert found[:2] == (False, "no tests")
    assert verdict(exit_code=5, counts=Counts()) == (False, "no tests")


# -- how it ended ------------------------------------------------------------------


@pytest.mark.parametrize("code", [2, 3, 4, 255])
def test_a_code_that_no_failed_test_explains_is_a_failure(code):
    counts = Counts(passed=45)
    assert verdict({"pass_rate": 0.5}, exit_code=code, counts=counts) == (
        False,
        f"it exited with {code}, and no test has failed",
    )


def test_a_run_that_was_cut_short_is_none():
    """pytest exits with 2 when it is interrupted."""
    counts = Counts(passed=44, failed=1)
    asked = {"pass_rate": 0.5}
    assert verdict(asked, exit_code=2, counts=counts, is_pytest=True) == (
        False,
        "it exited with 2: not all tests were run",
    )
    assert verdict(asked, exit_code=2, counts=counts) == (True,)


# -- the other criteria ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "limit", "measures", "worse"),
    [
        ("coverage", 0.9, {"covered": (90, 100)}, {"covered": (89, 100)}),
        ("execution_time_max", 5.0, {"seconds": 5.0}, {"seconds": 5.000001}),
        ("memory_max", 64.0, {"memory_mb": 64.0}, {"memory_mb": 64.001}),
        (
            "speedup_min",
            2.0,
            {"serial_seconds": 8.0, "parallel_seconds": 4.0},
            {"serial_seconds": 7.99, "parallel_seconds": 4.0},
        ),
        (
            "memory_efficiency",
            0.8,
            {"memory_mb": 80.0, "granted_mb": 100.0},
            {"memory_mb": 79.9, "granted_mb": 100.0},
        ),
    ],
)
def test_a_criterion_flips_at_its_limit(name, limit, measures, worse):
    assert verdict({name: limit}, **measures) == (True,)
    (succeeded, said) = verdict({name: limit}, **worse)
    assert not succeeded
    assert f"{limit:g}" in said
    # Nothing is asked for that is not there.
    assert verdict(None, **worse) == (True,)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        *(("pass_rate", 0.5), ("coverage", 0.0), ("memory_max", 9)),
        *(("speedup_min", 1), ("memory_efficiency", 0.1)),
    ],
)
def test_what_was_not_measured_is_not_met(name, limit):
    succeeded, said = verdict({name: limit})
    assert not succeeded
    assert "was not measured" in said


def test_a_parallel_run_that_took_no_time_says_nothing():
    found = verdict({"speedup_min": 1}, serial_seconds=1.0, parallel_seconds=0.0)
    assert found[0] is False
