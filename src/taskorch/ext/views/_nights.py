"""
The runs of an orchestrator or a journal as people look at them, for every front end.

The grid of nights and the list are read from the lines of runs, and no task is asked
for. The whole of one run is asked of the orchestrator, or of the reader of its journal.

Decision: dashboard-and-views.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import date
from glob import escape
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Protocol

from taskorch.core.inside import Inside
from taskorch.core.workflows import _status
from taskorch.errors import InvalidTaskError, TaskorchError, UnknownTaskError
from taskorch.ext.views._runs import RunIndex, RunLine, wanted
from taskorch.ext.views._verdict import late_in, verdict_on
from taskorch.kit.clock import MonotonicClock
from taskorch.kit.people import caller
from taskorch.kit.raised import told_of
from taskorch.kit.visible import show
from taskorch.model import FailureCause, MadeFor, TaskState, TaskStatus
from taskorch.model.ids import (
    in_run,
    joined,
    last_of,
    name_of,
    number_of,
    numbered,
    run_of,
    stem_of,
    without_last,
    without_run,
)

if TYPE_CHECKING:
    from taskorch.ext.views._reader import JournalReader

_NS: Final = 1_000_000_000
#: Days, or ticks, of the grid; runs of a page of the list.
DAYS: Final = 30
PAGE: Final = 100
#: Failures, questions and slow runs that the first view shows.
_SHOWN: Final = 25
#: The most tasks of a run that are shown one by one, and calls of one map.
_MOST_TASKS: Final = 2_000
_MOST_CALLS: Final = 100
#: More tasks of one name with the same parents are shown as one.
_FAN: Final = 8
#: The most spans of one task that are shown, the latest.
_MOST_SPANS: Final = 50
#: Earlier runs of a task, in other runs, that are shown.
_EARLIER: Final = 14
#: Seconds after which a scheduled time without a run is late.
_LATE: Final = 60.0
#: A run is slow if it takes this many times as long as usual, and this much longer.
_SLOW: Final = 2.0
_SLOW_SECONDS: Final = 10.0


class HasRuns(Protocol):
    """Protocol: a holder of the lines of runs, such as the board of a service."""

    def now(self) -> int:
        """Return the time in nanoseconds since 1970."""
        ...

    def runs(self) -> AbstractContextManager[RunIndex]:
        """Return the lines, which nobody changes within the block."""
        ...

    @property
    def is_reading(self) -> bool:
        """Whether earlier events are still being read."""
        ...


class RunsOfJournal:
    """
    The lines of the runs of a journal, as of its last commit before each question.

    Args:
        reader: The reader of the journal.
    """

    is_reading = False

    def __init__(self, reader: JournalReader) -> None:
        self._reader = reader
        self._lock = Lock()
        self._clock = MonotonicClock()
        self._index = RunIndex()
        self._last: int | None = None

    def now(self) -> int:
        """Return the time in nanoseconds since 1970."""
        return self._clock.now_ns()

    @contextmanager
    def runs(self) -> Iterator[RunIndex]:
        """Yield the lines, which nobody changes within the block."""
        with self._lock:
            if self._last is None:
                self._last = self._index.begin(self._reader)
            for event in self._reader.happened(self._last):
                self._last = event.seq
                self._index.take(event)
            yield self._index


def _sees_all() -> bool:
    """Return whether the caller is bound to no tenants."""
    who = caller()
    return who is None or who.tenants is None


def _is_seen(line: RunLine) -> bool:
    """Return whether the caller may see a run: no task is another tenant's."""
    who = caller()
    tenants = line.tenants - {None}
    if who is None or who.tenants is None:
        return True
    return bool(tenants) and tenants <= who.tenants


class RunViews:
    """
    The grid of nights, the list of runs, one run, and the runs of a task.

    Args:
        orch: Returns the orchestrator or reader to ask.
        board: Returns the holder of the lines of runs.
        live: Whether *orch* is an orchestrator, not the reader of a journal.
    """

    def __init__(
        self, orch: Callable[[], Any], board: Callable[[], HasRuns], *, live: bool
    ) -> None:
        self._orch = orch
        self._board = board
        self._live = live

    # -- nights --------------------------------------------------------------------

    def nights(
        self, by: str = "days", days: int = DAYS, until: date | None = None
    ) -> dict[str, Any]:
        """
        Return the grid of schedules, and the things that a person looks at first.

        Args:
            by: A place for each of the latest `days`, or of the latest `ticks`.
            days: How many of them.
            until: The last day; None: today.
        """
        orch, board = self._orch(), self._board()
        now_ns = board.now()
        now = now_ns / _NS
        # The index has their runs, so the status of each schedule need not be asked for
        # them.
        standing = orch.schedules._standing() if self._live else ()
        statuses = {each.name: each for each in standing}
        questions = orch.questions() if self._live else orch._questions()
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
                line, latest = index.schedules.get(name), index.latest(name)
                usual = None if line is None else line.usual()
                status = statuses.get(name)
                schedules.append(
                    {
                        **_standing(status, now),
                        "name": name,
                        "removed": status is None
                        and (self._live or (line is not None and line.is_removed)),
                        "usual": usual,
                        "failing": str(index.standing(name)),
                        "latest": None if latest is None else latest.to_dict(now_ns),
                        "waiting": 0 if line is None else len(line.waiting),
                        "cells": list(ticks),
                    }
                )
                if line is not None and usual is not None:
                    slow += _slow(line.runs, usual, now_ns)
            own = (each for each in reversed(index.broken.values()) if each.is_own)
            broken = [*islice(own, _SHOWN)]
            causes = [_cause(each) for each in index.causes[:_SHOWN]]
            newest = islice(index.newest(lambda line: line.is_workflow), _SHOWN)
            view = {
                "now": now,
                "days": days,
                "schedules": schedules,
                "broken": {
                    "count": index.unmended,
                    "tasks": [each.to_dict() for each in broken],
                    "causes": causes,
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
                "slow_runs": len(slow),
                "runs": [line.to_dict(now_ns) for line in newest],
                "is_reading": board.is_reading,
                "lost": index.lost,
            }
        holds = [str(each) for each in orch.get_stats().holds]
        late = [*late_in(view)]
        return {**view, "late": late, "verdict": verdict_on(view, holds)}

    # -- runs ----------------------------------------------------------------------

    def page(
        self,
        *,
        id: str = "",  # noqa: A002 - as the query has it
        schedule: str = "",
        state: str = "",
        day: str = "",
        since: float = 0.0,
        until: float = 0.0,
        limit: int = PAGE,
        after: str = "",
    ) -> dict[str, Any] | None:
        """
        Return a page of the list, the latest run first; `next` leads on.

        Args:
            id: See `wanted`, as for the next two.
            schedule: The same.
            state: The same.
            day: A day in the zone of the schedule of a run; "": any.
            since: The same, in seconds since 1970.
            until: The same; 0: whenever.
            limit: How many runs.
            after: Only those behind this run; "": from the first.

        Returns:
            The page; None: there is no run *after* any more.

        Raises:
            InvalidTaskError: There is no such day.
        """
        if day:
            day = _day_in(day)
        which = wanted(id, schedule, state, int(since * _NS), int(until * _NS))
        board = self._board()
        now_ns = board.now()
        with board.runs() as index:
            if after and not (after in index.lines and _is_seen(index.lines[after])):
                return None
            runs: Iterator[RunLine] = filter(_is_seen, index.newest(which, after))
            if day:
                runs = (line for line in runs if index.day_of(line) == day)
            lines = [*islice(runs, limit + 1)]
            total = len(index.lines)
            if not _sees_all():
                total = sum(map(_is_seen, index.lines.values()))
            rows = [line.to_dict(now_ns) for line in lines[:limit]]
        return {
            "runs": rows,
            "next": lines[limit - 1].run_id if len(lines) > limit else None,
            "total": total,
            "is_reading": board.is_reading,
        }

    # -- one run -------------------------------------------------------------------

    def run(self, run_id: str, under: str | None = None) -> dict[str, Any]:
        """
        Return one run; with *under*, only the calls of that map.

        Raises:
            UnknownTaskError: There is no such run.
        """
        orch, board = self._orch(), self._board()
        now_ns = board.now()
        with board.runs() as index:
            line = index.lines.get(run_id)
            row = None if line is None else line.to_dict(now_ns)
            good = index.last_good(run_id)
            last_good = good.run_id if good is not None and _is_seen(good) else None
        is_flow = self._live and (line is None or line.is_workflow)
        flow = orch.workflows.get(run_id) if is_flow else None
        statuses = self._latest(orch, run_id, line, flow)
        if not statuses:
            msg = f"there is no run {show(run_id)}"
            raise UnknownTaskError(msg, task_id=run_id)
        names = {_name(run_id, each.task_id): each for each in statuses}
        maps = _maps(names)
        loose = [name for name in names if without_last(name) not in maps]
        adders = {name: _adder(name, each, names) for name, each in names.items()}
        alike = _alike(loose, adders)
        if under is not None:
            calls = [names[name] for name in alike.get(under, ())] or [
                each for name, each in names.items() if without_last(name) == under
            ]
            calls.sort(key=_urgency)
            shown = [_task(run_id, each) for each in calls[:_MOST_TASKS]]
            return {"run": row or {}, "tasks": shown, "maps": {}}
        noted = (MadeFor(each.metadata).parameters for each in statuses)
        # Of many tasks that one task has added, one is shown for all.
        added = {
            name: each[0] for each in alike.values() for name in each if adders[name]
        }
        asked = [name for name in loose if added.get(name, name) == name]
        asked = asked[:_MOST_TASKS]
        above = self._above(orch, flow, {name: names[name] for name in asked})
        fans = {
            fan: each
            for fan, each in alike.items()
            if each[0] in added or len({tuple(above.get(n, ())) for n in each}) == 1
        }
        of_fans = {name: fan for fan, each in fans.items() for name in each}
        single = [name for name in asked if name not in of_fans]

        def parents(name: str) -> list[str]:
            """Return the parents of a task, fans as one, and the task that added it."""
            adder = adders[name]
            parts = [*above.get(name, ()), *([adder] if adder else ())]
            return [*dict.fromkeys(of_fans.get(each, each) for each in parts)]

        folded = maps | {fan: [names[n] for n in each] for fan, each in fans.items()}
        states = Counter(each.state.value for each in statuses)
        return {
            "run": row or {"id": run_id},
            "parameters": dict(next(filter(None, noted), {})),
            "last_good": last_good,
            "states": states,
            "attempts": sum(each.attempts for each in statuses),
            "left_memory": sum(each.submitted is None for each in statuses),
            "left_out": len(loose) - len(of_fans) - len(single),
            "tasks": [
                *(
                    {**_task(run_id, names[name]), "after": parents(name)}
                    for name in single
                ),
                *(
                    {**_fan(run_id, fan, folded[fan]), "after": parents(each[0])}
                    for fan, each in fans.items()
                ),
            ],
            "maps": {n: _in_numbers(run_id, calls) for n, calls in folded.items()},
        }

    def _latest(
        self, orch: Any, run_id: str, line: RunLine | None, flow: Any
    ) -> list[TaskStatus]:
        """Return the status of the latest run of each task of a run."""
        if line is not None and not line.is_workflow:
            return [orch.get_task_status(run_id)]
        if flow is not None:
            return Inside(orch).statuses_of(flow.handles.values())
        # Later runs of a task follow the earlier ones, so the last one wins.
        latest = {
            stem_of(each.task_id): each
            for each in orch.tasks(id=in_run(escape(run_id), "*"))
        }
        left = () if line is None else line.left
        return [each for stem, each in latest.items() if stem not in left]

    def _above(
        self, orch: Any, flow: Any, statuses: Mapping[str, TaskStatus]
    ) -> Mapping[str, Sequence[str]]:
        """Return the parents of each of these tasks within the run."""
        if self._live:
            return {} if flow is None else flow.dependencies
        return {
            name: [name_of(each) for each in orch._above(status.task_id)]
            for name, status in statuses.items()
        }

    # -- one task ------------------------------------------------------------------

    def earlier(self, task_id: str) -> dict[str, Any]:
        """
        Return the runs of a task, the latest first, and its arguments.

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
        """Return the arguments of a task by name, as far as they are kept here."""
        if not self._live:
            return []
        task = orch.handle(task_id)._task
        payload = None if task is None else task.payload
        if payload is None:
            return []
        pairs = [(str(n), v) for n, v in enumerate(getattr(payload, "args", ()))]
        pairs += [*getattr(payload, "kwargs", {}).items()]
        if not hasattr(payload, "args"):
            pairs = [("payload", payload)]
        return [[name, show(value)] for name, value in pairs]


def _cause(cause: FailureCause) -> dict[str, Any]:
    """Return a cause in the JSON form of `GET /failures`."""
    times = {"first": cause.first, "last": cause.last}
    return {
        "error_type": cause.error_type,
        "message": cause.message,
        "count": cause.count,
        "tasks": [*cause.tasks],
        "runs": [*cause.runs],
        **{name: None if at is None else at.isoformat() for name, at in times.items()},
    }


def _standing(status: Any, now: float) -> dict[str, Any]:
    """Return the status of a schedule; for one in a journal, nothing is known."""
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
    """Yield the runs that take much longer than usual."""
    for line in runs:
        took = None if line.ended_ns else line.seconds(now_ns)
        if took is not None and took > max(_SLOW * usual, usual + _SLOW_SECONDS):
            yield {"id": line.run_id, "seconds": took, "usual": usual}


def _name(run_id: str, task_id: str) -> str:
    """Return the id of a task in its workflow; for a single task, the last part."""
    return name_of(task_id) if run_of(task_id) == run_id else last_of(stem_of(task_id))


def _maps(names: Mapping[str, TaskStatus]) -> dict[str, list[TaskStatus]]:
    """Return the calls of each task that has added several, by its name."""
    under: dict[str, list[TaskStatus]] = {}
    for name, status in names.items():
        adder = without_last(name)
        if adder in names and last_of(name).isdecimal():
            under.setdefault(adder, []).append(status)
    return under


def _adder(name: str, status: TaskStatus, names: Mapping[str, TaskStatus]) -> str:
    """Return the name of the task of the run that added a task, or ""."""
    adder = name_of(stem_of(MadeFor(status.metadata).adder)) or without_last(name)
    return adder if adder in names else ""


def _alike(names: Iterable[str], adders: Mapping[str, str]) -> dict[str, list[str]]:
    """
    Group tasks whose names differ only in a number, by the name to show.

    Tasks that a loop adds are called `fan/piece`, `fan/piece-2`, and so on, or as its
    program says: `shop/1`. Either one task has added the whole group, or none has.
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for name in names:
        stem = re.sub(r"[-/]?\d+$", "", name) or name
        alike.setdefault((stem, adders[name]), []).append(name)
    shown: dict[str, list[str]] = {}
    for (stem, adder), each in alike.items():
        if len(each) >= _FAN:
            label = f"{stem} …"
            shown[f"{label} ({adder})" if label in shown else label] = each
    return shown


def _fan(run_id: str, name: str, statuses: list[TaskStatus]) -> dict[str, Any]:
    """Return a fan as one row of a run: its most urgent task, with all the others."""
    worst = min(statuses, key=_urgency)
    states = Counter(each.state for each in statuses)
    return {
        **_task(run_id, worst),
        "name": name,
        "state": _status.state_of(states, 0, 0).value,
        "attempts": sum(each.attempts for each in statuses),
        "error": None,
        "spans": [],
    }


def _urgency(status: TaskStatus) -> tuple[int, int, str]:
    """Return the sort key of a call: failed ones first, completed ones last."""
    order = ("failed", "blocked", "retrying", "running", "suspended", "cancelled")
    state = status.state.value
    place = order.index(state) if state in order else len(order)
    # By the length first, so that number 2 comes before 10.
    return place + (state == "completed"), len(status.task_id), status.task_id


def _in_numbers(run_id: str, calls: list[TaskStatus]) -> dict[str, Any]:
    """Return the counts of the calls of a map, and the calls that need attention."""
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
    """Return a task of a run with its attempts; times are seconds since 1970."""
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
    """Return the class of an error and the first line of its message."""
    kind, message = told_of(error)
    return {"type": kind, "message": message.partition("\n")[0][:300]}


def _spans(status: TaskStatus) -> list[list[Any]]:
    """Return the attempts of a task: the begin, the end and the next state of each."""
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


def _day_in(text: str) -> str:
    """
    Return the day that *text* names, as days of runs are written.

    Raises:
        InvalidTaskError: It names none.
    """
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        msg = f"day: a date is needed, not {show(text)}"
        raise InvalidTaskError(msg, hint="such as 2026-11-25") from None
