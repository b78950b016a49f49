"""Large results in the store of an engine: owned here, and moved from node to node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.hosts.moved import bytes_moved
from tests.ext.hosts.on_engines import give_back, measure, note
from tests.ext.hosts.test_engines import cluster_of_dask, on_it, ray_made

from taskorch import Task, TaskOrchestrator
from taskorch.errors import ResultGoneError, TaskFailedError
from taskorch.ext.hosts import RemoteValue, dask, ray

pytestmark = [
    # Of what the engines do in our process.
    pytest.mark.filterwarnings("default"),
    pytest.mark.timeout(600),
]

MUCH = 20_000_000
#: Seconds in which two hosts come: actors of Ray, on a machine that is busy.
STARTS = 240.0


@pytest.fixture(scope="module")
def of_dask() -> Iterator[Any]:
    with cluster_of_dask(2) as cluster:
        yield cluster


def both_hosts(orch: TaskOrchestrator, folder: Path) -> set[int]:
    """The processes of two hosts, once both are there."""
    handles = orch.submit_tasks([on_it(note, str(folder)) for _ in range(2)])
    end = time.monotonic() + STARTS
    while len(list(folder.iterdir())) < 2:
        assert time.monotonic() < end, "two hosts never came"
        time.sleep(0.05)
    (folder / "go").touch()
    return {handle.result(PATIENCE)[1] for handle in handles}


def maker_of(value: RemoteValue) -> int:
    return int(value.where.rpartition("process ")[2].split()[0])


def read_everywhere(orch: TaskOrchestrator, large: Any, hosts: set[int]) -> None:
    """Tasks on all *hosts* get what *large* has returned."""
    seen: set[int] = set()
    for _ in range(20):
        for handle in orch.submit_tasks([on_it(measure, large) for _ in range(4)]):
            size, host = handle.result(PATIENCE)
            assert size == MUCH
            seen.add(host)
        if seen >= hosts:
            return
    pytest.fail(f"only {seen} of {hosts} were given a call")


@pytest.mark.slow("starts Dask")
def test_on_dask_a_large_result_goes_from_worker_to_worker(
    of_dask: Any, tmp_path: Path
) -> None:
    executors = {"cluster": dask(of_dask, keep_mb=1), "process": 1}
    with TaskOrchestrator(executors=executors) as orch:
        hosts = both_hosts(orch, tmp_path)
        before = bytes_moved()
        large = orch.submit_task(on_it(give_back, MUCH, id="maker"))
        kept = large.result(PATIENCE)
        assert (type(kept), kept.type, kept.task_id) == (RemoteValue, "bytes", "maker")
        assert MUCH < kept.size < MUCH + 100
        read_everywhere(orch, large, hosts)
        assert bytes_moved() - before < 1_000_000
        assert kept.get() == bytes(MUCH)
        assert orch.submit(lambda value: len(value.get()), large).result(60) == MUCH
        here = Task.call(measure, large, executor="process")
        error = orch.submit_task(here).exception(PATIENCE)
        assert "goes to tasks on its own executor" in str(error)
        # Its worker has it, and goes: Dask does not make it again.
        os.kill(maker_of(kept), signal.SIGKILL)
        says = "task maker has completed, and its result is lost.*rerun_task.'maker'"
        with pytest.raises(ResultGoneError, match=says):
            kept.get()
        reader = orch.submit_task(on_it(measure, large))
        with pytest.raises(ResultGoneError, match=says):
            reader.result(PATIENCE)
        assert "orch.rerun_task('maker')" in str(orch.explain(reader.task_id))
        again = orch.submit_task(on_it(give_back, MUCH))
        assert orch.submit_task(on_it(measure, again)).result(PATIENCE)[0] == MUCH


def test_on_dask_it_is_released_with_its_last_holder(of_dask: Any) -> None:
    def results() -> list[str]:
        states = of_dask.scheduler.tasks.values()
        return [str(task.key) for task in states if task.state == "memory"]

    executors = {"cluster": dask(of_dask, keep_mb=1)}
    with TaskOrchestrator(executors=executors, keep_finished=0) as orch:
        large = orch.submit_task(on_it(give_back, 2_000_000))
        assert orch.submit_task(on_it(measure, large)).result(PATIENCE)[0] == 2_000_000
        assert len(large.result(PATIENCE).get()) == 2_000_000
        assert len(results()) == 1
        other = orch.submit_task(on_it(give_back, 2_000_000)).result(PATIENCE)
        del large
        eventually(lambda: len(results()) == 1)
        assert len(other.get()) == 2_000_000
    # Who still has one, has none of the memory of the cluster.
    eventually(lambda: not results())
    with pytest.raises(ResultGoneError, match="its orchestrator has ended"):
        other.get()


@pytest.mark.slow("256 MB from workers of Dask")
def test_what_cannot_be_read_is_said_as_without_it(of_dask: Any) -> None:
    for mb in (None, 1):
        executors = {"cluster": dask(of_dask, keep_mb=mb)}
        with TaskOrchestrator(executors=executors) as orch:
            error = orch.submit_task(on_it(give_back, 2**28 + 1)).exception(PATIENCE)
            assert "too large to come back from a worker process" in str(error)
            error = orch.submit_task(on_it(give_back, -1)).exception(PATIENCE)
            assert "returned a tuple that cannot be pickled" in str(error)
            odd = orch.submit_task(on_it(give_back, -2))
            with pytest.raises(TaskFailedError, match="an Odd that cannot be pickled"):
                odd.result(PATIENCE).get()


@pytest.mark.slow("starts Ray")
def test_on_ray_it_outlives_the_host_that_made_it(tmp_path: Path) -> None:
    library = pytest.importorskip("ray")

    def stored() -> float:
        name = "object_store_memory"
        whole, free = library.cluster_resources(), library.available_resources()
        return float(whole[name] - free.get(name, 0))

    is_there = library.is_initialized()
    with nullcontext() if is_there else ray_made():
        executors = {"cluster": ray(per_host={"cpu": 1}, keep_mb=1)}
        with TaskOrchestrator(executors=executors, keep_finished=0) as orch:
            hosts = both_hosts(orch, tmp_path)
            before = bytes_moved()
            large = orch.submit_task(on_it(give_back, MUCH))
            kept = large.result(PATIENCE)
            read_everywhere(orch, large, hosts)
            assert bytes_moved() - before < 1_000_000
            os.kill(maker_of(kept), signal.SIGKILL)
            assert kept.get() == bytes(MUCH)
            other = orch.submit_task(on_it(measure, large))
            assert other.result(PATIENCE)[0] == MUCH
            assert stored() >= MUCH
            del kept, large, other
            eventually(lambda: stored() < MUCH)


FULL = """
import sys
import ray as library
from taskorch import Task, TaskOrchestrator
from taskorch.ext.hosts import RemoteValue, ray
from tests.ext.hosts.on_engines import give_back, measure

library.init(
    "local", num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False,
    log_to_driver=False, logging_level="ERROR",
    # As if the disk were full, too.
    _system_config={"local_fs_capacity_threshold": 0.001},
)
with TaskOrchestrator(executors={"cluster": ray(keep_mb=1)}) as orch:
    kinds = []
    for _ in range(4):
        task = Task.call(give_back, 30_000_000, executor="cluster")
        made = orch.submit_task(task)
        kinds.append(type(made.result(250)))
        read = Task.call(measure, made, executor="cluster")
        assert orch.submit_task(read).result(250)[0] == 30_000_000
    print(kinds[0] is RemoteValue, kinds[-1] is bytes)
library.shutdown()
"""


@pytest.mark.slow("starts Ray, and fills its store")
def test_what_a_full_store_of_ray_does_not_take_comes_at_once() -> None:
    pytest.importorskip("ray")
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", FULL],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "True"]
