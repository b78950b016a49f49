"""
A disk that fails below SQLite, when it is told to, and knows what has reached it.

A VFS of SQLite's own kind is registered in the library that Python uses: it passes
everything on to the one that was there, counts what is read, written, synced and cut
off, and fails where it should. What `os` writes and syncs is counted too.

A failed sync is what Linux makes of it: what was to be synced counts as written from
then on, it reads back, a further sync succeeds, and nothing of it has reached the disk.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = ("Disk", "is_available")

_PAGE: Final = 4096
#: Of SQLite's write-ahead log: its header, that of a frame, and a frame.
_LOG_HEADER: Final = 32
_FRAME_HEADER: Final = 24
_FRAME: Final = _FRAME_HEADER + _PAGE
_OK: Final = 0
#: What the VFS of a Unix says to SQLite, by what was asked for and what went wrong.
_CODES: Final = {
    ("read", "EIO"): sqlite3.SQLITE_IOERR | 33 << 8,  # It is SQLITE_IOERR_CORRUPTFS.
    ("read", "refused"): sqlite3.SQLITE_IOERR_READ,
    ("write", "EIO"): sqlite3.SQLITE_IOERR_WRITE,
    ("write", "ENOSPC"): sqlite3.SQLITE_FULL,
    ("write", "short"): sqlite3.SQLITE_FULL,
    ("sync", "EIO"): sqlite3.SQLITE_IOERR_FSYNC,
    ("truncate", "EIO"): sqlite3.SQLITE_IOERR_TRUNCATE,
    ("write", "EROFS"): sqlite3.SQLITE_IOERR_WRITE,
    ("truncate", "EROFS"): sqlite3.SQLITE_IOERR_TRUNCATE,
    ("delete", "EROFS"): sqlite3.SQLITE_IOERR_DELETE,
    # Not a failure: what is opened can only be read.
    ("open", "EROFS"): sqlite3.SQLITE_READONLY,
}
#: How a file is opened: to be read, to be written as well, and made if it is not there.
_READ_ONLY, _READ_WRITE, _CREATE = 1, 2, 4
#: Memory runs out, whatever was asked for.
_NOMEM: Final = sqlite3.SQLITE_NOMEM

#: What is counted of the functions of `os`.
_OF_OS: Final = ("pread", "pwrite", "fsync", "replace")

_P: Final = ctypes.c_void_p
_INT: Final = ctypes.c_int
_OPEN: Final = ctypes.CFUNCTYPE(_INT, _P, _P, _P, _INT, _P)
_DELETE: Final = ctypes.CFUNCTYPE(_INT, _P, ctypes.c_char_p, _INT)
_MOVE: Final = ctypes.CFUNCTYPE(_INT, _P, _P, _INT, ctypes.c_int64)
_CUT: Final = ctypes.CFUNCTYPE(_INT, _P, ctypes.c_int64)
_SYNC: Final = ctypes.CFUNCTYPE(_INT, _P, _INT)


class _Vfs(ctypes.Structure):
    """`sqlite3_vfs`."""

    _fields_ = (
        ("version", _INT),
        ("file_size", _INT),
        ("longest_path", _INT),
        ("next", _P),
        ("name", ctypes.c_char_p),
        ("data", _P),
        ("open", _P),
        ("delete", _P),
        ("rest", _P * 14),
    )


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods`."""

    _fields_ = (
        ("version", _INT),
        ("close", _P),
        ("read", _P),
        ("write", _P),
        ("truncate", _P),
        ("sync", _P),
        ("rest", _P * 13),
    )


def _library() -> Any:
    """The SQLite that Python uses; None if its functions cannot be reached."""
    import _sqlite3

    try:
        library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    except (AttributeError, OSError):
        return None
    return library


def is_available() -> bool:
    """Whether this Python's SQLite can be told to use such a disk."""
    return _library() is not None


class Disk:
    """
    What a folder is on.

    Args:
        folder: Files in it are watched; others are left alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: Whether after a failed sync the old content is read, as on some file systems.
        self.reverts = False
        #: Whether processes can share memory there, which a write-ahead log needs.
        self.shares = True
        #: Called before anything is asked of the disk.
        self.watch: Callable[[str, str], object] = lambda *_: None
        #: What was asked for, in order: what, and the name of the file.
        self.calls: list[tuple[str, str]] = []
        #: Calls that failed.
        self.failed: list[tuple[str, str]] = []
        self._mutex = threading.RLock()
        self._wanted: Callable[[str, str, int], str] = lambda *_: ""
        #: What has reached the disk, and which pages have not yet, by file.
        self._synced: dict[str, bytearray] = {}
        self._dirty: dict[str, set[int]] = {}
        self._names: dict[int, str] = {}
        self._methods: dict[int, tuple[Any, Any]] = {}
        self._kept: list[Any] = []

    # -- what goes wrong -----------------------------------------------------------

    def fail(self, how: str, what: str = "", name: str = "") -> None:
        """
        From now on every call fails, until `mend`.

        Args:
            how: `"EIO"`, `"ENOSPC"`, `"short"`, `"refused"`, `"ENOMEM"` or `"EROFS"`;
                calls that cannot fail so do not.
            what: Only these: `"read"`, `"write"`, `"sync"`, `"truncate"`, `"open"` or
                `"delete"`.
            name: Only on files whose names end with this.
        """
        self._wanted = lambda asked, file, _: (
            how if what in ("", asked) and file.endswith(name) else ""
        )

    def fail_at(self, number: int, how: str, what: str, *, once: bool) -> None:
        """The *number*-th call of a kind from now fails, or all from that one on."""
        numbers = count(1)

        def wanted(asked: str, _name: str, _: int) -> str:
            if asked != what:
                return ""
            now = next(numbers)
            return how if (now == number if once else now >= number) else ""

        self._wanted = wanted

    def mend(self) -> None:
        """Nothing fails any more."""
        self._wanted = lambda *_: ""

    def _fails(self, what: str, name: str) -> str:
        self.watch(what, name)
        self.calls.append((what, name))
        how = self._wanted(what, name, len(self.calls))
        if how == "ENOMEM" or (what, how) in _CODES:
            self.failed.append((what, name))
            return how
        return ""

    def torn_log(self, name: str) -> Iterator[bytes]:
        """
        What the log *name* may be after a loss of power now: the last write, torn.

        Whatever was written since the last sync has reached the disk to some point:
        before a frame, in the middle of it, or all but its last byte.
        """
        now, old = Path(name).read_bytes(), bytes(self._synced.get(name, b""))
        for start in range(_LOG_HEADER, len(now), _FRAME):
            frame = now[start : start + _FRAME]
            if old[start : start + _FRAME] == frame:
                continue
            for size in (0, _FRAME_HEADER, _FRAME // 2, _FRAME - 1, _FRAME):
                end = start + size
                yield now[:end] + old[end:]

    # -- what has reached it -------------------------------------------------------

    def after_power_loss(self, folder: Path, early: str = "-") -> None:
        """
        Put into *folder* what there is after the power has failed now.

        Args:
            folder: It is emptied before.
            early: Of files whose names end with this, all that was written has reached
                the disk before anybody asked for that.
        """
        with self._mutex:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for name, content in self._synced.items():
                path = Path(name)
                now = path.read_bytes() if name.endswith(early) else content
                (folder / path.name).write_bytes(now)

    def _wrote(self, name: str, place: int, size: int) -> None:
        first, last = place // _PAGE, (place + max(size, 1) - 1) // _PAGE
        self._dirty.setdefault(name, set()).update(range(first, last + 1))

    def _sync(self, name: str) -> None:
        synced = self._synced.setdefault(name, bytearray())
        with Path(name).open("rb") as file:
            for page in sorted(self._dirty.pop(name, ())):
                file.seek(page * _PAGE)
                content = file.read(_PAGE)
                end = page * _PAGE + len(content)
                synced.extend(bytes(max(0, end - len(synced))))
                synced[page * _PAGE : end] = content

    def _lose(self, name: str) -> None:
        """A sync has failed: what was to be written counts as written."""
        pages = self._dirty.pop(name, set())
        if self.reverts:
            # Other file systems show again what is on the disk.
            synced = self._synced.get(name, bytearray())
            with Path(name).open("r+b") as file:
                for page in pages:
                    old = bytes(synced[page * _PAGE : (page + 1) * _PAGE])
                    file.seek(page * _PAGE)
                    file.write(old.ljust(_PAGE, b"\0"))

    def _cut(self, name: str, size: int) -> None:
        del self._synced.setdefault(name, bytearray())[size:]
        dirty = self._dirty.get(name, set())
        self._dirty[name] = {page for page in dirty if page * _PAGE < size}

    # -- below SQLite --------------------------------------------------------------

    @contextmanager
    def below_sqlite(self) -> Iterator[Disk]:
        """All that is opened meanwhile is on this disk."""
        library = _library()
        old = library.sqlite3_vfs_find(None)
        vfs = _Vfs.from_buffer_copy(old.contents)
        name = f"failing-{id(self)}".encode()
        vfs.name, vfs.next = name, None
        really_open = _OPEN(old.contents.open)
        really_delete = _DELETE(old.contents.delete)
        address = ctypes.cast(old, _P).value

        def open_(_vfs: int, path: int, file: int, flags: int, out: int) -> int:
            named = ctypes.string_at(path).decode() if path else ""
            if self._is_ours(named) and self._wanted("open", named, 0) == "EROFS":
                # As that of a Unix, which asks for less then.
                flags = flags & ~(_READ_WRITE | _CREATE) | _READ_ONLY
                self.failed.append(("open", named))
            code = really_open(address, path, file, flags, out)
            if code == _OK and self._is_ours(named):
                self._adopt(file, named)
            return int(code)

        def delete(_vfs: int, path: bytes, sync: int) -> int:
            with self._mutex:
                named = path.decode()
                if self._is_ours(named) and self._wanted("delete", named, 0) == "EROFS":
                    self.failed.append(("delete", named))
                    return _CODES["delete", "EROFS"]
                code = int(really_delete(address, path, sync))
                if code == _OK:
                    self._synced.pop(path.decode(), None)
                    self._dirty.pop(path.decode(), None)
                return code

        own = _OPEN(open_), _DELETE(delete)
        vfs.open, vfs.delete = (ctypes.cast(each, _P).value for each in own)
        self._kept += [vfs, own, name, really_open, really_delete]
        library.sqlite3_vfs_register(ctypes.byref(vfs), 1)
        try:
            with self._below_os():
                yield self
        finally:
            self.mend()
            library.sqlite3_vfs_register(old, 1)
            library.sqlite3_vfs_unregister(ctypes.byref(vfs))

    def _is_ours(self, name: str) -> bool:
        return Path(name).parent == self.folder and not name.endswith("-shm")

    def _adopt(self, file: int, name: str) -> None:
        self._names[file] = name
        at = ctypes.cast(file, ctypes.POINTER(_P))
        methods = at[0]
        assert methods is not None
        if methods not in self._methods:
            self._methods[methods] = self._wrapped(methods)
        at[0] = ctypes.addressof(self._methods[methods][0])

    def _wrapped(  # noqa: C901 - one function after the other
        self, methods: int
    ) -> tuple[Any, Any]:
        old = _Methods.from_address(methods)
        new = _Methods.from_buffer_copy(old)
        if not self.shares:
            # As with NFS: what version 2 adds is missing.
            new.version = 1
        names = self._names
        really_read, really_write = _MOVE(old.read), _MOVE(old.write)
        really_cut, really_sync = _CUT(old.truncate), _SYNC(old.sync)

        def code_of(what: str, how: str) -> int:
            return _NOMEM if how == "ENOMEM" else _CODES[what, how]

        def read(file: int, into: int, size: int, place: int) -> int:
            with self._mutex:
                if how := self._fails("read", names[file]):
                    return code_of("read", how)
            return int(really_read(file, into, size, place))

        def write(file: int, data: int, size: int, place: int) -> int:
            with self._mutex:
                how = self._fails("write", names[file])
                if how and how != "short":
                    return code_of("write", how)
                size = size // 2 if how else size
                code = int(really_write(file, data, size, place))
                self._wrote(names[file], place, size)
                return code_of("write", how) if how else code

        def cut(file: int, size: int) -> int:
            with self._mutex:
                if how := self._fails("truncate", names[file]):
                    return code_of("truncate", how)
                code = int(really_cut(file, size))
                self._cut(names[file], size)
                return code

        def sync(file: int, flags: int) -> int:
            with self._mutex:
                if how := self._fails("sync", names[file]):
                    self._lose(names[file])
                    return code_of("sync", how)
                code = int(really_sync(file, flags))
                self._sync(names[file])
                return code

        own = _MOVE(read), _MOVE(write), _CUT(cut), _SYNC(sync)
        new.read, new.write, new.truncate, new.sync = (
            ctypes.cast(each, _P).value for each in own
        )
        return new, (own, really_read, really_write, really_cut, really_sync)

    # -- below os ------------------------------------------------------------------

    @contextmanager
    def _below_os(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in _OF_OS:
                patch.setattr(
                    os, name, partial(getattr(self, f"_{name}"), getattr(os, name))
                )
            yield

    def _refuse(self, what: str, name: str) -> str:
        how = self._fails(what, name)
        if how == "ENOMEM":
            raise MemoryError
        if how and how != "short":
            number = getattr(errno, how, errno.EIO)
            raise OSError(number, os.strerror(number))
        return how

    def _pread(self, really: Any, file: int, size: int, place: int) -> bytes:
        if name := self._name_of(file):
            with self._mutex:
                self._refuse("read", name)
        return bytes(really(file, size, place))

    def _pwrite(self, really: Any, file: int, data: bytes, place: int) -> int:
        name = self._name_of(file)
        if not name:
            return int(really(file, data, place))
        with self._mutex:
            is_short = self._refuse("write", name) and len(data) > 1
            size = int(
                really(file, data[: len(data) // 2] if is_short else data, place)
            )
            self._wrote(name, place, size)
            return size

    def _fsync(self, really: Any, file: int) -> None:
        name = self._name_of(file)
        if not name:
            really(file)
            return
        with self._mutex:
            try:
                self._refuse("sync", name)
            except OSError:
                self._lose(name)
                raise
            really(file)
            self._sync(name)

    def _replace(self, really: Any, old: Any, new: Any, **how: Any) -> None:
        with self._mutex:
            really(old, new, **how)
            if str(old) in self._synced:
                self._synced[str(new)] = self._synced.pop(str(old))
                self._dirty[str(new)] = self._dirty.pop(str(old), set())

    def _name_of(self, file: int) -> str:
        """The watched file that has the descriptor; empty if none has."""
        found = os.fstat(file)
        for name in set(self._names.values()):
            with suppress(FileNotFoundError):
                if os.path.samestat(found, Path(name).stat()):
                    return name
        return ""
