"""Calls in worker processes, beside a ProcessPoolExecutor with as many."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks._figures import Goal, Row
from benchmarks._registry import Run, case
from benchmarks._timing import interleave
from benchmarks._workloads import CONCURRENCY, noop
from taskorch import Task, TaskOrchestrator

_WORKERS = 2


def _processor_seconds() -> float:
    """Of this process and its children, as far as the system tells (Linux)."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _cost(act: Callable[[], object]) -> float:
    """Seconds of processor time that *act* takes, here and in the workers."""
    before = _processor_seconds()
    act()
    return _processor_seconds() - before


@case("processes")
def noops(run: Run) -> Iterator[Row]:
    """No-ops in worker processes, submitted one by one and then waited for."""
    count = run.size(5_000, quick=500)

    def through(orch: TaskOrchestrator) -> None:
        tasks = [Task.call(noop, executor="process") for _ in range(count)]
        for handle in orch.submit_tasks(tasks):
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
            "taskorch": lambda: through(orch),
            "pool": lambda: through_pool(pool),
        }
        rounds = interleave(contestants, rounds=run.pairs, warmups=2)
        ours, theirs = (_cost(act) / count for act in contestants.values())
    yield Row(
        what="no-op calls in worker processes",
        ours=rounds.each("taskorch", count),
        measured=rounds.speed("taskorch", "pool"),
        goal=Goal.no_less(0.5),
        note=f"time a task, {count:,} tasks, {_WORKERS} workers; measured: ratio of "
        f"speeds to ProcessPoolExecutor ({rounds.each('pool', count).write()} a task); "
        f"processor time, of parent and workers: {ours * 1e6:.0f} us a task, with that "
        f"{theirs * 1e6:.0f} us",
    )
