"""RetryPolicy: ranges, and which failures it covers."""

import math
from typing import Any

import pytest

from taskorch.errors import InvalidTaskError
from taskorch.model import RetryPolicy


def constant(state):
    return 1.0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_attempts": 1_000_000},
        {"wait": "linear", "base": 0},
        {"wait": "fixed", "max_delay": 0},
        {"wait": constant},
        {"jitter": 0},
        {"jitter": 1},
        {"jitter": "full"},
        {"stop_after": 3},
        {"retry_on": OSError},
        {"retry_on": (OSError, KeyError)},
        {"retry_on": constant},
    ],
)
def test_well_formed(options):
    """These are policies, equal to their like."""
    assert RetryPolicy(**options) == RetryPolicy(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_attempts": 0}, "counts the first try"),
        ({"max_attempts": True}, "counts the first try"),
        ({"max_attempts": 2.0}, "counts the first try"),
        ({"max_attempts": 10**9}, "counts the first try"),
        ({"wait": "random"}, "wait: 'random' is none of"),
        ({"base": -1}, "base: -1 is not between"),
        ({"base": "1"}, "base: a duration is a number"),
        ({"max_delay": math.inf}, "max_delay: inf"),
        ({"jitter": 2}, "jitter: 2 is neither"),
        ({"jitter": True}, "jitter: True is neither"),
        ({"jitter": "half"}, "jitter: 'half' is neither"),
        ({"stop_after": -1}, "stop_after: -1"),
        ({"retry_on": 7}, "retry_on: 7 is no exception class and no predicate"),
        ({"retry_on": int}, "is no exception class"),
        ({"retry_on": (OSError, int)}, "is no exception class"),
    ],
)
def test_malformed(options, said):
    """What can never work is refused where it is made."""
    with pytest.raises(InvalidTaskError, match=said):
        RetryPolicy(**options)


def test_covers():
    """By class, by several, or by a predicate."""
    assert RetryPolicy().covers(ValueError())
    assert not RetryPolicy().covers(KeyboardInterrupt())
    assert RetryPolicy(retry_on=(OSError, KeyError)).covers(KeyError())
    assert not RetryPolicy(retry_on=(OSError, KeyError)).covers(ValueError())
    assert RetryPolicy(retry_on=lambda e: "now" in str(e)).covers(ValueError("now"))
    sloppy: Any = lambda e: 0  # noqa: E731
    assert RetryPolicy(retry_on=sloppy).covers(ValueError()) is False


@pytest.mark.parametrize(
    ("errors", "is_covered"),
    [
        ([OSError()], True),
        ([ConnectionError(), ExceptionGroup("inner", [TimeoutError()])], True),
        ([OSError(), ValueError()], False),
        ([ExceptionGroup("inner", [OSError(), ValueError()])], False),
    ],
)
def test_a_group_is_worth_a_retry_if_all_is_that_it_holds(errors, is_covered):
    """As `except*` leaves nothing then."""
    policy = RetryPolicy(2, retry_on=(OSError, KeyError))
    assert policy.covers(ExceptionGroup("g", errors)) is is_covered


def test_a_group_is_worth_a_retry_by_the_first_thousands_that_it_holds():
    """Nobody waits for a look at all of a huge one."""
    group = ExceptionGroup("g", [*[OSError()] * 10_000, ValueError()])
    assert RetryPolicy(2, retry_on=OSError).covers(group)


def test_a_group_is_worth_a_retry_by_its_own_class_and_by_a_predicate():
    group = ExceptionGroup("g", [ValueError()])
    assert RetryPolicy(2, retry_on=ExceptionGroup).covers(group)
    assert RetryPolicy(2).covers(group)
    assert not RetryPolicy(2).covers(BaseExceptionGroup("g", [SystemExit()]))
    seen = []
    assert not RetryPolicy(2, retry_on=seen.append).covers(group)
    assert seen == [group]
