"""What tasks that cannot run cost those that can."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._isolated import Child, Steps
from benchmarks._registry import Run, case
from benchmarks._timing import time_once
from benchmarks._workloads import CONCURRENCY, Blockers, noop
from taskorch import Resources, Task, TaskContext, TaskOrchestrator

_SLICE = 10_000
_TRIES = 3
"""A sample is the fastest of these: a run takes hundredths of a second only."""


def _beside(
    orch: TaskOrchestrator, make: Callable[[], Task], waiting: int, runnable: int
) -> Iterator[Mapping[str, float]]:
    """Queue what cannot run, then time what can, again and again."""
    for start in range(0, waiting, _SLICE):
        orch.submit_tasks([make() for _ in range(min(_SLICE, waiting - start))])

    def run_them() -> None:
        handles = [orch.submit(noop) for _ in range(runnable)]
        for handle in handles:
            handle.result()

    while True:
        yield {"seconds": min(time_once(run_them) for _ in range(_TRIES))}


def beside_busy_worker(waiting: int, runnable: int) -> Iterator[Mapping[str, float]]:
    """Time no-ops beside tasks whose only worker is busy."""
    blockers = Blockers()
    orch = TaskOrchestrator(concurrency=CONCURRENCY)

    @orch.agent("busy", capabilities={"rare"}, max_concurrency=1)
    def hold(task: Task, context: TaskContext) -> None:
        blockers.block()

    orch.start()
    try:
        _ = orch.submit_task(Task("rare"))
        blockers.wait_started(1)
        yield from _beside(orch, lambda: Task("rare"), waiting, runnable)
    finally:
        blockers.release()
        orch.stop(drain=False)


def beside_taken_resource(waiting: int, runnable: int) -> Iterator[Mapping[str, float]]:
    """Time no-ops beside tasks that need a resource another one holds."""
    blockers = Blockers()
    orch = TaskOrchestrator(concurrency=CONCURRENCY, resources=Resources(licence=1))
    wanted = Resources(licence=1)
    orch.start()
    try:
        _ = orch.submit_task(Task.call(blockers.block, resources=wanted))
        blockers.wait_started(1)
        yield from _beside(
            orch, lambda: Task.call(noop, resources=wanted), waiting, runnable
        )
    finally:
        blockers.release()
        orch.stop(drain=False)


def _row(what: str, steps: Steps, run: Run) -> Row:
    runnable = run.size(5_000, quick=500)
    many = run.size(300_000, quick=10_000)
    few = run.size(1_000, quick=500)
    with (
        Child(steps, waiting=few, runnable=runnable) as light,
        Child(steps, waiting=many, runnable=runnable) as heavy,
    ):
        light.sample()
        heavy.sample()
        pairs = [
            (light.sample()["seconds"], heavy.sample()["seconds"])
            for _ in range(run.pairs)
        ]
    beside_few = Samples.of((pair[0] / runnable for pair in pairs), Unit.SECONDS)
    beside_many = Samples.of((pair[1] / runnable for pair in pairs), Unit.SECONDS)
    return Row(
        what=what,
        ours=beside_many,
        measured=beside_many.over(beside_few),
        goal=Goal.no_more(1.5),
        note=f"time a task of {runnable:,} runnable no-ops beside {many:,} that cannot "
        f"run, {run.pairs} rounds (best of {_TRIES} runs), two processes in turn; measured: ratio to the time "
        f"beside {few:,}, which was {beside_few.write()}",
    )


@case("backlog")
def beside_a_backlog(run: Run) -> Iterator[Row]:
    """Runnable no-ops beside a large backlog that cannot run, and a small one."""
    yield _row("beside a busy agent", beside_busy_worker, run)
    yield _row("beside a taken resource", beside_taken_resource, run)
