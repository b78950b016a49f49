"""In which order tasks run, and how many may wait."""

from __future__ import annotations

from datetime import timedelta

from taskorch._base._limits import AGING_SECONDS
from taskorch.model import Task, check_count, check_seconds
from taskorch.policies._words import count
from taskorch.protocols import Admission, Context, Order


class PriorityQueue:
    """
    The TaskQueue that puts the more urgent first, and lets nobody starve.

    One level of priority is worth *aging* seconds of waiting: a task of priority 1
    overtakes what was submitted up to *aging* seconds before it at priority 0, and
    nothing older. So a task waits, for younger ones with *p* levels more, at most
    until those have been started that came within *p* times *aging* seconds after it.
    Tasks of equal standing run in the order of their submission; with `aging=0` all
    do.

    Tasks of one batch, or one workflow, are submitted at one instant. Where it is known
    how long they take, those of equal priority run in the order of their latest finish
    times: first what the rest of the batch waits for longest, the critical path, and
    of equals the longest. Not with `aging=0`.

    Args:
        aging: Seconds of waiting that one level of priority is worth.
        max_queued: How many tasks may wait for an agent or for resources; one more is
            refused. None is without limit.
        max_age: Seconds, or a timedelta, that a task may wait before it expires; None
            is for ever.
        backfill: Whether what the first task that cannot start needs is reserved for
            it: later ones pass it only if they are expected to end before it could
            start, or take what it leaves. Otherwise whatever fits starts, and a large
            task may wait for long.

    Raises:
        InvalidTaskError: An argument is out of its range.
    """

    def __init__(
        self,
        aging: float | timedelta = AGING_SECONDS,
        max_queued: int | None = None,
        max_age: float | timedelta | None = None,
        *,
        backfill: bool = False,
    ) -> None:
        aging = check_seconds("aging", aging)
        if max_queued is not None:
            check_count("max_queued", max_queued, least=1)
        if max_age is not None:
            max_age = check_seconds("max_age", max_age, zero=False)
        self.aging = aging
        self.max_queued = max_queued
        self.max_age = max_age
        self.backfill = backfill
        self._order = Order(aging=aging, reusable=PriorityQueue)
        self._admitted = Admission(
            admitted=True,
            max_age=max_age,
            reusable=max_queued is None and PriorityQueue,
        )

    def order(self, task: Task, context: Context) -> Order:
        """The place of *task*: one rule for all."""
        return self._order

    def admit(self, task: Task, context: Context) -> Admission:
        """Whether *task* may join; not if *max_queued* wait already."""
        most = self.max_queued
        if most is None or (queued := context.view.queued) < most:
            return self._admitted
        reason = f"{count(queued, 'task')} queued already, and max_queued is {most:,}"
        return Admission(admitted=False, reason=reason)

    def __repr__(self) -> str:
        return self._made_with(f"aging={self.aging!r}")

    def _made_with(self, *own: str) -> str:
        """The `repr` of a queue with *own* arguments, besides those that all have."""
        arguments = [
            *own,
            f"max_queued={self.max_queued!r}",
            f"max_age={self.max_age!r}",
        ]
        arguments += ["backfill=True"] * self.backfill
        return f"{type(self).__name__}({', '.join(arguments)})"


class FifoQueue(PriorityQueue):
    """
    The TaskQueue that is first in, first out: priorities count for nothing.

    Args:
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
        max_queued: int | None = None,
        max_age: float | timedelta | None = None,
        *,
        backfill: bool = False,
    ) -> None:
        super().__init__(0.0, max_queued, max_age, backfill=backfill)

    def __repr__(self) -> str:
        return self._made_with()
