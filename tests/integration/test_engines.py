"""Worker processes that Dask and Ray place: the same as on this machine, and its ends."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.integration import fifteen
from tests.integration.tools import PATIENCE, eventually

from taskorch import InvalidTaskError, Resources, RetryPolicy, Task, TaskOrchestrator
from taskorch.executors import dask, ray
from taskorch.testing.laws import check_attempt_executor

pytestmark = [
    # Of what the engines do in our process.
    pytest.mark.filterwarnings("default"),
    pytest.mark.timeout(300),
]

#: Makes an executor on an engine that runs.
Make = Callable[..., Any]


@contextmanager
def dask_made() -> Iterator[Make]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        yield lambda **options: dask(cluster, **options)


@contextmanager
def ray_made() -> Iterator[Make]:
    library = pytest.importorskip("ray")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    library.init(num_cpus=2, include_dashboard=False, **quiet)
    try:
        yield lambda **options: ray(**{"per_host": {"cpu": 1}, **options})
    finally:
        library.shutdown()


ENGINES = {"dask": dask_made, "ray": ray_made}


@pytest.fixture(
    scope="session",
    params=["dask", pytest.param("ray", marks=pytest.mark.slow)],
)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    with ENGINES[request.param]() as made:
        yield made


@contextmanager
def executing(executor: Any) -> Iterator[Any]:
    """*executor*, without an orchestrator."""
    try:
        yield executor
    finally:
        executor.close(PATIENCE)


def on_it(fn: Any, *args: Any, **options: Any) -> Task[Any]:
    return Task.call(fn, *args, executor="cluster", **options)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def spin(file: str) -> None:
    """A loop in C, which nothing but the end of its process ends."""
    Path(file).write_text(f"{os.getpid()} {os.getppid()}")
    pow(3, 1 << 300_000, 1 << 3_000_000)


def note(folder: str) -> tuple[int, int]:
    """Note that an attempt has begun; wait until there is a file "go"."""
    Path(folder, f"{os.getpid()}-{time.monotonic_ns()}").write_text(str(os.getppid()))
    while not Path(folder, "go").exists():
        time.sleep(0.01)
    return os.getpid(), os.getppid()


def written(file: Path) -> list[int]:
    eventually(lambda: file.exists() and len(file.read_text().split()) == 2)
    return [int(word) for word in file.read_text().split()]


def test_they_keep_the_laws(make: Make) -> None:
    with executing(make()) as executor:
        check_attempt_executor(lambda: executor, examples=2, patience=PATIENCE)


def test_so_do_tasks_of_the_engine_itself(make: Make) -> None:
    with executing(make(hosts=(0, 0))) as executor:
        check_attempt_executor(lambda: executor, examples=2, patience=PATIENCE)


def test_programs_come_to_the_same_as_on_threads_and_in_processes(make: Make) -> None:
    outcomes: dict[str, dict[str, Any]] = {}
    executor = make()
    for where in ("thread", "process", "cluster"):
        given = {"cluster": executor} if where == "cluster" else {"process": 2}
        found = outcomes[where] = {}
        with TaskOrchestrator(executors=given, grace=20) as orch:
            for program in fifteen.PROGRAMS:
                found[program.__name__] = program(orch, where)
    assert len(fifteen.PROGRAMS) == 15
    assert outcomes["process"] == outcomes["thread"]
    assert outcomes["cluster"] == outcomes["thread"]


def test_a_loop_in_c_is_ended_and_its_slot_is_free(make: Make, tmp_path: Path) -> None:
    executor = make(hosts=(1, 1))
    with TaskOrchestrator(executors={"cluster": executor}, grace=0.4) as orch:
        handle = orch.submit_task(on_it(spin, str(tmp_path / "pid")))
        worker, host = written(tmp_path / "pid")
        handle.cancel()
        # The only worker of the only host: what comes next has its slot.
        assert orch.submit_task(on_it(os.getppid)).result(PATIENCE) == host
        assert not is_alive(worker)


def test_what_a_killed_host_had_is_made_again_elsewhere(
    make: Make, tmp_path: Path
) -> None:
    executor = make(per_host={"cpu": 1})
    with TaskOrchestrator(executors={"cluster": executor}) as orch:
        tasks = [on_it(note, str(tmp_path), retry=RetryPolicy(3, base=0)) for _ in range(4)]
        handles = orch.submit_tasks(tasks)
        eventually(lambda: len(list(tmp_path.iterdir())) >= 1)
        host = int(next(tmp_path.iterdir()).read_text())
        os.kill(host, signal.SIGKILL)
        (tmp_path / "go").touch()
        workers = [handle.result(PATIENCE) for handle in handles]
        assert all(theirs != host for _, theirs in workers)
        assert not orch.health().checks or orch.get_stats().retries.lost >= 1
