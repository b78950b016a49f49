"""How much memory a task takes, while it waits and after it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from benchmarks import _published
from benchmarks._figures import ASYNCIO, SEED, THREADS, Goal, Row, Samples, Unit
from benchmarks._isolated import Steps, once
from benchmarks._memory import growth
from benchmarks._registry import Run, case
from benchmarks._workloads import CONCURRENCY, Blockers, noop, noop_coroutine
from taskorch import TaskHandle, TaskOrchestrator

_SLICE = 500


def queued(count: int, traced: bool, held: bool) -> Iterator[Mapping[str, float]]:
    """Queue no-ops behind running tasks, holding the handles or letting them go."""
    blockers = Blockers()
    orch = TaskOrchestrator(concurrency=CONCURRENCY)
    orch.start()
    try:
        blockers.occupy(orch.submit)

        def build() -> object:
            if held:
                return [orch.submit(noop) for _ in range(count)]
            for _ in range(count):
                _ = orch.submit(noop)
            return None

        yield {"bytes": growth(build, traced=traced) / count}
    finally:
        blockers.release()
        orch.stop(drain=False)


def pool_queued(count: int, traced: bool) -> Iterator[Mapping[str, float]]:
    """Queue no-ops of a thread pool behind running ones, holding the futures."""
    blockers = Blockers()
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        blockers.occupy(pool.submit)
        grown = growth(lambda: [pool.submit(noop) for _ in range(count)], traced=traced)
        blockers.release()
        yield {"bytes": grown / count}


def asyncio_queued(count: int, traced: bool) -> Iterator[Mapping[str, float]]:
    """Make asyncio tasks that wait for an event, holding the tasks."""

    async def measure() -> float:
        gate = asyncio.Event()
        before = asyncio.create_task(noop_coroutine())
        await before
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[bool]] = []

        def build() -> object:
            tasks.extend(loop.create_task(gate.wait()) for _ in range(count))
            return tasks

        grown = growth(build, traced=traced)
        gate.set()
        await asyncio.gather(*tasks)
        return grown / count

    yield {"bytes": asyncio.run(measure())}


def finished(count: int, traced: bool, held: bool) -> Iterator[Mapping[str, float]]:
    """Run no-ops, a few at a time so that none queue up, and keep what is kept."""
    with TaskOrchestrator(concurrency=CONCURRENCY, keep_finished=2 * count) as orch:

        def build() -> object:
            handles: list[TaskHandle[None]] = []
            for _ in range(count // _SLICE):
                some = [orch.submit(noop) for _ in range(_SLICE)]
                for handle in some:
                    handle.result()
                if held:
                    handles.extend(some)
            return handles

        orch.submit(noop).result()
        yield {"bytes": growth(build, traced=traced) / count}


def pool_finished(count: int, traced: bool) -> Iterator[Mapping[str, float]]:
    """Run no-ops of a thread pool, holding the futures: the pool keeps nothing."""
    with ThreadPoolExecutor(CONCURRENCY) as pool:

        def build() -> object:
            futures: list[Future[None]] = []
            for _ in range(count // _SLICE):
                some = [pool.submit(noop) for _ in range(_SLICE)]
                for future in some:
                    future.result()
                futures.extend(some)
            return futures

        pool.submit(noop).result()
        yield {"bytes": growth(build, traced=traced) / count}


def _bytes(steps: Steps, run: Run, *, traced: bool, **options: bool) -> Samples:
    """Measure in as many processes as the figure needs to settle."""
    count = run.size(100_000, quick=10_000)
    times = 1 if traced or run.quick else 3
    return Samples.of(
        (
            once(steps, count=count, traced=traced, **options)["bytes"]
            for _ in range(times)
        ),
        Unit.BYTES,
    )


def _row(
    what: str, ours: Steps, peers: dict[str, Steps], goal: Goal, held: bool, run: Run
) -> Row:
    resident = _bytes(ours, run, traced=False, held=held)
    figures = {SEED: Samples.of(_published.MEMORY_PER_TASK, Unit.BYTES)}
    traced = {"taskorch": _bytes(ours, run, traced=True, held=held)}
    for name, steps in peers.items():
        figures[name] = _bytes(steps, run, traced=False)
        traced[name] = _bytes(steps, run, traced=True)
    allocated = ", ".join(f"{name} {value.write()}" for name, value in traced.items())
    return Row(
        what=what,
        ours=resident,
        peers=figures,
        measured=resident,
        goal=goal,
        note=f"growth of resident memory a task, {run.size(100_000, quick=10_000):,} "
        f"tasks, handles {'held' if held else 'let go'}, each contestant in processes "
        f"of its own; measured: bytes; allocated by Python (tracemalloc): {allocated}",
    )


@case("memory")
def per_task(run: Run) -> Iterator[Row]:
    """Memory of a queued task, and of a finished one that is kept."""
    waiting: dict[str, Steps] = {THREADS: pool_queued, ASYNCIO: asyncio_queued}
    ended: dict[str, Steps] = {THREADS: pool_finished}
    most = Goal.no_more(1024, Unit.BYTES)
    yield _row("queued task, with handle", queued, waiting, most, True, run)
    yield _row("queued task, without", queued, {}, most, False, run)
    most = Goal.no_more(768, Unit.BYTES)
    yield _row("finished task, with handle", finished, ended, most, True, run)
    yield _row("finished task, without", finished, {}, most, False, run)
