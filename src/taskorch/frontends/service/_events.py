"""Events: what has happened, and what comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool

from taskorch._base._limits import MAX_SECONDS
from taskorch._telling._following import FOLLOWED
from taskorch.frontends.service._bodies import read_object
from taskorch.frontends.service._feed import PAGE, Feed, Wanted, chosen
from taskorch.frontends.service._operations import (
    ANYTHING,
    NAME,
    OBJECT,
    TEXT,
    Current,
    Operation,
    asked,
    bad_query,
    listed,
    number,
    told,
)
from taskorch.frontends.service._stream import EventResponse
from taskorch.frontends.service._values import answer
from taskorch.workflows._names import guess

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

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
_EMIT: Final = asked(
    "name",
    name=NAME,
    payload=ANYTHING,
    keep={"type": "number", "minimum": 0, "maximum": MAX_SECONDS},
)


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
            Operation(
                *("POST", "/api/v1/events", "emit"),
                "Say that an event from outside has come, for which tasks may wait.",
                self._emit,
                body=_EMIT,
                answer=told(released={"type": "integer"}),
                refuses=(422,),
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

    async def _emit(self, request: Request) -> Response:
        body = await read_object(request, _EMIT)
        released = await run_in_threadpool(lambda: self._orch().emit(**body))
        return answer({"released": released})


def _wanted(query: Mapping[str, str]) -> Wanted:
    path = "names"
    names = frozenset(query[path].split(",")) if path in query else frozenset()
    for name in names:
        if name not in FOLLOWED:
            text = f"there is no event {name!r}{guess(name, FOLLOWED)}"
            raise bad_query(path, text)
    return Wanted(names, query.get("task"))
