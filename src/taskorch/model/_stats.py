"""Numbers about the whole orchestrator."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from taskorch.model._agent import Performance
from taskorch.model._resources import Resources
from taskorch.model._states import TaskState

__all__ = (
    "AgentStats",
    "Durations",
    "Health",
    "HealthCheck",
    "PoolStats",
    "QueueStats",
    "RetryStats",
    "StateStats",
    "Stats",
    "StopReport",
    "TypeStats",
    "Unfinished",
)


@attrs.frozen
class QueueStats:
    """The queue: what waits and what runs."""

    #: Tasks that could run now if there were room.
    queued: int
    #: Attempts under way.
    processing: int
    #: Age of the oldest queued task in seconds, or None.
    oldest: float | None


@attrs.frozen
class StateStats:
    """How many tasks are in each state, finished ones counted for ever."""

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
        """All tasks ever accepted."""
        return sum(getattr(self, state.value) for state in TaskState)


@attrs.frozen
class RetryStats:
    """What the retry handler did."""

    #: Retries granted.
    scheduled: int
    #: Tasks that completed after at least one retry.
    recovered: int
    #: Tasks that failed although a retry policy was at work.
    exhausted: int


@attrs.frozen
class Durations:
    """Quantiles of a duration in seconds, over the latest 1,024 attempts."""

    p50: float
    p95: float


@attrs.frozen
class TypeStats:
    """One type of task."""

    completed: int
    failed: int
    cancelled: int
    #: From being ready to being started.
    queued: Durations | None
    #: From being started to the end of the attempt.
    running: Durations | None
    #: From submission to the end.
    total: Durations | None
    #: Failures by the name of their exception's class.
    failures: Mapping[str, int]


@attrs.frozen
class AgentStats:
    """One agent."""

    running: int
    max_concurrency: int | None
    completed: int
    failed: int
    #: What its running tasks hold of its capacity.
    used: Resources
    capacity: Resources | None
    #: By type of task.
    performance: Mapping[str, Performance]
    #: Slots held by work that would not stop.
    leaked: int


@attrs.frozen
class PoolStats:
    """One resource."""

    total: float
    used: float

    @property
    def free(self) -> float:
        """What is left."""
        return self.total - self.used


@attrs.frozen
class Stats:
    """Everything that `get_stats()` says, at one instant."""

    queue: QueueStats
    state_machine: StateStats
    retries: RetryStats
    resources: Mapping[str, PoolStats]
    agents: Mapping[str, AgentStats]
    types: Mapping[str, TypeStats]
    #: Failures by cause: `error`, `timeout`, `expired`, `poisoned`, ….
    failures: Mapping[str, int]
    #: Slots held by work that would not stop.
    leaked: int
    #: Events that slow receivers lost.
    events_lost: int

    def __str__(self) -> str:
        counts = {
            state: getattr(self.state_machine, state.value) for state in TaskState
        }
        said = [f"{count:,} {state.value}" for state, count in counts.items() if count]
        lines = [f"{self.state_machine.total:,} tasks: {', '.join(said) or 'none yet'}"]
        for name, pool in self.resources.items():
            lines.append(f"  {name}: {pool.used:g} of {pool.total:g} in use")
        for name, agent in self.agents.items():
            most = agent.max_concurrency
            limit = "" if most is None else f" of {most}"
            lines.append(
                f"  agent {name}: {agent.running}{limit} running, "
                f"{agent.completed:,} completed, {agent.failed:,} failed"
            )
        for name, count in self.failures.items():
            lines.append(f"  failures by {name}: {count:,}")
        if self.leaked:
            lines.append(f"  slots held by work that would not stop: {self.leaked}")
        if self.events_lost:
            lines.append(f"  events that slow receivers lost: {self.events_lost:,}")
        return "\n".join(lines)


@attrs.frozen
class HealthCheck:
    """One component's health."""

    component: str
    #: `ok`, `degraded` or `failed`.
    status: str
    detail: str = ""


@attrs.frozen
class Health:
    """
    Whether the orchestrator is fit for work.

    `live` and `ready` are what a Kubernetes probe asks for.
    """

    #: The worst of the checks: `ok`, `degraded` or `failed`.
    status: str
    #: Its threads are there.
    live: bool
    #: It takes and starts tasks.
    ready: bool
    checks: tuple[HealthCheck, ...]

    def __str__(self) -> str:
        said = [self.status, *(["not ready"] * (not self.ready))]
        said += ["not live"] * (not self.live)
        lines = [", ".join(said)]
        for check in self.checks:
            detail = f": {check.detail}" if check.detail else ""
            lines.append(f"  {check.component} {check.status}{detail}")
        return "\n".join(lines)


@attrs.frozen
class Unfinished:
    """A task that was left when the orchestrator stopped."""

    task_id: str
    state: TaskState
    reason: str


@attrs.frozen
class StopReport:
    """
    What became of the tasks when the orchestrator stopped: each is counted once.

    `completed`, `failed` and `cancelled` are those that had ended by themselves, or
    were cancelled by somebody before the stop.
    """

    completed: int
    failed: int
    cancelled: int
    #: Tasks that did not finish, as they were when all was told to stop, and why. In
    #: memory they are cancelled; a durable orchestrator has them at the next start.
    left: tuple[Unfinished, ...]
    #: Attempts that did not stop in their grace, and were given up, as `"id (attempt
    #: 1)"`: of functions the threads go on, and programs were killed.
    leaked: tuple[str, ...]
    #: Whether all work had ended within the time allowed.
    drained: bool

    def __str__(self) -> str:
        head = (
            f"{self.completed} completed, {self.failed} failed, "
            f"{self.cancelled} cancelled, {len(self.left)} left"
        )
        lines = [f"  {u.task_id} ({u.state}): {u.reason}" for u in self.left]
        if self.leaked:
            lines.append(f"  given up: {', '.join(self.leaked)}")
        return "\n".join([head, *lines])
