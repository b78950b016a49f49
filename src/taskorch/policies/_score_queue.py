"""In which order tasks run: by several objectives at once, and by age."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from taskorch._base._limits import AGING_SECONDS, MAX_SECONDS
from taskorch.errors import InvalidTaskError
from taskorch.model import Task
from taskorch.model._checks import is_number
from taskorch.model._read_only import ReadOnly
from taskorch.model._show import show
from taskorch.policies._queue import PriorityQueue
from taskorch.protocols import Context, Order


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
        weights: Mapping[str, float],
        aging: float | timedelta = AGING_SECONDS,
        max_queued: int | None = None,
        max_age: float | timedelta | None = None,
        *,
        backfill: bool = False,
    ) -> None:
        super().__init__(aging, max_queued, max_age, backfill=backfill)
        self.weights: Mapping[str, float] = ReadOnly(_checked(weights))
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


def _checked(weights: object) -> dict[str, float]:
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
