"""Whether a failed attempt is tried again: as long as the budget lasts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from taskorch._base._limits import MAX_SECONDS
from taskorch.errors import InvalidTaskError, TaskTimeoutError
from taskorch.model import Task, check_count
from taskorch.model._checks import check_word, is_number
from taskorch.model._show import show
from taskorch.policies._retry import BackoffRetryHandler, too_late
from taskorch.policies._retry_after import retry_after
from taskorch.policies._words import amount, seconds
from taskorch.protocols import Context, Failure, RetryDecision, RetryHandler

#: The digits of a number of tokens that a reason shows.
_DIGITS = 2


class QuotaRetryHandler:
    """
    The RetryHandler that lets another one decide, within a budget: no retry storms.

    Where much fails at once, each task's own retries multiply the load on what is
    failing, and keep it down. Here each key has a bucket of *tokens*, full at first.
    A retry that *inner* grants takes *cost* of them, or *timeout_cost* after a
    timeout, when it is granted; time brings them back. Where too few are left, there
    is no retry, or with `when_empty="wait"` one that waits until its tokens have come
    back: tokens are then taken in advance, and retries follow one another at the rate
    at which they come.

    An error may say when to come back: by an attribute `retry_after`, or by the header
    `Retry-After` of its `response` or of itself; in seconds, as a number or as text,
    or as an HTTP date, which is compared with `context.now`, counted from the epoch.
    That is the least delay. A delay that this class has made longer is refused where
    the attempt would begin later than `stop_after` of the task's `RetryPolicy`, and
    takes no tokens.

    The defaults let a hundred retries through at once, and ten a second from then on;
    a timeout costs double.

    The tokens are all that it remembers. A restart forgets them, and every bucket is
    full again: that costs one more burst, and no task. One handler is for one
    orchestrator.

    Source: the token buckets of the AWS SDKs (retry mode `standard`), of Finagle
    (`RetryBudget`) and of gRPC (proposal A6, retry throttling). Theirs are refilled by
    successes as well; a RetryHandler hears of none.

    Args:
        inner: Who decides whether and when; None is `BackoffRetryHandler()`.
        tokens: What a bucket holds.
        refill_per_second: Tokens that come back in a second; 0 is never.
        cost: Tokens that a retry takes.
        timeout_cost: Tokens that a retry takes after a timeout: an attempt that timed
            out has kept what is failing busy for longest. None is double *cost*, or a
            whole bucket if that is less.
        when_empty: `"refuse"` ends the task, `"wait"` delays it.
        key: Whose budget a task draws on, such as the host that it calls; None is one
            budget for each type.
        max_keys: How many buckets are kept; beyond that the one that was asked about
            longest ago is forgotten, and is full when it is next needed.

    Raises:
        InvalidTaskError: An argument is out of its range.
    """

    def __init__(
        self,
        inner: RetryHandler | None = None,
        *,
        tokens: float = 100.0,
        refill_per_second: float = 10.0,
        cost: float = 1.0,
        timeout_cost: float | None = None,
        when_empty: Literal["refuse", "wait"] = "refuse",
        key: Callable[[Task], str] | None = None,
        max_keys: int = 1_000,
    ) -> None:
        self.inner: RetryHandler = BackoffRetryHandler() if inner is None else inner
        #: See `AsksOthers`.
        self.asks: tuple[RetryHandler, ...] = (self.inner,)
        self.tokens: float = _number("tokens", tokens)
        self.refill_per_second: float = _number("refill_per_second", refill_per_second)
        self.cost: float = _number("cost", cost, tokens)
        if timeout_cost is None:
            timeout_cost = min(2 * self.cost, self.tokens)
        self.timeout_cost: float = _number("timeout_cost", timeout_cost, tokens)
        self.when_empty = when_empty
        self.key = key
        self.max_keys = max_keys
        self._check()
        #: By key: the tokens (less than none, if taken in advance), and since when.
        self._buckets: dict[str, tuple[float, float]] = {}

    def _check(self) -> None:
        if isinstance(self.inner, type) or not isinstance(self.inner, RetryHandler):
            msg = f"inner: an object with a method `decide`, not {show(self.inner)}"
            raise InvalidTaskError(msg)
        check_word("when_empty", self.when_empty, ("refuse", "wait"))
        if self.when_empty == "wait" and not self.refill_per_second:
            msg = "refill_per_second: with when_empty='wait' it must be more than 0"
            raise InvalidTaskError(msg)
        if self.key is not None and not callable(self.key):
            msg = f"key: a callable of a task is needed, not {show(self.key)}"
            raise InvalidTaskError(msg)
        check_count("max_keys", self.max_keys, least=1)

    def decide(self, failure: Failure, context: Context) -> RetryDecision:
        """What follows *failure*."""
        decision = self.inner.decide(failure, context)
        if not decision.retry:
            return decision
        delay, reasons = decision.delay, [decision.reason] if decision.reason else []
        asked = retry_after(failure.error, context.now)
        if asked is not None and asked > delay:
            delay = asked
            reasons.append(f"the error asks for {seconds(asked)}")
        task = failure.task
        key = task.type if self.key is None else self.key(task)
        timed_out = isinstance(failure.error, TaskTimeoutError | TimeoutError)
        cost = self.timeout_cost if timed_out else self.cost
        tokens_left = self._left(key, context.now)
        if tokens_left < cost:
            if self.when_empty == "refuse":
                self._store(key, tokens_left, context.now)
                return RetryDecision(
                    retry=False, reason=self._empty(key, tokens_left, cost)
                )
            wait = (cost - tokens_left) / self.refill_per_second
            delay = max(delay, wait)
            reasons.append(f"the tokens of {key!r} are back in {seconds(wait)}")
        if delay > decision.delay:
            refusal = too_late(failure, delay)
            if refusal is None and delay > MAX_SECONDS:
                refusal = "the next attempt would begin in more than a hundred years"
            if refusal is not None:
                return RetryDecision(retry=False, reason=refusal)
        self._store(key, tokens_left - cost, context.now)
        after = amount(round(max(0.0, tokens_left - cost), _DIGITS))
        reasons.append(f"{after} of {amount(self.tokens)} tokens left for {key!r}")
        return RetryDecision(retry=True, delay=delay, reason="; ".join(reasons))

    def _left(self, key: str, now: float) -> float:
        """The tokens in the bucket of *key* now."""
        bucket = self._buckets.get(key)
        if bucket is None:
            return self.tokens
        tokens, since = bucket
        back = max(0.0, now - since) * self.refill_per_second
        return min(self.tokens, tokens + back)

    def _store(self, key: str, tokens: float, now: float) -> None:
        # Put at the end, so that the first is the one asked about longest ago.
        self._buckets.pop(key, None)
        self._buckets[key] = tokens, now
        if len(self._buckets) > self.max_keys:
            del self._buckets[next(iter(self._buckets))]

    def _empty(self, key: str, tokens_left: float, cost: float) -> str:
        has = amount(round(max(0.0, tokens_left), _DIGITS))
        return (
            f"the retry budget of {key!r} is spent: {has} of {amount(self.tokens)} "
            f"tokens left, a retry takes {amount(cost)}, and "
            f"{amount(self.refill_per_second)} come back in a second"
        )

    def __repr__(self) -> str:
        return (
            f"QuotaRetryHandler({self.inner!r}, tokens={self.tokens!r}, "
            f"refill_per_second={self.refill_per_second!r}, cost={self.cost!r}, "
            f"timeout_cost={self.timeout_cost!r}, when_empty={self.when_empty!r}, "
            f"key={self.key!r}, max_keys={self.max_keys!r})"
        )


def _number(name: str, value: object, most: float | None = None) -> float:
    """*value*, an amount of tokens; with *most*, at most that and more than 0."""
    if not is_number(value, 0, math.inf) or value == math.inf:
        msg = f"{name}: a finite number, 0 or more, not {show(value)}"
        raise InvalidTaskError(msg)
    if most is not None and not 0 < value <= most:
        msg = f"{name}: more than 0 and at most the tokens of a bucket, not {value!r}"
        raise InvalidTaskError(msg)
    return value
