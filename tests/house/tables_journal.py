"""
A journal in the tables of a database that the library has no module for.

It is a stand-in for such a database: an SQLite file, with tables that many journals
share. Whoever claims a journal has it: the one before is told at its next write.
"""

import json
import os
import sqlite3
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from taskorch.api.journal import SqlJournal
from taskorch.api.journal.tables import KEEP_GROUP, Reader, Session, reach
from taskorch.errors import JournalError, JournalTakenError, JournalUnavailableError

TABLES = """
    CREATE TABLE IF NOT EXISTS t_journals (
        id INTEGER PRIMARY KEY, name TEXT UNIQUE, epoch INTEGER, pid INTEGER, chain TEXT
    );
    CREATE TABLE IF NOT EXISTS t_facts (
        journal INTEGER, seq INTEGER, kind TEXT, at_ns INTEGER, task_id TEXT, body TEXT,
        doc TEXT, key TEXT, PRIMARY KEY (journal, seq)
    );
    CREATE TABLE IF NOT EXISTS t_groups (
        journal INTEGER, last INTEGER, first INTEGER, epoch INTEGER, crc INTEGER,
        form INTEGER, size INTEGER, hash BLOB, gone TEXT, PRIMARY KEY (journal, last)
    );
    CREATE TABLE IF NOT EXISTS t_snapshots (
        journal INTEGER, seq INTEGER, crc INTEGER, state TEXT, PRIMARY KEY (journal, seq)
    );
    CREATE INDEX IF NOT EXISTS t_by_task ON t_facts (journal, task_id)
"""
KEEP_EVENT = """
    INSERT INTO {facts} VALUES
    ({value}:seq, :kind, :at_ns, nullif(:task_id, ''), :body, nullif(:doc, ''), :key)
"""


class TablesSession(Session):
    WORDS: ClassVar = {
        "facts": "t_facts",
        "groups": "t_groups",
        "snapshots": "t_snapshots",
        "mine": "journal = :journal AND ",
        "column": "journal, ",
        "value": ":journal, ",
        "form": "form",
        "chained": "size, hash, gone",
        "chain": "(SELECT chain FROM t_journals WHERE id = :journal)",
        "numbers": "json_each(:numbers)",
        "names": "json_each(:names)",
        "named": "json_each(:names) CROSS JOIN t_facts"
        " ON journal = :journal AND task_id = value",
        "ranged": "json_each(:lows) AS low JOIN json_each(:highs) AS high"
        " ON low.key = high.key CROSS JOIN t_facts ON journal = :journal"
        " AND seq > low.value AND seq <= high.value",
        "kept": "NULL",
    }

    def __init__(self, db, name, journal):
        super().__init__(name)
        self.db, self.journal = db, journal

    def ask(self, statement, **values):
        return self.run(statement, values).fetchall()

    def change(self, statement, **values):
        return self.run(statement, values).rowcount

    def run(self, statement, values):
        values |= {k: json.dumps(v) for k, v in values.items() if type(v) is list}
        return self.db.execute(self.text(statement), values | {"journal": self.journal})

    @contextmanager
    def at_once(self):
        if self.db.in_transaction:
            yield
            return
        self.db.execute("BEGIN")
        yield
        self.db.execute("COMMIT")

    def id_of_key(self, key):
        statement = "SELECT task_id FROM {facts} WHERE {mine}key = :key"
        rows = self.ask(f"{statement} ORDER BY seq DESC LIMIT 1", key=key)
        return rows[0][0] if rows else None

    def keys(self):
        statement = "SELECT key, task_id FROM {facts} WHERE {mine}key IS NOT NULL"
        return dict(self.ask(f"{statement} ORDER BY seq"))

    def leave_out(self, names):
        statement = "DELETE FROM {facts} WHERE {mine}task_id IN"
        self.change(f"{statement} (SELECT value FROM {{names}})", names=names)

    def close(self):
        self.db.close()


class TablesJournal(SqlJournal):
    """The journal at `tables://path?name`."""

    def __init__(self, address, **options):
        for name, value in (
            ("durability", "power"),
            ("take_over", False),
            ("keep_for", None),
            ("keep_latest", None),
        ):
            options.setdefault(name, value)
        super().__init__(address, **options)
        path, _, self.journal = address.removeprefix("tables://").partition("?")
        self.path, self.mutex = path, threading.Lock()

    @contextmanager
    def session(self):
        self._check_process()
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(TABLES)
            db.execute(
                "INSERT INTO t_journals (name, epoch, chain)"
                " VALUES (?, 0, hex(randomblob(16)) || ' 0')"
                " ON CONFLICT DO NOTHING",
                (self.journal,),
            )
            ((number,),) = db.execute(
                "SELECT id FROM t_journals WHERE name = ?", (self.journal,)
            )
            yield TablesSession(db, self._name, number)
        except sqlite3.Error as error:
            raise JournalUnavailableError(str(error), outcome="unknown") from error
        finally:
            db.close()

    @contextmanager
    def _reading(self):
        with self.session() as session:
            yield Reader(session)

    def owner(self):
        with self.session() as session:
            ((epoch, pid),) = session.ask(
                "SELECT epoch, pid FROM t_journals WHERE id = :journal"
            )
        return {"epoch": epoch, "pid": pid, "host": "", "since": "", "started": None}

    def owner_lives(self, owner):
        return None

    def check_readable(self):
        if not Path(self.path).exists():
            raise JournalError(f"there is no {self.path}")

    def claim(self):
        self._check_usable()
        with self.mutex, self.session() as session:
            session.db.execute("BEGIN IMMEDIATE")
            ((incarnation,),) = session.ask(
                "SELECT epoch FROM t_journals WHERE id = :journal"
            )
            reader = Reader(session)
            start, latest = reader.chain_start(), reader.check_latest(incarnation)
            session.change(
                "UPDATE t_journals SET epoch = epoch + 1, pid = :pid WHERE id = :journal",
                pid=os.getpid(),
            )
            session.db.execute("COMMIT")
        self._epoch = incarnation + 1
        self._set_start(start, latest)
        return self._epoch

    def close(self):
        self._is_closed = True

    @contextmanager
    def _writing(self, epoch):
        with self.mutex, self.session() as session:
            self._check_owner(epoch)
            yield session

    @contextmanager
    def _owning(self, session):
        session.db.execute("BEGIN IMMEDIATE")
        ((epoch,),) = session.ask("SELECT epoch FROM t_journals WHERE id = :journal")
        if epoch != self._epoch:
            raise JournalTakenError(
                f"{self._name} was taken over by incarnation {epoch}"
            )
        yield
        session.db.execute("COMMIT")

    def _keep(self, session, rows, group, before):
        names = "seq", "kind", "at_ns", "task_id", "body", "doc"
        keys = dict(zip(rows.keys[1::2], rows.keys[::2], strict=True))
        with self._owning(session):
            for row in zip(*rows.columns, strict=True):
                values = dict(zip(names, row, strict=True))
                is_new = values["kind"] == "TaskSubmitted"
                key = keys.get(values["task_id"]) if is_new else None
                session.change(KEEP_EVENT, key=key, **values)
            reach("rows")
            session.change(KEEP_GROUP, **group.columns())
            reach("commit")
            self._in_doubt = True
