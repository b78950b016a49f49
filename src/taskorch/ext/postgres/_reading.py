"""Reading of a journal in PostgreSQL, by its leader and by others."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from taskorch.core.journal._sql import SqlReading
from taskorch.core.journal.tables import Reader
from taskorch.errors import InvalidTaskError, JournalError, JournalUnavailableError
from taskorch.ext.postgres import _tables as sql
from taskorch.ext.postgres._session import (
    PostgresAddress,
    PostgresConnections,
    PostgresSession,
    error_of,
    has_hung_up,
    load,
)
from taskorch.kit.processes import is_alive
from taskorch.model.ids import id_problem
from taskorch.protocols import Entry

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")


class PostgresReading(SqlReading):
    """
    A partition of a PostgreSQL database, for its readers.

    Args:
        address: The address of the database.
        partition: The name of the journal in it.
        lease: Seconds of its lease: see `PostgresConnections`.

    Raises:
        InvalidTaskError: *partition* is no safe name.
    """

    def __init__(
        self, address: PostgresAddress, partition: str, lease: float, **options: Any
    ) -> None:
        problem = id_problem(partition)
        if problem is not None:
            msg = f"partition: {problem}"
            raise InvalidTaskError(msg)
        #: The name of the journal in the database.
        self.partition: str = partition
        #: The name for people: where it is, without a password.
        self.name: str = f"{address.name}?partition={partition}"
        super().__init__(self.name, **options)
        self._connections = PostgresConnections(address, lease)
        #: The number of the partition, once it was found.
        self._id: int | None = None
        #: The highest incarnation that was seen.
        self._seen = 0
        _OPEN.add(self)

    def description(self) -> str:
        """See `DurableJournal.description`: where it is, without a password."""
        return self.name

    def select(self, ids: Collection[str], until: int) -> Iterator[Entry]:
        """See `SqlReading.select`; all are read before the first is given."""
        none: list[Entry] = []
        yield from self._answer(lambda reader: [*reader.select(ids, until)], none)

    def owner(self) -> dict[str, Any]:
        """
        See `SqlReading.owner`; `lives` says whether its lease lasts.

        Raises:
            JournalUnavailableError: It cannot be read now.
        """
        with self._asking() as (_, owner):
            if owner is None:
                return {}
        return owner | {"lives": owner["left"] > 0 and not has_died(owner)}

    def owner_lives(self, owner: Mapping[str, Any]) -> bool:
        """See `SqlReading.owner_lives`: it does as long as its lease lasts."""
        return bool(owner["lives"])

    def check_readable(self) -> None:
        """
        Check that there is a journal to read.

        Raises:
            JournalUnavailableError: It cannot be read now.
            JournalError: There is none, or one of another version.
        """
        with self._speaking("read") as db:
            partitions = self._partitions(db)
        if self.partition not in partitions:
            msg = f"{self.name}: there is no such partition"
            hint = f"there are: {', '.join(partitions[:20])}" if partitions else None
            raise JournalError(msg, hint=hint or "no orchestrator has used it yet")

    # ------------------------------------------------------------------- the server

    @contextlib.contextmanager
    def _speaking(self, wanted: str) -> Iterator[psycopg.Connection[Any]]:
        """Yield a connection, and translate the server's errors."""
        with self._translating(wanted), self._connections.use() as (db, _):
            yield db

    @contextlib.contextmanager
    def _translating(self, wanted: str) -> Iterator[None]:
        """Translate errors of the server into ours."""
        self._check_process()
        driver = load()
        try:
            yield
        except driver.Error as error:
            unknown = wanted == "written" and self._in_doubt
            raise error_of(error, self.name, wanted, unknown=unknown) from error

    @contextlib.contextmanager
    def _asking(
        self,
    ) -> Iterator[tuple[psycopg.Connection[Any], dict[str, Any] | None]]:
        """Yield a connection and the row of the partition; None if there is none."""
        with (
            self._translating("read"),
            self._connections.use(self._look_for) as (db, owner),
        ):
            yield db, owner

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Reader | None]:
        with self._asking() as (db, owner):
            yield None if owner is None else Reader(self._session(db))

    def _session(self, db: psycopg.Connection[Any]) -> PostgresSession:
        """Return the tables over a connection that has found the partition."""
        assert self._id is not None  # noqa: S101 - see above
        return PostgresSession(db, self.name, self._id)

    def _answer(self, question: Callable[[Reader], T], otherwise: T) -> T:
        try:
            return super()._answer(question, otherwise)
        except JournalUnavailableError as error:
            if not has_hung_up(error.__cause__):
                raise
        # The leader ended in the middle of the question, which may explain the error.
        return super()._answer(question, otherwise)

    def _look_for(self, db: psycopg.Connection[Any]) -> dict[str, Any] | None:
        """Do as `_look`, but return None if there is no such partition yet."""
        is_known = self._id is not None or self.partition in self._partitions(db)
        return self._look(db) if is_known else None

    def _partitions(self, db: psycopg.Connection[Any]) -> list[str]:
        """Return the names of the partitions."""
        if self._layout(db) is None:
            return []
        self._check_layout(db)
        return [name for (name,) in db.execute(sql.NAMES)]

    def _layout(self, db: psycopg.Connection[Any]) -> int | None:
        """Return the number of the tables' layout; None if there are no tables."""
        if not db.execute(sql.HAS_LAYOUT).fetchone()[0]:  # type: ignore[index]
            return None
        row = db.execute(sql.FIND_LAYOUT).fetchone()
        return 0 if row is None else int(row[0])

    def _check_layout(self, db: psycopg.Connection[Any]) -> None:
        """
        Check that the tables, if there are any, are those of this taskorch.

        Raises:
            JournalError: They are not.
        """
        layout = self._layout(db)
        if layout in (None, sql.LAYOUT):
            return
        msg = f"{self.name} has layout {layout}, and {sql.LAYOUT} is known here"
        hint = "bring this taskorch up to date: pip install --upgrade taskorch"
        raise JournalError(msg, hint=hint)

    def _look(self, db: psycopg.Connection[Any]) -> dict[str, Any]:
        """
        Return the row of the partition.

        Raises:
            JournalError: It has gone back to an earlier state, or is not there.
        """
        # These are read before it answers, since another thread may append meanwhile.
        seen, last = self._seen, self._acknowledged.last
        cursor: psycopg.Cursor[dict[str, Any]]
        cursor = db.cursor(row_factory=load().rows.dict_row)
        owner = cursor.execute(sql.OWNER, (self.partition,)).fetchone()
        if owner is None:
            msg = f"{self.name}: the partition is gone, and it was there"
            raise JournalError(msg, hint="restore it from a copy")
        if owner["epoch"] < seen or owner["last"] < last:
            msg = (
                f"{self.name} has gone back: it is in incarnation {owner['epoch']} "
                f"with event {owner['last']}, and was in incarnation {seen} with event "
                f"{last}"
            )
            hint = (
                "what answers is an earlier copy, such as a replica that lagged; "
                "start anew to go on from there, and what came after is lost"
            )
            raise JournalError(msg, hint=hint)
        self._seen, self._id = max(seen, owner["epoch"]), owner["id"]
        return owner


def machine() -> str:
    """
    Return an id of the machine whose processes can be seen here; "" off Linux.

    It changes with a start of the machine, and in another container.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123
            return f"{file.read().strip()}/{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
    except OSError:
        return ""


def has_died(owner: Mapping[str, Any]) -> bool:
    """Return whether the leader was a process of this machine that is gone."""
    if not owner["machine"] or owner["machine"] != machine():
        return False
    return not is_alive(owner["pid"], owner["started"])


#: The journals of this process, and connections that its children must never close.
_OPEN: Final[weakref.WeakSet[PostgresReading]] = weakref.WeakSet()
_INHERITED: Final[list[object]] = []


def _leave_to_parent() -> None:
    """Leave all connections alone, in a child after a fork."""
    for journal in _OPEN:
        _INHERITED.append(journal._connections.leave_to_parent())  # noqa: SLF001


os.register_at_fork(after_in_child=_leave_to_parent)
