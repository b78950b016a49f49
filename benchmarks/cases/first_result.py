"""What it costs a program to come to its first result."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from benchmarks._figures import THREADS, Goal, Row, Samples, Unit
from benchmarks._registry import Run, case

#: Each to its first result, from the start of the interpreter to its end.
_PROGRAMS: Final = {
    "taskorch": """
from taskorch import TaskOrchestrator
with TaskOrchestrator() as orch:
    orch.submit(pow, 2, 10).result()
""",
    THREADS: """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor() as pool:
    pool.submit(pow, 2, 10).result()
""",
}


def _processor_seconds(program: str) -> float:
    """Run the program in a fresh interpreter, and take its processor time."""
    # Users have their modules compiled: that is what is measured, whatever is set here.
    unset = "PYTHONDONTWRITEBYTECODE"
    env = {name: value for name, value in os.environ.items() if name != unset}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return user + system


@case("first_result")
def first_result(run: Run) -> Iterator[Row]:
    """Processor time from the start of the interpreter to a first result."""
    taken: dict[str, list[float]] = {name: [] for name in _PROGRAMS}
    for _ in range(run.pairs + 1):
        for name, program in _PROGRAMS.items():
            taken[name].append(_processor_seconds(program))
    figures = {name: Samples.of(each[1:], Unit.SECONDS) for name, each in taken.items()}
    ours = figures.pop("taskorch")
    yield Row(
        what="start of the interpreter to a first result",
        ours=ours,
        peers=figures,
        measured=ours,
        goal=Goal.no_more(0.15, Unit.SECONDS, aim=0.1),
        note=f"{run.pairs} fresh interpreters each, files cached; processor time",
    )
