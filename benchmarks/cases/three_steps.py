"""A durable workflow of three steps, from its submission to its result, beside DBOS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.house import postgres

from benchmarks._figures import Goal, Row, Samples, Unit
from benchmarks._isolated import Child
from benchmarks._registry import Run, case
from benchmarks._timing import percentile, time_calls
from benchmarks._workloads import noop
from taskorch import TaskOrchestrator, current_context

_BUILD = Path(__file__).resolve().parents[2] / "build"
_STEPS = ("charge", "book", "mail")
_PERCENTS = (50, 99)


def three_steps() -> None:
    """The steps, each of which is kept before the next begins."""
    context = current_context()
    for name in _STEPS:
        context.step(name, noop)


def _percentiles(seconds: list[float]) -> Mapping[str, float]:
    return {f"p{each}": percentile(seconds, each) for each in _PERCENTS}


def ours(address: str, count: int) -> Iterator[Mapping[str, float]]:
    """Time tasks of three steps, one after the other."""
    with TaskOrchestrator(journal=address) as orch:
        while True:
            yield _percentiles(
                time_calls(lambda: orch.submit(three_steps).result(), count)
            )


def dbos(address: str, count: int) -> Iterator[Mapping[str, float]]:
    """Time workflows of DBOS with three steps, called one after the other."""
    from dbos import DBOS  # pyright: ignore[reportMissingImports]

    DBOS(
        config={
            "name": "benchmark",
            "system_database_url": address,
            "log_level": "ERROR",
        }
    )
    steps = [DBOS.step(name=name)(noop) for name in _STEPS]

    @DBOS.workflow()
    def run() -> None:
        for step in steps:
            step()

    DBOS.launch()
    try:
        while True:
            yield _percentiles(time_calls(run, count))
    finally:
        DBOS.destroy()


def _rows(where: str, run: Run, mine: str, theirs: str) -> Iterator[Row]:
    count = run.size(300, quick=30)
    with (
        Child(ours, address=mine, count=count) as first,
        Child(dbos, address=theirs, count=count) as other,
    ):
        for child in (first, other):
            child.sample()
        taken = [(first.sample(), other.sample()) for _ in range(run.pairs)]
    for percent in _PERCENTS:
        name = f"p{percent}"
        here, there = (
            Samples.of([pair[side][name] for pair in taken], Unit.SECONDS)
            for side in (0, 1)
        )
        yield Row(
            what=f"three durable steps on {where}, {name}",
            ours=here,
            peers={"DBOS": there},
            measured=here.over(there),
            goal=Goal.no_more(1.0, aim=0.5),
            note=f"from submission to result, {count:,} one after the other, {run.pairs} "
            "rounds; measured: ratio to DBOS",
        )


@case("steps-peers", needs=("dbos",))
def on_sqlite(run: Run) -> Iterator[Row]:
    """Durable workflows of three steps on SQLite, beside DBOS."""
    _BUILD.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=_BUILD) as folder:
        file = f"{folder}/ours.db"
        yield from _rows("SQLite", run, file, f"sqlite:///{folder}/dbos.db")


def _lacks() -> tuple[str, ...]:
    return () if postgres.missing() is None else ("a PostgreSQL server",)


@case("steps-postgresql", needs=("dbos", "psycopg"), lacks=_lacks)
def on_postgresql(run: Run) -> Iterator[Row]:
    """The same on a PostgreSQL server of this machine, beside DBOS."""
    with closing(postgres.new_server()) as server:
        server.run("CREATE DATABASE dbos")
        theirs = f"postgresql+psycopg://postgres@/dbos?host={server.folder}"
        yield from _rows("PostgreSQL", run, server.address(), theirs)
