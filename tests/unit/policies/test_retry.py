"""BackoffRetryHandler, with the strategies of our own."""

from __future__ import annotations

import math
from random import Random

import attrs
import pytest
from hypothesis import given, strategies as st
from tests.unit.policies.fakes import FakeContext, NoRandom, failure

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


def delays(policy, attempts):
    policy = attrs.evolve(policy, max_attempts=1_000_000)
    context = FakeContext(random=NoRandom())
    return [decide(policy, context, attempts=n).delay for n in attempts]


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


@given(st.integers(1, 1_000_000), st.integers(1, 1_100_000))
def test_it_ends_after_max_attempts(most, attempts):
    """Law 2: from the last attempt on, the answer is no."""
    answer = decide(RetryPolicy(most), attempts=attempts)

    assert answer.retry == (attempts < most)


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


@pytest.mark.parametrize(
    ("elapsed", "retried"), [(0, True), (7, True), (7.5, False), (100, False)]
)
def test_no_retry_begins_after_stop_after(elapsed, retried):
    """What counts is when it would begin, not when the last one failed."""
    policy = RetryPolicy(3, wait="fixed", base=3, jitter=0, stop_after=10)
    answer = decide(policy, elapsed=elapsed)

    assert answer.retry is retried
    if elapsed == 7.5:
        assert answer.reason == (
            "the next attempt would begin 10.5 s after the first, and stop_after is "
            "10 s"
        )


# ------------------------------------------------------------------- when


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        ("fixed", [2, 2, 2, 2, 2]),
        ("linear", [2, 4, 6, 8, 10]),
        ("exponential", [2, 4, 8, 16, 32]),
    ],
)
def test_without_jitter_the_delays_are_the_table(wait, expected):
    """Nothing is drawn, and `base` is the first delay."""
    policy = RetryPolicy(9, wait=wait, base=2, jitter=0)

    assert delays(policy, range(1, 6)) == expected


def test_a_delay_beyond_all_numbers_is_the_longest_one():
    policy = RetryPolicy(5_000, base=1.0, max_delay=30.0, jitter=0)
    assert decide(policy, attempts=4_000).delay == 30.0


def test_delays_that_are_said_come_in_their_order():
    policy = RetryPolicy(delays=(3, 1, 5))

    assert [decide(policy, attempts=n).delay for n in (1, 2, 3)] == [3, 1, 5]


@given(
    st.sampled_from(["exponential", "linear", "fixed"]),
    st.floats(0, MAX_SECONDS),
    st.floats(0, MAX_SECONDS),
)
def test_ceilings_rise_to_max_delay_and_no_further(wait, base, most):
    """They never fall, never exceed the limit, and never overflow."""
    policy = RetryPolicy(9, wait=wait, base=base, max_delay=most, jitter=0)
    table = delays(policy, [1, 2, 3, 10, 60, 1000, 1100, 2200, 10**5, 999_999])

    assert table == sorted(table)
    assert table[0] == min(base, most)
    assert all(0 <= delay <= most for delay in table)


@given(policies, st.integers(1, 3000), st.integers())
def test_jitter_stays_within_its_bounds(policy, attempts, seed):
    """A draw is within the fraction, and never above `max_delay`."""
    (ceiling,) = delays(attrs.evolve(policy, jitter=0), [attempts])
    policy = attrs.evolve(policy, max_attempts=attempts + 1)
    delay = decide(policy, FakeContext(random=Random(seed)), attempts=attempts).delay
    spread = 1 if policy.jitter == "full" else policy.jitter
    over = 0 if policy.jitter == "full" else policy.jitter

    assert math.isfinite(delay)
    assert 0 <= delay <= policy.max_delay
    assert ceiling * (1 - spread) <= delay <= ceiling * (1 + over)


@given(policies, st.integers(1, 20), st.integers())
def test_a_seed_repeats_the_delays(policy, attempts, seed):
    """Law 3: chance comes from the context alone."""
    first, again = (
        decide(policy, FakeContext(random=Random(seed)), attempts=attempts)
        for _ in range(2)
    )

    assert first == again


@pytest.mark.parametrize("jitter", [0.5, "full"])
def test_jitter_spreads_at_the_limit(jitter):
    """Tasks that have reached `max_delay` do not return together."""
    policy = RetryPolicy(99, base=1, max_delay=60, jitter=jitter)
    context = FakeContext(random=Random(5))
    drawn = [decide(policy, context, attempts=50).delay for _ in range(500)]

    assert len(set(drawn)) == 500
    assert max(drawn) > 59
    assert min(drawn) < (31 if jitter == 0.5 else 1)


def test_a_draw_that_rounding_carries_too_far_is_held():
    """Not even an imperfect generator exceeds the limit."""

    class Generous(Random):
        def uniform(self, a, b):
            return math.nextafter(b, math.inf)

    policy = RetryPolicy(9, base=60, max_delay=60)

    assert decide(policy, FakeContext(random=Generous())).delay == 60


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


def test_whoever_only_says_that_it_may_be_tried_again_asks_for_no_second():
    policy = RetryPolicy(9, wait="fixed", base=0.5, jitter=0)
    assert decide(policy, error=Busy(True)).delay == 0.5


def test_retry_after_does_not_outlive_stop_after():
    """What would begin too late is not tried, whoever asked for it."""
    assert not decide(RetryPolicy(9, stop_after=10), error=Busy(11)).retry


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"jitter": 0}, None, "attempt 2 of 3 in 1.4 s (exponential)"),
        ({"jitter": 0, "wait": "linear"}, None, "attempt 2 of 3 in 1.4 s (linear)"),
        ({}, None, "attempt 2 of 3 in 1.4 s (exponential, ±50 %)"),
        ({"jitter": "full"}, None, "attempt 2 of 3 in 1.4 s (exponential, full jitter)"),
        ({}, Busy(90), "attempt 2 of 3 in 90 s (retry_after of the error)"),
    ],
)  # fmt: skip
def test_the_reason_has_the_numbers(options, error, reason):
    """Which attempt, when, and how that came about."""

    class Fixed(Random):
        def uniform(self, a, b):
            return 1.4

    policy = RetryPolicy(3, base=1.4, **options)

    assert decide(policy, FakeContext(random=Fixed()), error=error).reason == reason


def test_what_a_group_says_is_permanent():
    """However deep: one of what it holds says that a retry is of no use."""
    inner = ExceptionGroup("inner", [Permanent("never")])
    error = ExceptionGroup("outer", [OSError(), inner])
    assert not decide(RetryPolicy(5), error=error).retry
    error = ExceptionGroup("outer", [OSError()])
    assert decide(RetryPolicy(5), error=error).retry
