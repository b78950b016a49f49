"""The progress of a run of a workflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from taskorch.kit.frozen import ReadOnly
from taskorch.kit.visible import counted
from taskorch.kit.words import duration, outcome
from taskorch.model import TaskState

_S: Final = TaskState
#: States in the order in which they are listed.
_ORDER: Final = (
    *(_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.BLOCKED, _S.SUSPENDED),
    *(_S.RUNNING, _S.RETRYING, _S.QUEUED, _S.PENDING),
)
#: The states of a run or a phase, by those of tasks; and the words before them while a
#: run is paused.
STATES: Final = (
    *(_S.PENDING, _S.RUNNING, _S.SUSPENDED, _S.BLOCKED),
    *(_S.COMPLETED, _S.FAILED, _S.CANCELLED),
)
PAUSES: Final = ("pausing", "paused")
#: The most names of a path that a sentence shows.
_SHOWN: Final = 8


@attrs.frozen
class PhaseStatus:
    """
    The progress of a phase of a run.

    Attributes:
        name: The name of the phase.
        state: As that of a workflow.
        completed: How many of its tasks have completed.
        total: How many tasks it has; its gate is one of them.
        running: How many of its tasks run.
        verdict: `passed`, `failed` or `skipped` once its gate has ended; before,
            `waiting for approval` or "".
        blocked: How many of its tasks are blocked.
    """

    name: str
    state: TaskState
    completed: int
    total: int
    running: int
    verdict: str = ""
    blocked: int = 0

    @property
    def percent(self) -> float:
        """The share of tasks that have completed, from 0 to 100."""
        return 100.0 * self.completed / self.total if self.total else 100.0

    def __str__(self) -> str:
        text = f"{self.name}: {self.verdict or self.state}, "
        text += f"{self.completed} of {counted(self.total, 'task')} completed"
        return f"{text}, {self.running} running" if self.running else text


@attrs.frozen
class WorkflowStatus:
    """
    The progress of a run of a workflow, at one instant.

    `str()` of it is the answer in a sentence. Of a task that was run again, the state
    of the latest run counts.

    Attributes:
        workflow_id: The id of the run.
        state: `running` while something runs or is about to; then `suspended`,
            `blocked` (a person must decide) or `pending` while something is; in the end
            `failed` or `cancelled` if it cannot complete without a restart, or
            `completed`.
        tasks: The state of each task, by its id in the workflow.
        counts: How many tasks are in a state, of those states that occur.
        remaining_path: The longest chain of tasks that have not completed.
        pause: `pausing` while it is paused and something still runs, then `paused`; or
            "".
        running: How many attempts do more than to wait for other tasks.
        asks: The tasks that wait for what is outside: an approval, an event, a
            decision.
        eta: An estimate of the seconds that are left, from the median durations of
            tasks of the same types, the longest chain and the concurrency; None if
            there is none.
        eta_unknown: Why there is none, in a sentence.
        phases: Its phases by name, in order.
        stale: The tasks that have, or work with, what one that they depend on had come
            to before it was run again: see `TaskStatus.stale`.
        parameters: The values of its parameters, by name.
        allowed: The tasks that failed, and whose failure is allowed.
    """

    workflow_id: str
    state: TaskState
    tasks: Mapping[str, TaskState]
    counts: Mapping[TaskState, int]
    remaining_path: tuple[str, ...]
    pause: str = ""
    running: int = 0
    asks: tuple[str, ...] = ()
    eta: float | None = None
    eta_unknown: str = ""
    phases: Mapping[str, PhaseStatus] = attrs.field(
        factory=lambda: ReadOnly(dict[str, PhaseStatus]())
    )
    stale: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = attrs.field(
        factory=lambda: ReadOnly(dict[str, Any]())
    )
    allowed: tuple[str, ...] = ()

    @property
    def percent(self) -> float:
        """The share of tasks that have completed, from 0 to 100."""
        if not self.tasks:
            return 100.0
        return 100.0 * self.counts.get(_S.COMPLETED, 0) / len(self.tasks)

    def to_dict(self) -> dict[str, Any]:
        """Return a document, in the form of requests and plans: see their schemas."""
        return {
            "id": self.workflow_id,
            "status": self.pause or self.state.value,
            "percent": self.percent,
            "tasks": [
                {"id": name, "status": state.value}
                for name, state in self.tasks.items()
            ],
            "running": self.running,
            "waitsFor": [*self.asks],
            "remainingPath": [*self.remaining_path],
            "estimatedRemaining": self.eta,
            "phases": [
                {"id": each.name, "status": each.state.value, "percent": each.percent}
                for each in self.phases.values()
            ],
            "parameters": dict(self.parameters),
            "allowed": [*self.allowed],
        }

    def __str__(self) -> str:
        done = self.counts.get(_S.COMPLETED, 0)
        state = self.pause or outcome(self.state, len(self.allowed))
        if self.pause == "pausing":
            state = f"pausing, {self.running} still running"
        text = f"{self.workflow_id} is {state}: {done} of "
        text += counted(len(self.tasks), "task")
        text += f"{', '.join([' completed', *listed(self.counts, _S.COMPLETED)])}."
        if self.stale:
            verb = "is" if len(self.stale) == 1 else "are"
            text += (
                f" Of these, {_some(self.stale, ', ')} {verb} stale: a restart runs "
            )
            text += f"{'it' if verb == 'is' else 'them'} again."
        if self.asks:
            text += f" From outside it waits for: {_some(self.asks, ', ')}."
        if self.remaining_path:
            length = counted(len(self.remaining_path), "task")
            text += f" The longest chain left has {length}: "
            text += f"{_some(self.remaining_path, ' → ')}."
        if self.eta:
            text += f" About {duration(self.eta)} left, by estimate."
        if self.parameters:
            values = [f"{name}={value}" for name, value in self.parameters.items()]
            text += f" Its parameters: {_some(tuple(values), ', ')}."
        return text


def _some(names: tuple[str, ...], between: str) -> str:
    text = between.join(names[:_SHOWN])
    more = len(names) - _SHOWN
    return f"{text}{between}… ({more:,} more)" if more > 0 else text


def listed(counts: Mapping[Any, int], but: TaskState | None = None) -> list[str]:
    """
    Return how many are in which state: ended ones first, then those that are kept.

    *counts* are by state, or by its name; the state *but* is left out.
    """
    return [
        f"{counts[state]:,} {state}"
        for state in _ORDER
        if state is not but and counts.get(state)
    ]


def state_of(
    counts: Mapping[TaskState, int], stuck: int, skipped: int = 0, allowed: int = 0
) -> TaskState:
    """
    Return the state of a run or a phase from the states of its tasks.

    *stuck* of the BLOCKED ones wait for a failed task; *skipped* of the CANCELLED ones
    were skipped; *allowed* of the FAILED ones may fail.
    """
    if any(counts.get(state) for state in (_S.RUNNING, _S.QUEUED, _S.RETRYING)):
        return _S.RUNNING
    if counts.get(_S.SUSPENDED):
        return _S.SUSPENDED
    if counts.get(_S.BLOCKED, 0) > stuck:
        return _S.BLOCKED
    if counts.get(_S.PENDING):
        return _S.PENDING
    if counts.get(_S.FAILED, 0) > allowed:
        return _S.FAILED
    if counts.get(_S.CANCELLED, 0) > skipped:
        return _S.CANCELLED
    return _S.FAILED if stuck else _S.COMPLETED
