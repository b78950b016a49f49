"""
The journal in an SQLite file.

    facts   one row a fact: its number, class, time, task, fields and document as JSON
    groups  one row a commit: which facts it kept, and a checksum over them that goes
            on from the one before it, so that no damage stays unnoticed
    meta    one row: who owns the journal, and in which life

One connection writes and checkpoints; whoever reads has one of its own that cannot
write. Beside the file lies another, `….lock`: its owner holds a lock on it that ends
with the process, and it names the owner.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, TypeAlias
from urllib.parse import quote
from zlib import crc32

from taskorch.errors import JournalError, JournalTakenError, JournalUnavailableError
from taskorch.journal import _codec
from taskorch.journal._codec import Row
from taskorch.protocols import Entry

__all__ = ("Durability", "SqliteJournal")

#: `"power"`: what was kept survives a loss of power; `"process"`: a kill of ours.
Durability: TypeAlias = Literal["power", "process"]

#: "tsko": in the head of the file, where `file` and SQLite look for it.
_APPLICATION: Final = 0x74736B6F
#: The layout of the tables.
_LAYOUT: Final = 1
#: How long to wait for a lock of somebody else's, in seconds.
_PATIENCE: Final = 5.0
#: The write-ahead log shrinks to this after a checkpoint, in bytes.
_WAL_LIMIT: Final = 64 * 1024 * 1024
#: Rows that a reader takes at once; between them the writer can checkpoint.
_BATCH: Final = 2_000
#: The largest number of a fact.
_MOST: Final = 2**63 - 1
#: SQLite has tables with strict types from here on.
_STRICT_SINCE: Final = (3, 37)

_TABLES: Final = (
    """
    CREATE TABLE facts (
        seq     INTEGER PRIMARY KEY,
        kind    TEXT NOT NULL,
        at_ns   INTEGER NOT NULL,
        task_id TEXT,
        body    TEXT NOT NULL,
        doc     TEXT
    ){strict}
    """,
    "CREATE INDEX facts_by_task ON facts (task_id) WHERE task_id IS NOT NULL",
    """
    CREATE TABLE groups (
        last  INTEGER PRIMARY KEY,
        first INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        crc   INTEGER NOT NULL
    ){strict}
    """,
    """
    CREATE TABLE meta (
        id      INTEGER PRIMARY KEY CHECK (id = 1),
        epoch   INTEGER NOT NULL,
        pid     INTEGER,
        host    TEXT,
        started INTEGER,
        since   TEXT
    ){strict}
    """,
    "INSERT INTO meta (id, epoch) VALUES (1, 0)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_LAYOUT}",
)
_FACTS: Final = "SELECT seq, kind, at_ns, task_id, body, doc FROM facts "
_RESTORE: Final = "restore the journal from a copy; nothing was changed"

#: What may pass by itself: a full disk, a lock, a file system that is not writable.
_PASSING: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
#: How SQLite and the disk complain; damaged text does not decode.
_FAILURES: Final = (sqlite3.Error, OSError, UnicodeError)


def _checksum(rows: Sequence[Row], crc: int, epoch: int) -> int:
    """Of *rows*, going on from *crc*, which is that of the group before."""
    # As ASCII: which other letters Python shows plainly depends on its version.
    text = "\n".join([f"{row!a}" for row in rows])
    return crc32(f"{epoch}\n{text}\n".encode("ascii"), crc)


def _bounds(rows: Sequence[Row]) -> tuple[int, int] | None:
    """The first and the last number in *rows*."""
    return (rows[0][0], rows[-1][0]) if rows else None


def _is_passing(error: sqlite3.Error) -> bool:
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    # The low byte is the kind of error, the rest its details.
    return code & 0xFF in _PASSING


class SqliteJournal:
    """
    The Journal that keeps events in a file, through crashes.

    Opening it does nothing yet: `claim` takes hold of the file, and makes it if there
    is none. Reading needs no claim.

    Args:
        path: The file. Two more lie beside it while it is in use, `…-wal` and
            `…-shm`, and one for good, `….lock`: they belong together. It must be on a
            disk of this machine.
        durability: `"power"`: what `append` has returned from survives a loss of
            power. `"process"`: it survives a death of the process, but a loss of power
            may take the latest groups, each as a whole; it is much faster.
        take_over: True claims the journal although its owner lives; the owner can
            write no more from then on.

    Raises:
        ValueError: *durability* is neither.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "power",
        take_over: bool = False,
    ) -> None:
        if durability not in ("power", "process"):
            msg = f"durability: 'power' or 'process', not {durability!r}"
            raise ValueError(msg)
        self.path: Path = Path(path).resolve()
        self._log: Path = Path(f"{self.path}-wal")
        self.durability: Durability = durability
        self.take_over: bool = take_over
        self._pid = os.getpid()
        self._epoch = 0
        self._lock: _Lock | None = None
        self._db: sqlite3.Connection | None = None
        #: The files that are open: whether they are still what the paths name.
        self._files: dict[Path, tuple[int, int]] = {}
        #: Whether the group in hand may have been kept, although we were told no.
        self._in_doubt = False
        self._is_closed = False
        _OPEN.add(self)

    # ---------------------------------------------------------------------- owning

    def claim(self) -> int:
        """
        See `Journal.claim`.

        Raises:
            JournalTakenError: A living process owns it, and `take_over` is not set.
            JournalUnavailableError: It cannot be written now.
            JournalError: It is damaged, or no journal of this taskorch's; the file
                was not changed.
        """
        self._check_usable()
        self._check_files()
        try:
            if self._lock is not None and not self._lock.is_current():
                # Another has taken over: this is no owner that claims again.
                self._let_go()
            if self._lock is None:
                self._lock = _Lock.take(self.path, self.take_over)
            if self._db is None:
                _create(self.path, self._lock)
            db = self._connection()
            # For people to read: nothing is decided by it.
            since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            me = (os.getpid(), socket.gethostname(), _started(), since)
            with _transaction(db):
                self._check_latest(db)
                db.execute(
                    "UPDATE meta SET epoch = epoch + 1, pid = ?, host = ?, started = ?,"
                    " since = ?",
                    me,
                )
                epoch: int = db.execute("SELECT epoch FROM meta").fetchone()[0]
            self._note_files()
            self._lock.sign(me[0], me[1], since, epoch)
        except _FAILURES as error:
            self._let_go()
            raise self._error(error, "claimed") from error
        except JournalError:
            self._let_go()
            raise
        self._epoch = epoch
        return self._epoch

    def append(self, epoch: int, group: Sequence[Entry]) -> None:
        """
        See `Journal.append`.

        Raises:
            InvalidTaskError: Something in it cannot be restored exactly; nothing of
                it was kept.
            JournalError: The journal is damaged.
        """
        self._check_usable()
        if epoch != self._epoch or epoch == 0:
            msg = f"{self.path}: life {self._epoch} owns it here, not life {epoch}"
            raise JournalTakenError(msg)
        # First all of it is read, so that all of it is kept or nothing.
        rows = [_codec.encode(entry) for entry in group]
        if not rows:
            return
        if any(one[0] >= other[0] for one, other in pairwise(rows)):
            msg = f"the numbers of {len(rows)} facts from {rows[0][0]} on do not rise"
            raise ValueError(msg)
        try:
            self._check_files()
            db = self._connection()
            with _transaction(db, self._begin_commit):
                self._check_epoch(db)
                self._keep(db, rows)
            self._note_files()
        except _FAILURES as error:
            # After a failed write nothing that SQLite has in memory is relied on.
            self._disconnect()
            raise self._error(error, "written") from error
        self._in_doubt = False

    def _begin_commit(self) -> None:
        self._in_doubt = True

    def _keep(self, db: sqlite3.Connection, rows: list[Row]) -> None:
        first, last = rows[0][0], rows[-1][0]
        latest = self._groups(db, "ORDER BY last DESC LIMIT 1")
        kept, since, _, crc = latest[0] if latest else (0, 1, 0, 0)
        if first > kept:
            db.executemany("INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?)", rows)
            db.execute(
                "INSERT INTO groups VALUES (?, ?, ?, ?)",
                (last, first, self._epoch, _checksum(rows, crc, self._epoch)),
            )
            return
        # It may be the latest group, which was kept, and nobody knew.
        if (first, last) == (since, kept):
            known = db.execute(
                _FACTS + "WHERE seq BETWEEN ? AND ? ORDER BY seq", (first, last)
            )
            if known.fetchall() == rows:
                return
        msg = f"fact {first} comes after fact {kept} was kept"
        raise ValueError(msg)

    def _check_epoch(self, db: sqlite3.Connection) -> None:
        row = db.execute("SELECT epoch, pid, host, since FROM meta").fetchone()
        if row is None:
            self._damaged("nobody is named as its owner")
        epoch, pid, host, since = row
        if epoch != self._epoch:
            msg = (
                f"{self.path} was taken over from life {self._epoch} by life {epoch}: "
                f"process {pid} on {host}, since {since}"
            )
            raise JournalTakenError(msg)

    def close(self) -> None:
        """See `Journal.close`; another may own it from now on."""
        if os.getpid() == self._pid:
            self._is_closed = True
            self._let_go()

    # --------------------------------------------------------------------- reading

    def read(self, after: int = 0) -> Iterator[Entry]:
        """
        See `Journal.read`; the groups are checked as they are read.

        Raises:
            JournalError: The journal is damaged; nothing of the group in which that
                shows was given.
            JournalUnavailableError: It cannot be read now.
        """
        with self._reading() as db:
            if db is None:
                return
            before = self._groups(
                db, "WHERE last <= ? ORDER BY last DESC LIMIT 1", min(after, _MOST)
            )
            last, _, _, crc = before[0] if before else (0, 0, 0, 0)
            while groups := self._groups(
                db, "WHERE last > ? ORDER BY last LIMIT ?", last, _BATCH
            ):
                self._check_order(last, groups)
                for until, first, epoch, expected in groups:
                    rows = self._rows(db, last, until)
                    crc = _checksum(rows, crc, epoch)
                    if _bounds(rows) != (first, until) or crc != expected:
                        self._damaged(f"facts {first} to {until} were changed")
                    last = until
                    for row in rows:
                        if row[0] > after:
                            yield _codec.decode(row)
            self._check_end(db)

    def task_facts(self, task_id: str) -> Iterator[Entry]:
        """
        The entries about one task, in order, by the index and without a check.

        Raises:
            JournalError: The journal is damaged.
            JournalUnavailableError: It cannot be read now.
        """
        name, after = _codec.column(task_id), 0
        with self._reading() as db:
            while db is not None:
                rows = db.execute(
                    _FACTS + "WHERE task_id = ? AND seq > ? ORDER BY seq LIMIT ?",
                    (name, after, _BATCH),
                ).fetchall()
                if not rows:
                    return
                self._check_order(after, rows)
                after = rows[-1][0]
                for row in rows:
                    entry = _codec.decode(row)
                    if entry[0][3] == task_id:
                        yield entry

    @property
    def last(self) -> int:
        """The number of the last fact that is kept, or 0."""
        with self._reading() as db:
            if db is None:
                return 0
            last: int = db.execute(
                "SELECT coalesce(max(last), 0) FROM groups"
            ).fetchone()[0]
            return last

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection that cannot write; None if there is no journal yet."""
        self._check_process()
        try:
            if self._db is not None:
                self._check_files()
            elif _is_absent(self.path):
                yield None
                return
            db = _connect(self.path, "ro")
            try:
                _check_kind(db, self.path)
                yield db
            finally:
                db.close()
        except _FAILURES as error:
            raise self._error(error, "read") from error

    def _rows(self, db: sqlite3.Connection, after: int, until: int) -> list[Row]:
        """The facts above *after*, to *until*; taken in some short transactions."""
        rows: list[Row] = []
        while more := db.execute(
            _FACTS + "WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
            (after, until, _BATCH),
        ).fetchall():
            self._check_order(after, more)
            rows += more
            after = more[-1][0]
        return rows

    def _check_order(self, after: int, rows: Sequence[tuple[Any, ...]]) -> None:
        """A damaged tree may lead back to where one was: then nothing would end."""
        numbers = [after, *(row[0] for row in rows)]
        if any(one >= other for one, other in pairwise(numbers)):
            self._damaged(f"what follows fact {after} is not in order")

    def _groups(
        self, db: sqlite3.Connection, which: str, *values: int
    ) -> list[tuple[int, int, int, int]]:
        """Groups as `(last, first, epoch, crc)`."""
        query = f"SELECT last, first, epoch, crc FROM groups {which}"  # noqa: S608
        groups = db.execute(query, values).fetchall()
        for group in groups:
            if not all(type(number) is int for number in group):
                self._damaged(f"the group up to fact {group[0]} cannot be read")
        return groups

    def _check_latest(self, db: sqlite3.Connection) -> None:
        """The latest group is whole, and of no later life than the journal is in."""
        lives = db.execute("SELECT epoch FROM meta").fetchall()
        if len(lives) != 1 or type(lives[0][0]) is not int:
            self._damaged("it does not say in which life it is")
        groups = self._groups(db, "ORDER BY last DESC LIMIT 2")
        if groups:
            last, first, epoch, crc = groups[0]
            start, _, _, before = groups[1] if groups[1:] else (0, 0, 0, 0)
            rows = self._rows(db, start, last)
            if _bounds(rows) != (first, last) or _checksum(rows, before, epoch) != crc:
                self._damaged(f"facts {first} to {last} were changed")
            if epoch > lives[0][0]:
                self._damaged(f"life {epoch} wrote it, and this is {lives[0][0]}")
        self._check_end(db)

    def _check_end(self, db: sqlite3.Connection) -> None:
        found = db.execute(
            "SELECT max(seq), (SELECT max(last) FROM groups) FROM facts"
        ).fetchone()
        if found[0] != found[1]:
            self._damaged(f"fact {found[0]} is the last, and not {found[1]}")

    # ------------------------------------------------------------------- the files

    def _connection(self) -> sqlite3.Connection:
        """The one connection that writes."""
        if self._db is None:
            db = _connect(self.path, "rw")
            try:
                _check_kind(db, self.path)
                _prepare(db, self.path, self.durability)
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _note_files(self) -> None:
        # The log is there after a commit, and stays until the connection is closed.
        for file in (self.path, self._log):
            if file not in self._files:
                self._files[file] = _identity(file)

    def _check_files(self) -> None:
        """What we have open must be what others find under its name."""
        for file, known in self._files.items():
            try:
                found = _identity(file)
            except FileNotFoundError:
                found = None
            if found != known:
                what = "vanished" if found is None else "was replaced"
                if file == self._log:
                    # To close it moves what the lost log holds into the journal.
                    self._disconnect()
                msg = f"{file} {what} while it was in use"
                raise JournalUnavailableError(
                    msg,
                    outcome="unknown" if self._in_doubt else "refused",
                    hint="put the same file back, or stop and restore it from a copy",
                )

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()
        # The last one to close the log removes it.
        self._files.pop(self._log, None)

    def _let_go(self) -> None:
        self._disconnect()
        self._files = {}
        self._epoch = 0
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    # ------------------------------------------------------------------ complaints

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            msg = (
                f"{self.path} was opened by process {self._pid}, before this one forked"
            )
            raise JournalError(msg, hint="only the process that opened it may use it")

    def _check_usable(self) -> None:
        self._check_process()
        if self._is_closed:
            msg = f"{self.path} was closed"
            raise JournalUnavailableError(msg, outcome="refused", hint="open it anew")

    def _damaged(self, why: str) -> NoReturn:
        msg = f"{self.path} is damaged: {why}"
        raise JournalError(msg, hint=_RESTORE)

    def _error(self, error: Exception, what: str) -> JournalError:
        """What *error* means to whoever wanted the journal *what*."""
        if isinstance(error, OSError) or (
            isinstance(error, sqlite3.Error) and _is_passing(error)
        ):
            outcome = "unknown" if self._in_doubt else "refused"
            msg = f"{self.path} cannot be {what} now: {error}"
            return JournalUnavailableError(msg, outcome=outcome)
        return JournalError(f"{self.path} is damaged: {error}", hint=_RESTORE)


# -- opening -----------------------------------------------------------------------


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection to a file that is there: no mode makes one."""
    db = sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?mode={mode}",
        uri=True,
        timeout=_PATIENCE,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        db.execute("PRAGMA mmap_size = 0")
    except BaseException:
        db.close()
        raise
    return db


def _check_kind(db: sqlite3.Connection, path: Path) -> None:
    """Raise a JournalError unless it is a journal of a layout that we know."""
    ((application,),) = db.execute("PRAGMA application_id").fetchall()
    ((layout,),) = db.execute("PRAGMA user_version").fetchall()
    if application != _APPLICATION:
        msg = f"{path} is an SQLite file of something else, not a journal"
        raise JournalError(msg, hint="choose another path; nothing was changed")
    if layout > _LAYOUT:
        msg = f"{path} has layout {layout}, of a newer taskorch; {_LAYOUT} is known"
        raise JournalError(msg, hint="open it with the taskorch that wrote it")
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    if layout < _LAYOUT or not names >= {"facts", "groups", "meta"}:
        msg = f"{path} is damaged: tables are missing"
        raise JournalError(msg, hint=_RESTORE)


def _prepare(db: sqlite3.Connection, path: Path, durability: Durability) -> None:
    """Make of *db* the connection that writes."""
    ((mode,),) = db.execute("PRAGMA journal_mode = WAL").fetchall()
    if mode != "wal":
        msg = f"{path}: no write-ahead log can be kept there (it stays {mode!r})"
        raise JournalError(msg, hint="put the journal on a disk of this machine")
    level = "FULL" if durability == "power" else "NORMAL"
    db.execute(f"PRAGMA synchronous = {level}")
    # On macOS a plain fsync stops at the cache of the disk.
    db.execute(f"PRAGMA fullfsync = {'ON' if durability == 'power' else 'OFF'}")
    db.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")


def _create(path: Path, lock: _Lock) -> None:
    """
    Make the file, if there is none and there never was.

    It gets its name when it is complete: it is there whole, or not at all.
    """
    if not _is_absent(path):
        return
    if lock.known:
        msg = f"{path} is gone or empty, and process {lock.known.get('pid')} used it"
        raise JournalError(
            msg, hint=f"restore it from a copy, or remove {path}.lock to begin anew"
        )
    fresh = Path(f"{path}.new")
    fresh.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    db = _connect(fresh, "rw")
    try:
        db.execute("PRAGMA journal_mode = MEMORY")
        strict = " STRICT" if sqlite3.sqlite_version_info >= _STRICT_SINCE else ""
        with _transaction(db):
            for statement in _TABLES:
                db.execute(statement.format(strict=strict))
    finally:
        db.close()
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _is_absent(path: Path) -> bool:
    """
    Whether there is no journal yet.

    Raises:
        JournalError: There was one: its log is still there.
    """
    if path.exists() and path.stat().st_size:
        return False
    log = Path(f"{path}-wal")
    if log.exists() and log.stat().st_size:
        msg = f"{path} is gone or empty, and its log {log} is still there"
        raise JournalError(msg, hint=_RESTORE)
    return True


def _identity(path: Path) -> tuple[int, int]:
    # Never by opening it: to close it again would drop the locks that SQLite holds.
    found = path.stat()
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def _transaction(
    db: sqlite3.Connection, before_commit: Callable[[], object] | None = None
) -> Iterator[None]:
    """All of it or nothing; *before_commit* is called when all but that is done."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        if before_commit is not None:
            before_commit()
        db.execute("COMMIT")
    except BaseException:
        # Some errors have rolled it back already.
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


# -- owning ------------------------------------------------------------------------


class _Lock:
    """
    The lock of the owner, on a file beside the journal.

    The file stays when the lock is released: it tells that there was a journal.
    """

    def __init__(self, name: Path, file: int, known: dict[str, Any]) -> None:
        self._name = name
        self._file = file
        #: What the owner before wrote into it; empty if there was none.
        self.known = known

    @classmethod
    def take(cls, path: Path, take_over: bool) -> _Lock:
        """
        Take the lock of the journal at *path*.

        Raises:
            JournalTakenError: A living process has it, and *take_over* is not set.
        """
        name = Path(f"{path}.lock")
        while True:
            file = os.open(name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever takes over puts another file in its place.
                lock = cls(name, file, _known(file))
                if lock.is_current():
                    return lock
            except BlockingIOError:
                known = _known(file)
                if not take_over:
                    os.close(file)
                    raise _taken(path, known) from None
                # The old one keeps its lock, on a file that has no name any more.
                file = _replace(name, file, known)
                return cls(name, file, known)
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def is_current(self) -> bool:
        """Whether it is on the file that others would find."""
        try:
            return os.path.samestat(self._name.stat(), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def sign(self, pid: int, host: str, since: str, epoch: int) -> None:
        """Write down who has it."""
        self.known = {"pid": pid, "host": host, "since": since, "epoch": epoch}
        _write(self._file, self.known)

    def release(self) -> None:
        """Let go of it."""
        os.close(self._file)


def _replace(name: Path, old: int, known: dict[str, Any]) -> int:
    """A new file in the place of *name*, locked."""
    os.close(old)
    fresh = Path(f"{name}.{os.getpid()}")
    file = os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _write(file, known)
    fresh.replace(name)
    return file


def _write(file: int, known: dict[str, Any]) -> None:
    text = json.dumps(known).encode()
    os.pwrite(file, text, 0)
    os.ftruncate(file, len(text))


def _known(file: int) -> dict[str, Any]:
    text = os.pread(file, 4096, 0)
    if not text:
        return {}
    with contextlib.suppress(ValueError):
        known = json.loads(text)
        if isinstance(known, dict):
            return known
    # Its owner died while it wrote: there was one, all the same.
    return {"pid": "?", "host": "?", "since": "?"}


def _taken(path: Path, known: dict[str, Any]) -> JournalTakenError:
    pid, host, since = (known.get(key, "?") for key in ("pid", "host", "since"))
    msg = f"{path} belongs to process {pid} on {host}, since {since}"
    hint = "stop that one first, or take it over: SqliteJournal(path, take_over=True)"
    return JournalTakenError(msg, hint=hint)


def _started() -> int | None:
    """When this process began, in ticks since the machine did; None off Linux."""
    try:
        text = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])


#: The journals of this process, and what a child of it must never close.
_OPEN: Final[weakref.WeakSet[SqliteJournal]] = weakref.WeakSet()
_INHERITED: Final[list[sqlite3.Connection]] = []


def _leave_to_parent() -> None:
    """In a child after a fork: no lock is kept alive, and no connection touched."""
    for journal in _OPEN:
        lock, journal._lock = journal._lock, None  # noqa: SLF001
        db, journal._db = journal._db, None  # noqa: SLF001
        if lock is not None:
            lock.release()
        if db is not None:
            _INHERITED.append(db)


os.register_at_fork(after_in_child=_leave_to_parent)
