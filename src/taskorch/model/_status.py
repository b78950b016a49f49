"""What the orchestrator says of one task."""

from __future__ import annotations

from typing import Any

import attrs

from taskorch.model._resources import Resources
from taskorch.model._states import TaskState

__all__ = ("HistoryEntry", "TaskStatus")


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
