"""Events: what has happened, and what comes, page by page or as Server-Sent Events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool

from taskorch._telling.following import FOLLOWED
from taskorch.errors import JournalError
from taskorch.frontends.service._feed import PAGE, Feed, Wanted, chosen
from taskorch.frontends.service._operations import (
    Current,
    Operation,
    bad_query,
    number,
    told,
)
from taskorch.frontends.service._problems import answer
from taskorch.model import OBJECT, TEXT, listed
from taskorch.workflows._names import guess

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send


#: Seconds of silence after which a line says that the stream is alive.
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
        #: Whether the cursor is none of ours: of an earlier life, say.
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
            # From here a reconnect goes on, before anything has come.
            await self._say(send, "retry: 1000")
            if self._is_lost:
                await self._say_missed(send)
            while True:
                # An end is seen before the look for what came before it.
                has_ended = self._feed.has_ended
                if await self._tell_page(send):
                    continue
                if has_ended:
                    break
                if not await follower.wait(QUIET_SECONDS):
                    # The cursor moves on over what is not asked for.
                    await self._say(send, ": quiet")
        finally:
            self._feed.leave(follower)
        await send({"type": "http.response.body", "body": b""})

    async def _tell_page(self, send: Send) -> bool:
        """Tell the next events; whether there were any."""
        page = self._feed.kept(self._after)
        if page is None:
            try:
                page = await run_in_threadpool(self._feed.page, self._after)
            except JournalError:
                # What the journal has is not to be had now.
                page = self._feed.first()
        if page.last == self._after and not page.lost:
            return False
        if page.lost:
            await self._say_missed(send)
        self._after = page.last
        frames = [
            event.frame(self._feed.cursor(event.seq))
            for event in chosen(page, self._wanted)
        ]
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

    def __init__(self, orch: Current, feed: Callable[[], Feed]) -> None:
        self._orch = orch
        self._feed = feed

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
        which = _wanted(query)
        cursor = query.get("after")
        feed = self._feed()
        place = feed.oldest if cursor is None else feed.place(cursor)
        if place is None:
            text = "it is none of this orchestrator: begin without"
            raise bad_query(name="after", text=text)
        page = await run_in_threadpool(feed.page, place, limit)
        listing = {
            "events": [event.document() for event in chosen(page, which)],
            "next": feed.cursor(page.last),
            "missed": page.lost,
        }
        return answer(listing)

    async def _stream(self, request: Request) -> EventResponse:
        query = request.query_params
        # A reconnect says where it was, in the path of the first request.
        cursor = request.headers.get("last-event-id") or query.get("after")
        return EventResponse(self._feed(), cursor, _wanted(query))


def _wanted(query: Mapping[str, str]) -> Wanted:
    path = "names"
    names = frozenset(query[path].split(",")) if path in query else frozenset()
    for name in names:
        if name not in FOLLOWED:
            text = f"there is no event {name!r}{guess(name, FOLLOWED)}"
            raise bad_query(path, text)
    return Wanted(names, query.get("task"))
