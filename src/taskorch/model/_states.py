"""The states of a task, each documented under its name, and joins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, Literal, TypeAlias

from taskorch.kit.checks import check_count
from taskorch.kit.frozen import frozen


class TaskState(StrEnum):
    """
    A state in the life of a task.

    PENDING → QUEUED → RUNNING → COMPLETED is the usual path. COMPLETED, FAILED and
    CANCELLED are terminal: a task reaches exactly one of them, once.
    """

    PENDING = "pending"
    """Waits for its dependencies, or for `not_before`."""

    QUEUED = "queued"
    """Could run: waits for a worker, a slot and resources."""

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
        """True if no other state can follow."""
        return self in TERMINAL


TERMINAL: Final = frozenset(
    {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED}
)


@frozen
class AtLeast:
    """
    The join of a task that waits until *count* of its parents have completed.

    Attributes:
        count: The number of parents.

    Raises:
        InvalidTaskError: *count* is not a whole number above 0.
    """

    count: int

    def __attrs_post_init__(self) -> None:
        check_count("count", self.count, least=1)


#: The words of `Task(join=…)`, and of `Task(on_parent_failure=…)`.
JOINS: Final = ("all", "finished", "any")
ON_PARENT_FAILURE: Final = ("block", "skip", "fail", "run")

#: A function of the states of the parents by id, which returns whether the task may
#: run.
Join: TypeAlias = (
    Literal["all", "finished", "any"]
    | AtLeast
    | Callable[[Mapping[str, TaskState]], bool]
)
OnParentFailure: TypeAlias = Literal["block", "skip", "fail", "run"]
