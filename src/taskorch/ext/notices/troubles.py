"""
Reports to people by default: each trouble once, and that it is over.

A trouble is a schedule, a run or a task that has failed, waits for a person or did not
happen. It is a line of the log, a part of the health, and a message to each receiver of
`TaskOrchestrator.notify`. Troubles are read from the tasks as an orchestrator starts,
so a message that a crash has prevented is sent by the next incarnation.

Decision: alerts-and-messages.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain, islice
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from taskorch.core.engine import error_to_tell, schedule_of
from taskorch.core.kernel import DENIED, moves_of
from taskorch.errors import (
    DependencyFailedError,
    JournalError,
    NotRunningError,
)
from taskorch.events import (
    AlertCleared,
    AlertRaised,
    BudgetChanged,
    BudgetLow,
    ComponentFailed,
    Event,
    ExtensionKept,
    PolicyViolated,
    ScheduleFired,
    ScheduleSkipped,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskRenewed,
    TaskResumed,
    TaskSubmitted,
    TaskSuspended,
    TaskUnblocked,
    signal_name,
)
from taskorch.ext.notices.causes import telling_of
from taskorch.ext.questions import failure_of
from taskorch.ext.views._runs import RunIndex
from taskorch.kit.fence import log_of
from taskorch.kit.interrupts import begin_thread
from taskorch.kit.limits import NS
from taskorch.kit.plain import GONE, SCHEDULES
from taskorch.kit.visible import counted, visible
from taskorch.kit.words import outcome, some, stamp
from taskorch.model import TERMINAL, FailureCause, HealthCheck, TaskState
from taskorch.model.ids import (
    beginnings_of_ticks,
    has_number,
    has_segments,
    next_id,
    number_of,
    stem_of,
)

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime
    from taskorch.core.kernel import BudgetRow, TaskRow
    from taskorch.ext.notices.notifying import Notifier
    from taskorch.protocols import DurableJournal

_LOG: Final = log_of("taskorch.schedules")
_BLOCKED_LOG: Final = log_of("taskorch.blocked")
_PARTS_LOG: Final = log_of("taskorch.parts")
_ALERTS_LOG: Final = log_of("taskorch.alerts")
_GOVERNANCE_LOG: Final = log_of("taskorch.governance")

Kind: TypeAlias = Literal["schedule", "run", "task"]
#: The name of an error, and its message without parts that differ by task.
Cause: TypeAlias = tuple[str, str]

#: By schedule, tasks of its latest ticks: those that had left memory, and the ids of
#: those that were there, and may have left it since.
_Past: TypeAlias = "dict[str, tuple[list[TaskRow], list[str]]]"
#: Of one tick: the tasks that are in memory, and those that have left it.
_Tick: TypeAlias = "tuple[list[TaskRow], list[TaskRow]]"

#: Seconds for which a failure counts that nothing mends, and until a cause of its kind
#: is reported again.
AGE: Final = 86_400.0
#: Seconds until ticks that are skipped for one reason are reported again.
_AGAIN: Final = 3_600.0
#: Seconds between two records of one part that fails.
_PAUSE: Final = 10.0
#: The name of the error of tasks that others block.
_BLOCKED: Final = DependencyFailedError.__name__
#: The most troubles that are kept.
_MOST: Final = 10_000
#: The most troubles that a line of the health names.
_NAMED: Final = 5
#: The latest ticks of a schedule that are read, if memory does not have them.
_READ: Final = 200
#: The most ids of their tasks that are read at once, unless one tick has more.
_MOST_READ: Final = 1_000
#: The beginnings of reasons of ticks that a person wanted to skip.
_WANTED: Final = ("it was paused", "its times were changed", "the schedule was removed")
#: Causes of blocked tasks that are mended for all of a reason at once.
_ALIKE: Final = frozenset({DENIED, "gone"})
#: Severities in alerts, by those of violated policies.
_BADNESS: Final = {"critical": "critical"}


@attrs.define(eq=False)
class Trouble:
    """
    A schedule, a run or a task in trouble, as it was reported.

    Attributes:
        kind: Which of these it is.
        name: The schedule, the run or the task.
        task_id: The first task that failed so.
        since_ns: When that was.
        slot_ns: Of a schedule, the latest tick whose run failed.
        count: How many failed: of a schedule, runs in a row.
        tasks: The tasks that failed.
        messages: The messages about it, by their causes.
        told: The tasks that these name, by their runs.
    """

    kind: Kind
    name: str
    task_id: str
    since_ns: int
    slot_ns: int = 0
    count: int = 0
    tasks: set[str] = attrs.field(factory=set[str])
    messages: dict[Cause, dict[str, Any]] = attrs.field(
        factory=dict[Cause, dict[str, Any]]
    )
    told: dict[str, str] = attrs.field(factory=dict[str, str])


class Troubles:
    """
    The schedules, runs and tasks in trouble, by the lines of runs.

    It decides what is new: each cause is, once for each subject; so is the end of a
    trouble. Any thread may ask.
    """

    def __init__(self) -> None:
        #: It has all events of runs of schedules, and the failures of others.
        self._index = RunIndex()
        self._lock = threading.Lock()
        #: The number of the last event that was entered, and is not taken again.
        self._entered = 0
        self._open: dict[tuple[Kind, str], Trouble] = {}
        #: By schedule: a trouble that was heard of after a later run had completed, and
        #: that run.
        self._late: dict[str, tuple[str, Trouble]] = {}
        #: When each cause was reported, for tasks outside of runs.
        self._causes: dict[Cause, int] = {}

    def enter(
        self,
        seq: int,
        schedules: Mapping[str, str],
        rows: Iterable[TaskRow],
        left: Collection[str],
    ) -> None:
        """
        Enter the tasks that schedules have made, from memory.

        Args:
            seq: The number of the latest event in it.
            schedules: The documents of the schedules.
            rows: The tasks that they have made.
            left: Those that are no part of their runs any more.
        """
        with self._lock:
            self._entered = seq
            for key, document in schedules.items():
                self._index.declare(key, document)
            self._index.enter_rows(rows, left)

    def take(self, event: Any) -> None:
        """Take an event about a task of a schedule, or one that has failed."""
        with self._lock:
            if event.seq > self._entered:
                self._index.take(event)

    def is_bad(self, task_id: str) -> bool:
        """Return whether a trouble of a task was noted, and is not mended."""
        return stem_of(task_id) in self._index.broken

    def mend(self, stem: str) -> None:
        """Note that a task has completed in an earlier incarnation."""
        with self._lock:
            self._index.mend(stem)

    def failed(
        self,
        key: tuple[Kind, str],
        task_id: str,
        error: tuple[str, str],
        at_ns: int,
        run: str = "",
        *,
        is_past: bool = False,
    ) -> Trouble | None:
        """
        Note that a task of a *run* failed with the type and message of an *error*.

        In the *past*, a failure that a later run of the schedule has made up for is no
        trouble, whatever has failed since.

        Returns:
            The trouble, if its cause is new. A failure because of another one, like
            that of a map after its calls, is none; nor is one of a run of which another
            was reported that nothing has mended. It is over already if a later run of
            the schedule has completed; other such failures before that are the same
            trouble.
        """
        cause = FailureCause.common(task_id, *error)
        is_own = error[0] != _BLOCKED
        with self._lock:
            self._index.note_failure(task_id, at_ns, error, is_own=is_own)
            trouble = self._about(key, task_id, cause, at_ns, is_past=is_past)
        if trouble is None:
            return None
        stem = stem_of(task_id)
        is_more = stem not in trouble.tasks
        trouble.tasks.add(stem)
        if not is_own and trouble.messages:
            return None
        if key[0] != "schedule":
            trouble.count += is_more
        other = trouble.told.get(run, stem)
        is_told = other != stem and other in self._index.broken
        if is_told or cause in trouble.messages:
            return None
        if run:
            trouble.told[run] = stem
        trouble.messages[cause] = {}
        return trouble

    def _about(
        self,
        key: tuple[Kind, str],
        task_id: str,
        cause: Cause,
        at_ns: int,
        *,
        is_past: bool,
    ) -> Trouble | None:
        """Return the trouble of a failure; None if it was reported of another task."""
        kind, name = key
        new = Trouble(kind, name, stem_of(task_id), at_ns)
        if kind == "task":
            since = self._causes.get(cause)
            if since is not None and at_ns - since < AGE * NS:
                return None
            self._causes.pop(cause, None)
            _remember(self._causes, cause, at_ns)
        if kind == "schedule":
            good, bad = self._index.standing(name)
            is_open = any(line.has_failed(new.task_id) for line in bad)
            if good is not None and not is_open and (is_past or not bad):
                over, late = self._late.get(name, ("", new))
                if over != good.run_id:
                    late = new
                    _remember(self._late, name, (good.run_id, late))
                late.count = max(late.count + 1, self._index.failures_before(good))
                return late
            new.count = max(1, len(bad))
            new.slot_ns = max((line.slot_ns for line in bad), default=0)
        trouble = self._open.get(key)
        if trouble is None:
            _remember(self._open, key, new)
            return new
        if kind == "schedule":
            trouble.count, trouble.slot_ns = new.count, new.slot_ns
        return trouble

    def over(self, key: tuple[Kind, str]) -> Trouble | None:
        """Return the trouble of *key*, if there was one that is over now."""
        kind, name = key
        with self._lock:
            trouble = self._open.get(key)
            if trouble is None:
                return None
            if kind == "schedule":
                good, bad = self._index.standing(name)
                is_bad = bool(bad) or good is None or good.slot_ns < trouble.slot_ns
                if good is not None:
                    before = self._index.failures_before(good)
                    trouble.count = max(trouble.count, before)
            else:
                is_bad = any(stem in self._index.broken for stem in trouble.tasks)
            return None if is_bad else self._open.pop(key)

    def is_open(self, trouble: Trouble) -> bool:
        """Return whether it is not over."""
        return self._open.get((trouble.kind, trouble.name)) is trouble

    def told(self, now_ns: int) -> list[Trouble]:
        """Return troubles that were reported, and still count."""
        with self._lock:
            for key, trouble in list(self._open.items()):
                if key[0] != "schedule" and now_ns - trouble.since_ns > AGE * NS:
                    self._open.pop(key, None)
            return list(self._open.values())

    def ended(self, run_id: str) -> tuple[str, int] | None:
        """Return the state of a run that has ended, and its allowed failures."""
        with self._lock:
            line = self._index.lines.get(run_id)
            if line is None or not line.ended_ns:
                return None
            return line.state, line.allowed

    def of_schedule(self, name: str) -> str:
        """Return what is wrong with a schedule, by its runs; "" if nothing."""
        with self._lock:
            return str(self._index.standing(name))

    def of_schedules(self) -> list[str]:
        """Return what is wrong with each schedule in trouble."""
        with self._lock:
            standing = {
                each: self._index.standing(each) for each in self._index.schedules
            }
            return [f"{name}: {each}" for name, each in standing.items() if each.bad]

    def of_runs(self, now_ns: int) -> list[str]:
        """Return what is wrong with each run whose error no caller was given."""
        runs = [each for each in self.told(now_ns) if each.kind == "run"]
        with self._lock:
            latest = self._index.latest_failure
            failures = [(each.name, latest(each.tasks)) for each in runs]
        return [f"{name}: {failure}" for name, failure in failures if failure]


def _remember(table: dict[Any, Any], key: Any, value: Any) -> None:
    """Put *key* into *table*; of too many, drop the oldest."""
    table[key] = value
    if len(table) > _MOST:
        del table[next(iter(table))]


@attrs.define(eq=False)
class _Violated:
    """
    A policy that was violated lately.

    Attributes:
        since_ns: When that began.
        until: When it is over, unless it is violated again: of the monotonic clock.
        text: The first violation, in a line.
        count: How many there were.
    """

    since_ns: int
    until: float
    text: str
    count: int = 1


#: Events that matter only if tasks of a schedule cause them.
_OF_SCHEDULES: Final = (TaskSubmitted, TaskSuspended, TaskResumed)


class TroubleTeller:
    """
    Reports troubles that people would not hear of otherwise, on a thread of its own.

    One orchestrator has one, once it has a schedule, an alert, a budget or a receiver,
    or is served.
    """

    def __init__(self, orch: Any, runtime: Runtime) -> None:
        self._orch = orch
        self._rt: Runtime = runtime
        self.notifiers: list[Notifier] = []
        #: The address of the dashboard, which messages name; "" if it is not served.
        self.page = ""
        self._troubles = Troubles()
        #: By schedule whose latest ticks were skipped: a sentence on that.
        self._skipped: dict[str, str] = {}
        #: When each reason was reported last, in ns.
        self._reasons: dict[tuple[str, str], int] = {}
        #: Tasks that a person must judge, and why.
        self._judged: dict[str, str] = {}
        #: By reason, the blocked task that was reported for all.
        self._first_judged: dict[str, str] = {}
        #: The messages about these.
        self._asked: dict[str, dict[str, Any]] = {}
        #: Budgets that were reported as low: when, and the message.
        self._low: dict[str, tuple[int, dict[str, Any]]] = {}
        #: Policies that were violated lately, whose alerts are not over.
        self._violations: dict[str, _Violated] = {}
        #: The troubles as of an event, for questions before the start.
        self._still: tuple[int, Troubles, _Past] | None = None
        #: Reports about parts and ticks, and their times.
        self._said: dict[str, float] = {}
        self._queue: queue.SimpleQueue[tuple[Callable[..., object], Any] | None] = (
            queue.SimpleQueue()
        )
        self._beginning = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        takes: dict[Any, Callable[[Any], object]] = {
            ScheduleFired: self._fired,
            ScheduleSkipped: self._passed_over,
            TaskBlocked: self._blocked,
            TaskUnblocked: self._unblocked,
            TaskCompleted: self._ended,
            TaskCancelled: self._ended,
            TaskFailed: self._ended,
            TaskRenewed: self._ended,
            TaskSubmitted: self._moved,
            TaskSuspended: self._moved,
            TaskResumed: self._moved,
            ExtensionKept: self._troubles.take,
            AlertRaised: self._alert,
            AlertCleared: self._alert,
            BudgetLow: self._budget_low,
            BudgetChanged: self._budget_changed,
            ComponentFailed: self._part_failed,
        }
        self._takes = takes
        self._listen(cls for cls in takes if cls not in _OF_SCHEDULES)
        if SCHEDULES in runtime.kernel.kept:
            self.hear_schedules()
        self._rt.notices.teller = self
        self._rt.health_checks += [
            self._schedules_check,
            self._runs_check,
            self._decisions_check,
            lambda: _budgets_check(runtime.kernel.budgets),
            self._policies_check,
        ]
        self._put(self._started, None)
        self._put(self._look_at_budgets, None)

    def add(self, notifier: Notifier) -> None:
        """Add a receiver, and send it the open troubles."""
        notifier.page = lambda: self.page

        def join(_: None) -> None:
            self.notifiers.append(notifier)
            for trouble in self._troubles.told(self._rt.now()):
                for message in trouble.messages.values():
                    if message:
                        notifier.tell(message)
            for task_id, message in self._asked.items():
                if task_id in self._judged:
                    notifier.tell(message)
            for _since, low in self._low.values():
                notifier.tell(low)

        self._put(join, None)

    # -- hearing -------------------------------------------------------------------

    def hear_schedules(self) -> None:
        """
        Listen to submissions and suspensions of tasks, as schedules may exist.

        It makes every task slower, even outside of schedules.
        """
        self._listen(_OF_SCHEDULES)

    def _listen(self, classes: Iterable[type[Event]]) -> None:
        for cls in classes:
            getattr(self._rt.signals, signal_name(cls)).connect(self._hear)

    def failed(self, task_id: str, error: tuple[str, str], at_ns: int) -> None:
        """See `taskorch.core.engine._notices.Told`."""
        self._put(self._failed, (task_id, error, at_ns))

    def violated(
        self, event: PolicyViolated, violations: Sequence[tuple[str, ...]]
    ) -> None:
        """See `taskorch.core.engine._notices.Told`."""
        self._put(self._note_violations, (event, violations))

    def refused(self, schedule: str, text: str, error: Exception) -> None:
        """See `taskorch.core.engine._notices.Told`."""
        self._put(self._note_refused, (schedule, text, error, self._rt.now()))

    def failing(self, schedule: str) -> str:
        """See `taskorch.core.engine._notices.Told`."""
        if self._thread is not None:
            return self._troubles.of_schedule(schedule)
        # No thread listens yet, as in a command that reads a journal.
        with self._rt.lock:
            kernel, still = self._rt.kernel, self._still
            past: _Past = {} if still is None else still[2]
            names = kernel.kept.get(SCHEDULES, {}) if still is None else (schedule,)
            fresh = [name for name in names if name not in past]
            self._look_back(past, fresh)
            # A schedule that is new has no tasks, so that nothing is read again for it.
            has_more = any(any(past.get(name, ())) for name in fresh)
            if still is None or has_more or still[0] != len(kernel.tasks):
                still = self._still = len(kernel.tasks), Troubles(), past
                self._enter(still[1], past)
            return still[1].of_schedule(schedule)

    def close(self) -> None:
        """See `taskorch.core.engine._notices.Told`."""
        self._is_closed = True
        self._queue.put(None)
        thread = self._thread
        if thread is None:
            for notifier in self.notifiers:
                notifier.close()
        elif thread is not threading.current_thread():
            thread.join(_PAUSE)

    def _hear(self, event: Any) -> None:
        if self._is_of_interest(event):
            self._put(self._takes[type(event)], event)

    def _is_of_interest(self, event: Any) -> bool:
        """Return whether an event may begin or end a trouble; few do."""
        if type(event) is ExtensionKept:
            return bool(event.extension == SCHEDULES)
        if not isinstance(event, TaskEvent):
            return True
        name = event.task_id
        if has_segments(name) and self._schedule_of(name)[0]:
            return True
        if isinstance(event, TaskBlocked | TaskUnblocked | TaskRenewed):
            return True
        is_end = isinstance(event, TaskCompleted | TaskCancelled | TaskFailed)
        is_told = name in self._judged or self._troubles.is_bad(name)
        return is_end and (has_number(name) or is_told)

    def _schedule_of(self, task_id: str) -> tuple[str, str]:
        """Return the schedule that made a task, and the tick; or ""."""
        return schedule_of(self._rt.kernel.kept, task_id)

    def _put(self, take: Callable[..., object], subject: Any) -> None:
        self._queue.put((take, subject))
        if self._rt.started:
            self.begin()

    def begin(self) -> None:
        """Begin to report; earlier events have waited in the queue."""
        if self._thread is None and not self._is_closed:
            with self._beginning:
                if self._thread is None:
                    name = f"{self._rt.name}-telling"
                    self._thread = begin_thread(self._loop, name)

    def _loop(self) -> None:
        while True:
            times = [each.until for each in self._violations.values()]
            soon = min(times, default=None)
            seconds = None if soon is None else max(0.0, soon - monotonic())
            try:
                item = self._queue.get(timeout=seconds)
            except queue.Empty:
                self._guarded(self._look_at_policies, None)
                continue
            if item is None:
                break
            self._guarded(*item)
        for notifier in self.notifiers:
            notifier.close()

    def _guarded(self, take: Callable[..., object], subject: Any) -> None:
        try:
            take(subject)
        except NotRunningError:
            pass
        except Exception:  # noqa: BLE001 - no event ends the thread
            _PARTS_LOG.exception("something that happened was not told")

    # -- what failed ---------------------------------------------------------------

    def _failed(self, failure: tuple[str, tuple[str, str], int]) -> None:
        self._note_failure(*failure, is_told=True)

    def _note_failure(
        self, task_id: str, error: tuple[str, str], at_ns: int, *, is_told: bool
    ) -> Trouble | None:
        """Note a failed task; return its subject, if that is new."""
        run = self._rt.directory.run_of(task_id)
        trouble = self._troubles.failed(
            self._key(task_id), task_id, error, at_ns, run, is_past=not is_told
        )
        if trouble is not None and is_told:
            self._tell_failure(trouble, task_id, error)
            if not self._troubles.is_open(trouble):
                self._mended(trouble, "a later tick")
        return trouble

    def _key(self, task_id: str) -> tuple[Kind, str]:
        """Return the subject of a task: its schedule, else its run, or itself."""
        schedule, _ = self._schedule_of(task_id)
        if schedule:
            return "schedule", schedule
        run = self._rt.directory.run_of(task_id)
        return ("run", run) if run else ("task", stem_of(task_id))

    def _tell_failure(
        self, trouble: Trouble, task_id: str, error: tuple[str, str]
    ) -> None:
        about = failure_of(self._rt, task_id) or {"task_id": task_id}
        schedule = trouble.name if trouble.kind == "schedule" else None
        whose = f" of the schedule {schedule}" if schedule else ""
        text = visible(f"task {task_id}{whose} failed: {error[0]}: {error[1]}")
        run = self._rt.directory.run_of(task_id)
        message = self._message(
            "failure", task_id, text, **about, schedule=schedule, run=run
        )
        trouble.messages[FailureCause.common(task_id, *error)] = message
        self._send(message)

    def _ended(self, event: TaskEvent) -> None:
        name = event.task_id
        self._judged.pop(name, None)
        self._moved(event)
        schedule, _ = self._schedule_of(name)
        run = self._rt.directory.run_of(name)
        state = type(event).__name__.removeprefix("Task").lower()
        # The failure of a task is logged with its traceback.
        if schedule and run in ("", schedule) and state != "failed":
            _LOG.info("schedule %s: %s has %s", schedule, name, _been(state))
        is_well = state in ("completed", "renewed") or _is_gone(event)
        if not (schedule and run) and is_well:
            trouble = self._troubles.over(self._key(name))
            other = None if trouble is None else _failure_in(self._rt, run)
            if other is None:
                words = "completed" if state == "completed" else "left its run"
                self._mended(trouble, name, words)
            else:
                self._note_failure(*other, self._rt.now(), is_told=True)

    def _moved(self, event: Any) -> None:
        """Take an event about a task; report it if it ends a schedule's run."""
        schedule, _ = self._schedule_of(event.task_id)
        run = self._rt.directory.run_of(event.task_id) if schedule else ""
        before = self._troubles.ended(run)
        self._troubles.take(event)
        ended = self._troubles.ended(run)
        if ended is None or ended == before:
            return
        state, allowed = ended
        state = "completed" if state == "mended" else state
        level = logging.WARNING if state == "failed" else logging.INFO
        words = outcome(_been(state), allowed)
        _LOG.log(level, "schedule %s: run %s has %s", schedule, run, words)
        self._mended(self._troubles.over(("schedule", schedule)), run, words)

    def _mended(
        self, trouble: Trouble | None, by: str, words: str = "completed"
    ) -> None:
        """Report to all who heard of a trouble that it is over; *words* say how."""
        if trouble is None:
            return
        many = counted(max(1, trouble.count), "failure")
        subject = f"{trouble.kind} {trouble.name}"
        text = visible(f"{subject} is well again after {many}: {by} has {words}")
        _LOG.info("%s", text)
        if any(trouble.messages.values()):
            schedule = trouble.name if trouble.kind == "schedule" else None
            fields = {"task_id": trouble.task_id, "schedule": schedule}
            self._send(self._message("recovered", by, text, **fields))

    # -- what waits for a person, and what did not happen --------------------------

    def _blocked(self, event: TaskBlocked) -> None:
        self._moved(event)
        if telling_of("blocked", event.cause).message == "blocked":
            self._note_judged(event.task_id, event.cause, event.reason)

    def _unblocked(self, event: TaskUnblocked) -> None:
        self._moved(event)
        self._judged.pop(event.task_id, None)

    def _note_judged(self, task_id: str, cause: str, reason: str) -> None:
        if task_id in self._judged:
            return
        why = f"a person must decide: {reason}"
        if cause == DENIED:
            why = f"policies deny its start: {reason}"
        _remember(self._judged, task_id, why)
        if cause in _ALIKE and _is_told(self._first_judged, self._judged, task_id):
            return
        schedule, _ = self._schedule_of(task_id)
        whose = f" of the schedule {schedule}" if schedule else ""
        text = visible(f"task {task_id}{whose} is blocked, and {why}")
        _BLOCKED_LOG.log(telling_of("blocked", cause).level, "%s", text)
        about = failure_of(self._rt, task_id) or {"task_id": task_id}
        run = self._rt.directory.run_of(task_id)
        fields = {**about, "schedule": schedule or None, "run": run}
        message = self._message("blocked", task_id, text, **fields)
        _remember(self._asked, task_id, message)
        self._send(message)

    def _note_refused(self, refusal: tuple[str, str, Exception, int]) -> None:
        """Report a task of a schedule that was refused; the health does, too."""
        schedule, text, error, at_ns = refusal
        if self._tell_skipped(schedule, at_ns, 0, f"it was refused: {error}", text):
            _LOG.warning("%s", visible(text), exc_info=error.__cause__)

    def _fired(self, event: ScheduleFired) -> None:
        self._troubles.take(event)
        self._skipped.pop(event.name, None)
        how = "" if event.by == "clock" else f", by {event.by}"
        _LOG.info("schedule %s: %s is made%s", event.name, event.task_id, how)
        # What was quick has ended before this is heard of.
        self._mended(self._troubles.over(("schedule", event.name)), event.task_id)

    def _passed_over(self, event: ScheduleSkipped) -> None:
        tick = stamp(event.slot_ns / NS, "auto")
        many = f"the tick {tick}"
        if event.slots > 1:
            many = f"{event.slots:,} ticks, the last of them {tick},"
        text = visible(f"schedule {event.name}: {many} did not happen: {event.reason}")
        if event.reason.startswith(_WANTED):
            _LOG.info("%s", text)
            return
        # Lines about several ticks differ only by the tick.
        if self._is_news(f"{event.name} {event.reason}"):
            _LOG.warning("%s", text)
        self._skipped[event.name] = text
        self._tell_skipped(
            event.name, event.at_ns, event.slots, event.reason, text, tick
        )

    def _tell_skipped(
        self,
        schedule: str,
        at_ns: int,
        ticks: int,
        reason: str,
        text: str,
        tick: str = "refused",
    ) -> bool:
        """Report skipped ticks, once per *reason* and hour; return whether it does."""
        # Reasons that differ only by the unfinished task are the same.
        kind = schedule, FailureCause.common(schedule, "", reason)[1]
        since = self._reasons.get(kind)
        if since is not None and at_ns - since < _AGAIN * NS:
            return False
        _remember(self._reasons, kind, at_ns)
        self._send(
            self._message(
                "skipped",
                f"{schedule}/{tick}",
                visible(text),
                timestamp=stamp(at_ns / NS, "microseconds"),
                schedule=schedule,
                slots=ticks,
                reason=reason,
            )
        )
        return True

    # -- alerts, and parts that fail -----------------------------------------------

    def _alert(self, event: AlertRaised | AlertCleared, **more: Any) -> dict[str, Any]:
        """Send the message of an alert, and return it."""
        fields: dict[str, Any] = {"name": event.name, **more}
        text = f"alert {event.name} is over: {event.message}"
        if isinstance(event, AlertRaised):
            text = f"alert {event.name}: {event.message}"
            fields |= {"severity": event.severity, "action": event.action}
            if event.action == "pause_new_tasks":
                text = f"{text}; no new task starts"
            fields["state"] = "raised"
        else:
            fields |= {"state": "cleared", "seconds": event.seconds}
        at = stamp(event.at_ns / NS, "microseconds")
        number = f"{event.name}/{fields['state']}/{event.message}"
        message = self._message("alert", number, visible(text), timestamp=at, **fields)
        self._send(message)
        return message

    def _budget_low(self, event: BudgetLow) -> None:
        """Report a low budget like an alert."""
        if event.budget in self._low:
            return
        amounts = _spent_of(event.spent, event.total, event.resource)
        _ALERTS_LOG.warning("budget %s is low: %s", event.budget, amounts)
        fields = f"budget {event.budget}", "warning", "", amounts
        message = self._alert(AlertRaised(event.seq, event.at_ns, *fields))
        self._low[event.budget] = event.at_ns, message

    def _budget_changed(self, event: BudgetChanged) -> None:
        row = self._rt.kernel.budgets.get(event.budget)
        if event.budget not in self._low or row is None:
            return
        spent = row.spent
        is_low = any(
            5 * spent.get(name, 0) >= 4 * total for name, total in event.totals
        )
        if is_low and not event.is_open:
            return
        since = self._low.pop(event.budget)[0]
        words = "there is more of it"
        if event.is_open:
            words = "it keeps no task from starting any more"
        _ALERTS_LOG.info("budget %s is not low any more: %s", event.budget, words)
        fields = f"budget {event.budget}", (event.at_ns - since) / NS, words
        self._alert(AlertCleared(event.seq, event.at_ns, *fields))

    def _note_violations(
        self, violation: tuple[PolicyViolated, Sequence[tuple[str, ...]]]
    ) -> None:
        """Log violations of policies, and raise an alert if they are bad."""
        event, violations = violation
        by = f"task {event.task_id}"
        if event.verb:
            by = f"{event.verb} of {event.task_id}" if event.task_id else event.verb
        elif not event.task_id:
            by = f"a task of type {event.type!r}"
        for policy, rule, severity, message, waiver, evidence, follows in violations:
            telling = telling_of("violated", severity)
            text = f"policy {policy} ({rule}) is violated by {by}"
            if waiver or follows == "change":
                how = f"waived by {waiver}" if waiver else "and changes it"
                text, telling = f"{text}, {how}", telling_of("violated", "low")
            more = f"; {evidence}" if evidence else ""
            text = visible(f"{text}: {message}{more}")
            _GOVERNANCE_LOG.log(telling.level, "%s", text)
            if telling.message == "alert":
                self._alert_of(event, policy, rule, severity, text)

    def _alert_of(
        self, event: PolicyViolated, policy: str, rule: str, severity: str, text: str
    ) -> None:
        """Report a violated policy like an alert, once in a while."""
        until = monotonic() + _AGAIN
        violated = self._violations.pop(policy, None)
        if violated is not None:
            violated.until, violated.count = until, violated.count + 1
            _remember(self._violations, policy, violated)
            return
        _remember(self._violations, policy, _Violated(event.at_ns, until, text))
        badness = _BADNESS.get(severity, "warning")
        raised = AlertRaised(
            event.seq, event.at_ns, f"policy {policy}", badness, "", text
        )
        about = {"task_id": event.task_id or None, "moment": event.moment}
        self._alert(raised, policy_severity=severity, rule=rule, **about)

    def _look_at_policies(self, _: None) -> None:
        now = monotonic()
        calm = [name for name, each in self._violations.items() if each.until <= now]
        for name in calm:
            since = self._violations.pop(name).since_ns
            at = self._rt.now()
            words = f"nothing has violated it for {_AGAIN:g} s"
            _ALERTS_LOG.info("policy %s is violated no more: %s", name, words)
            seconds = (at - since) / NS
            self._alert(AlertCleared(0, at, f"policy {name}", seconds, words))

    def _part_failed(self, event: ComponentFailed) -> None:
        text = visible(f"the {event.component} failed: {event.message}")
        if self._is_news(text):
            _PARTS_LOG.warning("%s", text)

    def _is_news(self, text: str) -> bool:
        """Return whether the same was not logged a moment ago."""
        now = monotonic()
        since = self._said.pop(text, None)
        is_news = since is None or now - since >= _PAUSE
        _remember(self._said, text, now if since is None or is_news else since)
        return is_news

    # -- a new incarnation -------------------------------------------------------------

    def _started(self, _: object) -> None:
        """Look at tasks of earlier incarnations, and report open troubles."""
        kernel = self._rt.kernel

        # Nothing waits while the journal is read.
        past: _Past = {}
        self._look_back(past, kernel.kept.get(SCHEDULES, ()))

        def look(_: int) -> list[_Before]:
            self._enter(self._troubles, past)
            others = (row for row in kernel.tasks.values() if row.state not in TERMINAL)
            return list(_before(self._rt, [*kernel.finished, *others]))

        rows: list[_Before] = self._rt.step(look)
        # They are taken in the order of that time, so that each message has its earlier
        # number; of tasks that ended at one instant, in the order of their ends.
        rows.sort(key=lambda row: row.at_ns)
        latest = {
            stem_of(row.task_id): row
            for row in sorted(rows, key=lambda row: number_of(row.task_id))
        }
        news: dict[str, tuple[Trouble, _Before]] = {}
        for row in rows:
            stem = stem_of(row.task_id)
            if row.error is not None:
                trouble = self._note_failure(
                    row.task_id, row.error, row.at_ns, is_told=False
                )
                if trouble is not None:
                    # Of the runs of one task, the latest with a new cause counts.
                    news.pop(stem, None)
                    news[stem] = trouble, row
            elif row.state is TaskState.COMPLETED:
                self._troubles.mend(stem)
                self._troubles.over(self._key(row.task_id))
            elif row.reason and latest[stem] is row:
                self._note_judged(row.task_id, row.cause, row.reason)
        in_trouble = self._troubles.told(self._rt.now())
        for trouble, row in news.values():
            assert row.error is not None  # noqa: S101 - it has failed
            cause = FailureCause.common(row.task_id, *row.error)
            stem = stem_of(row.task_id)
            # Of a run, the failure counts that came once others were mended.
            is_latest = trouble.told.get(row.run, stem) == stem
            if trouble in in_trouble and is_latest and not trouble.messages.get(cause):
                self._tell_failure(trouble, row.task_id, row.error)

    def _enter(self, troubles: Troubles, past: _Past) -> None:
        """Enter the tasks that schedules have made; hold the runtime's lock."""
        kernel, recovered = self._rt.kernel, self._rt.directory.recovered
        rows = {row.id: row for gone, _ in past.values() for row in gone}
        evicted = [
            n for _, held in past.values() for n in held if n not in kernel.tasks
        ]
        if evicted and recovered is not None:
            with suppress(JournalError):
                rows |= {row.id: row for row in recovered.rows_of(evicted)}
        rows |= {n: row for n, row in kernel.tasks.items() if self._schedule_of(n)[0]}
        in_order = sorted(
            rows.values(), key=lambda row: (row.submitted_ns, number_of(row.id))
        )
        left_out = self._rt.directory.reruns.left
        troubles.enter(kernel.seq, kernel.kept.get(SCHEDULES, {}), in_order, left_out)

    def _look_back(self, past: _Past, names: Iterable[str]) -> None:
        """Read the latest ticks of the schedules of *names* that *past* has not."""
        for name in [*names]:
            if name in past or has_segments(name):
                continue
            gone: list[TaskRow] = []
            held: list[str] = []
            # A journal that cannot be read is told of elsewhere. What could be read of
            # the latest ticks counts.
            try:
                for here, evicted in self._latest_ticks(name):
                    held += [row.id for row in here]
                    gone += evicted
            except JournalError:
                if not (gone or held):
                    continue
            past[name] = gone, held

    def _latest_ticks(self, name: str) -> Iterator[_Tick]:
        """Yield the tasks of a schedule's ticks, back to one that completed."""
        recovered = self._rt.directory.recovered
        if recovered is None:
            return
        ticks = islice(self._ticks(name, recovered.journal), _READ)
        for here, evicted in chain.from_iterable(map(self._read, _parts(ticks))):
            yield here, evicted
            if RunIndex.has_completed([*here, *evicted]):
                return

    def _read(self, part: Sequence[list[str]]) -> Iterator[_Tick]:
        """
        Yield the tasks of each tick in *part*, which are read at once.

        Raises:
            JournalError: A tick cannot be read, after those that can.
        """
        tasks, recovered = self._rt.kernel.tasks, self._rt.directory.recovered
        assert recovered is not None  # noqa: S101 - the ticks are in its journal
        rows_here = ((n, tasks.get(n)) for ids in part for n in ids)
        here = {n: row for n, row in rows_here if row is not None}
        asked = [n for ids in part for n in ids if n not in here]
        try:
            gone = {row.id: row for row in recovered.rows_of(asked)}
        except JournalError:
            if len(part) == 1:
                raise
            # One that is damaged hides no later one.
            for tick in part:
                yield from self._read([tick])
            return
        for ids in part:
            yield (
                [here[n] for n in ids if n in here],
                [gone[n] for n in ids if n in gone],
            )

    def _ticks(self, name: str, journal: DurableJournal) -> Iterator[list[str]]:
        """Yield the tasks of each tick of a schedule, the latest first."""
        now = datetime.fromtimestamp(self._rt.now() / NS, UTC)
        seen: set[str] = set()
        # Most schedules have a tick of late, so that few ids are read.
        for beginnings in beginnings_of_ticks(name, now):
            ticks: dict[str, list[str]] = {}
            for task_id in chain.from_iterable(map(journal.ids, beginnings)):
                schedule, tick = self._schedule_of(task_id)
                if schedule == name and tick not in seen:
                    ticks.setdefault(tick, []).append(task_id)
            seen |= ticks.keys()
            yield from (ticks[tick] for tick in sorted(ticks, reverse=True))

    def _look_at_budgets(self, _: object) -> None:
        """Report budgets that earlier incarnations have left low."""
        rows = self._rt.kernel.budgets

        def look(now: int) -> list[BudgetLow]:
            return list(_low(rows.values(), now))

        for low in self._rt.step(look):
            self._budget_low(low)

    # -- telling -------------------------------------------------------------------

    def _message(
        self, kind: str, number: str, text: str, **fields: Any
    ) -> dict[str, Any]:
        """Return a message, identified by its kind, *number* and time."""
        now = stamp(self._rt.now() / NS, "microseconds")
        return {
            "message_type": kind,
            "id": number,
            "text": text,
            "timestamp": now,
            **fields,
        }

    def _send(self, message: dict[str, Any]) -> None:
        for notifier in self.notifiers:
            notifier.tell(message)

    # -- health --------------------------------------------------------------------

    def _schedules_check(self) -> HealthCheck:
        bad = self._troubles.of_schedules()
        bad += [text.partition(" ")[2] for text in list(self._skipped.values())]
        return _check("schedules", bad)

    def _runs_check(self) -> HealthCheck:
        return _check("runs", self._troubles.of_runs(self._rt.now()))

    def _decisions_check(self) -> HealthCheck:
        tasks = self._rt.kernel.tasks
        bad: list[str] = []
        for name, reason in self._judged.copy().items():
            row = tasks.get(name)
            if row is None or row.state is not TaskState.BLOCKED:
                self._judged.pop(name, None)
            else:
                bad.append(f"{name} is blocked, and {reason}")
        return _check("decisions", bad)

    def _policies_check(self) -> HealthCheck:
        lately = list(self._violations.values())
        return _check(
            "policies",
            [
                each.text + (f" ({each.count:,} times)" if each.count > 1 else "")
                for each in lately
            ],
        )


def _is_told(firsts: dict[str, str], judged: Mapping[str, str], task_id: str) -> bool:
    """Return whether the first of the tasks that one reason blocks was reported."""
    why = judged[task_id]
    first = firsts.get(why, task_id)
    is_told = first != task_id and judged.get(first) == why
    if not is_told:
        _remember(firsts, why, task_id)
    return is_told


def _parts(ticks: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    """Yield ticks in ever larger parts: mostly the first tick has completed."""
    size, part, ids = 1, list[list[str]](), 0
    for tick in ticks:
        if part and ids + len(tick) > _MOST_READ:
            yield part
            size, part, ids = size * 8, [], 0
        part.append(tick)
        ids += len(tick)
        if len(part) == size:
            yield part
            size, part, ids = size * 8, [], 0
    if part:
        yield part


def _spent_of(spent: int, total: int, resource: str) -> str:
    """Return how much is spent of a resource, from amounts in millionths."""
    return f"{spent / 1e6:.12g} of {total / 1e6:.12g} {resource} spent"


def _check(component: str, bad: list[str]) -> HealthCheck:
    if not bad:
        return HealthCheck(component, "ok")
    more = f"; and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else ""
    detail = "; ".join(bad[:_NAMED]) + more
    return HealthCheck(component, "degraded", visible(detail))


def _is_gone(event: TaskEvent) -> bool:
    """Return whether *event* says that a task is no part of its run any more."""
    return isinstance(event, TaskCancelled) and event.reason == GONE


def _failure_in(rt: Runtime, run: str) -> tuple[str, tuple[str, str]] | None:
    """Return a task of *run* that failed, or is blocked by one, and its error."""
    for name, row in rt.kernel.tasks.copy().items() if run else ():
        if row.run != run or next_id(name) in rt.kernel.tasks:
            continue
        by = () if row.extra is None else row.extra.blocked_by
        if row.state is TaskState.BLOCKED and by:
            return name, (_BLOCKED, f"it is blocked: {some([*by])} did not complete")
        with rt.lock:
            error = error_to_tell(rt.kernel, row)
        if error is not None and stem_of(name) not in rt.directory.reruns.left:
            return name, error
    return None


def _budgets_check(rows: Mapping[str, BudgetRow]) -> HealthCheck:
    bad = []
    for row in list(rows.values()):
        if row.is_open or not (row.is_low or row.asked > 0):
            continue
        amounts = [
            _spent_of(spent, row.pools[name].total, name)
            for name, spent in row.spent.copy().items()
        ]
        asks = "; tasks wait for more" if row.asked > 0 else ""
        bad.append(f"{row.name}: {', '.join(amounts)}{asks}")
    return _check("budgets", bad)


def _been(state: str) -> str:
    return f"been {state}" if state == "cancelled" else state


@attrs.frozen
class _Before:
    """A task that an earlier incarnation has left, as far as it matters here."""

    task_id: str
    #: Its run of a workflow, or "".
    run: str
    state: TaskState
    at_ns: int
    #: The error of a failed one, unless that is accounted for.
    error: tuple[str, str] | None
    #: Why a person must judge it: the cause, and in words.
    cause: str
    reason: str


def _before(rt: Runtime, rows: Iterable[TaskRow]) -> Iterator[_Before]:
    for row in rows:
        _, at_ns, detail = moves_of(row)[-1]
        failure, reason = error_to_tell(rt.kernel, row), ""
        error = None if row.extra is None else row.extra.error
        _, message, cause = error or ("", "", "")
        if row.state is TaskState.BLOCKED and cause:
            is_told = telling_of("blocked", cause).message == "blocked"
            reason = (detail or message) if is_told else ""
        state = row.state
        is_gone = row.extra is not None and row.extra.stop_reason == GONE
        if is_gone or stem_of(row.id) in rt.directory.reruns.left:
            # It is no part of its run any more.
            state, failure = TaskState.COMPLETED, None
        if state is TaskState.FAILED and row.bucket.spec.allow_failure:
            state = TaskState.COMPLETED
        yield _Before(row.id, row.run, state, at_ns, failure, cause, reason)


def _low(rows: Iterable[BudgetRow], now: int) -> Iterator[BudgetLow]:
    """Yield reports of low budgets; no event records them, so they have no number."""
    for row in rows:
        if row.is_low and not row.is_open:
            amounts = [(n, row.spent[n], total) for n, total in row.totals]
            least = max(amounts, key=lambda each: each[1] / each[2])
            yield BudgetLow(0, now, row.name, *least)
