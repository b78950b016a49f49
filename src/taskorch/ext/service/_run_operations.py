"""
The operations on runs: the grid of nights, the list, one run, and those of a task.

What they answer is in `taskorch.ext.views`, for commands as well; what was before the
service began is told to the board from here.

Decision: dashboard-and-views.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from functools import partial
from time import sleep
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool

from taskorch.core.inside import Inside
from taskorch.errors import TaskorchError
from taskorch.ext.service._bodies import answer
from taskorch.ext.service._operations import (
    Operation,
    bad_query,
    named,
    number,
    seconds,
    told,
)
from taskorch.ext.views._nights import DAYS, PAGE, RunViews
from taskorch.ext.views._reader import JournalReader
from taskorch.kit.fence import log_of
from taskorch.kit.plain import SCHEDULES
from taskorch.kit.verbs import OBJECT, TEXT, listed
from taskorch.kit.visible import show
from taskorch.protocols import DurableJournal

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from taskorch.api._orchestrator import TaskOrchestrator
    from taskorch.ext.service._board import Board
    from taskorch.ext.views._runs import RunIndex

_LOG: Final = log_of(__name__)
_MOST_DAYS: Final = 400
_MOST_RUNS: Final = 1_000
_PAUSE: Final = 0.05
_MOMENT: Final = {"type": "number", "minimum": 0, "maximum": 1e11}
_DAY: Final = {"type": "string", "format": "date"}


# -- before the service began ----------------------------------------------------------


def follow_from(orch: TaskOrchestrator, board: Board) -> None:
    """
    Have *board* follow the events, after the past of the journal or of memory.

    A long journal is read on a thread of its own.
    """
    journal = orch.journal
    if not isinstance(journal, DurableJournal):
        board.follow(orch.signals, partial(_enter, orch))
        return
    thread = threading.Thread(
        target=_follow, args=(orch, board, journal), name="taskorch-runs", daemon=True
    )
    thread.start()


def _follow(orch: TaskOrchestrator, board: Board, journal: DurableJournal) -> None:
    # A service may exist before its orchestrator has begun, which waits for no page.
    while not Inside(orch).is_started:
        if board.is_closed:
            return
        sleep(_PAUSE)
    try:
        board.follow(orch.signals, journal=JournalReader(journal))
    except TaskorchError as error:
        _LOG.warning("the dashboard shows no runs: %s", error)
        board.is_reading = False


def _enter(orch: TaskOrchestrator, index: RunIndex) -> int:
    """Enter the tasks in memory; return the number of the latest event."""

    def take(schedules: Mapping[str, str], rows: Iterable[Any], left: Any) -> None:
        for key, document in schedules.items():
            index.declare(key, document)
        index.enter_rows(rows, left)

    return Inside(orch).enter(SCHEDULES, take)


# -- the operations --------------------------------------------------------------------


class RunOperations:
    """
    The operations on runs.

    Args:
        orch: Whom they are asked of.
        board: The board that has followed its events.
        live: Whether it is an orchestrator, and not one that reads a journal.
    """

    def __init__(
        self, orch: Callable[[], Any], board: Callable[[], Board], *, live: bool
    ) -> None:
        self._views = RunViews(orch, board, live=live)

    def operations(self) -> list[Operation]:
        """The operations on runs."""
        run = told(run=OBJECT, tasks=listed(OBJECT), maps=OBJECT)
        return [
            Operation(
                *("GET", "/api/v1/nights", "nights"),
                "How each schedule fared, a place for each of the latest `days`, or of "
                "the latest ticks (`by=ticks`); what failed and is not mended, what "
                "waits for a person, what is late or slow.",
                self._nights,
                query={
                    "by": {"enum": ["days", "ticks"]},
                    "days": {"type": "integer", "minimum": 1, "maximum": _MOST_DAYS},
                    "until": _DAY,
                },
                answer=told(schedules=listed(OBJECT), broken=OBJECT),
            ),
            Operation(
                *("GET", "/api/v1/runs", "runs"),
                "Runs of workflows, and of what schedules make, the latest first. "
                "`state` may also be `open` or `broken`; `next` leads on.",
                self._list,
                query={
                    "id": TEXT,
                    "schedule": TEXT,
                    "state": TEXT,
                    "day": _DAY,
                    "since": _MOMENT,
                    "until": _MOMENT,
                    "limit": {"type": "integer", "minimum": 1, "maximum": _MOST_RUNS},
                    "after": TEXT,
                },
                answer=told(runs=listed(OBJECT), next={"type": ["string", "null"]}),
            ),
            Operation(
                *("GET", "/api/v1/runs/{run_id}", "run"),
                "One run: its tasks with their attempts and what they come after; the "
                "calls of its maps in numbers, and those that are not done.",
                self._run,
                query={"under": TEXT},
                answer=run,
                refuses=(404,),
            ),
            Operation(
                *("GET", "/api/v1/tasks/{task_id}/earlier", "earlier_runs"),
                "The runs of a task, in its own run and in those before of the same "
                "schedule; and its arguments, as far as they are kept.",
                self._earlier,
                answer=told(runs=listed(OBJECT)),
                refuses=(404,),
            ),
        ]

    async def _nights(self, request: Request) -> Response:
        query = request.query_params
        days = number(query, "days", 1, _MOST_DAYS, DAYS)
        by, until = query.get("by", "days"), query.get("until")
        if by not in ("days", "ticks"):
            raise bad_query(name="by", text="days, or ticks")
        try:
            last = None if until is None else date.fromisoformat(until)
        except ValueError:
            raise bad_query(name="until", text="a day is needed: 2026-11-25") from None
        return answer(await run_in_threadpool(self._views.nights, by, days, last))

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        since, until = (
            seconds(query, name, 1e11) or 0.0 for name in ("since", "until")
        )
        texts = {
            name: query.get(name, "")
            for name in ("id", "schedule", "state", "day", "after")
        }
        limit = number(query, "limit", 1, _MOST_RUNS, PAGE)
        ask = partial(self._views.page, since=since, until=until, limit=limit, **texts)
        page = await run_in_threadpool(ask)
        if page is None:
            text = f"there is no run {show(texts['after'])} any more: begin anew"
            raise bad_query(name="after", text=text)
        return answer(page)

    async def _run(self, request: Request) -> Response:
        run_id = named(request, "run_id")
        under = request.query_params.get("under")
        return answer(await run_in_threadpool(self._views.run, run_id, under))

    async def _earlier(self, request: Request) -> Response:
        task_id = named(request, "task_id")
        return answer(await run_in_threadpool(self._views.earlier, task_id))
