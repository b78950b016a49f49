"""How fast a plan is simulated before it runs: the kernel in virtual time."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from time import process_time

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from benchmarks._workloads import noop
from taskorch import Resources, Task, TaskOrchestrator

_CONCURRENCY = 64
_CORES = 16
#: Simulations of one plan: its tasks are read once.
_DRAWS = 10


def plain(count: int) -> list[Task]:
    """Make tasks that need nothing."""
    return [Task.call(noop) for _ in range(count)]


def chains(count: int) -> list[Task]:
    """Make a hundred chains of tasks, each waiting for the one before."""
    tasks: list[Task] = []
    for number in range(count):
        after = tasks[number - 100 : number - 99] if number >= 100 else ()
        tasks.append(Task.call(noop, after=after))
    return tasks


def cores(count: int) -> list[Task]:
    """Make tasks that hold a core each."""
    one = Resources(cpu=1)
    return [Task.call(noop, resources=one) for _ in range(count)]


def rate(tasks: list[Task], draws: int = 1) -> float:
    """Executions a second of processor time, from the call to the report."""
    orch = TaskOrchestrator(concurrency=_CONCURRENCY, resources={"cpu": _CORES})
    gc.collect()
    began = process_time()
    report = orch.simulate(tasks, 1.5, draws=draws)
    took = process_time() - began
    assert len(report.schedule) == len(tasks), "every task runs once"
    # With several draws, that of the median is made again, to be shown.
    return len(tasks) * (draws + (draws > 1)) / took


@case("simulate")
def simulate(run: Run) -> Iterator[Row]:
    """Simulated executions of tasks a second on one core."""
    count = run.size(100_000, quick=5_000)
    few = count // _DRAWS
    kinds: list[tuple[str, Callable[[int], list[Task]]]] = [
        ("plain tasks", plain),
        ("tasks in chains", chains),
        ("tasks that hold a core", cores),
    ]
    for what, make in kinds:
        tasks = make(count)
        once = [rate(tasks) for _ in range(run.pairs)]
        goal = Goal(100_000, Unit.PER_SECOND, at_least=True)
        yield Row(
            what=f"simulated executions, {what}",
            ours=Samples.of(once, Unit.PER_SECOND),
            measured=Samples.of(once, Unit.PER_SECOND),
            goal=goal if make is plain else None,
            note=f"{count:,} tasks, {_CONCURRENCY} slots, from the call of simulate() "
            "to its report; processor time",
        )
    tasks = plain(few)
    often = [rate(tasks, _DRAWS) for _ in range(run.pairs)]
    yield Row(
        what=f"the same, {_DRAWS} draws of plain tasks",
        ours=Samples.of(often, Unit.PER_SECOND),
        note=f"{few:,} tasks",
    )
