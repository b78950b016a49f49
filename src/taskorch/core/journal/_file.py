"""The files of a journal: how they are opened and made, and what their errors mean."""

from __future__ import annotations

import errno
import glob
import os
import sqlite3
import struct
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import quote

from taskorch.core.journal._descriptors import Unlocked, descriptor
from taskorch.core.journal._layout import create_tables
from taskorch.core.journal._session import RESTORE, Durability
from taskorch.errors import JournalError

#: The first bytes of every SQLite file.
MAGIC: Final = b"SQLite format 3\0"
#: Seconds to wait for a lock of another process.
_PATIENCE: Final = 5.0
#: Memory for pages, in KiB: a page that a large group changes often is written once.
_CACHE: Final = 8 * 1024
#: Pages in the write-ahead log from which on they are moved into the journal when no
#: caller waits: by then, many have been written more than once.
LONG_LOG: Final = 4_000
#: Pages from which on a commit does that itself, although its callers wait.
_LONGEST_LOG: Final = 4 * LONG_LOG
#: The first bytes of a write-ahead log, but for the last bit; the bytes before its
#: frames, and before the page of each.
_LOG_MAGIC: Final = 0x377F0683
_LOG_HEADER: Final = 32
_FRAME_HEADER: Final = 24
#: The write-ahead log shrinks to this after a checkpoint, in bytes.
_WAL_LIMIT: Final = 64 * 1024 * 1024
#: A larger log, in bytes, cannot be moved, since a reader has been busy for long.
HELD_LOG: Final = 2 * _WAL_LIMIT

#: The warning about an SQLite that has this fault.
WAL_RESET: Final = (
    "this SQLite is older than 3.51.3: let no other process write to the file, or its "
    "WAL-reset bug may damage it"
)

#: Errors that may pass by themselves: a full disk, a lock, a read-only file system.
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
_LOCKED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
#: Errors of damage, which a page that the disk refuses to read causes, too.
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
#: Errors of SQLite and the disk: damaged text does not decode, and SQLITE_NOMEM is
#: raised as a MemoryError.
FAILURES: Final = (sqlite3.Error, OSError, UnicodeError, MemoryError)

#: The part of the pages of a file, and the number of pages, that must be free before it
#: is compacted.
_FREE_SHARE: Final = 0.25
_FREE_PAGES: Final = 64
#: System errors where nothing can be written.
_FORBIDDEN: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


def is_passing(error: BaseException) -> bool:
    """Return whether *error* may pass by itself; others mean damage."""
    if isinstance(error, sqlite3.Error):
        return _kind(error) in _PASSING
    return isinstance(error, OSError | MemoryError)


def may_be_unread(error: BaseException) -> bool:
    """Return whether *error* may be a refused read of the disk, and no damage."""
    return isinstance(error, sqlite3.Error) and _kind(error) in _DAMAGE


def is_forbidden(error: BaseException) -> bool:
    """Return whether *error* says that nothing can be written there, ever."""
    if isinstance(error, sqlite3.Error):
        return _kind(error) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
    return isinstance(error, OSError) and error.errno in _FORBIDDEN


def advice(error: BaseException) -> str:
    """Return the hint for *error*, which kept a caller from reading the journal."""
    if isinstance(error, sqlite3.Error) and _kind(error) in _LOCKED:
        return "another program has locked it: end that one, then ask again"
    return "ask again; if that does not help, look at the disk and the permissions"


def _kind(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    # The low byte is the kind of error, the rest its details.
    return code & 0xFF


#: How a file is opened: readers that do not lead the journal use `"shared"`, `"alone"`
#: or `"immutable"`; they make no file beside it, and change none.
Mode: TypeAlias = Literal["ro", "rw", "shared", "alone", "immutable"]
_HOW: Final[dict[Mode, str]] = {
    "ro": "mode=ro",
    "rw": "mode=rw",
    "shared": "mode=ro&readonly_shm=1",
    "alone": "mode=ro&vfs=unix-none",
    "immutable": "mode=ro&immutable=1",
}


def mode_for_readers(path: Path) -> Mode:
    """
    Return how a reader that does not lead the journal at *path* opens it now.

    SQLite would make a log and an index of it if there are none, and leave them there.
    """
    log, index = Path(f"{path}-wal"), Path(f"{path}-shm")
    if not log.exists():
        return "immutable"
    if index.exists():
        # Its leader lives, or was killed: then each reader has an index of its own.
        return "shared"
    # It was copied with its log, and no process can have it open. A log without a
    # commit matters to no reader, and SQLite removes it when the connection is closed.
    return "alone" if _has_commit(log) else "immutable"


def _has_commit(log: Path) -> bool:
    """
    Return whether SQLite finds a commit in a write-ahead log.

    See https://www.sqlite.org/fileformat2.html#the_write_ahead_log: a header and
    frames of a page each, whose checksums continue each other.
    """
    with log.open("rb") as file:
        header = file.read(_LOG_HEADER)
        if len(header) < _LOG_HEADER:
            return False
        magic, _, page_size = struct.unpack(">3I", header[:12])
        order = ">" if magic & 1 else "<"
        sums = _sums(order, header[:24], (0, 0))
        if magic | 1 != _LOG_MAGIC or header[24:] != struct.pack(">2I", *sums):
            return False
        while len(frame := file.read(_FRAME_HEADER + page_size)) > _FRAME_HEADER:
            whole = frame[:8] + frame[_FRAME_HEADER:]
            if len(whole) % 8 or frame[8:16] != header[16:24]:
                return False
            sums = _sums(order, whole, sums)
            if frame[16:_FRAME_HEADER] != struct.pack(">2I", *sums):
                return False
            # The size of the database, which only the last frame of a commit has.
            if any(frame[4:8]):
                return True
    return False


def _sums(order: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    """Continue the checksums *sums* by *data*, as SQLite does."""
    first, second = sums
    for one, other in struct.iter_unpack(f"{order}2I", data):
        first = (first + one + second) & 0xFFFF_FFFF
        second = (second + other + first) & 0xFFFF_FFFF
    return first, second


def state_of(path: Path) -> tuple[tuple[int, int, int] | None, ...]:
    """Return stamps of the journal at *path* and of its log; any write changes them."""
    return _stamp(str(path)), _stamp(f"{path}-wal")


def _stamp(name: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(name)  # noqa: PTH116 - as in `identity`
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def connect(path: Path, mode: Mode) -> sqlite3.Connection:
    """
    Connect to a file that exists: no mode makes one.

    Connections to one that is immutable, or read alone, take no lock.
    """
    db = sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?{_HOW[mode]}",
        uri=True,
        timeout=_PATIENCE,
        isolation_level=None,
        check_same_thread=False,
        factory=Unlocked if mode == "alone" else sqlite3.Connection,
    )
    if isinstance(db, Unlocked):
        db.identity = identity(str(path))
    try:
        if mode == "alone":
            # The index of the log is in memory then.
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        db.execute("PRAGMA mmap_size = 0")
    except BaseException:
        db.close()
        raise
    return db


def prepare(db: sqlite3.Connection, path: Path, durability: Durability) -> None:
    """
    Prepare *db* as the connection that writes.

    Raises:
        JournalError: The file system cannot have a write-ahead log.
    """
    ((mode,),) = db.execute("PRAGMA journal_mode = WAL").fetchall()
    if mode != "wal":
        msg = f"{path}: no write-ahead log can be kept there (it stays {mode!r})"
        raise JournalError(msg, hint="put the journal on a disk of this machine")
    level = "FULL" if durability == "power" else "NORMAL"
    db.execute(f"PRAGMA synchronous = {level}")
    # On macOS a plain fsync stops at the cache of the disk.
    db.execute(f"PRAGMA fullfsync = {'ON' if durability == 'power' else 'OFF'}")
    db.execute(f"PRAGMA cache_size = -{_CACHE}")
    db.execute(f"PRAGMA wal_autocheckpoint = {_LONGEST_LOG}")
    db.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")


def move_log(db: sqlite3.Connection, *, whole: bool) -> None:
    """
    Move pages of the log into the journal, as far as readers allow it.

    With *whole*, the log is empty then, if there are no readers.
    """
    if not whole:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return
    # Readers may take hours, so it does not wait for them.
    db.execute("PRAGMA busy_timeout = 0")
    try:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        db.execute(f"PRAGMA busy_timeout = {round(_PATIENCE * 1000)}")


def has_room(db: sqlite3.Connection) -> bool:
    """Return whether a file would become a good deal smaller if compacted."""
    ((free,),) = db.execute("PRAGMA freelist_count").fetchall()
    ((pages,),) = db.execute("PRAGMA page_count").fetchall()
    return bool(free >= _FREE_PAGES and free >= pages * _FREE_SHARE)


def create(path: Path) -> None:
    """
    Make an empty journal.

    It gets its name when it is complete: either all of it is there, or nothing.
    """
    # Processes that were killed while they made a journal have left these.
    for abandoned in path.parent.glob(f"{glob.escape(path.name)}.new-*"):
        abandoned.unlink(missing_ok=True)
    import tempfile  # noqa: PLC0415 - readers need none

    # It has a name of its own, since others may make the journal at the same moment.
    file, name = tempfile.mkstemp(prefix=f"{path.name}.new-", dir=path.parent)
    os.close(file)
    fresh = Path(name)
    db = connect(fresh, "rw")
    try:
        db.execute("PRAGMA journal_mode = MEMORY")
        db.execute("BEGIN IMMEDIATE")
        create_tables(db)
        db.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        if may_be_unread(error):
            # A new journal cannot be damaged, so the disk has failed.
            msg = f"{fresh}: {error}"
            raise OSError(msg) from error
        raise
    finally:
        db.close()
    fresh.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Sync the names of the files in *folder* to the disk."""
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def check_place(path: Path) -> None:
    """
    Check the place before anything is made there.

    Raises:
        JournalError: No journal is there, and none can be.
    """
    if not path.parent.is_dir():
        msg = f"{path}: there is no folder {path.parent}"
        raise JournalError(msg, hint="make the folder, or choose another path")
    if not path.exists():
        return
    check_kind(path)
    with descriptor(path) as file:
        head = os.pread(file, len(MAGIC), 0)
    if head not in (b"", MAGIC):
        msg = f"{path} is damaged, or something else: it is not a database"
        hint = "choose another path; a journal that was damaged is restored from a copy"
        raise JournalError(msg, hint=hint)


def check_kind(path: Path) -> None:
    """
    Check that *path* is a file.

    Raises:
        JournalError: It is something else.
    """
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no ordinary file"
        msg = f"{path} is {kind}"
        raise JournalError(msg, hint="name a file, as in folder/runs.db")


def is_absent(path: Path) -> bool:
    """
    Return whether there is no journal yet.

    Raises:
        JournalError: There was one: its log is still there.
    """
    if path.exists() and path.stat().st_size:
        return False
    log = Path(f"{path}-wal")
    if log.exists() and log.stat().st_size:
        msg = f"{path} is gone or empty, and its log {log} is still there"
        raise JournalError(msg, hint=RESTORE)
    return True


def identity(path: str) -> tuple[int, int]:
    """
    Return device and inode of the file at *path*.

    Raises:
        FileNotFoundError: There is none.
    """
    # The file is not opened for it: closing it would drop the locks that SQLite holds.
    status = os.stat(path)  # noqa: PTH116 - quicker than a Path
    return status.st_dev, status.st_ino


def trouble_of_log(size: int) -> str:
    """Return the words of `troubles` for a log of *size* bytes that cannot be moved."""
    return (
        f"the log beside the journal has {size / 2**20:.0f} MiB and grows: somebody "
        "has read the journal for so long that it cannot be emptied; end what reads it "
        "(a tool, a backup, a program that was left), and it is emptied"
    )
