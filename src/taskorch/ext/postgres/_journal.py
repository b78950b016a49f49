"""
The journal in a PostgreSQL database, whose tables are in `_postgres_tables`.

Its leader has a lease by the clock of the database, which each commit and a thread of
its own renew. When that is over another may claim the journal, and no later write of
the earlier leader is kept: see `_postgres_tables`.

Decision: journal-in-postgresql.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from taskorch.core.journal._codec import Row
from taskorch.core.journal._sql import SqlJournal
from taskorch.core.journal.tables import (
    KEEP_GROUP,
    ChainStart,
    Durability,
    GroupRow,
    Reader,
    Rows,
    reach,
)
from taskorch.errors import (
    InvalidTaskError,
    JournalError,
    JournalTakenError,
    JournalUnavailableError,
)
from taskorch.ext.postgres import _tables as sql
from taskorch.ext.postgres._reading import PostgresReading, has_died, machine
from taskorch.ext.postgres._session import (
    LeaseKeeper,
    PostgresSession,
    clock,
    is_refusal,
    number,
    parse,
    truth,
)
from taskorch.kit.checks import check_seconds
from taskorch.kit.fence import log_of
from taskorch.kit.interrupts import defers_interrupts
from taskorch.kit.machine import host
from taskorch.kit.processes import began_at
from taskorch.kit.visible import visible

if TYPE_CHECKING:
    import psycopg

_LOG: Final = log_of(__name__)
#: Characters that one statement writes; a larger group is several, in a transaction.
_LARGE: Final = 32_000_000
#: The share of a lease after which a standby looks at it again.
_LOOKED_AT: Final = 1 / 10
#: The longest seconds between two looks; and the seconds after the end of a lease.
_LONGEST_PAUSE: Final = 0.25
_AFTER: Final = 0.002
#: Seconds that the clock of a leader may be wrong before it is reported.
_SKEW: Final = 60
#: A shorter lease would end while its leader waits for the processor.
_SHORTEST_LEASE: Final = 0.1
#: The number of leases after which the server ends a transaction whose client is
#: silent; and the fewest seconds.
_IDLE_LEASES: Final = 2
_LEAST_IDLE: Final = 10.0


class PostgresJournal(PostgresReading, SqlJournal):
    """
    A DurableJournal that keeps events in a PostgreSQL database.

    A database has many journals, its *partitions*, each with one leader at a time.
    Opening one does nothing yet: `claim` makes it if there is none, and owns it for the
    time of its lease, which is renewed while this process lives. A standby that finds
    that the lease is over takes the journal, with all that is in it; the earlier leader
    can write no more from then on, however late it wakes up. Reading needs no claim.

    Each commit and a thread renew the lease. A leader that is unsure of its lease
    stores each start before it starts the task, so it starts nothing that another runs.
    If a commit got no answer, it is looked for, and written if it is missing. A server
    that says nothing within a lease, behind a pgbouncer within a minute, is given up: a
    second connection asks whether it is still at work on the statement. Dates are those
    of the leader and never go back; it logs when its clock is a minute off.

    A standby raises lasting errors, such as a wrong password. Workers elsewhere connect
    to the leader.

    Args:
        dsn: The server and database: `postgresql://user@host/database`, which may also
            have `?partition=…`, `lease=…`, `standby=true` and `logs=…`; or text of
            `name=value`, as for libpq.
        partition: The name of the journal in the database.
        lease: Seconds after its latest sign of life in which nobody takes it from its
            leader; by the clock of the database, so that of a client may be wrong.
        standby: Wait until the server is there and no other leads it, for ever. If
            False, a claim is refused while its leader lives.
        take_over: Claim it although its leader lives.
        durability: `"power"`: groups that `append` has written survive a crash of the
            server and a loss of power. `"process"`: they survive a death of this
            process; a crash of the server may take the latest groups, each as a whole.
        keep_for: How long tasks are kept after their end: see `SqliteJournal`.
        keep_latest: How many ended tasks are kept, the latest; None: all.
        logs: A folder for the logs and output of tasks, which all standbys share;
            None: they are not kept.

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
        logs: str | os.PathLike[str] | None = None,
    ) -> None:
        self._dsn = dsn
        address = parse(dsn)
        options = address.said
        if lease is None:
            lease = number("lease", options["lease"]) if "lease" in options else 5.0
        if standby is None:
            standby = (
                truth("standby", options["standby"]) if "standby" in options else False
            )
        if partition is None:
            partition = options.get("partition", "default")
        #: Seconds in which nobody takes it from a leader that gives no sign of life.
        self.lease: float = check_seconds("lease", lease)
        super().__init__(
            address,
            partition,
            self.lease,
            durability=durability,
            take_over=take_over,
            keep_for=keep_for,
            keep_latest=keep_latest,
        )
        if self.lease < _SHORTEST_LEASE:
            msg = f"lease={self.lease} s is too short: at least {_SHORTEST_LEASE}"
            raise InvalidTaskError(msg)
        self.standby: bool = standby
        logs = options.get("logs") if logs is None else logs
        #: The shared folder, in which each journal has one of its own.
        self.logs: Path | None = None if logs is None else Path(logs).absolute()
        self._mutex = threading.Lock()
        #: The incarnation that `wait_for_turn` has begun, for `claim`.
        self._begun: int | None = None
        self._token = ""
        #: The number of the database, once it was found fit.
        self._oid: int | None = None
        self._identity, self._uid = "", ""
        self._lease: LeaseKeeper | None = None
        #: Hears if the journal is found to be another's; and why the lease is not
        #: renewed.
        self._tell: Callable[[JournalError], object] | None = None
        self._trouble = ""

    def __repr__(self) -> str:
        return f"PostgresJournal({self.name!r})"

    @property
    def uid(self) -> str:
        """The journal's own id; "" before it was claimed."""
        return self._uid

    def identity(self) -> str:
        """See `DurableJournal.identity`: it is known once it was claimed."""
        return self._identity

    def logs_folder(self) -> str | None:
        """See `DurableJournal.logs_folder`: the folder of its id in `logs`."""
        if self.logs is None:
            return None
        uid = self._uid or self.owner().get("uid", "")
        return str(self.logs / uid) if uid else None

    def exists(self) -> bool:
        """See `SqlJournal.exists`: whether there is such a partition."""
        with self._speaking("read") as db:
            return self._layout(db) is not None and self.partition in self._partitions(
                db
            )

    def draft(self) -> PostgresJournal:
        """See `SqlJournal.draft`: another partition."""
        draft = PostgresJournal(
            self._dsn,
            partition=f"{self.partition}.copy",
            durability=self.durability,
            standby=False,
        )
        if draft.exists():
            with self._speaking("written") as db, db.transaction():
                for statement in sql.DROP:
                    db.execute(statement, (draft.partition,))
        return draft

    def replace_by(self, draft: SqlJournal) -> None:
        """See `SqlJournal.replace_by`: the partition gets its name."""
        assert isinstance(draft, PostgresJournal)  # noqa: S101 - it is ours
        if self.exists():
            msg = f"{self.name} exists already"
            raise InvalidTaskError(msg, hint="name one that does not")
        with self._speaking("written") as db:
            db.execute(sql.RENAME, (self.partition, draft.partition))

    # ---------------------------------------------------------------------- owning

    def wait_for_turn(self, is_over: Callable[[], bool]) -> None:
        """
        See `DurableJournal.wait_for_turn`.

        Raises:
            JournalTakenError: Its owner lives, and this is no standby.
            JournalUnavailableError: The server is not there, and this is no standby; or
                it has never let this one in, and will not: the password is wrong.
            JournalError: See `claim`.
        """
        if self._begun is None:
            self._begun = self._acquire(is_over)

    def claim(self) -> int:
        """
        See `Journal.claim`; it may take a lease to see whether the leader lives.

        Raises:
            JournalTakenError: Its leader lives.
            JournalUnavailableError: The server is not there, or only reads.
            JournalError: It has another layout, or an earlier state than was seen here;
                or commits there do not wait for the disk, as *durability* needs.
        """
        self._check_usable()
        begun, self._begun = self._begun, None
        if begun is None:
            begun = self._acquire(lambda: False)
        assert begun is not None  # noqa: S101 - it waits to the end
        return begun

    def _acquire(self, is_over: Callable[[], bool]) -> int | None:
        """Claim it once its turn has come; return None if it ended before."""
        first: tuple[str, str] | None = None
        logged = ""
        while not is_over():
            self._check_usable()
            pause = _LONGEST_PAUSE
            try:
                with self._speaking("claimed") as db:
                    self._prepare(db)
                    owner = self._look(db)
                    if self._is_free(owner):
                        epoch = self._begin_incarnation(db)
                        if epoch is not None:
                            return epoch
                        continue
                held = owner["token"], owner["until"]
                first = first or held
                if not self.standby and held != first:
                    raise self._taken(owner)
                pause = min(pause, self.lease * _LOOKED_AT, owner["left"] + _AFTER)
                why = self._words(owner, "is in use")
            except JournalUnavailableError as error:
                # A server that has let it in once may do so again, whatever it says
                # now.
                is_known = self._oid is not None or not is_refusal(error.__cause__)
                if not (self.standby and is_known):
                    raise
                why = error.message
            if self.standby and why != logged:
                logged = why
                _LOG.warning("%s; this one waits until it can have it", visible(why))
            time.sleep(max(pause, _AFTER))
        return None

    def _prepare(self, db: psycopg.Connection[Any]) -> None:
        """Make the tables and the partition, if they are missing."""
        if self._oid is not None:
            return
        if self._layout(db) is None:
            self._make_tables(db)
        self._check_layout(db)
        oid = self._check_server(db)
        db.execute(sql.NEW_PARTITION, (self.partition,))
        self._oid = oid

    def migrate(self) -> int:
        """
        Make the tables that all journals of the database share, if there are none.

        `claim` does that too, if its role may.

        Returns:
            The number of their layout.

        Raises:
            JournalUnavailableError: The server is not there, or only reads.
            JournalError: They have another layout, or this role may not make any.
        """
        with self._speaking("changed") as db:
            if self._layout(db) is None:
                self._make_tables(db)
            self._check_layout(db)
        return sql.LAYOUT

    def _make_tables(self, db: psycopg.Connection[Any]) -> None:
        with db.transaction():
            for statement in sql.MAKE:
                db.execute(statement)

    def _check_server(self, db: psycopg.Connection[Any]) -> int:
        """Check that the server keeps commits; return the database's number."""
        row = db.execute(sql.SERVER).fetchone()
        assert row is not None  # noqa: S101 - it is one row
        fsync, commit, encoding, is_replica, oid, now = row
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
        ahead = time.time() - now  # noqa: TID251 - it is only compared
        if abs(ahead) > _SKEW:
            _LOG.warning(
                "the clock of this machine is %.0f s %s that of %s: "
                "what is kept from now on has such dates, and they never go back",
                abs(ahead),
                "ahead of" if ahead > 0 else "behind",
                self.name,
            )
        return int(oid)

    def _refuse_setting(self, name: str) -> NoReturn:
        msg = (
            f"{self.name}: {name} is off there, so that a crash of the server can lose "
            'what it said was kept; durability="power" promises more'
        )
        hint = f'set {name} to on, or say PostgresJournal(…, durability="process")'
        raise JournalError(msg, hint=hint)

    def _is_free(self, owner: dict[str, Any]) -> bool:
        if owner["left"] <= 0 or self.take_over or owner["token"] == self._token:
            return True
        return has_died(owner)

    @defers_interrupts
    def _begin_incarnation(self, db: psycopg.Connection[Any]) -> int | None:
        """Begin an incarnation, unless another has at the same moment."""
        reach("claim")
        if self._lease is not None:
            self._lease.end()
        pid = os.getpid()
        me = {
            "name": self.partition,
            "lease": self.lease,
            "pid": pid,
            "host": host(),
            "machine": machine(),
            "started": began_at(pid),
        }
        with db.transaction():
            self._lock(db)
            owner = self._look(db)
            if not self._is_free(owner):
                return None
            reader = Reader(self._session(db))
            start, latest = reader.chain_start(), reader.check_latest(owner["epoch"])
            since = clock()
            row = db.execute(sql.CLAIM, me).fetchone()
            assert row is not None  # noqa: S101 - the row is locked
        reach("claimed")
        with self._mutex:
            self._epoch, self._token = row
            self._seen, self._in_doubt = self._epoch, False
            self._set_start(start, latest)
            self._uid = owner["uid"]
            self._identity = f"{self._uid}-{self._oid:x}"
            self._lease = LeaseKeeper(self.lease, since, self._renew, self._release)
        return self._epoch

    def _lock(self, db: psycopg.Connection[Any]) -> None:
        """Lock the partition until the end of a transaction, which may not idle."""
        seconds = max(_IDLE_LEASES * self.lease, _LEAST_IDLE)
        idle = str(round(seconds * 1000))
        db.execute(sql.LOCK, {"name": self.partition, "idle": idle})

    def _mine(self) -> dict[str, Any]:
        """Return the values that identify the leader, for statements."""
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
            if self._lease is not None:
                self._lease.end()
            self._lease = None
            self._epoch, self._token = 0, ""
        self._connections.close()

    def is_owned(self) -> bool:
        """See `DurableJournal.is_owned`: as long as its lease lasts, by our clock."""
        return self._lease is not None and self._lease.lasts()

    def when_lost(self, tell: Callable[[JournalError], object]) -> None:
        """See `DurableJournal.when_lost`: it shows when the lease is renewed."""
        self._tell = tell

    def troubles(self) -> tuple[str, ...]:
        """See `DurableJournal.troubles`: no lease, or a connection that was silent."""
        if self._trouble or self._lease is None or self._lease.lasts():
            return (self._trouble,) if self._trouble else self._connections.silence()
        return (f"{self.name}: the server does not answer, and the lease has run out",)

    def _renew(self) -> bool:
        """Renew the lease; return whether the journal seems still ours."""
        since = clock()
        try:
            with self._speaking("written") as db:
                mine = self._mine() | {"last": self._acknowledged.last}
                if not db.execute(sql.RENEW, mine).rowcount:
                    self._check_incarnation(self._look(db))
                elif self._lease is not None:
                    self._lease.renewed(since)
        except JournalUnavailableError as error:
            self._trouble = error.message
        except JournalError as error:
            if self._tell is not None and not self._is_closed:
                self._tell(error)
            return False
        else:
            self._trouble = ""
        return True

    def _release(self) -> None:
        """Give the lease back at the end, for standbys to find out sooner."""
        if self._is_closed:
            with contextlib.suppress(JournalError), self._speaking("written") as db:
                db.execute(sql.RELEASE, self._mine())

    # -------------------------------------------------------------------- writing

    @contextlib.contextmanager
    def _writing(self, epoch: int) -> Iterator[PostgresSession]:
        with self._mutex, self._speaking("written") as db:
            # Another thread may have closed it since.
            self._check_owner(epoch)
            yield self._session(db)

    @contextlib.contextmanager
    def _owning(self, session: PostgresSession) -> Iterator[None]:
        # A statement whose connection was lost may still run, and then holds the row.
        with session.db.transaction():
            self._lock(session.db)
            self._check_incarnation(self._look(session.db))
            yield

    def _keep(
        self, session: PostgresSession, rows: Rows, group: GroupRow, before: int
    ) -> None:
        db, parts = session.db, list(_parts(rows))
        parameters = self._mine() | {
            "last": group.last,
            "first": group.first,
            "crc": group.kept,
            "size": group.size,
            "hash": group.hash,
            "before": before,
            "power": self.durability == "power",
        }
        since = clock()
        self._in_doubt = True
        if len(parts) == 1:
            append = sql.APPEND_ONE if len(rows) == 1 else sql.APPEND
            is_kept = db.execute(append, parameters | parts[0]).rowcount == 1
        else:
            with db.transaction():
                self._lock(db)
                is_kept = db.execute(sql.APPEND, parameters | parts[0]).rowcount == 1
                for part in parts[1:] if is_kept else ():
                    db.execute(sql.APPEND_MORE, parameters | part)
                reach("commit")
        if not is_kept:
            # It was not kept, and will not be.
            self._in_doubt = False
            self._explain_refusal(db, before)
        if self._lease is not None:
            self._lease.renewed(since)
            self._trouble = ""

    def _adopt_chain(self, session: PostgresSession, start: ChainStart) -> None:
        session.db.execute(sql.ADOPT_CHAIN, self._mine() | {"chain": start.text})

    def _adopt(
        self, session: PostgresSession, groups: Sequence[tuple[GroupRow, list[Row]]]
    ) -> None:
        db, mine = session.db, self._mine()
        # An event has the incarnation of its group.
        for incarnation, some in groupby(groups, key=lambda pair: pair[0].epoch):
            rows = [row for _, each in some for row in each]
            for part in _parts(Rows(rows)) if rows else ():
                db.execute(sql.ADOPT, mine | {"life": incarnation} | part)
        session.change_each(KEEP_GROUP, [group.columns() for group, _ in groups])
        if groups:
            last = groups[-1][0].last
            db.execute(sql.ADOPT_LAST, mine | {"last": last})

    def _explain_refusal(self, db: psycopg.Connection[Any], before: int) -> NoReturn:
        """Raise the error that says why a group was not kept."""
        owner = self._look(db)
        self._check_incarnation(owner)
        if owner["last"] != before:
            end = owner["last"]
            msg = f"{self.name} ends with event {end}, and {before} was the last"
            raise JournalError(msg, hint="somebody else wrote to it")
        self._refuse_setting("synchronous_commit")

    # ------------------------------------------------------------------ complaints

    def _check_incarnation(self, owner: dict[str, Any]) -> None:
        if owner["token"] != self._token:
            raise JournalTakenError(self._words(owner, "was taken over"))

    def _taken(self, owner: dict[str, Any]) -> JournalTakenError:
        hint = "stop that one first, or wait for its end: "
        hint += "PostgresJournal(…, standby=True)"
        return JournalTakenError(self._words(owner, "is in use"), hint=hint)

    def _words(self, owner: dict[str, Any], predicate: str) -> str:
        by = f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
        return f"{self.name} {predicate} by incarnation {owner['epoch']}: {by}"


def _parts(rows: Rows) -> Iterator[dict[str, str]]:
    """Yield the columns of *rows*, in parts that are not too large for a statement."""
    columns = rows.columns
    texts = columns[5]
    bounds, size = [0], 0
    for place, text in enumerate(texts):
        size += len(text)
        if size > _LARGE and place > bounds[-1]:
            bounds.append(place)
            size = len(text)
    keys = {}
    if rows.keys:
        keys = dict(zip(rows.keys[1::2], rows.keys[::2], strict=True))
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
