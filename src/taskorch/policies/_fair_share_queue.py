"""
In which order tasks run: each owner gets its share.

Decision: 0050.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from taskorch._base._limits import AGING_SECONDS
from taskorch.errors import InvalidTaskError
from taskorch.model._checks import is_number
from taskorch.model._read_only import ReadOnly
from taskorch.model._show import show
from taskorch.policies._queue import PriorityQueue
from taskorch.protocols import Context, OwnerView

_LARGEST: Final = 1e9


class FairShareQueue(PriorityQueue):
    """
    A TaskQueue by which owners share slots and resources, by weight.

    Of the owners whose tasks wait, the next to be served is the one whose share is the
    smallest for its weight: of the resource of which it holds most in proportion to
    what there is (slots count, too), how much that is. That is weighted dominant
    resource fairness; of equals, the one that was served longest ago is next. Which of
    its tasks starts then, is decided as in PriorityQueue: priority counts within an
    owner, not between owners. Tasks without an owner share as if they were one more
    owner's.

    No owner starves: with S slots, and n owners whose tasks take a slot each and L
    seconds at most, the task that is k-th in its owner's order starts at most `k * L *
    (1 + ceil(n / S))` seconds after it could. Nothing is left idle for the sake of
    fairness: what an owner does not want, the others have.

    Source: A. Ghodsi and others, *Dominant Resource Fairness: Fair Allocation of
    Multiple Resource Types*, NSDI 2011.

    Args:
        weights: By owner, how much larger its share is to be than one of weight 1; None
            is the tasks without an owner. Whoever is not named has 1.
        by_demand: Whether owners share in proportion to what they want, instead of
            equally: a weight is then multiplied by all that an owner holds and asks
            for.
        aging: Seconds of waiting that one level of priority is worth.
        max_queued: How many tasks may wait for an agent or for resources; one more is
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
        self.weights: Mapping[str | None, float] = ReadOnly(_checked(weights))
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


def _checked(weights: object) -> dict[str | None, float]:
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
