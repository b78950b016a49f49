"""
The journal in an SQLite file, whose tables are in `_layout`.

One connection writes and checkpoints; every reader has one of its own that cannot
write. Beside the file is another, `….lock`: the leader holds a lock on it that ends
with the process, and it names the leader.

Decision: journal-in-a-file.
"""

from __future__ import annotations

import contextlib
import glob
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from taskorch.core.journal import _beside, _file, _repair
from taskorch.core.journal._chain import ChainStart
from taskorch.core.journal._codec import WIDTH, Row, Rows
from taskorch.core.journal._descriptors import check_names, close_unneeded
from taskorch.core.journal._file import FAILURES
from taskorch.core.journal._layout import check_layout
from taskorch.core.journal._lock import Lock
from taskorch.core.journal._logs import put_aside
from taskorch.core.journal._points import reach
from taskorch.core.journal._reader import KEEP_GROUP, GroupRow, IdleReaders, Reader
from taskorch.core.journal._session import Durability, damage
from taskorch.core.journal._sql import SqlJournal, SqlReading
from taskorch.core.journal._sqlite_session import (
    SqliteSession,
    incarnation_of,
    owner_of,
    session_of,
)
from taskorch.errors import (
    InvalidTaskError,
    JournalError,
    JournalTakenError,
    JournalUnavailableError,
)
from taskorch.events import SEQ
from taskorch.kit.fence import log_of
from taskorch.kit.machine import host
from taskorch.kit.processes import began_at, is_alive

#: In earlier versions of SQLite, two connections that write and checkpoint at the same
#: moment can lose commits.
_WAL_RESET_FIXED: Final = (3, 51, 3)


_log = log_of(__name__)
#: How a journal is opened that no process has open.
_WITHOUT_LOCK: Final = ("alone", "immutable")


class ReadableJournal(SqlReading):
    """
    Questions to a journal that need no claim, from any thread.

    Every question has a connection of its own, which cannot write.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        try:
            resolved = Path(path).resolve()
        except FileNotFoundError as error:
            msg = f"{path} is a relative path, and the working folder is gone"
            raise JournalError(msg, hint="give an absolute path") from error
        super().__init__(str(resolved), str(resolved), **options)
        self.path: Path = resolved
        self._log = f"{self.path}-wal"
        #: The open files with their inodes, to check that the names still lead to them.
        self._files: dict[str, tuple[int, int]] = {}
        self._idle = IdleReaders()

    @property
    def wal_reset_bug(self) -> bool:
        """
        Whether this SQLite may lose commits when two connections write at once.

        One connection writes here, so only another program that writes to the file
        can do that harm.
        """
        return sqlite3.sqlite_version_info < _WAL_RESET_FIXED

    def owner(self) -> dict[str, Any]:
        """See `SqlReading.owner`; before `claim` by anybody, its `epoch` is 0."""
        return self._answer(lambda reader: owner_of(reader.session), {})

    def owner_lives(self, owner: Mapping[str, Any]) -> bool | None:
        """See `SqlReading.owner_lives`: None if it is on another machine."""
        if owner["host"] != host():
            return None
        # A journal that is open has a log beside it, which stays while others read.
        is_open = Path(self._log).exists() and is_alive(owner["pid"], owner["started"])
        return is_open and not self._has_stopped()

    def _has_stopped(self) -> bool:
        """Return whether the latest orchestrator says that it has stopped."""
        kinds = ("OrchestratorStarted", "OrchestratorStopped")
        began, ended = (
            0 if latest is None else latest[0][SEQ]
            for latest in map(self.latest_of, kinds)
        )
        return bool(began < ended)

    def check_readable(self) -> None:
        """
        Check that there is a journal to read.

        Raises:
            JournalUnavailableError: The caller may not read it.
            JournalError: There is none, or something else, or of another version.
        """
        if not self._files:
            _repair.check_readable(self.path)
        with self._reading():
            pass

    @property
    def lost_file(self) -> str:
        """Return which file lost its name, and what to do; or ""."""
        try:
            self._check_names()
        except JournalUnavailableError as error:
            return f"{error.message}; {error.hint}"
        except OSError:
            # A file that cannot be examined now may still exist: its next use reports
            # the error.
            return ""
        return ""

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Reader | None]:
        """Yield a reader with a connection of its own; None if no journal exists."""
        self._check_process()
        mode: _file.Mode = "ro"
        before = None
        try:
            if self._files:
                self._check_names()
            elif _file.is_absent(self.path):
                yield None
                return
            if self._files:
                reader = self._idle.borrow() or self._reader(mode)
            else:
                check_names(self.path)
                mode, before, reader = self._reader_of_others()
            try:
                yield reader
            except BaseException:
                # A question that is abandoned half-way leaves a statement open: such a
                # reader is not used again.
                reader.close()
                raise
            self._idle.give_back(reader)
            self._check_undisturbed(mode, before)
        except FAILURES as error:
            self._check_undisturbed(mode, before)
            raise self._error(error, "read") from error
        except JournalError:
            self._check_undisturbed(mode, before)
            raise

    def _reader_of_others(self) -> tuple[_file.Mode, object, Reader]:
        """Return a reader without a claim, its mode and the file state."""
        while True:
            before = _file.state_of(self.path)
            mode = _file.mode_for_readers(self.path)
            try:
                return mode, before, self._reader(mode)
            except sqlite3.Error:
                # The leader, with its log, may come and go between two looks.
                if _file.mode_for_readers(self.path) == mode:
                    raise

    def _check_undisturbed(self, mode: _file.Mode, before: object) -> None:
        """Check that no process wrote to a journal that was read without a lock."""
        if mode in _WITHOUT_LOCK and _file.state_of(self.path) != before:
            msg = f"{self.path} was opened by its owner while it was read"
            raise JournalUnavailableError(msg, outcome="refused", hint="ask again")

    def _reader(self, mode: _file.Mode) -> Reader:
        db = _file.connect(self.path, mode)
        try:
            return Reader(session_of(db, self.path), self._name)
        except BaseException:
            db.close()
            raise

    # ------------------------------------------------------------------ complaints

    def _check_names(self) -> None:
        """Check that the names still lead to the files that are open."""
        for name in tuple(self._files):
            if fate := self._fate(name):
                msg = f"{name} {fate} while it was in use"
                raise JournalUnavailableError(
                    msg,
                    outcome="unknown" if self._in_doubt else "refused",
                    hint="put the same file back, or stop and restore it from a copy",
                )

    def _fate(self, name: str) -> str:
        """Return what happened to the open file *name*; "" if nothing did."""
        identity = self._files.get(name)
        if identity is None:
            return ""
        try:
            fate = "" if _file.identity(name) == identity else "was replaced"
        except FileNotFoundError:
            fate = "vanished"
        # The writer may have closed the log meanwhile, and then SQLite removes the
        # file.
        return fate if self._files.get(name) == identity else ""

    def _error(self, error: Exception, wanted: str) -> JournalError:
        """Return the error for a caller who *wanted* the journal."""
        if _file.may_be_unread(error):
            error = _repair.refusal(self.path) or error
        if _file.is_passing(error):
            outcome = "unknown" if self._in_doubt else "refused"
            why = str(error) or "out of memory"
            msg = f"{self.path} cannot be {wanted} now: {why}"
            hint = None
            if wanted == "read":
                hint = _file.advice(error)
            elif wanted == "claimed" and _file.is_forbidden(error):
                hint = f"{self.path.parent} must let you write: change its rights, or "
                hint += "choose another path; whoever only reads it needs no more"
            return JournalUnavailableError(msg, outcome=outcome, hint=hint)
        return damage(self._name, str(error))


#: Rows that one statement inserts: sqlite3 gives the GIL up at each statement, and gets
#: it back when the threads that work release it.
_SIZES: Final = (1000, 300, 100, 30, 10, 3, 1)
#: The pages of the log that a commit takes, about, and the bytes of text for each more.
_PAGES: Final = 4
_PAGE: Final = 3_000
#: Values that a statement may have: more than we need, or 999 before SQLite 3.32.
_VALUES: Final = 32_766 if sqlite3.sqlite_version_info >= (3, 32) else 999


def _inserts(start: str, columns: Sequence[str]) -> list[tuple[int, str]]:
    row = f"({', '.join(columns)})"
    return [
        (size, f"{start} VALUES {', '.join([row] * size)}")
        for size in _SIZES
        if size * len(columns) <= _VALUES
    ]


# To bind None takes four times as long as to bind "".
_INSERT_EVENTS: Final = _inserts(
    "INSERT INTO facts", ("?", "?", "?", "nullif(?, '')", "?", "nullif(?, '')")
)
_INSERT_KEYS: Final = _inserts("INSERT OR REPLACE INTO keys", ("?", "?"))
#: Keeps nothing when another incarnation has begun.
_INSERT_GROUP: Final = (
    "INSERT INTO groups SELECT ?, ?, ?, ?, ?, ?, ?, ? FROM meta WHERE epoch = ?"
)
_BEGIN: Final = """
    UPDATE meta SET epoch = epoch + 1, pid = :pid, host = :host, started = :started,
    since = :since
"""


class SqliteJournal(ReadableJournal, SqlJournal):
    """
    A DurableJournal that keeps events in an SQLite file.

    Opening it does nothing yet: `claim` takes hold of the file, and makes it if there
    is none. Reading needs no claim, and may be done from any thread.

    Any SQLite shell may read the file with `-readonly`. The table `facts` has `seq`,
    `at_ns`, `kind`, `task_id`, and as JSON `body` and `doc`; `rare_facts` has all but
    submissions, starts and completions; `meta` has the leader. The table `stretches`,
    made after some thousand events, has what lists look through first.

    Args:
        path: The file. Two more lie beside it while it is in use, `…-wal` and
            `…-shm`, and one for good, `….lock`: they belong together. It must be on a
            disk of this machine.
        durability: `"power"`: groups that `append` has written survive a loss of
            power. `"process"`: they survive a death of the process, but a loss of power
            may take the latest groups, each as a whole; it is much faster.
        take_over: True claims the journal although its leader lives; that one can
            write no more from then on.
        keep_for: How long tasks are kept after their end, in seconds or as a timedelta;
            None: for ever. Older tasks leave the file whenever an orchestrator opens
            it, unless a task that stays needs them.
        keep_latest: How many ended tasks are kept, the latest; None: all.

    Raises:
        ValueError: *durability* is neither.
        InvalidTaskError: *keep_for* or *keep_latest* is out of its range.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "power",
        take_over: bool = False,
        keep_for: float | timedelta | None = None,
        keep_latest: int | None = None,
    ) -> None:
        super().__init__(
            path,
            durability=durability,
            take_over=take_over,
            keep_for=keep_for,
            keep_latest=keep_latest,
        )
        #: Held by the thread that uses the connection that writes.
        self._mutex = threading.Lock()
        self._uid: str | None = None
        self._lock: Lock | None = None
        self._db: sqlite3.Connection | None = None
        #: The pages in the log that are not in the journal yet, about.
        self._logged = 0
        _OPEN.add(self)

    def __repr__(self) -> str:
        return f"SqliteJournal({str(self.path)!r})"

    @property
    def uid(self) -> str:
        """
        The journal's own id, 32 hexadecimal digits: another path does not change it.

        Raises:
            JournalError: It was not claimed yet.
        """
        if self._uid is None:
            msg = f"{self.path} was not claimed yet, and its id is not known"
            raise JournalError(msg, hint="call claim first")
        return self._uid

    def identity(self) -> str:
        """See `DurableJournal.identity`: `uid`, which a copy shares, and the inode."""
        return f"{self.uid}-{self.path.stat().st_ino:x}"

    def logs_folder(self) -> str:
        """See `DurableJournal.logs_folder`: beside the file."""
        return f"{self.path}.logs"

    def exists(self) -> bool:
        """See `SqlJournal.exists`: whether there is a file, or was one."""
        return self.path.exists() or Path(f"{self.path}.lock").exists()

    def draft(self) -> SqliteJournal:
        """See `SqlJournal.draft`: a file beside it."""
        draft = SqliteJournal(f"{self.path}.copy", durability=self.durability)
        for path in self.path.parent.glob(f"{glob.escape(draft.path.name)}*"):
            path.unlink()
        return draft

    def replace_by(self, draft: SqlJournal) -> None:
        """See `SqlJournal.replace_by`: the file gets its name."""
        assert isinstance(draft, SqliteJournal)  # noqa: S101 - it is ours
        place, log = draft.path, Path(f"{draft.path}-wal")
        if log.exists() and log.stat().st_size:
            msg = f"{place} was not closed: its log {log} is not empty"
            raise JournalUnavailableError(msg, outcome="refused", hint="try it again")
        try:
            # Unlike a rename, a link does not replace an existing file.
            os.link(place, self.path)
        except FileExistsError:
            msg = f"{self.path} exists already"
            raise InvalidTaskError(msg, hint="name one that does not") from None
        for path in (place, Path(f"{place}.lock")):
            path.unlink(missing_ok=True)

    def description(self) -> str:
        """See `DurableJournal.description`: the path; a warning if SQLite is old."""
        return f"{self.path}; {_file.WAL_RESET}" if self.wal_reset_bug else self._name

    # ---------------------------------------------------------------------- owning

    def claim(self) -> int:
        """
        See `Journal.claim`.

        Raises:
            JournalTakenError: A living process leads it, and `take_over` is not set.
            JournalUnavailableError: It cannot be written now.
            JournalError: It is damaged, or no journal of this version; the file
                was not changed.
        """
        self._check_usable()
        with self._mutex:
            self._check_files()
            try:
                if self._lock is not None and not self._lock.is_current():
                    # Another process has taken over: the lock must be acquired anew.
                    self._release()
                if self._lock is None:
                    _file.check_place(self.path)
                    check_names(self.path)
                    self._lock = Lock.acquire(self.path, self.take_over)
                if self._db is None:
                    self._create(self._lock)
                self._epoch = self._begin_incarnation(self._lock)
            except FAILURES as error:
                self._release()
                raise self._error(error, "claimed") from error
            except JournalError:
                self._release()
                raise
            return self._epoch

    def _create(self, lock: Lock) -> None:
        """Make the file, if there is none and never was."""
        if not _file.is_absent(self.path):
            return
        if lock.known:
            pid = lock.known["pid"]
            who = "a process" if pid is None else f"process {pid}"
            msg = f"{self.path} is gone or empty, and {who} used it"
            hint = f"restore it from a copy, or remove {self.path}.lock to begin anew"
            raise JournalError(msg, hint=hint)
        _file.create(self.path)
        aside = put_aside(Path(self.logs_folder()))
        if aside is not None:
            text = "%s is new: the logs of the one before it are in %s now"
            _log.warning(text, self.path, aside)

    def _begin_incarnation(self, lock: Lock) -> int:
        reach("claim")
        db, pid = self._connection(), os.getpid()
        session = session_of(db, self.path)
        # The date is for people to read: no decision depends on it.
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        me = {"pid": pid, "host": host(), "started": began_at(pid), "since": since}
        with session.transaction():
            # Of several that take over at once, only the last one's lock is current.
            lock.check(self.path)
            latest = Reader(session).check_latest(incarnation_of(session))
            session.change(_BEGIN, **me)
            ((epoch, self._uid),) = session.ask("SELECT epoch, uid FROM meta")
            start = Reader(session_of(db, self.path)).chain_start()
        reach("claimed")
        # Of two that begin at once under two names, each sees the other by now.
        check_names(self.path)
        self._set_start(start, latest)
        self._note_files()
        lock.sign(pid, host(), since, epoch)
        return int(epoch)

    def close(self) -> None:
        """See `Journal.close`; another may claim it from now on."""
        if os.getpid() == self._pid:
            self._is_closed = True
            with self._mutex:
                self._release()

    # -------------------------------------------------------------------- writing

    @contextlib.contextmanager
    def _owning(self, session: SqliteSession) -> Iterator[None]:
        with session.transaction():
            self._check_epoch(session)
            yield

    def _keep(
        self, session: SqliteSession, rows: Rows, group: GroupRow, before: int
    ) -> None:
        del before
        with session.transaction():
            try:
                _insert(session, _INSERT_EVENTS, rows.values, WIDTH)
                if rows.keys:
                    _insert(session, _INSERT_KEYS, rows.keys, 2)
                reach("rows")
                values = (*group.columns().values(), group.epoch)
                is_kept = session.db.execute(_INSERT_GROUP, values).rowcount == 1
            except sqlite3.IntegrityError:
                # The rows exist already, so another leader has written them.
                self._check_epoch(session)
                raise
            if not is_kept:
                self._check_epoch(session)
                self._damaged("nobody is named as its owner")
            reach("commit")
            self._in_doubt = True

    def _adopt_chain(self, session: SqliteSession, start: ChainStart) -> None:
        session.change("UPDATE meta SET chain = :chain", chain=start.text)

    def _adopt(
        self, session: SqliteSession, groups: Sequence[tuple[GroupRow, list[Row]]]
    ) -> None:
        for group, kept in groups:
            rows = Rows(kept)
            _insert(session, _INSERT_EVENTS, rows.values, WIDTH)
            _insert(session, _INSERT_KEYS, rows.keys, 2)
            session.change(KEEP_GROUP, **group.columns())

    def _make_room(self, session: SqliteSession) -> None:
        """Compact the file, if it is worth it."""
        db = session.db
        _beside.clean(db, self.path)
        if _file.has_room(db):
            db.execute("VACUUM")
            reach("smaller")
        _file.move_log(db, whole=True)

    @property
    def log_is_long(self) -> bool:
        """Whether `empty_log` has something to do."""
        return self._logged > _file.LONG_LOG

    @property
    def held_log(self) -> int:
        """Bytes of the log, if it is so long that a reader must hold it; else 0."""
        try:
            size = os.stat(self._log).st_size  # noqa: PTH116 - as in `identity`
        except OSError:
            return 0
        return size if size > _file.HELD_LOG else 0

    def empty_log(self, epoch: int) -> None:
        """
        Move pages of the log into the journal, at a time without commits.

        If it is never called, an `append` does that once the log is four times as long.

        Args:
            epoch: The number that `claim` gave to the caller.

        Raises:
            JournalTakenError: Another process has claimed it since.
            JournalUnavailableError: It cannot be written now.
            JournalError: The journal is damaged.
        """
        with self._writing(epoch) as session:
            # Two that do this at the same moment can do harm: see `wal_reset_bug`.
            self._check_epoch(session)
            _file.move_log(session.db, whole=self.held_log > 0)
            # Pages that readers still need stay in the log, and are moved another time.
            self._logged = 0

    def needs_upkeep(self) -> bool:
        """See `DurableJournal.needs_upkeep`: whether the log is long."""
        return self.log_is_long or self.held_log > 0

    def upkeep(self, epoch: int) -> None:
        """See `DurableJournal.upkeep`: it calls `empty_log`."""
        self.empty_log(epoch)

    def troubles(self) -> Sequence[str]:
        """See `DurableJournal.troubles`: a lost file, a log that is held."""
        lost, held = self.lost_file, self.held_log
        return [words for words in (lost, held and _file.trouble_of_log(held)) if words]

    def _wrote(self, size: int) -> None:
        self._logged += _PAGES + size // _PAGE

    @contextlib.contextmanager
    def _writing(self, epoch: int) -> Iterator[SqliteSession]:
        with self._mutex:
            # Another thread may have closed it since.
            self._check_owner(epoch)
            try:
                self._check_files()
                yield SqliteSession(self._connection(), self._name)
                self._note_files()
            except FAILURES as error:
                # After a failed write, the pages that SQLite has in memory cannot be
                # relied on.
                self._disconnect()
                raise self._error(error, "written") from error

    # ------------------------------------------------------------------- the files

    def _connection(self) -> sqlite3.Connection:
        """Return the one connection that writes."""
        if self._db is None:
            _repair.mend_modes(self.path)
            db = _file.connect(self.path, "rw")
            try:
                check_layout(db, self.path)
                _file.prepare(db, self.path, self.durability)
                self._rewrite_log(db)
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _rewrite_log(self, db: sqlite3.Connection) -> None:
        """
        Write the log to the disk again, before any other write.

        A sync may have failed, ours or that of an earlier incarnation; and a page that
        SQLite appends to the log is worth nothing without all that comes before it.
        """
        # Until the rollback no other process writes to the log, or moves pages out of
        # it.
        db.execute("BEGIN IMMEDIATE")
        try:
            _repair.rewrite_log(Path(self._log))
        finally:
            db.execute("ROLLBACK")

    def _note_files(self) -> None:
        # The log is there after a commit, and stays until the connection is closed.
        for name in (self._name, self._log):
            if name not in self._files:
                if name == self._log and self.durability == "power":
                    # SQLite has done that too, and does not say if it failed.
                    _file.sync_folder(self.path.parent)
                self._files[name] = _file.identity(name)
                self._idle.open()

    def _check_files(self) -> None:
        try:
            self._check_names()
        except JournalUnavailableError:
            if self._fate(self._log):
                # To close it moves the pages of the lost log into the journal.
                self._disconnect()
            raise

    def _disconnect(self) -> None:
        self._idle.close()
        db, self._db = self._db, None
        self._latest = None
        # SQLite empties the log and removes it when the last connection is closed: from
        # here on a missing log is no trouble.
        self._logged = 0
        self._files.pop(self._log, None)
        if db is not None:
            with contextlib.suppress(*FAILURES):
                db.close()
        close_unneeded()

    def _release(self) -> None:
        try:
            self._disconnect()
        finally:
            # The lock is released even if an interrupt ended the disconnection
            # half-way.
            self._files = {}
            self._epoch = 0
            lock, self._lock = self._lock, None
            if lock is not None:
                if not lock.known:
                    # The file has never had a leader, so it is not left behind.
                    lock.discard()
                lock.release()

    # ------------------------------------------------------------------ complaints

    def _check_epoch(self, session: SqliteSession) -> None:
        rows = session.ask("SELECT epoch, pid, host, since FROM meta")
        if not rows:
            self._damaged("nobody is named as its owner")
        epoch, pid, host, since = rows[0]
        if epoch < self._epoch:
            self._damaged(
                f"it is in incarnation {epoch}, and {self._epoch} wrote to it"
            )
        if epoch != self._epoch:
            msg = (
                f"{self.path} was taken over from incarnation {self._epoch} by {epoch}"
                f": process {pid} on {host}, since {since}"
            )
            raise JournalTakenError(msg)


def _insert(
    session: SqliteSession,
    statements: Sequence[tuple[int, str]],
    values: Sequence[int | str],
    width: int,
) -> None:
    place, end = 0, len(values)
    for size, statement in statements:
        step = size * width
        while end - place >= step:
            session.db.execute(statement, values[place : place + step])
            place += step


#: The journals of this process, and connections that its children must never close.
_OPEN: Final[weakref.WeakSet[SqliteJournal]] = weakref.WeakSet()
_INHERITED: Final[list[object]] = []


def _leave_to_parent() -> None:
    """Drop locks and leave connections alone, in a child after a fork."""
    for journal in _OPEN:
        lock, journal._lock = journal._lock, None  # noqa: SLF001
        db, journal._db = journal._db, None  # noqa: SLF001
        _INHERITED.append((db, journal._idle))  # noqa: SLF001
        if lock is not None:
            lock.release()


os.register_at_fork(after_in_child=_leave_to_parent)
