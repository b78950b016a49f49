"""Calls in worker processes that Dask and Ray place, beside tasks of the engine."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._registry import Run, case
from benchmarks._timing import interleave
from benchmarks._workloads import noop
from taskorch import RetryPolicy, Task, TaskOrchestrator
from taskorch.ext.hosts import dask, ray

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


@contextmanager
def _cluster_of_dask() -> Iterator[tuple[Any, Any]]:
    """A cluster of this machine, and a client; a thread for ours, and one for bare."""
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
        yield cluster, client


@case("dask", needs=("distributed",))
def on_dask(run: Run) -> Iterator[Row]:
    """No-op calls through hosts beside the workers of Dask."""
    with _cluster_of_dask() as (cluster, client):

        def bare(count: int) -> None:
            client.gather([client.submit(noop, pure=False) for _ in range(count)])

        executor = dask(cluster, per_host={"cpu": 1})
        yield from _rows(run, "Dask", executor, bare, Goal.no_less(3, aim=10))


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


def hold(folder: str) -> int:
    """Say which host has it, and wait until that host's, or all, may end."""
    host = os.getppid()
    Path(folder, f"{host}-{os.getpid()}-{time.monotonic_ns()}").touch()
    while not (Path(folder, "go").exists() or Path(folder, f"go-{host}").exists()):
        time.sleep(0.3)
    return host


@case("dask-killed", needs=("distributed",))
def on_killed_hosts(run: Run) -> Iterator[Row]:
    """SIGKILL of hosts with attempts under way, beside one whose workers are idle."""
    from distributed import LocalCluster  # pyright: ignore[reportMissingImports]

    library: Any = import_module("dask")
    kills, slots = run.size(10, quick=1), run.size(100, quick=4)
    patient = {"distributed.deploy.lost-worker-timeout": "300s"}
    with (
        library.config.set(patient),
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        TaskOrchestrator(
            executors={"cluster": dask(cluster, per_host={"cpu": slots})},
            concurrency=2 * slots,
        ) as orch,
    ):
        ended: Counter[str] = Counter()

        def note_end(event: Any) -> None:
            ended[event.task_id] += 1

        orch.signals.task_completed.connect(note_end)
        seconds, lost = [], 0
        for _ in range(kills):
            with tempfile.TemporaryDirectory() as folder:
                found, missing = _kill_one(orch, slots, Path(folder))
            seconds.append(found)
            lost += missing
    twice = sum(count - 1 for count in ended.values())
    yield Row(
        what=f"a host is killed: its {slots} attempts run elsewhere",
        ours=Samples.of(seconds, Unit.SECONDS),
        measured=None,
        goal=None,
        note=f"from SIGKILL until all are begun, in idle workers of another host, "
        f"{kills} times; {len(ended):,} tasks: lost {lost}, counted twice {twice}; "
        f"the longest {max(seconds):.2f} s",
    )


def _kill_one(orch: TaskOrchestrator, slots: int, folder: Path) -> tuple[float, int]:
    """Seconds until what a killed host had is begun elsewhere; how much never ended."""
    retry = RetryPolicy(3, base=0)
    task = Task.call(hold, str(folder), executor="cluster", retry=retry)
    handles = orch.submit_tasks([task] * (2 * slots))

    def on_hosts() -> list[str]:
        names = (path.name.partition("-") for path in folder.iterdir())
        return [host for host, _, number in names if number and host != "go"]

    while len(on_hosts()) < 2 * slots:
        time.sleep(0.1)
    victim, other = sorted(set(on_hosts()))
    # The workers of the other become idle.
    (folder / f"go-{other}").touch()
    while sum(handle.done() for handle in handles) < slots:
        time.sleep(0.1)
    (folder / f"go-{other}").unlink()
    begin = time.perf_counter()
    os.kill(int(victim), signal.SIGKILL)
    while len(on_hosts()) < 3 * slots:
        time.sleep(0.002)
    seconds = time.perf_counter() - begin
    (folder / "go").touch()
    return seconds, sum(handle.exception() is not None for handle in handles)


#: Layers, tasks of each, and how many of the layer before each needs.
_LAYERS, _WIDTH, _PARENTS = 20, 100, 3


def nothing(*needed: None) -> None:
    """Do nothing, once that is there which is needed."""
    del needed


def _layered(submit: Callable[[list[tuple[Any, ...]]], list[Any]]) -> list[Any]:
    """The last layer; *submit* is given what each of a layer needs."""
    latest: list[Any] = []
    for _ in range(_LAYERS):
        count = min(_PARENTS, len(latest))
        latest = submit(
            [
                tuple(latest[(n + step) % _WIDTH] for step in range(count))
                for n in range(_WIDTH)
            ]
        )
    return latest


@case("dask-layers", needs=("distributed",))
def on_layers(run: Run) -> Iterator[Row]:
    """A layered graph of no-ops through hosts, and through Dask alone."""
    with (
        _cluster_of_dask() as (cluster, client),
        TaskOrchestrator(
            executors={"cluster": dask(cluster, per_host={"cpu": 1})},
            concurrency=_AT_ONCE,
        ) as orch,
    ):

        def ours(layer: list[tuple[Any, ...]]) -> list[Any]:
            tasks = [Task.call(nothing, *needs, executor="cluster") for needs in layer]
            return list(orch.submit_tasks(tasks))

        def through() -> None:
            for handle in _layered(ours):
                handle.result()

        def futures() -> None:
            client.gather(
                _layered(
                    lambda layer: [
                        client.submit(nothing, *needs, pure=False) for needs in layer
                    ]
                )
            )

        library: Any = import_module("dask")

        def delayed() -> None:
            call = library.delayed(nothing, pure=False)
            client.gather(
                client.compute(_layered(lambda layer: [call(*n) for n in layer]))
            )

        contestants = {"taskorch": through, "futures": futures, "delayed": delayed}
        rounds = interleave(contestants, rounds=min(run.pairs, 5), warmups=1)
    count = _LAYERS * _WIDTH
    for name in ("futures", "delayed"):
        yield Row(
            what=f"{_LAYERS} layers of {_WIDTH} no-ops, beside Dask's {name}",
            ours=rounds.each("taskorch", count),
            measured=rounds.speed("taskorch", name),
            goal=Goal.no_less(3, aim=10),
            note=f"time a task, each with the results of {_PARENTS} of the layer "
            f"before; measured: ratio of speeds to Dask itself "
            f"({rounds.each(name, count).write()} a task)",
        )
