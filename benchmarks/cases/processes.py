"""Calls in worker processes, beside a ProcessPoolExecutor with as many."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks._figures import Goal, Row
from benchmarks._registry import Run, case
from benchmarks._timing import Rounds, interleave
from benchmarks._workloads import CONCURRENCY, noop
from taskorch import Task, TaskOrchestrator

_WORKERS = 2


def _processor_seconds() -> float:
    """Of this process and its children, as far as the system tells (Linux)."""
    taken = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                # In nanoseconds, where `stat` counts in hundredths of a second.
                for each in stat.parent.glob("task/*/schedstat"):
                    taken += int(each.read_text(encoding="utf-8").split()[0])
    return time.process_time() + taken / 1e9


def _cost(act: Callable[[], object]) -> float:
    """Seconds of processor time that *act* takes, here and in the workers."""
    gc.collect()
    before = _processor_seconds()
    act()
    return _processor_seconds() - before


@case("processes")
def noops(run: Run) -> Iterator[Row]:
    """No-ops in worker processes, submitted one by one and then waited for."""
    count = run.size(5_000, quick=500)

    def in_batch(orch: TaskOrchestrator) -> None:
        tasks = [Task.call(noop, executor="process") for _ in range(count)]
        for handle in orch.submit_tasks(tasks):
            handle.result()

    def one_by_one(orch: TaskOrchestrator) -> None:
        workers = orch.options(executor="process")
        for handle in [workers.submit(noop) for _ in range(count)]:
            handle.result()

    def through_pool(pool: ProcessPoolExecutor) -> None:
        for future in [pool.submit(noop) for _ in range(count)]:
            future.result()

    context = multiprocessing.get_context("spawn")
    with (
        TaskOrchestrator(
            executors={"process": _WORKERS}, concurrency=CONCURRENCY
        ) as orch,
        ProcessPoolExecutor(_WORKERS, mp_context=context) as pool,
    ):
        contestants: dict[str, Callable[[], object]] = {
            "batch": lambda: in_batch(orch),
            "taskorch": lambda: one_by_one(orch),
            "pool": lambda: through_pool(pool),
        }
        rounds = interleave(contestants, rounds=run.pairs, warmups=2)
        taken: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(run.pairs):
            for name, act in contestants.items():
                taken[name].append(_cost(act))
    costs = Rounds({name: tuple(seconds) for name, seconds in taken.items()})
    sizes = f"{count:,} tasks, {_WORKERS} workers"
    for name, what in (("taskorch", "one by one"), ("batch", "in a batch")):
        yield Row(
            what=f"no-op calls in worker processes, {what}",
            ours=rounds.each(name, count),
            measured=rounds.speed(name, "pool"),
            goal=Goal.no_less(0.5),
            note=f"time a task, {sizes}; measured: ratio of speeds to "
            f"ProcessPoolExecutor ({rounds.each('pool', count).write()} a task)",
        )
        yield Row(
            what="their processor time, of parent and workers",
            ours=costs.each(name, count),
            measured=costs.cost(name, "pool"),
            goal=Goal.no_more(1.3, aim=1.0),
            note=f"a task, {sizes}; measured: ratio to ProcessPoolExecutor "
            f"({costs.each('pool', count).write()} a task)",
        )
