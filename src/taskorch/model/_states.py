"""The states of a task, each documented under its name."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class TaskState(StrEnum):
    """
    A state in the life of a task.

    PENDING → QUEUED → RUNNING → COMPLETED is the plain path. COMPLETED, FAILED and
    CANCELLED are terminal: a task reaches exactly one of them, once.
    """

    PENDING = "pending"
    """Waits for its dependencies, or for `not_before`."""

    QUEUED = "queued"
    """Could run: waits for an agent, a slot and resources."""

    RUNNING = "running"
    """An attempt of it is under way."""

    RETRYING = "retrying"
    """An attempt failed, and the delay before the next one has not passed."""

    BLOCKED = "blocked"
    """
    Cannot go on by itself: a dependency failed, a person must decide, or an event from
    outside is awaited.
    """

    SUSPENDED = "suspended"
    """Suspended: waits for `resume_task`."""

    COMPLETED = "completed"
    """Ended well, and has a result."""

    FAILED = "failed"
    """Ended badly, and has an error."""

    CANCELLED = "cancelled"
    """Cancelled."""

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can follow."""
        return self in TERMINAL


TERMINAL: Final = frozenset(
    {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED}
)
