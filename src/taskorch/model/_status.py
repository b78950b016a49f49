"""What the orchestrator says of one task, and in numbers of all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import attrs

from taskorch.errors import TaskorchError
from taskorch.kit.frozen import frozen, shown
from taskorch.kit.plain import fields_of, plain
from taskorch.kit.raised import place_of, told_of
from taskorch.kit.read_only import ReadOnly
from taskorch.kit.visible import counted, visible
from taskorch.model._agent import Performance
from taskorch.model._resources import Resources
from taskorch.model._states import TaskState
from taskorch.model.ids import has_number, last_of, numbered, run_of

if TYPE_CHECKING:
    from pathlib import Path

#: Ids that are named of each cause of failures.
_NAMED: Final = 100
#: What an error says that was raised before a restart.
_EARLIER: Final = r"^in an earlier life, on [\d-]+ [\d:]+ UTC: "
#: What a hint has in brackets, at the end of a message: a call of ours, or a log file.
_HINT: Final = r" \((?=see |[^()]*\borch\.)(?:[^()]|\([^()]*\))*\)$"
#: What differs between failures for one cause.
_VARYING: Final = r"(?i)0x[0-9a-f]+|\d+"


def quantile(ordered: Sequence[int], percent: int) -> int:
    """
    The quantile by the nearest rank: the least value that so many are not above.

    The values, one at least, are *ordered*; *percent* is from 1 to 100.
    """
    # In whole numbers: 0.95 * 20 may be a little more than 19.
    return ordered[-(-len(ordered) * percent // 100) - 1]


@frozen
class HistoryEntry:
    """
    One step in the life of a task.

    Attributes:
        state: The state that it came into.
        label: The user's name for the state, where a StateMachine gives one.
        at: Seconds since the epoch.
        detail: Why, or by whom; "" on the plain path.
    """

    state: TaskState
    label: str
    at: float
    detail: str = ""


@frozen
class RecoveryAttempt:
    """
    What was tried to mend a failed attempt, where it ran.

    Attributes:
        attempt: The number of the attempt, from 1.
        level: 1 inside the failed attempt; 2 before the next one.
        kind: The class of the failure.
        action: The name of the function that tried.
        result: `retry`, `escalate`, `done` or `failed`.
        message: What it raised, or is wrong with its answer.
    """

    attempt: int
    level: int
    kind: str
    action: str
    result: str
    message: str = ""


@frozen
class TaskStatus:
    """
    The state of a task at one moment, with its history.

    Attributes:
        task_id: The id of the task.
        type: The type of the task.
        state: Its state.
        label: The user's name for the state.
        result: What it returned, once it has completed.
        error: Why it failed or was cancelled, or None.
        attempts: Attempts begun so far.
        history: What has become of it, step by step.
        agent_id: Who runs it, or ran it last.
        allocation: What it holds now.
        blocked_by: Ids of the dependencies that block it, or a word for what else does.
        priority: The priority of the task.
        progress: The latest report of `TaskContext.progress`.
        submitted: When it was accepted, in UTC; None if nobody knows any more.
        started: When its latest attempt began, in UTC; None before the first.
        ended: When it ended, in UTC; None before that.
        metadata: What the task was given as `metadata`.
        log_path: The file with what the program of its latest attempt writes, also
            while it runs; None if it runs none, or the file could not be made.
        late_results: What attempts returned, or the exceptions that they raised, after
            they had been given up, by their numbers: the latest ten. They changed
            nothing.
        owner: For whom it is done.
        earlier_errors: What attempts raised that were followed by another, by their
            numbers: the latest ten. Their tracebacks are texts.
        recovery_attempts: What was tried to mend its attempts, where they ran.
        stopping: Why its attempt, which runs on, was asked to stop: it was cancelled or
            suspended, or its time is over; or "". A function stops at a checkpoint.
        stale: Whether a task that it depends on, however indirectly, was run again
            since: it has, or works with, what the run before that had come to.
        rerun: The id of the latest run of the task, if this is an earlier one; or "".
        mended_by: The id of the first later run that has completed; or "".
        units: The names of the units that it holds now, by resource: of `agent_id`, if
            the capacity of that names units, and else of the pool.
        spent: What its attempts count as having spent of its budget, by resource; None:
            none has drawn on one, or nobody knows any more.
        allowed: Whether it failed, and its failure is allowed.
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
        """Whether the task has ended for good."""
        return self.state.is_terminal

    @property
    def run_id(self) -> str:
        """The id that means this run: the bare one of a task means its latest."""
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
        The line that failed, as in `flow.py:12 in work`; "" if nobody knows.

        It is that of `error`, or of the latest attempt that has failed.
        """
        errors = self.error, *reversed(list(self.earlier_errors.values()))
        return next(filter(None, map(place_of, errors)), "")

    def to_dict(self) -> dict[str, Any]:
        """
        The status as JSON can say it, for a log, a page or another program.

        Dates are texts of ISO 8601. An error is its `type`, its `message`, `where` it
        was raised, as in `flow.py:12 in work`, if that is known, and the `hint` at the
        end of its message, if it has one. What JSON has no
        word for, in a result too, is shown as a text.
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
    The queue: what waits and what runs.

    Attributes:
        queued: Tasks that could run now if there were room.
        processing: Attempts under way.
        oldest: Age of the oldest queued task in seconds, or None.
    """

    queued: int
    processing: int
    oldest: float | None


@frozen
class StateStats:
    """
    How many tasks are in each state, finished ones counted for ever.

    Attributes:
        pending: They wait for others, or for a time.
        queued: They could run if there were room.
        running: They run.
        retrying: They wait to be tried again.
        blocked: They cannot go on by themselves.
        suspended: They were suspended, and wait for `resume_task`.
        completed: They ended well.
        failed: They ended badly.
        cancelled: They were cancelled.
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
        """Number of all tasks ever accepted."""
        return sum(getattr(self, state.value) for state in TaskState)


@frozen
class RetryStats:
    """
    What the retry handler did.

    Attributes:
        scheduled: Retries granted.
        recovered: Tasks that completed after at least one retry.
        exhausted: Tasks that failed although a retry policy was at work.
    """

    scheduled: int
    recovered: int
    exhausted: int


@frozen
class Durations:
    """
    Quantiles of a duration in seconds, over the latest 1,024 attempts.

    Attributes:
        p50: The median.
        p95: 95 % are not longer.
    """

    p50: float
    p95: float


class FailedRun(NamedTuple):
    """
    A task that failed, as the fact says that ended it.

    Attributes:
        task_id: Its id, with the number of its run if there is a later one.
        error_type: The class of its error.
        message: What that says.
        at_ns: When it failed, in ns since 1970.
    """

    task_id: str
    error_type: str
    message: str
    at_ns: int


@frozen
class FailureCause:
    """
    What tasks have in common that failed: see `TaskOrchestrator.failures`.

    Attributes:
        error_type: The class of their errors.
        pattern: What their errors say, with # for numbers and TASK for their ids.
        message: What the first of them says.
        count: How many there are.
        tasks: The ids of the first hundred, each with the number of its run.
        runs: The first hundred runs that the ids name: `night` of `night/load`.
        first: When the first of them failed; None: nobody knows.
        last: When the last one did.
    """

    error_type: str
    pattern: str
    message: str
    count: int
    tasks: tuple[str, ...]
    runs: tuple[str, ...] = ()
    first: datetime | None = None
    last: datetime | None = None

    @staticmethod
    def common(task_id: str, error_type: str, message: str) -> tuple[str, str]:
        """
        Return what failures for one cause have in common: a class, and a pattern.

        Args:
            task_id: The id of the task that failed.
            error_type: The class of its error.
            message: What its error says.
        """
        # What is to be done differs from task to task, and from life to life.
        pattern = re.sub(_HINT, "", re.sub(_EARLIER, "", message))
        if task_id in pattern:
            pattern = re.sub(rf"(?<!\w){re.escape(task_id)}(?!\w)", "TASK", pattern)
        # In a workflow, messages of ours have the id that it has there. Elsewhere a
        # word that is the same may be what failed.
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
        completed: They ended well.
        failed: They ended badly.
        cancelled: They were cancelled.
        queued: From being ready to being started.
        running: From being started to the end of the attempt.
        total: From submission to the end.
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
        completed: Attempts that ended well.
        failed: Attempts that ended badly.
        used: What its running tasks hold of its capacity.
        capacity: What it has; None names nothing.
        performance: By type of task.
        leaked: Slots held by work that would not stop.
        lost: Whether it gets no work until it is heard of again.
        silent: Seconds since its last sign of life; None: it need not give any.
        round_trip: Seconds that its latest sign of life took there and back, as it has
            measured; None: it has not said that yet, or lives with us.
        stands_by: Whether it has nothing to do while others are there, which do it.
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
        """Whether it is there, and not only in the place of others."""
        return not (self.lost or self.stands_by)


@frozen
class PoolStats:
    """
    Size and use of one resource.

    Attributes:
        total: How much there is.
        used: How much is held; of a budget, how much is spent or reserved.
        spent: Of a budget, how much is spent; None: it is no budget.
    """

    total: float
    used: float
    spent: float | None = None

    @property
    def free(self) -> float:
        """What is left; 0 where more is held than there is any more."""
        return max(0.0, self.total - self.used)


#: How bad violations of policies are, the least first.
SEVERITIES: Final = ("low", "medium", "high", "critical")


@frozen
class Stats:
    """
    The statistics that `get_stats()` returns, at one instant.

    Attributes:
        queue: The queue.
        state_machine: How many tasks are in each state.
        retries: What the retry handler did.
        resources: By resource.
        agents: By worker.
        types: By type of task.
        failures: Failures by how they ended: `error`, `timeout`, `expired`, `poisoned`,
            …; `TaskOrchestrator.failures` has the errors that they have in common.
        leaked: Slots held by work that would not stop.
        events_lost: Events that slow listeners lost.
        holds: Who holds starts back, and why: a sentence for each, see `hold_starts`.
        glue: Types of tasks that only hold the others together, as gates of a suite do.
        violations: How often policies were violated in this life, where no waiver
            covered and no change mended it: by severity, and by policy. A task counts
            once a rule.
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
        """How many tasks ended so, but for `glue`: those that somebody asked for."""
        every: int = getattr(self.state_machine, state)
        for name in self.glue:
            if name in self.types:
                every -= getattr(self.types[name], state)
        return every

    def to_dict(self) -> dict[str, Any]:
        """The statistics as JSON can say them, for a page or another program."""
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
        for name, agent in self.agents.items():
            most = agent.max_concurrency
            limit = "" if most is None else f" of {most}"
            lines.append(
                f"  agent {name}: {agent.running}{limit} running, "
                f"{agent.completed:,} completed, {agent.failed:,} failed"
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
        component: Which part: `router`, `queue`, ….
        status: `ok`, `degraded` or `failed`.
        detail: More about it; "" if all is well.
    """

    component: str
    status: str
    detail: str = ""


@frozen
class Health:
    """
    Whether the orchestrator is fit for work.

    `live` and `ready` are what a Kubernetes probe asks for.

    Attributes:
        status: The worst of the checks: `ok`, `degraded` or `failed`.
        live: Its threads are there.
        ready: It takes and starts tasks.
        checks: One for each component.
    """

    status: str
    live: bool
    ready: bool
    checks: tuple[HealthCheck, ...]

    def to_dict(self) -> dict[str, Any]:
        """The health as JSON can say it, for a page that a load balancer asks."""
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
        reason: Why.
    """

    task_id: str
    state: TaskState
    reason: str


@frozen
class StopReport:
    """
    What became of the tasks when the orchestrator stopped: each is counted once.

    `completed`, `failed` and `cancelled` are those that had ended by themselves, or
    were cancelled by somebody before the stop.

    Attributes:
        completed: They ended well.
        failed: They ended badly.
        cancelled: They were cancelled.
        left: Tasks that did not finish, as they were when all was told to stop, and
            why. In memory they are cancelled; a durable orchestrator has them at the
            next start.
        leaked: Attempts that did not stop in their grace, and were given up, as `"id
            (attempt 1)"`: of functions the threads go on, and programs were killed.
        drained: Whether all work had ended within the time allowed.
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
