"""Retry handlers: whether and when a failed attempt is tried again."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal

from taskorch.errors import InvalidTaskError, Permanent, TaskTimeoutError, leaves
from taskorch.kit.backoff import Backoff
from taskorch.kit.checks import check_count, check_word, is_number
from taskorch.kit.limits import MAX_ATTEMPTS, MAX_SECONDS
from taskorch.kit.visible import is_text, show
from taskorch.kit.words import amount, seconds, share
from taskorch.model import NO_RETRY, Call, RetryPolicy, Task
from taskorch.protocols import Context, Failure, RetryDecision, RetryHandler

if TYPE_CHECKING:
    from tenacity import RetryCallState


_HEADER = "Retry-After"


def retry_after(error: BaseException, now: float) -> float | None:
    """
    Return the seconds after which *error* asks to be tried again, or None.

    It is looked for in `error.retry_after`, then in the header `Retry-After` of
    `error.response` (as requests and httpx raise it) and of the error itself (as urllib
    does). It is a number of seconds, the same as text, or a date as in HTTP; source:
    RFC 9110, section 10.2.3. Any other value is ignored. A date that has passed (*now*
    is in seconds since the epoch) is 0, and nothing is longer than a hundred years.
    """
    for value in _hints(error):
        asked = _seconds(value, now)
        if asked is not None:
            return min(asked, MAX_SECONDS)
    return None


def _hints(error: BaseException) -> Iterator[object]:
    yield _attribute(error, "retry_after")
    for holder in (_attribute(error, "response"), error):
        yield _header(_attribute(holder, "headers"))


def _attribute(holder: object, name: str) -> object:
    # The attribute may be a property that raises.
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001 - a hint is not worth a failure
        return None


def _header(headers: object) -> object:
    get = _attribute(headers, "get")
    try:
        return get(_HEADER) if callable(get) else None
    except Exception:  # noqa: BLE001 - as above
        return None


def _seconds(value: object, now: float) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        # The function `isfinite` cannot take every int.
        return float(min(value, MAX_SECONDS)) if 0 <= value < math.inf else None
    if not is_text(value):
        return None
    try:
        return _seconds(float(value), now)
    except ValueError:
        return _until(value, now)


def _until(date: str, now: float) -> float | None:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - it loads sockets

    try:
        moment = parsedate_to_datetime(date)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def state_of(failure: Failure) -> RetryCallState:
    """
    Return *failure* as the state that tenacity's strategies read.

    Its clock is at 0 at the beginning of the first attempt. `idle_for` is the latest
    delay only, since the sum is not kept; `args` and `kwargs` are those of a `Call`.
    """
    import tenacity  # noqa: PLC0415 - 20 ms, for those only who use it

    payload = failure.task.payload
    call = payload if isinstance(payload, Call) else None
    state = tenacity.RetryCallState(
        tenacity.Retrying(),
        fn=None if call is None else call.fn,
        args=() if call is None else call.args,
        kwargs={} if call is None else dict(call.kwargs),
    )
    state.attempt_number = failure.attempts
    state.outcome = tenacity.Future.construct(
        failure.attempts, failure.error, has_exception=True
    )
    state.start_time = 0.0
    state.outcome_timestamp = failure.elapsed
    state.idle_for = failure.last_delay
    state.upcoming_sleep = 0.0
    return state


def wait_seconds(
    strategy: Callable[[Any], float], state: RetryCallState, random: Random
) -> float:
    """
    Return how long *strategy* waits after *state*, in seconds.

    Raises:
        ValueError: The answer is no number of seconds, 0 or more.
    """
    answer: object = _ask(strategy, state, random)
    if not is_number(answer, 0, math.inf) or answer == math.inf:
        msg = (
            f"wait strategy {strategy_name(strategy)} answered {answer!r}: a wait is a "
            "finite number of seconds, 0 or more"
        )
        raise ValueError(msg)
    # tenacity's own "no limit" is longer than any time of ours.
    return float(min(answer, MAX_SECONDS))


def says(strategy: Callable[[Any], bool], state: RetryCallState) -> bool:
    """
    Return whether *strategy*, about stopping or retrying, says yes to *state*.

    Raises:
        ValueError: The answer is a coroutine.
    """
    return bool(_call(strategy, state))


def is_explicit_retry(error: BaseException) -> bool:
    """Return whether *error* is tenacity's own demand for another attempt."""
    import tenacity  # noqa: PLC0415 - 20 ms, for those only who use it

    return isinstance(error, tenacity.TryAgain)


def is_stop_never(strategy: object) -> bool:
    """Return whether *strategy* is tenacity's `stop_never`."""
    import tenacity  # noqa: PLC0415 - 20 ms, for those only who use it

    return strategy is tenacity.stop_never


def strategy_name(strategy: object) -> str:
    """Return the name of *strategy* for a reason: its class or function."""
    name = getattr(strategy, "__name__", None)
    return name if isinstance(name, str) else type(strategy).__name__


# ------------------------------------------ random strategies, over our generator
#
# tenacity draws from the global generator, which our seed does not reach. So random
# strategies, and those that ask others, are written anew here; all others depend on the
# state alone, and are called as they are.

_Expression = Callable[[Any, "RetryCallState", Random], float]


@functools.cache
def _expressions() -> dict[object, _Expression]:
    import tenacity  # noqa: PLC0415 - 20 ms, for those only who use it

    # Strategies are told apart by method, not by class: a subclass with other numbers
    # is known too, and one with a rule of its own is not.
    return {
        tenacity.wait_chain.__call__: _chain,
        tenacity.wait_combine.__call__: _combine,
        tenacity.wait_exponential_jitter.__call__: _exponential_jitter,
        tenacity.wait_random.__call__: _random,
        tenacity.wait_random_exponential.__call__: _random_exponential,
    }


def _ask(strategy: Any, state: RetryCallState, random: Random) -> Any:
    express = _expressions().get(type(strategy).__call__)
    if express is None:
        return _call(strategy, state)
    return express(strategy, state, random)


def _call(strategy: Callable[[Any], Any], state: RetryCallState) -> Any:
    answer = strategy(state)
    if isinstance(answer, Coroutine):
        answer.close()
        msg = (
            f"strategy {strategy_name(strategy)} is to be awaited: that cannot be done "
            "here"
        )
        raise ValueError(msg)  # noqa: TRY004 - it is of the right type, and no use
    return answer


def _chain(strategy: Any, state: RetryCallState, random: Random) -> Any:
    # After the last strategy of the chain, that one goes on.
    place = min(max(state.attempt_number, 1), len(strategy.strategies))
    return _ask(strategy.strategies[place - 1], state, random)


def _combine(strategy: Any, state: RetryCallState, random: Random) -> Any:
    return sum(_ask(part, state, random) for part in strategy.wait_funcs)


def _random(strategy: Any, _state: RetryCallState, random: Random) -> float:
    low, high = strategy.wait_random_min, strategy.wait_random_max
    return random.uniform(low, high)


def _random_exponential(strategy: Any, state: RetryCallState, random: Random) -> float:
    from tenacity import wait_exponential  # noqa: PLC0415 - as above

    return random.uniform(strategy.min, wait_exponential.__call__(strategy, state))


def _exponential_jitter(strategy: Any, state: RetryCallState, random: Random) -> float:
    # Until 9.2 the factor is called `initial`, and there is no least wait.
    factor = getattr(strategy, "multiplier", getattr(strategy, "initial", 0))
    least = max(0, getattr(strategy, "min", 0))
    drawn = random.uniform(0, strategy.jitter)
    try:
        wait = factor * strategy.exp_base ** (state.attempt_number - 1) + drawn
    except OverflowError:
        wait = strategy.max
    return float(max(least, min(wait, strategy.max)))


_PERMANENT: Final = RetryDecision(
    retry=False, reason="the task says that a retry is of no use"
)


class BackoffRetryHandler:
    """
    RetryHandler that follows the task's own `RetryPolicy`.

    There is no further attempt after `Permanent`, or a group with one, after
    `max_attempts`, after an error that `retry_on` does not cover, or if it would begin
    more than `stop_after` seconds after the first one. If a predicate in `retry_on`
    raises, the task fails with that error.

    The delay before attempt n + 1 has the ceiling `base` (fixed), `base * n` (linear)
    or `base * 2 ** (n - 1)` (exponential), and never more than `max_delay`. With a
    fraction as `jitter` it is drawn from ceiling ± fraction, but only up to
    `max_delay`, so that tasks do not pile up at the limit. With `"full"` it is drawn
    from 0 to the ceiling; source: M. Brooker, *Exponential Backoff and Jitter*, AWS
    Architecture Blog, 2015.

    With `delays` it is the next of these, unchanged. A result for which
    `retry_if_result` holds is a failure, and worth a retry regardless of `retry_on`.

    A wait strategy of tenacity's brings its own base and jitter: of the policy only
    `max_delay` applies. tenacity's random strategies draw from the orchestrator's
    generator, so that a seed repeats the run; your own strategy is called as it is. An
    answer that is no finite number, 0 or more, raises a ValueError that names the
    strategy.

    An error with an attribute `retry_after`, a finite number of seconds, 0 or more,
    sets the least delay: it may exceed `max_delay`, since the server knows more, but
    not a hundred years. Any other value of it is ignored.
    """

    def decide(self, failure: Failure, context: Context) -> RetryDecision:
        """Decide whether and when to try again after *failure*."""
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
    RetryHandler that asks tenacity's strategies, for all tasks of an orchestrator.

    It asks as tenacity does: *retry* decides on the error, *wait* on the delay, *stop*
    on the end; `TryAgain` does not need the consent of *retry*. In addition,
    `Permanent` ends the task at once, `retry_after` of an error is the least delay,
    random strategies draw from the orchestrator's generator, and no task has more than
    a million attempts. If a strategy raises, the task fails with that error.

    A task with a `RetryPolicy` of its own, any but `RetryPolicy()`, follows that:
    `RetryPolicy(retry_on=())` is never tried again.

    The strategies see a `tenacity.RetryCallState` with the number of the attempt, its
    exception, the seconds since the first attempt began and the call. They see
    failures only, so strategies about results never ask for a retry, and strategies of
    `tenacity.asyncio` do not work: nothing is awaited.

    Args:
        stop: The end of retries, such as `stop_after_attempt(3)`; any callable of a
            `RetryCallState`.
        wait: The delay; None is no delay, as in tenacity.
        retry: The errors worth a retry; None is every `Exception`, as in tenacity.

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
        """Decide whether and when to try again after *failure*."""
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
    # A class is callable, too, but it makes a strategy and is none.
    if not (value is None and optional) and (
        isinstance(value, type) or not callable(value)
    ):
        msg = f"{name}: a strategy of tenacity's is needed, not {value!r}"
        raise InvalidTaskError(msg)


def is_permanent(error: BaseException) -> bool:
    """Return whether *error* is `Permanent`, or a group with one."""
    return any(isinstance(leaf, Permanent) for leaf in leaves(error))


def _no(reason: str) -> RetryDecision:
    return RetryDecision(retry=False, reason=reason)


def too_late(failure: Failure, delay: float) -> str | None:
    """Return why an attempt after *delay* would begin too late, or None."""
    limit, begins = failure.task.retry.stop_after, failure.elapsed + delay
    if limit is None or begins <= limit:
        return None
    return (
        f"the next attempt would begin {seconds(begins)} after the first, and "
        f"stop_after is {seconds(limit)}"
    )


def _at_least(error: BaseException, delay: float, how: str) -> tuple[float, str]:
    """Return *delay*, or the longer one that *error* asks for, and its reason."""
    asked: object = getattr(error, "retry_after", None)
    # The function `isfinite` cannot take every int.
    if not is_number(asked, delay, math.inf) or asked in (delay, math.inf):
        return delay, how
    return float(min(asked, MAX_SECONDS)), "retry_after of the error"


def _delay(
    policy: RetryPolicy, failure: Failure, context: Context
) -> tuple[float, str]:
    """Return the delay that *policy* asks for, with a reason."""
    if policy.delays is not None:
        # A user's handler that asks this one may allow more attempts than there are
        # delays: then the last delay goes on.
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


#: The digits of a number of tokens in a reason.
_DIGITS = 2


class QuotaRetryHandler:
    """
    RetryHandler that lets another one decide, within a budget: no retry storms.

    When many tasks fail at once, their retries multiply the load on the failing system,
    and keep it down. Here each key has a bucket of *tokens*, full at first. A retry
    that *inner* grants takes *cost* of them, or *timeout_cost* after a timeout, when it
    is granted; time brings them back. If too few are left, there is no retry, or with
    `when_empty="wait"` one that waits until its tokens have come back: tokens are then
    taken in advance, and retries follow one another at the rate at which they come.

    An error may say when to come back: by an attribute `retry_after`, or by the header
    `Retry-After` of its `response` or of itself; in seconds, as a number or as text,
    or as an HTTP date, which is compared with `context.now`, counted from the epoch.
    That is the least delay. A delay that this class has made longer is refused if the
    attempt would begin later than `stop_after` of the task's `RetryPolicy`, and takes
    no tokens.

    The defaults let a hundred retries through at once, and ten a second from then on;
    a timeout costs double.

    The tokens are its only state. After a restart every bucket is full again: that
    allows one more burst, and loses no task. One handler is for one orchestrator.

    Source: the token buckets of the AWS SDKs (retry mode `standard`), of Finagle
    (`RetryBudget`) and of gRPC (proposal A6, retry throttling). Theirs are refilled by
    successes as well; a RetryHandler hears of none.

    Args:
        inner: The handler that decides; None is `BackoffRetryHandler()`.
        tokens: The size of a bucket.
        refill_per_second: Tokens that come back in a second; 0 is never.
        cost: Tokens that a retry takes.
        timeout_cost: Tokens that a retry takes after a timeout: an attempt that timed
            out has loaded the failing system for longest. None is double *cost*, or a
            whole bucket if that is less.
        when_empty: `"refuse"` ends the task, `"wait"` delays it.
        key: A function of the task that returns the key of its budget, such as the host
            that it calls; None is one budget for each type.
        max_keys: The most buckets that are kept; beyond that the least recently used
            one is dropped, and is full when it is next needed.

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
        #: The buckets by key: the tokens (negative if taken in advance), and the time
        #: for which they hold.
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
        """Decide whether and when to try again after *failure*."""
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
        """Return the tokens in the bucket of *key* now."""
        bucket = self._buckets.get(key)
        if bucket is None:
            return self.tokens
        tokens, since = bucket
        back = max(0.0, now - since) * self.refill_per_second
        return min(self.tokens, tokens + back)

    def _store(self, key: str, tokens: float, now: float) -> None:
        # The bucket is put at the end, so that the first is the least recently used.
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
    """Return *value* as an amount of tokens; *most* is a bound, and excludes 0."""
    if not is_number(value, 0, math.inf) or value == math.inf:
        msg = f"{name}: a finite number, 0 or more, not {show(value)}"
        raise InvalidTaskError(msg)
    if most is not None and not 0 < value <= most:
        msg = f"{name}: more than 0 and at most the tokens of a bucket, not {value!r}"
        raise InvalidTaskError(msg)
    return value
