"""
The order of tasks, and the limit of waiting ones.

Decision: queue-and-routing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import (
    check_count,
    check_exact,
    check_seconds,
    is_number,
)
from taskorch.kit.frozen import ReadOnly
from taskorch.kit.limits import AGING_SECONDS, MAX_SECONDS
from taskorch.kit.visible import counted, is_text, show
from taskorch.model import Task
from taskorch.protocols import Admission, Context, Order, OwnerView


class PriorityQueue:
    """
    TaskQueue by priority and age, in which no task starves.

    One level of priority is worth *aging* seconds of waiting: a task of priority 1
    overtakes tasks of priority 0 that were submitted up to *aging* seconds before it,
    and no older ones. So a task waits for younger ones with *p* levels more only if
    they came within *p* times *aging* seconds after it. Tasks with equal keys run in
    the order of their submission; with `aging=0` all do.

    Tasks of one batch, or one workflow, are submitted at one instant. If their
    durations are known, tasks of equal priority run in the order of their latest finish
    times: the critical path first, and of equals the longest. Not with `aging=0`.

    With `backfill`, one task at a time has a reservation: over slots, resource pools,
    quotas and one worker's capacity, but not for a slot alone, nor for an allocation by
    hand. A task of unknown length passes only if it fits beside it, and so does each if
    the reserved task waits for one of unknown length. With the longest expected length
    E and the longest real attempt L, the first task starts within E + L seconds; with
    exact lengths, at the reserved time. With k tasks before it, a task waits at most (k
    + 1) * (E + L). More urgent tasks still come first; allocations by hand do not wait
    for it. An elastic task reserves its least, and keeps within what a reservation
    leaves. Tasks of one type with equal needs keep their order. A queue of yours needs
    an attribute `backfill`.

    Args:
        aging: Seconds of waiting that one level of priority is worth.
        max_queued: How many tasks may wait for a worker or for resources; one more is
            refused. None is without limit.
        max_age: Seconds, or a timedelta, that a task may wait before it expires; None
            is for ever.
        backfill: True reserves resources for the first task that cannot start: later
            ones pass it only if they are expected to end before it could start, or use
            resources that it leaves. Otherwise any task that fits starts, and a large
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
            max_age = check_seconds("max_age", max_age, zero=False, none=True)
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
        """Return the key of *task*, by one rule for all."""
        return self._order

    def admit(self, task: Task, context: Context) -> Admission:
        """Return whether *task* may join; not if *max_queued* wait already."""
        most = self.max_queued
        if most is None or (queued := context.view.queued) < most:
            return self._admitted
        reason = f"{counted(queued, 'task')} queued already, and max_queued is {most:,}"
        return Admission(admitted=False, reason=reason)

    def __repr__(self) -> str:
        return self._made_with(f"aging={self.aging!r}")

    def _made_with(self, *own: str) -> str:
        """Return the `repr` of a queue with *own* arguments and the common ones."""
        arguments = [
            *own,
            f"max_queued={self.max_queued!r}",
            f"max_age={self.max_age!r}",
        ]
        arguments += ["backfill=True"] * self.backfill
        return f"{type(self).__name__}({', '.join(arguments)})"


class FifoQueue(PriorityQueue):
    """
    TaskQueue that is first in, first out, without priorities.

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
    TaskQueue that is earliest deadline first.

    With equal deadlines the higher priority runs first, then the earlier submission.
    Tasks without a deadline come after all that have one, and may wait for ever while
    such tasks keep coming; with *default*, each is placed as if it were due so many
    seconds after its submission, and that bounds its wait.

    A deadline is a time from submission or a date; both are placed on the clock of
    `context.now`, which the orchestrator counts from the epoch. A deadline that has
    passed is the most pressing, until the orchestrator ends the task for missing it.

    If any order of the tasks meets all deadlines on one slot, with attempts that may be
    interrupted, this one does. With more work than time, many deadlines may be missed
    by a little. Source: C. L. Liu and J. W. Layland, *Scheduling Algorithms for
    Multiprogramming in a Hard-Real-Time Environment*, Journal of the ACM 20 (1), 1973.

    Args:
        default: Seconds from the submission after which a task without a deadline
            counts as due; None places it after all others. It is for the order only: it
            does not end the task.
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
        """Return the key of *task*: its deadline, then its priority."""
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
    TaskQueue by which tenants share slots and resources, by weight.

    Of the tenants with waiting tasks, the next is the one with the smallest share for
    its weight. The share is the largest part that it holds of any resource, or of the
    slots. This is weighted dominant resource fairness; of equals, the tenant that was
    served longest ago is next. Its own tasks are ordered as in PriorityQueue: priority
    counts within a tenant, not between tenants. Tasks without a tenant share as one
    more tenant.

    No tenant starves: with S slots, and n tenants whose tasks take a slot each and L
    seconds at most, the task that is k-th in its tenant's order starts at most `k * L *
    (1 + ceil(n / S))` seconds after it could. Fairness leaves nothing idle: the others
    get the resources that a tenant does not want.

    Source: A. Ghodsi and others, *Dominant Resource Fairness: Fair Allocation of
    Multiple Resource Types*, NSDI 2011.

    Args:
        weights: The weight of each tenant, relative to 1; None is for tasks without a
            tenant. Other tenants have 1.
        by_demand: True if tenants share in proportion to their demand, instead of
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
        """Return the share of *owner* divided by its weight; the lowest is next."""
        share = owner.share
        if not share:
            return 0.0
        weight = self.weights.get(owner.name, 1.0)
        # A tenant that holds something has a demand above 0.
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
    for tenant, weight in weights.items():
        if tenant is not None and not is_text(tenant):
            msg = f"weights: an owner is a text, or None, not {show(tenant)}"
            raise InvalidTaskError(msg)
        check_exact("weights", tenant or "", "name each tenant; others have weight 1")
        if not is_number(weight, 1 / _LARGEST, _LARGEST):
            msg = f"weights[{tenant!r}] is a number above 0, not {show(weight)}"
            raise InvalidTaskError(
                msg, hint="a small weight, as 0.01, for whoever may wait long"
            )
    return dict(weights)


class ScoreQueue(PriorityQueue):
    """
    TaskQueue that weighs several objectives against each other and against age.

    Each objective is a number from 0 to 1 in the metadata of a task; a missing one is
    0. The score of a task is the sum of its objectives, each times its weight, in
    seconds; so a weight says how long a task without the objective may have waited and
    still be overtaken. A weight below 0 counts against a task. Priority counts as in
    PriorityQueue. The key of a task is the time of its submission less its score.

    So no task waits for ever. The scores of two tasks of one priority differ by at most
    the sum of the weights without their signs, `spread`: only tasks overtake it that
    were submitted at most `spread` seconds after it, plus *aging* seconds for each
    level of priority above it.

    Args:
        weights: The seconds of waiting that each objective is worth, by its name in the
            metadata: `{"reward_signal": 600, "resource_pressure": -120}`.
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
        Return the gain of *task* by its objectives, in seconds of waiting.

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
        """Return the key of *task*: the time of its submission, less its gain."""
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
        if not is_text(name):
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
