"""BackoffRetryHandler, with the strategies of our own."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, strategies as st
from tests.core.policies.fakes import FakeContext, failure

from taskorch.errors import Permanent, ProgramFailedError, TaskTimeoutError
from taskorch.model import RetryPolicy, Task
from taskorch.policies import BackoffRetryHandler
from taskorch.protocols import RetryHandler

HANDLER = BackoffRetryHandler()
MAX_SECONDS = 100 * 365.25 * 86_400

policies = st.builds(
    RetryPolicy,
    st.integers(2, 1_000_000),
    wait=st.sampled_from(["exponential", "linear", "fixed"]),
    base=st.floats(0, 1000),
    max_delay=st.floats(0, 1000),
    jitter=st.floats(0, 1) | st.just("full"),
)


def decide(policy, context=None, **facts):
    context = FakeContext() if context is None else context
    return HANDLER.decide(failure(Task("t", retry=policy), **facts), context)


class Busy(Exception):
    def __init__(self, retry_after):
        super().__init__("busy")
        self.retry_after = retry_after


def test_it_is_a_retry_handler():
    """It has the methods of its protocol."""
    assert isinstance(HANDLER, RetryHandler)
    assert repr(HANDLER) == "BackoffRetryHandler()"


# ------------------------------------------------------------------- whether


def test_by_default_there_is_one_attempt():
    """A task that says nothing is not tried again."""
    answer = decide(RetryPolicy())

    assert not answer.retry
    assert answer.reason == "attempt 1 of 1 was the last"


def test_permanent_ends_it_at_once():
    """Nothing else is asked, the predicate neither."""
    answer = decide(
        RetryPolicy(9, retry_on=lambda error: 1 // 0 == 1), error=Permanent("never")
    )

    assert not answer.retry
    assert answer.reason == "the task says that a retry is of no use"


@pytest.mark.parametrize(
    ("retry_on", "error", "retried"),
    [
        (Exception, TaskTimeoutError("late"), True),
        (Exception, ProgramFailedError("bad"), True),
        (Exception, KeyboardInterrupt(), False),
        (BaseException, KeyboardInterrupt(), True),
        (OSError, ConnectionError(), True),
        (OSError, ValueError(), False),
        ((OSError, KeyError), KeyError(), True),
        ((), KeyError(), False),
        (lambda error: "busy" in str(error), ValueError("busy"), True),
        (lambda error: "busy" in str(error), ValueError("idle"), False),
    ],
)
def test_retry_on_says_what_is_worth_it(retry_on, error, retried):
    """Classes and predicates are followed."""
    answer = decide(RetryPolicy(3, retry_on=retry_on), error=error)

    assert answer.retry is retried
    if not retried:
        assert answer.reason == f"{type(error).__name__} is not among retry_on"


def test_a_predicate_that_raises_is_heard():
    """Its error passes through: the orchestrator guards the call."""
    with pytest.raises(ZeroDivisionError):
        decide(RetryPolicy(3, retry_on=lambda error: 1 // 0 == 1))


# ------------------------------------------------------------------- when


def test_a_delay_beyond_all_numbers_is_the_longest_one():
    policy = RetryPolicy(5_000, base=1.0, max_delay=30.0, jitter=0)
    assert decide(policy, attempts=4_000).delay == 30.0


@given(policies, st.integers(1, 20), st.integers())
def test_a_seed_repeats_the_delays(policy, attempts, seed):
    """Law 3: chance comes from the context alone."""
    first, again = (
        decide(policy, FakeContext(random=Random(seed)), attempts=attempts)
        for _ in range(2)
    )

    assert first == again


@pytest.mark.parametrize(
    ("asked", "delay"),
    [
        (30, 30),
        (30.5, 30.5),
        (3600, 3600),  # longer than max_delay
        (10**400, MAX_SECONDS),
        (1, 2),  # the policy's own is longer
        (2, 2),
        (0, 2),
        (-5, 2),
        (math.inf, 2),
        (math.nan, 2),
        (True, 2),
        ("30", 2),
        (None, 2),
    ],
)
def test_retry_after_is_the_least_delay(asked, delay):
    """A sound number of seconds is honoured, anything else ignored."""
    policy = RetryPolicy(9, wait="fixed", base=2, jitter=0)

    answer = decide(policy, error=Busy(asked))
    assert answer.delay == delay
    # The error is named if it made a difference.
    assert ("retry_after of the error" in answer.reason) is (delay != 2)


def test_retry_after_does_not_outlive_stop_after():
    """What would begin too late is not tried, whoever asked for it."""
    assert not decide(RetryPolicy(9, stop_after=10), error=Busy(11)).retry
