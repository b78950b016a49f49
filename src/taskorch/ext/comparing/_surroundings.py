"""
The surroundings of the tasks of a run: workers, their machines, slots, pools, holds.

The events of a journal tell them: each incarnation of the orchestrator begins with its
slots, the workers of the one before are lost, and its own join it anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, TypeAlias

import attrs

from taskorch.events import (
    AgentJoined,
    AgentLost,
    AgentReturned,
    Event,
    OrchestratorStarted,
    PoolsChanged,
    StartsHeld,
    StartsReleased,
)
from taskorch.model import Agent

#: The events that tell of workers, slots and holds.
_TOLD: Final = (
    AgentJoined,
    AgentLost,
    AgentReturned,
    OrchestratorStarted,
    StartsHeld,
    StartsReleased,
)
#: Asks for the latest events of some classes until a time in ns, in their order, and at
#: most so many of each.
Asked: TypeAlias = Callable[[Collection[type[Event]], int, int], Iterable[Event]]
#: Of a class, so many events are read: a fleet that grows and shrinks all day has
#: hundreds of thousands of workers that joined, and those of one night are the latest.
_MOST: Final = 5_000
#: The amounts of pools in events are in millionths.
_WHOLE: Final = 1e6
_NS: Final = 1e9
_NEVER_NS: Final = 2**63 - 1
#: An event so many seconds after the beginning counts as before it; and one so many
#: before the end, as after it.
_AT_ONCE: Final = 0.001


@attrs.frozen
class Around:
    """
    The surroundings of the tasks of one run, where they are known.

    Attributes:
        slots: The most attempts that run at once; None: unknown.
        workers: The workers that were there and stayed, besides the built-in one, with
            the most attempts that each runs at once; None: unknown.
        lost: The workers that were lost meanwhile, and why.
        pools: The least totals of the pools, by name.
        holds: Why starts were on hold meanwhile.
    """

    slots: int | None = None
    workers: Mapping[str, int | None] | None = None
    lost: Mapping[str, str] = attrs.field(factory=dict)
    pools: Mapping[str, float] = attrs.field(factory=dict)
    holds: tuple[str, ...] = ()


class Surroundings:
    """
    The surroundings of all tasks, until a time: see `reach`.

    Args:
        ask: See `Asked`; None: no journal keeps any events.
        agents: The workers that are there now: without events, nobody else is known.
    """

    def __init__(self, ask: Asked | None = None, agents: Iterable[Agent] = ()) -> None:
        self._ask = ask
        self._now = {worker.name: worker for worker in agents}
        self._events: list[tuple[float, Event]] = []
        self._pool_changes: list[tuple[float, PoolsChanged]] = []
        self._joined: dict[str, list[tuple[float, Agent]]] = {}
        #: Whether all workers are among the events, and not the latest alone.
        self._has_all = False

    def reach(self, ended: float) -> None:
        """Ask for the events until a time."""
        if self._ask is None:
            return
        until_ns = int(min((ended + _AT_ONCE) * _NS, _NEVER_NS))
        events = [*self._ask(_TOLD, until_ns, _MOST)]
        # A later change says how large a pool was before.
        changes = self._ask((PoolsChanged,), _NEVER_NS, _MOST)
        self._pool_changes = [
            (event.at_ns / _NS, event)
            for event in changes
            if isinstance(event, PoolsChanged)
        ]
        self._events = [(event.at_ns / _NS, event) for event in events]
        self._joined = {}
        for at, event in self._events:
            if isinstance(event, AgentJoined):
                self._joined.setdefault(event.agent.name, []).append((at, event.agent))
        many = Counter(type(event) for event in events)
        first = {type(event): event.seq for event in reversed(events)}
        least = max((first[each] for each in many if many[each] >= _MOST), default=0)
        # The workers join each incarnation anew.
        self._has_all = not least or any(
            isinstance(event, OrchestratorStarted) and event.seq >= least
            for event in events
        )

    def machine(self, name: str | None, at: float | None) -> dict[str, str] | None:
        """
        Return the known properties of the machine of a worker at a time, by name.

        Its `host` is its name; see the labels of `Agent` for the others. None: unknown.
        """
        if name is None or at is None:
            return None
        worker = self._now.get(name) if self._ask is None else None
        for since, joined in self._joined.get(name, ()):
            if since <= at:
                worker = joined
        if worker is None:
            return None
        keys = {"host": worker.host} if worker.host else {}
        for label in worker.labels:
            key, _, value = label.partition(":")
            keys[key] = value
        return keys or None

    def during(self, began: float, ended: float) -> Around:
        """Return the surroundings between two times."""
        until = [(at, event) for at, event in self._events if at < ended - _AT_ONCE]
        slots: int | None = None
        workers: dict[str, int | None] = {}
        away: dict[str, int | None] = {}
        lost: dict[str, str] = {}
        for at, event in until:
            if isinstance(event, OrchestratorStarted):
                slots = event.concurrency or None
            elif isinstance(event, AgentJoined):
                workers[event.agent.name] = event.agent.max_concurrency
                lost.pop(event.agent.name, None)
            elif isinstance(event, AgentReturned):
                workers[event.agent_id] = away.get(event.agent_id)
                lost.pop(event.agent_id, None)
            elif isinstance(event, AgentLost):
                away[event.agent_id] = workers.pop(event.agent_id, None)
                if at > began + _AT_ONCE:
                    lost[event.agent_id] = event.reason
        workers.pop(Agent.LOCAL, None)
        holds = tuple(dict.fromkeys(_holds(until, began)))
        or_unknown = workers if self._events and self._has_all else None
        return Around(slots, or_unknown, lost, self._pools(began, ended), holds)

    def _pools(self, began: float, ended: float) -> dict[str, float]:
        """Return the least totals of the pools between two times."""
        totals: dict[str, int] = {}
        least: dict[str, int] = {}
        for at, event in self._pool_changes:
            if at > began + _AT_ONCE:
                # The total before a change is that at the beginning.
                for name, total in event.before:
                    least.setdefault(name, totals.get(name, total))
            if at > ended - _AT_ONCE:
                continue
            for name in event.gone:
                totals.pop(name, None)
            totals.update(event.totals)
            if at > began + _AT_ONCE:
                for name, total in event.totals:
                    least[name] = min(least.get(name, total), total)
        least = {**totals, **least}
        return {name: total / _WHOLE for name, total in least.items()}


def _holds(events: Iterable[tuple[float, Event]], began: float) -> Iterator[str]:
    """Yield why starts were on hold since a time."""
    holds: dict[str, str] = {}
    for at, event in events:
        if isinstance(event, StartsHeld):
            holds[event.by] = event.reason
            if at > began:
                yield event.reason
        elif isinstance(event, StartsReleased):
            reason = holds.pop(event.by, None)
            if at > began and reason is not None:
                yield reason
    yield from holds.values()
