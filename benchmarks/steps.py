"""
Three durable steps of a task on SQLite, beside a bare commit each: `python -m benchmarks.steps`.

Both wait for the disk at each commit; they take turns, and the median of each is shown.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from taskorch import TaskOrchestrator, current_context
from taskorch.api.journal import SqliteJournal

_BUILD = Path(__file__).resolve().parents[1] / "build"
_TIMES = 200


def ours(path: Path) -> list[float]:
    """Seconds of three steps of one task, again and again."""
    times: list[float] = []

    with TaskOrchestrator(journal=SqliteJournal(path, durability="power")) as orch:
        orch.submit(_three_steps).result()
        times += _measured
        _measured.clear()
    return times


_measured: list[float] = []


def _three_steps() -> None:
    context = current_context()
    for _ in range(_TIMES):
        began = perf_counter()
        for name in ("charge", "book", "mail"):
            context.step(name, _nothing, 1)
        _measured.append(perf_counter() - began)


def _nothing(value: int) -> int:
    return value


def bare(path: Path) -> list[float]:
    """Seconds of three commits of a row of like size."""
    times: list[float] = []
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE facts (seq INTEGER PRIMARY KEY, body TEXT)")
    for _ in range(_TIMES):
        began = perf_counter()
        for _ in range(3):
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO facts (body) VALUES (?)", ("x" * 250,))
            db.execute("COMMIT")
        times.append(perf_counter() - began)
    db.close()
    return times


def main() -> None:
    _BUILD.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=_BUILD) as folder:
        for turn in range(3):
            commits = 1_000 * median(bare(Path(folder, f"bare-{turn}.db")))
            steps = 1_000 * median(ours(Path(folder, f"runs-{turn}.db")))
            print(
                f"three steps {steps:.2f} ms, three commits {commits:.2f} ms: ", end=""
            )
            print(f"{steps / commits:.2f} times as long")


if __name__ == "__main__":
    main()
