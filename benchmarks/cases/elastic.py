"""What shares cost: their division, and those who wait for one."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count
from math import inf
from queue import SimpleQueue
from random import Random
from time import process_time, sleep

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._isolated import Child
from benchmarks._registry import Run, case
from benchmarks._timing import time_once
from benchmarks._workloads import CONCURRENCY, noop
from taskorch import Elastic, Resources, Task, TaskOrchestrator
from taskorch.model import Quota
from taskorch.policies._shares import Demand, divide

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


def _waiting(kinds: int) -> tuple[Demand, ...]:
    """Sixty-four that hold something, and then a thousand that wait."""
    chunk = _units(*_CHUNKS)
    random = Random(1)

    def kind() -> Demand:
        sizes = (random.randint(8, 24) * size for size in _CHUNKS)
        return Demand(_units(*sizes), chunk, random.randint(1, 9) * _MILLION)

    alike = Demand(_units(16, 4_096, 600, 8), chunk, _MILLION)
    found = [alike] if kinds == 1 else [kind() for _ in range(kinds)]
    return tuple(
        each._replace(times=many // kinds)
        for many in (64, 1_000)
        for each in found
        if many >= kinds
    )


def _division(run: Run, kinds: int, what: str, goal: Goal | None = None) -> Row:
    """Divide each time that one ends and the next one starts, never alike."""
    chunks, claims = _units(*_CHUNKS), _waiting(kinds)
    pairs = run.size(10_000 // kinds + 10, quick=20)
    # What rigid ones hold is different each time, so that nothing is remembered.
    held = count()
    cpu, *others = _units(*_POOLS)

    def allocate_and_release(states: list[tuple[int, ...]]) -> None:
        for there in states:
            _ = divide(there, chunks, claims)

    first, later = [], []
    for _ in range(run.pairs):
        states = [(cpu - next(held), *others) for _ in range(pairs)]
        first.append(pairs / _seconds(partial(allocate_and_release, states)))
        states = states[-1:] * pairs
        later.append(pairs / _seconds(partial(allocate_and_release, states)))
    rate = Samples.of(first, Unit.PER_SECOND)
    seen = Samples.of(later, Unit.PER_SECOND)
    alike = "all alike" if kinds == 1 else f"of {kinds:,} kinds"
    return Row(
        what=what,
        ours=rate,
        measured=None if goal is None else rate,
        goal=goal,
        note="the shares of 4 resources among 64 that hold some and 1,000 that wait, "
        f"{alike}, as one ends, which asks for no division, and the next one starts; "
        "processor time; of a state that was never there before; of one that was, "
        f"{seen.write()}",
    )


def _rebalance(run: Run, kinds: int, pools: int, what: str) -> Row:
    """Divide among 10,000 requests anew."""
    many = 10_000
    random = Random(1)
    chunks = _units(*[1] * pools)

    def wanted(number: int) -> tuple[int, ...]:
        if pools == 1 and kinds == many:
            return _units(number + 2)
        return _units(*(random.randint(2, 64) for _ in range(pools)))

    claims = tuple(
        Demand(wanted(number), chunks, random.randint(1, 9) * _MILLION, many // kinds)
        for number in range(kinds)
    )
    seconds = []
    for extra in range(run.pairs + 1):
        there = _units(*[25_000 + extra] * pools)
        seconds.append(_seconds(partial(divide, there, chunks, claims)))
    figure = Samples.of(seconds[1:], Unit.SECONDS)
    return Row(
        what=what,
        ours=figure,
        goal=Goal.no_more(0.1, Unit.SECONDS),
        note=f"10,000 requests of {kinds:,} kinds contend for "
        f"{'one pool' if pools == 1 else f'each of {pools} pools'}; processor time",
    )


def _seconds(act: Callable[[], object]) -> float:
    """The processor time that *act* takes; what was left before is tidied up first."""
    gc.collect()
    began = process_time()
    act()
    return process_time() - began


def beside_elastic(waiting: int, runnable: int) -> Iterator[Mapping[str, float]]:
    """CPU time of no-ops beside elastic tasks, of which one ends for each 1,000."""
    seconds = inf
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
            nonlocal seconds
            began = process_time()
            for number in range(runnable):
                if waiting and number % _EVERY == 0:
                    gates.put(None)
                handles.append(orch.submit(noop))
            for handle in handles:
                handle.result()
            seconds = min(seconds, process_time() - began)

        while True:
            seconds = inf
            for _ in range(_TRIES):
                time_once(run_them)
            yield {"seconds": seconds}
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
        note=f"CPU time a task of {runnable:,} no-ops beside {many:,} elastic tasks of "
        f"{_KINDS} kinds that wait, of which one ends and another starts for every "
        f"{_EVERY:,} no-ops; measured: ratio to the time beside none, which was "
        f"{without.write()}, {run.pairs} rounds, two processes in turn",
    )


def within_quotas(bound: bool, many: int) -> Iterator[Mapping[str, float]]:
    """Time no-ops that take a cpu, with quotas that never bind if *bound*."""
    plenty = 10.0 * many
    orch = TaskOrchestrator(
        concurrency=CONCURRENCY, resources=Resources(cpu=10 * plenty)
    )
    if bound:
        limits = {"resources": {"cpu": plenty}, "max_parallel": 10 * many}
        orch.resources.set_quotas(
            Quota(type="noop", **limits), Quota(owner="ann", **limits)
        )
    asks = {"type": "noop", "owner": "ann", "resources": Resources(cpu=1)}
    tasks = [Task.call(noop, **asks) for _ in range(many)]
    with orch:

        def run_them() -> None:
            for handle in orch.submit_tasks(tasks):
                handle.result()

        while True:
            yield {"seconds": min(time_once(run_them) for _ in range(_TRIES))}


def _quotas(run: Run) -> Row:
    many = run.size(10_000, quick=1_000)
    with (
        Child(within_quotas, bound=False, many=many) as free,
        Child(within_quotas, bound=True, many=many) as bound,
    ):
        free.sample()
        bound.sample()
        pairs = [
            (free.sample()["seconds"], bound.sample()["seconds"])
            for _ in range(run.pairs)
        ]
    without = Samples.of((many / pair[0] for pair in pairs), Unit.PER_SECOND)
    within = Samples.of((many / pair[1] for pair in pairs), Unit.PER_SECOND)
    return Row(
        what="quotas that never bind",
        ours=within,
        measured=within.over(without),
        goal=Goal.no_less(0.9),
        note=f"{many:,} no-ops of one owner that take a cpu each, with quotas of their "
        "type and of their owner, of cpu and of how many run; measured: ratio to the "
        f"rate without quotas, which was {without.write()}, {run.pairs} rounds, two "
        "processes in turn",
    )


@case("elastic")
def shares(run: Run) -> Iterator[Row]:
    """What is divided among elastic requests, and those that wait for a share."""
    goal = Goal(50_000, Unit.PER_SECOND, at_least=True)
    yield _division(run, 1, "allocate and release, 1,000 wait", goal)
    yield _division(run, 20, "the same, 20 kinds")
    yield _division(run, 1_000, "the same, all different")
    yield _rebalance(run, 100, 1, "rebalance, 100 kinds")
    yield _rebalance(run, 10_000, 1, "rebalance, all different")
    yield _rebalance(run, 10_000, 4, "the same, four pools")
    yield _beside(run)
    yield _quotas(run)
