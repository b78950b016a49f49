"""The events that end an attempt, and the state of its task then."""

from __future__ import annotations

from typing import Final

from taskorch.events._catalogue import (
    Event,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
    TaskSuspended,
)
from taskorch.model import TaskState

__all__ = ("ENDS", "end_of_attempt")

#: The state of the task after each event, if an attempt was under way before it.
ENDS: Final[dict[type[Event], TaskState]] = {
    TaskCompleted: TaskState.COMPLETED,
    TaskFailed: TaskState.FAILED,
    TaskRetrying: TaskState.RETRYING,
    TaskSuspended: TaskState.SUSPENDED,
    TaskBlocked: TaskState.BLOCKED,
    TaskCancelled: TaskState.CANCELLED,
}


def end_of_attempt(event: Event) -> TaskState | None:
    """
    Return the state of a task after *event*, if that ends an attempt, or None.

    The caller must know whether an attempt was under way.
    """
    if isinstance(event, TaskSuspended) and event.held:
        # A program that is stopped in place goes on in the same attempt.
        return None
    return ENDS.get(type(event))
