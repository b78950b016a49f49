"""In which order tasks run: the most pressing first."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from taskorch.model import Task, check_seconds
from taskorch.policies._queue import PriorityQueue
from taskorch.protocols import Context, Order


class DeadlineQueue(PriorityQueue):
    """
    The TaskQueue that is earliest deadline first.

    Of tasks with the same deadline the higher priority runs first, then the one that
    was submitted first. Tasks without a deadline come after all that have one, and may
    wait for ever while such tasks keep coming; with *default*, each is placed as if it
    were due so many seconds after its submission, and that bounds its wait.

    A deadline is a time from submission or a date; both are placed on the clock of
    `context.now`, which the orchestrator counts from the epoch. A deadline that has
    passed is the most pressing, until the orchestrator ends the task for missing it.

    If any order of the tasks meets all deadlines on one slot, with attempts that may
    be interrupted, this one does. With more work than time it spares none: many may
    then be missed by a little. Source: C. L. Liu and J. W. Layland, *Scheduling
    Algorithms for Multiprogramming in a Hard-Real-Time Environment*, Journal of the
    ACM 20 (1), 1973.

    Args:
        default: Seconds from its submission in which a task without a deadline is
            placed as if it were due; None places it after all others. It is for the
            order only: the task is not ended by it.
        max_queued: How many tasks may wait for an agent or for resources; one more is
            refused. None is without limit.
        max_age: Seconds, or a timedelta, that a task may wait before it expires; None
            is for ever.
        backfill: As of PriorityQueue.

    Raises:
        InvalidTaskError: An argument is out of its range.
    """

    def __init__(
        self,
        default: float | timedelta | None = None,
        max_queued: int | None = None,
        max_age: float | timedelta | None = None,
        *,
        backfill: bool = False,
    ) -> None:
        super().__init__(0.0, max_queued, max_age, backfill=backfill)
        if default is not None:
            default = check_seconds("default", default)
        self.default = default

    def order(self, task: Task, context: Context) -> Order:
        """The place of *task*: its deadline, then its priority."""
        deadline = self.default if task.deadline is None else task.deadline
        if deadline is None:
            due = math.inf
        elif isinstance(deadline, datetime):
            due = deadline.timestamp()
        else:
            due = context.now + deadline
        return Order((due, -task.priority))

    def __repr__(self) -> str:
        return self._made_with(f"default={self.default!r}")
