"""What is asked of a journal in PostgreSQL, by its owner and by all who look."""

from __future__ import annotations

import contextlib
import json
import os
import weakref
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, LiteralString

from taskorch.errors import (
    InvalidTaskError,
    JournalError,
    JournalUnavailableError,
)
from taskorch.journal import _codec
from taskorch.journal import _postgres_tables as sql
from taskorch.journal._codec import Row
from taskorch.journal._encoding import EncodingJournal
from taskorch.journal._lock import began_at, is_there
from taskorch.journal._postgres_connections import (
    PostgresAddress,
    PostgresConnections,
    error_of,
    has_hung_up,
    load,
)
from taskorch.journal._scripts import Beside
from taskorch.model._ids import id_problem
from taskorch.protocols import Entry

if TYPE_CHECKING:
    import psycopg

#: Rows that are read at once.
_BATCH: Final = 5_000
_MOST: Final = 2**63 - 1


class PostgresReading(EncodingJournal):
    """
    A partition of a PostgreSQL database, as whoever looks at it sees it.

    Args:
        address: Where the database is.
        partition: Which journal of it.

    Raises:
        InvalidTaskError: *partition* is no safe name.
    """

    def __init__(self, address: PostgresAddress, partition: str) -> None:
        problem = id_problem(partition)
        if problem is not None:
            msg = f"partition: {problem}"
            raise InvalidTaskError(msg)
        #: Which journal of the database.
        self.partition: str = partition
        #: For people: where it is, without a password.
        self.name: str = f"{address.name}?partition={partition}"
        self._connections = PostgresConnections(address)
        self._beside = Beside("")
        self._pid = os.getpid()
        #: The number of the partition.
        self._id: int | None = None
        #: The latest fact that is known to be kept, and the highest life that was seen.
        self._last = self._seen = 0
        #: The last fact of a group of which nobody knows whether it was kept.
        self._doubt: int | None = None
        _OPEN.add(self)

    def description(self) -> str:
        """See `DurableJournal.description`: where it is, without a password."""
        return self.name

    def read(self, after: int = 0) -> Iterator[Entry]:
        """
        See `Journal.read`; it gives what was kept when it began.

        Raises:
            JournalError: What is there cannot be read by this taskorch.
            JournalUnavailableError: It cannot be read now.
        """
        with self._asking() as session:
            if session is None:
                return
            db, owner = session
            for rows in self._groups(db, after, owner["last"]):
                with self._beside:
                    entries = _codec.entries(rows, after)
                yield from entries

    def _groups(
        self, db: psycopg.Connection[Any], after: int, until: int
    ) -> Iterator[list[Row]]:
        """The rows of each group that has some above *after*, to *until*."""
        held: list[Any] = []
        while True:
            window = {"after": min(after, _MOST), "until": until, "most": _BATCH}
            more = db.execute(sql.READ, window | {"partition": self._id}).fetchall()
            is_over = len(more) < _BATCH
            groups = [list(rows) for _, rows in groupby([*held, *more], itemgetter(0))]
            # Of the last one, more may follow.
            held = [] if is_over or not groups else groups.pop()
            for rows in groups:
                yield [row[1:] for row in rows]
            if is_over:
                return
            after = more[-1][1]

    def select(self, ids: Collection[str], until: int) -> Iterator[Entry]:
        """
        See `DurableJournal.select`; they are found by the index.

        Raises:
            JournalError: What is there cannot be read by this taskorch.
            JournalUnavailableError: It cannot be read now.
        """
        rows = self._ask(sql.ABOUT, ids=columns(ids), until=min(until, _MOST))
        with self._beside:
            entries = _codec.entries([row[1:] for row in rows])
        yield from entries

    def task_facts(self, task_id: str) -> Iterator[Entry]:
        """
        The entries about one task, in order.

        Raises:
            JournalError: See `select`.
        """
        return self.select((task_id,), _MOST)

    def ends(self, ids: Collection[str]) -> dict[str, str]:
        """See `DurableJournal.ends`."""
        names = {_codec.column(task_id): task_id for task_id in ids}
        return {names[name]: kind for name, kind in self._ask(sql.ENDS, ids=[*names])}

    def ids(self, prefix: str) -> list[str]:
        """See `DurableJournal.ids`."""
        begin = _codec.column(prefix)
        rows = self._ask(sql.IDS, prefix=begin, above=_codec.above(begin))
        return [task_id for (task_id,) in rows]

    def submitted(self, after: int, until: int, most: int) -> list[tuple[int, str]]:
        """See `DurableJournal.submitted`."""
        until = min(until, _MOST)
        return self._ask(sql.SUBMITTED, after=after, until=until, most=most)

    def id_of_key(self, key: str) -> str | None:
        """See `DurableJournal.id_of_key`."""
        rows = self._ask(sql.BY_KEY, key=_codec.column(key))
        return rows[0][0] if rows else None

    def snapshot(self) -> tuple[int, dict[str, Any]] | None:
        """See `DurableJournal.snapshot`."""
        for seq, text in self._ask(sql.SNAPSHOTS):
            with contextlib.suppress(ValueError):
                return seq, json.loads(text)
        return None

    def latest_of(self, kind: str) -> Entry | None:
        """
        The latest fact of a class of which there are few.

        Raises:
            JournalError: What is there cannot be read by this taskorch.
            JournalUnavailableError: It cannot be read now.
        """
        rows = self._ask(sql.LATEST_OF, kind=kind)
        with self._beside:
            return next(iter(_codec.entries(row[1:] for row in rows)), None)

    def ends_by_time(self, every_ns: int) -> dict[tuple[int, str], int]:
        """
        How many tasks have ended, by when and how.

        Args:
            every_ns: What is told apart, in ns.

        Returns:
            How many, by the number of the period since 1970 and the class of the fact.

        Raises:
            JournalUnavailableError: It cannot be read now.
        """
        rows = self._ask(sql.ENDS_BY_TIME, every=every_ns)
        return {(period, kind): count for period, kind, count in rows}

    def owner(self) -> dict[str, Any]:
        """
        The latest owner: `epoch`, `pid`, `host`, `since`, `started`, and `lives`.

        With `uid`, the id of the journal. It lives while its lease lasts.

        Raises:
            JournalUnavailableError: It cannot be read now.
        """
        with self._asking() as session:
            if session is None:
                return {}
            owner = session[1]
        lives = owner["left"] > 0
        if lives and owner["machine"] == machine():
            lives = is_alive(owner)
        return owner | {"lives": lives}

    @property
    def last(self) -> int:
        """The number of the last fact that is kept, or 0."""
        with self._asking() as session:
            return 0 if session is None else session[1]["last"]

    def verify(self) -> int:
        """
        Read all of it, and count.

        Returns:
            How many facts there are.

        Raises:
            JournalError: Some are missing, or cannot be read by this taskorch.
            JournalUnavailableError: It cannot be read now.
        """
        with self._asking() as session:
            if session is None:
                return 0
            db, owner = session
            with db.transaction():
                db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                owner = self._look(db)
                ((count,),) = db.execute(sql.COUNT, {"partition": self._id}).fetchall()
        if count != owner["facts"]:
            msg = f"{self.name} is damaged: of {owner['facts']} rows it has {count}"
            raise JournalError(msg, hint="restore it from a copy")
        return sum(1 for _ in self.read())

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
        """A connection; what the server raises is said in our words."""
        with self._translating(wanted), self._connections.use() as (db, _):
            yield db

    @contextlib.contextmanager
    def _translating(self, wanted: str) -> Iterator[None]:
        """What the server raises is said in our words."""
        self._check_process()
        driver = load()
        try:
            yield
        except driver.Error as error:
            unknown = wanted == "written" and self._doubt is not None
            raise error_of(error, self.name, wanted, unknown=unknown) from error

    @contextlib.contextmanager
    def _asking(
        self,
    ) -> Iterator[tuple[psycopg.Connection[Any], dict[str, Any]] | None]:
        """A connection, and what is said of the partition; None: there is none yet."""
        with (
            self._translating("read"),
            self._connections.use(self._look_for) as (db, owner),
        ):
            yield None if owner is None else (db, owner)

    def _look_for(self, db: psycopg.Connection[Any]) -> dict[str, Any] | None:
        """As `_look`; None if there is no such partition yet."""
        is_there = self._id is not None or self.partition in self._partitions(db)
        return self._look(db) if is_there else None

    def _ask(self, question: LiteralString, **values: Any) -> list[Any]:
        """The rows that answer *question*, which is asked of the partition."""
        try:
            return self._ask_once(question, values)
        except JournalUnavailableError as error:
            if not has_hung_up(error.__cause__):
                raise
        # It ended while it was asked: that may be all.
        return self._ask_once(question, values)

    def _ask_once(self, question: LiteralString, values: dict[str, Any]) -> list[Any]:
        with self._asking() as session:
            if session is None:
                return []
            asked = values | {"partition": self._id}
            return session[0].execute(question, asked).fetchall()

    def _partitions(self, db: psycopg.Connection[Any]) -> list[str]:
        """Names of the partitions that there are."""
        if not self._has_tables(db):
            return []
        self._check_layout(db)
        return [name for (name,) in db.execute(sql.NAMES)]

    def _has_tables(self, db: psycopg.Connection[Any]) -> bool:
        return bool(db.execute(sql.HAS_LAYOUT).fetchone()[0])  # type: ignore[index]

    def _check_layout(self, db: psycopg.Connection[Any]) -> None:
        row = db.execute(sql.FIND_LAYOUT).fetchone()
        layout = 0 if row is None else row[0]
        if layout == sql.LAYOUT:
            return
        msg = f"{self.name} has layout {layout}, and {sql.LAYOUT} is known here"
        hint = "bring this taskorch up to date: pip install --upgrade taskorch"
        if layout < sql.LAYOUT:
            hint = "stop all that use it, then run: taskorch migrate postgresql://…"
        raise JournalError(msg, hint=hint)

    def _look(self, db: psycopg.Connection[Any]) -> dict[str, Any]:
        """
        What is said of the partition.

        Raises:
            JournalError: It has gone back to what was before, or is not there.
        """
        # What was known before it answers: another thread may append meanwhile.
        seen, last = self._seen, self._last
        cursor: psycopg.Cursor[dict[str, Any]]
        cursor = db.cursor(row_factory=load().rows.dict_row)
        owner = cursor.execute(sql.OWNER, (self.partition,)).fetchone()
        if owner is None:
            msg = f"{self.name}: the partition is gone, and it was there"
            raise JournalError(msg, hint="restore it from a copy")
        if owner["epoch"] < seen or owner["last"] < last:
            msg = (
                f"{self.name} has gone back: it is in life {owner['epoch']} with fact "
                f"{owner['last']}, and was in life {seen} with fact {last}"
            )
            hint = (
                "what answers is an earlier copy, such as a replica that lagged; "
                "start anew to go on from there, and what came after is lost"
            )
            raise JournalError(msg, hint=hint)
        self._seen, self._id = max(seen, owner["epoch"]), owner["id"]
        return owner

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            msg = (
                f"{self.name} was opened by process {self._pid}, before this one forked"
            )
            raise JournalError(msg, hint="only the process that opened it may use it")


def columns(ids: Iterable[str]) -> list[str]:
    """*ids* as they stand in the column of ids."""
    return [_codec.column(task_id) for task_id in ids]


def machine() -> str:
    """
    What has the processes that can be seen from here; "" off Linux.

    It is another after a start of the machine, and in another container.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123
            return f"{file.read().strip()}/{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
    except OSError:
        return ""


def is_alive(owner: dict[str, Any]) -> bool:
    """Whether the owner, which is on this machine, may live."""
    if not owner["machine"]:
        return True
    pid, started = owner["pid"], owner["started"]
    return is_there(pid) and (started is None or began_at(pid) in (None, started))


#: The journals of this process, and what a child of it must never close.
_OPEN: Final[weakref.WeakSet[PostgresReading]] = weakref.WeakSet()
_INHERITED: Final[list[object]] = []


def _leave_to_parent() -> None:
    """In a child after a fork: no connection is touched."""
    for journal in _OPEN:
        _INHERITED.append(journal._connections.leave_to_parent())  # noqa: SLF001


os.register_at_fork(after_in_child=_leave_to_parent)
