"""
One program that grows: threads, processes, agents over HTTP, Dask, Ray.

    python examples/many_machines.py thread      # or process, agents, dask, ray

Only what the orchestrator is given differs. Dask and Ray start on this machine here; a
cluster that is there already is named by its address.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from taskorch import Task, TaskOrchestrator

STEP = 2_000


def count_primes(span: Mapping[str, int]) -> int:
    numbers = range(max(2, span["first"]), span["first"] + STEP)
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in numbers)


def count(orch: TaskOrchestrator, where: str) -> int:
    """What is to be done: nothing in here knows of machines."""
    spans = [{"first": first} for first in range(0, 10 * STEP, STEP)]
    if where == "agents":
        # Code never goes to an agent: it has functions, by names.
        tasks = [Task("count_primes", span, timeout=60) for span in spans]
    else:
        tasks = [
            Task.call(count_primes, span, executor=where, timeout=60) for span in spans
        ]
    return sum(handle.result() for handle in orch.submit_tasks(tasks))


def on_threads() -> int:
    with TaskOrchestrator() as orch:
        return count(orch, "thread")


def in_processes() -> int:
    with TaskOrchestrator(executors={"process": 2}) as orch:
        return count(orch, "process")


@contextmanager
def worker_of(url: str, token: str, folder: str) -> Iterator[None]:
    """An agent, as any machine could start it that has this file."""
    command = [sys.executable, "-m", "taskorch", "agent", "--agent-id", "one"]
    command += ["--orchestrator-endpoint", url, "--log-file", f"{folder}/agent.log"]
    command += ["--call", "count_primes=many_machines:count_primes"]
    env = {**os.environ, "TASKORCH_TOKEN": token}
    env["PYTHONPATH"] = str(Path(__file__).parent)
    with subprocess.Popen(command, env=env) as agent:
        try:
            yield
        finally:
            # Also after a failure: the `with` waits for its end.
            agent.terminate()


def by_workers() -> int:
    from taskorch.ext.service import create_app, new_token, serve

    orch = TaskOrchestrator(unknown_capability="wait")  # it comes later
    token = new_token()
    app = create_app(orch, token=token, agents=True)
    with (
        TemporaryDirectory() as folder,
        orch,
        serve(app, port=0) as server,
        worker_of(server.url, token, folder),
    ):
        return count(orch, "agents")


def on_cluster(executor: Any) -> int:
    with TaskOrchestrator(executors={"cluster": executor}) as orch:
        found = count(orch, "cluster")
        for check in orch.doctor():
            print(f"{check.status}: {check.detail}", file=sys.stderr)
        return found


def on_dask() -> int:
    from distributed import LocalCluster

    from taskorch.ext.hosts import dask

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        return on_cluster(dask(cluster))  # or dask("tls://scheduler:8786")


def on_ray() -> int:
    from taskorch.ext.hosts import ray

    # Or ray("auto"): a cluster that is there.
    return on_cluster(ray("local", num_cpus=2))


PLACES = {
    "thread": on_threads,
    "process": in_processes,
    "agents": by_workers,
    "dask": on_dask,
    "ray": on_ray,
}

if __name__ == "__main__":
    where = sys.argv[1] if len(sys.argv) > 1 else "thread"
    print(f"{PLACES[where]():,} primes below {10 * STEP:,}")
