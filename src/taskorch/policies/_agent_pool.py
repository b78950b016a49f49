"""How many agents of a type there are: more under load, fewer when they idle."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable
from itertools import count, islice
from typing import Any, Final

from taskorch._frozen import frozen
from taskorch.errors import InvalidTaskError
from taskorch.events import Event
from taskorch.model import (
    AgentTemplate,
    ScalingDecision,
    check_count,
    check_fraction,
    check_seconds,
    level_names,
)
from taskorch.model._show import show

#: Decisions that are remembered.
_KEPT: Final = 100
#: Seconds over which arrivals are counted, if the settling time is no less.
_WINDOW: Final = 60.0
#: So many looks long tasks must find no slot before that counts.
_PRESSED: Final = 3
#: What is less than this part more, or less, is no reason for a change.
_TOLERANCE: Final = 0.1


@frozen
class PoolSample:
    """
    What a pool of agents saw at one time.

    Attributes:
        at: When, in seconds.
        agents: Agents that there are, those that start included.
        running: Attempts that they run.
        waiting: Queued tasks that they can do.
        arrived: Attempts that have come for them so far: begun, or waiting.
        latency: Seconds that one takes, or None if that is not known yet.
    """

    at: float
    agents: int
    running: int
    waiting: int
    arrived: int = 0
    latency: float | None = None


@frozen
class Spawn:
    """
    Command of a driver: spawn an agent.

    Attributes:
        template: Its type.
        agent_id: Its id.
    """

    template: AgentTemplate
    agent_id: str

    def apply(self, orchestrator: Any, /) -> object:
        """Do it; in a simulation, an agent is just there."""
        agents = getattr(orchestrator, "agents", None)
        if agents is not None:
            return agents.spawn(self.template.name, {"id": self.agent_id})
        info = self.template.agent(self.agent_id)
        return orchestrator.agent(
            info.name,
            capabilities=info.capabilities,
            max_concurrency=info.max_concurrency,
            capacity=info.capacity,
            request=info.request,
            breaker=info.breaker,
        )


@frozen
class Terminate:
    """
    Command of a driver: an agent gets no new work, and goes when it has none.

    Attributes:
        agent_id: Its id.
    """

    agent_id: str

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
        agents = getattr(orchestrator, "agents", None)
        return (orchestrator if agents is None else agents).terminate(self.agent_id)


def _in_order(samples: Iterable[PoolSample], now: float) -> list[PoolSample]:
    """*samples* up to *now*, without those that are later than the next."""
    seen: list[PoolSample] = []
    for sample in samples:
        while seen and seen[-1].at > sample.at:
            seen.pop()
        if sample.at <= now:
            seen.append(sample)
    return seen


def _rate(first: PoolSample, last: PoolSample) -> float:
    """Attempts that came in a second between two samples."""
    seconds = last.at - first.at
    return (last.arrived - first.arrived) / seconds if seconds > 0 else 0.0


class AgentPool:
    """
    A driver: keeps as many agents of a template as there is work for.

    The load is the demand divided by the slots there are. The demand is what comes in a
    second times what one takes; more, if the slots that are left free so do not do in
    the settling time what waits. While no latency is known, it is all that runs and
    waits. If tasks find no slot for three looks, what has come since then counts, and
    else what has come in the latest minute, or in the settling time if that is shorter.

    If the load is above `scale_up_threshold`, there are as many agents as bring it
    there, if that is a tenth more at least. If it is below `scale_down_threshold`,
    there are as few, but no fewer than were wished for at any time in the settling
    time: a short lull ends nobody. Between the two nothing changes.

    Args:
        template: The type of its agents.
        min_agents: So many there are always.
        max_agents: So many at the most.
        scale_up_threshold: The load above which there are to be more.
        scale_down_threshold: The load below which there are to be fewer.
        settle: Seconds for which a lower load has to last.
        interval: Seconds between two looks.

    Raises:
        InvalidTaskError: A number is out of its range, or they contradict each other.
    """

    def __init__(
        self,
        template: AgentTemplate,
        *,
        min_agents: int = 0,
        max_agents: int = 1,
        scale_up_threshold: float = 0.8,
        scale_down_threshold: float = 0.3,
        settle: float = 300.0,
        interval: float = 10.0,
    ) -> None:
        if not isinstance(template, AgentTemplate):
            msg = f"a pool is of an AgentTemplate, not of {show(template)}"
            raise InvalidTaskError(msg)
        check_count("min_agents", min_agents, least=0)
        check_count("max_agents", max_agents, least=1)
        if min_agents > max_agents:
            msg = f"min_agents={min_agents} is above max_agents={max_agents}"
            raise InvalidTaskError(msg, hint="swap them, or raise max_agents")
        check_fraction("scale_up_threshold", scale_up_threshold)
        check_fraction("scale_down_threshold", scale_down_threshold)
        if scale_down_threshold >= scale_up_threshold:
            msg = (
                f"scale_down_threshold={scale_down_threshold} is not below "
                f"scale_up_threshold={scale_up_threshold}: the pool would never rest"
            )
            raise InvalidTaskError(msg, hint="scale up at 0.8, and down at 0.3")
        if template.max_concurrency is None:
            msg = f"agents of {template.name!r} have no limit: one is enough"
            raise InvalidTaskError(msg, hint="template(…, max_concurrency=1)")
        self.template = template
        self.min_agents = min_agents
        self.max_agents = max_agents
        self.scale_up_threshold = scale_up_threshold
        self.scale_down_threshold = scale_down_threshold
        self.settle: float = check_seconds("settle", settle)
        self.interval: float = check_seconds("interval", interval, zero=False)
        template.has_named("")
        self._slots = template.max_concurrency
        #: The rates of what comes are those of so many seconds.
        self._window = min(_WINDOW, max(self.settle, _PRESSED * self.interval))
        self._names = frozenset(level_names(template.capabilities))
        self._samples: deque[PoolSample] = deque()
        self._began: float | None = None
        #: What was wished for, and when.
        self._wishes: deque[tuple[float, int]] = deque(maxlen=4096)
        self.decisions: deque[ScalingDecision] = deque(maxlen=_KEPT)

    @property
    def name(self) -> str:
        """The name of the driver: there is one pool of a template."""
        return f"pool/{self.template.name}"

    @property
    def watches(self) -> Collection[type[Event]]:
        """Nothing: it looks at intervals."""
        return ()

    def demand(self, samples: Iterable[PoolSample]) -> float:
        """Slots that the work needs, by the latest of *samples*, oldest first."""
        seen = list(samples)
        last = seen[-1]
        now = float(last.running + last.waiting)
        if last.latency is None or len(seen) == 1:
            return now
        backlog = last.waiting * last.latency / max(self.settle, last.latency)
        since = self._pressed_since(seen)
        if since is not None and last.agents:
            # More than there are slots: what counts is what has come since then.
            if last.at - since.at < _PRESSED * self.interval:
                return last.agents * self._slots * self.scale_up_threshold
            return self._with(backlog, _rate(since, last) * last.latency)
        since_then = last.at - self._window
        start = next(s for s in seen if s.at >= since_then or s is last)
        steady = self._with(backlog, _rate(start, last) * last.latency)
        load = now / max(1, last.agents * self._slots)
        if load > self.scale_up_threshold:
            # Chance alone may fill them for a while: the longest look counts.
            return self._with(backlog, _rate(seen[0], last) * last.latency)
        return max(steady if last.agents else now, float(last.running))

    def _with(self, backlog: float, steady: float) -> float:
        """Slots for what comes, and for what waits unless those that are free do it."""
        return max(steady, self.scale_up_threshold * (steady + backlog))

    def _pressed_since(self, seen: list[PoolSample]) -> PoolSample | None:
        """The first of the latest samples in which all tasks did not find a slot."""
        found = None
        for sample in reversed(seen):
            if sample.running + sample.waiting <= sample.agents * self._slots:
                return found and sample
            found = sample
        return found

    def desired(self, samples: Iterable[PoolSample], now: float) -> tuple[int, str]:
        """
        How many agents there are to be, and why: nothing but *samples* decides.

        Args:
            samples: What was seen, oldest first; at least one.
            now: Seconds, on the clock of the samples. One that is later than this, or
                than the next, is left out: a clock went back.
        """
        seen = _in_order(samples, now)
        if not seen:
            return self.min_agents, "nothing was seen yet"
        last, demand = seen[-1], self.demand(seen)
        slots = last.agents * self._slots
        load = demand / slots if slots else (math.inf if demand else 0.0)
        words = (
            f"load {load:.2f}: {last.running} running and {last.waiting} waiting "
            f"need {demand:.3g} of {slots} slots"
        )
        least = math.ceil(round(demand / (self._slots * self.scale_up_threshold), 6))
        least = min(self.max_agents, max(self.min_agents, least))
        if last.agents < self.min_agents:
            return max(least, self.min_agents), f"fewer than min_agents; {words}"
        if last.agents > self.max_agents:
            return self.max_agents, f"more than max_agents; {words}"
        if load > self.scale_up_threshold:
            return self._more(last.agents, least, words)
        if load < self.scale_down_threshold and least < last.agents:
            return least, f"{words}: below {self.scale_down_threshold:g}"
        return last.agents, words

    def _more(self, there: int, least: int, words: str) -> tuple[int, str]:
        if there == self.max_agents:
            return there, f"{words}, and there are max_agents"
        if least <= there * (1 + _TOLERANCE):
            return there, f"{words}: within {_TOLERANCE:.0%}"
        return least, f"{words}: above {self.scale_up_threshold:g}"

    def tick(self, view: Any, now: float) -> tuple[list[Any], float | None]:
        """See `taskorch.protocols.Driver`."""
        every = [agent for agent in view.agents() if not agent.is_lost]
        mine = [agent for agent in every if view.is_of(agent.name, self.template)]
        there = [agent for agent in mine if not agent.is_draining]
        starting = view.starting(self.template.name)
        sample = self._sample(view, mine, len(there) + len(starting), now)
        self._samples.append(sample)
        while now - self._samples[0].at > max(self.settle, self._window):
            self._samples.popleft()
        wish, why = self.desired(self._samples, now)
        before = sample.agents
        after, why = self._settled(before, wish, why, now)
        given_up = view.given_up(self.template.name)
        if given_up and after > before:
            why = f"no more are spawned: {given_up}"
            if not self.decisions or self.decisions[-1].reason != why:
                self._note(now, before, before, why)
            return [], now + self.interval
        if after != before:
            self._note(now, before, after, why)
        taken = {agent.name for agent in every} | set(starting)
        numbers = count(1)
        free = (self.template.id_of(number) for number in numbers)
        names = (name for name in free if name not in taken)
        spawned = islice(names, max(0, after - before))
        commands: list[Any] = [Spawn(self.template, name) for name in spawned]
        # Those that run least go first; of equals, the latest.
        there.reverse()
        there.sort(key=lambda agent: agent.running)
        gone = there[: max(0, before - after)]
        return [*commands, *(Terminate(agent.name) for agent in gone)], (
            now + self.interval
        )

    def _settled(self, before: int, wish: int, why: str, now: float) -> tuple[int, str]:
        """How many there are to be, where fewer are wished for at the moment."""
        while self._wishes and self._wishes[0][0] < now - self.settle:
            self._wishes.popleft()
        self._wishes.append((now, wish))
        if self._began is None:
            self._began = now
        if wish >= before:
            return wish, why
        highest = max(each for _, each in self._wishes)
        if highest >= before or now - self._began < self.settle:
            return before, why
        # While the load still falls, what was wished for is not where it comes to.
        late = [each for at, each in self._wishes if now - at <= self.settle / 2]
        return max(late), f"{why}, for {self.settle:g} s"

    def _sample(
        self, view: Any, mine: list[Any], agents: int, now: float
    ) -> PoolSample:
        waiting = sum(
            many
            for requires, many in view.waiting().items()
            if requires and self._names.issuperset(requires)
        )
        running = sum(agent.running for agent in mine)
        stats = view.agent_totals(self.template)
        return PoolSample(
            now,
            agents,
            running,
            waiting,
            stats[0] + running + waiting,
            stats[1],
        )

    def _note(self, now: float, before: int, after: int, why: str) -> None:
        sample = self._samples[-1]
        slots = sample.agents * self._slots
        load = self.demand(self._samples) / slots if slots else math.inf
        decision = ScalingDecision(now, self.template.name, before, after, why, load)
        self.decisions.append(decision)

    def __deepcopy__(self, memo: Any) -> AgentPool:
        """Like it, as it was before it looked: a simulation begins each life so."""
        copy = AgentPool(
            self.template,
            min_agents=self.min_agents,
            max_agents=self.max_agents,
            scale_up_threshold=self.scale_up_threshold,
            scale_down_threshold=self.scale_down_threshold,
            settle=self.settle,
            interval=self.interval,
        )
        copy.decisions = self.decisions
        return copy

    def __repr__(self) -> str:
        return (
            f"AgentPool({self.template.name!r}, min_agents={self.min_agents}, "
            f"max_agents={self.max_agents})"
        )
