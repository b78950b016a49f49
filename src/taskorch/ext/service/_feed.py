"""
Events, past and new ones, for clients that follow them.

They are given page by page or as Server-Sent Events. The latest events are kept once,
for all who follow, and each of them has a place in there. So one that does not read
costs nothing and holds nobody up: it falls behind, and is told so.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import attrs
from starlette.concurrency import run_in_threadpool

from taskorch.errors import JournalError, NotRunningError
from taskorch.events import Event, fields_of, signal_name, without_result
from taskorch.ext.notices.following import FOLLOWED
from taskorch.ext.service._bodies import WHO, answer, document, dumps
from taskorch.ext.service._operations import (
    Current,
    Operation,
    bad_query,
    number,
    told,
)
from taskorch.ext.service._waiting import Waiter
from taskorch.kit.verbs import OBJECT, TEXT, listed
from taskorch.kit.vocabulary import guess
from taskorch.protocols import Projection

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from taskorch.core.signals import Signals
    from taskorch.ext.service._tenants import Tenancy
    from taskorch.ext.views import JournalReader


#: At least so many events are kept, and a tenth more at most.
KEPT: Final = 10_000
_SLACK: Final = 10
#: The number of events that are handed over at once.
PAGE: Final = 500
#: Number of readings of the journal that are kept open for a next page.
_READINGS: Final = 16
#: The number of digits of the id of a journal that distinguish it from other runs.
_MARK: Final = 8
#: The largest number of digits in the number of an event.
_DIGITS: Final = 18


class FeedEvent:
    """An event for clients, written as JSON when first asked for."""

    __slots__ = ("_frame", "event", "name", "seq")

    def __init__(self, event: Event) -> None:
        self.event: Event = without_result(event)
        self.seq: int = event.seq
        self.name: str = signal_name(type(event))
        self._frame: bytes | None = None

    def document(self) -> dict[str, Any]:
        """The event as JSON can say it."""
        at = self.event.timestamp.isoformat()
        return {"event": self.name, "at": at, **document(fields_of(self.event))}

    def frame(self, cursor: str) -> bytes:
        """The event as a stream of Server-Sent Events has it."""
        if self._frame is None:
            data = dumps(self.document()).decode("ascii")
            text = f"id: {cursor}\nevent: {self.name}\ndata: {data}\n\n"
            self._frame = text.encode("ascii")
        return self._frame


@attrs.frozen
class Wanted:
    """
    A filter of events.

    Attributes:
        names: Their names; none named: all.
        task: A pattern of the ids of tasks; None: all events.
        sees: Whether an event is for who asks; None: all are.
    """

    names: frozenset[str] = frozenset()
    task: str | None = None
    sees: Callable[[Event], bool] | None = None

    def has(self, feed_event: FeedEvent) -> bool:
        """Return whether the filter accepts the event."""
        if self.names and feed_event.name not in self.names:
            return False
        if self.task is not None:
            task_id = getattr(feed_event.event, "task_id", None)
            if task_id is None or not fnmatchcase(task_id, self.task):
                return False
        return self.sees is None or self.sees(feed_event.event)


@attrs.frozen
class EventPage:
    """
    A page of events.

    Attributes:
        events: They.
        last: The number of the last one that was looked at: the next page is after it.
        lost: Whether there were others before these that nobody has any more.
    """

    events: list[FeedEvent]
    last: int
    lost: bool = False


class Feed(Projection):
    """The latest events of an orchestrator; earlier ones are in its journal, if any."""

    past = 0

    def __init__(self, signals: Signals, journal: JournalReader | None) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._kept: list[FeedEvent] = []
        #: The number of the last event that is no longer kept here.
        self._before = 0
        self._followers: set[Waiter] = set()
        #: Open readings of the journal, by the number of the event that each read last.
        #: A new one would read the commit of that event from its beginning.
        self._readings: OrderedDict[int, Iterator[Event]] = OrderedDict()
        #: Numbers go on in a journal; in memory they begin anew in each incarnation.
        mark = secrets.token_hex(4) if journal is None else journal.uid[:_MARK]
        self._incarnation: str = f"-{mark}" if mark else ""
        self.has_ended = False
        if journal is not None:
            self._before = journal.last
        self._end: Callable[[], object] = bool
        # A stopped orchestrator has no more events.
        with suppress(NotRunningError):
            self._end = signals.follow(self)

    def close(self) -> None:
        """Take no more events, and wake the callers that wait."""
        self._end()
        with self._lock:
            self.has_ended = True
            self._readings.clear()
            followers = list(self._followers)
        for follower in followers:
            follower.wake()

    def take(self, event: Event, document: Any) -> None:
        """See `Projection`: the latest event."""
        del document
        feed_event = FeedEvent(event)
        with self._lock:
            if not self._kept:
                self._before = self._beginning()
            self._kept.append(feed_event)
            if len(self._kept) > KEPT + KEPT // _SLACK:
                self._before = self._kept[-KEPT - 1].seq
                del self._kept[:-KEPT]
            followers = list(self._followers)
        for follower in followers:
            follower.wake()

    def _beginning(self) -> int:
        """Return the number of the last event before the feed began."""
        return 0 if self._journal is None else max(self._before, self.position)

    @property
    def last(self) -> int:
        """The number of the latest event; 0: there was none."""
        with self._lock:
            return self._last()

    @property
    def oldest(self) -> int:
        """The number after which all is kept here."""
        with self._lock:
            return self._before if self._kept else self._beginning()

    def _last(self) -> int:
        return self._kept[-1].seq if self._kept else self._beginning()

    def cursor(self, number: int) -> str:
        """Return the cursor with which a client goes on after this event."""
        return f"{number}{self._incarnation}"

    def place(self, cursor: str) -> int | None:
        """Return the number in a cursor; None: it is from another incarnation."""
        if cursor == "0":
            # It begins before all events.
            return 0
        number, dash, incarnation = cursor.partition("-")
        if (
            dash + incarnation != self._incarnation
            or not number.isascii()
            or not number.isdigit()
        ):
            return None
        return int(number[:_DIGITS])

    def follow(self) -> Waiter:
        """Add a waiter for new events, which must `leave` later."""
        follower = Waiter()
        with self._lock:
            self._followers.add(follower)
        return follower

    def leave(self, follower: Waiter) -> None:
        """Remove the waiter *follower*."""
        with self._lock:
            self._followers.discard(follower)

    def kept(self, after: int, limit: int = PAGE) -> EventPage | None:
        """
        The next events after a number; None: they are not kept here.

        Nothing blocks here.
        """
        with self._lock:
            before = self._before if self._kept else self._beginning()
            if not before <= after <= self._last():
                return None
            start = bisect_right(self._kept, after, key=attrgetter("seq"))
            events = self._kept[start : start + limit]
        return EventPage(events, events[-1].seq if events else after)

    def first(self, limit: int = PAGE) -> EventPage:
        """The earliest events that are kept here; others before them are lost."""
        with self._lock:
            events = self._kept[:limit]
            last = events[-1].seq if events else self._beginning()
        return EventPage(events, last, lost=True)

    def page(self, after: int, limit: int = PAGE) -> EventPage:
        """
        The next events after a number, from the journal if they are not kept here.

        Raises:
            JournalError: The journal cannot be read.
        """
        page = self.kept(after, limit)
        if page is not None:
            return page
        before = self.oldest
        if self._journal is None or after > before:
            return self.first(limit)
        events = self._read(self._journal, after, before, limit)
        # When the journal has no more, the next events are kept here.
        return EventPage(events, events[-1].seq if len(events) == limit else before)

    def _read(
        self, journal: JournalReader, after: int, until: int, limit: int
    ) -> list[FeedEvent]:
        with self._lock:
            events = self._readings.pop(after, None)
        if events is None:
            events = journal.happened(after)
        followed = frozenset(FOLLOWED.values())
        batch: list[FeedEvent] = []
        for event in events:
            if event.seq > until:
                break
            if type(event) in followed:
                batch.append(FeedEvent(event))
            if len(batch) == limit:
                self._keep(event.seq, events)
                break
        return batch

    def _keep(self, last: int, events: Iterator[Event]) -> None:
        with self._lock:
            if not self.has_ended:
                self._readings[last] = events
                if len(self._readings) > _READINGS:
                    self._readings.popitem(last=False)


def chosen(page: EventPage, wanted: Wanted) -> list[FeedEvent]:
    """The events of *page* that *wanted* accepts."""
    return [event for event in page.events if wanted.has(event)]


#: The seconds of silence after which a line shows that the stream is alive.
QUIET_SECONDS: Final = 15.0
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),
]


class EventResponse:
    """
    The answer that goes on until the client leaves, or the service ends.

    It begins after a cursor, or, without one, with what comes.
    """

    def __init__(self, feed: Feed, after: str | None, wanted: Wanted) -> None:
        self._feed = feed
        last = feed.last
        place = last if after is None else feed.place(after)
        #: Whether the cursor is not ours, such as one of an earlier incarnation.
        self._is_lost = place is None
        #: The number of the last event that was looked at.
        self._after: int = last if place is None else place
        self._wanted = wanted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream of events."""
        start = {"type": "http.response.start", "status": 200, "headers": _HEADERS}
        await send(start)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        telling = asyncio.ensure_future(self._tell(send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait((telling, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (telling, leaving):
                task.cancel()
            with suppress(asyncio.CancelledError):
                await leaving
        with suppress(asyncio.CancelledError):
            await telling

    async def _tell(self, send: Send) -> None:
        follower = self._feed.follow()
        try:
            # A client that reconnects goes on from here, even before the first event.
            await self._say(send, "retry: 1000")
            if self._is_lost:
                await self._say_missed(send)
            while True:
                # The end is tested first, so that no event before it is missed.
                has_ended = self._feed.has_ended
                if await self._tell_page(send):
                    continue
                if has_ended:
                    break
                if not await follower.wait(QUIET_SECONDS):
                    # The cursor also moves over events that the filter leaves out.
                    await self._say(send, ": quiet")
        finally:
            self._feed.leave(follower)
        await send({"type": "http.response.body", "body": b""})

    async def _tell_page(self, send: Send) -> bool:
        """Send the next events; return whether there were any."""
        page = self._feed.kept(self._after)
        if page is None:
            try:
                page = await run_in_threadpool(self._feed.page, self._after)
            except JournalError:
                # The journal cannot be read now.
                page = self._feed.first()
        if page.last == self._after and not page.lost:
            return False
        if page.lost:
            await self._say_missed(send)
        self._after = page.last
        # The tenant of a task may have to be looked up.
        events = (
            chosen(page, self._wanted)
            if self._wanted.sees is None
            else await run_in_threadpool(chosen, page, self._wanted)
        )
        frames = [event.frame(self._feed.cursor(event.seq)) for event in events]
        if frames:
            await _send(send, b"".join(frames))
        return True

    async def _say_missed(self, send: Send) -> None:
        """Events are missing here: who follows asks for the state anew."""
        await self._say(send, "event: events_missed\ndata: {}")

    async def _say(self, send: Send, text: str) -> None:
        cursor = self._feed.cursor(self._after)
        await _send(send, f"{text}\nid: {cursor}\n\n".encode())


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


_WHICH: Final[Mapping[str, Any]] = {
    "names": {
        "type": "string",
        "pattern": "^({0})(,({0}))*$".format("|".join(FOLLOWED)),
    },
    "task": TEXT,
}
_CURSOR: Final = {
    "description": "0 is the beginning; others are those of `next` and of events.",
    "type": "string",
    "pattern": "^(0|[0-9]{1,18}(-[0-9a-f]+)?)$",
}


class Events:
    """The operations on events."""

    def __init__(
        self, orch: Current, feed: Callable[[], Feed], tenancy: Tenancy
    ) -> None:
        self._orch = orch
        self._feed = feed
        self._tenancy = tenancy

    def operations(self) -> list[Operation]:
        """The operations on events."""
        return [
            Operation(
                *("GET", "/api/v1/events", "events"),
                "Events after a cursor; `names`, with commas, and a pattern of ids of "
                "tasks say which. `missed`: some before them are not to be had.",
                self._page,
                query={
                    **_WHICH,
                    "after": _CURSOR,
                    "limit": {"type": "integer", "minimum": 1, "maximum": PAGE},
                },
                answer=told(
                    events=listed(OBJECT), next=TEXT, missed={"type": "boolean"}
                ),
            ),
            Operation(
                *("GET", "/api/v1/events/stream", "follow_events"),
                "Events as they come, as Server-Sent Events; with Last-Event-ID, those "
                "since then. `events_missed` says that some are not to be had.",
                self._stream,
                query={**_WHICH, "after": _CURSOR},
                header={"Last-Event-ID": TEXT},
                answer=TEXT,
                media="text/event-stream",
            ),
        ]

    async def _page(self, request: Request) -> Response:
        query = request.query_params
        limit = number(query, "limit", 1, PAGE, PAGE)
        which = self._wanted(request)
        cursor = query.get("after")
        feed = self._feed()
        place = feed.oldest if cursor is None else feed.place(cursor)
        if place is None:
            text = "it is none of this orchestrator: begin without"
            raise bad_query(name="after", text=text)

        def look() -> tuple[EventPage, list[FeedEvent]]:
            page = feed.page(place, limit)
            return page, chosen(page, which)

        page, events = await run_in_threadpool(look)
        listing = {
            "events": [event.document() for event in events],
            "next": feed.cursor(page.last),
            "missed": page.lost,
        }
        return answer(listing)

    async def _stream(self, request: Request) -> EventResponse:
        query = request.query_params
        # A client that reconnects sends its cursor in the path of the first request.
        cursor = request.headers.get("last-event-id") or query.get("after")
        return EventResponse(self._feed(), cursor, self._wanted(request))

    def _wanted(self, request: Request) -> Wanted:
        query, who = request.query_params, request.scope[WHO]
        path = "names"
        names = frozenset(query[path].split(",")) if path in query else frozenset()
        for name in names:
            if name not in FOLLOWED:
                text = f"there is no event {name!r}{guess(name, FOLLOWED)}"
                raise bad_query(path, text)
        sees = None
        if who.tenants is not None:
            sees = partial(self._tenancy.has_event, who)
        return Wanted(names, query.get("task"), sees)
