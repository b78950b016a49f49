"""A journal that is long, and a graph that is large: what they cost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE

from taskorch import Task, TaskOrchestrator
from taskorch.api.journal import SqliteJournal
from taskorch.core.engine import _committer


def live(path: Path, rounds: int) -> None:
    """Much is done, and little of it is left in memory."""
    with TaskOrchestrator(journal=path, keep_finished=5) as orch:
        for _ in range(rounds):
            orch.map(len, ["x"] * 500)
            assert orch.wait(PATIENCE)
    # A snapshot comes after so many events, and then nothing does.
    with TaskOrchestrator(journal=path, keep_finished=5) as orch:
        orch.submit_task(Task.call(len, "x", not_before=3_600))
        orch.stop(drain=False)


def test_opening_takes_as_long_as_what_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a history eight times as long no more is read, since there is a snapshot."""
    monkeypatch.setattr(_committer, "_SNAPSHOT_EVENTS", 500)
    read: list[Any] = []

    def counted(method: str) -> Any:
        really = getattr(SqliteJournal, method)

        def read_and_count(self: Any, *args: Any, **options: Any) -> Iterator[Any]:
            for entry in really(self, *args, **options):
                read.append(entry)
                yield entry

        return read_and_count

    counts = []
    for rounds in (2, 16):
        path = tmp_path / f"{rounds}.db"
        live(path, rounds)
        with pytest.MonkeyPatch.context() as patch:
            for method in ("read", "select"):
                patch.setattr(SqliteJournal, method, counted(method))
            read.clear()
            with TaskOrchestrator(journal=path) as orch:
                counts.append(len(read))
                orch.stop(drain=False)
    few, many = counts
    assert few > 0
    # What came since the latest snapshot may be as much as is between two.
    assert many < few + 1_500 < 16 * 500 * 3 / 4


#: What 50,000 tasks that wait for one cost, and what they leave when they are over.
SCRIPT = """
import gc, json, os
from taskorch import Task, TaskOrchestrator

def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

count = 50_000
with TaskOrchestrator(concurrency=2, keep_finished=100) as orch:
    orch.submit(int).result()
    gc.collect()
    before = memory()
    first = orch.submit_task(Task.call(int, id="first", not_before=3_600))
    handles = [orch.submit_task(Task.call(len, "x", after=[first])) for _ in range(count)]
    waiting = (memory() - before) / count
    del handles
    orch.cancel_task("first")
    orch.stop(drain=False)
print(json.dumps(waiting))
"""


@pytest.mark.slow("a million tasks")
@pytest.mark.skipif(sys.platform != "linux", reason="it asks /proc")
def test_a_task_that_waits_takes_little_memory() -> None:
    """Of a million, a few gigabytes: so much is said of each."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    assert 0 < json.loads(done.stdout) < 4_096
