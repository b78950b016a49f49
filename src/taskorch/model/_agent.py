"""An agent: something that runs attempts."""

from __future__ import annotations

import attrs

from taskorch.model._resources import Resources
from taskorch.model._task import NO_RESOURCES

__all__ = ("Agent", "Performance")


@attrs.frozen
class Agent:
    """
    What is known of an agent when it joins.

    The built-in agent `local` runs plain functions and programs.
    """

    name: str
    #: What it can do, sorted.
    capabilities: tuple[str, ...] = ()
    #: Attempts that it runs at once; None is without limit.
    max_concurrency: int | None = None
    #: What it has. It bounds what it names, and nothing else: of all that it does not
    #: name, the pools say how much there is. None names nothing.
    capacity: Resources | None = None
    #: What a task takes on it that does not say itself.
    request: Resources = NO_RESOURCES
    #: Seconds without a sign of life after which it counts as lost; None: it lives in
    #: our own process, and dies with us.
    lease: float | None = None


@attrs.frozen
class Performance:
    """
    How well an agent has done at one type of task: a projection of events.

    Attempts that were cancelled, suspended or lost are not counted.
    """

    completed: int = 0
    failed: int = 0
    #: Exponentially weighted moving average of the latency of completed attempts, in
    #: seconds (weight of the newest 0.2), or None before the first.
    latency: float | None = None

    @property
    def success_rate(self) -> float:
        """
        The share of attempts that completed, from 0 to 1.

        By Laplace's rule of succession, (completed + 1) / (attempts + 2): an agent
        that nobody has tried stands at one half.
        """
        return (self.completed + 1) / (self.completed + self.failed + 2)
