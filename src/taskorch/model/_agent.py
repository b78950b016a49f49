"""An agent: something that runs attempts."""

from __future__ import annotations

import attrs

from taskorch._base._frozen import frozen
from taskorch.errors import InvalidTaskError
from taskorch.model._checks import check_count, check_fraction
from taskorch.model._resources import Resources
from taskorch.model._retry_policy import check_seconds
from taskorch.model._show import show, shown
from taskorch.model._task import NO_RESOURCES


def _as_said(capacity: Resources | None) -> Resources | None:
    """A capacity names what it has none of, too."""
    if capacity is not None and not isinstance(capacity, Resources):
        msg = f"capacity: Resources or None, not {capacity!r}"
        raise InvalidTaskError(msg, hint="capacity=Resources(cpu=2)")
    if capacity is None or not capacity.zeros:
        return capacity
    none_of = [(name, 0) for name in capacity.zeros]
    return Resources.from_units(tuple(sorted([*capacity.units, *none_of])))


@frozen
class Breaker:
    """
    When an agent that fails gets no more work, and for how long.

    It counts the latest ends of attempts on the agent, and, for one with several
    capabilities, those for each capability. It opens if enough different tasks have
    failed there, most of what ended there failed, and most of the other agents do
    better: what fails everywhere is the fault of the tasks. Once it has been open for
    its time it is half-open: so many attempts are let through, as probes. If all end
    well it is closed; if one fails, it is open for twice as long, up to 16 times.

    Attributes:
        failures: So many different tasks must have failed.
        within: In so many seconds.
        open: Seconds until the first probe.
        probes: Attempts at once while it is half-open, and that must end well.
        rate: The least share of the ends in that time that are failures, from 0 to 1.
        most_open: The most of the agents (with that capability) that are without work
            because of breakers at once, as a share above 0, to 1. Agents without a
            breaker count, too. Of two or more one always may be; one that is alone
            with what it does is not, unless this is 1.
    """

    failures: int = 5
    within: float = 60.0
    open: float = 30.0
    probes: int = 1
    rate: float = 0.5
    most_open: float = 0.5

    __repr__ = shown


def check_breaker(breaker: Breaker | None) -> Breaker | None:
    """
    Return *breaker* if it can work.

    Raises:
        InvalidTaskError: It is none, or a value is out of its range.
    """
    if breaker is None:
        return None
    if not isinstance(breaker, Breaker):
        msg = f"breaker: a Breaker is needed, not {show(breaker)}"
        raise InvalidTaskError(msg, hint="Breaker(failures=5, open=30)")
    check_count("breaker: failures", breaker.failures, least=1)
    check_count("breaker: probes", breaker.probes, least=1)
    check_seconds("breaker: within", breaker.within, zero=False)
    check_seconds("breaker: open", breaker.open, zero=False)
    check_fraction("breaker: rate", breaker.rate)
    check_fraction("breaker: most_open", breaker.most_open)
    if not breaker.most_open:
        msg = "breaker: most_open=0 lets none open, so that it has no effect"
        raise InvalidTaskError(msg, hint="breaker=None, or most_open=0.5")
    return breaker


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
        breaker: When it gets no more work because it fails; None: it always does.
    """

    name: str
    capabilities: tuple[str, ...] = ()
    max_concurrency: int | None = None
    capacity: Resources | None = attrs.field(default=None, converter=_as_said)
    request: Resources = NO_RESOURCES
    lease: float | None = None
    breaker: Breaker | None = None

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
