"""Events as they come: Server-Sent Events."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from starlette.concurrency import run_in_threadpool

from taskorch.errors import JournalError
from taskorch.frontends.service._feed import Feed, Wanted, chosen

if TYPE_CHECKING:
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
