"""
The runs of an orchestrator or a journal as people look at them, for every front end.

The grid of nights and the list are read from the lines of runs, so they cost the same
whether a journal has ten runs or ten thousand. One run is asked for whole, of the
orchestrator or of what reads its journal.

Decisions: 0213, 0218.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import date
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Protocol

from taskorch.errors import TaskorchError, UnknownTaskError
from taskorch.kit.clock import MonotonicClock
from taskorch.kit.people import caller
from taskorch.kit.visible import said, show
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
from taskorch.reading._runs import RunIndex, RunLine, wanted
from taskorch.workflows._status import state_of

if TYPE_CHECKING:
    from taskorch.reading._reader import JournalReader

_NS: Final = 1_000_000_000
#: Days, or ticks, of the grid; runs of a page of the list.
DAYS: Final = 30
PAGE: Final = 100
#: Failures, questions and slow runs that the first view shows.
_SHOWN: Final = 25
#: Tasks of a run that are told one by one, and calls of one map.
_MOST_TASKS: Final = 2_000
_MOST_CALLS: Final = 100
#: Tasks of one name, after the same ones, from which on they are shown as one.
_FAN: Final = 8
#: Spans of one task that are told, the latest.
_MOST_SPANS: Final = 50
#: Earlier runs of a task, in other runs, that are told.
_EARLIER: Final = 14
#: Seconds after which a tick that has not come is late.
_LATE: Final = 60.0
#: A run is slow that takes so many times as long as it usually does, and this long.
_SLOW: Final = 2.0
_SLOW_SECONDS: Final = 10.0
#: Events of a journal that are read, the latest ones.
READ: Final = 2_000_000


class HasRuns(Protocol):
    """A holder of the lines of runs: the board of a service, or a journal's own."""

    def now(self) -> int:
        """Nanoseconds since 1970."""
        ...

    def runs(self) -> AbstractContextManager[RunIndex]:
        """The lines, which nobody changes within the block."""
        ...

    @property
    def is_reading(self) -> bool:
        """Whether the events of before are still being read."""
        ...


class RunsOfJournal:
    """
    The lines of the runs of a journal, as of its last commit before each question.

    Args:
        reader: What reads it.
    """

    is_reading = False

    def __init__(self, reader: JournalReader) -> None:
        self._reader = reader
        self._lock = Lock()
        self._clock = MonotonicClock()
        self._index = RunIndex()
        self._last = max(0, reader.last - READ)

    def now(self) -> int:
        """Nanoseconds since 1970."""
        return self._clock.now_ns()

    @contextmanager
    def runs(self) -> Iterator[RunIndex]:
        """The lines, which nobody changes within the block."""
        with self._lock:
            for event in self._reader.happened(self._last):
                self._last = event.seq
                self._index.take(event)
            yield self._index


def _sees_all() -> bool:
    """Whether who asks is bound to no tenants."""
    who = caller()
    return who is None or who.tenants is None


def _is_seen(line: RunLine) -> bool:
    """Whether a run is for who asks: none of its tasks is another tenant's."""
    who = caller()
    tenants = line.tenants - {None}
    if who is None or who.tenants is None:
        return True
    return bool(tenants) and tenants <= who.tenants


class RunViews:
    """
    The grid of nights, the list of runs, one run, and those of a task.

    Args:
        orch: Whom they are asked of.
        board: What has the lines of runs.
        live: Whether it is an orchestrator, and not one that reads a journal.
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
        The grid of schedules, and what a person looks at first.

        Args:
            by: A place for each of the latest `days`, or of the latest `ticks`.
            days: How many of them.
            until: The last day; None: today.
        """
        orch, board = self._orch(), self._board()
        now_ns = board.now()
        now = now_ns / _NS
        # What they have made is in the index, and need not be asked of each.
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
            return {
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
                "runs": [line.to_dict(now_ns) for line in newest],
                "is_reading": board.is_reading,
                "lost": index.lost,
            }

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
        A page of the list, the latest run first; `next` leads on.

        Args:
            id: See `wanted`, as for the next two.
            schedule: The same.
            state: The same.
            day: A day in the zone of the schedule of a run; "": any.
            since: Seconds since 1970: not submitted before.
            until: The same: not submitted after; 0: whenever.
            limit: How many runs.
            after: Only those behind this run; "": from the first.

        Returns:
            The page; None: there is no run *after* any more.
        """
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
            total = len(index.lines) if _sees_all() else len(lines)
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
            last_good = good.run_id if good is not None and _is_seen(good) else None
        statuses = self._latest(orch, run_id, line)
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
        # Of those that one task has added, one stands for all.
        added = {
            name: each[0] for each in alike.values() for name in each if adders[name]
        }
        asked = [name for name in loose if added.get(name, name) == name]
        asked = asked[:_MOST_TASKS]
        above = self._above(orch, run_id, {name: names[name] for name in asked})
        fans = {
            fan: each
            for fan, each in alike.items()
            if each[0] in added or len({tuple(above.get(n, ())) for n in each}) == 1
        }
        of_fans = {name: fan for fan, each in fans.items() for name in each}
        single = [name for name in asked if name not in of_fans]

        def parents(name: str) -> list[str]:
            """What a task comes after, fans as one, and what has added it."""
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
        self, orch: Any, run_id: str, statuses: Mapping[str, TaskStatus]
    ) -> Mapping[str, list[str]]:
        """What each of these tasks comes after, within the run."""
        if self._live:
            with suppress(UnknownTaskError):
                run = orch.workflows.get(run_id)
                above = run.dependencies
                return {name: [*above.get(name, ())] for name in statuses}
            return {}
        return {
            name: [name_of(each) for each in orch._above(status.task_id)]
            for name, status in statuses.items()
        }

    # -- one task ------------------------------------------------------------------

    def earlier(self, task_id: str) -> dict[str, Any]:
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
    """A cause as JSON has it: see `GET /failures`."""
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


def _adder(name: str, status: TaskStatus, names: Mapping[str, TaskStatus]) -> str:
    """The task of the run that has added the task of this name; "": none has."""
    adder = name_of(stem_of(MadeFor(status.metadata).adder)) or without_last(name)
    return adder if adder in names else ""


def _alike(names: Iterable[str], adders: Mapping[str, str]) -> dict[str, list[str]]:
    """
    Tasks that are many and have one name, but for a number, by what they are shown as.

    What a loop adds is called `fan/piece`, `fan/piece-2`, and so on, or as its program
    says: `shop/1`. One task has added all of them, or none has.
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
    """A fan as one row of a run: the task that a person looks at first, with all."""
    worst = min(statuses, key=_urgency)
    states = Counter(each.state for each in statuses)
    return {
        **_task(run_id, worst),
        "name": name,
        "state": state_of(states, 0, 0).value,
        "attempts": sum(each.attempts for each in statuses),
        "error": None,
        "spans": [],
    }


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
