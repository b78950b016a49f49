"""Limits that a program adds: each is asked before a start, and names the shortage.

An attempt holds units of a pool that belongs to the limit, so they are counted after a
restart, too. A task that must wait closes the limit. The limit opens again, and the
first waiting task is looked at, once units come back or the time that the limit gave is
over.

Decision: start-decisions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from inspect import iscoroutine
from typing import Any, Final, NamedTuple, NoReturn

from taskorch.core.kernel import _queue
from taskorch.core.kernel._deciders import PolicyFault
from taskorch.core.kernel._rows import (
    LIMIT,
    UNLIMITED,
    Bucket,
    Shortage,
    TaskRow,
    TimedLimit,
    WindowRow,
)
from taskorch.core.kernel._state import MANY, KernelState
from taskorch.kit import extension
from taskorch.kit.limits import MAX_AMOUNT, MAX_SECONDS, NS
from taskorch.kit.visible import is_text, show, visible
from taskorch.kit.words import in_words
from taskorch.model import Blocker, Remedy, Resources, Units

#: The shortest time in seconds after which a limit is asked again.
_SOON: Final = 0.001
#: The most characters of the reason that a limit gives.
_MOST_WORDS: Final = 10_000


class _Closed(NamedTuple):
    """Reason why a limit lets no task start, and the time until which it holds."""

    need: int
    detail: str
    until_ns: int
    have: int


class AddedLimit(TimedLimit):
    """
    A limit of a program.

    Args:
        kernel: The kernel whose starts it limits from now on.
        name: Its name.
        limit: The object of the program that the deciders ask.
    """

    def __init__(
        self, kernel: KernelState, name: str, limit: extension.StartRule
    ) -> None:
        self.name: str = name
        self._limit = limit
        self._ask = kernel.deciders.ask_program
        #: The method of the limit that is told of starts, or None.
        self._started: Callable[[float], object] | None = getattr(
            limit, "started", None
        )
        self.waits_for_room: bool = self._started is not None
        self._window = WindowRow(self, f"{LIMIT}{name}")
        #: The amount that a task takes, by bucket; None if the limit failed to answer.
        self._needs: dict[Bucket, int | None] = {}
        kernel.beside[self._window.name] = self._window
        _queue.add_limit(kernel, self)

    @property
    def is_timed(self) -> bool:
        return self._window.until_ns != 0 and self._window.is_awaited()

    def concerns(self, bucket: Bucket) -> bool:
        if len(self._needs) > MANY:
            needs = self._needs.items()
            self._needs = {b: need for b, need in needs if not b.forgotten}
        try:
            need = self._asked_for_need(bucket)
        except PolicyFault:
            # The limit is asked again when a task of this kind is to start, and its
            # fault told then.
            self._needs[bucket] = None
            return True
        if need:
            self._needs[bucket] = need
        return need > 0

    def must_wait(
        self, kernel: KernelState, bucket: Bucket, row: TaskRow, now: int
    ) -> bool:
        wait, window = self._wait(bucket, now), self._window
        if wait is None:
            return False
        window.total = 0
        if not window.until_ns or wait.until_ns < window.until_ns:
            window.until_ns = wait.until_ns
            _queue.arm(kernel, wait.until_ns, _queue.TOKEN, window)
        _queue.wait_at(kernel, bucket, row, window, wait.need)
        return True

    def shortages(
        self, kernel: KernelState, row: TaskRow, now: int
    ) -> Iterator[Shortage]:
        wait, window = self._wait(row.bucket, now), self._window
        if wait is not None:
            need, detail, until, have = wait
            if any(row.bucket in place.members for place in window.short.values()):
                until = window.until_ns or until
            yield Shortage("limit", detail, need, have, None, window, until)

    def starts(self, kernel: KernelState, row: TaskRow) -> None:
        need, started = self._needs.get(row.bucket), self._started
        if started is not None and need:
            part = f"started() of limit {self.name}"
            self._ask(part, lambda: _checked_nothing(started(need / 1e6)))

    def begins(self, kernel: KernelState, row: TaskRow) -> Units:
        need = self._needs.get(row.bucket)
        return ((self._window.name, need),) if need else ()

    def ends(self, kernel: KernelState, row: TaskRow, alloc: Units, cause: str) -> None:
        """Wake the waiting tasks, since the freed amount may be enough for them."""
        self._window.total = UNLIMITED

    def leaves(
        self, kernel: KernelState, bucket: Bucket, taken: Mapping[str, int]
    ) -> bool:
        """
        Return False if it would be open but for what is *taken*.

        Later answers are unknown: one that is closed anyway may open.
        """
        held = taken.get(self._window.name, 0)
        with suppress(PolicyFault):
            closes = held and self._wait(bucket, 0, held)
            return not closes or self._wait(bucket, 0, 0) is not None
        return True

    def wake(self, kernel: KernelState, window: WindowRow, now: int) -> None:
        window.until_ns = 0
        window.total = UNLIMITED
        _queue.wake_some(kernel, window.short)

    def words(self, short: Shortage, now: int, holders: tuple[str, ...]) -> Blocker:
        """Explain that the limit must allow the start, with the reason that it gave."""
        until = max(0.0, (short.until_ns - now) / NS)
        words = f"Limit {self.name} must allow it: it is asked again in "
        words += f"{in_words(until)}, and whenever some of it comes back."
        remedy = Remedy("wait", words, seconds=until)
        fields = self.name, short.need / 1e6, short.have / 1e6, holders
        return Blocker("limit", short.name, *fields, until=until, remedies=(remedy,))

    def waits(self, bucket: Bucket, many: int, now: int) -> tuple[tuple[int, str], ...]:
        """Return no wait: nothing tells what the limit will answer later."""
        return ()

    # -- asking the limit: every answer is checked, a wrong one is its fault ---------

    def _asked_for_need(self, bucket: Bucket) -> int:
        """
        Return the amount that a task of *bucket* takes.

        Raises:
            PolicyFault: The limit raised or gave an invalid answer.
        """
        spec = bucket.spec

        def ask() -> int:
            kind = extension.Kind(
                spec.type,
                spec.owner,
                spec.requires or (),
                dict(Resources.from_units(spec.resources)),
            )
            need = _number("its answer", self._limit.need(kind), 0, MAX_AMOUNT)
            return math.ceil(need * 1e6)

        return self._ask(f"need() of limit {self.name}", ask)

    def _wait(
        self, bucket: Bucket, now: int, held: int | None = None
    ) -> _Closed | None:
        """
        Return why a task of *bucket* must wait, or None if it may start.

        The limit is asked as if attempts held *held*; None: what they hold now.

        Raises:
            PolicyFault: The limit raised or gave an invalid answer.
        """
        need = self._needs.get(bucket, 0)
        if need is None:
            need = self._needs[bucket] = self._asked_for_need(bucket)
        if not need:
            return None

        def ask() -> _Closed | None:
            used = self._window.used if held is None else held
            short = self._limit.short(need / 1e6, used / 1e6)
            return _checked(short, need, now)

        return self._ask(f"short() of limit {self.name}", ask)


def _checked(short: Any, need: int, now: int) -> _Closed | None:
    """
    Return *short* with all its fields checked.

    Raises:
        TypeError: A field is invalid.
    """
    if short is None:
        return None
    if not issubclass(type(short), extension.Short):
        _refuse("its answer", "a Short or None", short)
    detail: Any = short.detail
    if not is_text(detail) or not detail.strip():
        _refuse("the detail of its Short", "a sentence", detail)
    seconds = _number("the seconds of its Short", short.seconds, 0, MAX_SECONDS)
    if not seconds:
        _refuse("the seconds of its Short", "more than 0", seconds)
    have = _number("what its Short has", short.have, -MAX_AMOUNT, MAX_AMOUNT)
    until = now + int(max(seconds, _SOON) * NS)
    return _Closed(need, visible(detail[:_MOST_WORDS]), until, int(have * 1e6))


def _checked_nothing(answer: object) -> None:
    """
    Refuse an answer to a call that is to return nothing.

    Raises:
        TypeError: The answer is a coroutine, which nobody would await.
    """
    if answer is not None:
        _refuse("its answer", "None", answer)


def _number(what: str, value: Any, least: float, most: float) -> float:
    """
    Return *value*, the answer of a limit for *what*, as a number.

    Raises:
        TypeError: It is no number, or not between *least* and *most*.
    """
    cls, number = type(value), math.nan
    if issubclass(cls, int | float) and cls is not bool:
        with suppress(OverflowError):
            number = float(value)
    if not least <= number <= most:
        _refuse(what, f"a number from {least:g} to {most:g}", value)
    return number


def _refuse(what: str, wanted: str, value: Any) -> NoReturn:
    """Raise the error that a limit returned *value* as its *what*, not *wanted*."""
    text = show(value)
    if iscoroutine(value):
        value.close()
        wanted += "; it is asked under the lock, so its methods are plain functions"
    msg = f"{what} is {text}, not {wanted}"
    raise TypeError(msg)
