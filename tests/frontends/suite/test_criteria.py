"""What must hold for a test task to have succeeded, to the last digit."""

import math

import pytest
from hypothesis import given, strategies as st

from taskorch.frontends.suite import Criteria
from taskorch.frontends.suite._judging import Counts, Measures, judge


def verdict(criteria=None, *, seconds=1.0, exit_code=0, **measures):
    """Whether it has succeeded, and what does not hold."""
    asked = Criteria(**criteria or {})
    findings = judge(asked, Measures(seconds, exit_code, **measures))
    bad = [finding.said for finding in findings if not finding.holds]
    return (not bad, *bad)


# -- the rate of tests that pass ---------------------------------------------------


def test_43_of_45_at_95_percent_succeeds_although_pytest_exits_with_1():
    counts = Counts(passed=43, failed=2)
    assert verdict({"pass_rate": 0.95}, exit_code=1, counts=counts) == (True,)
    assert verdict({"pass_rate": 0.96}, exit_code=1, counts=counts) == (
        False,
        "pass_rate is 0.956 (43 of 45), and at least 0.96 is asked for",
    )


def test_without_a_rate_no_test_may_fail():
    counts = Counts(passed=43, failed=2)
    assert verdict(exit_code=1, counts=counts) == (False, "2 of 45 tests failed")
    assert verdict({"coverage": 0}, exit_code=1, counts=counts, covered=(1, 1)) == (
        False,
        "2 of 45 tests failed",
    )


@given(st.integers(1, 10_000), st.data())
def test_a_rate_flips_exactly_at_what_was_measured(judged, data):
    passed = data.draw(st.integers(0, judged))
    counts = Counts(passed=passed, failed=judged - passed)
    code = int(passed < judged)
    exact = passed / judged
    assert verdict({"pass_rate": exact}, exit_code=code, counts=counts) == (True,)
    if exact < 1:
        above = math.nextafter(exact, 2)
        found = verdict({"pass_rate": above}, exit_code=code, counts=counts)
        assert found[0] is False
        # The number shown is not the one that is asked for.
        assert f"pass_rate is {above!r} " not in found[1]


@given(st.integers(0, 100))
def test_a_decimal_rate_of_a_hundred_tests_is_met_by_as_many(percent):
    """0.29 of 100 is 29, whatever floats say of 0.29 times 100."""
    counts = Counts(passed=percent, failed=100 - percent)
    code = int(percent < 100)
    rate = float(f"{percent / 100:.2f}")
    assert verdict({"pass_rate": rate}, exit_code=code, counts=counts) == (True,)


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


def test_a_signal_is_a_failure_whatever_the_tests_say():
    counts = Counts(passed=44, failed=1)
    assert verdict({"pass_rate": 0.5}, exit_code=-9, counts=counts) == (
        False,
        "it was ended by signal 9",
    )


def test_of_a_command_without_results_the_code_says_all():
    assert verdict(exit_code=0) == (True,)
    assert verdict(exit_code=3) == (False, "it exited with 3")


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


def test_a_command_may_say_its_numbers_itself():
    said = {"pass_rate": 0.5, "coverage": 0.5, "speedup": 2, "memory_efficiency": 1}
    criteria = {n: v for n, v in said.items() if n != "speedup"} | {"speedup_min": 2}
    assert verdict(criteria, said=said) == (True,)


def test_without_lines_all_are_covered():
    assert verdict({"coverage": 1}, covered=(0, 0)) == (True,)


def test_a_parallel_run_that_took_no_time_says_nothing():
    found = verdict({"speedup_min": 1}, serial_seconds=1.0, parallel_seconds=0.0)
    assert found[0] is False


def test_all_that_does_not_hold_is_said():
    found = verdict(
        {"pass_rate": 1, "coverage": 1, "execution_time_max": 1},
        seconds=2.0,
        exit_code=1,
        counts=Counts(passed=1, failed=1),
        covered=(1, 4),
    )
    assert found == (
        False,
        "pass_rate is 0.5 (1 of 2), and at least 1 is asked for",
        "coverage is 0.25 (1 of 4 lines), and at least 1 is asked for",
        "execution_time is 2 s, and at most 1 s is asked for",
    )


def test_counts_add_up_and_say_themselves():
    both = Counts(passed=1, failed=2) + Counts(passed=3, skipped=1)
    assert both == Counts(passed=4, failed=2, skipped=1)
    assert str(both) == "4 passed, 2 failed, 1 skipped"
    assert str(Counts()) == "no tests"
