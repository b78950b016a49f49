"""
The operations on runs: the grid of nights, the list, one run, and those of a task.

The grid and the list are read from the lines that the board keeps, so they cost the
same whether a journal has ten runs or ten thousand. One run is asked for whole, of the
orchestrator or of what reads its journal.

Decision: 0213.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import date
from functools import partial
from itertools import islice
from time import sleep
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool

from taskorch._base.people import caller
from taskorch._base.verbs import OBJECT, TEXT, listed
from taskorch._base.visible import said
from taskorch.errors import TaskorchError, UnknownTaskError
from taskorch.frontends.service._bodies import answer
from taskorch.frontends.service._guard import WHO
from taskorch.frontends.service._operations import (
    Operation,
    bad_query,
    named,
    number,
    seconds,
    told,
)
from taskorch.frontends.service._runs import SKIPPED, STUCK, RunLine, wanted
from taskorch.model import (
    TaskState,
    TaskStatus,
    in_run,
    joined,
    last_of,
    name_of,
    number_of,
    numbered,
    run_of,
    show,
    stem_of,
    without_last,
    without_run,
)
from taskorch.model._made_for import MadeFor
from taskorch.protocols import DurableJournal
from taskorch.reading import JournalReader

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from taskorch._base.people import Caller
    from taskorch._orchestrator import TaskOrchestrator
    from taskorch.frontends.service._page import Board
    from taskorch.frontends.service._runs import RunIndex

_LOG: Final = logging.getLogger(__name__)
_NS: Final = 1_000_000_000
#: Days, or ticks, of the grid; runs of a page of the list.
_DAYS: Final = 30
_MOST_DAYS: Final = 400
_PAGE: Final = 100
_MOST_RUNS: Final = 1_000
#: Failures, questions and slow runs that the first view shows.
_SHOWN: Final = 25
#: Tasks of a run that are told one by one, and calls of one map.
_MOST_TASKS: Final = 2_000
_MOST_CALLS: Final = 100
#: Spans of one task that are told, the latest.
_MOST_SPANS: Final = 50
#: Earlier runs of a task, in other runs, that are told.
_EARLIER: Final = 14
#: Seconds after which a tick that has not come is late.
_LATE: Final = 60.0
#: A run is slow that takes so many times as long as it usually does, and this long.
_SLOW: Final = 2.0
_SLOW_SECONDS: Final = 10.0
_PAUSE: Final = 0.05
_MOMENT: Final = {"type": "number", "minimum": 0, "maximum": 1e11}
_DAY: Final = {"type": "string", "format": "date"}


# -- what was before the service -------------------------------------------------------


def earlier_of(orch: TaskOrchestrator) -> Callable[[Board], None]:
    """
    What tells a board of the time before: from the journal, or from what memory has.

    A long journal is read on a thread of its own.
    """

    def begin(board: Board) -> None:
        journal = orch.journal
        if not isinstance(journal, DurableJournal):
            board.enter(partial(_enter, orch))
            return
        thread = threading.Thread(
            target=_read, args=(orch, journal, board), name="taskorch-runs", daemon=True
        )
        thread.start()

    return begin


def _read(orch: TaskOrchestrator, journal: DurableJournal, board: Board) -> None:
    from taskorch.frontends.service._feed import kept_by  # noqa: PLC0415 - no ring

    # A service may be made before its orchestrator has begun.
    while not orch._rt.opened:  # noqa: SLF001 - nobody else knows
        if board.is_closed:
            return
        sleep(_PAUSE)
    try:
        board.read(JournalReader(journal), kept_by(orch))
    except TaskorchError as error:
        _LOG.warning("the dashboard shows no runs from before its start: %s", error)
        board.enter(lambda _: 0)


def _enter(orch: TaskOrchestrator, index: RunIndex) -> int:
    """Enter the tasks in memory as they are; the number of the latest event."""
    rt = orch._rt  # noqa: SLF001 - all of it is of one moment
    with rt.lock:
        for name, (document, _) in rt.kernel.schedules.items():
            index.declare(name, document, rt.kernel.waiting_slots[name])
        for row in list(rt.kernel.tasks.values()):
            extra, state = row.extra, str(row.state)
            reason = "" if extra is None else extra.stop_reason
            if row.state is TaskState.BLOCKED and extra and extra.blocked_by:
                state = STUCK
            elif row.state is TaskState.CANCELLED and reason.startswith(SKIPPED):
                state = SKIPPED
            times = row.submitted_ns, row.started_ns, row.ended_ns
            line = index.enter(row.id, row.run, state, times)
            if line is not None:
                line.tenants.add(row.bucket.spec.owner)
            if row.state is TaskState.FAILED and extra is not None:
                error = ("", "") if extra.error is None else extra.error[:2]
                is_own = not extra.first_roots
                index.fail(row.id, row.ended_ns, error, is_own=is_own)
            task = row.cargo._task  # noqa: SLF001 - see above
            made_for = MadeFor(None if task is None else task.metadata)
            if line and made_for.schedule and made_for.slot and not line.schedule:
                slot_ns = int(made_for.slot.timestamp()) * _NS
                index.assign(line, made_for.schedule, slot_ns, "schedule")
        return orch._latest_seq()  # noqa: SLF001 - see above


def _is_seen(who: Caller, line: RunLine) -> bool:
    """Whether a run is for who asks: none of its tasks is another's."""
    tenants = line.tenants - {None}
    return who.tenants is None or (bool(tenants) and tenants <= who.tenants)


# -- the operations --------------------------------------------------------------------


class RunOperations:
    """
    The operations on runs.

    Args:
        orch: Whom they are asked of.
        board: What has followed its events.
        live: Whether it is an orchestrator, and not one that reads a journal.
    """

    def __init__(
        self, orch: Callable[[], Any], board: Callable[[], Board], *, live: bool
    ) -> None:
        self._orch = orch
        self._board = board
        self._live = live

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

    # -- nights --------------------------------------------------------------------

    async def _nights(self, request: Request) -> Response:
        query = request.query_params
        days = number(query, "days", 1, _MOST_DAYS, _DAYS)
        by, until = query.get("by", "days"), query.get("until")
        if by not in ("days", "ticks"):
            raise bad_query(name="by", text="days, or ticks")
        try:
            last = None if until is None else date.fromisoformat(until)
        except ValueError:
            raise bad_query(name="until", text="a day is needed: 2026-11-25") from None
        return answer(await run_in_threadpool(self._grid, by, days, last))

    def _grid(self, by: str, days: int, until: date | None) -> dict[str, Any]:
        orch, board = self._orch(), self._board()
        now_ns = board.now()
        now = now_ns / _NS
        # What they have made is in the index, and need not be asked of each.
        standing = orch.schedules._standing() if self._live else ()  # noqa: SLF001
        statuses = {each.name: each for each in standing}
        questions = orch.questions() if self._live else []
        with board.runs() as index:
            names = sorted({*index.schedules, *statuses})
            schedules: list[dict[str, Any]] = []
            slow: list[dict[str, Any]] = []
            for name in names:
                ticks = (
                    index.nights(name, days, until, now_ns)
                    if by == "days"
                    else index.ticks(name, days, now_ns)
                )
                line = index.schedules.get(name)
                usual = None if line is None else line.usual()
                status = statuses.get(name)
                schedules.append(
                    {
                        **_standing(status, now),
                        "name": name,
                        "usual": usual,
                        "waiting": 0 if line is None else len(line.waiting),
                        "cells": list(ticks),
                    }
                )
                if line is not None and usual is not None:
                    slow += _slow(line.runs, usual, now_ns)
            own = (each for each in reversed(index.broken.values()) if each.is_own)
            broken = [*islice(own, _SHOWN)]
            latest = islice(index.newest(lambda line: line.is_workflow), _SHOWN)
            return {
                "now": now,
                "days": days,
                "schedules": schedules,
                "broken": {
                    "count": index.unmended,
                    "tasks": [each.to_dict() for each in broken],
                },
                "questions": {
                    "count": len(questions),
                    "first": [
                        {
                            "id": each.id,
                            "text": each.text,
                            "asked": each.asked_at,
                            "due": each.due,
                        }
                        for each in questions[:_SHOWN]
                    ],
                },
                "slow": slow[:_SHOWN],
                "runs": [line.to_dict(now_ns) for line in latest],
                "is_reading": board.is_reading,
                "lost": index.lost,
            }

    # -- runs ----------------------------------------------------------------------

    async def _list(self, request: Request) -> Response:
        query, who = request.query_params, request.scope[WHO]
        limit = number(query, "limit", 1, _MOST_RUNS, _PAGE)
        since, until = (
            seconds(query, name, 1e11) or 0.0 for name in ("since", "until")
        )
        which = wanted(
            query.get("id", ""),
            query.get("schedule", ""),
            query.get("state", ""),
            int(since * _NS),
            int(until * _NS),
        )
        after, day = query.get("after", ""), query.get("day", "")

        def page() -> dict[str, Any]:
            board = self._board()
            now_ns = board.now()
            with board.runs() as index:
                if after and not (
                    after in index.lines and _is_seen(who, index.lines[after])
                ):
                    text = f"there is no run {show(after)} any more: begin anew"
                    raise bad_query(name="after", text=text)
                runs = index.newest(which, after)
                if who.tenants is not None:
                    runs = (line for line in runs if _is_seen(who, line))
                if day:
                    runs = (line for line in runs if index.day_of(line) == day)
                lines = [*islice(runs, limit + 1)]
                total = len(index.lines) if who.tenants is None else len(lines)
                rows = [line.to_dict(now_ns) for line in lines[:limit]]
            following = lines[limit - 1].run_id if len(lines) > limit else None
            return {
                "runs": rows,
                "next": following,
                "total": total,
                "is_reading": board.is_reading,
            }

        return answer(await run_in_threadpool(page))

    # -- one run -------------------------------------------------------------------

    async def _run(self, request: Request) -> Response:
        run_id = named(request, "run_id")
        under = request.query_params.get("under")
        return answer(await run_in_threadpool(self._whole_run, run_id, under))

    def _whole_run(self, run_id: str, under: str | None) -> dict[str, Any]:
        """
        One run; with *under*, the calls of that map alone.

        Raises:
            UnknownTaskError: There is no such run.
        """
        orch, board = self._orch(), self._board()
        now_ns = board.now()
        with board.runs() as index:
            line = index.lines.get(run_id)
            row = None if line is None else line.to_dict(now_ns)
            good = index.last_good(run_id)
            who = caller()
            is_seen = good is not None and (who is None or _is_seen(who, good))
            last_good = good.run_id if good is not None and is_seen else None
        statuses = self._latest(orch, run_id, line)
        if not statuses:
            msg = f"there is no run {show(run_id)}"
            raise UnknownTaskError(msg, task_id=run_id)
        names = {_name(run_id, each.task_id): each for each in statuses}
        maps = _maps(names)
        if under is not None:
            calls = [
                each for name, each in names.items() if without_last(name) == under
            ]
            calls.sort(key=_urgency)
            shown = [_task(run_id, each) for each in calls[:_MOST_TASKS]]
            return {"run": row or {}, "tasks": shown, "maps": {}}
        of_maps = {name for name in names if without_last(name) in maps}
        single = [name for name in names if name not in of_maps][:_MOST_TASKS]
        above = self._above(orch, run_id, single)
        states = Counter(each.state.value for each in statuses)
        return {
            "run": row or {"id": run_id},
            "last_good": last_good,
            "states": states,
            "attempts": sum(each.attempts for each in statuses),
            "left_out": len(names) - len(of_maps) - len(single),
            "tasks": [
                {**_task(run_id, names[name]), "after": above.get(name, [])}
                for name in single
            ],
            "maps": {name: _in_numbers(run_id, calls) for name, calls in maps.items()},
        }

    def _latest(self, orch: Any, run_id: str, line: RunLine | None) -> list[TaskStatus]:
        """The status of each task of a run, of its latest run."""
        if line is not None and not line.is_workflow:
            return [orch.get_task_status(run_id)]
        if self._live:
            handles = orch.workflows.get(run_id).handles
            return [handle.status for handle in handles.values()]
        # A later run of a task follows the ones before.
        latest = {
            stem_of(each.task_id): each for each in orch.tasks(id=in_run(run_id, "*"))
        }
        return [*latest.values()]

    def _above(
        self, orch: Any, run_id: str, names: Iterable[str]
    ) -> Mapping[str, list[str]]:
        """What each of these tasks comes after, within the run."""
        if self._live:
            with suppress(UnknownTaskError):
                run = orch.workflows.get(run_id)
                above = run._above(run.handles)  # noqa: SLF001 - as its picture has it
                return {name: [*above.get(name, ())] for name in names}
            return {}
        return {
            name: [name_of(each) for each in orch.above(in_run(run_id, name))]
            for name in names
        }

    # -- one task ------------------------------------------------------------------

    async def _earlier(self, request: Request) -> Response:
        task_id = named(request, "task_id")
        return answer(await run_in_threadpool(self._runs_of_task, task_id))

    def _runs_of_task(self, task_id: str) -> dict[str, Any]:
        """
        The runs of a task, the latest first, and what it was called with.

        Raises:
            UnknownTaskError: There is no such task.
        """
        orch = self._orch()
        status = orch.get_task_status(task_id)
        stem = stem_of(status.task_id)
        with self._board().runs() as index:
            run_id = run_of(stem) if run_of(stem) in index.lines else stem
            before = [line.run_id for line in islice(index.alike(run_id), _EARLIER)]
        rows: list[dict[str, Any]] = []
        last = number_of(status.rerun or status.task_id)
        own = [numbered(stem, each) for each in range(last, 0, -1)]
        name = without_run(stem) if run_id != stem else ""
        others = [joined(each, name) if name else each for each in before]
        for each_id in [*own[:_MOST_SPANS], *others]:
            with suppress(TaskorchError):
                each = orch.get_task_status(each_id)
                rows.append(_task("", each) | {"run_id": each.run_id})
        return {"runs": rows, "arguments": self._arguments(orch, task_id)}

    def _arguments(self, orch: Any, task_id: str) -> list[list[str]]:
        """What a task was called with, by name, as far as it is kept here."""
        if not self._live:
            return []
        task = orch.handle(task_id)._task  # noqa: SLF001 - as it was submitted
        payload = None if task is None else task.payload
        if payload is None:
            return []
        pairs = [(str(n), v) for n, v in enumerate(getattr(payload, "args", ()))]
        pairs += [*getattr(payload, "kwargs", {}).items()]
        if not hasattr(payload, "args"):
            pairs = [("payload", payload)]
        return [[name, show(value)] for name, value in pairs]


def _standing(status: Any, now: float) -> dict[str, Any]:
    """How a schedule stands; of one in a journal, nothing is known."""
    if status is None:
        return {"when": None, "next": None, "paused": "", "trouble": "", "late": None}
    coming = None if status.next is None else status.next.timestamp()
    late = None
    if coming is not None and not status.paused and now - coming > _LATE:
        late = now - coming
    return {
        "when": status.when,
        "zone": status.zone,
        "makes": status.makes,
        "next": coming,
        "paused": status.paused,
        "trouble": status.trouble,
        "late": late,
    }


def _slow(runs: list[RunLine], usual: float, now_ns: int) -> Iterable[dict[str, Any]]:
    """The runs that take much longer than usual."""
    for line in runs[-_SHOWN:]:
        took = None if line.ended_ns else line.seconds(now_ns)
        if took is not None and took > max(_SLOW * usual, usual + _SLOW_SECONDS):
            yield {"id": line.run_id, "seconds": took, "usual": usual}


def _name(run_id: str, task_id: str) -> str:
    """The id of a task in its workflow; of one on its own, the last part."""
    return name_of(task_id) if run_of(task_id) == run_id else last_of(stem_of(task_id))


def _maps(names: Mapping[str, TaskStatus]) -> dict[str, list[TaskStatus]]:
    """The calls of each task that has added several, by its name."""
    under: dict[str, list[TaskStatus]] = {}
    for name, status in names.items():
        adder = without_last(name)
        if adder in names and last_of(name).isdecimal():
            under.setdefault(adder, []).append(status)
    return under


def _urgency(status: TaskStatus) -> tuple[int, int, str]:
    """Where a call stands: what failed first, what has completed last."""
    order = ("failed", "blocked", "retrying", "running", "suspended", "cancelled")
    state = status.state.value
    place = order.index(state) if state in order else len(order)
    # Calls have numbers: 2 stands before 10.
    return place + (state == "completed"), len(status.task_id), status.task_id


def _in_numbers(run_id: str, calls: list[TaskStatus]) -> dict[str, Any]:
    """The calls of a map in numbers, and those of them that a person looks for."""
    took = [each.duration for each in calls if each.duration is not None]
    begun = [each.started.timestamp() for each in calls if each.started]
    ended = [each.ended.timestamp() for each in calls if each.ended]
    calls.sort(key=_urgency)
    return {
        "states": Counter(each.state.value for each in calls),
        "attempts": sum(each.attempts for each in calls),
        "longest": max(took, default=None),
        "started": min(begun, default=None),
        "ended": max(ended, default=None) if len(ended) == len(calls) else None,
        "first": [_task(run_id, each) for each in calls[:_MOST_CALLS]],
        "left_out": max(0, len(calls) - _MOST_CALLS),
    }


def _task(run_id: str, status: TaskStatus) -> dict[str, Any]:
    """A task of a run, with its attempts: times are seconds since 1970."""
    error = status.error
    return {
        "id": status.task_id,
        "name": _name(run_id, status.task_id),
        "type": status.type,
        "state": status.state.value,
        "agent": status.agent_id,
        "attempts": status.attempts,
        "submitted": status.submitted.timestamp() if status.submitted else None,
        "started": status.started.timestamp() if status.started else None,
        "ended": status.ended.timestamp() if status.ended else None,
        "seconds": status.duration,
        "blocked_by": [*status.blocked_by],
        "error": None if error is None else _error(error),
        "stale": status.stale,
        "spans": _spans(status),
    }


def _error(error: BaseException) -> dict[str, str]:
    """The class of an error, and the first line of what it says."""
    kind, message = said(error)
    return {"type": kind, "message": message.partition("\n")[0][:300]}


def _spans(status: TaskStatus) -> list[list[Any]]:
    """The attempts of a task: of each its begin, its end, and what came then."""
    spans: list[list[Any]] = []
    steps = status.history
    for place, step in enumerate(steps):
        if step.state is TaskState.RUNNING:
            later = steps[place + 1] if place + 1 < len(steps) else None
            spans.append(
                [
                    step.at,
                    None if later is None else later.at,
                    "running" if later is None else later.state.value,
                ]
            )
    return spans[-_MOST_SPANS:]
