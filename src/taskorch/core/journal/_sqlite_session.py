"""Statements for the tables of a journal in a file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final

from taskorch.core.journal import _lines
from taskorch.core.journal._file import FAILURES, is_passing
from taskorch.core.journal._layout import KEY, check_layout
from taskorch.core.journal._session import Session, damage
from taskorch.core.journal._stretches import (
    CREATE,
    MOST_NOTED,
    NOTE,
    UNCOVER,
    unnoted,
)

_LISTED: Final = "(SELECT value FROM json_each(:lost))"
_LOST: Final = """
    SELECT key FROM keys WHERE task_id IN (SELECT value FROM json_each(:names))
"""
_LOSE: Final = f"DELETE FROM keys WHERE key IN {_LISTED}"  # noqa: S608
_LEAVE_OUT: Final = """
    DELETE FROM facts WHERE task_id IN (SELECT value FROM json_each(:names))
"""
#: An earlier task that stays may have had the key of one that is gone.
_KEYS_AGAIN: Final = f"""
    INSERT OR REPLACE INTO keys SELECT {KEY}, task_id FROM facts
    WHERE kind = 'TaskSubmitted' AND {KEY} IN {_LISTED} ORDER BY seq
"""  # noqa: S608 - of our own words


class SqliteSession(Session):
    """A connection to the tables of a journal in a file, of the present layout."""

    WORDS: ClassVar[Mapping[str, str]] = {
        "facts": "facts",
        "groups": "groups",
        "snapshots": "snapshots",
        "mine": "",
        "column": "",
        "value": "",
        "chain": "(SELECT chain FROM meta)",
        "numbers": "json_each(:numbers)",
        "names": "json_each(:names)",
        "named": "json_each(:names) CROSS JOIN facts ON task_id = value",
        "ranged": (
            "json_each(:lows) AS low JOIN json_each(:highs) AS high"
            " ON low.key = high.key CROSS JOIN facts"
            " ON seq > low.value AND seq <= high.value"
        ),
        "kept": "NULL",
    }

    def __init__(self, db: sqlite3.Connection, name: str) -> None:
        super().__init__(name)
        self.db = db
        self._is_within = False

    def ask(self, statement: str, **values: Any) -> list[Any]:
        return self._run(statement, values).fetchall()

    def change(self, statement: str, **values: Any) -> int:
        return self._run(statement, values).rowcount

    def _run(self, statement: str, values: dict[str, Any]) -> sqlite3.Cursor:
        for name, value in values.items():
            if type(value) is list:
                values[name] = json.dumps(value)
        return self.db.execute(self.text(statement), values)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        if self._is_within:
            yield
            return
        with self.transaction("BEGIN"):
            yield

    @contextmanager
    def transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        """Begin a transaction: all statements in the block take effect, or none."""
        self.db.execute(begin)
        self._is_within = True
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            # Some errors have rolled it back already.
            with suppress(*FAILURES):
                self.db.execute("ROLLBACK")
            raise
        finally:
            self._is_within = False

    @property
    def has_stretches(self) -> bool:
        return bool(self.ask("SELECT 1 FROM sqlite_master WHERE name = 'stretches'"))

    def unnoted(self, until: int) -> Sequence[tuple[int, int]]:
        return [*islice(unnoted(self, until), MOST_NOTED)]

    def note(self, stretches: Sequence[tuple[int, int]]) -> None:
        self.change(CREATE)
        for first, last in stretches:
            self.change(NOTE, first=first, last=last)

    @property
    def has_lines(self) -> bool:
        return bool(self.ask("SELECT 1 FROM sqlite_master WHERE name = 'told'"))

    def runs_to_note(self, until: int) -> Sequence[tuple[int, int]]:
        return _lines.to_note(self, until)

    def note_runs(self, after: int, until: int) -> None:
        _lines.note(self, after, until)

    def id_of_key(self, key: str) -> str | None:
        rows = self.ask("SELECT task_id FROM keys WHERE key = :key", key=key)
        return rows[0][0] if rows else None

    def keys(self) -> dict[str, str]:
        return dict(self.ask("SELECT key, task_id FROM keys"))

    def leave_out(self, names: list[str]) -> None:
        rows = self.ask(_LOST, names=names)
        lost = [key for (key,) in rows]
        if self.has_stretches:
            self.change(UNCOVER, names=names)
        _lines.leave_out(self, names)
        self.change(_LEAVE_OUT, names=names)
        self.change(_LOSE, lost=lost)
        self.change(_KEYS_AGAIN, lost=lost)

    def is_damage(self, error: Exception) -> bool:
        return isinstance(error, FAILURES) and not is_passing(error)

    def check_pages(self) -> str:
        ((verdict,),) = self.db.execute("PRAGMA integrity_check(1)").fetchall()
        return "" if verdict == "ok" else str(verdict)

    def close(self) -> None:
        self.db.close()


def session_of(db: sqlite3.Connection, path: Path) -> SqliteSession:
    """
    Return the tables of the journal at *path*, over a connection to it.

    Raises:
        JournalError: See `check_layout`.
    """
    check_layout(db, path)
    return SqliteSession(db, str(path))


def incarnation_of(session: Session) -> int:
    """
    Return the number of the journal's latest incarnation.

    Raises:
        JournalError: The journal does not have it.
    """
    rows = session.ask("SELECT epoch FROM meta")
    if len(rows) != 1 or type(rows[0][0]) is not int:
        raise damage(session.name, "it does not say in which incarnation it is")
    return rows[0][0]


def owner_of(session: Session) -> dict[str, Any]:
    """Return the row of the latest leader; {} if the journal has none."""
    rows = session.ask("SELECT * FROM meta")
    names = [row[1] for row in session.ask("PRAGMA table_info(meta)")]
    return dict(zip(names, rows[0], strict=True)) if rows else {}
