"""No-op functions beside other libraries' own ways to run them, without durability."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping

from benchmarks._figures import Row, Samples, Unit
from benchmarks._isolated import Child, Steps
from benchmarks._peers import (
    dask_delayed,
    parsl_apps,
    prefect_tasks,
    ray_remote,
    taskiq_in_memory,
)
from benchmarks._registry import Run, case
from benchmarks._timing import time_once
from benchmarks._workloads import CONCURRENCY, noop
from taskorch import TaskOrchestrator


def ours(folder: str, count: int) -> Iterator[Mapping[str, float]]:
    """Submit no-ops one by one, then take every result."""

    def run() -> None:
        for handle in [orch.submit(noop) for _ in range(count)]:
            handle.result()

    with TaskOrchestrator(concurrency=CONCURRENCY) as orch:
        while True:
            yield {"seconds": time_once(run)}


def beside(name: str, theirs: Steps, count: int, run: Run, note: str) -> Row:
    """Compare with a peer: a process each, asked in turn, compared as rates."""
    many = run.size(10_000, quick=1_000)
    with (
        tempfile.TemporaryDirectory() as folder,
        Child(ours, folder=folder, count=many) as mine,
        Child(theirs, folder=folder, count=count) as peer,
    ):
        for child in (mine, peer):
            child.sample()
        pairs = [
            (mine.sample()["seconds"] / many, peer.sample()["seconds"] / count)
            for _ in range(run.pairs)
        ]
    us = Samples.of((pair[0] for pair in pairs), Unit.SECONDS)
    them = Samples.of((pair[1] for pair in pairs), Unit.SECONDS)
    return Row(
        what=f"submit, beside {name}",
        ours=us,
        peers={name: them},
        measured=them.over(us),
        note=f"time a task, {many:,} of ours and {count:,} of theirs, one warm-up, "
        f"{run.pairs} rounds; {note}; measured: ratio of speeds",
    )


@case("peers-dask", needs=("dask",))
def dask(run: Run) -> Iterator[Row]:
    """No-ops one by one, beside `dask.delayed` calls on its threads."""
    count = run.size(2_000, quick=200)
    yield beside("dask", dask_delayed, count, run, f"{CONCURRENCY} threads each")


@case("peers-ray", needs=("ray",))
def ray(run: Run) -> Iterator[Row]:
    """The same, beside remote functions of Ray on a cluster of this machine."""
    count = run.size(2_000, quick=200)
    note = "its workers are processes, whose start is not measured"
    yield beside("Ray", ray_remote, count, run, note)


@case("peers-parsl", needs=("parsl",))
def parsl(run: Run) -> Iterator[Row]:
    """The same, beside Python apps of Parsl on its threads."""
    count = run.size(2_000, quick=200)
    yield beside("Parsl", parsl_apps, count, run, f"{CONCURRENCY} threads each")


@case("peers-taskiq", needs=("taskiq",))
def taskiq(run: Run) -> Iterator[Row]:
    """The same, beside tasks of taskiq through its broker in memory."""
    count = run.size(2_000, quick=200)
    note = f"{CONCURRENCY} threads each; its results are asked for every millisecond"
    yield beside("taskiq", taskiq_in_memory, count, run, note)


@case("peers-prefect", needs=("prefect",))
def prefect(run: Run) -> Iterator[Row]:
    """The same, beside tasks of Prefect in a flow, with the server that it starts."""
    count = run.size(50, quick=10)
    note = f"{CONCURRENCY} threads each; the start of its server is not measured"
    yield beside("Prefect", prefect_tasks, count, run, note)
