"""Somebody reads the journal and does not end: its log grows, and that is said."""

import logging
import sqlite3
import time
from pathlib import Path

import pytest
from tests.api.tools import eventually
from tests.worlds.faults.tools import PATIENCE, Process, say

from taskorch import TaskOrchestrator
from taskorch.api.journal import SqliteJournal
from taskorch.core.journal import _file

HELD = 1_000_000


def read_on(path: Path) -> None:
    """In a process of its own: a reader that has looked, and does not let go."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN")
    say(db.execute("SELECT count(*) FROM facts").fetchone()[0])
    time.sleep(10 * PATIENCE)


def size_of_log(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


def test_a_reader_that_does_not_end_is_noticed_and_the_log_is_emptied_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Health and the log say how long it is and what to do; nobody has to write then."""
    monkeypatch.setattr(_file, "HELD_LOG", HELD)
    monkeypatch.setattr(_file, "LONG_LOG", 50)
    path = tmp_path / "journal.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit(len, "first").result(PATIENCE)
        with Process(read_on, path) as reader:
            assert int(reader.line() or 0) > 0
            while size_of_log(path) <= HELD:
                orch.submit(len, "x" * 50_000).result(PATIENCE)
            health = orch.health()
            assert health.status == "degraded"
            assert health.ready
            assert "end what reads it" in str(health)
            eventually(lambda: "end what reads it" in caplog.text)
            # It goes on meanwhile.
            assert orch.submit(len, "more").result(PATIENCE) == 4
        eventually(lambda: orch.health().status == "ok")
        assert size_of_log(path) <= HELD
        assert orch.submit(len, "after").result(PATIENCE) == 5
    assert [r.levelno for r in caplog.records if "log beside" in r.message] == [
        logging.ERROR
    ] * caplog.text.count("log beside")
    assert SqliteJournal(path).verify()
