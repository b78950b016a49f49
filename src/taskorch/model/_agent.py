"""An agent: something that runs attempts."""

from __future__ import annotations

import attrs

from taskorch._frozen import frozen
from taskorch.model._resources import Resources
from taskorch.model._show import shown
from taskorch.model._task import NO_RESOURCES


def _as_said(capacity: Resources | None) -> Resources | None:
    """A capacity names what it has none of, too."""
    if capacity is None or not capacity.zeros:
        return capacity
    none_of = [(name, 0) for name in capacity.zeros]
    return Resources.from_units(tuple(sorted([*capacity.units, *none_of])))


@frozen
class Agent:
    """
    What is known of an agent when it joins.

    The built-in agent `local` runs plain functions and programs.

    Attributes:
        name: Its name.
        capabilities: What it can do, sorted.
        max_concurrency: Attempts that it runs at once; None is without limit.
        capacity: What it has. It bounds what it names, and nothing else: of all that it
            does not name, the pools say how much there is. None names nothing; 0 of
            something is none of it.
        request: What a task takes on it that does not say itself.
        lease: Seconds without a sign of life after which it counts as lost; None: it
            lives in our own process, and dies with us.
    """

    name: str
    capabilities: tuple[str, ...] = ()
    max_concurrency: int | None = None
    capacity: Resources | None = attrs.field(default=None, converter=_as_said)
    request: Resources = NO_RESOURCES
    lease: float | None = None

    __repr__ = shown


@frozen
class Performance:
    """
    How well an agent has done at one type of task: a projection of events.

    Attempts that were cancelled, suspended or lost are not counted.

    Attributes:
        completed: Attempts that ended well.
        failed: Attempts that ended badly.
        latency: Exponentially weighted moving average of the latency of completed
            attempts, in seconds (weight of the newest 0.2), or None before the first.
    """

    completed: int = 0
    failed: int = 0
    latency: float | None = None

    @property
    def success_rate(self) -> float:
        """
        The share of attempts that completed, from 0 to 1.

        By Laplace's rule of succession, (completed + 1) / (attempts + 2): an agent
        that nobody has tried stands at one half.
        """
        return (self.completed + 1) / (self.completed + self.failed + 2)
