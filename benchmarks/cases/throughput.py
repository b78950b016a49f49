"""How many no-op tasks a second, by each way of submitting them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from benchmarks._figures import ASYNCIO, THREADS, Goal, Row, Samples, Unit
from benchmarks._isolated import Child
from benchmarks._registry import Run, case
from benchmarks._timing import Contestant, interleave, time_once
from benchmarks._workloads import (
    CONCURRENCY,
    EventCounter,
    gather_noops,
    identity,
    noop,
    pool_alone,
    pool_map,
    pool_one_by_one,
)
from taskorch import Task, TaskOrchestrator

Submission = Callable[[TaskOrchestrator, int], None]
PoolSubmission = Callable[[ThreadPoolExecutor, int], None]


def one_by_one(orch: TaskOrchestrator, count: int) -> None:
    """Submit no-ops one by one, then take every result."""
    handles = [orch.submit(noop) for _ in range(count)]
    for handle in handles:
        handle.result()


def through_map(orch: TaskOrchestrator, count: int) -> None:
    """Send a range through `map`."""
    for _ in orch.map(identity, range(count)):
        pass


def through_submit_tasks(orch: TaskOrchestrator, count: int) -> None:
    """Make the tasks, submit them as one batch, then take every result."""
    handles = orch.submit_tasks([Task.call(noop) for _ in range(count)])
    for handle in handles:
        handle.result()


def compare(
    what: str,
    orch: TaskOrchestrator,
    ours: Submission,
    theirs: PoolSubmission,
    goal: Goal | None,
    run: Run,
    *,
    settle: Contestant | None = None,
    note: str = "",
) -> Row:
    """
    Compare a way of submitting with the same of a pool, both warm and long-lived.

    Args:
        what: The name of the row.
        orch: A started orchestrator.
        ours: What it is to do.
        theirs: What the pool is to do.
        goal: The ratio of speeds that is demanded.
        run: Decides sizes and rounds.
        settle: Called within our time, after the results: waits for what is owed.
        note: What to say below the row, after the sizes.

    Returns:
        The row.
    """
    count = run.size(10_000, quick=1_000)

    def measured() -> None:
        ours(orch, count)
        if settle is not None:
            settle()

    with ThreadPoolExecutor(CONCURRENCY) as pool, asyncio.Runner() as runner:
        rounds = interleave(
            {
                "taskorch": measured,
                THREADS: lambda: theirs(pool, count),
                ASYNCIO: lambda: runner.run(gather_noops(count)),
            },
            rounds=run.pairs,
            warmups=2,
        )
    sizes = f"time a task, {count:,} tasks, {CONCURRENCY} at once, {run.pairs} rounds"
    return Row(
        what=what,
        ours=rounds.each("taskorch", count),
        peers={name: rounds.each(name, count) for name in (THREADS, ASYNCIO)},
        measured=rounds.speed("taskorch", THREADS),
        goal=goal,
        note=f"{sizes}; {note}" if note else sizes,
    )


@case("one-by-one")
def submit(run: Run) -> Iterator[Row]:
    """No-op functions submitted one by one, all seven default parts at work."""
    with TaskOrchestrator(concurrency=CONCURRENCY) as orch:
        goal = Goal.no_less(1.2, aim=2.0)
        yield compare(
            "submit, one by one", orch, one_by_one, pool_one_by_one, goal, run
        )
    yield _apart(run)


def alone(count: int) -> Iterator[Mapping[str, float]]:
    """Time no-ops one by one, in a process without a pool."""
    with TaskOrchestrator(concurrency=CONCURRENCY) as orch:
        while True:
            yield {"seconds": time_once(lambda: one_by_one(orch, count))}


def _apart(run: Run) -> Row:
    """
    The same, each contestant in a process of its own.

    In one process, each also pays for the garbage collector's look at what the other
    has made: the pool, which makes more objects, pays more.
    """
    count = run.size(10_000, quick=1_000)
    with Child(alone, count=count) as ours, Child(pool_alone, count=count) as theirs:
        for child in (ours, theirs):
            child.sample()
        pairs = [
            (ours.sample()["seconds"] / count, theirs.sample()["seconds"] / count)
            for _ in range(run.pairs)
        ]
    mine = Samples.of((pair[0] for pair in pairs), Unit.SECONDS)
    peer = Samples.of((pair[1] for pair in pairs), Unit.SECONDS)
    return Row(
        what="the same, apart",
        ours=mine,
        peers={THREADS: peer},
        measured=peer.over(mine),
        note=f"time a task, {count:,} tasks, {run.pairs} rounds, each in a process of "
        "its own, in turn: neither pays for the other's garbage collection",
    )


@case("map")
def batches(run: Run) -> Iterator[Row]:
    """The same no-ops through `map` and as one batch through `submit_tasks`."""
    goal = Goal.no_less(1.5, aim=3.0)
    with TaskOrchestrator(concurrency=CONCURRENCY) as orch:
        yield compare("map", orch, through_map, pool_map, goal, run)
        ready: list[Task] = []

        def through_ready_tasks(orch: TaskOrchestrator, count: int) -> None:
            while len(ready) < count:
                ready.append(Task.call(noop))
            for handle in orch.submit_tasks(ready[:count]):
                handle.result()

        yield compare(
            "submit_tasks, one batch",
            orch,
            through_ready_tasks,
            pool_one_by_one,
            goal,
            run,
            note="of tasks made before; a pool has no batch: one by one",
        )
        yield compare(
            "same, making the tasks",
            orch,
            through_submit_tasks,
            pool_one_by_one,
            None,
            run,
            note="making 10,000 Task objects included",
        )


@case("receiver")
def with_receiver(run: Run) -> Iterator[Row]:
    """No-ops one by one with a receiver on `task_completed`, until all events came."""
    receiver = EventCounter()

    def observed(orch: TaskOrchestrator, count: int) -> None:
        receiver.expect(count)
        one_by_one(orch, count)

    with TaskOrchestrator(concurrency=CONCURRENCY) as orch:
        orch.signals.task_completed.connect(receiver.receive)
        yield compare(
            "submit, with a receiver",
            orch,
            observed,
            pool_one_by_one,
            Goal.no_less(0.8),
            run,
            settle=receiver.wait,
            note="until the receiver has had every event; threads without one",
        )


@case("fresh")
def with_start_and_stop(run: Run) -> Iterator[Row]:
    """No-ops one by one through an orchestrator made, started and stopped for them."""
    count = run.size(10_000, quick=1_000)

    def ours() -> None:
        with TaskOrchestrator(concurrency=CONCURRENCY) as orch:
            one_by_one(orch, count)

    def theirs() -> None:
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            pool_one_by_one(pool, count)

    rounds = interleave({"taskorch": ours, THREADS: theirs}, rounds=run.pairs)
    yield Row(
        what="submit, start to stop",
        ours=rounds.each("taskorch", count),
        peers={THREADS: rounds.each(THREADS, count)},
        measured=rounds.speed("taskorch", THREADS),
        note=f"time a task, {count:,} tasks through an instance of their own",
    )
