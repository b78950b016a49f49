"""
In which order tasks run, and how many may wait.

Decision: 0050.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import check_count, check_seconds, is_number
from taskorch.kit.limits import AGING_SECONDS, MAX_SECONDS
from taskorch.kit.read_only import ReadOnly
from taskorch.kit.visible import counted, show
from taskorch.model import Task
from taskorch.protocols import Admission, Context, Order, OwnerView


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
        max_queued: How many tasks may wait for a worker or for resources; one more is
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
        reason = f"{counted(queued, 'task')} queued already, and max_queued is {most:,}"
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
        max_queued: How many tasks may wait for a worker or for resources; one more is
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
        max_queued: How many tasks may wait for a worker or for resources; one more is
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


_LARGEST: Final = 1e9


class FairShareQueue(PriorityQueue):
    """
    A TaskQueue by which tenants share slots and resources, by weight.

    Of the tenants whose tasks wait, the next to be served is the one whose share is the
    smallest for its weight: of the resource of which it holds most in proportion to
    what there is (slots count, too), how much that is. That is weighted dominant
    resource fairness; of equals, the one that was served longest ago is next. Which of
    its tasks starts then, is decided as in PriorityQueue: priority counts within a
    tenant, not between tenants. Tasks without a tenant share as if they were one more
    tenant's.

    No tenant starves: with S slots, and n tenants whose tasks take a slot each and L
    seconds at most, the task that is k-th in its tenant's order starts at most `k * L *
    (1 + ceil(n / S))` seconds after it could. Nothing is left idle for the sake of
    fairness: what a tenant does not want, the others have.

    Source: A. Ghodsi and others, *Dominant Resource Fairness: Fair Allocation of
    Multiple Resource Types*, NSDI 2011.

    Args:
        weights: By tenant, how much larger its share is than one of weight 1; None
            is the tasks without a tenant. Whoever is not named has 1.
        by_demand: Whether tenants share in proportion to what they want, instead of
            equally: a weight is then multiplied by all that a tenant holds and asks
            for.
        aging: Seconds of waiting that one level of priority is worth.
        max_queued: How many tasks may wait for a worker or for resources; one more is
            refused. None is without limit.
        max_age: Seconds, or a timedelta, that a task may wait before it expires; None
            is for ever.

    Raises:
        InvalidTaskError: An argument is out of its range.
    """

    def __init__(
        self,
        weights: Mapping[str | None, float] | None = None,
        *,
        by_demand: bool = False,
        aging: float | timedelta = AGING_SECONDS,
        max_queued: int | None = None,
        max_age: float | timedelta | None = None,
    ) -> None:
        super().__init__(aging, max_queued, max_age)
        self.weights: Mapping[str | None, float] = ReadOnly(_checked_weights(weights))
        self.by_demand = by_demand

    def standing(self, owner: OwnerView, context: Context) -> float:
        """Standing of *owner*: share divided by weight; the lowest is served next."""
        share = owner.share
        if not share:
            return 0.0
        weight = self.weights.get(owner.name, 1.0)
        # Who holds something wants something.
        return share / (weight * owner.demand if self.by_demand else weight)

    def __repr__(self) -> str:
        return self._made_with(
            repr(self.weights), f"by_demand={self.by_demand!r}", f"aging={self.aging!r}"
        )


def _checked_weights(weights: object) -> dict[str | None, float]:
    if weights is None:
        return {}
    if not isinstance(weights, Mapping):
        msg = f"weights is a mapping of owners to numbers, not {show(weights)}"
        raise InvalidTaskError(msg)
    for owner, weight in weights.items():
        if owner is not None and not isinstance(owner, str):
            msg = f"weights: an owner is a text, or None, not {show(owner)}"
            raise InvalidTaskError(msg)
        if not is_number(weight, 1 / _LARGEST, _LARGEST):
            msg = f"weights[{owner!r}] is a number above 0, not {show(weight)}"
            raise InvalidTaskError(
                msg, hint="a small weight, as 0.01, for whoever may wait long"
            )
    return dict(weights)


class ScoreQueue(PriorityQueue):
    """
    The TaskQueue that weighs several objectives against each other and against age.

    Each objective is a number from 0 to 1 in the metadata of a task; one that is not
    there is 0. The score of a task is the sum of its objectives, each times its weight,
    in seconds; so a weight says how long a task without the objective may have waited
    and still be overtaken. A weight below 0 counts against a task. Priority counts as
    in PriorityQueue. The key of a task is the time of its submission less its score.

    So no task waits for ever. The scores of two tasks of one priority differ by at most
    the sum of the weights without their signs, `spread`: a task is overtaken only by
    such as were submitted at most `spread` seconds after it, and *aging* seconds more
    for each level of priority that they are above it.

    Args:
        weights: Of each objective, by its name in the metadata, how many seconds of
            waiting it is worth: `{"reward_signal": 600, "resource_pressure": -120}`.
        aging: Seconds of waiting that one level of priority is worth.
        max_queued: How many tasks may wait for a worker or for resources; one more is
            refused. None is without limit.
        max_age: Seconds, or a timedelta, that a task may wait before it expires; None
            is for ever.
        backfill: As of PriorityQueue.

    Raises:
        InvalidTaskError: An argument is out of its range.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        aging: float | timedelta = AGING_SECONDS,
        max_queued: int | None = None,
        max_age: float | timedelta | None = None,
        *,
        backfill: bool = False,
    ) -> None:
        super().__init__(aging, max_queued, max_age, backfill=backfill)
        self.weights: Mapping[str, float] = ReadOnly(_checked_objectives(weights))
        #: The most by which the scores of two tasks of one priority differ, in seconds.
        self.spread: float = math.fsum(map(abs, self.weights.values()))

    def score(self, task: Task) -> float:
        """
        What *task* gains by its objectives, in seconds of waiting.

        Raises:
            InvalidTaskError: An objective in its metadata is no number from 0 to 1.
        """
        metadata = task.metadata or _NOTHING
        return math.fsum(
            weight * _objective(name, metadata[name])
            for name, weight in self.weights.items()
            if name in metadata
        )

    def order(self, task: Task, context: Context) -> Order:
        """The place of *task*: when it was submitted, less what it gains."""
        gain = task.priority * self.aging + self.score(task)
        return Order(context.now - gain)

    def __repr__(self) -> str:
        return self._made_with(repr(self.weights), f"aging={self.aging!r}")


_NOTHING: Final[Mapping[str, object]] = ReadOnly({})


def _checked_objectives(weights: object) -> dict[str, float]:
    if not isinstance(weights, Mapping):
        msg = f"weights is a mapping of names to seconds, not {show(weights)}"
        raise InvalidTaskError(msg)
    for name, weight in weights.items():
        if not isinstance(name, str):
            msg = f"weights: the name of an objective is a text, not {show(name)}"
            raise InvalidTaskError(msg)
        if not is_number(weight, -MAX_SECONDS, MAX_SECONDS):
            msg = f"weights[{name!r}] is a number of seconds, not {show(weight)}"
            raise InvalidTaskError(msg)
    return dict(weights)


def _objective(name: str, value: object) -> float:
    if not is_number(value, 0, 1):
        msg = f"metadata[{name!r}] is a number from 0 to 1, not {show(value)}"
        raise InvalidTaskError(
            msg, hint="divide it by the largest that there is, or leave it out"
        )
    return value
