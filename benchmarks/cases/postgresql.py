"""Tasks that are kept in PostgreSQL: how many a second, and how soon another has them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing

from tests.house import postgres

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._isolated import Child
from benchmarks._registry import Run, case
from benchmarks._timing import time_once
from benchmarks._workloads import CONCURRENCY, noop
from taskorch import PostgresJournal, Task, TaskOrchestrator

_LEASE = 1.0
_FACTS = """
    SELECT pg_current_wal_lsn() - '0/0', pg_total_relation_size('taskorch.facts')
    + pg_total_relation_size('taskorch.groups'), (SELECT count(*) FROM taskorch.groups)
"""


def _lacks() -> tuple[str, ...]:
    lacking = postgres.missing()
    return () if lacking is None else ("a PostgreSQL server",)


def as_one_batch(address: str, count: int) -> Iterator[Mapping[str, float]]:
    """Time no-ops through `submit_tasks`, of tasks made before."""
    with TaskOrchestrator(journal=address, concurrency=CONCURRENCY) as orch:
        while True:
            ready = [Task.call(noop) for _ in range(count)]

            def run(ready: list[Task] = ready) -> None:
                for handle in orch.submit_tasks(ready):
                    handle.result()

            began = time.process_time()
            seconds = time_once(run)
            yield {"seconds": seconds, "own": time.process_time() - began}


def one_by_one(address: str, count: int) -> Iterator[Mapping[str, float]]:
    """Time no-ops, of which each is submitted when the one before has ended."""
    with TaskOrchestrator(journal=address, concurrency=CONCURRENCY) as orch:
        while True:

            def run() -> None:
                for _ in range(count):
                    orch.submit(noop).result()

            began = time.process_time()
            seconds = time_once(run)
            yield {"seconds": seconds, "own": time.process_time() - began}


def owner(address: str) -> Iterator[Mapping[str, float]]:
    """Own the journal, and run what does not end."""
    orch = TaskOrchestrator(journal=PostgresJournal(address, lease=_LEASE))
    orch.start()
    orch.submit_task(Task.call(time.sleep, 3600, id="long"))
    try:
        yield {"pid": os.getpid()}
    except GeneratorExit:
        os._exit(0)


def standby(address: str) -> Iterator[Mapping[str, float]]:
    """Wait for the journal; when the first attempt has begun there, by the clock."""
    journal = PostgresJournal(address, lease=_LEASE, standby=True)
    orch = TaskOrchestrator(journal=journal)
    begun = threading.Event()

    def note(_event: object) -> None:
        begun.set()

    orch.signals.task_started.connect(note)
    orch.start()
    begun.wait()
    try:
        yield {"at": time.monotonic()}
    except GeneratorExit:
        os._exit(0)


@case("postgresql", needs=("psycopg",), lacks=_lacks)
def on_a_server(run: Run) -> Iterator[Row]:
    """Durable no-ops on a server of this machine, and takeovers of its journal."""
    with closing(postgres.new_server(shared_buffers="128MB")) as server:
        yield _batches(server, run)
        yield _one_by_one(server, run)
        yield _takeovers(server, run)


def _measured(
    server: postgres.Server,
    run: Run,
    program: Callable[..., Iterator[Mapping[str, float]]],
    count: int,
) -> tuple[Samples, str, float]:
    """Rates of *program*, which does *count* tasks; what one costs, and its commits."""
    rates, own = [], []
    with Child(program, address=server.address(), count=count) as child:
        child.sample()
        before = server.run(_FACTS)[0]
        for _ in range(run.pairs):
            sample = child.sample()
            rates.append(count / sample["seconds"])
            own.append(sample["own"])
        after = server.run(_FACTS)[0]
    tasks = count * run.pairs
    log, table, commits = (
        float(b - a) / tasks for a, b in zip(before, after, strict=True)
    )
    costs = (
        f"{sum(own) / tasks * 1e6:.0f} µs of our processor, {log:,.0f} B of the server's "
        f"log, {table:,.0f} B of table and indexes"
    )
    return Samples.of(rates, Unit.PER_SECOND), costs, commits


def _batches(server: postgres.Server, run: Run) -> Row:
    count = run.size(20_000, quick=2_000)
    speed, costs, commits = _measured(server, run, as_one_batch, count)
    return Row(
        what="durable submit_tasks on PostgreSQL",
        ours=speed,
        goal=Goal(3_000, Unit.PER_SECOND, at_least=True, aim=10_000),
        note=f"until every result is there, {count:,} tasks, {run.pairs} rounds; a task: "
        f"{costs}, {commits:.4f} commits",
    )


def _one_by_one(server: postgres.Server, run: Run) -> Row:
    count = run.size(300, quick=50)
    speed, costs, commits = _measured(server, run, one_by_one, count)
    return Row(
        what="the same, each after the one before",
        ours=speed,
        measured=speed,
        note=f"submit and result, {count:,} tasks, {run.pairs} rounds; a task: "
        f"{costs}, {commits:.1f} commits",
    )


def _takeovers(server: postgres.Server, run: Run) -> Row:
    taken = [_takeover(server.address()) for _ in range(run.pairs)]
    seconds = Samples.of(taken, Unit.SECONDS)
    return Row(
        what="takeover from an owner that stopped",
        ours=seconds,
        goal=Goal.no_more(_LEASE + 1.0, Unit.SECONDS, aim=_LEASE + 0.1),
        note=f"lease {_LEASE:g} s; from SIGSTOP of the owner to the first attempt that "
        "begins on the other",
    )


def _takeover(address: str) -> float:
    stopped = []
    with (
        Child(owner, address=address) as first,
        Child(standby, address=address) as other,
    ):
        pid = int(first.sample()["pid"])

        def stop() -> None:
            os.kill(pid, signal.SIGSTOP)
            stopped.append(time.monotonic())

        timer = threading.Timer(2 * _LEASE, stop)
        timer.start()
        try:
            return other.sample()["at"] - stopped[0]
        finally:
            timer.cancel()
            os.kill(pid, signal.SIGKILL)
