"""
Tells what happens in a run of a suite: messages, and lines of a log.

Decision: 0098.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import attrs

from taskorch._orchestrator import TaskOrchestrator
from taskorch._telling.failed import class_by_cause
from taskorch.door import Door
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
from taskorch.frontends.suite import _messages, _words
from taskorch.frontends.suite._attempt import name_of, with_stop
from taskorch.frontends.suite._folder import History, JsonLines, RunFolder, kept_in
from taskorch.frontends.suite._model import Suite, SuiteTask, parts_of
from taskorch.frontends.suite._receiver import SuiteWebhook
from taskorch.frontends.suite._report import Slice
from taskorch.frontends.suite._results import BAD
from taskorch.frontends.suite._whole import put_together
from taskorch.kit.fence import log_of
from taskorch.kit.limits import NS
from taskorch.kit.visible import counted
from taskorch.kit.words import stamp
from taskorch.model import TERMINAL, Resources, TaskState
from taskorch.model.ids import first_of, in_run, run_of
from taskorch.recovery._matrix import matrix_with
from taskorch.workflows import WorkflowReport

_LOG: Final = log_of("taskorch.frontends.suite")
#: How long an attempt was given, as its timeout says it.
_LIMIT: Final = re.compile(r"its timeout of (\S+) s$")


#: What a line says of the attempt, beside its `run`: the id of its task there.
_FIELDS: Final = tuple(attrs.fields_dict(Slice))


class AttemptTimeline:
    """
    The attempts of a run, kept in its folder.

    There is a line when an attempt begins, without an end, and another when it has
    ended; so what was under way in a process that was killed is known to the next.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._lines = JsonLines(folder.attempts, 1 << 40, 1e6)
        #: The latest attempt at each task, by its id in the run.
        self._latest: dict[str, Slice] = {}
        #: When the first one began.
        self._first: dict[str, float] = {}
        #: When the process that was killed has left its last trace.
        self._last_trace = 0.0
        for path in (folder.attempts, folder.messages, folder.events):
            with suppress(OSError):
                self._last_trace = max(self._last_trace, path.stat().st_mtime)
        for line in self._lines.read():
            self._note(line.get("run", line["task"]), _slice(line))
        self._killed = {run for run, one in self._latest.items() if not one.outcome}

    def begins(self, event: TaskStarted) -> None:
        """Note that an attempt has begun."""
        name = name_of(event.task_id)
        one = Slice(name, event.attempt, event.agent_id, event.at, event.at, "")
        self._killed.discard(event.task_id)
        self._write(event.task_id, one)

    def ends(
        self, event: TaskCompleted | TaskRetrying | TaskFailed | TaskCancelled
    ) -> None:
        """Note that the attempt under way has ended, if there is one."""
        one = self._latest.get(event.task_id)
        outcome = type(event).__name__.removeprefix("Task").lower()
        if one is None or (one.outcome and not self._is_late(event, one)):
            return
        end = event.at
        if event.task_id in self._killed:
            end = max(one.start, min(end, self._last_trace))
            # Its agent may have ended it when nobody was there to be told.
            results = self._folder.results_of(one.task, event.task_id, one.attempt)
            end = max(end, results.get("ended", end))
        self._write(event.task_id, attrs.evolve(one, end=end, outcome=outcome))

    def _is_late(
        self,
        event: TaskCompleted | TaskRetrying | TaskFailed | TaskCancelled,
        one: Slice,
    ) -> bool:
        """Whether the end of *one* is told, which was taken for interrupted."""
        if isinstance(event, TaskCancelled) or event.task_id not in self._killed:
            return False
        return event.attempt == one.attempt and one.outcome == "retrying"

    def first(self, task_id: str) -> float | None:
        """When the first attempt at a task of the run began; None if none has."""
        return self._first.get(task_id)

    def outcomes(self) -> dict[str, str]:
        """How the latest attempts at tasks have ended, by the names of the tasks."""
        return {one.task: one.outcome for one in self._latest.values()}

    def latest(self, task_id: str) -> Slice | None:
        """The latest attempt at a task of the run, if there is one."""
        return self._latest.get(task_id)

    def slices(self) -> tuple[Slice, ...]:
        """All attempts that have ended; of each, what was told last."""
        latest = {
            (line.get("run", line["task"]), line["attempt"]): _slice(line)
            for line in self._lines.read()
            if line["outcome"]
        }
        return tuple(latest.values())

    def _write(self, run: str, one: Slice) -> None:
        self._note(run, one)
        self._lines.write({"run": run, **attrs.asdict(one)})

    def _note(self, run: str, one: Slice) -> None:
        self._latest[run] = one
        self._first.setdefault(run, one.start)


def _slice(line: Mapping[str, Any]) -> Slice:
    return Slice(**{name: line[name] for name in _FIELDS})


@attrs.frozen
class Ended:
    """
    A task has ended, or an attempt at it has failed.

    Attributes:
        name: The id of the task.
        state: `completed`, `retrying`, `failed` or `cancelled`.
        agent: Who did it.
        attempt: The number of the attempt; 0: there was none.
        message: Why it did not complete.
        ended: How many tasks of the suite have ended by now, in earlier lives too.
        total: How many there are; the parts of one that is sharded are tasks.
    """

    name: str
    state: str
    agent: str
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
        run_id: str,
        folder: RunFolder,
        tell: Callable[[Ended], object],
        receiver: SuiteWebhook | None = None,
        phase: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._tell_phase = phase
        #: The phases that are to begin, or to go on, in this process.
        self._phases = {one.name: one for one in suite.phases}
        watch = suite.monitoring
        limits = (watch.log_rotation_size, watch.log_retention_days)
        #: What is said to and by agents.
        self.messages: JsonLines = JsonLines(folder.messages, *limits)
        #: When tasks were given out, and when they ended.
        self.lines: JsonLines = JsonLines(folder.events, *limits)
        self._orchestrator = orchestrator
        self._failed_tasks = Door(orchestrator).failed_tasks()
        self._suite = suite
        self._folder = folder
        #: Who did what when.
        self.timeline: AttemptTimeline = AttemptTimeline(folder)
        self._tell = tell
        self._receiver = receiver
        self._history = History.read(folder.history)
        self._matrix = matrix_with(suite.matrix)
        self._run_id = run_id
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
        """Take in what had ended in earlier processes."""
        done = {task.name for task in report.tasks if task.state in TERMINAL}
        self._done |= self._tasks.keys() & done

    def _task(self, event: TaskEvent) -> SuiteTask | None:
        """The task of the suite that *event* is about."""
        if run_of(event.task_id) != self._run_id:
            return None
        return self._tasks.get(name_of(event.task_id))

    def _agent(self, event: TaskEvent) -> str:
        """Name of the agent of the latest attempt at the task."""
        latest = self.timeline.latest(event.task_id)
        return "local" if latest is None else latest.agent

    def _send(self, message: Mapping[str, Any]) -> None:
        _messages.check_message(message)
        self.messages.write(message)

    def _next(self) -> int:
        with self._lock:
            self._number += 1
            return self._number

    # -- what is heard -------------------------------------------------------------

    def _started(self, event: TaskStarted) -> None:
        task = self._task(event)
        if task is None:
            return
        self._begin_phase(task, event)
        self.timeline.begins(event)
        self._over -= {name for name, w in self._wholes.items() if task in w.subtasks}
        self._cpu[task.id] = event.at, 0.0
        name = self._suite.name
        # What it holds and how long it has: more, where an attempt has failed for want.
        held = {**task.resources, **Resources.from_units(event.allocation)}
        granted = attrs.evolve(
            task, resources=Resources(**held), timeout=self._timeout(event.task_id)
        )
        self._send(
            _messages.assignment(self._next(), event.at, name, event.agent_id, granted)
        )
        self.lines.write(
            {
                "event": "task_assigned",
                "task_id": task.id,
                "agent_id": event.agent_id,
                "memory_mb": held.get("memory_mb", 0.0),
                "cpu_cores": held.get("cpu", 0.0),
                "timestamp": stamp(event.at),
            }
        )

    def _begin_phase(self, task: SuiteTask, event: TaskStarted) -> None:
        """Tell that the phase of *task* begins, if this is its first attempt here."""
        for phase in self._phases.values():
            parts = [part.id for each in phase.tasks for part in each.run]
            if task.id in parts:
                break
        else:
            return
        del self._phases[phase.name]
        tasks = counted(len(parts), "task")
        outcomes = self.timeline.outcomes()
        if outcomes.keys().isdisjoint(parts):
            self._tell_phase(f"{phase.name} begins: {tasks}")
        else:
            unfinished = sum(outcomes.get(name) != "completed" for name in parts)
            self._tell_phase(f"{phase.name} goes on: {unfinished:,} of {tasks} left")
        self.lines.write(
            {
                "event": "phase_started",
                "phase": phase.name,
                "tasks": len(parts),
                "timestamp": stamp(event.at),
            }
        )

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
        agent = self._agent(event)
        self._send(_messages.progress(self._next(), event.at, agent, task.id, figures))

    def _recovering(self, event: RecoveryAttempted) -> None:
        task = self._task(event)
        if task is not None:
            # Whether that helped is told by what follows.
            tried = (event.attempt, event.action, "failed", event.at)
            self._failed.setdefault(task.id, []).append(tried)

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
        folder = self._folder
        # What the last attempt has left, if it came so far.
        results = kept_in(folder.results(task.id))
        files = (
            folder.results(task.id),
            folder.coverage(task.id),
            folder.agent_report(task.id),
        )
        first = self.timeline.first(event.task_id)
        began = event.at if first is None else first
        agent = self._agent(event)
        self._send(
            _messages.completion(
                self._next(),
                event.at,
                agent,
                task.id,
                state=state,
                began=began,
                results=results,
                artifacts=[path.name for path in files if path.exists()],
                next_actions=list(self._next_actions(task)),
            )
        )
        self.lines.write(
            {
                "event": "task_completed",
                "task_id": task.id,
                "agent_id": agent,
                "duration_seconds": round(event.at - began, 3),
                "status": _words.FINAL_STATUS[state],
                "test_pass_rate": results.get("pass_rate"),
                "coverage": results.get("coverage"),
                "timestamp": stamp(event.at),
            }
        )

        for whole in self._wholes.values():
            if task in whole.subtasks:
                self._part_ended(whole, event)

    def _tell_end(
        self,
        task: SuiteTask,
        event: TaskCompleted | TaskRetrying | TaskFailed | TaskCancelled,
    ) -> None:
        """Note the end of an attempt, and tell whoever runs the suite."""
        self.timeline.ends(event)
        if getattr(event, "cause", "") == "interrupted":
            # The orchestrator stops, and has not ended it: the next life goes on.
            return
        state = type(event).__name__.removeprefix("Task").lower()
        message = getattr(event, "message", "") or getattr(event, "reason", "")
        latest = self.timeline.latest(event.task_id)
        agent, attempt = ("", 0) if latest is None else (latest.agent, latest.attempt)
        results = self._folder.results_of(task.id, event.task_id, attempt)
        if state != "retrying":
            self._done.add(task.id)
        message = with_stop(message, results)
        numbers = len(self._done), len(self._tasks)
        self._tell(Ended(task.id, state, agent, attempt, message, *numbers))

    def _whole_ended(self, event: TaskCompleted | TaskFailed | TaskCancelled) -> None:
        whole = self._wholes.get(name_of(event.task_id))
        if whole is not None and run_of(event.task_id) == self._run_id:
            self._tell_whole(whole, event.at, _STATES[type(event)])

    def _part_ended(self, whole: SuiteTask, event: TaskEvent) -> None:
        """Tell that *whole* has not succeeded, once none of its parts is left."""
        states = self._orchestrator.workflows.status(self._run_id).tasks
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
        kept = (self._folder.results, self._folder.coverage, self._folder.agent_report)
        files = [of(whole.id) for of in kept]
        message = _messages.completion(
            self._next(),
            at,
            "local",
            whole.id,
            state=state,
            began=results.get("started", at),
            results=results,
            artifacts=[path.name for path in files if path.exists()],
            next_actions=list(self._next_actions(whole)),
        )
        self._send(message)

    # -- what it means -------------------------------------------------------------

    def _tell_failure(
        self, task: SuiteTask, event: TaskRetrying | TaskFailed, *, is_final: bool
    ) -> None:
        attempts = self._failed.setdefault(task.id, [])
        results = self._folder.results_of(task.id, event.task_id, event.attempt)
        failed = [t for t in results.get("tests", ()) if t["outcome"] in BAD]
        kind = class_by_cause(event.failure_class, event.cause)
        if event.attempt > 1:
            attempts.append((event.attempt, "automatic_retry", "failed", event.at))
        is_escalated = is_final and self._is_for_people(kind, event.attempt)
        message = with_stop(event.message, results)
        if is_escalated and self._receiver is not None:
            about = event.task_id, event.error_type, event.message
            self._receiver.tell_failure(*about, message, kind)
        self._send(
            _messages.failure(
                self._next(),
                event.at,
                event.agent_id or "local",
                task.id,
                error_type=kind,
                message=message,
                failed=failed,
                attempts=attempts,
                is_escalated=is_escalated,
                actions=list(self._advice(task, kind, failed, event)),
            )
        )

    def _is_for_people(self, kind: str, attempts: int) -> bool:
        """Whether people are told of what has failed for good after *attempts*."""
        retries = self._suite.retries
        threshold = retries.escalation_threshold
        if threshold is None or attempts >= threshold:
            return True
        # With a matrix, more attempts may be of no use.
        return self._suite.recovery and (
            attempts <= retries.max_retries or self._matrix[kind].human == "always"
        )

    def catch_up(self) -> None:
        """Tell of what had failed before this process began, and was not told."""
        if self._receiver is None:
            return
        for report in self._orchestrator.workflows.get(self._run_id).report().tasks:
            if report.name not in self._tasks or report.state is not TaskState.FAILED:
                continue
            failure = self._failed_tasks.latest(report.task_id)
            if failure is None or failure.cause == "dependency":
                continue
            if not self._is_for_people(failure.failure_class, failure.attempt):
                continue
            results = self._folder.results_of(
                report.name, report.task_id, failure.attempt
            )
            self._receiver.tell_failure(
                report.task_id,
                failure.error_type,
                failure.message,
                with_stop(failure.message, results),
                failure.failure_class,
            )

    def _advice(
        self,
        task: SuiteTask,
        kind: str,
        failed: list[Mapping[str, Any]],
        event: TaskRetrying | TaskFailed,
    ) -> Iterator[str]:
        """What to do about a failure; there is always something."""
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
        """What can go on now, or when: as the orchestrator explains it."""
        done = {task.id, *(t.id for t in self._suite.tasks if task in t.subtasks)}
        for other in self._suite.tasks:
            if not done & set(other.dependencies):
                continue
            first = other.run[0].id
            explanation = self._orchestrator.explain(in_run(self._run_id, first))
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


_STATES: Final = {
    TaskCompleted: TaskState.COMPLETED,
    TaskFailed: TaskState.FAILED,
    TaskCancelled: TaskState.CANCELLED,
}
#: Tests of which a failure says how to run them alone.
_SHOWN: Final = 3


def _and(names: Mapping[str, Any]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
