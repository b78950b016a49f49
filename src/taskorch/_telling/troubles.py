"""
What people are told by default: each trouble once, and that it is over.

A trouble is a schedule, a run or a task that has failed, waits for a person or did not
happen. It is a line of the log, a part of the health, and a message to each receiver of
`TaskOrchestrator.notify`. What is in trouble is read from the tasks as an orchestrator
starts: so what a crash kept from being sent is sent by the next life.

Decision: 0122.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from taskorch._telling.causes import telling_of
from taskorch.errors import (
    DependencyFailedError,
    NotRunningError,
    UnknownTaskError,
)
from taskorch.events import (
    AlertCleared,
    AlertRaised,
    BudgetChanged,
    BudgetLow,
    ComponentFailed,
    PolicyViolated,
    ScheduleFired,
    ScheduleSkipped,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskUnblocked,
    signal_name,
)
from taskorch.kernel import DENIED, moves_of
from taskorch.kit.fence import log_of
from taskorch.kit.interrupts import begin_thread
from taskorch.kit.limits import NS
from taskorch.kit.visible import counted, visible
from taskorch.kit.words import outcome, stamp
from taskorch.model import FailureCause, HealthCheck, TaskState
from taskorch.model.ids import has_number, in_run, number_of, stem_of
from taskorch.runtime import is_accounted_for, schedule_of
from taskorch.runtime._questions import failure_of

if TYPE_CHECKING:
    from taskorch._telling.notifying import Notifier
    from taskorch.kernel import BudgetRow, TaskRow
    from taskorch.runtime import Runtime

_LOG: Final = log_of("taskorch.schedules")
_BLOCKED_LOG: Final = log_of("taskorch.blocked")
_PARTS_LOG: Final = log_of("taskorch.parts")
_ALERTS_LOG: Final = log_of("taskorch.alerts")
_GOVERNANCE_LOG: Final = log_of("taskorch.governance")

Kind: TypeAlias = Literal["schedule", "run", "task"]
_KINDS: Final[tuple[Kind, ...]] = ("schedule", "run", "task")
#: An error's name, and what it says, without what differs from task to task.
Cause: TypeAlias = tuple[str, str]

#: Seconds for which a failure counts that nothing mends, and until a cause of its kind
#: is told again.
AGE: Final = 86_400.0
#: Seconds until slots that are passed over for one reason are told again.
_AGAIN: Final = 3_600.0
#: Seconds after an end until it is looked whether that was the end of its run; and
#: between two records of one part that fails.
_SOON: Final = 0.2
_PAUSE: Final = 10.0
#: Troubles that are remembered.
_MOST: Final = 10_000
#: Troubles that a line of the health names.
_NAMED: Final = 5
#: How the reasons of slots begin that a person had passed over.
_WANTED: Final = ("it was paused", "its times were changed", "the schedule was removed")
#: How policies put what is violated, in alerts.
_BADNESS: Final = {"critical": "critical"}


@attrs.define(eq=False)
class Trouble:
    """
    What is in trouble, since when, and why.

    Attributes:
        kind: What it is.
        name: The schedule, the run or the task.
        task_id: The first task that failed so.
        slot: The latest slot that failed; "" of what no schedule made.
        since_ns: When the first task failed.
        text: The latest failure, in a line.
        count: How many failed in a row.
        tasks: The tasks that failed and have not been mended, and when, in ns.
        messages: What was told of it, by its causes.
    """

    kind: Kind
    name: str
    task_id: str
    slot: str
    since_ns: int
    text: str = ""
    count: int = 0
    tasks: dict[str, int] = attrs.field(factory=dict[str, int])
    messages: dict[Cause, dict[str, Any]] = attrs.field(
        factory=dict[Cause, dict[str, Any]]
    )


class Troubles:
    """
    Which schedules, runs and tasks are in trouble.

    It hears of failures and ends in the order of their times, and says what is news:
    a cause is, once for what it is about; so is the end of what was in trouble.
    """

    def __init__(self) -> None:
        self.open: dict[tuple[Kind, str], Trouble] = {}
        #: Of schedules, the latest slot whose work has completed.
        self._done: dict[str, str] = {}
        #: Of schedules: the trouble that was heard of when a later slot, which is given
        #: too, had completed.
        self._late: dict[str, tuple[str, Trouble]] = {}
        #: Of tasks on their own: when each cause was told.
        self._causes: dict[Cause, int] = {}

    def failed(
        self,
        key: tuple[Kind, str],
        task_id: str,
        slot: str,
        cause: Cause,
        at_ns: int,
        message: str,
    ) -> Trouble | None:
        """
        A task has failed with *message*; the trouble, if its cause is news.

        That one failed since another did, as a map does after its calls, is no news and
        no failure more. It is over already if a later slot of the schedule has
        completed; what else fails so before that slot is the same trouble.
        """
        kind, name = key
        if kind == "task":
            # The same cause is one trouble, whichever task it is.
            since = self._causes.get(cause)
            if since is not None and at_ns - since < AGE * NS:
                return None
            self._causes.pop(cause, None)
            _remember(self._causes, cause, at_ns)
        done = self._done.get(name, "") if kind == "schedule" else ""
        if _time(slot) < _time(done):
            over, trouble = self._late.get(name, ("", None))
            if trouble is None or over != done:
                trouble = Trouble(kind, name, task_id, slot, at_ns)
                _remember(self._late, name, (done, trouble))
        else:
            trouble = self.open.get(key)
            if trouble is None:
                trouble = Trouble(kind, name, task_id, slot, at_ns)
                _remember(self.open, key, trouble)
        trouble.slot = max(trouble.slot, slot, key=_time)
        before = trouble.tasks.get(task_id)
        trouble.tasks[task_id] = at_ns
        if cause[0] == DependencyFailedError.__name__ and trouble.messages:
            return None
        trouble.text = f"{task_id} failed: {cause[0]}: {message}".removesuffix(": ")
        # One that failed as an orchestrator began may be found, and heard of later.
        trouble.count += before != at_ns
        if cause in trouble.messages:
            return None
        trouble.messages[cause] = {}
        return trouble

    def completed(self, schedule: str, slot: str) -> Trouble | None:
        """What a schedule made for *slot* has completed; the trouble that is over."""
        done = max(slot, self._done.get(schedule, ""), key=_time)
        _remember(self._done, schedule, done)
        trouble = self.open.get(("schedule", schedule))
        if trouble is None or _time(slot) < _time(trouble.slot):
            return None
        return self.open.pop(("schedule", schedule))

    def mended(self, task_id: str, run: str) -> Trouble | None:
        """
        A task has been run again, and completed; the trouble that is over.

        *run* is the run of a workflow that it is of, or "".
        """
        key: tuple[Kind, str] = ("run", run) if run else ("task", task_id)
        trouble = self.open.get(key)
        if trouble is None or task_id not in trouble.tasks:
            return None
        del trouble.tasks[task_id]
        return None if trouble.tasks else self.open.pop(key)

    def of(self, *kinds: Kind, now_ns: int) -> list[Trouble]:
        """Those of some kinds that still count."""
        for key, trouble in list(self.open.items()):
            if key[0] != "schedule" and now_ns - trouble.since_ns > AGE * NS:
                self.open.pop(key, None)
        return [each for each in list(self.open.values()) if each.kind in kinds]


def _time(slot: str) -> str:
    """A slot in the form in which later ones are greater."""
    return slot.removesuffix("Z")


def _remember(table: dict[Any, Any], key: Any, value: Any) -> None:
    """Put *key* into *table*, from which the oldest leaves if there are too many."""
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


class TroubleTeller:
    """
    Tells people what they would not hear otherwise, on a thread of its own.

    One orchestrator has one, once it has a schedule, an alert, a budget or a receiver,
    or is served.
    """

    def __init__(self, orch: Any, runtime: Runtime) -> None:
        self._orch = orch
        self._rt: Runtime = runtime
        self.notifiers: list[Notifier] = []
        #: Where people reach the dashboard, which messages name; "": nobody serves it.
        self.page = ""
        self._troubles = Troubles()
        #: Of each schedule whose latest slots were passed over, the sentence on that.
        self._skipped: dict[str, str] = {}
        #: When each reason was told last, in ns.
        self._reasons: dict[tuple[str, str], int] = {}
        #: Tasks that a person must judge, and why.
        self._judged: dict[str, str] = {}
        #: What was told of these.
        self._asked: dict[str, dict[str, Any]] = {}
        #: Budgets of which it was told that they are low: when, and the message.
        self._low: dict[str, tuple[int, dict[str, Any]]] = {}
        #: Policies that were violated lately, whose alerts are not over.
        self._violations: dict[str, _Violated] = {}
        #: Runs of schedules of which a task has ended: when to look at them.
        self._runs: dict[str, float] = {}
        #: What was said of parts and slots, and when.
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
            AlertRaised: self._alert,
            AlertCleared: self._alert,
            BudgetLow: self._budget_low,
            BudgetChanged: self._budget_changed,
            ComponentFailed: self._part_failed,
        }
        self._takes = takes
        for cls in takes:
            getattr(self._rt.signals, signal_name(cls)).connect(self._hear)
        self._rt.notices.teller = self
        self._rt.health_checks += [
            self._schedules_check,
            self._runs_check,
            self._decisions_check,
            self._budgets_check,
            self._policies_check,
        ]
        self._put(self._started, None)
        self._put(self._look_at_budgets, None)

    def add(self, notifier: Notifier) -> None:
        """Tell a receiver from now on, and what is in trouble already."""
        notifier.page = lambda: self.page

        def join(_: None) -> None:
            self.notifiers.append(notifier)
            for trouble in self._troubles.of(*_KINDS, now_ns=self._rt.now()):
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

    def failed(self, task_id: str, error: tuple[str, str], at_ns: int) -> None:
        """See `taskorch.runtime._notices.Told`."""
        self._put(self._failed, (task_id, error, at_ns))

    def violated(
        self, event: PolicyViolated, violations: Sequence[tuple[str, ...]]
    ) -> None:
        """See `taskorch.runtime._notices.Told`."""
        self._put(self._note_violations, (event, violations))

    def refused(self, schedule: str, error: Exception) -> None:
        """See `taskorch.runtime._notices.Told`."""
        self._put(self._note_refused, (schedule, error, self._rt.now()))

    def close(self) -> None:
        """See `taskorch.runtime._notices.Told`."""
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
        """Whether it may begin or end a trouble: most ends of tasks do not."""
        if not isinstance(event, TaskCompleted | TaskCancelled | TaskFailed):
            return True
        name = event.task_id
        if has_number(name) or name in self._judged:
            return True
        return bool(self._schedule_of(name)[0])

    def _schedule_of(self, task_id: str) -> tuple[str, str]:
        """The schedule that made a task, and the slot; "" if none did."""
        return schedule_of(self._rt.kernel.kept, task_id)

    def _put(self, take: Callable[..., object], subject: Any) -> None:
        self._queue.put((take, subject))
        if self._rt.started:
            self.begin()

    def begin(self) -> None:
        """Begin to tell: what came before has waited."""
        if self._thread is None and not self._is_closed:
            with self._beginning:
                if self._thread is None:
                    name = f"{self._rt.name}-telling"
                    self._thread = begin_thread(self._loop, name)

    def _loop(self) -> None:
        while True:
            times = [each.until for each in self._violations.values()]
            soon = min([*self._runs.values(), *times], default=None)
            seconds = None if soon is None else max(0.0, soon - monotonic())
            try:
                item = self._queue.get(timeout=seconds)
            except queue.Empty:
                self._guarded(self._look_at_runs, None)
                self._guarded(self._look_at_policies, None)
                continue
            if item is None:
                break
            self._guarded(*item)
        self._runs = dict.fromkeys(self._runs, 0.0)
        self._guarded(self._look_at_runs, None)
        for notifier in self.notifiers:
            notifier.close()

    def _guarded(self, take: Callable[..., object], subject: Any) -> None:
        try:
            take(subject)
        except NotRunningError:
            pass
        except Exception:  # noqa: BLE001 - nothing of it ends the thread
            _PARTS_LOG.exception("something that happened was not told")

    # -- what failed ---------------------------------------------------------------

    def _failed(self, facts: tuple[str, tuple[str, str], int]) -> None:
        self._note_failure(*facts, is_told=True)

    def _note_failure(
        self, task_id: str, error: tuple[str, str], at_ns: int, *, is_told: bool
    ) -> Trouble | None:
        """A task has failed; what it is about, if that is news."""
        schedule, slot = self._schedule_of(task_id)
        stem, run = stem_of(task_id), self._rt.directory.run_of(task_id)
        key: tuple[Kind, str] = ("task", stem)
        if schedule:
            key = "schedule", schedule
        elif run:
            key = "run", run
        cause = FailureCause.common(task_id, *error)
        trouble = self._troubles.failed(key, stem, slot, cause, at_ns, error[1])
        if trouble is not None and is_told:
            self._tell_failure(trouble, cause, task_id, error)
            if self._troubles.open.get(key) is not trouble:
                self._mended(trouble, "a later slot")
        return trouble

    def _tell_failure(
        self, trouble: Trouble, cause: Cause, task_id: str, error: tuple[str, str]
    ) -> None:
        about = failure_of(self._rt, task_id) or {"task_id": task_id}
        whose = f" of the schedule {trouble.name}" if trouble.slot else ""
        text = visible(f"task {task_id}{whose} failed: {error[0]}: {error[1]}")
        schedule = trouble.name if trouble.slot else None
        run = self._rt.directory.run_of(task_id)
        message = self._message(
            "failure", task_id, text, **about, schedule=schedule, run=run
        )
        trouble.messages[cause] = message
        self._send(message)

    def _ended(self, event: TaskEvent) -> None:
        name = event.task_id
        self._judged.pop(name, None)
        schedule, slot = self._schedule_of(name)
        run = self._rt.directory.run_of(name)
        # What versions before this one have kept says that the task of a schedule is of
        # a run that is called so.
        if schedule and run not in ("", schedule):
            # A task of a run, whose end no event tells.
            self._runs.setdefault(run, monotonic() + _SOON)
            return
        if schedule:
            state = type(event).__name__.removeprefix("Task").lower()
            # That it failed is said with its traceback.
            if state != "failed":
                _LOG.info("schedule %s: %s has %s", schedule, name, _been(state))
            if state == "completed":
                self._mended(self._troubles.completed(schedule, slot), name)
        elif isinstance(event, TaskCompleted):
            self._mended(self._troubles.mended(stem_of(name), run), name)

    def _look_at_runs(self, _: None) -> None:
        now = monotonic()
        for run in [run for run, at in self._runs.items() if at <= now]:
            del self._runs[run]
            with suppress(UnknownTaskError):
                status = self._orch.workflows.status(run)
                state = status.state
                if not state.is_terminal:
                    continue
                schedule, slot = self._schedule_of(in_run(run))
                level = logging.WARNING if state == "failed" else logging.INFO
                words = outcome(_been(state), len(status.allowed))
                _LOG.log(level, "schedule %s: run %s has %s", schedule, run, words)
                if state == "completed":
                    self._mended(self._troubles.completed(schedule, slot), run, words)

    def _mended(
        self, trouble: Trouble | None, by: str, words: str = "completed"
    ) -> None:
        """Tell that a trouble is over, to whom it was told; *words* say how."""
        if trouble is None:
            return
        many = counted(max(1, trouble.count), "failure")
        subject = f"{trouble.kind} {trouble.name}"
        text = visible(f"{subject} is well again after {many}: {by} has {words}")
        _LOG.info("%s", text)
        if any(trouble.messages.values()):
            schedule = trouble.name if trouble.slot else None
            fields = {"task_id": trouble.task_id, "schedule": schedule}
            self._send(self._message("recovered", by, text, **fields))

    # -- what waits for a person, and what did not happen --------------------------

    def _blocked(self, event: TaskBlocked) -> None:
        if telling_of("blocked", event.cause).message == "blocked":
            self._note_judged(event.task_id, event.cause, event.reason)

    def _unblocked(self, event: TaskUnblocked) -> None:
        self._judged.pop(event.task_id, None)

    def _note_judged(self, task_id: str, cause: str, reason: str) -> None:
        if task_id in self._judged:
            return
        why = f"a person must decide: {reason}"
        if cause == DENIED:
            why = f"policies deny its start: {reason}"
        # What policies deny for one reason is told once, as long as it is so.
        is_told = cause == DENIED and why in self._judged.values()
        _remember(self._judged, task_id, why)
        if is_told:
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

    def _note_refused(self, facts: tuple[str, Exception, int]) -> None:
        """What a schedule makes was refused, which the health says, too."""
        schedule, error, at_ns = facts
        reason = f"it was refused, and is tried again: {error}"
        self._tell_skipped(schedule, at_ns, 0, reason, f"schedule {schedule}: {reason}")

    def _fired(self, event: ScheduleFired) -> None:
        self._skipped.pop(event.name, None)
        how = "" if event.by == "clock" else f", by {event.by}"
        _LOG.info("schedule %s: %s is made%s", event.name, event.task_id, how)

    def _passed_over(self, event: ScheduleSkipped) -> None:
        slot = stamp(event.slot_ns / NS, "auto")
        many = f"the slot {slot}"
        if event.slots > 1:
            many = f"{event.slots:,} slots, the last of them {slot},"
        text = visible(f"schedule {event.name}: {many} did not happen: {event.reason}")
        if event.reason.startswith(_WANTED):
            _LOG.info("%s", text)
            return
        # Which of many slots it is makes no other line of it.
        if self._is_news(f"{event.name} {event.reason}"):
            _LOG.warning("%s", text)
        self._skipped[event.name] = text
        self._tell_skipped(
            event.name, event.at_ns, event.slots, event.reason, text, slot
        )

    def _tell_skipped(
        self,
        schedule: str,
        at_ns: int,
        slots: int,
        reason: str,
        text: str,
        slot: str = "refused",
    ) -> None:
        """A schedule has not made what was due: once a *reason* and hour."""
        # Which task has not ended makes no other reason of it.
        kind = schedule, FailureCause.common(schedule, "", reason)[1]
        since = self._reasons.get(kind)
        if since is not None and at_ns - since < _AGAIN * NS:
            return
        _remember(self._reasons, kind, at_ns)
        self._send(
            self._message(
                "skipped",
                f"{schedule}/{slot}",
                visible(text),
                timestamp=stamp(at_ns / NS, "microseconds"),
                schedule=schedule,
                slots=slots,
                reason=reason,
            )
        )

    # -- alerts, and parts that fail -----------------------------------------------

    def _alert(self, event: AlertRaised | AlertCleared, **more: Any) -> dict[str, Any]:
        """Send what is to be told of an alert, and return it."""
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
        """A budget is told of as an alert is."""
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
        self, facts: tuple[PolicyViolated, Sequence[tuple[str, ...]]]
    ) -> None:
        """Policies are violated: by a line in the log, and an alert, if it is bad."""
        event, violations = facts
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
        """A policy is violated: it is told of as an alert is, once in a while."""
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
        """Whether this was not said a moment ago."""
        now = monotonic()
        since = self._said.pop(text, None)
        is_news = since is None or now - since >= _PAUSE
        _remember(self._said, text, now if since is None or is_news else since)
        return is_news

    # -- a new life ----------------------------------------------------------------

    def _started(self, _: object) -> None:
        """Go through what earlier lives have left, and tell what is not over."""
        kernel = self._rt.kernel

        def look(_: int) -> list[_Before]:
            return list(_before(kernel.tasks.values()))

        rows: list[_Before] = self._rt.step(look)
        # As it was heard then: so what was told has the number that it had.
        rows.sort(key=lambda row: row.at_ns)
        latest = {
            stem_of(row.task_id): row
            for row in sorted(rows, key=lambda row: number_of(row.task_id))
        }
        whole = _whole(latest.values())
        news: list[tuple[Trouble, _Before]] = []
        for row in rows:
            stem = stem_of(row.task_id)
            if row.error is not None:
                trouble = self._note_failure(
                    row.task_id, row.error, row.at_ns, is_told=False
                )
                if trouble is not None:
                    news.append((trouble, row))
            elif row.state is TaskState.COMPLETED:
                self._note_completed(stem, row.run, whole)
            elif row.reason and latest[stem] is row:
                self._note_judged(row.task_id, row.cause, row.reason)
        in_trouble = self._troubles.of(*_KINDS, now_ns=self._rt.now())
        for trouble, row in news:
            assert row.error is not None  # noqa: S101 - it is one that failed
            cause = FailureCause.common(row.task_id, *row.error)
            if trouble in in_trouble and not trouble.messages.get(cause):
                self._tell_failure(trouble, cause, row.task_id, row.error)

    def _look_at_budgets(self, _: object) -> None:
        """Tell which budgets earlier lives have left low."""
        rows = self._rt.kernel.budgets

        def look(now: int) -> list[BudgetLow]:
            return list(_low(rows.values(), now))

        for low in self._rt.step(look):
            self._budget_low(low)

    def _note_completed(self, stem: str, run: str, whole: set[str]) -> None:
        """A task of *run* has completed in an earlier life; so have all of *whole*."""
        schedule, slot = self._schedule_of(stem)
        if not schedule:
            self._troubles.mended(stem, run)
        elif run in {"", schedule, *whole}:
            self._troubles.completed(schedule, slot)

    # -- telling -------------------------------------------------------------------

    def _message(
        self, kind: str, number: str, text: str, **fields: Any
    ) -> dict[str, Any]:
        """A message; its kind, *number* and time tell it from all others."""
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
        bad = [
            f"{each.name}: {each.text}{_in_a_row(each.count)}"
            for each in self._troubles.of("schedule", now_ns=self._rt.now())
        ]
        bad += [text.partition(" ")[2] for text in list(self._skipped.values())]
        return _check("schedules", bad)

    def _runs_check(self) -> HealthCheck:
        troubles = self._troubles.of("run", now_ns=self._rt.now())
        return _check("runs", [f"{each.name}: {each.text}" for each in troubles])

    def _decisions_check(self) -> HealthCheck:
        tasks = self._rt.kernel.tasks
        bad: list[str] = []
        for name, reason in list(self._judged.items()):
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

    def _budgets_check(self) -> HealthCheck:
        bad = []
        for row in list(self._rt.kernel.budgets.values()):
            if row.is_open or not (row.is_low or row.asked > 0):
                continue
            amounts = [
                _spent_of(spent, row.pools[name].total, name)
                for name, spent in list(row.spent.items())
            ]
            asks = "; tasks wait for more" if row.asked > 0 else ""
            bad.append(f"{row.name}: {', '.join(amounts)}{asks}")
        return _check("budgets", bad)


def _spent_of(spent: int, total: int, resource: str) -> str:
    """How much is spent of a resource, of amounts in millionths."""
    return f"{spent / 1e6:.12g} of {total / 1e6:.12g} {resource} spent"


def _check(component: str, bad: list[str]) -> HealthCheck:
    if not bad:
        return HealthCheck(component, "ok")
    more = f"; and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else ""
    detail = "; ".join(bad[:_NAMED]) + more
    return HealthCheck(component, "degraded", visible(detail))


def _in_a_row(count: int) -> str:
    return f" ({count:,} in a row)" if count > 1 else ""


def _been(state: str) -> str:
    return f"been {state}" if state == "cancelled" else state


@attrs.frozen
class _Before:
    """A task that an earlier life has left, as far as it matters here."""

    task_id: str
    #: The run of a workflow that it is of, or "".
    run: str
    state: TaskState
    at_ns: int
    #: Of one that failed, unless that is accounted for.
    error: tuple[str, str] | None
    #: Why a person must judge it: the cause, and in words.
    cause: str
    reason: str


def _before(rows: Iterable[TaskRow]) -> Iterator[_Before]:
    for row in rows:
        _, at_ns, detail = moves_of(row)[-1]
        error = None if row.extra is None else row.extra.error
        kind, message, cause = error or ("", "", "")
        failure, reason = None, ""
        if row.state is TaskState.FAILED and error and not is_accounted_for(row):
            failure = kind, message
        elif row.state is TaskState.BLOCKED and cause:
            is_told = telling_of("blocked", cause).message == "blocked"
            reason = (detail or message) if is_told else ""
        state = row.state
        if state is TaskState.FAILED and row.bucket.spec.allow_failure:
            state = TaskState.COMPLETED
        yield _Before(row.id, row.run, state, at_ns, failure, cause, reason)


def _low(rows: Iterable[BudgetRow], now: int) -> Iterator[BudgetLow]:
    """What is to be told of the budgets that are low: no fact, so it has no number."""
    for row in rows:
        if row.is_low and not row.is_open:
            amounts = [(n, row.spent[n], total) for n, total in row.totals]
            least = max(amounts, key=lambda each: each[1] / each[2])
            yield BudgetLow(0, now, row.name, *least)


def _whole(rows: Iterable[_Before]) -> set[str]:
    """The runs all of whose tasks have completed."""
    runs: dict[str, set[TaskState]] = {}
    for row in rows:
        runs.setdefault(row.run, set()).add(row.state)
    return {run for run, states in runs.items() if states == {TaskState.COMPLETED}}
