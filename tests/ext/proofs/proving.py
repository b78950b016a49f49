"""Journals for the tests of proofs, in both databases, and who changes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

from taskorch import Task, TaskOrchestrator
from taskorch.api.journal import open_journal

NUMBERS = count()
#: Columns about who owns a journal now, and not about what happened.
OF_THE_OWNER = {"pid", "host", "machine", "started", "since", "token", "lease_until"}


def fail() -> None:
    """Fail."""
    raise ValueError


def live(place: str, life: int = 0) -> None:
    """Some of all, in one incarnation."""
    with TaskOrchestrator(journal=place) as orch:
        for number in range(2):
            orch.submit_task(Task.call(pow, number, life, id=f"pow/{life}/{number}"))
        task = Task.call(abs, life, id=f"abs/{life}", idempotency_key=f"k{life}")
        orch.submit_task(task)
        orch.submit_task(Task.call(fail, id=f"fail/{life}"))
        orch.wait()


def forget(place: str, *ids: str) -> int:
    """Leave out some tasks."""
    with closing(open_journal(place)) as journal:
        return journal.forget(journal.claim(), ids)


class InAFile:
    """A new journal in a file."""

    own = "meta"
    tables = ("facts", "groups", "keys", "snapshots", "meta")

    def __init__(self, folder: Path, _: object) -> None:
        self.place = str(folder / f"{next(NUMBERS)}.db")

    def run(self, statement: str, *values: object) -> list[tuple]:
        """Say *statement* behind its back."""
        with closing(sqlite3.connect(self.place, isolation_level=None)) as db:
            return db.execute(statement, values).fetchall()

    def rows(self, table: str) -> tuple[list[str], list[tuple]]:
        """The columns and rows of a table, in order."""
        with closing(sqlite3.connect(self.place)) as db:
            cursor = db.execute(f"SELECT * FROM {table} ORDER BY 1")
            return [each[0] for each in cursor.description], cursor.fetchall()

    def put(self, table: str, names: list[str], rows: list[tuple]) -> None:
        """Let a table have these rows."""
        with closing(sqlite3.connect(self.place)) as db:
            db.execute("PRAGMA synchronous = OFF")
            db.execute(f"DELETE FROM {table}")
            marks = ", ".join("?" * len(names))
            words = ", ".join(names)
            db.executemany(f"INSERT INTO {table} ({words}) VALUES ({marks})", rows)
            db.commit()


class OnAServer:
    """One in a PostgreSQL database."""

    own = "partitions"
    tables = ("facts", "groups", "snapshots", "partitions")

    def __init__(self, _: Path, postgres) -> None:
        self.server, self.place = postgres, postgres.address()
        self.name = self.place.partition("partition=")[2]

    def _mine(self, table: str) -> str:
        if table == "partitions":
            return f"name = '{self.name}'"
        number = f"SELECT id FROM taskorch.partitions WHERE name = '{self.name}'"
        return f"partition = ({number})"

    def rows(self, table: str) -> tuple[list[str], list[tuple]]:
        """The columns and rows of a table, in order."""
        names = [
            name
            for (name,) in self.server.run(
                "SELECT column_name FROM information_schema.columns WHERE"
                f" table_schema = 'taskorch' AND table_name = '{table}'"
                " ORDER BY ordinal_position"
            )
        ]
        # What is of the owner may be a time that Python does not have.
        words = ", ".join(
            f"{name}::text" if name == "lease_until" else name for name in names
        )
        return names, self.server.run(
            f"SELECT {words} FROM taskorch.{table} WHERE {self._mine(table)} ORDER BY 2"
        )

    def put(self, table: str, names: list[str], rows: list[tuple]) -> None:
        """Let a table have these rows."""
        if table == "partitions":
            for name, value in zip(names, rows[0], strict=True):
                if name not in ("id", "name"):
                    self.server.run(
                        f"UPDATE taskorch.partitions SET {name} = %s"
                        f" WHERE {self._mine(table)}",
                        [value],
                    )
            return
        marks = ", ".join([f"({', '.join(['%s'] * len(names))})"] * len(rows))
        self.server.run(f"DELETE FROM taskorch.{table} WHERE {self._mine(table)}")
        if rows:
            self.server.run(
                f"INSERT INTO taskorch.{table} ({', '.join(names)}) VALUES {marks}",
                [value for row in rows for value in row],
            )


def changed(value: object) -> object:
    """Another value of the same kind."""
    if value is None:
        return None
    if type(value) is int:
        return value + 1
    if type(value) is bytes:
        return bytes([value[0] ^ 1]) + value[1:]
    text = str(value)
    return text[:-1] + ("x" if text[-1:] != "x" else "y")


def single_changes(backend) -> Iterator[tuple[str, str, list[tuple]]]:
    """
    Every single change of every row: the table, what is done, and the rows then.

    Each value is another, is gone, or is there where none was; each row is gone, comes
    twice, or changes places with the next one.
    """
    for table in backend.tables:
        names, rows = backend.rows(table)
        # What is kept of the owner is no history, and has one row.
        skipped = OF_THE_OWNER | {"id", "name", "partition"}
        if table == backend.own:
            skipped |= {"uid", "epoch"}
        for n, row in enumerate(rows):
            for c, name in enumerate(names):
                if name in skipped:
                    continue
                for value in _others(row[c], name):
                    other = (*row[:c], value, *row[c + 1 :])
                    what = f"{name} of row {n}: {row[c]!r} is {value!r}"
                    yield table, what, [*rows[:n], other, *rows[n + 1 :]]
            if table == backend.own:
                continue
            yield table, f"row {n} is gone", [*rows[:n], *rows[n + 1 :]]
            if table in ("facts", "groups"):
                key = names.index("seq" if table == "facts" else "last")
                last = max(each[key] for each in rows)
                copy = (*row[:key], last + 1, *row[key + 1 :])
                yield table, f"row {n} comes twice", [*rows, copy]
                if n + 1 < len(rows):
                    mine, next_ = list(row), list(rows[n + 1])
                    mine[key], next_[key] = next_[key], mine[key]
                    swapped = [*rows[:n], tuple(next_), tuple(mine), *rows[n + 2 :]]
                    yield table, f"rows {n} and {n + 1} change places", swapped


#: Columns that need a value.
_NEEDED = {
    *("seq", "kind", "at_ns", "body", "last", "first", "epoch", "crc", "form"),
    *("task_id of keys", "state", "chain"),
}


def _others(value: object, name: str) -> list[object]:
    if value is None:
        fresh = {"size": 1, "hash": b"x" * 32}
        return [fresh.get(name, "x"), *([""] if name in ("task_id", "doc") else [])]
    others = [changed(value)]
    if name not in _NEEDED:
        others.append(None)
    return others
