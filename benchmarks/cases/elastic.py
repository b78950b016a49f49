"""What shares cost: their division, and those who wait for one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import count
from queue import SimpleQueue
from random import Random
from time import perf_counter, sleep

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._isolated import Child
from benchmarks._registry import Run, case
from benchmarks._timing import time_once
from benchmarks._workloads import CONCURRENCY, noop
from taskorch import Elastic, Resources, Task, TaskOrchestrator
from taskorch.policies._shares import Claim, divide

_MILLION = 1_000_000
_KINDS = 50
_EVERY = 1_000
"""Tasks between two releases."""
_SLICE = 10_000
_TRIES = 3
_HELD = 4
#: Compute units, memory, bandwidth and threads, and their chunks.
_POOLS = (256, 65_536, 10_000, 128)
_CHUNKS = (2, 256, 100, 1)


def _units(*amounts: int) -> tuple[int, ...]:
    return tuple(amount * _MILLION for amount in amounts)


def _division(run: Run) -> Row:
    """Divide as one of those that hold something ends, and the next one starts."""
    there, chunks = _units(*_POOLS), _units(*_CHUNKS)
    wanted = _units(16, 4_096, 600, 8)
    claim = Claim(wanted, chunks, _MILLION)
    pairs = run.size(20_000, quick=2_000)
    states = [
        (claim._replace(times=64 - gone), claim._replace(times=1_000 - 64 + gone))
        for gone in (0, 1)
    ]

    def allocate_and_release() -> None:
        for _ in range(pairs):
            for claims in states:
                _ = divide(there, chunks, claims)

    allocate_and_release()
    seconds = [time_once(allocate_and_release) for _ in range(run.pairs)]
    divide.cache_clear()
    began = perf_counter()
    for claims in states:
        _ = divide(there, chunks, claims)
    first = Samples.of(perf_counter() - began, Unit.SECONDS)
    rate = Samples.of((pairs / each for each in seconds), Unit.PER_SECOND)
    return Row(
        what="allocate and release, 1,000 wait",
        ours=rate,
        measured=rate,
        goal=Goal(50_000, Unit.PER_SECOND, at_least=True),
        note="the shares of 4 resources among 64 that hold some and 1,000 that wait, "
        "all alike, each time that one ends and the next one starts; what was divided "
        f"before is remembered: the first time, a pair took {first.write()}",
    )


def _rebalance(run: Run, kinds: int, what: str) -> Row:
    """Divide among 10,000 requests anew."""
    many = 10_000
    random = Random(1)
    chunk = _units(1)
    claims = tuple(
        Claim(
            _units(random.randint(2, 64) if kinds < many else number + 2),
            chunk,
            random.randint(1, 9) * _MILLION,
            many // kinds,
        )
        for number in range(kinds)
    )
    seconds = []
    for extra in range(run.pairs + 1):
        there = _units(25_000 + extra)
        seconds.append(time_once(partial(divide, there, chunk, claims)))
    figure = Samples.of(seconds[1:], Unit.SECONDS)
    return Row(
        what=what,
        ours=figure,
        measured=figure,
        goal=Goal.no_more(0.1, Unit.SECONDS),
        note=f"10,000 requests of {kinds:,} kinds contend for one pool",
    )


def beside_elastic(waiting: int, runnable: int) -> Iterator[Mapping[str, float]]:
    """Time no-ops beside elastic tasks, of which one ends for each 1,000 of them."""
    gates: SimpleQueue[None] = SimpleQueue()
    numbers = count()
    orch = TaskOrchestrator(
        concurrency=CONCURRENCY + _HELD, resources=Resources(cpu=_HELD)
    )

    def make() -> Task:
        kind = next(numbers) % _KINDS
        wants = Elastic(Resources(cpu=2 + kind))
        return Task.call(gates.get, resources=wants, type=f"kind{kind}")

    orch.start()
    try:
        for start in range(0, waiting, _SLICE):
            orch.submit_tasks([make() for _ in range(min(_SLICE, waiting - start))])
        while waiting and orch.get_stats().state_machine.running < _HELD:
            sleep(0.01)

        def run_them() -> None:
            handles = []
            for number in range(runnable):
                if waiting and number % _EVERY == 0:
                    gates.put(None)
                handles.append(orch.submit(noop))
            for handle in handles:
                handle.result()

        while True:
            yield {"seconds": min(time_once(run_them) for _ in range(_TRIES))}
    finally:
        orch.stop(drain=False, timeout=0)


def _beside(run: Run) -> Row:
    runnable = run.size(5_000, quick=500)
    many = run.size(100_000, quick=5_000)
    with (
        Child(beside_elastic, waiting=0, runnable=runnable) as light,
        Child(beside_elastic, waiting=many, runnable=runnable) as heavy,
    ):
        light.sample()
        heavy.sample()
        pairs = [
            (light.sample()["seconds"], heavy.sample()["seconds"])
            for _ in range(run.pairs)
        ]
    without = Samples.of((pair[0] / runnable for pair in pairs), Unit.SECONDS)
    beside = Samples.of((pair[1] / runnable for pair in pairs), Unit.SECONDS)
    return Row(
        what="beside elastic tasks",
        ours=beside,
        measured=beside.over(without),
        goal=Goal.no_more(1.25),
        note=f"time a task of {runnable:,} no-ops beside {many:,} elastic tasks of "
        f"{_KINDS} kinds that wait, of which one ends and another starts for every "
        f"{_EVERY:,} no-ops; measured: ratio to the time beside none, which was "
        f"{without.write()}, {run.pairs} rounds, two processes in turn",
    )


@case("elastic")
def shares(run: Run) -> Iterator[Row]:
    """What is divided among elastic requests, and those that wait for a share."""
    yield _division(run)
    yield _rebalance(run, 100, "rebalance, 100 kinds")
    yield _rebalance(run, 10_000, "rebalance, all different")
    yield _beside(run)
