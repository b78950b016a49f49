"""How long one task takes on its way."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

from benchmarks._figures import ASYNCIO, THREADS, Goal, Row, Samples, Unit
from benchmarks._isolated import Child
from benchmarks._registry import Run, case
from benchmarks._timing import percentile, time_calls
from benchmarks._workloads import CONCURRENCY, noop, noop_coroutine
from taskorch import TaskOrchestrator

_BUSY = 8
_BREATH = 0.0005


def round_trips(calls: int, pinned: bool) -> Iterator[Mapping[str, float]]:
    """Yield, block by block, the percentiles of single round trips of each peer."""
    if pinned and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    async def awaited(count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            began = perf_counter()
            await asyncio.create_task(noop_coroutine())
            seconds.append(perf_counter() - began)
        return seconds

    with (
        TaskOrchestrator(concurrency=CONCURRENCY) as orch,
        ThreadPoolExecutor(CONCURRENCY) as pool,
        asyncio.Runner() as runner,
    ):
        blocks: dict[str, Callable[[], list[float]]] = {
            "taskorch": lambda: time_calls(lambda: orch.submit(noop).result(), calls),
            THREADS: lambda: time_calls(lambda: pool.submit(noop).result(), calls),
            ASYNCIO: lambda: runner.run(awaited(calls)),
        }
        for block in blocks.values():
            block()
        while True:
            figures = {}
            for name, block in blocks.items():
                seconds = block()
                figures[f"{name} p50"] = percentile(seconds, 50)
                figures[f"{name} p99"] = percentile(seconds, 99)
            yield figures


def _row(what: str, pinned: bool, goal: Goal | None, run: Run) -> Row:
    calls = run.size(1_000, quick=100)
    with Child(round_trips, calls=calls, pinned=pinned) as child:
        blocks = [child.sample() for _ in range(run.pairs)]

    def samples(name: str) -> Samples:
        return Samples.of((block[name] for block in blocks), Unit.SECONDS)

    ours = samples("taskorch p50")
    p99 = ", ".join(
        f"{name} {samples(f'{name} p99').write()}"
        for name in ("taskorch", THREADS, ASYNCIO)
    )
    where = "pinned to one CPU" if pinned else "on all CPUs"
    return Row(
        what=what,
        ours=ours,
        peers={peer: samples(f"{peer} p50") for peer in (THREADS, ASYNCIO)},
        measured=ours.over(samples(f"{THREADS} p50")),
        goal=goal,
        note=f"p50 of {calls:,} round trips a block, {run.pairs} blocks, {where}; "
        f"measured: ratio of times; p99: {p99}",
    )


@case("latency")
def idle_latency(run: Run) -> Iterator[Row]:
    """One no-op on an idle orchestrator, from submission to its result."""
    yield _row("latency, one CPU", True, Goal.no_more(2.0, aim=1.0), run)
    yield _row("latency, all CPUs", False, None, run)


@dataclass(frozen=True, slots=True)
class Loaded:
    """
    A contestant with some tasks that are at work as long as they are needed.

    Attributes:
        submit: Submits a function and gives what waits for its result.
    """

    submit: Callable[[Callable[[], float]], Callable[[], float]]

    def delays(self, probes: int) -> list[float]:
        """Measure how long after its submission the first line of a probe runs."""
        stop = threading.Event()
        busy = [self.submit(lambda: _wake_often(stop)) for _ in range(_BUSY)]
        seconds = []
        for _ in range(probes):
            time.sleep(_BREATH)
            began = perf_counter()
            seconds.append(self.submit(perf_counter)() - began)
        stop.set()
        for result in busy:
            result()
        return seconds


def _wake_often(stop: threading.Event) -> float:
    """Hold a slot and do a little work now and then."""
    while not stop.wait(_BREATH):
        sum(range(200))
    return perf_counter()


@case("start")
def start_under_load(run: Run) -> Iterator[Row]:
    """From submission to the first line of the task while other tasks are at work."""
    probes = run.size(300, quick=50)
    with (
        TaskOrchestrator(concurrency=CONCURRENCY) as orch,
        ThreadPoolExecutor(CONCURRENCY) as pool,
    ):
        contestants = {
            "taskorch": Loaded(lambda fn: orch.submit(fn).result),
            THREADS: Loaded(lambda fn: pool.submit(fn).result),
        }
        rounds = [
            {name: loaded.delays(probes) for name, loaded in contestants.items()}
            for _ in range(run.pairs + 1)
        ][1:]

    def samples(name: str, percent: float) -> Samples:
        return Samples.of(
            (percentile(delays[name], percent) for delays in rounds), Unit.SECONDS
        )

    ours = samples("taskorch", 50)
    yield Row(
        what="start under load",
        ours=ours,
        peers={THREADS: samples(THREADS, 50)},
        measured=ours.over(samples(THREADS, 50)),
        note=f"p50 of {probes:,} submissions while {_BUSY} tasks wake every "
        f"{_BREATH * 1e3:g} ms, {run.pairs} blocks; measured: ratio of times; p99: "
        f"taskorch {samples('taskorch', 99).write()}, "
        f"threads {samples(THREADS, 99).write()}",
    )
