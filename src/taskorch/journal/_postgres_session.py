"""
What is said to the tables of a journal in PostgreSQL; its lease, as its owner knows it.

Decisions: 0093, 0103.
"""

from __future__ import annotations

import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final

from taskorch._base.lease import Lease
from taskorch.journal._session import Session

if TYPE_CHECKING:
    import psycopg


#: It is renewed after this share of it.
_RENEWED: Final = 1 / 3
#: Of its end, the owner is sure so much earlier: clocks do not run alike.
_MARGIN: Final = 1 / 10
#: Seconds in which it can be given back, at the end, if the server answers.
_PATIENCE: Final = 5.0
#: It goes on while the machine sleeps, as the clock of the server does.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Seconds of a clock of this machine, which nobody sets."""
    return time.clock_gettime(_CLOCK)


class LeaseKeeper:
    """
    Keeps the lease in which nobody takes a journal from its owner, on a thread.

    Args:
        seconds: How long it lasts from each renewal.
        since: When it was first given, by `clock`, or earlier.
        renew: A method that renews it, and returns whether it is to be called again.
        release: A method that gives it back, called by `end`. Neither keeps its object
            in memory; without that, the thread ends.
    """

    def __init__(
        self,
        seconds: float,
        since: float,
        renew: Callable[[], bool],
        release: Callable[[], object],
    ) -> None:
        self._lease = Lease(seconds * (1 - _MARGIN), since)
        self._is_over = threading.Event()
        self._thread = threading.Thread(
            target=_keep,
            args=(
                weakref.WeakMethod(renew),
                weakref.WeakMethod(release),
                self._is_over,
                seconds * _RENEWED,
            ),
            name="taskorch-lease",
            daemon=True,
        )
        self._thread.start()

    def lasts(self) -> bool:
        """Whether nobody can have taken the journal, as far as clocks say."""
        return not self._lease.is_over(clock())

    def renewed(self, since: float) -> None:
        """It was renewed: by what was asked of the server at *since*, by `clock`."""
        self._lease.renew(since)

    def end(self) -> None:
        """Renew it no more, and give it back; a server that is silent may not hear."""
        self._is_over.set()
        if self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE)


def _keep(
    renew: weakref.WeakMethod[Callable[[], bool]],
    release: weakref.WeakMethod[Callable[[], object]],
    is_over: threading.Event,
    pause: float,
) -> None:
    while not is_over.wait(pause):
        renewal = renew()
        if renewal is None or not renewal():
            return
        # Nobody else may need the journal.
        del renewal
    give_back = release()
    if give_back is not None:
        give_back()


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
