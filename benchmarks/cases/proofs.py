"""A journal that proves itself: what its chain costs, and how soon it is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._isolated import Child, once
from benchmarks._registry import Run, case
from benchmarks._timing import time_once
from benchmarks._workloads import CONCURRENCY
from benchmarks.cases.durable import _Contest, _folder, filled
from benchmarks.cases.throughput import one_by_one, through_map
from taskorch import TaskOrchestrator
from taskorch.api.journal import SqliteJournal
from taskorch.core.journal._chain import ChainStart
from taskorch.core.journal._reader import GroupRow
from taskorch.ext.proofs import make_checkpoint, make_key, verify

CHAINED = "with a chain"
UNCHAINED = "without"
EVENTS_OF_A_TASK = 3


class UnchainedJournal(SqliteJournal):
    """A journal as it would be without a chain."""

    def _set_start(self, start: ChainStart | None, latest: GroupRow) -> None:
        super()._set_start(None, latest)


def by_map(folder: str, kind: str, count: int) -> Iterator[Mapping[str, float]]:
    """Time a range through `map`, durable."""
    yield from _timed(folder, kind, lambda orch: through_map(orch, count))


def by_one_thread(folder: str, kind: str, count: int) -> Iterator[Mapping[str, float]]:
    """Time no-ops that one thread submits, one after another, durable."""
    yield from _timed(folder, kind, lambda orch: one_by_one(orch, count))


def _timed(
    folder: str, kind: str, run: Callable[[TaskOrchestrator], None]
) -> Iterator[Mapping[str, float]]:
    cls = SqliteJournal if kind == CHAINED else UnchainedJournal
    path = Path(folder) / f"{kind}.db"
    with TaskOrchestrator(journal=cls(path), concurrency=CONCURRENCY) as orch:
        while True:
            yield {"seconds": time_once(lambda: run(orch))}


def checked(folder: str) -> Iterator[Mapping[str, float]]:
    """Time checks of the journal: by the chain alone, and against a checkpoint."""
    journal, anchor = f"{folder}/runs.db", f"{folder}/runs.anchor"
    key = f"{folder}/audit.key"
    make_key(key)
    make_checkpoint(journal, key, to=[anchor])
    while True:
        began = perf_counter()
        result = verify(journal)
        alone = perf_counter() - began
        began = perf_counter()
        compared = verify(journal, [anchor], trust=[f"{key}.pub"])
        against = perf_counter() - began
        if not (result.ok and compared.compared == 1):
            raise RuntimeError(str(compared))
        yield {"alone": alone, "against": against, "events": result.last}


@case("proofs")
def proofs(run: Run) -> Iterator[Row]:
    """The chain of a journal by turns with none, and the check of a million events."""
    many, few = run.size(20_000, quick=2_000), run.size(2_000, quick=500)
    for what, way, count in (
        ("durable map, chained", by_map, many),
        ("durable, one by one, chained", by_one_thread, few),
    ):
        with _folder() as folder, _Contest() as contest:
            for kind in (CHAINED, UNCHAINED):
                child = Child(way, folder=folder, kind=kind, count=count)
                contest.add(kind, child, count)
            rates = contest.rates(run.pairs)
        yield Row(
            what=what,
            ours=rates[CHAINED],
            peers={UNCHAINED: rates[UNCHAINED]},
            measured=rates[CHAINED].over(rates[UNCHAINED]),
            goal=Goal.no_less(0.92, aim=0.95),
            note=f"until every result is there, {count:,} tasks, {run.pairs} rounds by "
            "turns; measured: ratio of speeds to a journal without hashes",
        )
    tasks = run.size(1_000_000, quick=15_000) // EVENTS_OF_A_TASK
    with _folder() as folder:
        with Child(filled, folder=folder, finished=tasks, unfinished=0) as child:
            while child.sample()["finished"] < tasks:
                pass
        samples = [once(checked, folder=folder)]
    events = int(samples[0]["events"])
    for what, name in (
        ("verify a million events", "alone"),
        ("verify them, with a checkpoint", "against"),
    ):
        yield Row(
            what=what,
            ours=Samples.of((each[name] for each in samples), Unit.SECONDS),
            goal=Goal.no_more(10.0, Unit.SECONDS, aim=3.0),
            note=f"{events:,} events of {tasks:,} tasks, one process",
        )
