"""There is no memory left: what is asked for is refused, and nothing is harmed."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Recorder, eventually
from tests.worlds.faults.tools import Process, say

from taskorch import Task, TaskOrchestrator
from taskorch.api.journal import SqliteJournal
from taskorch.core.engine import _committer
from taskorch.errors import JournalUnavailableError
from taskorch.protocols import Entry

MIB = 2**20
#: More than Python and SQLite have put by.
TEXT = "é" * (6 * MIB)


def addresses() -> int:
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def live_short_of_memory(path: Path) -> None:
    """In a process of its own: large tasks, in as little memory as that."""
    patience = _committer._COMMIT_TIMEOUT_S
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with TaskOrchestrator(journal=path, concurrency=2) as orch:
        orch.submit_task(Task.call(len, "x", id="first")).result(PATIENCE)
        eventually(orch._rt.is_quiet)
        for mib in range(0, 128, 16):
            limit = addresses() + mib * MIB
            # It is told soon that nobody knows.
            _committer._COMMIT_TIMEOUT_S = 0.1  # type: ignore[misc]
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
            task_id, outcome = f"big-{mib}", "accepted"
            try:
                orch.submit_task(Task.call(len, TEXT, id=task_id))
            except MemoryError:
                outcome = "refused"
            except JournalUnavailableError as error:
                outcome = error.outcome
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
            _committer._COMMIT_TIMEOUT_S = patience  # type: ignore[misc]
            eventually(lambda: orch.health().status == "ok", str(orch.health()))
            if outcome == "refused":
                # Nothing of it was done.
                assert task_id not in [status.task_id for status in orch.tasks()]
            again = orch.submit_task(Task.call(len, TEXT, id=task_id))
            assert again.result(PATIENCE) == len(TEXT)
            say(outcome)
    say("end")


@pytest.mark.slow("a process short of memory, at each size")
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="others do not limit addresses")
def test_what_there_is_no_memory_for_is_refused_and_the_journal_is_whole(
    tmp_path: Path,
) -> None:
    """The system gives no more addresses: at each size, and afterwards all is well."""
    path = tmp_path / "journal.db"
    with Process(live_short_of_memory, path) as process:
        outcomes = []
        while (said := process.line(60)) != "end":
            assert said, process.errors()
            outcomes.append(said)
        assert process.wait() == 0, process.errors()
    assert "refused" in outcomes
    assert SqliteJournal(path).verify()
    with TaskOrchestrator(journal=path) as orch:
        assert orch.handle("first").result() == 1
        assert orch.handle("big-112").result() == len(TEXT)


class Forgetful(SqliteJournal):
    """A journal of somebody else's, which needs more memory than there is."""

    tries = 0
    is_short = False

    def append(self, epoch: int, group: Sequence[Entry]) -> None:
        if self.is_short:
            self.tries += 1
            bytearray(1 << 62)
        super().append(epoch, group)


def test_a_commit_without_memory_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Health says so meanwhile, and what was submitted is done once there is some."""
    monkeypatch.setattr(_committer, "_COMMIT_TIMEOUT_S", 0.05)
    journal = Forgetful(tmp_path / "journal.db", durability="process")
    with TaskOrchestrator(journal=journal) as orch:
        recorder = Recorder(orch, "journal_degraded", "journal_restored")
        orch.submit(len, "x").result(PATIENCE)
        eventually(orch._rt.is_quiet)
        journal.is_short = True
        task = Task.call(len, "four", id="four")
        with pytest.raises(JournalUnavailableError, match="memory") as caught:
            orch.submit_task(task)
        assert caught.value.outcome == "unknown"
        health = orch.health()
        assert health.status == "degraded"
        assert not health.ready
        assert "no memory" in str(health)
        with pytest.raises(JournalUnavailableError) as caught:
            orch.submit(len, "five5")
        assert caught.value.outcome == "refused"
        eventually(lambda: journal.tries > 2)
        journal.is_short = False
        eventually(lambda: orch.health().status == "ok")
        assert orch.submit_task(task).result(PATIENCE) == 4
        recorder.wait_for(2)
        assert recorder.names() == ["JournalDegraded", "JournalRestored"]
    assert SqliteJournal(tmp_path / "journal.db").verify()


def test_a_snapshot_without_memory_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the next opening takes longer."""
    monkeypatch.setattr(_committer, "_SNAPSHOT_EVENTS", 0)
    monkeypatch.setattr(_committer, "_SNAPSHOT_SHARE", 0)
    asked: list[Any] = []

    def take(*args: Any) -> Any:
        asked.append(args)
        return bytearray(1 << 62)

    path = tmp_path / "journal.db"
    with TaskOrchestrator(journal=path) as orch:
        with monkeypatch.context() as patch:
            patch.setattr(_committer, "take_snapshot", take)
            assert orch.submit(len, "four").result(PATIENCE) == 4
            assert orch.wait(PATIENCE)
            assert asked
        assert orch.health().status == "ok"
    assert SqliteJournal(path).verify()
