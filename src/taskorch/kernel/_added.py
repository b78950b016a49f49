"""
Limits that a program adds: each is asked before a start, and says itself what is short.

What attempts have of one are units of a pool of its own, so they are counted in later
lives, too. Who has to wait closes it; it is open again, and the first of those who wait
is looked at, once something of it comes back, or its time has come.

Decision: 0275.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from inspect import iscoroutine
from typing import Any, Final, NamedTuple, NoReturn

from taskorch.kernel import _queue
from taskorch.kernel._deciders import PolicyFault
from taskorch.kernel._rows import (
    LIMIT,
    UNLIMITED,
    Bucket,
    Shortage,
    TaskRow,
    TimedLimit,
    WindowRow,
)
from taskorch.kernel._state import MANY, KernelState
from taskorch.kit import extension
from taskorch.kit.limits import MAX_AMOUNT, MAX_SECONDS, NS
from taskorch.kit.visible import is_text, show, visible
from taskorch.kit.words import in_words
from taskorch.model import Blocker, Remedy, Resources, Units

#: The least time after which a limit is asked again, in seconds.
_SOON: Final = 0.001
#: The most characters of its words.
_MOST_WORDS: Final = 10_000


class _Closed(NamedTuple):
    """Why a task waits, and until when."""

    need: int
    detail: str
    until_ns: int
    have: int


class AddedLimit(TimedLimit):
    """
    A limit of a program.

    Args:
        kernel: Whose starts it limits from now on.
        name: Its name.
        limit: What is asked, by the deciders of the kernel.
    """

    def __init__(
        self, kernel: KernelState, name: str, limit: extension.StartRule
    ) -> None:
        self._name = name
        self._limit = limit
        self._ask = kernel.deciders.ask_program
        #: Whom it tells of starts; None: nobody.
        self._started: Callable[[float], object] | None = getattr(
            limit, "started", None
        )
        self.waits_for_room: bool = self._started is not None
        self._window = WindowRow(self, f"{LIMIT}{name}")
        #: What a task takes, by its kind; None: it was to say so, and has failed.
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
            # It is asked again, and told of, when a task of the kind is to start.
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
            part = f"started() of limit {self._name}"
            self._ask(part, lambda: _checked_nothing(started(need / 1e6)))

    def begins(self, kernel: KernelState, row: TaskRow) -> Units:
        need = self._needs.get(row.bucket)
        return ((self._window.name, need),) if need else ()

    def ends(self, kernel: KernelState, row: TaskRow, alloc: Units, cause: str) -> None:
        """What comes back may be enough for who waits."""
        self._window.total = UNLIMITED

    def leaves(
        self, kernel: KernelState, bucket: Bucket, taken: Mapping[str, int]
    ) -> bool:
        """See `StartLimit`; what it will say then, nobody knows."""
        return True

    def wake(self, kernel: KernelState, window: WindowRow, now: int) -> None:
        window.until_ns = 0
        window.total = UNLIMITED
        _queue.wake_some(kernel, window.short)

    def words(self, short: Shortage, now: int, holders: tuple[str, ...]) -> Blocker:
        """Whoever added the limit says why."""
        until = max(0.0, (short.until_ns - now) / NS)
        words = f"Limit {self._name} must allow it: it is asked again in "
        words += f"{in_words(until)}, and whenever some of it comes back."
        remedy = Remedy("wait", words, seconds=until)
        fields = self._name, short.need / 1e6, short.have / 1e6, holders
        return Blocker("limit", short.name, *fields, until=until, remedies=(remedy,))

    def waits(self, bucket: Bucket, many: int, now: int) -> tuple[tuple[int, str], ...]:
        """See `TimedLimit`; what it says when it is asked again, nobody knows."""
        return ()

    # -- asking it: an answer is looked at whole, and what is wrong is its fault -----

    def _asked_for_need(self, bucket: Bucket) -> int:
        """
        How much a task of *bucket* takes.

        Raises:
            PolicyFault: It raised, or answered what it must not.
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

        return self._ask(f"need() of limit {self._name}", ask)

    def _wait(self, bucket: Bucket, now: int) -> _Closed | None:
        """
        What it says to a task of *bucket*; None: that may start.

        Raises:
            PolicyFault: It raised, or answered what it must not.
        """
        need = self._needs.get(bucket, 0)
        if need is None:
            need = self._needs[bucket] = self._asked_for_need(bucket)
        if not need:
            return None

        def ask() -> _Closed | None:
            short = self._limit.short(need / 1e6, self._window.used / 1e6)
            return _checked(short, need, now)

        return self._ask(f"short() of limit {self._name}", ask)


def _checked(short: Any, need: int, now: int) -> _Closed | None:
    """
    Return what *short* says, all of which is looked at.

    Raises:
        TypeError: Some of it is wrong.
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
    Look at what was answered where nothing is to be.

    Raises:
        TypeError: It is a coroutine, which nobody would wait for.
    """
    if answer is not None:
        _refuse("its answer", "None", answer)


def _number(what: str, value: Any, least: float, most: float) -> float:
    """
    Return *value*, which is *what* a limit has said, as a number.

    Raises:
        TypeError: It is none, or not between *least* and *most*.
    """
    cls, number = type(value), math.nan
    if issubclass(cls, int | float) and cls is not bool:
        with suppress(OverflowError):
            number = float(value)
    if not least <= number <= most:
        _refuse(what, f"a number from {least:g} to {most:g}", value)
    return number


def _refuse(what: str, wanted: str, value: Any) -> NoReturn:
    """Raise the error that *what* a limit has said is *value*, and not *wanted*."""
    text = show(value)
    if iscoroutine(value):
        value.close()
        wanted += "; it is asked under the lock, so its methods are plain functions"
    msg = f"{what} is {text}, not {wanted}"
    raise TypeError(msg)
