"""How fast the simulator is, with every guarantee checked after every step."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from random import Random
from time import process_time

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from taskorch import Resources, RetryPolicy, Task
from taskorch.events import Event
from taskorch.testing import Outcome, Simulation

_LIVE = 50
_EVERY = 1.0
_TWICE = RetryPolicy(max_attempts=2, base=1.0)


class _Feed:
    """Keeps fifty tasks alive: plain ones, dependents, some with resources or faults."""

    def __init__(self, tasks: int, *, check: bool) -> None:
        self._random = Random(1)
        self._left = tasks
        self._submitted = 0
        self._known: list[str] = []
        self.simulation = Simulation(1, concurrency=16, keep_finished=100, check=check)
        for name in ("a", "b"):
            self.simulation.agent(name, capabilities={"x", "y"}, max_concurrency=6)
        self.simulation.agent("far", capabilities={"x"}, max_concurrency=6, lease=60.0)
        self.simulation.work("x", self._work)
        self.simulation.work("y", 2.0)

    def _work(self, task: Task, attempt: int, random: Random) -> Outcome:
        fails = attempt == 1 and random.random() < 0.05
        error = ValueError("no luck") if fails else None
        return Outcome(random.uniform(1.0, 5.0), error=error)

    def _task(self) -> Task:
        dice = self._random.random()
        if dice < 0.1 and self._known:
            return Task("x", after=[self._random.choice(self._known[-20:])])
        if dice < 0.2:
            return Task("y", resources=Resources(cpu=0.5))
        return Task("x" if dice < 0.7 else "y", retry=_TWICE)

    def top_up(self) -> None:
        """Submit what has ended since, and come again."""
        # The kernel's own counters: statistics with percentiles would be half the run.
        incarnation = self.simulation.world.incarnation
        assert incarnation is not None, "nothing crashes here"
        kernel = incarnation.kernel
        ended = kernel.completed + kernel.failed + kernel.cancelled
        live = self._submitted - ended
        wanted = min(_LIVE - live, self._left)
        if wanted > 0:
            tasks = [self._task() for _ in range(wanted)]
            self._known += self.simulation.submit_tasks(tasks)
            self._submitted += wanted
            self._left -= wanted
        if self._left:
            self.simulation.at(self.simulation.now + _EVERY, self.top_up)

    def run(self) -> float:
        """Events a second of processor time."""
        self.simulation.at(0.0, self.top_up)
        gc.collect()
        began = process_time()
        self.simulation.run()
        self.simulation.check()
        took = process_time() - began
        facts: list[Event] = list(self.simulation.events)
        return len(facts) / took


@case("simulation")
def simulation(run: Run) -> Iterator[Row]:
    """Simulated events a second on one core, at fifty live tasks."""
    tasks = run.size(5_000, quick=500)
    checked, free = [], []
    for _ in range(run.pairs):
        checked.append(_Feed(tasks, check=True).run())
        free.append(_Feed(tasks, check=False).run())
    yield Row(
        what="simulated facts, all checks on",
        ours=Samples.of(checked, Unit.PER_SECOND),
        goal=Goal(30_000, Unit.PER_SECOND, at_least=True),
        note=f"{tasks:,} tasks, {_LIVE} live, 3 agents (one with a lease), a journal; "
        "processor time",
    )
    yield Row(
        what="simulated facts, no checks",
        ours=Samples.of(free, Unit.PER_SECOND),
        note="the same runs without the watch",
    )
