"""Calls in worker processes that Dask and Ray place, beside tasks of the engine."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from benchmarks._timing import interleave
from benchmarks._workloads import noop
from taskorch import RetryPolicy, Task, TaskOrchestrator
from taskorch.executors import dask, ray

_WORKERS = 2
#: Attempts at once: enough that no worker waits for its next call.
_AT_ONCE = 32


def _through(orch: TaskOrchestrator, count: int) -> None:
    tasks = [Task.call(noop, executor="cluster") for _ in range(count)]
    for handle in orch.submit_tasks(tasks):
        handle.result()


def _rows(
    run: Run, name: str, executor: Any, bare: Callable[[int], object], goal: Goal
) -> Iterator[Row]:
    count = run.size(2_000, quick=1000)
    with TaskOrchestrator(
        executors={"cluster": executor}, concurrency=_AT_ONCE, grace=0.1
    ) as orch:
        contestants: dict[str, Callable[[], object]] = {
            "taskorch": lambda: _through(orch, count),
            name: lambda: bare(count),
        }
        rounds = interleave(contestants, rounds=min(run.pairs, 5), warmups=1)
        yield Row(
            what=f"no-op calls in workers that {name} places",
            ours=rounds.each("taskorch", count),
            measured=rounds.speed("taskorch", name),
            goal=goal,
            note=f"time a task, {count:,} tasks, {_WORKERS} workers; measured: ratio of "
            f"speeds to tasks of {name} itself "
            f"({rounds.each(name, count).write()} a task)",
        )
        yield Row(
            what=f"stop of a busy loop in C, placed by {name}",
            ours=Samples.of(_stops(orch, run.size(5, quick=1)), Unit.SECONDS),
            measured=None,
            goal=None,
            note="from cancel, with a grace of 0.1 s, until the next call has its slot",
        )


def spin(file: str) -> None:
    """Say that it has begun, and stay in one call of the interpreter."""
    Path(file).touch()
    pow(3, 1 << 300_000, 1 << 3_000_000)


def _stops(orch: TaskOrchestrator, count: int) -> Iterator[float]:
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            files = [Path(folder, f"{number}-{slot}") for slot in range(_WORKERS)]
            handles = [
                orch.submit_task(Task.call(spin, str(file), executor="cluster"))
                for file in files
            ]
            while not all(file.exists() for file in files):
                time.sleep(0.01)
            begin = time.perf_counter()
            handles[0].cancel()
            orch.submit_task(Task.call(noop, executor="cluster")).result()
            yield time.perf_counter() - begin
            handles[1].cancel()


@case("dask", needs=("distributed",))
def on_dask(run: Run) -> Iterator[Row]:
    """No-op calls through hosts beside the workers of Dask."""
    from distributed import (  # pyright: ignore[reportMissingImports]
        Client,
        LocalCluster,
    )

    with (
        LocalCluster(
            n_workers=_WORKERS, threads_per_worker=2, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):

        def bare(count: int) -> None:
            client.gather([client.submit(noop, pure=False) for _ in range(count)])

        executor = dask(cluster, per_host={"cpu": 1})
        yield from _rows(run, "Dask", executor, bare, Goal.no_less(3, aim=10))
        yield _killed(run, dask(cluster, per_host={"cpu": 4}))


@case("ray", needs=("ray",))
def on_ray(run: Run) -> Iterator[Row]:
    """No-op calls through hosts that are actors of Ray."""
    import ray as library  # pyright: ignore[reportMissingImports]

    # One CPU for each of ours, and as many for theirs.
    cpus = 2 * _WORKERS
    library.init("local", num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    try:

        @library.remote
        def nothing() -> None:
            """Do nothing."""

        call: Any = nothing

        def bare(count: int) -> None:
            library.get([call.remote() for _ in range(count)])

        executor = ray(per_host={"cpu": 1}, hosts=(0, _WORKERS))
        yield from _rows(run, "Ray", executor, bare, Goal.no_less(1.5, aim=3))
    finally:
        library.shutdown()


def wait_for(folder: str, until: str) -> int:
    """Say which host it is on, and wait for a file."""
    Path(folder, f"{os.getpid()}-{time.monotonic_ns()}").write_text(str(os.getppid()))
    while not Path(until).exists():
        time.sleep(0.005)
    return os.getppid()


def _killed(run: Run, executor: Any) -> Row:
    """SIGKILL of a host: what it had is begun elsewhere."""
    seconds: list[float] = []
    with (
        TaskOrchestrator(executors={"cluster": executor}, concurrency=8) as orch,
        tempfile.TemporaryDirectory() as folder,
    ):
        for number in range(run.size(5, quick=1)):
            begun = Path(folder, str(number))
            begun.mkdir()
            until = begun.with_suffix(".go")
            # Then all workers of both hosts have started.
            warm = [Task.call(time.sleep, 1, executor="cluster") for _ in range(8)]
            for handle in orch.submit_tasks(warm):
                handle.result()
            tasks = [
                Task.call(
                    wait_for,
                    str(begun),
                    str(until),
                    executor="cluster",
                    retry=RetryPolicy(3, base=0),
                )
                for _ in range(4)
            ]
            handles = orch.submit_tasks(tasks)
            while len(hosts := [f.read_text() for f in begun.iterdir()]) < 4:
                time.sleep(0.005)
            victim = max(set(hosts), key=hosts.count)
            started = time.perf_counter()
            os.kill(int(victim), signal.SIGKILL)
            wanted = 4 + hosts.count(victim)
            while len(list(begun.iterdir())) < wanted:
                time.sleep(0.005)
            seconds.append(time.perf_counter() - started)
            until.touch()
            for handle in handles:
                handle.result()
    return Row(
        what="a host is killed: its attempts run elsewhere",
        ours=Samples.of(seconds, Unit.SECONDS),
        measured=None,
        goal=None,
        note="from SIGKILL until all are begun, in workers that were idle",
    )
