"""What the import of taskorch costs a program, and what a first task costs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from benchmarks._figures import ASYNCIO, THREADS, Goal, Row, Samples, Unit
from benchmarks._registry import Run, case

_FIRST = """
from taskorch import TaskOrchestrator
with TaskOrchestrator() as orch:
    orch.submit(pow, 2, 10).result()
"""
_STATEMENTS = {
    "taskorch": "from taskorch import TaskOrchestrator",
    "first": _FIRST,
    THREADS: "from concurrent.futures import ThreadPoolExecutor",
    ASYNCIO: "import asyncio",
}
_PROGRAM = """
from time import perf_counter
began = perf_counter()
{statement}
print(perf_counter() - began)
"""


def _seconds(statement: str) -> float:
    """Run the statement in a fresh interpreter and take its time there."""
    # Users have their modules compiled: that is what is measured, whatever is set here.
    unset = "PYTHONDONTWRITEBYTECODE"
    env = {name: value for name, value in os.environ.items() if name != unset}
    answer = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(statement=statement)],
        check=True,
        env=env,
        capture_output=True,
        text=True,
    )
    return float(answer.stdout)


@case("import")
def import_time(run: Run) -> Iterator[Row]:
    """The time of the import in a fresh interpreter, alone and with a first task."""
    taken: dict[str, list[float]] = {name: [] for name in _STATEMENTS}
    for _ in range(run.pairs + 1):
        for name, statement in _STATEMENTS.items():
            taken[name].append(_seconds(statement))
    figures = {
        name: Samples.of(seconds[1:], Unit.SECONDS) for name, seconds in taken.items()
    }
    ours, first = figures.pop("taskorch"), figures.pop("first")
    note = (
        f"{run.pairs} fresh interpreters each, files cached; measured: ratio of times"
    )
    yield Row(
        what="import",
        ours=ours,
        peers=figures,
        measured=ours.over(figures[ASYNCIO]),
        goal=Goal.no_more(1.5, aim=1.2),
        note=f"{note} to import asyncio",
    )
    yield Row(
        what="import, and a first task",
        ours=first,
        peers=figures,
        measured=first.over(figures[ASYNCIO]),
        note=f"{note} to import asyncio; an orchestrator is started and stopped",
    )
