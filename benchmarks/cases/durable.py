"""Tasks that survive the process: how many a second, and how soon they are back."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Literal, Self

from benchmarks._durable_peers import (
    ROWS,
    dbos_functions,
    huey_consumer,
    sqlite_alone,
    sync_seconds,
)
from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._isolated import Child, once
from benchmarks._memory import peak_bytes
from benchmarks._registry import Run, case
from benchmarks._timing import time_once
from benchmarks._workflow_peers import layered
from benchmarks._workloads import CONCURRENCY, noop
from benchmarks.cases.throughput import one_by_one, through_map
from benchmarks.cases.workflows import GRAPH, workflow_of
from taskorch import Task, TaskOrchestrator
from taskorch.api.journal import SqliteJournal

Durability = Literal["power", "process"]

OURS = "taskorch"
SQLITE = "SQLite"
MAP = "durable map"
A_COMMIT_A_TASK = "SQLite, a commit a task"
HUEY = "huey"
WORKFLOWS = "DBOS, workflows"
STEPS = "DBOS, steps of one workflow"

_GROUP = 1_000
"""Tasks that SQLite alone commits at once."""

_COROUTINES = 100
_SLICE = 20_000
"""Tasks that are submitted as one batch while a journal is filled."""

_BUILD = Path(__file__).resolve().parents[2] / "build"


# -- durable no-ops, each way in a process of its own ----------------------------------


def as_one_batch(folder: str, count: int) -> Iterator[Mapping[str, float]]:
    """Time no-ops through `submit_tasks`, of tasks made before."""
    ready = [Task.call(noop) for _ in range(count)]

    def run(orch: TaskOrchestrator) -> None:
        for handle in orch.submit_tasks(ready):
            handle.result()

    yield from _timed(Path(folder) / "batch.db", run)


def by_map(folder: str, count: int) -> Iterator[Mapping[str, float]]:
    """Time a range through `map`."""
    yield from _timed(Path(folder) / "map.db", lambda orch: through_map(orch, count))


def by_workflow(folder: str, count: int) -> Iterator[Mapping[str, float]]:
    """Time a layered graph as a workflow, built before."""
    made = workflow_of(layered(count), edges=True)

    def run(orch: TaskOrchestrator) -> None:
        orch.workflows.start(made).result()

    yield from _timed(Path(folder) / "workflow.db", run)


def by_one_thread(
    folder: str, count: int, durability: Durability = "power"
) -> Iterator[Mapping[str, float]]:
    """Time no-ops that one thread submits, one after another."""
    path = Path(folder) / f"thread-{durability}.db"
    yield from _timed(path, lambda orch: one_by_one(orch, count), durability)


def _timed(
    path: Path,
    run: Callable[[TaskOrchestrator], None],
    durability: Durability = "power",
) -> Iterator[Mapping[str, float]]:
    """Call `run` again and again, on a journal that stays open and grows."""
    journal = SqliteJournal(path, durability=durability)
    with TaskOrchestrator(journal=journal, concurrency=CONCURRENCY) as orch:
        while True:
            seconds = time_once(lambda: run(orch))
            yield {"seconds": seconds, "row": _row_length(path)}


def by_coroutines(folder: str, count: int) -> Iterator[Mapping[str, float]]:
    """Time no-ops that coroutines submit, each awaiting the result before its next."""

    async def share(orch: TaskOrchestrator) -> None:
        for _ in range(count // _COROUTINES):
            await (await orch.aio.submit(noop))

    async def run(orch: TaskOrchestrator) -> None:
        await asyncio.gather(*[share(orch) for _ in range(_COROUTINES)])

    async def enter() -> TaskOrchestrator:
        path = f"{folder}/coroutines.db"
        orch = TaskOrchestrator(journal=path, concurrency=CONCURRENCY)
        return await orch.__aenter__()

    with asyncio.Runner() as runner:
        orch = runner.run(enter())
        try:
            while True:
                yield {"seconds": time_once(lambda: runner.run(run(orch)))}
        finally:
            runner.run(orch.__aexit__(None, None, None))


def _row_length(path: Path) -> float:
    """How much text the latest rows of a journal hold, on average."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        ((length,),) = db.execute(
            "SELECT avg(length(body) + coalesce(length(doc), 0)) FROM"
            " (SELECT body, doc FROM facts ORDER BY seq DESC LIMIT 60000)"
        )
        return float(length)
    finally:
        db.close()


class _Contest:
    """Contestants that take turns, each in its process and with its number of tasks."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._children: dict[str, tuple[Child, int]] = {}
        self.latest: dict[str, dict[str, float]] = {}

    def __enter__(self) -> Self:
        """Give the contest to a `with` block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Let the processes end."""
        self._stack.close()

    def add(self, name: str, child: Child, count: int) -> None:
        """Add a contestant that does `count` tasks in a sample."""
        self._children[name] = (self._stack.enter_context(child), count)

    def rates(self, rounds: int) -> dict[str, Samples]:
        """Tasks a second, round by round, after one round of warming up."""
        taken: dict[str, list[float]] = {name: [] for name in self._children}
        for number in range(rounds + 1):
            for name, (child, count) in self._children.items():
                sample = self.latest[name] = child.sample()
                if number:
                    taken[name].append(count / sample["seconds"])
        return {
            name: Samples.of(rates, Unit.PER_SECOND) for name, rates in taken.items()
        }


@contextmanager
def _folder() -> Iterator[str]:
    """A folder on the disk of this project: the temporary ones may be in memory."""
    _BUILD.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="durable-", dir=_BUILD) as name:
        yield name


def _peers(rates: Mapping[str, Samples]) -> dict[str, Samples]:
    return {name: rate for name, rate in rates.items() if name != OURS}


# -- throughput ------------------------------------------------------------------------


def _in_groups(what: str, name: str, run: Run) -> Row:
    """A way of submitting many at once, beside SQLite with large groups."""
    count = run.size(20_000, quick=2_000)
    ours = {"batch": as_one_batch, "map": by_map}[name]
    with _folder() as folder, _Contest() as contest:
        contest.add(OURS, Child(ours, folder=folder, count=count), count)
        theirs = Child(
            sqlite_alone, folder=folder, name=name, count=count, group=ROWS * _GROUP
        )
        contest.add(SQLITE, theirs, count)
        rates = contest.rates(run.pairs)
        text = {who: contest.latest[who]["row"] for who in rates}
    return Row(
        what=what,
        ours=rates[OURS],
        peers=_peers(rates),
        measured=rates[OURS].over(rates[SQLITE]),
        goal=Goal.no_less(0.5, aim=0.8),
        note=f"until every result is there, {count:,} tasks, {run.pairs} rounds; "
        f"SQLite: {ROWS} rows a task, {_GROUP:,} tasks a commit, {text[SQLITE]:.0f} B of "
        f"text a row (ours: {text[OURS]:.0f}); measured: ratio of speeds to SQLite",
    )


@case("durable")
def throughput(run: Run) -> Iterator[Row]:
    """Durable no-ops in batches, one by one and from coroutines, beside SQLite alone."""
    yield _in_groups("durable submit_tasks", "batch", run)
    yield _in_groups("durable map", "map", run)
    yield _as_workflow(run)
    yield _one_by_one(run, "power", "durable, one by one")
    yield _one_by_one(run, "process", "the same, not synced")
    yield _from_coroutines(run)


def _as_workflow(run: Run) -> Row:
    count = run.size(20_000, quick=2_000)
    with _folder() as folder, _Contest() as contest:
        for name, way in ((OURS, by_workflow), (MAP, by_map)):
            contest.add(name, Child(way, folder=folder, count=count), count)
        rates = contest.rates(run.pairs)
    return Row(
        what="durable workflow",
        ours=rates[OURS],
        peers=_peers(rates),
        measured=rates[OURS].over(rates[MAP]),
        goal=Goal.no_less(0.6, aim=0.8),
        note=f"until every result is there, {count:,} tasks, {GRAPH}, built before, "
        f"{run.pairs} rounds; measured: ratio of speeds to a durable map of as many",
    )


def _commits(contest: _Contest, folder: str, count: int, durability: str) -> None:
    """Add SQLite with a commit for each row, and for the rows of each task."""
    for name, group in ((SQLITE, 1), (A_COMMIT_A_TASK, ROWS)):
        child = Child(
            sqlite_alone,
            folder=folder,
            name=f"{durability}-{group}",
            count=count,
            group=group,
            durability=durability,
        )
        contest.add(name, child, count)


def _one_by_one(run: Run, durability: Durability, what: str) -> Row:
    count = run.size(2_000, quick=500)
    few = run.size(500, quick=100)
    with _folder() as folder, _Contest() as contest:
        ours = Child(by_one_thread, folder=folder, count=count, durability=durability)
        contest.add(OURS, ours, count)
        _commits(contest, folder, few, durability)
        rates = contest.rates(run.pairs)
        sync = sync_seconds(Path(folder))
    is_synced = durability == "power"
    synced = f"a sync takes {Unit.SECONDS.write(sync)}" if is_synced else "no syncs"
    return Row(
        what=what,
        ours=rates[OURS],
        peers=_peers(rates),
        measured=rates[OURS].over(rates[SQLITE]),
        goal=Goal.no_less(0.5, aim=0.7) if is_synced else None,
        note=f"durability={durability!r}, {count:,} tasks, results at the end, "
        f"{run.pairs} rounds; SQLite: {ROWS} rows a task, a commit a row, {synced}; "
        "measured: ratio of speeds to that",
    )


def _from_coroutines(run: Run) -> Row:
    count = run.size(5_000, quick=500)
    few = run.size(500, quick=100)
    with _folder() as folder, _Contest() as contest:
        contest.add(OURS, Child(by_coroutines, folder=folder, count=count), count)
        _commits(contest, folder, few, "power")
        rates = contest.rates(run.pairs)
    return Row(
        what="durable, from coroutines",
        ours=rates[OURS],
        peers=_peers(rates),
        measured=rates[OURS].over(rates[SQLITE]),
        goal=Goal.no_less(5.0),
        note=f"{_COROUTINES} at once, each submits and awaits the result again and "
        f"again, {count:,} tasks, {run.pairs} rounds; SQLite: {ROWS} rows a task, a "
        "commit a row; measured: ratio of speeds to that",
    )


@case("durable-peers", needs=("dbos", "huey"))
def against_peers(run: Run) -> Iterator[Row]:
    """Durable no-ops in one batch, beside huey and DBOS on SQLite."""
    count = run.size(20_000, quick=2_000)
    tasks = run.size(2_000, quick=200)
    functions = run.size(300, quick=50)
    with _folder() as folder, _Contest() as contest:
        contest.add(OURS, Child(as_one_batch, folder=folder, count=count), count)
        contest.add(HUEY, Child(huey_consumer, folder=folder, count=tasks), tasks)
        for name, as_steps in ((WORKFLOWS, False), (STEPS, True)):
            theirs = Child(
                dbos_functions, folder=folder, count=functions, as_steps=as_steps
            )
            contest.add(name, theirs, functions)
        rates = contest.rates(run.pairs)
        level = contest.latest[HUEY]["synchronous"]
    yield Row(
        what="against huey",
        ours=rates[OURS],
        peers={HUEY: rates[HUEY]},
        measured=rates[OURS].over(rates[HUEY]),
        goal=Goal.no_less(20.0),
        note=f"submit_tasks, {count:,} tasks ({tasks:,}), {CONCURRENCY} at once, "
        f"{run.pairs} rounds; SqliteHuey and its consumer in one process, "
        f"synchronous={level:.0f}; measured: ratio of speeds to huey",
    )
    yield Row(
        what="against DBOS",
        ours=rates[OURS],
        peers={name: rates[name] for name in (WORKFLOWS, STEPS)},
        measured=rates[OURS].over(rates[WORKFLOWS]),
        goal=Goal.no_less(100.0),
        note=f"submit_tasks, {count:,} tasks ({functions:,}), {run.pairs} rounds; "
        "functions called one after another, as workflows and as steps; measured: "
        "ratio of speeds to workflows, and to steps "
        f"{rates[OURS].over(rates[STEPS]).write()}",
    )


# -- opening ---------------------------------------------------------------------------


def filled(
    folder: str, finished: int, unfinished: int
) -> Iterator[Mapping[str, float]]:
    """
    Fill a journal, some tasks in each sample; then end as if killed.

    What stays unfinished may not start for a long time.
    """
    orch = _open(folder)
    try:
        later = datetime.now(UTC) + timedelta(days=365)
        waiting = [Task.call(noop, not_before=later) for _ in range(unfinished)]
        orch.submit_tasks(waiting)
        done = 0
        while done < finished:
            some = [Task.call(noop) for _ in range(min(_SLICE, finished - done))]
            for handle in orch.submit_tasks(some):
                handle.result()
            done += len(some)
            yield {"finished": done}
    except GeneratorExit:
        os._exit(0)


def opened(folder: str) -> Iterator[Mapping[str, float]]:
    """Time the start of an orchestrator on that journal; then end as if killed."""
    began = perf_counter()
    orch = _open(folder)
    seconds = perf_counter() - began
    peak = peak_bytes()
    try:
        waiting = orch.get_stats().state_machine.pending
        yield {"seconds": seconds, "peak": peak, "waiting": waiting}
    except GeneratorExit:
        os._exit(0)


def _open(folder: str) -> TaskOrchestrator:
    orch = TaskOrchestrator(journal=f"{folder}/runs.db", concurrency=CONCURRENCY)
    orch.start()
    return orch


def _opened_copy(folder: str) -> dict[str, float]:
    """Take a sample on a copy, because a start writes and may shorten the next one."""
    with _folder() as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        return once(opened, folder=copy)


@case("durable-start")
def opening(run: Run) -> Iterator[Row]:
    """The start on a journal of many finished tasks and some unfinished ones."""
    finished = run.size(1_000_000, quick=20_000)
    unfinished = run.size(10_000, quick=200)
    with _folder() as folder, _folder() as empty:
        began = perf_counter()
        with Child(
            filled, folder=folder, finished=finished, unfinished=unfinished
        ) as child:
            while child.sample()["finished"] < finished:
                pass
        filling = perf_counter() - began
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        samples = [_opened_copy(folder) for _ in range(3)]
        nothing = once(opened, folder=empty)
    found = {sample["waiting"] for sample in samples}
    if found != {unfinished}:
        raise RuntimeError(f"{unfinished} tasks were to wait, and {found} do")
    note = (
        f"{finished:,} finished and {unfinished:,} unfinished tasks, {size / 1e6:,.0f} MB"
        f" (filled in {filling:.0f} s, then killed), a fresh process and a fresh copy for"
        f" each of {len(samples)} samples"
    )
    seconds = Samples.of((sample["seconds"] for sample in samples), Unit.SECONDS)
    yield Row(
        what="start on a long journal",
        ours=seconds,
        goal=Goal.no_more(5.0, Unit.SECONDS),
        note=f"{note}; an empty one: {Unit.SECONDS.write(nothing['seconds'])}",
    )
    peak = Samples.of(
        ((sample["peak"] - nothing["peak"]) / 1e6 for sample in samples),
        Unit.MEGABYTES,
    )
    yield Row(
        what="memory at that start",
        ours=peak,
        goal=Goal.no_more(200.0, Unit.MEGABYTES),
        note="the peak of resident memory, above that of a process that starts on an "
        "empty journal",
    )
