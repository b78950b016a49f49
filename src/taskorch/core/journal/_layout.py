"""
The tables of the journal in a file.

    facts      one row an event: its number, class, time, task, fields and document; the
               start of an attempt that completes in its group is the last of the fields
               of its completion
    groups     one row a commit: the events that it kept, a checksum over them, and a
               hash; both continue those of the one before it (see `_chain`)
    meta       one row: the journal's own id, its leader and the incarnation, and where
               its chain begins
    keys       one row an idempotency key: the task that was submitted with it
    snapshots  the two latest states that the runtime has kept

And for people: `rare_facts` is a view of all events but the three that every task has,
with an index by kind.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from taskorch.core.journal._session import IS_RARE, RESTORE
from taskorch.errors import JournalError

#: "tsko", in the head of the file, where `file` and SQLite look for it.
_APPLICATION: Final = 0x74736B6F
#: The number of the layout that this version writes.
LAYOUT: Final = 1
#: The first SQLite that has tables with strict types.
_STRICT_SINCE: Final = (3, 37)
_STRICT: Final = " STRICT" if sqlite3.sqlite_version_info >= _STRICT_SINCE else ""

#: A new id.
_ID: Final = "lower(hex(randomblob(16)))"
_KEYS: Final = f"""
    CREATE TABLE keys (
        key     TEXT PRIMARY KEY,
        task_id TEXT NOT NULL
    ){_STRICT}
"""
_SNAPSHOTS: Final = f"""
    CREATE TABLE snapshots (
        seq   INTEGER PRIMARY KEY,
        crc   INTEGER NOT NULL,
        state TEXT NOT NULL
    ){_STRICT}
"""
_EVENTS_BY_KIND: Final = f"CREATE INDEX facts_by_kind ON facts (kind) WHERE {IS_RARE}"
_RARE_EVENTS: Final = f"""
    CREATE VIEW rare_facts AS SELECT * FROM facts WHERE {IS_RARE}
"""  # noqa: S608 - of our own words
_TABLES: Final = (
    f"""
    CREATE TABLE facts (
        seq     INTEGER PRIMARY KEY,
        kind    TEXT NOT NULL,
        at_ns   INTEGER NOT NULL,
        task_id TEXT,
        body    TEXT NOT NULL,
        doc     TEXT
    ){_STRICT}
    """,
    "CREATE INDEX facts_by_task ON facts (task_id) WHERE task_id IS NOT NULL",
    _EVENTS_BY_KIND,
    _RARE_EVENTS,
    f"""
    CREATE TABLE groups (
        last  INTEGER PRIMARY KEY,
        first INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        crc   INTEGER NOT NULL,
        form  INTEGER NOT NULL DEFAULT 1,
        size  INTEGER,
        hash  BLOB,
        gone  TEXT
    ){_STRICT}
    """,
    f"""
    CREATE TABLE meta (
        id      INTEGER PRIMARY KEY CHECK (id = 1),
        epoch   INTEGER NOT NULL,
        pid     INTEGER,
        host    TEXT,
        started INTEGER,
        since   TEXT,
        uid     TEXT,
        chain   TEXT
    ){_STRICT}
    """,
    f"""
    INSERT INTO meta (id, epoch, uid, chain)
    VALUES (1, 0, {_ID}, {_ID} || ' 0')
    """,  # noqa: S608 - of our own words
    _KEYS,
    _SNAPSHOTS,
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {LAYOUT}",
)
KEY: Final = """json_extract(doc, '$."$Task".idempotency_key')"""
#: The tables without which a journal is damaged.
_NAMES: Final = frozenset({"facts", "groups", "meta", "keys", "snapshots"})


def create_tables(db: sqlite3.Connection) -> None:
    """Make the tables of an empty journal, in a transaction of the caller's."""
    for statement in _TABLES:
        db.execute(statement)


def check_layout(db: sqlite3.Connection, path: Path) -> None:
    """
    Check that the tables are those of this taskorch.

    Raises:
        JournalError: It is none, a newer taskorch wrote it, or tables are missing.
    """
    ((application,),) = db.execute("PRAGMA application_id").fetchall()
    ((layout,),) = db.execute("PRAGMA user_version").fetchall()
    if application != _APPLICATION:
        msg = f"{path} is an SQLite file of something else, not a journal"
        raise JournalError(msg, hint="choose another path; nothing was changed")
    if layout > LAYOUT:
        msg = f"{path} has layout {layout}, of a newer taskorch; {LAYOUT} is known"
        raise JournalError(msg, hint="open it with the taskorch that wrote it")
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    if layout != LAYOUT or not names >= _NAMES:
        msg = f"{path} is damaged: tables are missing"
        raise JournalError(msg, hint=RESTORE)
