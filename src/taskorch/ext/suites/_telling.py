"""
Tells what happens in a run of a suite: messages, and lines of a log.

Decision: test-suites.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

import attrs

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.core.inside import Inside
from taskorch.core.workflows import WorkflowReport
from taskorch.events import (
    BudgetExhausted,
    JournalDegraded,
    JournalRestored,
    RecoveryAttempted,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskOptionsChanged,
    TaskProgressed,
    TaskRetrying,
    TaskStarted,
)
from taskorch.ext.notices.failed import class_by_cause
from taskorch.ext.recovery._matrix import matrix_with
from taskorch.ext.suites import _messages, _words
from taskorch.ext.suites._attempt import name_of, with_stop
from taskorch.ext.suites._folder import History, JsonLines, RunFolder, kept_in
from taskorch.ext.suites._model import (
    RUN,
    Suite,
    SuiteTask,
    parts_of,
    phases_of,
)
from taskorch.ext.suites._receiver import SuiteWebhook
from taskorch.ext.suites._report import Slice
from taskorch.ext.suites._results import BAD
from taskorch.ext.suites._whole import put_together
from taskorch.kit.fence import log_of
from taskorch.kit.limits import NS
from taskorch.kit.visible import counted
from taskorch.kit.words import stamp
from taskorch.model import TERMINAL, Resources, TaskState
from taskorch.model.ids import first_of, in_run, run_of

_LOG: Final = log_of("taskorch.suites")
#: How long an attempt was given, as its timeout says it.
_LIMIT: Final = re.compile(r"its timeout of (\S+) s$")
#: The end of an attempt, or of a task.
_End: TypeAlias = TaskCompleted | TaskRetrying | TaskFailed | TaskCancelled
#: A thing that was tried after a failure: attempt, action, result and time.
_Tried: TypeAlias = tuple[int, str, str, float]
#: The fields of a repair in the lines of a log.
_RECOVERY: Final = ("attempt", "level", "kind", "action", "result", "message")
_STATES: Final[Mapping[type[TaskEvent], TaskState]] = {
    TaskCompleted: TaskState.COMPLETED,
    TaskRetrying: TaskState.RETRYING,
    TaskFailed: TaskState.FAILED,
    TaskCancelled: TaskState.CANCELLED,
}
#: The most tests of which a failure says how to run them alone.
_SHOWN: Final = 3


class AttemptTimeline:
    """
    The attempts of a run, kept in its folder.

    There is a line when an attempt begins, without an outcome, and another when it has
    ended, each with the id of the task as `run`; so what was under way in a process
    that was killed is known to the next.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._lines = JsonLines(folder.attempts)
        #: The latest attempt at each task, by its id in the run.
        self._latest: dict[str, Slice] = {}
        #: The attempts that have ended, by that id and their number.
        self._ended: dict[tuple[str, int], Slice] = {}
        #: When the first one began.
        self._first: dict[str, float] = {}
        #: When the process that was killed has left its last trace.
        self._last_trace = 0.0
        for path in (folder.attempts, folder.messages, folder.events):
            with suppress(OSError):
                self._last_trace = max(self._last_trace, path.stat().st_mtime)
        for line in self._lines.read():
            run = line.pop("run")
            self._note(run, Slice(**line))
        self._killed = {run for run, one in self._latest.items() if not one.outcome}

    def begins(self, event: TaskStarted) -> None:
        """Note that an attempt has begun."""
        name = name_of(event.task_id)
        one = Slice(name, event.attempt, event.agent_id, event.at, event.at, "")
        self._killed.discard(event.task_id)
        self._write(event.task_id, one)

    def ends(self, event: _End) -> None:
        """Note that the attempt under way has ended, if there is one."""
        one = self._latest.get(event.task_id)
        outcome = _STATES[type(event)].value
        if one is None or (one.outcome and not self._is_late(event, one)):
            return
        end = event.at
        if event.task_id in self._killed:
            end = max(one.start, min(end, self._last_trace))
            # Its worker may have ended it when nobody was there to be told.
            results = self._folder.results_of(one.task, event.task_id, one.attempt)
            end = max(end, results.get("ended", end))
        self._write(event.task_id, attrs.evolve(one, end=end, outcome=outcome))

    def _is_late(self, event: _End, one: Slice) -> bool:
        """Return whether *event* ends *one* late, which was taken for killed."""
        if isinstance(event, TaskCancelled) or event.task_id not in self._killed:
            return False
        return event.attempt == one.attempt and one.outcome == "retrying"

    def first(self, task_id: str) -> float | None:
        """Return the start of the first attempt at a task; None if none has begun."""
        return self._first.get(task_id)

    def outcomes(self) -> dict[str, str]:
        """Return the outcome of the latest attempt at each task, by name."""
        return {one.task: one.outcome for one in self._latest.values()}

    def latest(self, task_id: str) -> Slice | None:
        """The latest attempt at a task of the run, if there is one."""
        return self._latest.get(task_id)

    def slices(self) -> tuple[Slice, ...]:
        """All attempts that have ended; of each, what was told last."""
        return tuple(self._ended.values())

    def _write(self, run: str, one: Slice) -> None:
        self._note(run, one)
        self._lines.write({"run": run, **attrs.asdict(one)})

    def _note(self, run: str, one: Slice) -> None:
        self._latest[run] = one
        self._first.setdefault(run, one.start)
        if one.outcome:
            self._ended[run, one.attempt] = one


@attrs.frozen
class Ended:
    """
    A task has ended, or an attempt at it has failed.

    Attributes:
        name: The id of the task.
        state: `completed`, `retrying`, `failed` or `cancelled`.
        worker: The worker that did the task.
        attempt: The number of the attempt; 0: there was none.
        message: Why it did not complete.
        ended: How many tasks of the suite have ended, in earlier incarnations, too.
        total: How many there are; the parts of one that is sharded are tasks.
    """

    name: str
    state: str
    worker: str
    attempt: int
    message: str = ""
    ended: int = 0
    total: int = 0

    @property
    def level(self) -> int:
        """The level of `logging` for the end of the attempt."""
        levels = {"completed": logging.INFO, "retrying": logging.WARNING}
        return levels.get(self.state, logging.ERROR)


class SuiteTeller:
    """
    Tells what happens in a run of a suite, and keeps its timeline.

    *tell* is called with each attempt that has ended, and *phase* with a line for each
    phase that begins, or goes on.
    """

    def __init__(
        self,
        orchestrator: TaskOrchestrator,
        suite: Suite,
        folder: RunFolder,
        tell: Callable[[Ended], object],
        receiver: SuiteWebhook | None = None,
        phase: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._tell_phase = phase
        self._phases = phases_of(suite)
        #: The phases that have begun, or gone on, in this process.
        self._begun: set[str] = set()
        watch = suite.monitoring
        limits = (watch.log_rotation_size, watch.log_retention_days)
        #: The messages to and from workers.
        self.messages: JsonLines = JsonLines(folder.messages, *limits)
        #: When tasks were given out, and when they ended.
        self.lines: JsonLines = JsonLines(folder.events, *limits)
        self._orchestrator = orchestrator
        self._failed_tasks = Inside(orchestrator).failed_tasks()
        self._suite = suite
        self._folder = folder
        #: Who did what when.
        self.timeline: AttemptTimeline = AttemptTimeline(folder)
        self._tell = tell
        self._receiver = receiver
        self._history = History.read(folder.history)
        self._matrix = matrix_with(suite.matrix)
        self._tasks = {part.id: part for part in parts_of(suite)}
        self._wholes = {task.id: task for task in suite.tasks if task.subtasks}
        #: The tasks that have ended, in earlier processes too.
        self._done: set[str] = set()
        #: The wholes of which it was told that they have ended.
        self._over: set[str] = set()
        self._lock = threading.Lock()
        # A run that goes on counts on.
        self._number = sum(1 for _ in self.messages.read())
        self._failed: dict[str, list[tuple[int, str, str, float]]] = {}
        self._cpu: dict[str, tuple[float, float]] = {}
        self._timeouts: dict[str, float | None] = {}
        signals = orchestrator.signals
        for signal, receive in (
            (signals.task_started, self._started),
            (signals.task_options_changed, self._changed),
            (signals.task_progressed, self._progressed),
            (signals.task_retrying, self._retrying),
            (signals.recovery_attempted, self._recovering),
            (signals.task_completed, self._ended),
            (signals.task_failed, self._ended),
            (signals.task_cancelled, self._ended),
            (signals.budget_exhausted, _say_exhausted),
            (signals.journal_degraded, _say_degraded),
            (signals.journal_restored, _say_restored),
        ):
            signal.connect(receive)

    def know(self, report: WorkflowReport) -> None:
        """Note the tasks that ended in earlier processes."""
        done = {task.name for task in report.tasks if task.state in TERMINAL}
        self._done |= self._tasks.keys() & done

    def _task(self, event: TaskEvent) -> SuiteTask | None:
        """The task of the suite that *event* is about."""
        if run_of(event.task_id) != RUN:
            return None
        return self._tasks.get(name_of(event.task_id))

    def _worker(self, event: TaskEvent) -> str:
        """Name of the worker of the latest attempt at the task."""
        latest = self.timeline.latest(event.task_id)
        return "local" if latest is None else latest.agent

    def _send(self, kind: str, at: float, about: Mapping[str, Any]) -> None:
        """Write a message of this *kind*."""
        with self._lock:
            self._number += 1
            number = self._number
        message = {
            "message_type": kind,
            "message_id": f"msg_{number:03}",
            "timestamp": stamp(at),
            **about,
        }
        _messages.check_message(message)
        self.messages.write(message)

    def _log(self, kind: str, at: float, /, **about: Any) -> None:
        """Write a line about an event of this *kind*."""
        self.lines.write({"event": kind, **about, "timestamp": stamp(at)})

    # -- what is heard -------------------------------------------------------------

    def _started(self, event: TaskStarted) -> None:
        task = self._task(event)
        if task is None:
            return
        self._begin_phase(task, event)
        self.timeline.begins(event)
        self._over -= {name for name, w in self._wholes.items() if task in w.subtasks}
        self._cpu[task.id] = event.at, 0.0
        # Its resources and timeout may have grown after a failed attempt.
        held = {**task.resources, **Resources.from_units(event.allocation)}
        granted = attrs.evolve(
            task, resources=Resources(**held), timeout=self._timeout(event.task_id)
        )
        about = _messages.assignment(self._suite.name, event.agent_id, granted)
        self._send("task_assignment", event.at, about)
        self._log(
            "task_assigned",
            event.at,
            task_id=task.id,
            agent_id=event.agent_id,
            memory_mb=held.get("memory_mb", 0.0),
            cpu_cores=held.get("cpu", 0.0),
        )

    def _begin_phase(self, task: SuiteTask, event: TaskStarted) -> None:
        """Tell that the phase of *task* begins, if this is its first attempt here."""
        phase = self._phases[task.id]
        if phase.name in self._begun:
            return
        self._begun.add(phase.name)
        parts = [name for name, each in self._phases.items() if each is phase]
        tasks = counted(len(parts), "task")
        outcomes = self.timeline.outcomes()
        if outcomes.keys().isdisjoint(parts):
            self._tell_phase(f"{phase.name} begins: {tasks}")
        else:
            unfinished = sum(outcomes.get(name) != "completed" for name in parts)
            self._tell_phase(f"{phase.name} goes on: {unfinished:,} of {tasks} left")
        self._log("phase_started", event.at, phase=phase.name, tasks=len(parts))

    def _timeout(self, task_id: str) -> float | None:
        """Seconds that the attempt at a task has."""
        if task_id not in self._timeouts:
            self._timeouts[task_id] = self._failed_tasks.timeout(task_id)
        return self._timeouts[task_id]

    def _changed(self, event: TaskOptionsChanged) -> None:
        limit = event.timeout_ns
        self._timeouts[event.task_id] = None if limit is None else limit / NS

    def _progressed(self, event: TaskProgressed) -> None:
        task = self._task(event)
        if task is None or not isinstance(event.value, Mapping):
            return
        figures = dict(event.value)
        before, used = self._cpu.get(task.id, (event.at, 0.0))
        seconds = event.at - before
        busy = (figures["cpu_seconds"] - used) / seconds if seconds > 0 else 0.0
        figures["cpu_utilization"] = round(100 * max(0.0, busy))
        self._cpu[task.id] = event.at, figures["cpu_seconds"]
        about = _messages.progress(self._worker(event), task.id, figures)
        self._send("progress_update", event.at, about)

    def _recovering(self, event: RecoveryAttempted) -> None:
        task = self._task(event)
        if task is not None:
            # The end of the attempt shows whether that helped.
            result = "pending" if event.result in ("retry", "done") else "failed"
            tried = (event.attempt, event.action, result, event.at)
            self._failed.setdefault(task.id, []).append(tried)
            about = {name: getattr(event, name) for name in _RECOVERY}
            self._log("recovery_attempted", event.at, task_id=task.id, **about)

    def _retrying(self, event: TaskRetrying) -> None:
        task = self._task(event)
        if task is not None:
            self._tell_end(task, event)
            self._tell_failure(task, event, is_final=False)

    def _ended(self, event: TaskCompleted | TaskFailed | TaskCancelled) -> None:
        task = self._task(event)
        if task is None:
            self._whole_ended(event)
            return
        self._tell_end(task, event)
        if isinstance(event, TaskFailed):
            self._tell_failure(task, event, is_final=True)
        state = _STATES[type(event)]
        # The results of the last attempt, if it wrote any.
        results = kept_in(self._folder.results(task.id))
        first = self.timeline.first(event.task_id)
        began = event.at if first is None else first
        worker = self._worker(event)
        tried: Sequence[_Tried] = self._failed.get(task.id, ())
        if isinstance(event, TaskCompleted):
            of_last = self._folder.results_of(task.id, event.task_id, event.attempt)
            tried = self._tried(task, event, of_last)
        self._complete(task, worker, state, (began, event.at), results, tried)
        self._log(
            "task_completed",
            event.at,
            task_id=task.id,
            agent_id=worker,
            duration_seconds=round(event.at - began, 3),
            status=_words.FINAL_STATUS[state],
            test_pass_rate=results.get("pass_rate"),
            coverage=results.get("coverage"),
        )
        for whole in self._wholes.values():
            if task in whole.subtasks:
                self._part_ended(whole, event)

    def _complete(
        self,
        task: SuiteTask,
        worker: str,
        state: TaskState,
        span: tuple[float, float],
        results: Mapping[str, Any],
        tried: Sequence[_Tried] = (),
    ) -> None:
        """Send that *task* has ended, for good."""
        kept = self._folder.results, self._folder.coverage, self._folder.worker_report
        paths = [of(task.id) for of in kept]
        about = {
            **_messages.completion(worker, task.id, state, span, results, tried),
            "artifacts": [path.name for path in paths if path.exists()],
            "next_actions": list(self._next_actions(task)),
        }
        self._send("task_completion", span[1], about)

    def _tell_end(self, task: SuiteTask, event: _End) -> None:
        """Note the end of an attempt, and tell whoever runs the suite."""
        self.timeline.ends(event)
        if getattr(event, "cause", "") == "interrupted":
            # The orchestrator stops before its end: the next incarnation goes on.
            return
        state = _STATES[type(event)].value
        message = getattr(event, "message", "") or getattr(event, "reason", "")
        latest = self.timeline.latest(event.task_id)
        worker, attempt = ("", 0) if latest is None else (latest.agent, latest.attempt)
        results = self._folder.results_of(task.id, event.task_id, attempt)
        if state != "retrying":
            self._done.add(task.id)
        message = with_stop(message, results)
        numbers = len(self._done), len(self._tasks)
        self._tell(Ended(task.id, state, worker, attempt, message, *numbers))

    def _whole_ended(self, event: TaskCompleted | TaskFailed | TaskCancelled) -> None:
        whole = self._wholes.get(name_of(event.task_id))
        if whole is not None and run_of(event.task_id) == RUN:
            self._tell_whole(whole, event.at, _STATES[type(event)])

    def _part_ended(self, whole: SuiteTask, event: TaskEvent) -> None:
        """Tell that *whole* has not succeeded, once none of its parts is left."""
        states = self._orchestrator.workflows.status(RUN).tasks
        parts = {states[part.id] for part in whole.subtasks}
        bad = parts & {TaskState.FAILED, TaskState.CANCELLED}
        if bad and parts <= {*TERMINAL, TaskState.BLOCKED}:
            state = TaskState.FAILED if TaskState.FAILED in bad else TaskState.CANCELLED
            self._tell_whole(whole, event.at, state)

    def _tell_whole(self, whole: SuiteTask, at: float, state: TaskState) -> None:
        if whole.id in self._over:
            return
        self._over.add(whole.id)
        results = put_together(whole, self._folder)
        span = results.get("started", at), at
        self._complete(whole, "local", state, span, results)

    # -- what it means -------------------------------------------------------------

    def _tried(
        self, task: SuiteTask, event: _End, results: Mapping[str, Any]
    ) -> list[_Tried]:
        """Note at the end of an attempt what was tried in it, and whether it helped."""
        number = getattr(event, "attempt", 0)
        is_good = isinstance(event, TaskCompleted)
        words = {True: "success", False: "failed"}
        tried = self._failed.setdefault(task.id, [])
        for test in results.get("tests", ()):
            if test.get("is_flaky") or test.get("failed_again"):
                action = f"rerun_failed_tests {test['id']}"
                result = words[bool(test.get("is_flaky"))]
                tried.append((number, action, result, event.at))
                about = {"attempt": number, "action": action, "result": result}
                self._log("recovery_attempted", event.at, task_id=task.id, **about)
        if number > 1:
            tried.append((number, "automatic_retry", words[is_good], event.at))
        tried[:] = [
            (of, act, words[is_good and of == number], at)
            if result == "pending"
            else (of, act, result, at)
            for of, act, result, at in tried
        ]
        return tried

    def _tell_failure(
        self, task: SuiteTask, event: TaskRetrying | TaskFailed, *, is_final: bool
    ) -> None:
        results = self._folder.results_of(task.id, event.task_id, event.attempt)
        attempts = self._tried(task, event, results)
        failed = [t for t in results.get("tests", ()) if t["outcome"] in BAD]
        kind = class_by_cause(event.failure_class, event.cause)
        threshold = self._suite.retries.escalation_threshold
        is_over = threshold is not None and event.attempt >= threshold
        is_for_people = is_final and self._is_for_people(kind, event.attempt)
        message = with_stop(event.message, results)
        if is_for_people and self._receiver is not None:
            failed_as = event.attempt, event.error_type, event.message
            self._receiver.tell_failure(event.task_id, *failed_as, kind)
        worker = event.agent_id or "local"
        about = {
            **_messages.failure(worker, task.id, kind, message, failed, attempts),
            "escalation_required": is_over or is_for_people,
            "recommended_actions": list(self._advice(task, kind, failed, event)),
        }
        self._send("failure_notification", event.at, about)

    def _is_for_people(self, kind: str, attempts: int) -> bool:
        """Return whether people hear of a failure after *attempts*."""
        retries = self._suite.retries
        threshold = retries.escalation_threshold
        if threshold is None or attempts >= threshold:
            return True
        # With a matrix, more attempts may be of no use.
        return self._suite.recovery and (
            attempts <= retries.max_retries or self._matrix[kind].human == "always"
        )

    def catch_up(self) -> None:
        """Report failures from before this process that were not reported yet."""
        if self._receiver is None:
            return
        for report in self._orchestrator.workflows.get(RUN).report().tasks:
            if report.name not in self._tasks or report.state is not TaskState.FAILED:
                continue
            failure = self._failed_tasks.latest(report.task_id)
            if failure is None or failure.cause == "dependency":
                continue
            kind = failure.failure_class
            if self._is_for_people(kind, failure.attempt):
                failed_as = failure.attempt, failure.error_type, failure.message
                self._receiver.tell_failure(report.task_id, *failed_as, kind)

    def _advice(
        self,
        task: SuiteTask,
        kind: str,
        failed: list[Mapping[str, Any]],
        event: TaskRetrying | TaskFailed,
    ) -> Iterator[str]:
        """Return the advice for a failure; it is never empty."""
        for test in failed[:_SHOWN]:
            yield f"Run it alone: pytest '{test['id']}'"
            over_runs = self._history.over_runs({"flaky": ()}, test)
            if over_runs:
                yield f"See its latest runs: {test['id']} is {over_runs}"
        limit = _LIMIT.search(event.message)
        if kind == "timeout_error" and limit is not None:
            yield f"Give {task.id} more than {limit[1]} s, or see where it hangs"
        if kind == "import_error":
            yield "Install what is missing where the tests run"
        elif self._suite.recovery:
            yield from self._matrix[kind].actions
        if isinstance(event, TaskRetrying):
            yield f"Wait for the next attempt, in {event.delay:g} s"
            return
        yield f"Read {self._folder.logs.name}/{task.id}.*.log"
        yield f"Then run again what failed: taskorch suite run --failed ({task.id})"

    def _next_actions(self, task: SuiteTask) -> Iterator[str]:
        """Say which tasks can go on now, or when, as `explain` does."""
        done = {task.id, *(t.id for t in self._suite.tasks if task in t.subtasks)}
        for other in self._suite.tasks:
            if not done & set(other.dependencies):
                continue
            first = other.run[0].id
            explanation = self._orchestrator.explain(in_run(RUN, first))
            if explanation.state not in (TaskState.PENDING, TaskState.BLOCKED):
                yield f"Task {other.id} can proceed"
                continue
            # An order of tasks, or a gate, is named after what it waits for.
            names = dict.fromkeys(
                first_of(name_of(blocker.name))
                for blocker in explanation.blockers
                if blocker.name
            )
            if not names:
                yield f"Task {other.id} can proceed"
            elif explanation.state is TaskState.BLOCKED:
                yield f"Task {other.id} cannot proceed: {_and(names)} did not succeed"
            else:
                yield f"Task {other.id} can proceed when {_and(names)} complete"


def _say_degraded(event: JournalDegraded) -> None:
    _LOG.warning("taskorch: nothing new begins until this is mended: %s", event.reason)


def _say_exhausted(event: BudgetExhausted) -> None:
    total, spent = event.total / 1e6, event.spent / 1e6
    _LOG.warning(
        "taskorch: tasks wait, since budget %s is used up: %.12g of %.12g %s are "
        "spent. Stop this run, say more in its configuration, and the same command "
        "goes on; or answer the question on its page",
        *(event.budget, spent, total, event.resource),
    )


def _say_restored(_event: JournalRestored) -> None:
    _LOG.warning("taskorch: the journal can be written again: it goes on")


def _and(names: Mapping[str, Any]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
