"""Memory that is granted above what is used, where sizes are measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from taskorch import Task, current_context
from taskorch.errors import MemoryLimitError
from taskorch.events import TaskRetrying, TaskStarted
from taskorch.model import ProgramResult, Resources
from taskorch.policies import Measured
from taskorch.testing import Outcome, Simulation

#: Runs of a kind before it counts.
_KNOWN = 20
#: Of each kind: what a user asks for, and what the n-th of its runs needs, in MB; the
#: latter never more than the former. In sum that is 6.5 times as much.
_KINDS: dict[str, tuple[float, Callable[[Random, float], float]]] = {
    "steady": (2_000, lambda chance, _: chance.gauss(500, 15)),
    "by_size": (
        6_000,
        lambda chance, _: 100 + 0.4 * chance.lognormvariate(math.log(2_000), 0.5),
    ),
    "heavy_tail": (4_000, lambda chance, _: 250 * chance.paretovariate(3)),
    "of_two_ways": (
        4_000,
        lambda chance, _: chance.gauss(1_500 if chance.random() < 0.15 else 250, 20),
    ),
    "growing": (2_000, lambda chance, part: chance.gauss(300 + 300 * part, 10)),
}


def _use(need: float) -> ProgramResult:
    """Need so much memory, in a program that is held to what it was granted."""
    limit = current_context().allocation["memory_mb"]
    used = min(need, limit)
    result = ProgramResult(("x",), 0, "", "", None, 1.0, memory_mb=used)
    if need > limit:
        msg = f"used {limit:g} of {limit:g} MB"
        raise MemoryLimitError(msg, result=result, peak=limit, limit=limit)
    return result


def _replayed(runs: int) -> tuple[float, float, int, int]:
    """GB s granted above use, and asked above it; attempts stopped, and counted."""
    chance = Random(5)
    sim = Simulation(
        2,
        check=False,
        allocator=Measured(),
        concurrency=1_000,
        resources=Resources(memory_mb=1e9),
    )
    sim.agent("a", capabilities=["x"], max_concurrency=1_000)
    needs: dict[str, float] = {}
    lasts: dict[str, float] = {}
    asks: dict[str, float] = {}

    def work(task: Task[Any], _attempt: int, _random: Random) -> Outcome:
        # What is stopped has lasted as long as what is not: the worst case.
        return Outcome(lasts[str(task.id)], calls=True)

    for kind, (asked, need) in _KINDS.items():
        sim.work(kind, work)
        for number in range(runs):
            name = f"{kind}-{number}"
            needs[name] = min(asked, max(10.0, need(chance, number / runs)))
            lasts[name] = chance.lognormvariate(2, 0.7)
            asks[name] = asked
            task = Task.call(
                _use,
                needs[name],
                type=kind,
                id=name,
                requires=["x"],
                resources={"memory_mb": asked},
            )
            sim.at(3.0 * number, lambda task=task: sim.submit_task(task))
    sim.run()
    begun: Counter[str] = Counter()
    granted = wanted = 0.0
    stopped = {
        event.task_id
        for event in sim.events
        if isinstance(event, TaskRetrying) and event.cause == "undersized"
    }
    counted = failed = 0
    for event in sim.events:
        if not isinstance(event, TaskStarted):
            continue
        name = event.task_id
        kind = name.rpartition("-")[0]
        begun[kind] += event.attempt == 1
        if begun[kind] <= _KNOWN:
            continue
        had = dict(event.allocation)["memory_mb"] / 1e6
        is_stopped = event.attempt == 1 and name in stopped
        used = 0.0 if is_stopped else needs[name]
        granted += (had - used) * lasts[name] / 1_000
        if event.attempt == 1:
            counted += 1
            failed += is_stopped
            wanted += (asks[name] - needs[name]) * lasts[name] / 1_000
    return granted, wanted, failed, counted


@case("sizes")
def sizes(run: Run) -> Iterator[Row]:
    """Measured sizes beside what users ask: memory granted above use, and stops."""
    granted, wanted, failed, counted = _replayed(run.size(1_000, quick=100))
    note = f"{counted:,} attempts of {len(_KINDS)} kinds after {_KNOWN} of each"
    yield Row(
        what="measured sizes: GB s granted above use, less than users ask",
        ours=Samples.of(100 * (1 - granted / wanted), Unit.PER_CENT),
        goal=Goal.no_less(60.0, Unit.PER_CENT, aim=75.0),
        note=f"{granted:,.0f} GB s, and {wanted:,.0f}; {note}",
    )
    share = Samples.of(100 * failed / counted, Unit.PER_CENT)
    yield Row(
        what="measured sizes: attempts stopped for memory",
        ours=share,
        goal=Goal.no_more(2.0, Unit.PER_CENT, aim=0.5),
        note=f"{failed} of {note}; each is made again with all that it asks for",
    )
