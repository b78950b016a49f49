"""
Temporary folders that go with the process that made them, however it ends.

All those of one process are in one folder. A process that exits removes its own. One
that is killed cannot: the next one that makes such a folder does. Whether an owner
lives is told by a lock on a file in its folder, which the system releases when it
ends; process ids would not do, since they are given again, and mean nothing in another
container that shares the disk.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import stat
import tempfile
import threading
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

_PREFIX: Final = "taskorch-"
_LOCK: Final = "lock"


class _Home:
    """The folder of this process, made when the first one in it is."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """In a forked child: that of the parent is the parent's."""
        # Another thread of the parent's may have held it.
        self._making = threading.Lock()
        self._path: Path | None = None

    def make_folder(self) -> Path:
        with self._making:
            # Those who tidy up after others may have removed it.
            if self._path is None or not self._path.exists():
                self._path = _make_home()
            return Path(tempfile.mkdtemp(dir=self._path))


_home: Final = _Home()
os.register_at_fork(after_in_child=_home.begin_anew)


def make_temporary() -> Path:
    """
    A folder of its own, which stays until the interpreter exits.

    Raises:
        OSError: It cannot be made.
    """
    return _home.make_folder()


def remove_tree(top: Path) -> None:
    """Remove a folder and all that is in it, however deep; what cannot be stays."""
    with suppress(RecursionError):
        shutil.rmtree(top, ignore_errors=True)
    with suppress(OSError):
        if top.exists():
            _remove_flattened(top)


def _remove_flattened(top: Path) -> None:
    """Remove it by moving what is in its folders up, so that no path gets long."""
    numbers = count()
    while folders := [path for path in top.iterdir() if _is_folder(path)]:
        for folder in folders:
            for path in folder.iterdir():
                if _is_folder(path):
                    path.rename(top / f".{top.name}.{next(numbers)}")
                else:
                    path.unlink()
            folder.rmdir()
    shutil.rmtree(top)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _make_home() -> Path:
    home = Path(tempfile.mkdtemp(prefix=_PREFIX))
    atexit.register(_remove, home, os.getpid())
    # Without a lock, nobody will take it for one that was left behind.
    with suppress(OSError):
        _lock(home)
    _sweep(home.parent)
    return home


def _lock(home: Path) -> None:
    begun = home / f"{_LOCK}.new"
    # It stays open as long as this process lives.
    lock = os.open(begun, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Nobody is to find it before it is locked.
        begun.rename(home / _LOCK)
    except OSError:
        os.close(lock)
        raise


def _sweep(parent: Path) -> None:
    """Remove the folders in *parent* whose owners have been killed."""
    try:
        homes = [path for path in parent.iterdir() if path.name.startswith(_PREFIX)]
    except OSError:
        return
    for home in homes:
        # It is none of ours, or its owner lives.
        with suppress(OSError):
            _remove_if_left(home)


def _remove_if_left(home: Path) -> None:
    status = home.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return
    lock = os.open(home / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_tree(home)
    finally:
        os.close(lock)


def _remove(home: Path, owner: int) -> None:
    # A forked child that exits must leave it alone.
    if os.getpid() == owner:
        remove_tree(home)
