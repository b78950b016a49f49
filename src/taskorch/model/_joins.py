"""When the parents of a task let it go, and what follows if they cannot any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias

from taskorch._base._frozen import frozen
from taskorch.model._checks import check_count
from taskorch.model._states import TaskState


@frozen
class AtLeast:
    """
    The join of a task that waits until so many of its parents have completed.

    Attributes:
        count: How many.

    Raises:
        InvalidTaskError: *count* is not a whole number above 0.
    """

    count: int

    def __attrs_post_init__(self) -> None:
        check_count("count", self.count, least=1)


#: The words of `Task(join=…)`, and of `Task(on_parent_failure=…)`.
JOINS: Final = ("all", "finished", "any")
ON_PARENT_FAILURE: Final = ("block", "skip", "fail", "run")

#: A function says, of the states of the parents by their ids, whether it may go on.
Join: TypeAlias = (
    Literal["all", "finished", "any"]
    | AtLeast
    | Callable[[Mapping[str, TaskState]], bool]
)
OnParentFailure: TypeAlias = Literal["block", "skip", "fail", "run"]
