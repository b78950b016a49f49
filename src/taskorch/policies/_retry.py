"""Whether a failed attempt is tried again, and when."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from taskorch._base._backoff import Backoff
from taskorch._base._limits import MAX_ATTEMPTS, MAX_SECONDS
from taskorch.errors import InvalidTaskError, Permanent, leaves
from taskorch.model import NO_RETRY, RetryPolicy
from taskorch.model._checks import is_number
from taskorch.policies._tenacity import (
    is_explicit_retry,
    is_stop_never,
    says,
    state_of,
    strategy_name,
    wait_seconds,
)
from taskorch.policies._words import seconds, share
from taskorch.protocols import Context, Failure, RetryDecision

_PERMANENT: Final = RetryDecision(
    retry=False, reason="the task says that a retry is of no use"
)


class BackoffRetryHandler:
    """
    The RetryHandler that follows the task's own `RetryPolicy`.

    There is no further attempt after `Permanent`, or a group with one, after
    `max_attempts`, after an error that `retry_on` does not cover, or if it would begin
    more than `stop_after` seconds after the first one did. A predicate in `retry_on`
    may raise: that passes through, and the task fails by it.

    The delay before attempt n + 1 has the ceiling `base` (fixed), `base * n` (linear)
    or `base * 2 ** (n - 1)` (exponential), and never more than `max_delay`. With a
    fraction as `jitter` it is drawn from ceiling ± fraction, of which what lies above
    `max_delay` is cut off before drawing, so that tasks do not pile up at the limit.
    With `"full"` it is drawn from 0 to the ceiling; source: M. Brooker, *Exponential
    Backoff and Jitter*, AWS Architecture Blog, 2015.

    With `delays` it is the next of these, as it is. A result for which
    `retry_if_result` holds is a failure, and worth a retry whatever `retry_on` says.

    A wait strategy of tenacity's brings its own base and jitter: of the policy's only
    `max_delay` applies. Those that draw do so from the orchestrator's generator, so
    that a seed repeats the run; a strategy of your own is called as it is. What
    answers no finite number, 0 or more, raises a ValueError that names it.

    An error with an attribute `retry_after`, a finite number of seconds, 0 or more,
    sets the least delay: it may exceed `max_delay`, since whoever said it knows more,
    but not a hundred years. Any other value of it is ignored.
    """

    def decide(self, failure: Failure, context: Context) -> RetryDecision:
        """What follows *failure*."""
        policy, attempts = failure.task.retry, failure.attempts
        if is_permanent(failure.error):
            return _PERMANENT
        most = f"{policy.max_attempts:,}"
        if attempts >= policy.max_attempts:
            return _no(f"attempt {attempts:,} of {most} was the last")
        if not policy.covers(failure.error):
            return _no(f"{type(failure.error).__name__} is not among retry_on")
        delay, how = _at_least(failure.error, *_delay(policy, failure, context))
        late = too_late(failure, delay)
        if late is not None:
            return _no(late)
        return RetryDecision(
            retry=True,
            delay=delay,
            reason=f"attempt {attempts + 1:,} of {most} in {seconds(delay)} ({how})",
        )

    def __repr__(self) -> str:
        return "BackoffRetryHandler()"


class TenacityRetryHandler:
    """
    The RetryHandler that asks tenacity's strategies, for all tasks of an orchestrator.

    It asks as tenacity does: *retry* whether the error is worth it, *wait* how long,
    *stop* whether that is enough; `TryAgain` needs no leave of *retry*. What it adds:
    `Permanent` ends the task at once, `retry_after` of an error is the least delay,
    strategies that draw do so from the orchestrator's generator, and no task has more
    than a million attempts. Whatever a strategy raises passes through, and the task
    fails by it.

    A task with a `RetryPolicy` of its own, any but `RetryPolicy()`, follows that:
    `RetryPolicy(retry_on=())` is never tried again.

    The strategies see a `tenacity.RetryCallState` with the number of the attempt, its
    exception, the seconds since the first attempt began and the call. They see
    failures only, so strategies about results never ask for a retry, and strategies
    of `tenacity.asyncio` are not for here: nothing is awaited.

    Args:
        stop: When to give up, such as `stop_after_attempt(3)`; any callable of a
            `RetryCallState`.
        wait: How long to wait; None is not at all, as in tenacity.
        retry: Which errors are worth it; None is every `Exception`, as in tenacity.

    Raises:
        InvalidTaskError: An argument cannot be called, or *stop* is `stop_never`.
    """

    def __init__(
        self,
        *,
        stop: Callable[[Any], bool],
        wait: Callable[[Any], float] | None = None,
        retry: Callable[[Any], bool] | None = None,
    ) -> None:
        _check_strategy("stop", stop)
        _check_strategy("wait", wait, optional=True)
        _check_strategy("retry", retry, optional=True)
        if is_stop_never(stop):
            msg = (
                "stop: stop_never would go on for ever; use stop_after_attempt(n) or "
                "stop_after_delay(seconds)"
            )
            raise InvalidTaskError(msg)
        self.stop = stop
        self.wait = wait
        self.retry = retry
        self._retry_name = (
            "retry_if_exception_type" if retry is None else strategy_name(retry)
        )
        self._own = BackoffRetryHandler()

    def decide(self, failure: Failure, context: Context) -> RetryDecision:
        """What follows *failure*."""
        if failure.task.retry != NO_RETRY:
            return self._own.decide(failure, context)
        error, attempts = failure.error, failure.attempts
        if is_permanent(error):
            return _PERMANENT
        if attempts >= MAX_ATTEMPTS:
            return _no(f"{attempts:,} attempts are enough for anything")
        state = state_of(failure)
        if not (is_explicit_retry(error) or self._is_worth(error, state)):
            return _no(f"{self._retry_name} declines {type(error).__name__}")
        delay, how = 0.0, "no wait"
        if self.wait is not None:
            delay = wait_seconds(self.wait, state, context.random)
            how = strategy_name(self.wait)
        delay, how = _at_least(error, delay, how)
        state.upcoming_sleep = delay
        if says(self.stop, state):
            return _no(
                f"{strategy_name(self.stop)} ends it after attempt {attempts:,}, "
                f"{seconds(failure.elapsed)} after the first began"
            )
        return RetryDecision(
            retry=True,
            delay=delay,
            reason=f"attempt {attempts + 1:,} in {seconds(delay)} ({how})",
        )

    def _is_worth(self, error: BaseException, state: Any) -> bool:
        if self.retry is None:
            return isinstance(error, Exception)
        return says(self.retry, state)

    def __repr__(self) -> str:
        return (
            f"TenacityRetryHandler(stop={self.stop!r}, wait={self.wait!r}, "
            f"retry={self.retry!r})"
        )


def _check_strategy(name: str, value: object, *, optional: bool = False) -> None:
    # A class can be called as well, but it makes a strategy and is none.
    if not (value is None and optional) and (
        isinstance(value, type) or not callable(value)
    ):
        msg = f"{name}: a strategy of tenacity's is needed, not {value!r}"
        raise InvalidTaskError(msg)


def is_permanent(error: BaseException) -> bool:
    """Whether *error* is `Permanent`, or a group that holds one."""
    return any(isinstance(leaf, Permanent) for leaf in leaves(error))


def _no(reason: str) -> RetryDecision:
    return RetryDecision(retry=False, reason=reason)


def too_late(failure: Failure, delay: float) -> str | None:
    """Why there is no attempt after *delay*, if it would begin too late."""
    limit, begins = failure.task.retry.stop_after, failure.elapsed + delay
    if limit is None or begins <= limit:
        return None
    return (
        f"the next attempt would begin {seconds(begins)} after the first, and "
        f"stop_after is {seconds(limit)}"
    )


def _at_least(error: BaseException, delay: float, how: str) -> tuple[float, str]:
    """*delay*, or what *error* asks for if that is longer, and where it is from."""
    asked: object = getattr(error, "retry_after", None)
    # Not `isfinite`, which cannot take every int.
    if not is_number(asked, delay, math.inf) or asked in (delay, math.inf):
        return delay, how
    return float(min(asked, MAX_SECONDS)), "retry_after of the error"


def _delay(
    policy: RetryPolicy, failure: Failure, context: Context
) -> tuple[float, str]:
    """The delay that *policy* asks for, and how it came about."""
    if policy.delays is not None:
        # A handler of the user's that asks this one may allow more attempts than there
        # are delays: the last delay goes on.
        number = min(failure.attempts, len(policy.delays))
        return policy.delays[number - 1], f"delay {number:,} of {len(policy.delays):,}"
    most, wait, jitter = policy.max_delay, policy.wait, policy.jitter
    if callable(wait):
        delay = wait_seconds(wait, state_of(failure), context.random)
        how = strategy_name(wait)
        return (delay, how) if delay <= most else (most, f"{how}, cut to max_delay")
    grown = Backoff(
        policy.base * failure.attempts if wait == "linear" else policy.base,
        most,
        factor=2.0 if wait == "exponential" else 1.0,
        jitter=0.0 if jitter == "full" else jitter,
    )
    pauses, random = failure.attempts - 1, context.random
    if jitter == "full":
        return random.uniform(0.0, grown.after(pauses)), f"{wait}, full jitter"
    drawn = grown.after(pauses, random)
    return drawn, f"{wait}, ±{share(jitter)}" if jitter else wait
