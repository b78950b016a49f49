"""Retry policies of tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Literal, cast

import attrs

from taskorch.errors import InvalidTaskError, UnwantedResultError, leaves
from taskorch.kit.checks import check_seconds, is_number, to_limit, to_seconds
from taskorch.kit.frozen import shown
from taskorch.kit.limits import MAX_ATTEMPTS
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import meant, suggesting

RetryOn = type[BaseException] | tuple[type[BaseException], ...] | Callable[..., bool]
#: A named strategy, or a wait strategy of tenacity (any callable of one state).
Wait = Literal["exponential", "linear", "fixed"] | Callable[[Any], float]


def _duration(value: float | timedelta) -> float:
    seconds: float = to_seconds(value)
    return seconds


def _durations(
    values: Iterable[float | timedelta] | None,
) -> tuple[float, ...] | None:
    unchecked: object = values
    if isinstance(unchecked, str | bytes) or not isinstance(unchecked, Iterable):
        # A value that is no list is refused by the check of `delays`, with its name.
        return cast("None", values)
    return tuple([to_seconds(value) for value in unchecked])


@suggesting
@attrs.frozen
class RetryPolicy:
    """
    How often an attempt may fail, and how long to wait between attempts.

    Attributes:
        max_attempts: Attempts in all, the first try included.
        wait: The growth of the delay: `"exponential"` (base, 2 base, 4 base, …),
            `"linear"` (base, 2 base, 3 base, …), `"fixed"`, or a wait strategy of
            tenacity's.
        base: Seconds before the second attempt.
        max_delay: The longest delay in seconds, jitter included.
        jitter: A fraction: 0.5 spreads the delay by ±50 %; `"full"` draws it between 0
            and its ceiling, so that tasks which failed together do not return together.
        retry_on: The failures that are worth a retry: classes, or a predicate over the
            exception. A group of exceptions is worth one if all its members are.
        stop_after: Seconds after the beginning of the first attempt after which no
            retry begins.
        delays: Exact seconds before the second attempt, before the third, and so on.
            They replace `wait`, `base`, `max_delay` and `jitter`; `max_attempts` is one
            more than their number, or a given lower one.
        retry_if_result: The results that are failures worth a retry: a predicate over
            the result, called where the attempt ran. The last such result is in the
            error, `UnwantedResultError`.

    Raises:
        InvalidTaskError: A value is out of its range.
    """

    max_attempts: int = 1
    wait: Wait = attrs.field(default="exponential", kw_only=True)
    base: float = attrs.field(default=1.0, kw_only=True, converter=_duration)
    max_delay: float = attrs.field(default=60.0, kw_only=True, converter=_duration)
    jitter: float | Literal["full"] = attrs.field(default=0.5, kw_only=True)
    retry_on: RetryOn = attrs.field(default=Exception, kw_only=True)
    stop_after: float | None = attrs.field(
        default=None, kw_only=True, converter=to_limit
    )
    delays: tuple[float, ...] | None = attrs.field(
        default=None, kw_only=True, converter=_durations
    )
    retry_if_result: Callable[[Any], object] | None = attrs.field(
        default=None, kw_only=True
    )

    __repr__ = shown

    def __attrs_post_init__(self) -> None:
        if self.delays is not None:
            self._check_delays(self.delays)
        if self.retry_if_result is not None and not callable(self.retry_if_result):
            msg = f"retry_if_result: {show(self.retry_if_result)} is no predicate"
            raise InvalidTaskError(
                msg, hint="retry_if_result=lambda result: not result"
            )
        n: object = self.max_attempts
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_ATTEMPTS:
            span = f"from 1 to {MAX_ATTEMPTS:,}"
            msg = f"max_attempts counts the first try: {span}, not {show(n)}"
            raise InvalidTaskError(msg)
        wait: object = self.wait
        words = ("exponential", "linear", "fixed")
        if not callable(wait) and wait not in words:
            msg = (
                f"wait: {show(wait)} is none of 'exponential', 'linear', 'fixed' or a "
                "wait strategy of tenacity's"
            )
            raise InvalidTaskError(msg, hint=meant(wait, words) or None)
        check_seconds("base", self.base)
        check_seconds("max_delay", self.max_delay)
        jitter: object = self.jitter
        if jitter != "full" and not is_number(jitter, 0, 1):
            msg = f"jitter: {show(self.jitter)} is neither a fraction nor 'full'"
            raise InvalidTaskError(msg)
        if self.stop_after is not None:
            check_seconds("stop_after", self.stop_after)
        self._check_retry_on()

    def _check_delays(self, delays: tuple[float, ...]) -> None:
        unchecked: object = delays
        if not isinstance(unchecked, tuple):
            msg = f"delays: a list of durations is needed, not {show(delays)}"
            raise InvalidTaskError(msg, hint="delays=[2, 5, 15]")
        if not delays:
            msg = "delays: there are none; without a delay, use wait='fixed', base=0"
            raise InvalidTaskError(msg)
        for number, delay in enumerate(delays):
            check_seconds(f"delays[{number}]", delay)
        for name in ("wait", "base", "max_delay", "jitter"):
            value, usual = getattr(self, name), getattr(_FIELDS, name).default
            if value != usual:
                msg = (
                    f"delays say all of the delays: {name}={show(value)} has no meaning"
                )
                raise InvalidTaskError(msg, hint=f"give delays= or {name}=")
        most: object = self.max_attempts
        if most == 1 and not isinstance(most, bool):
            object.__setattr__(self, "max_attempts", len(delays) + 1)
        elif isinstance(most, int) and most > len(delays) + 1:
            msg = (
                f"max_attempts is {most:,}, and {len(delays):,} delays are for "
                f"{len(delays) + 1:,} attempts"
            )
            raise InvalidTaskError(msg, hint="give more delays, or no max_attempts")

    def _check_retry_on(self) -> None:
        retry_on: object = self.retry_on
        if isinstance(retry_on, type):
            classes: tuple[object, ...] = (retry_on,)
        elif isinstance(retry_on, tuple):
            classes = cast("tuple[object, ...]", retry_on)
        elif callable(retry_on):
            return
        else:
            shown = show(self.retry_on)
            msg = f"retry_on: {shown} is no exception class and no predicate"
            raise InvalidTaskError(msg)
        for cls in classes:
            if not (isinstance(cls, type) and issubclass(cls, BaseException)):
                msg = f"retry_on: {show(cls)} is no exception class"
                raise InvalidTaskError(msg)

    def covers(self, error: BaseException) -> bool:
        """
        Return whether *error* is worth a retry.

        A group of exceptions is, if its own class is, or if all its members are,
        however deep. A predicate gets the group.
        """
        if isinstance(error, UnwantedResultError):
            return True
        retry_on = self.retry_on
        if isinstance(retry_on, type | tuple):
            classes = cast("type[BaseException] | tuple[type[BaseException]]", retry_on)
            return isinstance(error, classes) or (
                isinstance(error, BaseExceptionGroup)
                and all(isinstance(leaf, classes) for leaf in leaves(error))
            )
        return bool(retry_on(error))


_FIELDS: Any = attrs.fields(RetryPolicy)
