"""
Temporary folders that go with the process that made them, however it ends.

All folders of one process are in one parent folder. A process that exits removes its
own. For a killed process, the next one that makes such a folder does. A lock on a file
in the folder shows whether its process lives, since the system releases the lock at its
end. Process ids would not do: they are reused, and mean nothing in another container
that shares the disk.
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
    """The temporary folder of this process, made for the first one inside it."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget the folder of the parent, in a forked child."""
        # Another thread of the parent may have held the lock.
        self._making = threading.Lock()
        self._path: Path | None = None

    def make_folder(self) -> Path:
        with self._making:
            # A tool that tidies up may have removed it.
            if self._path is None or not self._path.exists():
                self._path = _make_home()
            return Path(tempfile.mkdtemp(dir=self._path))


_home: Final = _Home()
os.register_at_fork(after_in_child=_home.begin_anew)


def make_temporary() -> Path:
    """
    Make a new folder that stays until the interpreter exits, and return its path.

    Raises:
        OSError: It cannot be made.
    """
    return _home.make_folder()


def remove_tree(top: Path) -> None:
    """Remove a folder with its content, however deep; leave what cannot be removed."""
    with suppress(RecursionError):
        shutil.rmtree(top, ignore_errors=True)
    with suppress(OSError):
        if top.exists():
            _remove_flattened(top)


def _remove_flattened(top: Path) -> None:
    """Remove a folder by moving its subfolders up, so that no path gets long."""
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
    # Without the lock file, no process takes the folder for a left one.
    with suppress(OSError):
        _lock(home)
    _sweep(home.parent)
    return home


def _lock(home: Path) -> None:
    begun = home / f"{_LOCK}.new"
    # The lock stays open as long as this process lives.
    lock = os.open(begun, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # No process may find the lock file before it is locked.
        begun.rename(home / _LOCK)
    except OSError:
        os.close(lock)
        raise


def _sweep(parent: Path) -> None:
    """Remove the folders in *parent* whose processes were killed."""
    try:
        homes = [path for path in parent.iterdir() if path.name.startswith(_PREFIX)]
    except OSError:
        return
    for home in homes:
        # The folder is not ours, or its process lives.
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
    # A forked child that exits must leave the folder alone.
    if os.getpid() == owner:
        remove_tree(home)
