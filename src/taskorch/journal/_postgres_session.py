"""What is said to the tables of a journal in PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final

from taskorch.journal._session import Session

if TYPE_CHECKING:
    import psycopg

_VALUE: Final = re.compile(r"(?<!:):([a-z]+)")
#: Of a list, each by the index: `= ANY` would leave that to a planner, which may read
#: all of a table of which it has no statistics yet.
_EACH: Final = """
    LATERAL (SELECT * FROM taskorch.facts WHERE partition = :partition AND {} OFFSET 0)
    AS facts
"""


class PostgresSession(Session):
    """A connection to the tables of a partition, of the present layout."""

    WORDS: ClassVar[Mapping[str, str]] = {
        "facts": "taskorch.facts",
        "groups": "taskorch.groups",
        "snapshots": "taskorch.snapshots",
        "mine": "partition = :partition AND ",
        "column": "partition, ",
        "value": ":partition, ",
        "form": "form",
        "numbers": "unnest(:numbers::bigint[]) AS listed (value)",
        "names": "unnest(:names::text[]) AS listed (value)",
        "named": (
            "(SELECT DISTINCT unnest(:names::text[]) AS value) AS listed, "
            + _EACH.format("task_id = value")
        ),
        "ranged": (
            "unnest(:lows::bigint[], :highs::bigint[]) AS listed (low, high), "
            + _EACH.format("seq > low AND seq <= high")
        ),
        "kept": "(SELECT last FROM taskorch.partitions WHERE id = :partition)",
    }

    def __init__(self, db: psycopg.Connection[Any], name: str, partition: int) -> None:
        super().__init__(name)
        self.db = db
        self._partition = partition

    @classmethod
    @cache
    def text(cls, statement: str) -> str:
        return _VALUE.sub(r"%(\1)s", super().text(statement))

    def ask(self, statement: str, **values: Any) -> list[Any]:
        return self._run(statement, values).fetchall()

    def change(self, statement: str, **values: Any) -> int:
        return self._run(statement, values).rowcount

    def _run(self, statement: str, values: dict[str, Any]) -> psycopg.Cursor[Any]:
        values["partition"] = self._partition
        text: Any = self.text(statement)
        return self.db.execute(text, values)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        if self.db.info.transaction_status:
            yield
            return
        self.db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # After an error the connection is closed.
        yield
        self.db.execute("COMMIT")

    def id_of_key(self, key: str) -> str | None:
        rows = self.ask(
            "SELECT task_id FROM {facts} WHERE {mine}key = :key"
            " ORDER BY seq DESC LIMIT 1",
            key=key,
        )
        return rows[0][0] if rows else None

    def keys(self) -> dict[str, str]:
        statement = "SELECT key, task_id FROM {facts} WHERE {mine}key IS NOT NULL"
        return dict(self.ask(f"{statement} ORDER BY seq"))

    def leave_out(self, names: list[str]) -> None:
        self.change(
            "DELETE FROM {facts} USING {names} WHERE {mine}task_id = value", names=names
        )

    def close(self) -> None:
        self.db.close()
