"""
The journal in a PostgreSQL database; `_postgres_tables` says what is in it.

Its owner has a lease by the clock of the database, which each commit and a thread of
its own renew. When that is over another may claim the journal, and what the earlier
owner writes from then on is kept nowhere: see `_postgres_tables`.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, LiteralString, NoReturn

from taskorch.errors import (
    InvalidTaskError,
    JournalError,
    JournalTakenError,
    JournalUnavailableError,
)
from taskorch.journal import _codec
from taskorch.journal import _postgres_tables as sql
from taskorch.journal._codec import Row, Rows
from taskorch.journal._encoding import EncodingJournal
from taskorch.journal._lock import began_at, host, is_there
from taskorch.journal._points import reach
from taskorch.journal._postgres_connections import (
    Connections,
    error_of,
    load,
    number,
    parse,
    truth,
)
from taskorch.journal._scripts import Beside
from taskorch.journal._values import state_text
from taskorch.model import Retention, check_count, check_seconds
from taskorch.model._checks import check_word
from taskorch.model._ids import id_problem
from taskorch.protocols import Entry

if TYPE_CHECKING:
    import psycopg

    from taskorch.journal._file import Durability

#: Rows that are read at once.
_BATCH: Final = 5_000
#: Characters that one statement writes; a larger group is several, in a transaction.
_LARGE: Final = 32_000_000
#: A lease is renewed after this share of it, and looked at by those who wait.
_RENEWED: Final = 1 / 3
_LOOKED_AT: Final = 1 / 10
#: Seconds between two looks, at the longest; and after the end of a lease.
_LONGEST_PAUSE: Final = 0.25
_AFTER: Final = 0.002
#: A shorter lease would end while its owner waits for the processor.
_SHORTEST_LEASE: Final = 0.1
_MOST: Final = 2**63 - 1


class PostgresJournal(EncodingJournal):
    """
    A DurableJournal that keeps events in a PostgreSQL database.

    A database has many journals, its *partitions*, each with one owner at a time.
    Opening one does nothing yet: `claim` makes it if there is none, and owns it for the
    time of its lease, which is renewed while this process lives. Whoever finds that the
    lease is over takes the journal, with all that is in it; the earlier owner can write
    no more from then on, however late it wakes up. Reading needs no claim.

    Args:
        dsn: The server and database: `postgresql://user@host/database`, which may also
            say `?partition=…`, `lease=…` and `standby=true`; or text of `name=value`,
            as libpq has it.
        partition: Which journal of the database.
        lease: Seconds after its latest sign of life in which nobody takes it from its
            owner; by the clock of the database, so that of a client may be wrong.
        standby: Wait until no other owns it, for ever. If not, who comes while its
            owner lives is refused.
        take_over: Claim it although its owner lives.
        durability: `"power"`: what `append` has returned from survives a crash of the
            server and a loss of power. `"process"`: it survives a death of this
            process; a crash of the server may take the latest groups, each as a whole.
        keep_for: How long tasks are kept after their end: see `SqliteJournal`.
        keep_latest: How many ended tasks are kept, the latest; None: all.

    Raises:
        InvalidTaskError: An argument is out of its range, or *dsn* not well formed.
        JournalError: psycopg is not installed.
        ValueError: *durability* is neither.
    """

    def __init__(
        self,
        dsn: str,
        *,
        partition: str | None = None,
        lease: float | timedelta | None = None,
        standby: bool | None = None,
        take_over: bool = False,
        durability: Durability = "power",
        keep_for: float | timedelta | None = None,
        keep_latest: int | None = None,
    ) -> None:
        check_word("durability", durability, ("power", "process"))
        if keep_for is not None:
            keep_for = check_seconds("keep_for", keep_for)
        if keep_latest is not None:
            check_count("keep_latest", keep_latest, least=0)
        address = parse(dsn)
        said = address.said
        if lease is None:
            lease = number("lease", said["lease"]) if "lease" in said else 5.0
        if standby is None:
            standby = truth("standby", said["standby"]) if "standby" in said else False
        #: Which journal of the database.
        self.partition: str = _checked_name(
            said.get("partition", "default") if partition is None else partition
        )
        self.lease: float = check_seconds("lease", lease)
        if self.lease < _SHORTEST_LEASE:
            msg = f"lease={self.lease} s is too short: at least {_SHORTEST_LEASE}"
            raise InvalidTaskError(msg)
        self.standby: bool = standby
        self.take_over: bool = take_over
        self.durability: Durability = durability
        self._retention = Retention(keep_for, keep_latest)
        #: For people: where it is, without a password.
        self.name: str = f"{address.name}?partition={self.partition}"
        self._connections = Connections(address)
        self._beside = Beside("")
        self._pid = os.getpid()
        self._mutex = threading.Lock()
        #: The life that `wait_for_turn` has begun, for `claim`.
        self._begun: int | None = None
        self._epoch, self._token = 0, ""
        #: The number of the partition, and what others cannot have.
        self._id: int | None = None
        #: That of the database, once it was seen to be fit.
        self._oid: int | None = None
        self._identity = ""
        #: The latest fact that is known to be kept, and the highest life that was seen.
        self._last = self._seen = 0
        #: The last fact of a group of which nobody knows whether it was kept.
        self._doubt: int | None = None
        self._holding: _Holding | None = None
        self._is_closed = False
        _OPEN.add(self)

    def __repr__(self) -> str:
        return f"PostgresJournal({self.name!r})"

    def description(self) -> str:
        """See `DurableJournal.description`: where it is, without a password."""
        return self.name

    def identity(self) -> str:
        """See `DurableJournal.identity`: it is known once it was claimed."""
        return self._identity

    # ---------------------------------------------------------------------- owning

    def wait_for_turn(self, is_over: Callable[[], bool]) -> None:
        """
        See `DurableJournal.wait_for_turn`.

        Raises:
            JournalTakenError: Its owner lives, and this is no standby.
            JournalUnavailableError: The server was not there at the first look.
            JournalError: See `claim`.
        """
        if self._begun is None:
            self._begun = self._acquire(is_over)

    def claim(self) -> int:
        """
        See `Journal.claim`; whether the owner lives may take a lease to be seen.

        Raises:
            JournalTakenError: Its owner lives.
            JournalUnavailableError: The server is not there, or only reads.
            JournalError: It has another layout, or an earlier state than was seen here;
                or commits there do not wait for the disk, and *durability* says so.
        """
        self._check_usable()
        begun, self._begun = self._begun, None
        if begun is None:
            begun = self._acquire(lambda: False)
        assert begun is not None  # noqa: S101 - it has waited till the end
        return begun

    def _acquire(self, is_over: Callable[[], bool]) -> int | None:
        """Claim it once its turn has come; None: it came to an end before."""
        first: tuple[str, str] | None = None
        was_there = False
        while not is_over():
            self._check_usable()
            pause = _LONGEST_PAUSE
            try:
                with self._speaking("claimed") as db:
                    self._prepare(db)
                    owner = self._look(db)
                    if self._is_free(owner):
                        epoch = self._begin_life(db)
                        if epoch is not None:
                            return epoch
                        continue
                was_there = True
                held = owner["token"], owner["until"]
                first = first or held
                if not self.standby and held != first:
                    raise self._taken(owner)
                pause = min(pause, self.lease * _LOOKED_AT, owner["left"] + _AFTER)
            except JournalUnavailableError:
                if not (self.standby and was_there):
                    raise
            time.sleep(max(pause, _AFTER))
        return None

    def _prepare(self, db: psycopg.Connection[Any]) -> None:
        """See to it that there are tables and the partition."""
        if self._oid is not None:
            return
        self._make_tables(db)
        self._check_layout(db)
        oid = self._check_server(db)
        db.execute(sql.NEW_PARTITION, (self.partition,))
        self._oid = oid

    def migrate(self) -> int:
        """
        Make the tables that all journals of the database share, or make them anew.

        `claim` makes them too, if its role may; but those of an earlier taskorch stay
        as they are until this is called, since others may still write to them.

        Returns:
            The number of their layout.

        Raises:
            JournalUnavailableError: The server is not there, or only reads.
            JournalError: They have another layout, or this role may not make any.
        """
        with self._speaking("changed") as db:
            self._make_tables(db)
            self._check_layout(db)
        return sql.LAYOUT

    def _make_tables(self, db: psycopg.Connection[Any]) -> None:
        if not db.execute(sql.HAS_LAYOUT).fetchone()[0]:  # type: ignore[index]
            with db.transaction():
                for statement in sql.MAKE:
                    db.execute(statement)

    def _check_layout(self, db: psycopg.Connection[Any]) -> None:
        found = db.execute(sql.FIND_LAYOUT).fetchone()
        layout = 0 if found is None else found[0]
        if layout > sql.LAYOUT:
            msg = f"{self.name} has layout {layout}, of a newer taskorch; "
            hint = "bring this taskorch up to date: pip install --upgrade taskorch"
            msg_0 = f"{msg}{sql.LAYOUT} is known"
            raise JournalError(msg_0, hint=hint)
        if layout < sql.LAYOUT:
            msg = f"{self.name} has layout {layout}, and {sql.LAYOUT} is written"
            hint = "stop all that use it, then run: taskorch migrate postgresql://…"
            raise JournalError(msg, hint=hint)

    def _check_server(self, db: psycopg.Connection[Any]) -> int:
        """Check that the server keeps what it is given; the number of the database."""
        found = db.execute(sql.SERVER).fetchone()
        assert found is not None  # noqa: S101 - it is one row
        fsync, commit, encoding, is_replica, oid = found
        if is_replica:
            msg = f"{self.name} is a replica, which only reads"
            hint = "name the primary: postgresql://a,b/db?target_session_attrs=primary"
            raise JournalUnavailableError(msg, outcome="refused", hint=hint)
        if encoding != "UTF8":
            msg = f"{self.name}: the database has the encoding {encoding}, not UTF8"
            hint = "createdb --encoding=UTF8 --template=template0 NAME"
            raise JournalError(msg, hint=hint)
        if self.durability == "power":
            for name, value in (("fsync", fsync), ("synchronous_commit", commit)):
                if value == "off":
                    self._refuse_setting(name)
        return int(oid)

    def _refuse_setting(self, name: str) -> NoReturn:
        msg = (
            f"{self.name}: {name} is off there, so that a crash of the server can lose "
            'what it said was kept; durability="power" promises more'
        )
        hint = f'set {name} to on, or say PostgresJournal(…, durability="process")'
        raise JournalError(msg, hint=hint)

    def _look(self, db: psycopg.Connection[Any]) -> dict[str, Any]:
        """
        What is said of the partition.

        Raises:
            JournalError: It has gone back to what was before, or is not there.
        """
        # What was known before it answers: another thread may append meanwhile.
        seen, last = self._seen, self._last
        cursor = db.execute(sql.OWNER, (self.partition,))
        row = cursor.fetchone()
        if row is None:
            msg = f"{self.name}: the partition is gone, and it was there"
            raise JournalError(msg, hint="restore it from a copy")
        names = [column.name for column in cursor.description or ()]
        owner = dict(zip(names, row, strict=True))
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

    def _is_free(self, owner: dict[str, Any]) -> bool:
        if owner["left"] <= 0 or self.take_over or owner["token"] == self._token:
            return True
        return owner["machine"] == _machine() and not _lives(owner)

    def _begin_life(self, db: psycopg.Connection[Any]) -> int | None:
        """Begin a life, unless another has at the same moment."""
        reach("claim")
        pid = os.getpid()
        me = {
            "name": self.partition,
            "lease": self.lease,
            "pid": pid,
            "host": host(),
            "machine": _machine(),
            "started": began_at(pid),
        }
        with db.transaction():
            db.execute(sql.LOCK, (self.partition,))
            owner = self._look(db)
            if not self._is_free(owner):
                return None
            found = db.execute(sql.CLAIM, me).fetchone()
            assert found is not None  # noqa: S101 - the row is locked
        reach("claimed")
        with self._mutex:
            self._let_go()
            self._epoch, self._token = found
            self._seen, self._last = self._epoch, owner["last"]
            self._doubt = None
            self._identity = f"{owner['uid']}-{self._oid:x}"
            self._holding = _Holding(self._connections, self._mine(), self.lease)
            weakref.finalize(self, self._holding.end)
        return self._epoch

    def _mine(self) -> dict[str, Any]:
        """What tells the owner, for statements."""
        return {
            "name": self.partition,
            "epoch": self._epoch,
            "token": self._token,
            "lease": self.lease,
        }

    def close(self) -> None:
        """See `Journal.close`; another may own it from now on."""
        if os.getpid() != self._pid:
            return
        self._is_closed = True
        with self._mutex:
            holding = self._holding
            self._let_go()
            if holding is not None:
                # Whoever waits finds out by itself, if this cannot be said.
                with contextlib.suppress(load().Error), self._connections.use() as db:
                    db.execute(sql.RELEASE, self._mine())
            self._epoch, self._token = 0, ""
        self._connections.close()

    def _let_go(self) -> None:
        holding, self._holding = self._holding, None
        if holding is not None:
            holding.end()

    # -------------------------------------------------------------------- writing

    def append(self, epoch: int, group: Iterable[Entry | Row] | Rows) -> None:
        """
        See `Journal.append`; it also takes what `new_group` gave, or a list of that.

        Raises:
            InvalidTaskError: Something in it cannot be restored exactly; nothing of
                it was kept.
            JournalError: The journal has gone back to an earlier state.
        """
        self._check_owner(epoch)
        rows = self._rows_of(group)
        if not rows:
            return
        numbers = rows.numbers
        with self._mutex:
            self._check_owner(epoch)
            with self._speaking("written") as db:
                reach("begin")
                if numbers[0] <= self._last or self._doubt is not None:
                    self._append_again(db, rows, numbers)
                else:
                    self._doubt = numbers[-1]
                    self._write(db, rows, numbers)
            self._last, self._doubt = numbers[-1], None
            reach("kept")

    def _write(
        self, db: psycopg.Connection[Any], rows: Rows, numbers: list[int]
    ) -> None:
        parts = list(_parts(rows))
        what = self._mine() | {
            "last": numbers[-1],
            "before": self._last,
            "count": len(numbers),
            "power": self.durability == "power",
        }
        if len(parts) == 1:
            is_kept = db.execute(sql.APPEND, what | parts[0]).fetchone() is not None
        else:
            with db.transaction():
                found = db.execute(sql.APPEND, what | parts[0]).fetchone()
                is_kept = found is not None
                for part in parts[1:] if is_kept else ():
                    db.execute(sql.APPEND_MORE, what | part)
                reach("commit")
        if not is_kept:
            # It was not kept, and will not be.
            self._doubt = None
            self._explain_refusal(db)

    def _explain_refusal(self, db: psycopg.Connection[Any]) -> NoReturn:
        """Raise why a group was not kept."""
        owner = self._look(db)
        self._check_life(owner)
        if owner["last"] != self._last:
            msg = f"{self.name} ends with fact {owner['last']}, and {self._last} was"
            msg_0 = f"{msg} the last"
            raise JournalError(msg_0, hint="somebody else wrote to it")
        self._refuse_setting("synchronous_commit")

    def _append_again(
        self, db: psycopg.Connection[Any], rows: Rows, numbers: list[int]
    ) -> None:
        """
        Append what may have been kept already.

        Raises:
            ValueError: It is neither new nor the latest group.
        """
        # A statement whose connection was lost may be at work still: it has the row.
        with db.transaction():
            db.execute(sql.LOCK, (self.partition,))
            owner = self._look(db)
            self._check_life(owner)
        first, kept = numbers[0], owner["last"]
        self._last, self._doubt = kept, None
        if first > kept:
            self._doubt = numbers[-1]
            self._write(db, rows, numbers)
            return
        if numbers[-1] == kept:
            found = db.execute(sql.GROUP, (self._id, kept, 0)).fetchall()
            if [row[1:] for row in found] == list(rows):
                return
        msg = f"fact {first} comes after fact {kept} was kept"
        raise ValueError(msg)

    def save(self, epoch: int, seq: int, state: dict[str, Any]) -> None:
        """
        See `DurableJournal.save`; the one before it is kept too.

        Raises:
            JournalTakenError: Somebody else has claimed it since.
            JournalUnavailableError: It cannot be written now.
            ValueError, TypeError: *seq* was not kept, or *state* is no JSON.
        """
        self._check_owner(epoch)
        text = state_text(state)
        with self._mine_locked() as (db, owner):
            if not 0 < seq <= owner["last"]:
                msg = f"a snapshot at fact {seq}, which was not kept"
                raise ValueError(msg)
            db.execute(sql.SAVE, (self._id, seq, text))
            db.execute(sql.DROP_OLD, (self._id, self._id))

    def retention(self) -> Retention:
        """See `DurableJournal.retention`: `keep_for` and `keep_latest`."""
        return self._retention

    def forget(self, epoch: int, ids: Collection[str]) -> int:
        """
        See `DurableJournal.forget`; the server makes room by itself (autovacuum).

        Raises:
            JournalTakenError: Somebody else has claimed it since.
            JournalUnavailableError: It cannot be written now; nothing was left out.
        """
        self._check_owner(epoch)
        with self._mine_locked() as (db, _):
            count = db.execute(sql.FORGET, (_names(ids), self._id)).rowcount
            if count:
                db.execute(sql.NOTE_FORGOTTEN, (count, self._id))
                # They name tasks that are gone.
                db.execute(sql.FORGET_SNAPSHOTS, (self._id,))
        return count

    def upkeep(self, epoch: int) -> None:
        """See `DurableJournal.upkeep`: it only looks whether it is owned still."""
        self._check_owner(epoch)
        with self._mine_locked():
            pass

    @contextlib.contextmanager
    def _mine_locked(self) -> Iterator[tuple[psycopg.Connection[Any], dict[str, Any]]]:
        """A transaction in which nobody else can claim it."""
        with self._mutex, self._speaking("written") as db, db.transaction():
            self._check_usable()
            db.execute(sql.LOCK, (self.partition,))
            owner = self._look(db)
            self._check_life(owner)
            yield db, owner

    # -------------------------------------------------------------------- reading

    def read(self, after: int = 0) -> Iterator[Entry]:
        """
        See `Journal.read`; it gives what was kept when it began.

        Raises:
            JournalError: What is there cannot be read by this taskorch.
            JournalUnavailableError: It cannot be read now.
        """
        with self._asking() as found:
            if found is None:
                return
            db, owner = found
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
            more = db.execute(
                sql.READ, (self._id, min(after, _MOST), until, _BATCH)
            ).fetchall()
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
        with self._asking() as found:
            if found is None:
                return
            asked = _names(ids), self._id, min(until, _MOST)
            rows = found[0].execute(sql.ABOUT, asked).fetchall()
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
        with self._asking() as found:
            if found is None:
                return {}
            rows = found[0].execute(sql.ENDS, (list(names), self._id)).fetchall()
        return {names[name]: kind for name, kind in rows}

    def ids(self, prefix: str) -> list[str]:
        """See `DurableJournal.ids`."""
        # In order, those with the prefix end where its last character is raised by one.
        above = prefix and prefix[:-1] + chr(ord(prefix[-1]) + 1)
        found = self._ask(sql.IDS, prefix, prefix, prefix, above)
        return [task_id for (task_id,) in found]

    def submitted(self, after: int, until: int, most: int) -> list[tuple[int, str]]:
        """See `DurableJournal.submitted`."""
        return self._ask(sql.SUBMITTED, after, min(until, _MOST), most)

    def id_of_key(self, key: str) -> str | None:
        """See `DurableJournal.id_of_key`."""
        found = self._ask(sql.BY_KEY, _codec.column(key))
        return found[0][0] if found else None

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
        rows = self._ask(sql.LATEST_OF, kind)
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
        with self._asking() as found:
            if found is None:
                return {}
            rows = found[0].execute(sql.ENDS_BY_TIME, (every_ns, self._id)).fetchall()
        return {(period, kind): count for period, kind, count in rows}

    def owner(self) -> dict[str, Any]:
        """
        The latest owner: `epoch`, `pid`, `host`, `since`, `started`, and `lives`.

        With `uid`, the id of the journal. It lives while its lease lasts.

        Raises:
            JournalUnavailableError: It cannot be read now.
        """
        with self._asking() as found:
            if found is None:
                return {}
            owner = found[1]
        lives = owner["left"] > 0
        if lives and owner["machine"] == _machine():
            lives = _lives(owner)
        return owner | {"lives": lives}

    @property
    def last(self) -> int:
        """The number of the last fact that is kept, or 0."""
        with self._asking() as found:
            return 0 if found is None else found[1]["last"]

    def verify(self) -> int:
        """
        Read all of it, and count.

        Returns:
            How many facts there are.

        Raises:
            JournalError: Some are missing, or cannot be read by this taskorch.
            JournalUnavailableError: It cannot be read now.
        """
        with self._asking() as found:
            if found is None:
                return 0
            db, owner = found
            with db.transaction():
                db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                owner = self._look(db)
                ((count,),) = db.execute(sql.COUNT, (self._id,)).fetchall()
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
            there: list[str] = []
            if db.execute(sql.HAS_LAYOUT).fetchone()[0]:  # type: ignore[index]
                self._check_layout(db)
                there = [name for (name,) in db.execute(sql.NAMES)]
        if self.partition not in there:
            msg = f"{self.name}: there is no such partition"
            hint = f"there are: {', '.join(there[:20])}" if there else None
            raise JournalError(msg, hint=hint or "no orchestrator has used it yet")

    # ------------------------------------------------------------------- the server

    @contextlib.contextmanager
    def _speaking(self, what: str) -> Iterator[psycopg.Connection[Any]]:
        """A connection; what the server raises is said in our words."""
        self._check_process()
        driver = load()
        try:
            with self._connections.use() as db:
                yield db
        except driver.Error as error:
            unknown = what == "written" and self._doubt is not None
            raise error_of(error, self.name, what, unknown=unknown) from error

    @contextlib.contextmanager
    def _asking(
        self,
    ) -> Iterator[tuple[psycopg.Connection[Any], dict[str, Any]] | None]:
        """A connection, and what is said of the partition; None: there is none yet."""
        with self._speaking("read") as db:
            if self._id is None:
                there = None
                if db.execute(sql.HAS_LAYOUT).fetchone()[0]:  # type: ignore[index]
                    self._check_layout(db)
                    there = db.execute(sql.OWNER, (self.partition,)).fetchone()
                if there is None:
                    yield None
                    return
            yield db, self._look(db)

    def _ask(self, question: LiteralString, *values: Any) -> list[Any]:
        """The rows that answer *question*, which is asked of the partition first."""
        with self._asking() as found:
            if found is None:
                return []
            return found[0].execute(question, (self._id, *values)).fetchall()

    # ------------------------------------------------------------------ complaints

    def _check_life(self, owner: dict[str, Any]) -> None:
        if owner["token"] != self._token:
            raise JournalTakenError(self._words(owner, "was taken over"))

    def _taken(self, owner: dict[str, Any]) -> JournalTakenError:
        hint = (
            "stop that one first, or wait for its end: PostgresJournal(…, "
            "standby=True); take_over=True takes it from a living one"
        )
        return JournalTakenError(self._words(owner, "is in use"), hint=hint)

    def _words(self, owner: dict[str, Any], what: str) -> str:
        by = f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
        return f"{self.name} {what} by life {owner['epoch']}: {by}"

    def _check_owner(self, epoch: int) -> None:
        self._check_usable()
        if epoch != self._epoch or epoch == 0:
            msg = f"{self.name}: life {self._epoch} owns it here, not life {epoch}"
            raise JournalTakenError(msg)

    def _check_usable(self) -> None:
        self._check_process()
        if self._is_closed:
            msg = f"{self.name} was closed"
            raise JournalUnavailableError(msg, outcome="refused", hint="open it anew")

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            msg = (
                f"{self.name} was opened by process {self._pid}, before this one forked"
            )
            raise JournalError(msg, hint="only the process that opened it may use it")


class _Holding:
    """Renews a lease, on a thread of its own, until another has claimed the journal."""

    def __init__(
        self, connections: Connections, mine: dict[str, Any], lease: float
    ) -> None:
        self._connections, self._mine = connections, mine
        self._pause = lease * _RENEWED
        self._is_over = threading.Event()
        self._thread = threading.Thread(
            target=self._renew, name="taskorch-lease", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """Renew it no more."""
        self._is_over.set()
        if self._thread is not threading.current_thread():
            self._thread.join(self._pause)

    def _renew(self) -> None:
        driver = load()
        while not self._is_over.wait(self._pause):
            # What is wrong with the server, the next commit says.
            with contextlib.suppress(driver.Error), self._connections.use() as db:
                if not db.execute(sql.RENEW, self._mine).rowcount:
                    return


def _checked_name(partition: object) -> str:
    problem = id_problem(partition)
    if problem is not None:
        msg = f"partition: {problem}"
        raise InvalidTaskError(msg)
    return str(partition)


def _names(ids: Iterable[str]) -> list[str]:
    return [_codec.column(task_id) for task_id in ids]


def _parts(rows: Rows) -> Iterator[dict[str, str]]:
    """The columns of *rows*, for some statements none of which is too large."""
    texts = rows.values[5 :: _codec.WIDTH]
    bounds, size = [0], 0
    for place, text in enumerate(texts):
        size += len(text)  # type: ignore[arg-type]
        if size > _LARGE and place > bounds[-1]:
            bounds.append(place)
            size = len(text)  # type: ignore[arg-type]
    keys = {}
    if rows.keys:
        keys = dict(zip(rows.keys[1::2], rows.keys[::2], strict=True))
    columns = rows.columns
    for start, end in zip(bounds, [*bounds[1:], len(texts)], strict=True):
        seq, kind, at_ns, task_id, body, doc = (each[start:end] for each in columns)
        ours = [""]
        if keys:
            pairs = zip(kind, task_id, strict=True)
            ours = [
                keys.get(name, "") if cls == "TaskSubmitted" else ""
                for cls, name in pairs
            ]
        yield {
            "seq": "\n".join(map(str, seq)),
            "kind": "\n".join(kind),
            "at_ns": "\n".join(map(str, at_ns)),
            "task_id": _lines(task_id),
            "body": "\n".join(body),
            "doc": "\n".join(doc),
            "key": _lines(ours),
        }


def _lines(names: list[str]) -> str:
    text = "\n".join(names)
    if text.count("\n") != len(names) - 1 or "\0" in text:
        name = next(name for name in names if "\n" in name or "\0" in name)
        msg = f"{name!r} is no id, and no key: it has a line break, or a NUL"
        raise InvalidTaskError(msg)
    return text


def _machine() -> str:
    """
    What has the processes that can be seen from here; "" off Linux.

    It is another after a start of the machine, and in another container.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123
            return f"{file.read().strip()}/{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
    except OSError:
        return ""


def _lives(owner: dict[str, Any]) -> bool:
    """Whether the owner, which is on this machine, may live."""
    if not owner["machine"]:
        return True
    pid, started = owner["pid"], owner["started"]
    return is_there(pid) and (started is None or began_at(pid) in (None, started))


#: The journals of this process, and what a child of it must never close.
_OPEN: Final[weakref.WeakSet[PostgresJournal]] = weakref.WeakSet()
_INHERITED: Final[list[object]] = []


def _leave_to_parent() -> None:
    """In a child after a fork: no connection is touched."""
    for journal in _OPEN:
        _INHERITED.append(journal._connections.leave_to_parent())  # noqa: SLF001


os.register_at_fork(after_in_child=_leave_to_parent)
