"""
The outcome of runs of workflows and of tasks of schedules, folded from events.

An orchestrator is asked for one run at a time. A page that shows months of nights would
ask for thousands, and a journal that nobody has open could not be asked at all. So the
board, which hears every event, keeps a line for each run: its state, its times, who
began it, and its tasks that have not completed. Completed tasks are only counted, so an
ended run takes a few hundred bytes, however large it was.

Decisions: alerts-and-messages, dashboard-and-views.
"""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from itertools import chain, dropwhile, islice
from operator import attrgetter, itemgetter
from statistics import median
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import attrs

from taskorch.core.workflows import _status
from taskorch.errors import UsageError
from taskorch.events import (
    AttemptReturned,
    Event,
    EventsLost,
    ExtensionKept,
    OrchestratorStarted,
    ScheduleFired,
    ScheduleSkipped,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskDue,
    TaskFailed,
    TaskRecalled,
    TaskReleased,
    TaskRenewed,
    TaskResumed,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    TaskSuspended,
    TaskUnblocked,
)
from taskorch.kit.checks import zone_of
from taskorch.kit.plain import GONE, SCHEDULES, VERSIONS
from taskorch.kit.ticks import read_progress, ticks_of
from taskorch.kit.visible import masked
from taskorch.kit.words import outcome
from taskorch.model import FailedRun, FailureCause, MadeFor, TaskState
from taskorch.model.ids import (
    first_of,
    makers_of,
    number_of,
    numbered,
    run_by,
    stem_of,
)

if TYPE_CHECKING:
    from taskorch.core.kernel import TaskRow
    from taskorch.ext.views._reader import JournalReader
    from taskorch.kit.noted import NotedRuns

_S: Final = TaskState
_NS: Final = 1_000_000_000
#: Events of a journal that are read, the latest ones.
READ: Final = 2_000_000
#: Runs, failures, and skipped times of one schedule that are kept.
RUNS: Final = 20_000
BROKEN: Final = 10_000
_SKIPS: Final = 1_000
#: Completed runs of one schedule that give the usual duration.
_USUAL: Final = 20
#: The most characters of an error message that are kept.
_MESSAGE: Final = 300
#: States of one task beside those of `TaskState`: a parent of it has failed; it was
#: cancelled since a parent did not complete.
STUCK: Final = "stuck"
SKIPPED: Final = "skipped"
#: The state of a task that failed, and whose failure is allowed.
ALLOWED: Final = "allowed"
_WAITS: Final = frozenset({_S.PENDING, _S.QUEUED, _S.BLOCKED, STUCK})
_ENDED: Final = frozenset({_S.FAILED, _S.CANCELLED, STUCK, SKIPPED, ALLOWED})
#: Events that end an attempt, if one runs; and the spans of work that are kept of a
#: run.
_ENDS_OF_ATTEMPTS: Final[frozenset[type[Event]]] = frozenset(
    {
        *(TaskCompleted, TaskFailed, TaskRetrying, TaskBlocked, TaskCancelled),
        *(TaskSuspended, AttemptReturned),
    }
)
_SPANS: Final = 64
#: Classes of errors of tasks that failed because others did.
_OF_OTHERS: Final = frozenset({"DependencyFailedError"})
#: Who has begun a run, in words, by the word in its event.
_BEGAN_BY: Final = {
    "": "a program",
    "clock": "its schedule",
    "schedule": "its schedule",
    "trigger": "a person, by hand",
    "backfill": "a backfill",
}
#: States by severity, the worst first, for runs that share a place.
SEVERITY: Final = (
    *("failed", "blocked", "cancelled", "suspended", "running", "pending"),
    *("waiting", "mended", "completed", "skipped"),
)
_RANK: Final = {state: place for place, state in enumerate(SEVERITY)}
#: The state of a task after each of these events.
_STATES: Final[Mapping[type[Event], str]] = {
    TaskStarted: _S.RUNNING,
    TaskFailed: _S.FAILED,
    TaskRetrying: _S.RETRYING,
    TaskSuspended: _S.SUSPENDED,
    TaskResumed: _S.QUEUED,
    TaskUnblocked: _S.QUEUED,
    TaskReleased: _S.QUEUED,
    TaskRecalled: _S.PENDING,
    TaskDue: _S.QUEUED,
    AttemptReturned: _S.QUEUED,
}


class Broken(NamedTuple):
    """
    A failure that no later run of its task has mended.

    Attributes:
        task_id: The task.
        at_ns: When it failed, in ns since 1970.
        error_type: The class of the error.
        message: The message of the error.
        is_own: Whether it failed by itself, and not since another one had failed.
    """

    task_id: str
    at_ns: int
    error_type: str
    message: str
    is_own: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the failure in its JSON form."""
        return {
            "task": self.task_id,
            "at": self.at_ns / _NS,
            "type": self.error_type,
            "message": self.message,
        }

    def as_run(self, *, is_latest: bool = True) -> FailedRun:
        """Return the failed run; before the latest one, it is named by its number."""
        name = self.task_id
        if not is_latest:
            name = numbered(stem_of(name), number_of(name))
        return FailedRun(name, self.error_type, self.message, self.at_ns)

    def __str__(self) -> str:
        text = f"{self.task_id} failed: {self.error_type}: {self.message}"
        return text.removesuffix(": ")


class Standing(NamedTuple):
    """
    The status of a schedule.

    Attributes:
        good: The run of the latest scheduled time whose work completed, or None.
        bad: Later runs with a failure that is not mended, the latest first.
    """

    good: RunLine | None
    bad: tuple[RunLine, ...]

    def __str__(self) -> str:
        if not self.bad:
            return ""
        many = len(self.bad)
        in_a_row = f" ({many:,} in a row)" if many > 1 else ""
        return f"{self.bad[0].error}{in_a_row}"


@attrs.define(eq=False)
class RunLine:
    """
    The outcome of one run of a workflow, or of one task of a schedule.

    Attributes:
        run_id: Its id.
        is_workflow: Whether it is a run of a workflow.
        submitted_ns: When it was submitted, in ns since 1970, as all times here.
        schedule: The schedule that has made it, or "".
        slot_ns: The scheduled time, or 0.
        by: Who began it: `clock`, `trigger`, `backfill`, or "" for a program;
            `schedule`, if nobody knows which of these.
        zone: The zone of its schedule.
        started_ns: When its first attempt began, or 0.
        ended_ns: When its latest task ended; 0 until all have ended.
        total: How many tasks it has; a task that was run again counts once.
        reruns: How many later runs its tasks have had.
        open: The number and the state of the latest run of each task that has not
            completed.
        counts: The number of these tasks in each state.
        held: The earlier state of each suspended task.
        errors: The failures in it that no later run has mended.
        left: Its tasks that are no part of it any more.
        spans: Begin and end of each time of work, in order; the first ones may be
            counted in `worked_ns` already.
        worked_ns: Time of work that `spans` has no more.
        noted: More spans, as JSON, which others may overlap.
        working: The running attempts, and since when the first of them runs.
        is_cut: Whether an incarnation ended while it was at work.
        tenants: The tenants of its tasks; None: a task without a tenant.
        definition: Which definition it has, if that is not the one it began with, and
            how this differs from the one before.
    """

    run_id: str
    is_workflow: bool
    submitted_ns: int
    schedule: str = ""
    slot_ns: int = 0
    by: str = ""
    zone: str = "UTC"
    started_ns: int = 0
    ended_ns: int = 0
    total: int = 0
    reruns: int = 0
    open: dict[str, tuple[int, str]] = attrs.field(factory=dict[str, tuple[int, str]])
    held: dict[str, str] = attrs.field(factory=dict[str, str])
    counts: Counter[str] = attrs.field(factory=Counter[str])
    errors: dict[str, Broken] = attrs.field(factory=dict[str, Broken])
    left: set[str] = attrs.field(factory=set[str])
    spans: list[tuple[int, int]] = attrs.field(factory=list[tuple[int, int]])
    worked_ns: int = 0
    noted: tuple[str, ...] = ()
    working: dict[str, int] = attrs.field(factory=dict[str, int])
    is_cut: bool = False
    tenants: set[str | None] = attrs.field(factory=set[str | None])
    definition: str = ""

    @property
    def state(self) -> str:
        """The state, as that of a workflow; `mended`: completed after a re-run."""
        counts = {TaskState(k): n for k, n in self.counts.items() if k in _BY_VALUE}
        stuck, skipped = self.counts[STUCK], self.counts[SKIPPED]
        counts[_S.BLOCKED] = counts.get(_S.BLOCKED, 0) + stuck
        counts[_S.CANCELLED] = counts.get(_S.CANCELLED, 0) + skipped
        state = _status.state_of(counts, stuck, skipped * (skipped < self.total)).value
        return "mended" if state == "completed" and self.reruns else state

    @property
    def allowed(self) -> int:
        """The number of its tasks whose failure is allowed."""
        return self.counts[ALLOWED]

    @property
    def completed(self) -> int:
        """The number of its completed tasks."""
        return self.total - len(self.open)

    def put(self, stem: str, number: int, state: str) -> None:
        """Put the latest run of a task, *number*, into a state."""
        before = self.open.get(stem)
        if before is not None:
            self.counts[before[1]] -= 1
        self.open[stem] = number, state
        self.counts[state] += 1

    def complete(self, stem: str) -> None:
        """Note that a task has completed."""
        before = self.open.pop(stem, None)
        self.errors.pop(stem, None)
        if before is not None:
            self.counts[before[1]] -= 1

    @property
    def error(self) -> Broken | None:
        """
        The latest open failure in it that no other one caused; or else any.

        If no task has failed, it is the first blocked one of a run that cannot go on.
        """
        own = (each for each in reversed(self.errors.values()) if each.is_own)
        error = next(own, next(iter(self.errors.values()), None))
        # A run in which a task was cancelled, and none failed, is cancelled.
        if error is None and self.counts[STUCK] and not self.counts[_S.CANCELLED]:
            task_id = next(filter(self.has_failed, self.open))
            text = "it is blocked: what it needs did not complete"
            at_ns = self.ended_ns or self.submitted_ns
            error = Broken(task_id, at_ns, "DependencyFailedError", text, is_own=False)
        return error

    def has_failed(self, stem: str) -> bool:
        """Return whether a task has failed, or is blocked by one that did."""
        return stem in self.errors or self.open.get(stem, (0, ""))[1] == STUCK

    def begin(self, task_id: str, at_ns: int) -> None:
        """Note that an attempt begins."""
        self.working.setdefault(task_id, at_ns)
        if not 0 < self.started_ns <= at_ns:
            self.started_ns = at_ns

    def end(self, task_id: str, at_ns: int) -> None:
        """Note that an attempt ends; the run is at work while another one runs."""
        start = self.working.pop(task_id, None)
        if start is not None:
            self.work(start, at_ns)

    def work(self, start_ns: int, end_ns: int) -> None:
        """Add a time of work; overlapping ones count once."""
        spans = self.spans
        if self.noted:
            spans.append((start_ns, end_ns))
            return
        first = bisect_left(spans, (start_ns, 0))
        if first and spans[first - 1][1] >= start_ns:
            first -= 1
        last = first
        while last < len(spans) and spans[last][0] <= end_ns:
            start_ns = min(start_ns, spans[last][0])
            end_ns = max(end_ns, spans[last][1])
            last += 1
        spans[first:last] = [(start_ns, end_ns)]

    def forget_spans(self) -> None:
        """Count the spans before all running attempts, and drop them."""
        since = min(self.working.values(), default=self.spans[-1][0])
        while self.spans and self.spans[0][1] < since:
            start, end = self.spans.pop(0)
            self.worked_ns += end - start

    def is_over(self) -> bool:
        """Return whether nothing of it can go on, even if somebody decides."""
        return all(state in _ENDED or not n for state, n in self.counts.items())

    def seconds(self, now_ns: int) -> float | None:
        """Return the seconds at work until *now_ns*; None: it never began."""
        if not self.started_ns:
            return None
        worked, reached = self.worked_ns, 0
        noted = (each for text in self.noted for each in json.loads(text))
        working = ((start, now_ns) for start in self.working.values())
        for start, end in sorted([*self.spans, *map(tuple, noted), *working]):
            worked += max(0, end - max(start, reached))
            reached = max(reached, end)
        return worked / _NS

    def to_dict(self, now_ns: int) -> dict[str, Any]:
        """Return the line in its JSON form; times are seconds since 1970."""
        error = self.error
        return {
            "id": self.run_id,
            "workflow": self.is_workflow,
            "schedule": self.schedule,
            "slot": self.slot_ns / _NS if self.slot_ns else None,
            "by": self.by,
            "began_by": _BEGAN_BY.get(self.by, self.by),
            "zone": self.zone,
            "state": self.state,
            "submitted": self.submitted_ns / _NS,
            "started": self.started_ns / _NS if self.started_ns else None,
            "ended": self.ended_ns / _NS if self.ended_ns else None,
            "seconds": self.seconds(now_ns),
            "total": self.total,
            "completed": self.completed,
            "failed": self.counts[_S.FAILED],
            "allowed": self.allowed,
            "outcome": outcome(self.state, self.allowed),
            "stuck": self.counts[STUCK],
            "reruns": self.reruns,
            "definition": self.definition,
            "error": None if error is None else error.to_dict(),
        }


_BY_VALUE: Final = frozenset(state.value for state in TaskState)


class Skip(NamedTuple):
    """The skipped times of a schedule: the last of them, how many, and why."""

    slot_ns: int
    many: int
    reason: str


@attrs.define(eq=False)
class ScheduleLine:
    """The runs of a schedule, in the order of their scheduled times."""

    runs: list[RunLine] = attrs.field(factory=list[RunLine])
    skips: deque[Skip] = attrs.field(factory=lambda: deque[Skip](maxlen=_SKIPS))
    waiting: dict[int, None] = attrs.field(factory=dict[int, None])
    zone: str = "UTC"
    is_removed: bool = False

    def usual(self) -> float | None:
        """
        Return the median seconds of its latest good runs; None: there is none.

        Runs that were mended, or cut off by the end of an incarnation, are left out, as
        they did some work twice.
        """
        runs = (r for r in reversed(self.runs) if not r.is_cut)
        good = (r for r in runs if r.state == "completed")
        took = [s for r in islice(good, _USUAL) if (s := r.seconds(0)) is not None]
        return median(took) if took else None


class RunIndex:
    """
    The lines of all runs, by their ids, in the order in which they were submitted.

    It has no lock: the caller must hold one.
    """

    def __init__(self) -> None:
        self.lines: OrderedDict[str, RunLine] = OrderedDict()
        self.schedules: dict[str, ScheduleLine] = {}
        #: The latest failure of each task that no later run has mended, by the id
        #: without a number; the latest last.
        self.broken: OrderedDict[str, Broken] = OrderedDict()
        #: The failures of these tasks before the latest.
        self._earlier: dict[str, list[Broken]] = {}
        #: The failures by cause; None: to be computed again.
        self._causes: tuple[FailureCause, ...] | None = None
        #: The number of events that were lost.
        self.lost = 0
        #: The runs of tasks whose ids do not say it.
        self._elsewhere: dict[str, str] = {}
        #: The runs that are at work, and the time of the latest event.
        self._at_work: dict[str, RunLine] = {}
        self._latest_ns = 0
        self._folds: Mapping[type[Event], Callable[[Any], None]] = {
            TaskSubmitted: self._submitted,
            TaskCompleted: self._completed,
            TaskBlocked: self._blocked,
            TaskCancelled: self._cancelled,
            TaskRenewed: self._renewed,
            OrchestratorStarted: self._began,
            ScheduleFired: self._fired,
            ScheduleSkipped: self._was_skipped,
            ExtensionKept: self._kept,
            EventsLost: self._were_lost,
            **dict.fromkeys(_STATES, self._moved),
        }

    @property
    def unmended(self) -> int:
        """The number of failed runs of tasks that no later run has mended."""
        return len(self.broken) + sum(map(len, self._earlier.values()))

    @property
    def causes(self) -> tuple[FailureCause, ...]:
        """
        Open failures that no other one caused, by cause; the commonest first.

        The latest failures of tasks come before those of their earlier runs.
        """
        if self._causes is None:
            own = [each.as_run() for each in self.broken.values() if each.is_own]
            before = chain.from_iterable(self._earlier.values())
            own += [each.as_run(is_latest=False) for each in before if each.is_own]
            self._causes = FailureCause.of(own)
        return self._causes

    def mend(self, stem: str) -> None:
        """Remove the failures of a task that has completed."""
        if self.broken.pop(stem, None) is not None:
            self._causes = None
        self._earlier.pop(stem, None)

    # -- folding -------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Fold *event* in."""
        fold = self._folds.get(type(event))
        if type(event) in _ENDS_OF_ATTEMPTS:
            self._end_attempt(event)
        if fold is not None:
            fold(event)
        self._latest_ns = max(self._latest_ns, event.at_ns)

    def _began(self, event: OrchestratorStarted) -> None:
        """End the attempts of an earlier incarnation."""
        del event
        for line in self._at_work.values():
            line.is_cut = True
            for task_id in list(line.working):
                line.end(task_id, self._latest_ns)
        self._at_work.clear()

    def _end_attempt(self, event: Any) -> None:
        line = self._line_of(event.task_id)
        is_stopped = type(event) is TaskSuspended and event.held
        if line is None or event.task_id not in line.working or is_stopped:
            return
        line.end(event.task_id, event.at_ns)
        if len(line.spans) > _SPANS and not line.noted:
            line.forget_spans()
        if not line.working:
            self._at_work.pop(line.run_id, None)

    def enter(
        self, task_id: str, run_id: str, state: str, at: tuple[int, int, int]
    ) -> RunLine | None:
        """
        Enter a task in its present state, as its events are gone.

        Args:
            task_id: Its id.
            run_id: The run that it is of, or "".
            state: Its state.
            at: When it was submitted, when its latest attempt began, and when it ended.
        """
        submitted_ns, started_ns, ended_ns = at
        if state == _S.COMPLETED:
            self.mend(stem_of(task_id))
        line = self._line_for(task_id, run_id, submitted_ns)
        if line is None:
            return None
        self._submit(line, task_id, state)
        if state == _S.COMPLETED:
            line.complete(stem_of(task_id))
        if started_ns:
            line.begin(task_id, started_ns)
        if ended_ns:
            line.end(task_id, ended_ns)
        elif state != _S.RUNNING:
            # The end of an attempt before the latest one is not known here.
            line.working.pop(task_id, None)
        elif line.working:
            self._at_work[line.run_id] = line
        line.ended_ns = max(line.ended_ns, ended_ns) if line.is_over() else 0
        return line

    def enter_rows(self, rows: Iterable[TaskRow], left: Collection[str]) -> None:
        """
        Enter the tasks in memory; failures in the order in which they came.

        Those that are *left* out, by ids without numbers, are no part of their runs.
        """
        failed: list[TaskRow] = []
        #: The number of the latest run of each task that has completed.
        completed: dict[str, int] = {}
        for row in rows:
            state = _state_of(row)
            if state == _S.FAILED:
                failed.append(row)
            elif state == _S.COMPLETED:
                completed[stem_of(row.id)] = number_of(row.id)
            times = row.submitted_ns, row.started_ns, row.ended_ns
            task = row.cargo._task
            made_for = MadeFor(None if task is None else task.metadata)
            # Earlier versions wrote that a task of a schedule is of a run with the name
            # of the schedule.
            run = "" if row.run == made_for.schedule else row.run
            line = self.enter(row.id, run, state, times)
            if line is None:
                continue
            line.tenants.add(row.bucket.spec.owner)
            if made_for.schedule and made_for.slot and not line.schedule:
                slot_ns = int(made_for.slot.timestamp()) * _NS
                self.assign(line, made_for.schedule, slot_ns, "schedule")
            is_gone = row.extra is not None and row.extra.stop_reason == GONE
            if is_gone or stem_of(row.id) in left:
                completed[stem_of(row.id)] = number_of(row.id) + 1
                self._leave_out(line, stem_of(row.id))
        for row in sorted(failed, key=attrgetter("ended_ns")):
            if number_of(row.id) >= completed.get(stem_of(row.id), 0):
                extra = row.extra
                error = extra.error[:2] if extra and extra.error else ("", "")
                is_own = extra is None or not extra.first_roots
                self.fail(row.id, row.ended_ns, error, is_own=is_own)

    @staticmethod
    def has_completed(rows: Iterable[TaskRow]) -> bool:
        """Return whether *rows*, all tasks of a tick, say that it completed."""
        states = {*map(_state_of, rows)}
        return _S.COMPLETED in states and states <= {_S.COMPLETED, ALLOWED, SKIPPED}

    def begin(self, reader: JournalReader) -> int:
        """Restore the noted runs; return the number of the event to go on from."""
        first = max(0, reader.last - READ)
        noted = reader._journal.noted_runs(RUNS)
        if noted is None or noted.last < first:
            return first
        self.restore(noted)
        return noted.last

    def restore(self, noted: NotedRuns) -> None:
        """Restore the state from the note in a journal."""
        firsts = self._enter_lines(noted)
        ended = {run_id: line.ended_ns for run_id, line in self.lines.items()}
        in_order: list[tuple[int, Any]] = [
            (event.seq, event) for event, _ in noted.entries
        ]
        in_order += ((row[0], row) for row in noted.made)
        in_order.sort(key=itemgetter(0))
        for seq, each in in_order:
            if isinstance(each, Event):
                self._tell(each, noted.before, firsts)
                continue
            _, task_id, schedule, slot_ns, by = each
            first, line = firsts.get(stem_of(task_id), (seq, None))
            if line is not None and first < seq and not line.schedule:
                self.assign(line, schedule, slot_ns, by)
        self._latest_ns = noted.at_ns
        for line in self.lines.values():
            if line.ended_ns:
                line.ended_ns = max(line.ended_ns, ended.get(line.run_id, 0))

    def _tell(
        self,
        event: Event,
        before: Mapping[int, int],
        firsts: Mapping[str, tuple[int, RunLine]],
    ) -> None:
        """Fold an event, the first after some that are only in the note."""
        self._latest_ns = before.get(event.seq, self._latest_ns)
        is_early = (
            isinstance(event, ExtensionKept)
            and event.extension == VERSIONS
            and event.seq < firsts.get(event.key, (event.seq,))[0]
        )
        if not is_early:
            self.take(event)

    def _enter_lines(self, noted: NotedRuns) -> dict[str, tuple[int, RunLine]]:
        """Enter the lines of the note, at the first submission of each run."""
        firsts: dict[str, tuple[int, RunLine]] = {}
        tenants: dict[str, list[str | None]] = {}
        for row in noted.lines:
            first, line = firsts.get(row.run) or (
                row.first,
                RunLine(row.run, bool(row.is_workflow), row.submitted_ns),
            )
            firsts[row.run] = min(first, row.first), line
            line.submitted_ns = min(line.submitted_ns, row.submitted_ns)
            line.ended_ns = max(line.ended_ns, row.ended_ns)
            line.total += row.total
            if row.owners not in tenants:
                tenants[row.owners] = json.loads(row.owners)
            line.tenants.update(tenants[row.owners])
            if row.started_ns is not None:
                line.started_ns = min(line.started_ns or row.started_ns, row.started_ns)
            if row.spans is None:
                line.worked_ns += row.worked_ns or 0
            else:
                line.noted += (row.spans,)
        for event, _ in noted.entries:
            if type(event) is TaskSubmitted:
                key = self._key_of(event.task_id, run_by(event.task_id, event.run))
                line = RunLine(key, key != stem_of(event.task_id), event.at_ns)
                first, line = firsts.get(key, (event.seq, line))
                if key and event.seq <= first:
                    line.submitted_ns = event.at_ns
                    firsts[key] = event.seq, line
        in_order = sorted(firsts.items(), key=lambda item: item[1][0])
        self.lines.update((run_id, line) for run_id, (_, line) in in_order)
        return firsts

    @staticmethod
    def _key_of(task_id: str, run_id: str) -> str:
        """Return the key of the line that a task is counted in, or ""."""
        stem = stem_of(task_id)
        is_made = not run_id and any(task == stem for _, _, task in makers_of(stem))
        return stem if is_made else run_id

    def _line_for(self, task_id: str, run_id: str, at_ns: int) -> RunLine | None:
        """Return the line of a new task; None: it is of no run or schedule."""
        stem = stem_of(task_id)
        key = self._key_of(task_id, run_id)
        if not key:
            return None
        if run_id and first_of(stem) != run_id:
            self._elsewhere[stem] = run_id
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = RunLine(key, bool(run_id), at_ns)
            if len(self.lines) > RUNS:
                self._forget()
        return line

    def _submit(self, line: RunLine, task_id: str, state: str) -> None:
        stem, number = stem_of(task_id), number_of(task_id)
        before = line.open.get(stem)
        if number > 1:
            line.reruns += 1
        if before is None and (number == 1 or stem in line.left):
            line.total += 1
            line.left.discard(stem)
        if before is None or before[0] <= number:
            line.put(stem, number, state)

    def _forget(self) -> None:
        """Remove the line of the oldest run that is over."""
        old = next((r for r in islice(self.lines.values(), 100) if r.ended_ns), None)
        line = next(iter(self.lines.values())) if old is None else old
        del self.lines[line.run_id]
        if line.schedule:
            runs = self.schedules[line.schedule].runs
            runs[:] = [each for each in runs if each is not line]

    def _line_of(self, task_id: str) -> RunLine | None:
        """Return the line of a submitted task, or None."""
        stem = stem_of(task_id)
        line = self.lines.get(self._elsewhere.get(stem) or first_of(stem))
        if line is None or stem not in line.open:
            line = self.lines.get(stem)
        return line if line is not None and stem in line.open else None

    def _submitted(self, event: TaskSubmitted) -> None:
        run_id = run_by(event.task_id, event.run)
        line = self._line_for(event.task_id, run_id, event.at_ns)
        if line is not None:
            state = _S.PENDING if event.after or event.wait else _S.QUEUED
            self._submit(line, event.task_id, state)
            line.tenants.add(event.owner)
            line.ended_ns = 0

    def _completed(self, event: TaskCompleted) -> None:
        stem = stem_of(event.task_id)
        self.mend(stem)
        line = self._line_of(event.task_id)
        if line is not None and line.open[stem][0] <= number_of(event.task_id):
            line.complete(stem)
            self._note_end(line, event.at_ns)

    def _moved(self, event: Any) -> None:
        is_allowed = type(event) is TaskFailed and event.allowed
        if type(event) is TaskFailed and not is_allowed:
            self._failed(event)
        line = self._line_of(event.task_id)
        if line is None:
            return
        state = ALLOWED if is_allowed else _STATES[type(event)]
        stem = stem_of(event.task_id)
        if type(event) is TaskStarted:
            line.begin(event.task_id, event.at_ns)
            self._at_work[line.run_id] = line
        if type(event) is TaskUnblocked and STUCK in (
            line.held.get(stem),
            line.open[stem][1],
        ):
            # The task that blocked it runs again.
            state = _S.PENDING
        if type(event) is TaskSuspended:
            line.held[stem] = line.open[stem][1]
        elif type(event) is TaskResumed:
            # The task returns to its state before: blocked, or waiting.
            before = line.held.pop(stem, _S.QUEUED)
            was_idle = before in (_S.BLOCKED, STUCK, _S.PENDING)
            state = _S.RUNNING if event.held else before if was_idle else _S.QUEUED
        self._put(line, event, state)

    def _blocked(self, event: TaskBlocked) -> None:
        line = self._line_of(event.task_id)
        if line is not None:
            self._put(line, event, STUCK if event.blocked_by else _S.BLOCKED)

    def _cancelled(self, event: TaskCancelled) -> None:
        line = self._line_of(event.task_id)
        if event.reason == GONE:
            self._leave_out(line, stem_of(event.task_id))
        elif line is not None:
            is_skipped = event.reason.startswith(SKIPPED)
            self._put(line, event, SKIPPED if is_skipped else _S.CANCELLED)
        if line is not None:
            self._note_end(line, event.at_ns)

    def _renewed(self, event: TaskRenewed) -> None:
        # The task has completed, and is open no more.
        stem = stem_of(event.task_id)
        line = self.lines.get(self._elsewhere.get(stem) or first_of(stem))
        for stem in event.left:
            self._leave_out(line, stem)
        if event.left and line is not None:
            self._note_end(line, event.at_ns)

    def _leave_out(self, line: RunLine | None, stem: str) -> None:
        """Note that a task is no part of its run any more."""
        self.mend(stem)
        if line is not None and stem not in line.left:
            line.left.add(stem)
            line.complete(stem)
            line.total -= 1

    def _put(self, line: RunLine, event: Any, state: str) -> None:
        stem, number = stem_of(event.task_id), number_of(event.task_id)
        latest, before = line.open[stem]
        if latest > number:
            return
        if before == _S.SUSPENDED and stem in line.held and state in _WAITS:
            # The dependencies of a suspended task change: it stays suspended.
            line.held[stem] = state
            return
        line.put(stem, number, state)
        self._note_end(line, event.at_ns)

    def _note_end(self, line: RunLine, at_ns: int) -> None:
        line.ended_ns = at_ns if line.is_over() else 0

    def _failed(self, event: TaskFailed) -> None:
        error = event.error_type, event.message
        self.fail(event.task_id, event.at_ns, error, is_own=not event.root_causes)

    def fail(
        self, task_id: str, at_ns: int, error: tuple[str, str], *, is_own: bool
    ) -> None:
        """Note the failure of a task, with the type and the message of its *error*."""
        stem, message = stem_of(task_id), masked(error[1][:_MESSAGE])
        is_own = is_own and error[0] not in _OF_OTHERS
        broken = Broken(task_id, at_ns, error[0], message, is_own)
        self._causes = None
        before = self.broken.pop(stem, None)
        if before is not None and before.task_id != task_id:
            self._earlier.setdefault(stem, []).append(before)
        self.broken[stem] = broken
        if len(self.broken) > BROKEN:
            oldest, _ = self.broken.popitem(last=False)
            self._earlier.pop(oldest, None)
        line = self._line_of(task_id)
        if line is not None:
            line.errors.pop(stem, None)
            line.errors[stem] = broken

    def latest_failure(self, stems: Iterable[str]) -> str:
        """Return the latest open failure of these tasks that no other one caused."""
        some = [self.broken[stem] for stem in stems if stem in self.broken]
        return str(max(some, key=lambda each: (each.is_own, each.at_ns), default=""))

    def note_failure(
        self, task_id: str, at_ns: int, error: tuple[str, str], *, is_own: bool
    ) -> None:
        """Note a failure whose event was taken already, is to come, or is lost."""
        stem = stem_of(task_id)
        line = self.lines.get(self._elsewhere.get(stem) or first_of(stem))
        line = self.lines.get(stem) if line is None else line
        broken = self.broken.get(stem)
        is_over = line is not None and stem not in line.open
        if not is_over and (broken is None or broken.at_ns < at_ns):
            self.fail(task_id, at_ns, error, is_own=is_own)

    def _fired(self, event: ScheduleFired) -> None:
        line = self.lines.get(stem_of(event.task_id))
        if line is not None and not line.schedule:
            self.assign(line, event.name, event.slot_ns, event.by)

    def assign(self, line: RunLine, schedule: str, slot_ns: int, by: str) -> None:
        """Assign *line* to a schedule."""
        of_schedule = self._schedule(schedule)
        line.schedule, line.slot_ns, line.by = schedule, slot_ns, by
        line.zone = of_schedule.zone
        insort(of_schedule.runs, line, key=attrgetter("slot_ns"))

    def _was_skipped(self, event: ScheduleSkipped) -> None:
        skip = Skip(event.slot_ns, event.slots, event.reason)
        self._schedule(event.name).skips.append(skip)

    def _kept(self, event: ExtensionKept) -> None:
        if event.extension == SCHEDULES:
            self.declare(event.key, event.document)
        line = self.lines.get(event.key)
        if event.extension == VERSIONS and line is not None:
            # Documents of other extensions are ignored.
            with suppress(AttributeError, LookupError, TypeError, ValueError):
                *_, how, text = json.loads(event.document)["versions"][-1]
                words = how.replace("_", " ")
                line.definition = f"{words}: {text}" if text else words

    def declare(self, key: str, document: str) -> None:
        """Take a document of schedules: a schedule, or its waiting times."""
        name = first_of(key)
        # Runs of workflows have events of their own.
        with suppress(AttributeError, TypeError, ValueError, UsageError):
            if key == name:
                self._schedule(name).is_removed = not document
                zone = json.loads(document).get("zone", "UTC")
                zone_of(zone)
                self._schedule(name).zone = zone
            elif key == ticks_of(name):
                waiting = read_progress(document).waiting if document else {}
                self._schedule(name).waiting = waiting

    def _were_lost(self, event: EventsLost) -> None:
        if "Board" in event.receiver:
            self.lost += event.lost

    def _schedule(self, name: str) -> ScheduleLine:
        line = self.schedules.get(name)
        if line is None:
            line = self.schedules[name] = ScheduleLine()
        return line

    # -- asking --------------------------------------------------------------------

    def newest(
        self, wanted: Callable[[RunLine], bool], after: str = ""
    ) -> Iterator[RunLine]:
        """
        Yield the *wanted* runs, the one that was submitted last first.

        With *after*, only those behind that run are returned, whether it is wanted or
        not.
        """
        lines = reversed(self.lines.values())
        if after:
            lines = islice(dropwhile(lambda line: line.run_id != after, lines), 1, None)
        return filter(wanted, lines)

    def day_of(self, line: RunLine) -> str:
        """Return the day of a run, in the zone of its schedule."""
        schedule = self.schedules.get(line.schedule)
        zone = ZoneInfo("UTC" if schedule is None else schedule.zone)
        return _day(line.slot_ns or line.submitted_ns, zone).isoformat()

    def alike(self, run_id: str) -> Iterator[RunLine]:
        """
        Return the other runs of the same schedule, the latest scheduled time first.

        For a run of no schedule, these are the runs whose ids begin alike, up to a
        number or a date at the end.
        """
        line = self.lines.get(run_id)
        if line is not None and line.schedule:
            runs: Iterable[RunLine] = reversed(self.schedules[line.schedule].runs)
        else:
            stem = run_id.rstrip("0123456789-_.TZ")
            runs = self.newest(lambda each: each.run_id.startswith(stem))
            runs = (each for each in runs if not each.schedule)
        return (each for each in runs if each.run_id != run_id)

    def last_good(self, run_id: str) -> RunLine | None:
        """Return the latest completed run like this one, and before it."""
        line = self.lines.get(run_id)
        before = line and (line.slot_ns or line.submitted_ns)
        for each in self.alike(run_id):
            if before and (each.slot_ns or each.submitted_ns) > before:
                continue
            if each.state in ("completed", "mended"):
                return each
        return None

    def latest(self, name: str) -> RunLine | None:
        """Return the last run of the latest scheduled time of a schedule."""
        schedule = self.schedules.get(name)
        return schedule.runs[-1] if schedule is not None and schedule.runs else None

    def standing(self, name: str) -> Standing:
        """
        Return the status of a schedule, which is well if nothing is bad.

        Runs that go on or were cancelled are passed over for the runs before them. A
        removed schedule has no status.
        """
        schedule = self.schedules.get(name)
        bad: list[RunLine] = []
        if schedule is None or schedule.is_removed:
            return Standing(None, ())
        for line in reversed(schedule.runs):
            if line.error is not None:
                bad.append(line)
            elif line.state in ("completed", "mended"):
                return Standing(line, tuple(bad))
        return Standing(None, tuple(bad))

    def failures_before(self, good: RunLine) -> int:
        """Return how many runs of a schedule failed in a row before one completed."""
        count, runs = 0, reversed(self.schedules[good.schedule].runs)
        for line in dropwhile(lambda line: line is not good, runs):
            if line is good:
                count += line.state == "mended"
            elif line.error is not None:
                count += 1
            elif line.state in ("completed", "mended"):
                break
        return count

    def nights(
        self, name: str, days: int, until: date | None, now_ns: int
    ) -> Iterator[dict[str, Any]]:
        """
        Return the work of a schedule on each of some days, the latest first.

        Args:
            name: The schedule, in whose zone the days are.
            days: How many days.
            until: The last of them; None: today.
            now_ns: The time.
        """
        schedule = self.schedules.get(name)
        if schedule is None:
            return
        zone = ZoneInfo(schedule.zone)
        last = _day(now_ns, zone) if until is None else until
        first = last - timedelta(days=days - 1)
        ticks: dict[date, list[RunLine | Skip | int]] = {}
        # The latest first, so that the months before are not looked at.
        for line in reversed(schedule.runs):
            day = _day(line.slot_ns, zone)
            if day < first:
                break
            ticks.setdefault(day, []).append(line)
        for skip in schedule.skips:
            ticks.setdefault(_day(skip.slot_ns, zone), []).append(skip)
        for slot_ns in schedule.waiting:
            ticks.setdefault(_day(slot_ns, zone), []).append(slot_ns)
        for day in sorted(ticks, reverse=True):
            if first <= day <= last:
                yield _cell(day.isoformat(), ticks[day], now_ns)

    def ticks(self, name: str, most: int, now_ns: int) -> Iterator[dict[str, Any]]:
        """Return the work for each of the latest scheduled times, the latest first."""
        schedule = self.schedules.get(name)
        if schedule is None:
            return
        ticks: list[tuple[int, RunLine | Skip | int]] = [
            (line.slot_ns, line) for line in islice(reversed(schedule.runs), most)
        ]
        ticks += [(skip.slot_ns, skip) for skip in schedule.skips]
        ticks += [(slot_ns, slot_ns) for slot_ns in schedule.waiting]
        ticks.sort(key=lambda tick: tick[0], reverse=True)
        for slot_ns, tick in ticks[:most]:
            yield _cell(slot_ns / _NS, [tick], now_ns)


def _cell(
    key: str | float, ticks: list[RunLine | Skip | int], now_ns: int
) -> dict[str, Any]:
    """Return one place of the grid: the worst of its runs."""
    states = Counter[str]()
    shown: RunLine | None = None
    reason = ""
    for tick in ticks:
        if isinstance(tick, Skip):
            states["skipped"] += tick.many
            reason = tick.reason
        elif isinstance(tick, int):
            states["waiting"] += 1
        else:
            states[tick.state] += 1
            if shown is None or _RANK[tick.state] < _RANK[shown.state]:
                shown = tick
    return {
        "at": key,
        "state": min(states, key=_RANK.__getitem__),
        "states": states,
        "run": None if shown is None else shown.to_dict(now_ns),
        "reason": reason,
    }


def _state_of(row: TaskRow) -> str:
    """Return the state of a task in memory, as the events of it would say it."""
    extra = row.extra
    reason = "" if extra is None else extra.stop_reason
    if row.state is _S.BLOCKED and extra and extra.blocked_by:
        return STUCK
    if row.state is _S.CANCELLED and reason.startswith(SKIPPED):
        return SKIPPED
    if row.state is _S.FAILED and row.bucket.spec.allow_failure:
        return ALLOWED
    return str(row.state)


def _day(ns: int, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(ns / _NS, zone).date()


def wanted(
    ids: str, schedule: str, state: str, since_ns: int, until_ns: int
) -> Callable[[RunLine], bool]:
    """
    Return a filter of runs; empty conditions are left out.

    Args:
        ids: A pattern of their ids.
        schedule: The schedule that has made them.
        state: Their state; `open` means all that have not ended, `broken` those that
            failed, were cancelled or are blocked.
        since_ns: The earliest scheduled time, or time of submission without one.
        until_ns: The latest one.
    """
    asked: list[Callable[[RunLine], bool]] = []
    if ids:
        asked.append(lambda line: fnmatchcase(line.run_id, ids))
    if schedule:
        asked.append(lambda line: line.schedule == schedule)
    if since_ns:
        asked.append(lambda line: _at(line) >= since_ns)
    if until_ns:
        asked.append(lambda line: _at(line) <= until_ns)
    if state:
        asked.append(lambda line: line.state == state or _is(line, state))
    return lambda line: all(accepts(line) for accepts in asked)


def _at(line: RunLine) -> int:
    """Return the scheduled time of a run, or that of its submission."""
    return line.slot_ns or line.submitted_ns


def _is(line: RunLine, state: str) -> bool:
    if state == "open":
        return not line.ended_ns
    return state == "broken" and line.state in ("failed", "cancelled", "blocked")
