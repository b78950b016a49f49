"""A pool of workers that start slowly, with and without foresight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from taskorch import Task
from taskorch.model import AgentTemplate
from taskorch.policies import AgentPool
from taskorch.policies._agent_pool import Spawn, Terminate
from taskorch.testing import Simulation

_DAY = 86_400.0
_HOUR = 3_600.0
_TEMPLATE = AgentTemplate("worker", capabilities={"x": 1}, handler=print)
#: Simulations begin with 2026, on a Thursday: then three working days are known.
_KNOWN = 5
_SLOWEST = 120.0


class _Slow:
    """A pool whose workers join a minute or two after they were spawned."""

    def __init__(self, sim: Simulation, pool: AgentPool, seed: int) -> None:
        self._sim = sim
        self._pool = pool
        self._random = Random(seed)
        self.name = pool.name
        self.watches = pool.watches
        self._view: Any = None
        self._coming: dict[str, Spawn] = {}
        self._since: tuple[float, int] = (0.0, 0)
        #: Seconds that workers were there, or started.
        self.seconds = 0.0

    def __deepcopy__(self, memo: Any) -> _Slow:
        return self

    def starting(self, template: str) -> list[str]:
        """Those that have not joined yet."""
        del template
        return [*self._coming]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def tick(self, view: Any, now: float) -> tuple[list[Any], float | None]:
        """See `taskorch.protocols.Driver`."""
        self._view = view
        there = [
            worker
            for worker in view.agents()
            if _TEMPLATE.has_named(worker.name)
            and not worker.is_lost
            and (worker.running or not worker.is_draining)
        ]
        commands, again = self._pool.tick(self, now)
        at, many = self._since
        self.seconds += (now - at) * many
        others = []
        for each in commands:
            if isinstance(each, Spawn):
                self._coming[each.agent_id] = each
                seconds = self._random.uniform(_SLOWEST / 2, _SLOWEST)
                join = partial(self._join, each)
                self._sim.at(self._sim.now + seconds, join)
            else:
                others.append(each)
        gone = {each.agent_id for each in others if isinstance(each, Terminate)}
        idle = sum(worker.name in gone and not worker.running for worker in there)
        self._since = now, len(there) + len(self._coming) - idle
        return others, again

    def _join(self, spawn: Spawn) -> None:
        del self._coming[spawn.agent_id]
        spawn.apply(self._sim)


@dataclass(frozen=True)
class _Outcome:
    """What a pool came to, once three working days were known."""

    hours: float
    p95: float
    mean: float


def _by_chance(
    rate: Callable[[float], float], top: float, days: int, random: Random
) -> Iterator[float]:
    """Moments of chance, of a rate a second that is *top* at the most."""
    at = random.expovariate(top)
    while at < days * _DAY:
        if random.random() < rate(at) / top:
            yield at
        at += random.expovariate(top)


def _mornings(days: int, random: Random) -> Iterator[tuple[float, float]]:
    """Forty tasks at about nine, from Monday to Friday, and a few at any time."""
    for at in _by_chance(lambda _: 1, 1 / 1_800, days, random):
        yield at, 60
    for day in range(days):
        if (day + 3) % 7 < 5:
            late = random.gauss(0, 20)
            for _ in range(40):
                yield day * _DAY + 9 * _HOUR + late + abs(random.gauss(0, 30)), 240


def _bursts(days: int, random: Random) -> Iterator[tuple[float, float]]:
    """Twenty tasks at once, twelve times a day, at any time."""
    for at in _by_chance(lambda _: 1, 12 / _DAY, days, random):
        for number in range(20):
            yield at + number / 20, 120


def _drift(days: int, random: Random) -> Iterator[tuple[float, float]]:
    """From a task in ten minutes to two in one, at a rate that wanders."""
    level, levels = 3.0, []
    for _ in range(24 * days + 1):
        level = min(6.0, max(0.3, level + random.gauss(0, 0.6)))
        levels.append(level / 180)
    for at in _by_chance(lambda at: levels[int(at // _HOUR)], 1 / 30, days, random):
        yield at, 60


#: Of each world, when tasks come, and how long they take in the median, in seconds.
_WORLDS = {"mornings": _mornings, "bursts": _bursts, "drift": _drift}


def _run(world: str, days: int, foresee: str | None) -> _Outcome:
    random = Random(11)
    tasks = sorted(_WORLDS[world](days, random))
    lasts = {
        f"t{number}": random.lognormvariate(math.log(median), 0.4)
        for number, (_, median) in enumerate(tasks)
    }
    sim = Simulation(1, check=False, concurrency=10_000, unknown_capability="wait")
    sim.work("t", lambda task, _attempt, _random: lasts[str(task.id)])
    pool = AgentPool(_TEMPLATE, min_agents=1, max_agents=100, foresee=foresee)
    slow = _Slow(sim, pool, 7)
    sim.drivers.add(slow)
    for number, (at, _) in enumerate(tasks):
        task = Task("t", id=f"t{number}", requires=["x"])
        sim.at(at, lambda task=task: sim.submit_task(task))
    known = min(_KNOWN, days - 1) * _DAY
    sim.run(known)
    before = slow.seconds
    sim.run(days * _DAY)
    there = slow.seconds - before
    sim.run(days * _DAY + _HOUR)
    begun: dict[str, float] = {}
    for attempt in sim.attempts:
        begun.setdefault(attempt.task_id, attempt.start)
    waits = sorted(
        begun[f"t{number}"] - at for number, (at, _) in enumerate(tasks) if at >= known
    )
    p95 = waits[int(0.95 * len(waits))]
    return _Outcome(there / _HOUR, p95, sum(waits) / len(waits))


@case("foresight")
def foresight(run: Run) -> Iterator[Row]:
    """A pool with foresight beside one without, in virtual time: waits and hours."""
    days = run.size(14, quick=2)
    for world in _WORLDS:
        with_it, without = _run(world, days, "UTC"), _run(world, days, None)
        recurs = world == "mornings"
        note = (
            f"{days} virtual days, the last {days - _KNOWN} count; workers start in 60 "
            f"to 120 s; p95 {without.p95:.1f} -> {with_it.p95:.1f} s, mean "
            f"{without.mean:.1f} -> {with_it.mean:.1f} s, agent-hours "
            f"{without.hours:.1f} -> {with_it.hours:.1f}"
        )
        waits = with_it.p95 / without.p95
        if not recurs:
            waits = with_it.mean / without.mean
        what = "p95 of waiting" if recurs else "mean of waiting"
        goals = {
            what: (waits, Goal.no_more(0.7, aim=0.5) if recurs else Goal.no_more(1.02)),
            "agent-hours": (
                with_it.hours / without.hours,
                Goal.no_more(1.05, aim=1.0) if recurs else Goal.no_more(1.02),
            ),
        }
        for name, (ratio, goal) in goals.items():
            measured = Samples.of(ratio, Unit.RATIO)
            yield Row(
                what=f"foresight, {world}: {name} beside a pool without",
                ours=measured,
                measured=measured,
                goal=goal,
                note=note,
            )
