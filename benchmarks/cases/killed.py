"""A program that is killed every 200 ms while tasks wait in its journal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

from benchmarks._figures import Row, Samples, Unit
from benchmarks._isolated import Child
from benchmarks._registry import Run, case
from taskorch import Task, TaskOrchestrator, current_context

_BUILD = Path(__file__).resolve().parents[2] / "build"
_SLICE = 20_000
"""Tasks that are submitted as one batch."""
_ALIVE = 0.2
"""Seconds that a program has from its first task on."""
_SLOTS = 8
_TO_THE_END = 100_000
"""Up to so many tasks, a last life carries all of them out, and they are counted."""
_PATIENCE = 600.0
_LINES = f"import sys, {__name__} as case; case.live(sys.argv[1])"
_PROGRAM = (sys.executable, "-c", _LINES)
"""What carries the tasks out: a folder is its argument."""


def note(ledger: str) -> None:
    """Write into a file outside of the journal that this task ran."""
    with Path(ledger).open("a", encoding="utf-8") as file:
        file.write(f"{current_context().task_id}\n")


def filled(folder: str, count: int) -> Iterator[Mapping[str, float]]:
    """Submit tasks that nobody begins yet."""
    orch = TaskOrchestrator(journal=f"{folder}/runs.db")
    for start in range(0, count, _SLICE):
        orch.submit_tasks(
            Task.call(note, f"{folder}/ledger", id=f"t{number}")
            for number in range(start, min(count, start + _SLICE))
        )
        yield {"submitted": min(count, start + _SLICE)}
    orch.stop(drain=False)
    while True:
        yield {"submitted": count}


def live(folder: str) -> None:
    """Carry out what waits, until nothing does."""
    with TaskOrchestrator(journal=f"{folder}/runs.db", concurrency=_SLOTS) as orch:
        orch.wait()


def _ran(folder: str) -> list[str]:
    ledger = Path(folder, "ledger")
    return ledger.read_text(encoding="utf-8").split() if ledger.exists() else []


def _killed(folder: str) -> tuple[float, bool]:
    """
    Start a program, and kill it 200 ms after its first task.

    Returns:
        Seconds from its start to that task, and whether there was none any more.
    """
    ledger = Path(folder, "ledger")
    before = ledger.stat().st_size if ledger.exists() else 0
    began = perf_counter()
    program = subprocess.Popen([*_PROGRAM, folder])
    try:
        while not ledger.exists() or ledger.stat().st_size == before:
            if program.poll() is not None or perf_counter() - began > _PATIENCE:
                return perf_counter() - began, True
            sleep(0.002)
        seconds = perf_counter() - began
        sleep(_ALIVE)
        return seconds, False
    finally:
        program.kill()
        program.wait()


@case("killed-often")
def killed_often(run: Run) -> Iterator[Row]:
    """A program that is killed every 200 ms, with a backlog in its journal."""
    _BUILD.mkdir(exist_ok=True)
    kills = run.size(10, quick=2)
    for many in (1_000, 10_000, 100_000, 1_000_000):
        if many > run.size(1_000_000, quick=1_000):
            return
        with TemporaryDirectory(dir=_BUILD) as folder:
            with Child(filled, folder=folder, count=many) as child:
                while child.sample()["submitted"] < many:
                    pass
                child.sample()
            yield _row(folder, many, kills)


def _row(folder: str, many: int, kills: int) -> Row:
    incarnations: list[float] = []
    for _ in range(kills):
        seconds, has_ended = _killed(folder)
        if has_ended:
            break
        incarnations.append(seconds)
    ran = _ran(folder)
    done = len(set(ran))
    words = f"{done:,} tasks in {len(incarnations)} lives of 200 ms"
    if many <= _TO_THE_END:
        subprocess.run([*_PROGRAM, folder], check=True)
        ran = _ran(folder)
        lost = many - len(set(ran))
        if lost:
            raise RuntimeError(f"{lost} of {many} tasks were lost")
        words += (
            f", and the others in one to the end: lost 0, begun again {len(ran) - many}"
        )
    else:
        words += f", begun again {len(ran) - done}"
    return Row(
        what=f"from the start of a program that was killed to its next task, {many:,} waiting",
        ours=Samples.of(incarnations, Unit.SECONDS),
        note=f"SQLite, power durability, {_SLOTS} slots; {words}",
    )
