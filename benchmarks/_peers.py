"""
How the peers that need no journal run no-ops: each in the way that its manual begins with.

Each is a generator function that runs in a process of its own and yields the seconds that
it took, sample by sample: from the first call to the last result. What it starts once, a
pool, a broker or a cluster on this machine, is started before and stopped after.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks._timing import time_once
from benchmarks._workloads import CONCURRENCY, noop


def dask_delayed(folder: str, count: int) -> Iterator[Mapping[str, float]]:
    """`dask.delayed` calls, computed at once by threads: what it does by itself."""
    import dask  # pyright: ignore[reportMissingImports]

    call: Any = dask.delayed(noop, pure=False)  # pyright: ignore[reportPrivateImportUsage]
    compute: Any = dask.compute  # pyright: ignore[reportPrivateImportUsage]

    def run() -> None:
        compute(
            *(call() for _ in range(count)),
            scheduler="threads",
            num_workers=CONCURRENCY,
        )

    while True:
        yield {"seconds": time_once(run)}


def ray_remote(folder: str, count: int) -> Iterator[Mapping[str, float]]:
    """
    Remote functions of Ray, on a cluster that `ray.init` starts on this machine.

    Its workers are processes, as many as there are CPUs, which is its default.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray  # pyright: ignore[reportMissingImports]

    # Not one that happens to run here already.
    ray.init("local", include_dashboard=False, log_to_driver=False)

    @ray.remote
    def nothing() -> None:
        """Do nothing: a function of ours would have to be found by its workers."""

    call: Any = nothing

    def run() -> None:
        ray.get([call.remote() for _ in range(count)])

    try:
        while True:
            yield {"seconds": time_once(run)}
    finally:
        ray.shutdown()


def parsl_apps(folder: str, count: int) -> Iterator[Mapping[str, float]]:
    """Python apps of Parsl on its pool of threads, which is its default."""
    import parsl  # pyright: ignore[reportMissingImports]
    from parsl.config import Config  # pyright: ignore[reportMissingImports]
    from parsl.executors import (  # pyright: ignore[reportMissingImports]
        ThreadPoolExecutor,
    )

    parsl.load(
        Config(
            executors=[ThreadPoolExecutor(max_threads=CONCURRENCY)],
            run_dir=str(Path(folder) / "parsl"),
            initialize_logging=False,
        )
    )
    call: Any = parsl.python_app(noop)

    def run() -> None:
        for future in [call() for _ in range(count)]:
            future.result()

    try:
        while True:
            yield {"seconds": time_once(run)}
    finally:
        parsl.dfk().cleanup()
        parsl.clear()


def taskiq_in_memory(folder: str, count: int) -> Iterator[Mapping[str, float]]:
    """Tasks of taskiq through its broker in memory: the one that needs no server."""
    from taskiq import InMemoryBroker  # pyright: ignore[reportMissingImports]

    # It forgets results beyond these, and then would wait for them in vain.
    broker: Any = InMemoryBroker(
        sync_tasks_pool_size=CONCURRENCY, max_stored_results=count
    )
    task: Any = broker.task(noop)

    async def run() -> None:
        sent = [await task.kiq() for _ in range(count)]
        for each in sent:
            await each.wait_result(check_interval=0.001)

    with asyncio.Runner() as runner:
        runner.run(broker.startup())
        try:
            while True:
                yield {"seconds": time_once(lambda: runner.run(run()))}
        finally:
            runner.run(broker.shutdown())


def prefect_tasks(folder: str, count: int) -> Iterator[Mapping[str, float]]:
    """
    Tasks of Prefect in a flow, submitted to its pool of threads, which is its default.

    It needs a server, and starts one for the time being where none is configured.
    """
    os.environ |= {
        "PREFECT_HOME": str(Path(folder) / "prefect"),
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "0",
        # On a slow machine it takes longer than the default of 20 s.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "DO_NOT_TRACK": "1",
    }
    from prefect import flow, task  # pyright: ignore[reportMissingImports]
    from prefect.task_runners import (  # pyright: ignore[reportMissingImports]
        ThreadPoolTaskRunner,
    )

    each: Any = task(noop)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=CONCURRENCY))
    def run() -> None:
        for future in [each.submit() for _ in range(count)]:
            future.result()

    while True:
        yield {"seconds": time_once(run)}
