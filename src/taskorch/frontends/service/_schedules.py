"""What is made again and again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from starlette.concurrency import run_in_threadpool

from taskorch._managers import ScheduleManager
from taskorch.frontends.service._bodies import read_object, refuse
from taskorch.frontends.service._operations import (
    CHANGED,
    OBJECT,
    TEXT,
    Current,
    Operation,
    asked,
    changed,
    listed,
    named,
    number,
    told,
)
from taskorch.frontends.service._values import answer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_PAUSE: Final = asked(reason={"type": "string", "minLength": 1})
_BACKFILL: Final = asked(
    "since", "until", since=TEXT, until=TEXT, again={"type": "boolean"}
)
_TRIGGER: Final = asked(parameters=OBJECT)
_IDS: Final = told(ids=listed(TEXT))
_FILLED: Final = told(ids=listed(TEXT), already=listed(TEXT))
_MOST: Final = 1_000


class Schedules:
    """
    The operations on schedules.

    Args:
        orch: Who has them.
    """

    def __init__(self, orch: Current) -> None:
        self._orch = orch

    def operations(self) -> list[Operation]:
        """The operations on schedules."""
        every, one = "/api/v1/schedules", "/api/v1/schedules/{name}"
        return [
            Operation(
                *("GET", every, "find_schedules", "All schedules."),
                self._list,
                answer=told(schedules=listed(OBJECT)),
            ),
            Operation(
                *("GET", one, "schedule_status", "When a schedule comes next."),
                self._status,
                query={"count": {"type": "integer"}},
                refuses=(404,),
            ),
            Operation(
                *("POST", f"{one}/pause", "pause_schedule"),
                "Make nothing for the slots that come.",
                self._pause,
                body=_PAUSE,
                is_body_needed=False,
                answer=CHANGED,
                refuses=(404, 422),
            ),
            *(
                Operation(
                    *("POST", f"{one}/{verb}", f"{verb}_schedule", words),
                    partial(changed, self._manager, change, "name"),
                    answer=CHANGED,
                    refuses=(404,),
                )
                for verb, words, change in (
                    ("resume", "Let a schedule go on.", ScheduleManager.resume),
                    ("remove", "Remove a schedule.", ScheduleManager.remove),
                )
            ),
            Operation(
                *("POST", f"{one}/trigger", "trigger_schedule"),
                "Make now what a schedule makes.",
                self._trigger,
                body=_TRIGGER,
                is_body_needed=False,
                status=202,
                answer=_IDS,
                refuses=(404, 422),
            ),
            Operation(
                *("POST", f"{one}/backfill", "backfill_schedule"),
                "Make what would have been made.",
                self._backfill,
                body=_BACKFILL,
                status=202,
                answer=_FILLED,
                refuses=(404, 422),
            ),
        ]

    def _manager(self) -> ScheduleManager:
        return self._orch().schedules

    async def _list(self, _: Request) -> Response:
        schedules = await run_in_threadpool(self._manager().list)
        return answer({"schedules": [each.to_dict() for each in schedules]})

    async def _status(self, request: Request) -> Response:
        name, manager = named(request, "name"), self._manager()
        count = number(request.query_params, "count", 1, _MOST, 5)
        status = await run_in_threadpool(manager.status, name)
        coming = await run_in_threadpool(manager.next, name, count)
        moments = [moment.isoformat() for moment in coming]
        return answer({**status.to_dict(), "coming": moments})

    async def _pause(self, request: Request) -> Response:
        body = await read_object(request, _PAUSE, is_needed=False)
        reason = body.get("reason", "paused over HTTP")
        pause = partial(self._manager().pause, named(request, "name"), reason)
        return answer({"changed": await run_in_threadpool(pause)})

    async def _trigger(self, request: Request) -> Response:
        body = await read_object(request, _TRIGGER, is_needed=False)
        trigger = partial(self._manager().trigger, named(request, "name"), **body)
        return answer({"ids": [await run_in_threadpool(trigger)]}, 202)

    async def _backfill(self, request: Request) -> Response:
        body = await read_object(request, _BACKFILL)
        for name in ("since", "until"):
            if not isinstance(body[name], str):
                refuse(name, "a moment is needed, such as 2026-11-25T03:00")
        fill = partial(self._manager().backfill, named(request, "name"), **body)
        filled = await run_in_threadpool(fill)
        return answer({"ids": [*filled], "already": [*filled.already]}, 202)
