"""
Descriptors of a journal's file in this process, and its other names.

POSIX drops all locks that a process holds on a file as soon as the process closes any
descriptor of that file (https://www.sqlite.org/howtocorrupt.html, 2.2). So only SQLite
and this module open a file that may be a journal, and a descriptor that SQLite does not
watch stays open while there is another one. Locks and logs of SQLite go by a path, so a
file with two names could have two leaders: a claim looks for other names.

Decision: journal-in-a-file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from taskorch.errors import JournalTakenError

#: The layout of a lock of `fcntl` on Linux: kind, whence, start, length, process.
_LOCK: Final = "hhqqi4x"


class Unlocked(sqlite3.Connection):
    """A connection whose descriptor SQLite does not watch, since it takes no locks."""

    #: The device and inode of the file.
    identity: tuple[int, int] = (0, 0)

    def close(self) -> None:
        """Close it now, or with the next one if this process has the file open."""
        _close(self.identity, self)


_mutex: Final = threading.Lock()
#: Connections and descriptors that wait until others of their file are closed.
_waiting: Final[dict[tuple[int, int], list[Unlocked | int]]] = {}


def _close(identity: tuple[int, int], unlocked: Unlocked | int) -> None:
    with _mutex:
        waiting = _waiting.setdefault(identity, [])
        # A descriptor that is closed twice counts once.
        if unlocked not in waiting:
            waiting.append(unlocked)
    close_unneeded()


def close_unneeded() -> None:
    """Close connections and descriptors that need wait no longer."""
    with _mutex:
        for identity, waiting in [*_waiting.items()]:
            if len(_here(identity)) > len(waiting):
                continue
            del _waiting[identity]
            for each in waiting:
                if isinstance(each, int):
                    os.close(each)
                else:
                    sqlite3.Connection.close(each)


def _here(identity: tuple[int, int]) -> list[int]:
    """Return the descriptors of a file in this process."""
    descriptors = []
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - their names are numbers
        # The descriptor of the listing itself is closed by now.
        with contextlib.suppress(OSError):
            status = os.fstat(int(name))
            if (status.st_dev, status.st_ino) == identity:
                descriptors.append(int(name))
    return descriptors


@contextlib.contextmanager
def descriptor(path: Path) -> Iterator[int]:
    """
    Yield a descriptor that reads the file.

    Raises:
        OSError: The file cannot be opened.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield file
    finally:
        status = os.fstat(file)
        _close((status.st_dev, status.st_ino), file)


def check_names(path: Path) -> None:
    """
    Check that no process uses the journal at *path* under another name.

    Raises:
        JournalTakenError: A process does, or may: its names cannot be seen.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    if status.st_nlink < 2:  # noqa: PLR2004 - the path is one of its names
        return
    identity = status.st_dev, status.st_ino
    for process in (os.getpid(), *_elsewhere(path)):
        other = _name_in(process, identity, path)
        if other is not None:
            msg = f"{path} is in use by process {process}, which calls it {other}"
            hint = "use that name everywhere, and remove the other one"
            raise JournalTakenError(msg, hint=hint)


def _elsewhere(path: Path) -> list[int]:
    """Return another process that has a lock on the file, if there is one."""
    if not sys.platform.startswith("linux"):
        return []
    with descriptor(path) as file:
        question = struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(file, fcntl.F_GETLK, question)
    kind, *_, process = struct.unpack(_LOCK, answer)
    return [] if kind == fcntl.F_UNLCK else [process]


def _name_in(process: int, identity: tuple[int, int], path: Path) -> str | None:
    """Return another name under which a process has the file open; or None."""
    folder = Path(f"/proc/{process}/fd")
    with _mutex:
        # These descriptors are not in use.
        ours = {f"{each}" for each in _waiting.get(identity, ())}
    try:
        for entry in folder.iterdir():
            if process == os.getpid() and entry.name in ours:
                continue
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat()
                name = entry.readlink()
                if (status.st_dev, status.st_ino) == identity and name != path:
                    return str(name)
    except OSError:
        # Off Linux, and for another user's process, the names cannot be seen.
        return None if process == os.getpid() else "by a name that cannot be seen"
    return None
