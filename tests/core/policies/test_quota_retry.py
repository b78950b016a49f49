"""QuotaRetryHandler."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from tests.core.policies.fakes import FakeContext, failure

from taskorch.errors import InvalidTaskError, Permanent
from taskorch.model import RetryPolicy, Task
from taskorch.policies import BackoffRetryHandler, QuotaRetryHandler
from taskorch.protocols import RetryDecision, RetryHandler

RETRY = RetryPolicy(1000, wait="fixed", base=1, jitter=0)
TASK = Task("t", retry=RETRY)


class Always:
    """An inner handler that always says the same."""

    def __init__(self, delay=0.0, retry=True, reason=""):
        self.answer = RetryDecision(retry, delay, reason)
        self.asked = 0

    def decide(self, failure, context):
        self.asked += 1
        return self.answer


def decide(handler, now=0.0, task=TASK, error=None, **options):
    return handler.decide(failure(task, error, **options), FakeContext(now=now))


def test_it_is_a_retry_handler():
    """It has the methods of its protocol, and shows its options."""
    assert isinstance(QuotaRetryHandler(), RetryHandler)
    assert repr(QuotaRetryHandler(tokens=5, timeout_cost=1)) == (
        "QuotaRetryHandler(BackoffRetryHandler(), tokens=5, refill_per_second=10.0, "
        "cost=1.0, timeout_cost=1, when_empty='refuse', key=None, max_keys=1000)"
    )


def test_within_the_budget_the_inner_handler_decides():
    """Its delay stands, and its reason comes first."""
    answer = decide(QuotaRetryHandler())

    assert (answer.retry, answer.delay) == (True, 1.0)
    assert answer.reason == (
        "attempt 2 of 1,000 in 1 s (fixed); 99 of 100 tokens left for 't'"
    )


@pytest.mark.parametrize("error", [Permanent("no"), KeyError("x")])
def test_what_the_inner_handler_refuses_takes_no_tokens(error):
    """Its answer is passed on as it is."""
    task = Task("t", retry=RetryPolicy(9, retry_on=ValueError))
    handler = QuotaRetryHandler(tokens=1, timeout_cost=1, refill_per_second=0)
    inner = decide(BackoffRetryHandler(), task=task, error=error)

    assert decide(handler, task=task, error=error) == inner
    assert decide(handler, task=task).retry


def test_when_the_tokens_are_spent_there_is_no_retry():
    """The reason says what was left, what it takes and what comes back."""
    handler = QuotaRetryHandler(Always(), tokens=2, refill_per_second=0.5)

    assert [decide(handler).retry for _ in range(3)] == [True, True, False]
    assert decide(handler, 1.0).reason == (
        "the retry budget of 't' is spent: 0.5 of 2 tokens left, a retry takes 1, and "
        "0.5 come back in a second"
    )


def test_a_timeout_costs_double_or_a_whole_bucket():
    """Unless something else is said."""
    assert QuotaRetryHandler(cost=3).timeout_cost == 6
    assert QuotaRetryHandler(tokens=1).timeout_cost == 1


def test_a_wait_is_no_shorter_than_the_inner_delay():
    """The longer of the two counts."""
    handler = QuotaRetryHandler(
        Always(5.0),
        tokens=1,
        timeout_cost=1,
        refill_per_second=1,
        when_empty="wait",
    )

    assert [decide(handler).delay for _ in range(8)] == [5, 5, 5, 5, 5, 5, 6, 7]


def test_the_number_of_buckets_is_bounded():
    """The one that was asked about longest ago is forgotten, and full again."""
    handler = QuotaRetryHandler(
        Always(), tokens=1, timeout_cost=1, refill_per_second=0, max_keys=2
    )
    for name in "abac":
        decide(handler, task=Task(name))

    assert len(handler._buckets) == 2
    assert not decide(handler, task=Task("a")).retry
    assert decide(handler, task=Task("b")).retry


def test_many_keys_leave_no_more_than_max_keys():
    """However many there are."""
    handler = QuotaRetryHandler(Always(), max_keys=10)
    for number in range(1000):
        decide(handler, task=Task(str(number)))

    assert len(handler._buckets) == 10


@pytest.mark.parametrize("asked", [30, "30", "Thu, 01 Jan 1970 00:01:40 GMT"])
def test_what_the_error_asks_for_is_the_least_delay(asked):
    """As a number, as text or as a date; the reason says so."""
    error = ValueError("busy")
    error.retry_after = asked
    answer = decide(QuotaRetryHandler(Always(1.0)), now=70.0, error=error)

    assert answer.delay == 30
    assert answer.reason == ("the error asks for 30 s; 99 of 100 tokens left for 't'")
    assert decide(QuotaRetryHandler(Always(60.0)), now=70.0, error=error).delay == 60


def test_a_delay_that_was_made_longer_keeps_to_stop_after():
    """Beyond it there is no retry, and no token is taken."""
    task = Task("t", retry=RetryPolicy(9, stop_after=20))
    error = ValueError("busy")
    error.retry_after = "30"
    handler = QuotaRetryHandler(Always(1.0))
    answer = decide(handler, task=task, error=error, elapsed=2.0)

    assert not answer.retry
    assert answer.reason == (
        "the next attempt would begin 32 s after the first, and stop_after is 20 s"
    )
    assert decide(handler).reason == "99 of 100 tokens left for 't'"
    # Until then there is one.
    last = Task("t", retry=RetryPolicy(9, stop_after=32))
    assert decide(QuotaRetryHandler(), task=last, error=error, elapsed=2.0).retry
    # What the inner handler asks for by itself is its own affair.
    assert decide(QuotaRetryHandler(Always(60.0)), task=task, error=error).retry


def test_a_wait_of_more_than_a_hundred_years_is_none():
    """Such a delay could not be waited for."""
    handler = QuotaRetryHandler(
        Always(), tokens=1, timeout_cost=1, refill_per_second=1e-300, when_empty="wait"
    )
    decide(handler)

    assert not decide(handler).retry


@pytest.mark.parametrize(
    "options",
    [
        {"tokens": -1},
        {"tokens": float("inf")},
        {"tokens": True},
        {"tokens": 0},
        {"refill_per_second": -1},
        {"refill_per_second": "1"},
        {"refill_per_second": 0, "when_empty": "wait"},
        {"cost": 0},
        {"cost": 101},
        {"timeout_cost": 101},
        {"when_empty": "fail"},
        {"key": "host"},
        {"max_keys": 0},
        {"max_keys": 1.0},
        {"inner": BackoffRetryHandler},
        {"inner": object()},
    ],
)
def test_options_out_of_range_are_refused(options):
    """The message names one of them."""
    with pytest.raises(InvalidTaskError, match=r"token|refill|cost|when|key|inner"):
        QuotaRetryHandler(**options)


tokens = st.integers(1, 20)
