"""
What durable tasks are compared with: SQLite alone, huey and DBOS.

Each is a generator function that runs in a process of its own and yields the seconds
that it took, sample by sample, on a file that grows from one sample to the next.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import count as numbers, islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._timing import time_calls, time_once
from benchmarks._workloads import CONCURRENCY, noop

Row = tuple[int, str, int, str, str, str | None]

ROWS = 3
"""Rows of a task: that it was submitted, that it started, that it completed."""

_TABLES = """
    CREATE TABLE facts (
        seq     INTEGER PRIMARY KEY,
        kind    TEXT NOT NULL,
        at_ns   INTEGER NOT NULL,
        task_id TEXT,
        body    TEXT NOT NULL,
        doc     TEXT
    );
    CREATE INDEX facts_by_task ON facts (task_id) WHERE task_id IS NOT NULL;
"""
_INSERT = "INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?)"
_BEGAN_NS = 1_790_000_000_000_000_000
_DOCUMENT = (
    '{"$Task":{"type":"noop","payload":{"$Call":{"fn":{"$import":'
    '"benchmarks._workloads:noop"},"kwargs":{}}}}}'
)


def _rows(task: int) -> Iterator[Row]:
    """The rows of a no-op: as many, and about as long, as those of a journal."""
    name, first, at = f"1cf5f69390-{task}", task * ROWS, _BEGAN_NS + task
    submitted = (
        f'[1,"{name}","noop",0,[],null,[],null,null,true,{at},null,null,null,false]'
    )
    started = f'[1,"{name}",1,"local",[],"the only candidate"]'
    yield first + 1, "TaskSubmitted", at, name, submitted, _DOCUMENT
    yield first + 2, "TaskStarted", at, name, started, None
    yield first + 3, "TaskCompleted", at, name, f'[1,"{name}",1,"local",538378]', None


def _write(db: sqlite3.Connection, groups: Sequence[Sequence[Row]]) -> None:
    """Insert the rows, a transaction for each group."""
    for rows in groups:
        db.execute("BEGIN IMMEDIATE")
        if len(rows) == 1:
            db.execute(_INSERT, rows[0])
        else:
            db.executemany(_INSERT, rows)
        db.execute("COMMIT")


def sqlite_alone(
    folder: str, name: str, count: int, group: int, durability: str = "power"
) -> Iterator[Mapping[str, float]]:
    """
    Time inserts, by a program that does nothing else; the rows are made before.

    Args:
        folder: Where the file lies.
        name: What the file is called.
        count: How many tasks are written in a sample, three rows each.
        group: How many rows are committed at once.
        durability: `"power"` syncs at each commit, `"process"` does not.
    """
    db = sqlite3.connect(Path(folder) / f"sqlite-{name}.db", isolation_level=None)
    db.executescript(_TABLES)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
    tasks = numbers()
    try:
        while True:
            rows = [row for task in islice(tasks, count) for row in _rows(task)]
            groups = [rows[at : at + group] for at in range(0, len(rows), group)]
            text = sum(len(row[4]) + len(row[5] or "") for row in rows)
            seconds = time_once(lambda groups=groups: _write(db, groups))
            yield {"seconds": seconds, "row": text / len(rows)}
    finally:
        db.close()


def huey_consumer(folder: str, count: int) -> Iterator[Mapping[str, float]]:
    """
    Time no-ops through huey: submit them, start the consumer, take every result.

    The consumer runs in this process, with as many threads as we run tasks at once.
    Everything that has to do with durability is as huey has it by default. Its polls
    are not: the default waits of up to 10 s for a task and 1 s for a result would be
    measured in place of the work. Reading a result leaves it there, which saves huey a
    write.
    """
    from huey import SqliteHuey  # pyright: ignore[reportMissingImports]
    from huey.consumer import Consumer  # pyright: ignore[reportMissingImports]

    queue: Any = SqliteHuey(
        "benchmark", filename=str(Path(folder) / "huey.db"), store_none=True
    )
    submit = queue.task()(noop)
    ((level,),) = queue.storage.sql("PRAGMA synchronous", results=True)
    while True:
        consumer = Consumer(
            queue,
            workers=CONCURRENCY,
            periodic=False,
            initial_delay=0.01,
            max_delay=0.01,
        )

        def run(consumer: Consumer = consumer) -> None:
            results = [submit() for _ in range(count)]
            consumer.start()
            for result in results:
                result.get(blocking=True, max_delay=0.01, preserve=True)

        seconds = time_once(run)
        consumer.stop(graceful=True)
        yield {"seconds": seconds, "synchronous": level}


def dbos_functions(
    folder: str, count: int, as_steps: bool
) -> Iterator[Mapping[str, float]]:
    """
    Time no-ops through DBOS: each a workflow of its own, or all as steps of one.

    They are called one after another. Of the ways to run workflows that was the fastest:
    `start_workflow`, a queue, and calls from threads or coroutines all took longer.
    """
    from dbos import DBOS  # pyright: ignore[reportMissingImports]

    DBOS(
        config={
            "name": "benchmark",
            "system_database_url": f"sqlite:///{folder}/dbos-{int(as_steps)}.db",
            "log_level": "ERROR",
        }
    )
    if as_steps:
        step = DBOS.step()(noop)

        @DBOS.workflow()
        def run() -> None:
            for _ in range(count):
                step()

    else:
        workflow = DBOS.workflow()(noop)

        def run() -> None:
            for _ in range(count):
                workflow()

    DBOS.launch()
    try:
        while True:
            yield {"seconds": time_once(run)}
    finally:
        DBOS.destroy()


def sync_seconds(folder: Path) -> float:
    """What the disk takes to sync one page, in seconds: the median of some."""
    file = os.open(folder / "sync", os.O_CREAT | os.O_WRONLY)
    try:

        def sync() -> None:
            os.pwrite(file, bytes(4096), 0)
            os.fsync(file)

        return median(time_calls(sync, 50))
    finally:
        os.close(file)
