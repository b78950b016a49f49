"""`context.sleep`: a step that waits until a time, which is kept as it begins."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

from taskorch.core.engine import ask_at_home
from taskorch.errors import InvalidTaskError
from taskorch.ext.steps._book import Book, Strand, book_of, needs_reading
from taskorch.ext.steps._calls import refuse_inside
from taskorch.ext.steps._step import SLEEP, Asked, Ran, check_name
from taskorch.kit.checks import check_seconds
from taskorch.kit.clock import wall
from taskorch.kit.limits import NS
from taskorch.kit.visible import show
from taskorch.kit.words import in_words

#: The seconds between two checks whether an attempt in a worker process must stop.


class Sleeper:
    """`context.sleep`: waits, and does not begin anew when the task runs again."""

    def __init__(self, context: Any) -> None:
        self._context: Any = context

    def __call__(
        self,
        seconds: float | timedelta = 0,
        *,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
        until: datetime | None = None,
        name: str = "sleep",
    ) -> None:
        """
        Wait for a time, or until a moment; a later attempt waits for the rest of it.

        Meanwhile the attempt has given its slot back. It keeps its resources, and its
        timeout goes on.

        Args:
            seconds: How long, in seconds.
            minutes: Minutes more.
            hours: Hours more.
            days: Days more, of 24 hours.
            until: In place of these: a moment, with its zone.
            name: The name of the step.

        Raises:
            InvalidTaskError: No time can be told from that.
            StepError: The request is invalid, or differs from the kept step.
            AttemptInterrupted: The attempt is to stop. Let it pass.
        """
        refuse_inside(name)
        length = _length_of((seconds, minutes, hours, days), until)
        self._sleep(length, name)

    def _sleep(self, *asked: Any) -> None:
        sleep_at_home(self._context, (*asked, threading.get_ident()))


class AsyncSleeper:
    """`context.aio.sleep`: as `Sleeper`, awaited."""

    def __init__(self, context: Any) -> None:
        self._context: Any = context

    async def __call__(
        self,
        seconds: float | timedelta = 0,
        *,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
        until: datetime | None = None,
        name: str = "sleep",
    ) -> None:
        """See `Sleeper.__call__`."""
        refuse_inside(name)
        length = _length_of((seconds, minutes, hours, days), until)
        if needs_reading(self._context):
            await asyncio.to_thread(book_of, self._context)
        book = book_of(self._context)
        strand = threading.get_ident(), id(asyncio.current_task())
        until_ns, seq, key = _begin(book, strand, length, name)
        try:
            await book.inside.wait_async(seq)
            await book.inside.pause_async(until_ns)
        finally:
            _end(book, until_ns, key)


class SleepLength(NamedTuple):
    """The length of a sleep: a duration in ns, or the moment of its end."""

    length_ns: int
    until_ns: int | None
    words: str


def _length_of(
    parts: tuple[float | timedelta, float, float, float], until: Any
) -> SleepLength:
    """
    Read how long a sleep is to be.

    Raises:
        InvalidTaskError: It is no duration, no moment, or both.
    """
    units = {"seconds": 1, "minutes": 60, "hours": 3_600, "days": 86_400}
    for name, part in zip(units, parts, strict=True):
        if name != "seconds" and issubclass(type(part), timedelta):
            msg = f"{name}: a number is needed, not {show(part)}"
            raise InvalidTaskError(msg, hint="give a timedelta alone: sleep(length)")
    total = check_seconds(
        "sleep",
        sum(
            check_seconds(name, part) * units[name]
            for name, part in zip(units, parts, strict=True)
        ),
    )
    if until is None:
        return SleepLength(round(total * NS), None, f"({in_words(total)})")
    if not isinstance(until, datetime) or until.utcoffset() is None:
        msg = f"until: a moment with its zone is needed, not {show(until)}"
        hint = "datetime.now(UTC) + timedelta(days=3), or sleep(days=3)"
        raise InvalidTaskError(msg, hint=hint)
    if total:
        msg = "a sleep has a duration or a moment, and not both"
        raise InvalidTaskError(msg, hint="leave one of them out")
    end = until.timestamp()
    check_seconds("until", max(0.0, end - wall()))
    return SleepLength(0, round(end * NS), f"(until {until.isoformat()})")


def _begin(
    book: Book, strand: Strand, length: SleepLength, name: str
) -> tuple[int, int, str]:
    """Return the end of the wait in ns; the number of the kept event; the key."""
    check_name(name)
    exact = f"{length.length_ns} {length.until_ns}".encode()
    digest = blake2b(exact, digest_size=16).hexdigest()
    asked = Asked(name, SLEEP, length.words, digest, digest)
    number, kept, seq = book.ask(asked, strand)
    key, until = f"{name}#{number}", 0
    if kept is None:
        now = book.inside.now()
        until = now + length.length_ns if length.until_ns is None else length.until_ns
        ran = Ran(max(0, until - now) / NS, 1)
        kept, seq = book.returned(asked, number, ran, until)
    if kept is not None:
        until = int(kept.value)
    book.inside.sleeps(until)
    return until, seq, key


def _end(book: Book, until_ns: int, key: str) -> None:
    book.inside.sleeps(until_ns, is_over=True)
    book.end_span(key)


# -- in worker processes ---------------------------------------------------------------


class _RemoteSleeper(Sleeper):
    """`context.sleep` in a worker process, which it holds."""

    def _sleep(self, *asked: Any) -> None:
        task = self._context.task_id, self._context.attempt
        asked = (*asked, threading.get_ident())
        ask_at_home(task, "taskorch.ext.steps._sleep:sleep_at_home", asked)


def sleep_elsewhere(context: Any) -> Sleeper:
    """`context.sleep` in a worker process."""
    return _RemoteSleeper(context)


def sleep_at_home(context: Any, asked: tuple[SleepLength, str, int]) -> None:
    """Sleep beside the orchestrator: the length, the name, and the thread that asks."""
    length, name, thread = asked
    book = book_of(context)
    until_ns, seq, key = _begin(book, (thread, 0), length, name)
    try:
        book.inside.wait(seq)
        book.inside.pause(until_ns)
    finally:
        _end(book, until_ns, key)
