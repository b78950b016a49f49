"""Pools of workers under arrivals at random, beside the rules of two autoscalers."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from taskorch import Task
from taskorch.model import AgentTemplate
from taskorch.policies import AgentPool
from taskorch.policies._agent_pool import Spawn, Terminate
from taskorch.testing import Simulation

_HOUR = 3_600.0
_MOST = 400
_LOOK = 10.0
_TEMPLATE = AgentTemplate("worker", capabilities={"x": 1}, handler=print)
#: Of each world: what is promised of agent-hours over the ideal, and what is aimed at.
_WORLDS = {"steady": (1.6, 1.25), "sine": (1.6, 1.25), "bursts": (2.5, 1.5)}


class _Rule:
    """A pool whose size is the answer of one question, asked at intervals."""

    name = "pool/worker"
    watches = ()
    interval = _LOOK

    def wanted(
        self, workers: int, running: int, waiting: int, latency: float, now: float
    ) -> int:
        """How many workers there are to be."""
        raise NotImplementedError

    def tick(self, view: Any, now: float) -> tuple[list[Any], float]:
        """See `taskorch.protocols.Driver`."""
        mine = [one for one in _there(view) if not one.is_draining]
        running = sum(one.running for one in mine)
        waiting = sum(view.waiting().values())
        latency = view.agent_totals(_TEMPLATE)[1] or 0.5
        wish = self.wanted(len(mine), running, waiting, latency, now)
        wish = min(_MOST, max(1, wish))
        taken = {one.name for one in view.agents() if not one.is_lost}
        names = (_TEMPLATE.id_of(number) for number in range(1, 10 * _MOST))
        free = [name for name in names if name not in taken][: wish - len(mine)]
        idle = sorted(mine, key=lambda one: one.running)[: max(0, len(mine) - wish)]
        commands = [Terminate(one.name) for one in idle]
        more = [Spawn(_TEMPLATE, name) for name in free] if wish > len(mine) else []
        return [*more, *commands], now + self.interval


class _Horizontal(_Rule):
    """
    The rule of Kubernetes' autoscaler: 0.8 of the workers are to be in use.

    Within a tenth nothing changes; it is at most doubled, or four more; and the highest
    wish of five minutes counts where there are to be fewer.
    """

    def __init__(self) -> None:
        self._wishes: deque[tuple[float, int]] = deque()

    def wanted(
        self, workers: int, running: int, waiting: int, latency: float, now: float
    ) -> int:
        """How many workers there are to be."""
        del waiting, latency
        ratio = running / workers / 0.8 if workers else 1.0
        wish = workers if abs(ratio - 1) <= 0.1 else math.ceil(workers * ratio)
        wish = max(1, min(wish, max(2 * workers, workers + 4)))
        while self._wishes and self._wishes[0][0] < now - 300:
            self._wishes.popleft()
        self._wishes.append((now, wish))
        return wish if wish >= workers else max(many for _, many in self._wishes)


class _Occupancy(_Rule):
    """The rule of Dask's adaptive clusters: what is there is to be done in 5 s."""

    interval = 5.0

    def __init__(self) -> None:
        self._low = 0

    def wanted(
        self, workers: int, running: int, waiting: int, latency: float, now: float
    ) -> int:
        """How many workers there are to be."""
        del now
        tasks = running + waiting
        wish = min(tasks, math.ceil(tasks * latency / 5))
        self._low = self._low + 1 if wish < workers else 0
        return wish if wish >= workers or self._low >= 3 else workers


def _there(view: Any) -> list[Any]:
    """The workers of the pool that are there, or still run something."""
    return [
        one
        for one in view.agents()
        if _TEMPLATE.has_named(one.name)
        and not one.is_lost
        and (one.running or not one.is_draining)
    ]


class _Counted:
    """A driver, and how many workers there were after each of its answers."""

    def __init__(self, controller: Any) -> None:
        self.driver = controller
        self.name = controller.name
        self.watches = controller.watches
        self.seconds = 0.0
        self.starts = 0
        self._since: tuple[float, int] | None = None

    def tick(self, view: Any, now: float) -> tuple[list[Any], float | None]:
        """See `taskorch.protocols.Driver`."""
        commands, again = self.driver.tick(view, now)
        at, many = self._since or (now, 0)
        if not commands and self._since and now < at + _LOOK:
            return commands, again
        there = len(_there(view))
        # Those that were to go, and ran something, were there all the time.
        self.seconds += (now - at) * max(many, there)
        spawned = sum(isinstance(one, Spawn) for one in commands)
        self.starts += spawned
        gone = {one.agent_id for one in commands if isinstance(one, Terminate)}
        idle = sum(one.name in gone and not one.running for one in _there(view))
        self._since = now, there + spawned - idle
        return commands, again


@dataclass(frozen=True)
class _Outcome:
    """What a pool came to in a world."""

    hours: float
    """Agent-hours, of a worker for each attempt that runs."""
    wait: float
    """Seconds that 19 of 20 tasks waited at the most."""
    starts: float
    """Workers started in an hour."""


def _arrivals(world: str, hours: int, random: Random) -> list[float]:
    """When tasks come, in seconds."""
    rates: dict[str, Callable[[float], float]] = {
        "steady": lambda _: 10 / 60,
        "sine": lambda at: (10 + 9 * math.sin(2 * math.pi * at / (4 * _HOUR))) / 60,
        "bursts": lambda _: 1 / 60,
    }
    rate, top, at = rates[world], 20 / 60, 0.0
    found: list[float] = []
    while (at := at + random.expovariate(top)) < hours * _HOUR:
        if random.random() < rate(at) / top:
            found.append(at)
    if world == "bursts":
        for hour in range(hours):
            begin = (hour + 0.5) * _HOUR
            found += [begin + number / 100 for number in range(200)]
    return sorted(found)


def _run(world: str, controller: Any, hours: int, seed: int = 11) -> _Outcome:
    """Let a pool do what comes; tasks take a minute on average, some four."""
    random = Random(seed)
    times = _arrivals(world, hours, random)
    lasts = {
        f"t{n}": random.lognormvariate(math.log(50), 0.6) for n in range(len(times))
    }
    sim = Simulation(1, check=False, concurrency=10_000, unknown_capability="wait")
    sim.work("t", lambda task, _attempt, _random: lasts[str(task.id)])
    counted = _Counted(controller)
    sim.drivers.add(counted)
    for number, at in enumerate(times):
        task = Task("t", id=f"t{number}", requires=["x"])
        sim.at(at, lambda task=task: sim.submit_task(task))
    sim.run(hours * _HOUR)
    there = counted.seconds
    sim.run(hours * _HOUR + 900)
    begun: dict[str, float] = {}
    for attempt in sim.attempts:
        begun.setdefault(attempt.task_id, attempt.start)
    waits = sorted(begun[f"t{n}"] - at for n, at in enumerate(times))
    return _Outcome(
        there / sum(lasts.values()),
        # To a thousandth: the simulation counts in ns.
        max(0.0, round(waits[int(0.95 * len(waits))], 3)),
        counted.starts / hours,
    )


@case("pools")
def pools(run: Run) -> Iterator[Row]:
    """A pool of workers under chance, in virtual time: hours, waits and starts."""
    hours = run.size(8, quick=1)
    for world, (bound, aim) in _WORLDS.items():
        pool = AgentPool(_TEMPLATE, min_agents=1, max_agents=_MOST)
        ours = _run(world, pool, hours)
        theirs = _run(world, _Horizontal(), hours)
        dask = _run(world, _Occupancy(), hours)
        much = Samples.of(ours.hours, Unit.RATIO)
        note = f"{hours} virtual hours; " + "; ".join(
            f"{who} {one.hours:.2f}x, p95 {one.wait:.1f} s, {one.starts:.0f} starts/h"
            for who, one in (
                ("ours", ours),
                ("the rule of Kubernetes' autoscaler", theirs),
                ("that of Dask", dask),
            )
        )
        yield Row(
            what=f"pools, {world}: agent-hours over the ideal",
            ours=much,
            measured=much,
            goal=Goal.no_more(bound, aim=aim),
            note=note,
        )
        later = Samples.of(max(0.0, ours.wait - theirs.wait), Unit.SECONDS)
        yield Row(
            what=f"pools, {world}: p95 of waiting beyond the autoscaler's",
            ours=later,
            measured=later,
            goal=Goal.no_more(0.0, Unit.SECONDS),
        )
