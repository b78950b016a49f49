"""Which events end an attempt, and what becomes of its task then."""

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

#: Of each, the state of the task after it, if an attempt was under way before it.
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
    The state of a task after the attempt that *event* ends; None: it ends none.

    Whether an attempt was under way, those know who have heard that it began.
    """
    if isinstance(event, TaskSuspended) and event.held:
        # A program that is stopped where it stands goes on in the same attempt.
        return None
    return ENDS.get(type(event))
