"""The tables: a journal of an older layout becomes one of the present layout."""

import json
import math
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import pytest
from tests.unit.journal.tools import Flaky, edit, entries, fact, filled

from taskorch.errors import JournalError, JournalUnavailableError
from taskorch.events import (
    OrchestratorStarted,
    TaskCompleted,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.journal import SqliteJournal, _file
from taskorch.journal._layout import LAYOUT
from taskorch.model import Task
from taskorch.reading import JournalReader

#: What wrote layout 1, to the letter.
FIRST = (
    """
    CREATE TABLE facts (
        seq     INTEGER PRIMARY KEY,
        kind    TEXT NOT NULL,
        at_ns   INTEGER NOT NULL,
        task_id TEXT,
        body    TEXT NOT NULL,
        doc     TEXT
    ){strict}
    """,
    "CREATE INDEX facts_by_task ON facts (task_id) WHERE task_id IS NOT NULL",
    """
    CREATE TABLE groups (
        last  INTEGER PRIMARY KEY,
        first INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        crc   INTEGER NOT NULL
    ){strict}
    """,
    """
    CREATE TABLE meta (
        id      INTEGER PRIMARY KEY CHECK (id = 1),
        epoch   INTEGER NOT NULL,
        pid     INTEGER,
        host    TEXT,
        started INTEGER,
        since   TEXT
    ){strict}
    """,
    "INSERT INTO meta (id, epoch) VALUES (1, 0)",
    "PRAGMA application_id = 1953721199",
    "PRAGMA user_version = 1",
)
ROWS = [
    (1, "OrchestratorStarted", 5, None, "[1,1]", None),
    (2, "TaskSubmitted", 20, "t", '[1,"t","hypot",0,[],null,[],null,null,true,20,null,null,null,true]', '{"$Task":{"type":"hypot","payload":{"$Call":{"fn":{"$import":"math:hypot"},"args":{"$tuple":[3,4]},"kwargs":{}}},"id":"t","idempotency_key":"k"}}'),
    (3, "TaskStarted", 30, "t", '[1,"t",1,"local",[],"the only candidate"]', None),
    (4, "TaskCompleted", 40, "t", '[1,"t",1,"local",9]', "5.0"),
    (8, "TaskSubmitted", 50, "é", '[1,"\\u00e9","a",1,["t"],null,[],null,null,true,50,null,null,null,true]', '{"$Task":{"type":"a","payload":"b","after":["t"],"idempotency_key":"na\\u00efve"}}'),
]  # fmt: skip
SUMS = [(2, 1, 1, 260003144), (4, 3, 1, 3257916603), (8, 8, 1, 2751452440)]
REST = (None, (), None, None, True)
KEPT = [
    (OrchestratorStarted(1, 5, 1), None),
    (
        TaskSubmitted(2, 20, "t", "hypot", 0, (), *REST, 20, None, None, None, True),
        Task.call(math.hypot, 3, 4, id="t", idempotency_key="k"),
    ),
    (TaskStarted(3, 30, "t", 1, "local", (), "the only candidate"), None),
    (TaskCompleted(4, 40, "t", 1, "local", 9), 5.0),
    (
        TaskSubmitted(8, 50, "é", "a", 1, ("t",), *REST, 50, None, None, None, True),
        Task("a", "b", after=["t"], idempotency_key="naïve"),
    ),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db"


@pytest.fixture
def first(path):
    """A journal as layout 1 had it."""
    strict = " STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        for statement in FIRST:
            db.execute(statement.format(strict=strict))
        db.executemany("INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?)", ROWS)
        db.executemany("INSERT INTO groups VALUES (?, ?, ?, ?)", SUMS)
        db.execute("UPDATE meta SET epoch = 1")
    return path


def layout(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def shape(path):
    """Names, columns and statements of all there is."""
    with closing(sqlite3.connect(path)) as db:
        made = db.execute("SELECT type, name FROM sqlite_master ORDER BY 1, 2")
        names = made.fetchall()
        tables = [name for kind, name in names if kind in ("table", "view")]
        columns = {
            name: [row[1:] for row in db.execute(f"PRAGMA table_info({name})")]
            for name in tables
        }
        indexes = db.execute("SELECT sql FROM sqlite_master WHERE type = 'index'")
        return names, columns, {" ".join((row[0] or "").split()) for row in indexes}


def test_a_journal_of_layout_1_becomes_one_of_the_present_layout(first, tmp_path):
    with closing(SqliteJournal(first, durability="process")) as journal:
        assert journal.claim() == 2
        assert len(journal.uid) == 32
        journal.append(2, [fact(9)])
    assert layout(first) == LAYOUT == 4
    assert entries(first) == [*KEPT, fact(9)]
    journal = SqliteJournal(first)
    assert journal.id_of_key("k") == "t"
    assert journal.id_of_key("naïve") == "é"
    assert journal.verify() == 6
    fresh = tmp_path / "fresh.db"
    filled(fresh)
    assert shape(first) == shape(fresh)


def test_a_journal_of_layout_1_is_read_as_it_is(first):
    before = first.read_bytes()
    journal = SqliteJournal(first)
    assert list(journal.read()) == KEPT
    assert list(journal.select(["t"], 3)) == KEPT[1:3]
    assert journal.ends(["t", "é"]) == {"t": "TaskCompleted"}
    assert journal.snapshot() is None
    assert journal.verify() == journal.last - 3 == 5
    with pytest.raises(JournalError, match="layout 1") as caught:
        journal.id_of_key("k")
    assert "claim" in caught.value.hint
    assert JournalReader(first).uid == ""
    assert first.read_bytes() == before


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_error_at_any_statement_leaves_one_layout_or_the_other(
    first, tmp_path, monkeypatch, after
):
    connect = _file.connect
    layouts = []
    for number in count(1):
        path = tmp_path / f"{number}.db"
        path.write_bytes(first.read_bytes())
        state = {"left": number, "after": after}
        monkeypatch.setattr(_file, "connect", lambda *a, s=state: Flaky(connect(*a), s))
        with closing(SqliteJournal(path, durability="process")) as journal:
            with suppress(JournalUnavailableError):
                journal.claim()
            state["left"] = 0
            layouts.append(layout(path))
            assert journal.verify() == 5
            assert journal.claim() in (2, 3)
            assert list(journal.read()) == KEPT
            assert journal.id_of_key("k") == "t"
        if number > 60:
            break
    # And once it was done, and not said.
    assert layouts == sorted(layouts)
    assert set(layouts) == {1, 4}


def test_killed_at_any_statement_of_a_migration(first, tmp_path):
    """One layout or the other is left, never some of both; the next owner goes on."""
    folder = tmp_path / "copies"
    folder.mkdir()
    deaths = Path(__file__).with_name("deaths.py")
    run = subprocess.run(
        [sys.executable, deaths, folder, first],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    told = json.loads(run.stdout)
    # The last one came to its end.
    assert [death["signal"] for death in told] == [9] * (len(told) - 1) + [0]
    assert len(told) > 25
    left = [death["left"] for death in told]
    assert left == sorted(left)
    assert set(left) == {1, 4}
    for number, death in enumerate(told, 1):
        # A life is counted with the layout, or not at all.
        assert death["epoch"] == 2 + (death["left"] == LAYOUT)
        assert death["verified"] == 5
        path = folder / f"{number}.db"
        assert entries(path) == KEPT
        assert layout(path) == LAYOUT
        assert SqliteJournal(path).id_of_key("k") == "t"


def test_damage_in_the_first_form_of_checksum_is_seen_before_and_after(first):
    edit(first, "UPDATE facts SET at_ns = 31 WHERE seq = 3")
    for _ in range(2):
        with pytest.raises(JournalError, match="3 to 4 were changed"):
            entries(first)
        with closing(SqliteJournal(first)) as journal:
            # The latest group is whole: that is all that claiming looks at.
            journal.claim()


def test_a_damaged_journal_of_layout_1_is_not_touched(first):
    edit(first, "UPDATE facts SET at_ns = 51 WHERE seq = 8")
    before = first.read_bytes()
    with pytest.raises(JournalError, match="8 to 8 were changed"):
        SqliteJournal(first).claim()
    assert layout(first) == 1
    assert first.read_bytes() == before


def test_a_form_of_checksum_that_is_not_known_is_damage(path):
    filled(path)
    edit(path, "UPDATE groups SET form = 7 WHERE last = 3")
    with pytest.raises(JournalError, match="3 to 3 were changed"):
        entries(path)


def test_the_id_of_a_journal_stays_and_is_its_own(path, tmp_path):
    filled(path)
    filled(tmp_path / "other.db")
    seen = []
    for name in (path, path, tmp_path / "other.db"):
        with closing(SqliteJournal(name)) as journal:
            with pytest.raises(JournalError, match="not claimed"):
                journal.uid  # noqa: B018 - it raises
            journal.claim()
            seen.append(journal.uid)
    assert seen[0] == seen[1] != seen[2]
