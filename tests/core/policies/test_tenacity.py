"""tenacity's strategies, in a RetryPolicy and in TenacityRetryHandler."""

from __future__ import annotations

import inspect
import random as global_random
from datetime import timedelta
from random import Random
from typing import Any

import pytest
import tenacity
from hypothesis import given, strategies as st
from tests.core.policies.fakes import FakeContext, NoRandom, failure

from taskorch.errors import InvalidTaskError, Permanent
from taskorch.model import RetryPolicy, Task
from taskorch.policies import BackoffRetryHandler, TenacityRetryHandler, _retry
from taskorch.protocols import RetryHandler

MAX_SECONDS = 100 * 365.25 * 86_400
TASK = Task("t")
ATTEMPTS = (1, 2, 3, 4, 5, 7, 10, 33, 64, 1025, 5000)

# tenacity has renamed its argument.
FACTOR = next(
    name
    for name in ("multiplier", "initial")
    if name in inspect.signature(tenacity.wait_exponential_jitter).parameters
)
jitter = tenacity.wait_exponential_jitter


class Doubled(tenacity.wait_random):
    """A subclass with other numbers, and the same rule."""

    def __init__(self):
        super().__init__(2, 4)


class Mine(tenacity.wait_random):
    """A subclass with a rule of its own."""

    def __call__(self, retry_state):
        return 7


FIXED = {
    "none": tenacity.wait_none(),
    "fixed": tenacity.wait_fixed(3),
    "fixed-timedelta": tenacity.wait_fixed(timedelta(minutes=1)),
    "incrementing": tenacity.wait_incrementing(1, 2, 9),
    "decreasing": tenacity.wait_incrementing(9, -2, 100),
    "exponential": tenacity.wait_exponential(),
    "exponential-limits": tenacity.wait_exponential(0.5, 10, 3, 2),
    "exponential-factor-0": tenacity.wait_exponential(0),
    "exponential-shrinking": tenacity.wait_exponential(exp_base=0.5),
    "chain": tenacity.wait_chain(
        tenacity.wait_fixed(1), tenacity.wait_fixed(2), tenacity.wait_exponential()
    ),
    "combine": tenacity.wait_fixed(1) + tenacity.wait_incrementing(1, 1, 5),
    "sum": sum([tenacity.wait_fixed(1), tenacity.wait_fixed(2)]),
    "mine": Mine(),
}
DRAWN = {
    "random": tenacity.wait_random(1, 5),
    "random-backwards": tenacity.wait_random(5, 1),
    "doubled": Doubled(),
    "random-exponential": tenacity.wait_random_exponential(0.5, 30),
    "full-jitter": tenacity.wait_full_jitter(max=60),
    "exponential-jitter": jitter(),
    "exponential-jitter-short": jitter(max=0.5),
    "exponential-jitter-limits": jitter(**{FACTOR: 1}, max=20, exp_base=3, jitter=4),
    "chain-of-random": tenacity.wait_chain(
        tenacity.wait_random(0, 1), tenacity.wait_random(5, 6), jitter(max=99)
    ),
    "combined": tenacity.wait_random(0, 1) + jitter(max=50) + tenacity.wait_fixed(1),
    "chain-of-combined": tenacity.wait_chain(
        tenacity.wait_fixed(9), tenacity.wait_random(0, 1) + tenacity.wait_random(0, 2)
    ),
}


def wrong(value) -> Any:
    """What type checkers would refuse."""
    return value


def state(attempts=1, **facts):
    return _retry.state_of(failure(TASK, attempts=attempts, **facts))


def theirs(strategy, attempts):
    return min(strategy(retry_state=state(attempts)), MAX_SECONDS)


@pytest.fixture
def seeded():
    """Seed the global generator, and leave it as it was."""
    before = global_random.getstate()
    yield global_random.seed
    global_random.setstate(before)


# ------------------------------------------------------------------- waits


@pytest.mark.parametrize("name", FIXED)
def test_what_does_not_draw_says_the_same_as_in_tenacity(name):
    """The tables are equal, and our generator is left alone."""
    ours = [_retry.wait_seconds(FIXED[name], state(n), NoRandom()) for n in ATTEMPTS]

    assert ours == [theirs(FIXED[name], n) for n in ATTEMPTS]


@pytest.mark.parametrize("name", DRAWN)
def test_what_draws_says_the_same_from_the_same_seed(name, seeded):
    """Draw for draw, ours equals tenacity's over the global generator."""
    strategy = DRAWN[name]
    for seed in range(20):
        ours = Random(seed)
        seeded(seed)
        for n in ATTEMPTS:
            expected = theirs(strategy, n)
            assert _retry.wait_seconds(strategy, state(n), ours) == expected


@pytest.mark.parametrize("name", DRAWN)
def test_what_draws_leaves_the_global_generator_alone(name):
    """A seed of the orchestrator's decides, and nothing else."""
    before = global_random.getstate()
    _retry.wait_seconds(DRAWN[name], state(3), Random(1))

    assert global_random.getstate() == before


@given(st.integers(1, 2000), st.floats(0, 10), st.floats(0, 100), st.integers())
def test_random_exponential_stays_in_its_window(attempts, least, more, seed):
    """It never waits less than `min`, nor more than `max`."""
    strategy = tenacity.wait_random_exponential(max=least + more, min=least)
    wait = _retry.wait_seconds(strategy, state(attempts), Random(seed))

    assert least <= wait <= (least + more) * (1 + 1e-12)


def test_a_factor_and_a_least_wait_of_exponential_jitter_are_honoured():
    """Under either name that tenacity has given them."""

    class Older(jitter):
        def __init__(self):
            self.initial, self.max, self.exp_base, self.jitter = 0.5, 10, 2, 0

    class Newer(jitter):
        def __init__(self):
            self.multiplier, self.max, self.exp_base, self.jitter = 3, 50, 2, 0
            self.min = 10

    older = [_retry.wait_seconds(Older(), state(n), Random()) for n in range(1, 7)]
    newer = [_retry.wait_seconds(Newer(), state(n), Random()) for n in range(1, 7)]

    assert older == [0.5, 1, 2, 4, 8, 10]
    assert newer == [10, 10, 12, 24, 48, 50]


def test_an_unknown_strategy_is_called_with_a_real_state():
    """It sees what tenacity would show it."""
    seen: list[Any] = []
    error = ValueError("bad")
    task = Task.call(pow, 2, 3, kwargs={"mod": 5})
    facts = failure(task, error, attempts=4, elapsed=12.5, last_delay=3.0)

    def strategy(retry_state):
        seen.append(retry_state)
        return 9

    wait = _retry.wait_seconds(strategy, _retry.state_of(facts), NoRandom())
    (shown,) = seen
    outcome: Any = shown.outcome

    assert wait == 9.0
    assert isinstance(shown, tenacity.RetryCallState)
    assert (shown.attempt_number, outcome.attempt_number) == (4, 4)
    assert outcome.failed
    assert outcome.exception() is error
    assert shown.seconds_since_start == 12.5
    assert shown.idle_for == 3.0
    assert shown.upcoming_sleep == 0.0
    assert (shown.fn, shown.args, shown.kwargs) == (pow, (2, 3), {"mod": 5})
    assert "ValueError bad" in repr(shown)


def test_without_a_call_there_is_no_function():
    """A task for an agent shows none."""
    shown = state()

    assert (shown.fn, shown.args, shown.kwargs) == (None, (), {})


@pytest.mark.skipif(not hasattr(tenacity, "wait_exception"), reason="not there yet")
def test_wait_exception_sees_the_exception():
    """Its predicate decides by the error."""
    strategy = tenacity.wait_exception(lambda error: len(str(error)))

    assert _retry.wait_seconds(strategy, state(), NoRandom()) == len("no good")


@pytest.mark.parametrize(
    "answer", [-1, float("nan"), float("inf"), None, "1", True, timedelta(1)]
)
def test_nonsense_is_refused_by_name(answer):
    """An answer that is no wait names the strategy."""

    def my_wait(retry_state):
        return answer

    with pytest.raises(ValueError, match=r"my_wait answered .*: a wait is a finite"):
        _retry.wait_seconds(my_wait, state(), NoRandom())


def test_a_wait_is_never_longer_than_any_time_of_ours():
    """Not even an int that no float can hold."""
    wait = _retry.wait_seconds(lambda retry_state: 10**400, state(), NoRandom())

    assert wait == MAX_SECONDS


def test_a_strategy_that_is_to_be_awaited_is_refused():
    """And leaves no coroutine behind that nobody awaited."""

    async def later(retry_state):
        return 1

    with pytest.raises(ValueError, match="later is to be awaited"):
        _retry.wait_seconds(wrong(later), state(), NoRandom())


# ------------------------------------------------------------------- in a policy


def decide(policy, error=None, attempts=1, elapsed=0.0):
    facts = failure(Task("t", retry=policy), error, attempts, elapsed)
    return BackoffRetryHandler().decide(facts, FakeContext())


def test_a_policy_waits_as_the_strategy_says():
    """Base and jitter of the policy do not apply."""
    policy = RetryPolicy(3, wait=tenacity.wait_fixed(3), base=50, jitter="full")
    answer = decide(policy)

    assert (answer.retry, answer.delay) == (True, 3.0)
    assert answer.reason == "attempt 2 of 3 in 3 s (wait_fixed)"


def test_max_delay_holds_for_a_strategy_too():
    """It is the longest delay, whoever asks; the reason says that it was cut."""
    exact = decide(RetryPolicy(3, wait=tenacity.wait_fixed(60)))
    answer = decide(RetryPolicy(3, wait=tenacity.wait_fixed(90)))

    assert exact.reason == "attempt 2 of 3 in 60 s (wait_fixed)"
    assert answer.delay == 60.0
    assert answer.reason == "attempt 2 of 3 in 60 s (wait_fixed, cut to max_delay)"


def test_a_function_is_a_strategy():
    """Any callable of a state will do."""

    def growing(retry_state):
        return retry_state.attempt_number * 2

    answer = decide(RetryPolicy(9, wait=growing), attempts=4)

    assert answer.reason == "attempt 5 of 9 in 8 s (growing)"


# ------------------------------------------------------------------- the handler


def handle(facts=None, **strategies):
    handler = TenacityRetryHandler(**strategies)
    return handler.decide(failure(TASK) if facts is None else facts, FakeContext())


def after(n):
    return tenacity.stop_after_attempt(n)


def test_it_is_a_retry_handler():
    """It has the methods of its protocol, and shows its strategies."""
    handler = TenacityRetryHandler(stop=wrong(len))

    assert isinstance(handler, RetryHandler)
    assert repr(handler) == (
        "TenacityRetryHandler(stop=<built-in function len>, wait=None, retry=None)"
    )


def test_the_defaults_are_those_of_tenacity():
    """Every Exception is worth a retry, without a wait, until it is to stop."""
    answer = handle(stop=after(3))

    assert (answer.retry, answer.delay) == (True, 0.0)
    assert answer.reason == "attempt 2 in 0 s (no wait)"
    assert not handle(failure(TASK, KeyboardInterrupt()), stop=after(3)).retry


@pytest.mark.parametrize(
    ("stop", "attempts", "elapsed", "retried"),
    [
        (tenacity.stop_after_attempt(3), 2, 0, True),
        (tenacity.stop_after_attempt(3), 3, 0, False),
        (tenacity.stop_after_delay(10), 99, 9.9, True),
        (tenacity.stop_after_delay(10), 1, 10, False),
        (tenacity.stop_after_attempt(3) | tenacity.stop_after_delay(10), 1, 11, False),
        (tenacity.stop_after_attempt(3) & tenacity.stop_after_delay(10), 1, 11, True),
        (tenacity.stop_after_attempt(3) & tenacity.stop_after_delay(10), 3, 11, False),
        (lambda retry_state: retry_state.idle_for > 5, 1, 0, True),
    ],
)
def test_stop_decides_when_it_is_enough(stop, attempts, elapsed, retried):
    """Strategies and combinations of them are asked with the facts."""
    facts = failure(TASK, attempts=attempts, elapsed=elapsed)

    assert handle(facts, stop=stop).retry is retried


@pytest.mark.skipif(not hasattr(tenacity, "stop_before_delay"), reason="not there yet")
def test_stop_sees_the_wait_that_would_follow():
    """The wait is asked first, as in tenacity, and `retry_after` counts."""
    stop = tenacity.stop_before_delay(10)
    busy = ValueError()
    busy.retry_after = 6  # type: ignore[attr-defined]
    facts = failure(TASK, elapsed=5)

    assert handle(facts, stop=stop, wait=tenacity.wait_fixed(4)).retry
    assert not handle(facts, stop=stop, wait=tenacity.wait_fixed(5)).retry
    assert not handle(failure(TASK, busy, elapsed=5), stop=stop).retry


def test_the_reason_of_a_stop_has_the_numbers():
    """Which strategy ended it, after how many attempts, and when."""
    answer = handle(failure(TASK, attempts=3, elapsed=42), stop=after(3))

    assert answer.reason == (
        "stop_after_attempt ends it after attempt 3, 42 s after the first began"
    )


@pytest.mark.parametrize(
    ("retry", "error", "retried"),
    [
        (tenacity.retry_if_exception_type(OSError), ConnectionError(), True),
        (tenacity.retry_if_exception_type(OSError), ValueError(), False),
        (tenacity.retry_if_not_exception_type(OSError), ValueError(), True),
        (tenacity.retry_if_exception(lambda e: "busy" in str(e)), ValueError("busy"), True),
        (tenacity.retry_if_exception_message(match="b.sy"), ValueError("busy"), True),
        (tenacity.retry_if_exception_message(match="b.sy"), ValueError("idle"), False),
        (
            tenacity.retry_if_exception_type(OSError)
            | tenacity.retry_if_exception_type(KeyError),
            KeyError(),
            True,
        ),
        (tenacity.retry_if_result(lambda result: True), ValueError(), False),
        (tenacity.retry_never, ValueError(), False),
        (tenacity.retry_always, KeyboardInterrupt(), True),
        (tenacity.retry_never, tenacity.TryAgain(), True),
    ],
)  # fmt: skip
def test_retry_decides_what_is_worth_it(retry, error, retried):
    """Its strategies see the exception; TryAgain needs none of them."""
    facts = failure(TASK, error)

    assert handle(facts, stop=after(9), retry=retry).retry is retried


@pytest.mark.parametrize(
    ("retry", "name"),
    [
        (None, "retry_if_exception_type"),
        (tenacity.retry_if_exception_type(OSError), "retry_if_exception_type"),
        (lambda retry_state: False, "<lambda>"),
    ],
)
def test_the_reason_of_a_decline_names_the_strategy(retry, name):
    """And the kind of error that it declined."""
    answer = handle(failure(TASK, KeyboardInterrupt()), stop=after(9), retry=retry)

    assert answer.reason == f"{name} declines KeyboardInterrupt"


def test_waits_draw_from_our_generator():
    """A seed repeats the run."""
    handler = TenacityRetryHandler(stop=after(9), wait=tenacity.wait_random(0, 9))
    first, again = (
        handler.decide(failure(TASK), FakeContext(random=Random(4))) for _ in range(2)
    )

    assert first == again
    assert first.reason.endswith("(wait_random)")


def test_permanent_ends_it_at_once():
    """No strategy is asked."""
    facts = failure(TASK, Permanent("never"))

    assert not handle(facts, stop=lambda retry_state: 1 / 0).retry


def test_a_task_with_a_policy_of_its_own_follows_that():
    """Its word is nearer than the orchestrator's; never again is a word, too."""
    own = Task("t", retry=RetryPolicy(5, wait="fixed", base=7, jitter=0))
    never = Task("t", retry=RetryPolicy(retry_on=()))

    assert handle(failure(own), stop=after(1)).delay == 7
    assert not handle(failure(never), stop=after(9)).retry


def test_it_ends_even_if_its_strategy_does_not():
    """Law 2: a million attempts are enough."""

    def never(retry_state):
        return False

    assert handle(failure(TASK, attempts=999_999), stop=never).retry
    assert not handle(failure(TASK, attempts=1_000_000), stop=never).retry


def test_a_decision_that_is_to_be_awaited_is_refused():
    """A coroutine would always be true."""

    async def later(retry_state):
        return False

    with pytest.raises(ValueError, match="later is to be awaited"):
        handle(stop=later)


def test_stop_never_is_refused_with_a_remedy():
    """To go on for ever is seldom meant."""
    with pytest.raises(InvalidTaskError, match="stop_after_attempt"):
        TenacityRetryHandler(stop=tenacity.stop_never)


@pytest.mark.parametrize(
    "strategies",
    [
        {"stop": None},
        {"stop": 5},
        {"stop": tenacity.stop_after_attempt},
        {"stop": len, "wait": 5},
        {"stop": len, "wait": tenacity.wait_none},
        {"stop": len, "retry": ValueError},
    ],
)
def test_what_is_no_strategy_is_refused(strategies):
    """Numbers, classes and nothing where something is needed."""
    with pytest.raises(InvalidTaskError, match=f"{list(strategies)[-1]}: a strategy"):
        TenacityRetryHandler(**strategies)
