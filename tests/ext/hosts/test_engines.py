"""Worker processes that Dask and Ray place: the same as on this machine, and its ends."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tests.api import fifteen
from tests.api.own_results import expect_own_results
from tests.api.tools import PATIENCE, Started, eventually
from tests.ext.hosts.on_engines import note, say, set_version, spin

import taskorch
from taskorch import InvalidTaskError, RetryPolicy, Task, TaskOrchestrator
from taskorch.core.executors import wire
from taskorch.ext.hosts import dask, ray
from taskorch.ext.hosts._certificate import made_certificate
from taskorch.ext.hosts._connection import Stream
from taskorch.testing.laws import check_attempt_executor

SLOW = pytest.mark.slow("hosts of Ray start")

pytestmark = [
    # Of what the engines do in our process.
    pytest.mark.filterwarnings("default"),
    pytest.mark.timeout(300),
]

#: Makes an executor on an engine that runs.
Make = Callable[..., Any]


@contextmanager
def cluster_of_dask(workers: int) -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    library = pytest.importorskip("dask")
    # It gives up workers that are not back in time, on a machine that is busy.
    patient = {"distributed.deploy.lost-worker-timeout": "300s"}
    with (
        library.config.set(patient),
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as cluster,
    ):
        yield cluster


@contextmanager
def dask_made() -> Iterator[Make]:
    with cluster_of_dask(2) as cluster:
        yield lambda **options: dask(cluster, **options)


@contextmanager
def ray_made() -> Iterator[Make]:
    library = pytest.importorskip("ray")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    # Its processes would give way to all others, and not come on a busy machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    there: dict[str, Any] = {"num_cpus": 2, "num_gpus": 2, "include_dashboard": False}
    there |= {"labels": {"zone": "a"}, "resources": {"license": 1}}
    # Whatever else runs on this machine.
    library.init("local", **there, **quiet)
    try:
        yield lambda **options: ray(**{"per_host": {"cpu": 1}, **options})
    finally:
        library.shutdown()


ENGINES = {"dask": dask_made, "ray": ray_made}
BY_RAY = pytest.mark.parametrize("make", ["ray"], indirect=True, scope="session")


@pytest.fixture(
    scope="session",
    params=["dask", pytest.param("ray", marks=pytest.mark.slow("starts Ray"))],
)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    with ENGINES[request.param]() as made:
        yield made


@pytest.fixture(scope="session")
def dask_only() -> Iterator[Any]:
    """A cluster of one worker."""
    with cluster_of_dask(1) as cluster:
        yield cluster


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


def written(file: Path) -> list[int]:
    # Another interpreter has to import the client first.
    patience = 2 * PATIENCE
    eventually(
        lambda: file.exists() and len(file.read_text().split()) == 2, patience=patience
    )
    return [int(word) for word in file.read_text().split()]


@pytest.mark.slow("the laws, with Dask and Ray")
def test_they_keep_the_laws(make: Make) -> None:
    with executing(make()) as executor:
        check_attempt_executor(lambda: executor, examples=2, patience=PATIENCE)


@pytest.mark.slow("the laws, with Dask and Ray")
def test_so_do_tasks_of_the_engine_itself(make: Make) -> None:
    with executing(make(hosts=(0, 0))) as executor:
        check_attempt_executor(lambda: executor, examples=2, patience=PATIENCE)


@pytest.mark.slow("a thousand tasks, with kills")
def test_each_gets_its_own_result(make: Make) -> None:
    executors = {"cluster": make()}
    with TaskOrchestrator(executors=executors, concurrency=20, grace=0.2) as orch:
        expect_own_results(
            orch, "cluster", 1_000, seed=1, kill_each=300, slow_each=1_000
        )


def test_what_a_task_of_the_engine_says_of_its_progress_is_dropped(make: Make) -> None:
    executor = make(hosts=(0, 0))
    with TaskOrchestrator(executors={"cluster": executor}) as orch:
        handle = orch.submit_task(on_it(say, 7))
        assert handle.result(PATIENCE) == 7
        assert orch.get_task_status(handle.task_id).progress is None


@pytest.mark.slow("fifteen programs in three places")
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


@pytest.mark.slow("hosts start, and one is killed")
def test_what_a_killed_host_had_is_made_again_elsewhere(
    make: Make, tmp_path: Path
) -> None:
    executor = make(per_host={"cpu": 1})
    with TaskOrchestrator(executors={"cluster": executor}) as orch:
        tasks = [
            on_it(note, str(tmp_path), retry=RetryPolicy(3, base=0)) for _ in range(4)
        ]
        handles = orch.submit_tasks(tasks)
        hosts: list[str] = []
        eventually(
            lambda: (
                hosts.extend(path.read_text() for path in tmp_path.iterdir())
                or any(hosts)
            )
        )
        host = int(next(filter(None, hosts)))
        os.kill(host, signal.SIGKILL)
        (tmp_path / "go").touch()
        for handle in handles:
            assert handle.result(PATIENCE)[1] != host
            # Each has ended once, and what was lost began once more.
            assert orch.get_task_status(handle.task_id).attempts <= 2
        begun = len(list(tmp_path.iterdir())) - 1
        attempts = (orch.get_task_status(h.task_id).attempts for h in handles)
        assert 5 <= begun <= sum(attempts)


@pytest.mark.slow("waits for a lease of seconds")
def test_a_host_that_stands_still_is_lost_after_its_lease(
    make: Make, tmp_path: Path
) -> None:
    with TaskOrchestrator(executors={"cluster": make(lease=4)}) as orch:
        handle = orch.submit_task(on_it(note, str(tmp_path)))
        eventually(lambda: any(file.read_text() for file in tmp_path.iterdir()))
        host = int(next(tmp_path.iterdir()).read_text())
        os.kill(host, signal.SIGSTOP)
        try:
            eventually(lambda: len(list(tmp_path.iterdir())) >= 2)
            (tmp_path / "go").touch()
            assert handle.result(PATIENCE)[1] != host
        finally:
            with suppress(ProcessLookupError):
                os.kill(host, signal.SIGCONT)


@SLOW
@BY_RAY
def test_a_task_sees_the_gpus_that_its_host_was_given(make: Make) -> None:
    pools = {"cpu": 2, "gpu": 4}
    for per_host in ({"cpu": 1, "gpu": 1}, {"cpu": 1}):
        # Where hosts have none, it is a task of Ray itself, which does not wait for
        # the cores that they have.
        executor = make(per_host=per_host)
        with TaskOrchestrator(executors={"cluster": executor}, resources=pools) as orch:
            assert orch.submit_task(on_it(pow, 2, 3)).result(PATIENCE) == 8
            ask = on_it(os.getenv, "CUDA_VISIBLE_DEVICES", resources={"gpu": 1})
            handles = orch.submit_tasks([ask] * 4)
            assert {handle.result(PATIENCE) for handle in handles} <= {"0", "1"}
            many = orch.submit_task(on_it(pow, 2, 3, resources={"gpu": 4}))
            assert "no node of Ray has" in str(many.exception(PATIENCE))
            assert "GPU=4" in str(orch.explain(many.task_id))


@SLOW
@BY_RAY
@pytest.mark.parametrize("hosts", [(0, None), (0, 0)])
def test_nodes_are_chosen_by_labels_and_by_what_they_have(
    make: Make, hosts: tuple[int, int | None]
) -> None:
    executors = {
        "a": make(labels={"zone": "a"}, hosts=hosts),
        "b": make(labels={"zone": "b"}, hosts=hosts),
        "licensed": make(per_host={"cpu": 1, "license": 1}, hosts=hosts),
    }
    with TaskOrchestrator(executors=executors, resources={"license": 1}) as orch:
        a, b = (orch.submit_task(Task.call(pow, 2, 3, executor=name)) for name in "ab")
        assert a.result(PATIENCE) == 8
        if hosts == (0, 0):
            # It waits for a node that may come.
            alone = "It is a task of Ray itself."
            eventually(lambda: alone in str(orch.explain(b.task_id)))
            b.cancel()
        else:
            assert "with the labels zone=b" in str(b.exception(PATIENCE))
        licensed = Task.call(pow, 2, 4, executor="licensed", resources={"license": 1})
        assert orch.submit_task(licensed).result(PATIENCE) == 16


@SLOW
@BY_RAY
def test_what_hosts_have_reserved_is_free_after_them(make: Make) -> None:
    for _ in range(2):
        with TaskOrchestrator(executors={"cluster": make(hosts=(0, 2))}) as orch:
            handles = orch.submit_tasks([on_it(pow, n, 2) for n in range(4)])
            assert [handle.result(PATIENCE) for handle in handles] == [0, 1, 4, 9]
    library = pytest.importorskip("ray")
    eventually(lambda: library.available_resources().get("CPU") == 2)


HEADLESS = """
import os, signal, sys
from contextlib import suppress
from pathlib import Path
from ray.cluster_utils import Cluster
from taskorch import Task, TaskOrchestrator
from taskorch.ext.hosts import ray
from tests.ext.hosts.on_engines import note
from tests.api.tools import eventually

cluster = Cluster(
    initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
)
(head,) = cluster.head_node.all_processes["gcs_server"]
executor = ray(cluster.address, per_host={"cpu": 1})
folder = Path(sys.argv[1])
with TaskOrchestrator(executors={"cluster": executor}) as orch:
    running = orch.submit_task(Task.call(note, str(folder), executor="cluster"))
    eventually(lambda: any(file.read_text() for file in folder.iterdir()))
    os.kill(head.process.pid, signal.SIGKILL)
    # Who asks it as it dies waits for ever.
    head.process.wait()
    eventually(lambda: "does not answer" in orch.doctor()[0].detail)
    (folder / "go").touch()
    _, host = running.result(120)
    # It is left before Ray ends this process, and then there is none.
    eventually(lambda: "there is no Ray cluster" in orch.doctor()[0].detail)
    with suppress(ProcessLookupError):
        os.kill(host, signal.SIGKILL)
    eventually(lambda: not any("(process" in c.detail for c in orch.doctor()))
    error = orch.submit_task(Task.call(pow, 2, 3, executor="cluster")).exception(120)
    print("there is no Ray cluster" in str(error))
cluster.shutdown()
"""


NODELESS = """
from contextlib import suppress
from functools import partial
from ray.cluster_utils import Cluster
from taskorch import Task, TaskOrchestrator
from taskorch.ext.hosts import ray
from tests.api.tools import PATIENCE, eventually


def started(start):
    # Ray itself gives up after 30 s, also where a machine is busy.
    for _ in range(3):
        with suppress(Exception):
            return start()
    return start()


head = {"num_cpus": 0, "include_dashboard": False}
cluster = started(partial(Cluster, initialize_head=True, head_node_args=head))
node = started(partial(cluster.add_node, num_cpus=1))
executor = ray(cluster.address, per_host={"cpu": 1}, lease=5)
with TaskOrchestrator(executors={"cluster": executor}) as orch:
    first = orch.submit_task(Task.call(pow, 2, 3, executor="cluster"))
    assert first.result(PATIENCE) == 8
    cluster.remove_node(node, allow_graceful=True)
    eventually(lambda: not any("(process" in c.detail for c in orch.doctor()))
    second = orch.submit_task(Task.call(pow, 2, 4, executor="cluster"))
    eventually(lambda: "have gone" in str(orch.explain(second.task_id)))
    assert not second.done()
    started(partial(cluster.add_node, num_cpus=1))
    print(second.result(PATIENCE) == 16)
cluster.shutdown()
"""


def expect_true(program: str, *arguments: str, **environment: str) -> None:
    """Run a program with a cluster of Ray of its own: a process knows one alone."""
    pytest.importorskip("ray")
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "RAY_worker_niceness": "0",
        **environment,
    }
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split()[-1:] == ["True"], done.stderr


@pytest.mark.slow("a cluster of Ray starts and ends")
def test_a_cluster_that_lost_its_head_is_left(tmp_path: Path) -> None:
    patience = {"RAY_gcs_rpc_server_reconnect_timeout_s": "60"}
    expect_true(HEADLESS, str(tmp_path), **patience)


@pytest.mark.slow("starts Ray without a node")
def test_without_a_node_ray_is_waited_for() -> None:
    expect_true(NODELESS)


SCRIPT = """
import sys, time
from taskorch import Task, TaskOrchestrator
from taskorch.ext.hosts import dask
from tests.ext.hosts.on_engines import spin

with TaskOrchestrator(executors={"cluster": dask(sys.argv[1])}) as orch:
    orch.submit_task(Task.call(spin, sys.argv[2], executor="cluster"))
    time.sleep(600)
"""


def test_of_an_orchestrator_that_was_killed_nothing_is_left(
    dask_only: Any, tmp_path: Path
) -> None:
    file = tmp_path / "pid"
    path = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-c", SCRIPT, dask_only.scheduler_address, str(file)]
    with Started(command, env={**os.environ, "PYTHONPATH": path}) as killed:
        try:
            worker, host = written(file)
        finally:
            killed.kill()
    eventually(lambda: not is_alive(worker))
    # The worker of Dask itself goes on, and is there for others.
    assert is_alive(host)
    with TaskOrchestrator(executors={"cluster": dask(dask_only)}) as orch:
        assert orch.submit_task(on_it(pow, 2, 3)).result(PATIENCE) == 8


def test_another_version_on_a_node_is_refused_by_name(dask_only: Any) -> None:
    with dask_only.get_client() as client:
        client.run(set_version, "9.9")
        try:
            with TaskOrchestrator(executors={"cluster": dask(client)}) as orch:
                error = orch.submit_task(on_it(pow, 2, 3)).exception(PATIENCE)
                assert "has taskorch 9.9, and the orchestrator" in str(error)
                found = [check for check in orch.doctor() if "9.9" in check.detail]
                assert {check.status for check in found} == {"failed"}
        finally:
            client.run(set_version, taskorch.__version__)


def forget_host() -> None:
    """As where taskorch is not installed: it cannot be imported."""
    sys.modules["taskorch.ext.hosts._dask"] = None  # type: ignore[assignment]


def remember_host() -> None:
    del sys.modules["taskorch.ext.hosts._dask"]


@pytest.mark.slow("starts Dask")
def test_a_node_without_taskorch_is_named_and_stays_alive(dask_only: Any) -> None:
    with dask_only.get_client() as client:
        (worker,) = client.run(os.getpid).values()
        client.run(forget_host)
        try:
            with TaskOrchestrator(executors={"cluster": dask(client)}) as orch:
                error = orch.submit_task(on_it(pow, 2, 3)).exception(PATIENCE)
                assert "ModuleNotFoundError" in str(error)
                assert "on the worker tcp://" in str(error)
        finally:
            client.run(remember_host)
        # What it cannot import would have ended it, and all that it did for others.
        assert list(client.run(os.getpid).values()) == [worker]


def test_two_orchestrators_have_one_cluster(dask_only: Any) -> None:
    one, other = (
        TaskOrchestrator(executors={"cluster": dask(dask_only, idle=0.2)})
        for _ in range(2)
    )
    with one, other:
        host = one.submit_task(on_it(os.getppid)).result(PATIENCE)
        # The only thread of the only worker is free once the first host was given back.
        handles = [orch.submit_task(on_it(os.getppid)) for orch in (other, one, other)]
        assert {handle.result(PATIENCE) for handle in handles} == {host}


def test_an_address_of_nothing_is_said_to_be_one() -> None:
    pytest.importorskip("distributed")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
    with TaskOrchestrator(executors={"cluster": dask(address, timeout=1)}) as orch:
        error = orch.submit_task(on_it(pow, 2, 3)).exception(PATIENCE)
        assert f"there is no Dask scheduler at {address}" in str(error)
        (check,) = orch.doctor()
        assert check.status == "failed"
        assert address in check.detail
    secret = f"tls://{address.partition('//')[2]}"
    with TaskOrchestrator(executors={"cluster": dask(secret)}) as orch:
        error = orch.submit_task(on_it(pow, 2, 3)).exception(PATIENCE)
        assert "security=" in str(error)
    assert orch.doctor()[0].detail == "its hosts were ended with their orchestrator"


@pytest.mark.parametrize("is_one_file", [False, True])
def test_over_tls_it_is_the_same(
    dask_only: Any, tmp_path: Path, *, is_one_file: bool
) -> None:
    bundle = tmp_path / "bundle.pem"
    with made_certificate(None) as files:
        bundle.write_text("".join(Path(file).read_text() for file in files))
        tls = (str(bundle), str(bundle)) if is_one_file else files
        with TaskOrchestrator(executors={"cluster": dask(dask_only, tls=tls)}) as orch:
            much = b"x" * 3_000_000
            assert orch.submit_task(on_it(bytes.upper, much)).result(
                PATIENCE
            ) == b"X" * len(much)
            handles = orch.submit_tasks([on_it(pow, n, 2) for n in range(50)])
            assert [h.result(PATIENCE) for h in handles] == [n * n for n in range(50)]
            # What goes through the scheduler is seen by whoever has a client of it.
            tasks = list(dask_only.scheduler.tasks.values())
            seen = b"".join(pickle.dumps(task.run_spec) for task in tasks)
            assert b"BEGIN CERTIFICATE" in seen
            assert b"PRIVATE KEY" not in seen


def test_a_stranger_is_told_nothing(dask_only: Any) -> None:
    executor = dask(dask_only)
    with TaskOrchestrator(executors={"cluster": executor}) as orch:
        assert orch.submit_task(on_it(pow, 2, 3)).result(PATIENCE) == 8
        port = executor._door.addresses[0][1]
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.settimeout(PATIENCE)
            stream = Stream(stranger)
            stream.take(wire.CHALLENGE)
            stream.put(wire.PROOF, bytes(wire.NUMBER), bytes(32 + 32))
            assert stranger.recv(100) == b""
        assert orch.submit_task(on_it(pow, 2, 3)).result(PATIENCE) == 8


def test_resources_are_those_of_a_host(dask_only: Any) -> None:
    executor = dask(dask_only, per_host={"cpu": 2, "token": 1})
    pools = {"cpu": 8, "token": 8, "gpu": 8, "memory_mb": 1000}
    with TaskOrchestrator(executors={"cluster": executor}, resources=pools) as orch:
        tasks = [on_it(os.getppid, resources={"token": 1}) for _ in range(6)]
        tasks += [on_it(os.getppid, resources={"memory_mb": 100, "cpu": 2})]
        for handle in orch.submit_tasks(tasks):
            assert handle.result(PATIENCE)
        # No host has it, and no worker of Dask.
        error = orch.submit_task(on_it(pow, 2, 3, resources={"gpu": 1})).exception(60)
        assert "no worker of Dask has gpu=1" in str(error)


@pytest.mark.slow("a cluster grows and shrinks")
@pytest.mark.timeout(600)
def test_a_cluster_grows_with_what_waits_and_shrinks_again() -> None:
    # Each host is a worker of Dask's and two processes of ours, one after another.
    patience = 240.0
    with cluster_of_dask(0) as cluster:
        executor = dask(cluster, hosts=(0, 2), idle=0.2, patience=patience)
        with (
            TaskOrchestrator(executors={"cluster": executor}) as orch,
            TemporaryDirectory() as folder,
        ):
            tasks = [on_it(note, folder) for _ in range(4)]
            handles = orch.submit_tasks(tasks)
            # Each of the two has one of them, although the first came alone.
            eventually(lambda: len([*Path(folder).iterdir()]) == 2, patience=patience)
            assert "host" in orch.explain(handles[-1].task_id).place
            Path(folder, "go").touch()
            assert len({handle.result(patience)[1] for handle in handles}) == 2
            eventually(lambda: not cluster.workers, patience=patience)
            assert orch.submit_task(on_it(pow, 2, 3)).result(patience) == 8
        eventually(lambda: not cluster.workers, patience=patience)


@contextmanager
def started(*command: str) -> Iterator[Any]:
    """A program of Dask's, which is killed at the end."""
    quiet = subprocess.DEVNULL
    with Started(
        [sys.executable, "-m", *command], stdout=quiet, stderr=quiet
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow("starts schedulers and workers of Dask")
@pytest.mark.parametrize("hosts", [(0, None), (0, 0)])
def test_without_its_scheduler_what_runs_ends_and_what_waits_begins_with_the_next(
    tmp_path: Path, hosts: tuple[int, int | None]
) -> None:
    pytest.importorskip("distributed")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    scheduler = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1"]
    scheduler += ["--port", str(port), "--dashboard-address", "127.0.0.1:0"]
    worker = ["distributed.cli.dask_worker", address, "--nthreads", "1"]
    worker += ["--no-dashboard", "--local-directory", str(tmp_path / "dask")]
    notes = tmp_path / "notes"
    notes.mkdir()
    with ExitStack() as stack:
        first = stack.enter_context(started(*scheduler))
        stack.enter_context(started(*worker))
        executor = dask(address, hosts=hosts)
        orch = stack.enter_context(TaskOrchestrator(executors={"cluster": executor}))
        running = orch.submit_task(on_it(note, str(notes)))
        eventually(lambda: any(notes.iterdir()))
        first.kill()
        first.wait()
        waiting = orch.submit_task(on_it(pow, 2, 3))
        eventually(
            lambda: (
                f"there is no Dask scheduler at {address}"
                in orch.explain(waiting.task_id).place
            )
        )
        (gone, *_) = orch.doctor()
        assert gone.status == "failed"
        assert f"there is no Dask scheduler at {address}" in gone.detail
        (notes / "go").touch()
        if hosts != (0, 0):
            # Its host goes on as long as its worker does.
            assert running.result(PATIENCE)
            assert orch.get_task_status(running.task_id).attempts == 1
        stack.enter_context(started(*scheduler))
        stack.enter_context(started(*worker))
        assert waiting.result(PATIENCE) == 8
        assert running.result(PATIENCE)


@contextmanager
def worker_with_a_token(cluster: Any) -> Iterator[None]:
    command = [sys.executable, "-m", "distributed.cli.dask_worker"]
    command += [cluster.scheduler_address, "--resources", "TOKEN=1", "--no-dashboard"]
    command += ["--nworkers", "1", "--nthreads", "1", "--no-nanny"]
    count = len(cluster.scheduler.workers)
    with Started(command, stderr=subprocess.DEVNULL) as worker:
        try:
            eventually(lambda: len(cluster.scheduler.workers) > count)
            yield
        finally:
            worker.kill()
    eventually(lambda: len(cluster.scheduler.workers) == count)


@pytest.mark.slow("two workers of Dask start")
def test_a_worker_of_dask_that_had_what_a_task_asks_for_is_waited_for(
    dask_only: Any,
) -> None:
    executors = {"cluster": dask(dask_only, hosts=(0, 0))}
    with TaskOrchestrator(executors=executors, resources={"token": 1}) as orch:
        with worker_with_a_token(dask_only):
            first = orch.submit_task(on_it(pow, 2, 3, resources={"token": 1}))
            assert first.result(PATIENCE) == 8
        second = orch.submit_task(on_it(pow, 2, 4, resources={"token": 1}))
        eventually(lambda: "token=1 have gone" in str(orch.explain(second.task_id)))
        with worker_with_a_token(dask_only):
            assert second.result(PATIENCE) == 16


def test_an_idle_host_is_given_back(dask_only: Any) -> None:
    with TaskOrchestrator(executors={"cluster": dask(dask_only, idle=0.2)}) as orch:
        host = orch.submit_task(on_it(os.getppid)).result(PATIENCE)
        eventually(lambda: orch.doctor()[-1].detail.startswith("0 hosts"))
        assert is_alive(host)
        assert orch.submit_task(on_it(pow, 2, 3)).result(PATIENCE) == 8


def test_the_executor_of_a_client_of_dask_will_do_too(dask_only: Any) -> None:
    with (
        dask_only.get_client() as client,
        client.get_executor() as own,
        TaskOrchestrator(executors={"cluster": own}) as orch,
    ):
        assert orch.submit_task(on_it(pow, 2, 3)).result(PATIENCE) == 8


def test_a_journal_gets_the_value(dask_only: Any, tmp_path: Path) -> None:
    executors = {"cluster": dask(dask_only, keep_mb=1)}
    with TaskOrchestrator(executors=executors, journal=tmp_path / "runs.db") as orch:
        large = orch.submit_task(on_it(bytes, 2_000_000))
        assert large.result(PATIENCE) == bytes(2_000_000)
        assert "keep_mb does nothing here" in orch.doctor()[-1].detail


@pytest.mark.parametrize(
    ("make_one", "says"),
    [
        (lambda: dask(7), "7 is no cluster"),
        (lambda: dask("tcp://x", hosts=3), "hosts=3 is not how many there are"),
        (lambda: dask("tcp://x", hosts=(3, 1)), "is not how many there are"),
        (lambda: dask("tcp://x", per_host={"cpu": 1.5}), "the number of workers"),
        (lambda: dask("tcp://x", idle=0), "no number of seconds above 0"),
        (lambda: dask("tcp://x", keep_mb=-1), "no number of MB from 0 to 256"),
        (lambda: dask("tcp://x", keep_mb=1, hosts=(0, 0)), "without hosts"),
        (lambda: ray(7), "the address of a cluster is a str"),
        (lambda: ray(labels={"zone": 3}), "are no names with values that are str"),
        (lambda: ray(labels="zone"), "are no names with values that are str"),
        (lambda: ray(lease="x"), "no number of seconds above 0"),
    ],
)
def test_bad_arguments_are_refused(make_one: Make, says: str) -> None:
    with pytest.raises(InvalidTaskError, match=says):
        make_one()


def test_it_belongs_to_one_orchestrator() -> None:
    executor = dask("tcp://127.0.0.1:1")
    with TaskOrchestrator(executors={"cluster": executor}):
        pass
    with pytest.raises(InvalidTaskError, match="belongs to another orchestrator"):
        TaskOrchestrator(executors={"cluster": executor})
