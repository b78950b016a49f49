"""The status of one task, and statistics of all tasks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import attrs

from taskorch.errors import TaskorchError
from taskorch.kit.frozen import ReadOnly, frozen, shown
from taskorch.kit.plain import fields_of, plain
from taskorch.kit.raised import place_of, told_of
from taskorch.kit.visible import counted, visible
from taskorch.kit.words import some
from taskorch.model._agent import Performance
from taskorch.model._resources import Resources
from taskorch.model._states import TaskState
from taskorch.model.ids import has_number, last_of, numbered, run_of

if TYPE_CHECKING:
    from pathlib import Path

#: The most ids that are named for each cause of failures.
_NAMED: Final = 100
#: The beginning of the message of an error that was raised before a restart.
_EARLIER: Final = r"^in an earlier incarnation, on [\d-]+ [\d:]+ UTC: "
#: The hint in brackets at the end of a message: a call of ours, or a log file.
_HINT: Final = r" \((?=see |[^()]*\borch\.)(?:[^()]|\([^()]*\))*\)$"
#: Parts of messages that differ between failures for one cause: exit codes, signals and
#: the like are causes.
_VARYING: Final = r"(?i)0x[0-9a-f]+|(?<!code )(?<!signal )(?<!errno )(?<!\d)\d+"


def quantile(ordered: Sequence[int], percent: int) -> int:
    """
    Return the quantile by the nearest rank.

    It is the least value that at least *percent* of the values do not exceed. The
    values, at least one, are *ordered*; *percent* is from 1 to 100.
    """
    # Whole numbers are exact: 0.95 * 20 may be a little more than 19.
    return ordered[-(-len(ordered) * percent // 100) - 1]


@frozen
class HistoryEntry:
    """
    One step in the history of a task.

    Attributes:
        state: The new state.
        label: The user's name for the state, if a StateMachine gives one.
        at: The time in seconds since the epoch.
        detail: The reason, or the author; "" on the usual path.
    """

    state: TaskState
    label: str
    at: float
    detail: str = ""


#: The letters of an error in a sentence.
_MOST_SHOWN: Final = 300


@frozen
class RecoveryAttempt:
    """
    An attempt to mend a failed attempt, where it ran.

    Attributes:
        attempt: The number of the attempt, from 1.
        level: 1 inside the failed attempt; 2 before the next one.
        kind: The class of the failure.
        action: The name of the function that tried.
        result: `retry`, `escalate`, `done` or `failed`.
        message: Its error, the fault of its answer, or with `retry` the error of the
            attempt.
    """

    attempt: int
    level: int
    kind: str
    action: str
    result: str
    message: str = ""

    def __str__(self) -> str:
        if self.level > 1:
            return f"{self.action} ran before attempt {self.attempt} ({self.kind})"
        words = (
            f"and ran again after {self.action}"
            if self.result == "retry"
            else f"and {self.action} did not mend that"
        )
        text = f"attempt {self.attempt} failed ({self.kind}), {words}"
        message = " ".join(self.message.split())[:_MOST_SHOWN]
        return f"{text}: {message}".removesuffix(": ")


@frozen
class TaskStatus:
    """
    The state of a task at one moment, with its history.

    Attributes:
        task_id: The id of the task.
        type: The type of the task.
        state: Its state.
        label: The user's name for the state.
        result: Its result, once it has completed.
        error: The error of its failure or cancellation, or None.
        attempts: Attempts begun so far.
        history: Its history, step by step.
        agent_id: The worker that runs it, or ran it last.
        allocation: The resources that it holds now.
        blocked_by: Ids of the parents that block it, or a word for another cause.
        priority: The priority of the task.
        progress: The latest report of `TaskContext.progress`.
        submitted: The time of its submission, in UTC; None if unknown.
        started: The beginning of its latest attempt, in UTC; None before the first.
        ended: The time of its end, in UTC; None before that.
        metadata: The metadata of the task.
        log_path: The file with the output of its latest program, also while that runs;
            None if it runs no program, or the file could not be made.
        late_results: Results, or exceptions, of attempts that ended after they had been
            given up, by number: the latest ten. They changed nothing.
        owner: Its tenant.
        earlier_errors: Errors of attempts that were followed by another, by number: the
            latest ten. Their tracebacks are texts.
        recovery_attempts: The attempts to mend its failures, where it ran.
        stopping: Why its running attempt was asked to stop: it was cancelled or
            suspended, or its time is over; or "". A function stops at a checkpoint.
        stale: True if a task that it depends on, however indirectly, was run again
            since: it used the result of the earlier run.
        rerun: The id of the latest run of the task, if this is an earlier one; or "".
            For a task that is no part of its run any more, it is that of the task which
            had added it, and which completed without it.
        mended_by: The id of the first later run that has completed; or "".
        units: The named units that it holds now, by resource: of `agent_id`, if the
            worker names units, else of the pool.
        spent: The amounts that count as spent by its attempts, by resource; None if
            none has drawn on a budget, or if unknown.
        allowed: True if it failed, and its failure is allowed.
    """

    task_id: str
    type: str
    state: TaskState
    label: str
    result: Any
    error: BaseException | None
    attempts: int
    history: tuple[HistoryEntry, ...]
    agent_id: str | None
    allocation: Resources
    blocked_by: tuple[str, ...]
    priority: int = 0
    progress: Any = None
    submitted: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    metadata: Mapping[str, Any] = ReadOnly({})
    log_path: Path | None = None
    late_results: Mapping[int, Any] = ReadOnly({})
    owner: str | None = None
    earlier_errors: Mapping[int, BaseException] = ReadOnly({})
    stale: bool = False
    stopping: str = ""
    recovery_attempts: tuple[RecoveryAttempt, ...] = ()
    rerun: str = ""
    mended_by: str = ""
    units: Mapping[str, tuple[str, ...]] = ReadOnly({})
    spent: Mapping[str, float] | None = None
    allowed: bool = False

    __repr__ = shown

    @property
    def is_terminal(self) -> bool:
        """True if the task has ended for good."""
        return self.state.is_terminal

    @property
    def run_id(self) -> str:
        """Id of this very run; the plain id of a task means its latest run."""
        is_first = self.rerun and not has_number(self.task_id)
        return numbered(self.task_id, 1) if is_first else self.task_id

    @property
    def duration(self) -> float | None:
        """
        Seconds from the beginning of its latest attempt to its end.

        None until it has ended, and if no attempt ever began.
        """
        if self.started is None or self.ended is None:
            return None
        return (self.ended - self.started).total_seconds()

    @property
    def where(self) -> str:
        """
        The line that failed, such as `flow.py:12 in work`; "" if unknown.

        It is the line of `error`, or of the latest failed attempt.
        """
        errors = self.error, *reversed(list(self.earlier_errors.values()))
        return next(filter(None, map(place_of, errors)), "")

    def to_dict(self) -> dict[str, Any]:
        """
        Return the status as JSON has it, for a log, a page or another program.

        Dates are texts of ISO 8601. An error is its `type`, its `message`, `where` it
        was raised, as in `flow.py:12 in work`, if that is known, and the `hint` at the
        end of its message, if it has one. A value that JSON cannot represent, also in a
        result, is shown as a text.
        """
        fields = {name: getattr(self, name) for name in attrs.fields_dict(TaskStatus)}
        fields |= {
            "state": self.state.value,
            "error": None if self.error is None else _told(self.error),
            "earlier_errors": {
                str(number): _told(error)
                for number, error in self.earlier_errors.items()
            },
            "history": [fields_of(entry) for entry in self.history],
            "recovery_attempts": [fields_of(each) for each in self.recovery_attempts],
            "duration": self.duration,
            "run_id": self.run_id,
            "log_path": None if self.log_path is None else str(self.log_path),
        }
        return {name: plain(value) for name, value in fields.items()}


def _told(error: BaseException) -> dict[str, str]:
    kind, message = told_of(error)
    document = {"type": kind, "message": message}
    hint = error.hint if isinstance(error, TaskorchError) else ""
    more = {"where": place_of(error), "hint": hint}
    return document | {name: text for name, text in more.items() if text}


@frozen
class QueueStats:
    """
    Statistics of the queue.

    Attributes:
        queued: Tasks that could run now if there were room for them.
        processing: Attempts under way.
        oldest: Age of the oldest queued task in seconds, or None.
    """

    queued: int
    processing: int
    oldest: float | None


@frozen
class StateStats:
    """
    Number of tasks in each state; finished ones are counted for ever.

    Attributes:
        pending: Tasks that wait for others, or for a time.
        queued: Tasks that could run if there were room.
        running: Tasks that run.
        retrying: Tasks that wait for their next attempt.
        blocked: Tasks that cannot go on by themselves.
        suspended: Tasks that wait for `resume_task`.
        completed: Tasks that completed.
        failed: Tasks that failed.
        cancelled: Tasks that were cancelled.
    """

    pending: int
    queued: int
    running: int
    retrying: int
    blocked: int
    suspended: int
    completed: int
    failed: int
    cancelled: int

    @property
    def total(self) -> int:
        """Number of tasks that were ever accepted."""
        return sum(getattr(self, state.value) for state in TaskState)


@frozen
class RetryStats:
    """
    Statistics of the retry handler.

    Attributes:
        scheduled: Retries granted.
        recovered: Tasks that completed after at least one retry.
        exhausted: Tasks that failed although a retry policy was at work.
        repaired: Failed attempts that a repair had run again, in this incarnation.
    """

    scheduled: int
    recovered: int
    exhausted: int
    repaired: int = 0


@frozen
class Durations:
    """
    Quantiles of a duration in seconds, over the latest 1,024 attempts.

    Attributes:
        p50: The median.
        p95: The 95 % quantile.
    """

    p50: float
    p95: float


class FailedRun(NamedTuple):
    """
    A failed task, according to the event that ended it.

    Attributes:
        task_id: Its id, with the number of its run if there is a later one.
        error_type: The class of its error.
        message: The message of its error.
        at_ns: The time of its failure, in ns since 1970.
    """

    task_id: str
    error_type: str
    message: str
    at_ns: int


@frozen
class FailureCause:
    """
    A cause that failed tasks have in common: see `TaskOrchestrator.failures`.

    Attributes:
        error_type: The class of their errors.
        pattern: The pattern of their messages, with # for numbers and TASK for their
            ids.
        message: The message of the first.
        count: The number of tasks.
        tasks: The ids of the first hundred, each with the number of its run.
        runs: The first hundred runs that the ids name: `night` of `night/load`.
        first: The time of the first failure; None if unknown.
        last: The time of the last failure.
    """

    error_type: str
    pattern: str
    message: str
    count: int
    tasks: tuple[str, ...]
    runs: tuple[str, ...] = ()
    first: datetime | None = None
    last: datetime | None = None

    def __str__(self) -> str:
        text = f"{self.error_type}: {self.message}".removesuffix(": ")
        return visible(f"{counted(self.count, 'task')} ({some(self.tasks)}): {text}")

    @staticmethod
    def common(task_id: str, error_type: str, message: str) -> tuple[str, str]:
        """
        Return the key of the cause of a failure: its class, and a pattern.

        Args:
            task_id: The id of the task that failed.
            error_type: The class of its error.
            message: The message of its error.
        """
        # The hint differs from task to task, and after a restart.
        pattern = re.sub(_HINT, "", re.sub(_EARLIER, "", message))
        if task_id in pattern:
            pattern = re.sub(rf"(?<!\w){re.escape(task_id)}(?!\w)", "TASK", pattern)
        # In a workflow, our messages have the id in the workflow. Elsewhere, an equal
        # word may be the thing that failed.
        name = f"task {last_of(task_id)}"
        if name in pattern:
            pattern = re.sub(rf"\b{re.escape(name)}(?!\w)", "task TASK", pattern)
        return error_type, re.sub(_VARYING, "#", pattern)

    @classmethod
    def of(cls, failures: Iterable[FailedRun]) -> tuple[FailureCause, ...]:
        """Return the causes of *failures*, the commonest first."""
        by_cause: dict[tuple[str, str], list[FailedRun]] = {}
        for each in failures:
            cause = cls.common(each.task_id, each.error_type, each.message)
            by_cause.setdefault(cause, []).append(each)
        commonest = sorted(by_cause.items(), key=lambda item: -len(item[1]))
        return tuple(cls._of_one(cause, some) for cause, some in commonest)

    @classmethod
    def _of_one(cls, cause: tuple[str, str], some: list[FailedRun]) -> FailureCause:
        times = [each.at_ns for each in some]
        runs = dict.fromkeys(filter(None, (run_of(each.task_id) for each in some)))
        return cls(
            *cause,
            message=some[0].message,
            count=len(some),
            tasks=tuple(each.task_id for each in some[:_NAMED]),
            runs=tuple(islice(runs, _NAMED)),
            first=datetime.fromtimestamp(min(times) / 1e9, UTC),
            last=datetime.fromtimestamp(max(times) / 1e9, UTC),
        )


@frozen
class TypeStats:
    """
    Counts and durations of one type of task.

    Attributes:
        completed: Tasks that completed.
        failed: Tasks that failed.
        cancelled: Tasks that were cancelled.
        queued: Seconds from ready to the start of the attempt.
        running: Seconds from the start to the end of the attempt.
        total: Seconds from submission to the end.
        failures: Failures by the name of their exception's class.
    """

    completed: int
    failed: int
    cancelled: int
    queued: Durations | None
    running: Durations | None
    total: Durations | None
    failures: Mapping[str, int]


@frozen
class AgentStats:
    """
    Counts and resources of one worker.

    Attributes:
        running: Attempts that it runs now.
        max_concurrency: Attempts that it runs at once; None is without limit.
        completed: Attempts that completed.
        failed: Attempts that failed.
        used: The resources of its capacity that its tasks hold.
        capacity: Its capacity; None names nothing.
        performance: Its record, by type of task.
        leaked: Slots of attempts that did not stop when asked to.
        lost: True if it gets no work until it gives a sign of life.
        silent: Seconds since its last sign of life; None if it has no lease.
        round_trip: The round trip of its latest sign of life in seconds, as it measured
            it; None if unknown, or for a worker in the orchestrator's process.
        stands_by: True if it gets no work while others are there that do it.
    """

    running: int
    max_concurrency: int | None
    completed: int
    failed: int
    used: Resources
    capacity: Resources | None
    performance: Mapping[str, Performance]
    leaked: int
    lost: bool = False
    silent: float | None = None
    round_trip: float | None = None
    stands_by: bool = False

    @property
    def is_active(self) -> bool:
        """True if it is there, and does not only stand by for another."""
        return not (self.lost or self.stands_by)


@frozen
class PoolStats:
    """
    Size and use of one resource.

    Attributes:
        total: The total amount.
        used: The amount that is held; of a budget, the amount spent or reserved.
        spent: The amount spent of a budget; None for a pool.
    """

    total: float
    used: float
    spent: float | None = None

    @property
    def free(self) -> float:
        """Amount that is not held; 0 if more is held than the pool has."""
        return max(0.0, self.total - self.used)


#: The severities of violations, the least first.
SEVERITIES: Final = ("low", "medium", "high", "critical")


@frozen
class Stats:
    """
    The statistics that `get_stats()` returns, at one instant.

    Attributes:
        queue: The queue.
        state_machine: The number of tasks in each state.
        retries: Statistics of the retry handler.
        resources: Pools and budgets, by resource.
        agents: The workers, by name.
        types: The types of tasks, by name.
        failures: Failures by cause: `error`, `timeout`, `expired`, `poisoned`, …;
            `TaskOrchestrator.failures` groups them by their errors.
        leaked: Slots of attempts that did not stop when asked to.
        events_lost: Events that slow listeners lost.
        holds: Holds of starts, a sentence for each: see `hold_starts`.
        glue: Types of tasks that only connect others, such as gates of a suite.
        violations: How often policies were violated since the start, without a waiver
            or a change that mended it: by severity, and by policy. A task counts once
            for each rule.
    """

    queue: QueueStats
    state_machine: StateStats
    retries: RetryStats
    resources: Mapping[str, PoolStats]
    agents: Mapping[str, AgentStats]
    types: Mapping[str, TypeStats]
    failures: Mapping[str, int]
    leaked: int
    events_lost: int
    holds: tuple[str, ...] = ()
    glue: tuple[str, ...] = ()
    violations: Mapping[str, Mapping[str, int]] = ReadOnly({})

    def work(self, state: Literal["completed", "failed", "cancelled"]) -> int:
        """Return the number of tasks in this state, without `glue` tasks."""
        every: int = getattr(self.state_machine, state)
        for name in self.glue:
            if name in self.types:
                every -= getattr(self.types[name], state)
        return every

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics as JSON has them."""
        return fields_of(self)

    def __str__(self) -> str:
        counts = {
            state: getattr(self.state_machine, state.value) for state in TaskState
        }
        parts = [f"{count:,} {state.value}" for state, count in counts.items() if count]
        tasks = counted(self.state_machine.total, "task")
        lines = [f"{tasks}: {', '.join(parts) or 'none yet'}"]
        lines += [f"  {hold}" for hold in self.holds]
        for name, pool in self.resources.items():
            lines.append(f"  {name}: {pool.used:.12g} of {pool.total:.12g} in use")
        for name, worker in self.agents.items():
            most = worker.max_concurrency
            limit = "" if most is None else f" of {most}"
            lines.append(
                f"  worker {name}: {worker.running}{limit} running, "
                f"{worker.completed:,} completed, {worker.failed:,} failed"
            )
        if self.failures:
            causes = (f"{name} {count:,}" for name, count in self.failures.items())
            lines.append(f"  causes of failures: {', '.join(causes)}")
        for severity, policies in self.violations.items():
            many = (f"{name} {count:,}" for name, count in policies.items())
            lines.append(f"  {severity} violations of policies: {', '.join(many)}")
        if self.leaked:
            lines.append(f"  slots held by work that would not stop: {self.leaked}")
        if self.events_lost:
            lines.append(f"  events that slow receivers lost: {self.events_lost:,}")
        return visible("\n".join(lines))


@frozen
class HealthCheck:
    """
    The health of one component.

    Attributes:
        component: The component: `router`, `queue`, ….
        status: `ok`, `degraded` or `failed`.
        detail: Details; "" if the status is ok.
    """

    component: str
    status: str
    detail: str = ""


@frozen
class Health:
    """
    Health of the orchestrator.

    `live` and `ready` are for Kubernetes probes.

    Attributes:
        status: The worst of the checks: `ok`, `degraded` or `failed`.
        live: True if its threads are alive.
        ready: True if it accepts and starts tasks.
        checks: One for each component.
    """

    status: str
    live: bool
    ready: bool
    checks: tuple[HealthCheck, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the health as JSON has it, for a load balancer."""
        return fields_of(self)

    def __str__(self) -> str:
        words = [self.status, *(["not ready"] * (not self.ready))]
        words += ["not live"] * (not self.live)
        lines = [", ".join(words)]
        for check in self.checks:
            detail = f": {check.detail}" if check.detail else ""
            lines.append(f"  {check.component} {check.status}{detail}")
        return visible("\n".join(lines))


@frozen
class Unfinished:
    """
    A task that was left when the orchestrator stopped.

    Attributes:
        task_id: The id of the task.
        state: The state of the task.
        reason: The reason.
    """

    task_id: str
    state: TaskState
    reason: str


@frozen
class StopReport:
    """
    Report on the tasks when the orchestrator stopped: each is counted once.

    `completed`, `failed` and `cancelled` count tasks that had ended by themselves, or
    were cancelled before the stop.

    Attributes:
        completed: Tasks that completed.
        failed: Tasks that failed.
        cancelled: Tasks that were cancelled.
        left: Tasks that did not finish, with their states at the stop, and the reasons.
            Without a durable journal they are cancelled; otherwise they continue at the
            next start.
        leaked: Attempts that did not stop within their grace, as `"id (attempt 1)"`:
            threads of functions go on, and programs were killed.
        drained: True if all work had ended within the time allowed.
    """

    completed: int
    failed: int
    cancelled: int
    left: tuple[Unfinished, ...]
    leaked: tuple[str, ...]
    drained: bool

    def __str__(self) -> str:
        head = (
            f"{self.completed} completed, {self.failed} failed, "
            f"{self.cancelled} cancelled, {len(self.left)} left"
        )
        lines = [f"  {u.task_id} ({u.state}): {u.reason}" for u in self.left]
        if self.leaked:
            lines.append(f"  given up: {', '.join(self.leaked)}")
        return visible("\n".join([head, *lines]))
