"""What the orchestrator says of one task."""

from __future__ import annotations

from typing import Any

import attrs

from taskorch.model._resources import Resources
from taskorch.model._states import TaskState

__all__ = ("Blocker", "Explanation", "HistoryEntry", "TaskStatus")


@attrs.frozen
class HistoryEntry:
    """One step in the life of a task."""

    state: TaskState
    #: The user's name for the state, where a StateMachine gives one.
    label: str
    #: Seconds since the epoch.
    at: float
    #: Why, or by whom; "" on the plain path.
    detail: str = ""


@attrs.frozen
class TaskStatus:
    """The state of a task, with its history."""

    task_id: str
    type: str
    state: TaskState
    #: The user's name for the state.
    label: str
    #: What it returned, once it has completed.
    result: Any
    #: Why it failed or was cancelled, or None.
    error: BaseException | None
    #: Attempts begun so far.
    attempts: int
    history: tuple[HistoryEntry, ...]
    #: Who runs it, or ran it last.
    agent_id: str | None
    #: What it holds now.
    allocation: Resources
    #: Ids of the dependencies that block it, or a word for what else does.
    blocked_by: tuple[str, ...]
    priority: int = 0
    #: The latest report of `TaskContext.progress`.
    progress: Any = None

    @property
    def is_terminal(self) -> bool:
        """Whether it has ended for good."""
        return self.state.is_terminal


@attrs.frozen
class Blocker:
    """One thing that keeps a task from running."""

    #: `dependency`, `delay`, `capability`, `agent`, `slot`, `resource`, `allocator`,
    #: `veto`, `suspended`, `decision`, `stopping`, `not_started` or `terminal`.
    kind: str
    #: One sentence, for people.
    detail: str
    #: What is short: the name of a resource, an agent, a capability, a task.
    name: str = ""
    need: float | None = None
    have: float | None = None
    #: Ids of the tasks that hold it.
    holders: tuple[str, ...] = ()
    #: Seconds until it passes by itself, where that is known.
    until: float | None = None


@attrs.frozen
class Explanation:
    """
    Why a task does not run, from the predicates that schedule it.

    `str()` of it is the answer in sentences.
    """

    task_id: str
    state: TaskState
    blockers: tuple[Blocker, ...]
    #: Its place among the queued tasks with the same requirements, from 1; None if
    #: it is not queued.
    position: int | None = None
    #: Why it went to its agent, once it has one.
    routed: str = ""

    @property
    def runnable(self) -> bool:
        """Whether nothing keeps it from starting but its turn."""
        return not self.blockers and self.state is TaskState.QUEUED

    def __str__(self) -> str:
        lines = [f"{self.task_id} is {self.state}."]
        lines += [blocker.detail for blocker in self.blockers]
        if self.state is TaskState.QUEUED and not self.blockers:
            lines.append("Nothing keeps it from starting: it is its turn.")
        if self.position is not None:
            lines.append(
                f"It is number {self.position} among the queued tasks with the same "
                "requirements."
            )
        if self.routed:
            lines.append(f"Its agent was chosen because: {self.routed}.")
        return "\n".join(lines)
