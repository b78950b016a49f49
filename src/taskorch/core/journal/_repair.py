"""
Recovery from a disk that has failed: what it shows afterwards proves little.

After a failed sync the kernel of the machine takes the unwritten pages for written:
they can be read, a further sync succeeds and writes nothing, and after a loss of power
they are gone.

Decision: journal-in-a-file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from taskorch.core.journal import _file
from taskorch.core.journal._descriptors import descriptor
from taskorch.core.journal._session import RESTORE
from taskorch.errors import JournalError, JournalUnavailableError

#: The number of bytes that are read and written at once.
_PART: Final = 1024 * 1024
#: Bytes that SQLite reads at once: the disk may refuse a read of ours as often as its.
_PAGE: Final = 4096
#: How often it is checked whether apparent damage is real.
_LOOKS: Final = 3
#: A sync that goes further, where a plain fsync stops at the cache of the disk.
_FULL_SYNC: Final = getattr(fcntl, "F_FULLFSYNC", None)


def rewrite_log(log: Path) -> None:
    """
    Write each byte of *log* again in its place, and sync it to the disk.

    No other process may write to it meanwhile; reading it does no harm.

    Raises:
        OSError: It cannot be read or written.
    """
    try:
        # The locks of SQLite are on other files: closing this one drops none.
        file = os.open(log, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        place = 0
        while part := os.pread(file, _PART, place):
            place += os.pwrite(file, part, place)
        if place:
            _sync(file)
    except OSError as error:
        error.filename = str(log)
        raise
    finally:
        os.close(file)


def _sync(file: int) -> None:
    if _FULL_SYNC is None:
        os.fsync(file)
    else:
        fcntl.fcntl(file, _FULL_SYNC)


def mend_modes(path: Path) -> None:
    """
    Give the files beside the journal the modes of the journal itself.

    SQLite makes them with the mode that the journal has at that moment: if it was
    read-only for a while, they stay read-only.

    Raises:
        PermissionError: They are another user's, or the journal itself is read-only.
    """
    mode = path.stat().st_mode & 0o777
    if not os.access(path, os.R_OK | os.W_OK):
        # Otherwise SQLite would create the files beside it now.
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    for name in (f"{path}-wal", f"{path}-shm"):
        beside = Path(name)
        with contextlib.suppress(FileNotFoundError):
            if beside.stat().st_mode & mode != mode:
                beside.chmod(mode)


# ------------------------------------------------------------- is there one to read?


def check_readable(path: Path) -> None:
    """
    Check that there is a journal, for a caller that only reads.

    Raises:
        JournalUnavailableError: Whoever asks may not read it.
        JournalError: There is none, or something else.
    """
    try:
        size = path.stat().st_size
        _file.check_kind(path)
        with descriptor(path) as file:
            head = os.pread(file, len(_file.MAGIC), 0)
    except (FileNotFoundError, NotADirectoryError) as error:
        if Path(f"{path}-wal").exists():
            msg = f"{path} is gone, and its log {path}-wal is still there"
            raise JournalError(msg, hint=RESTORE) from error
        msg = f"there is no journal {path}"
        hint = "check the path: an orchestrator makes its journal when it first starts"
        raise JournalError(msg, hint=hint) from error
    except PermissionError as error:
        msg = f"{path} may not be read by this user"
        hint = "a journal is private: read it as the user who runs the orchestrator"
        raise JournalUnavailableError(msg, outcome="refused", hint=hint) from error
    if not size:
        msg = f"{path} is empty: it is no journal yet, or not any more"
        raise JournalError(msg, hint=f"check the path, or {RESTORE}")
    if head != _file.MAGIC:
        msg = f"{path} is no journal, or a damaged one: it is no database of SQLite's"
        raise JournalError(msg, hint=f"check the path, or {RESTORE}")


# ------------------------------------------------------------------- is it damage?


def refusal(path: Path) -> OSError | None:
    """
    Return the disk's error, if it only refused to read what SQLite calls damaged.

    A disk that refuses now and then may do so at any look: damage is what shows at
    several, in files that can be read each time.
    """
    for _ in range(_LOOKS):
        error = _unreadable(path)
        if error is not None:
            return error
        if _is_sound(path):
            return OSError(errno.EIO, "the disk refused a read, and does no more")
    return None


def _is_sound(path: Path) -> bool:
    """
    Return whether the journal can be read completely, and its pages fit together.

    SQLite calls a page damaged which the disk refused to read.
    """
    with contextlib.suppress(*_file.FAILURES):
        db = _file.connect(path, _file.mode_for_readers(path))
        with contextlib.closing(db):
            ((verdict,),) = db.execute("PRAGMA integrity_check(1)").fetchall()
            return bool(verdict == "ok")
    return False


def _unreadable(path: Path) -> OSError | None:
    """Return the disk's error if it refuses to read the journal or its log."""
    for name in (path, Path(f"{path}-wal")):
        try:
            with descriptor(name) as file:
                place = 0
                while part := os.pread(file, _PAGE, place):
                    place += len(part)
        except OSError as error:
            if error.errno == errno.EIO:
                return error
    return None
