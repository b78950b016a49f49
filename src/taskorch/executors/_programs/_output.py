"""What programs write: the end of it in memory, all of it in files."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from taskorch._base.visible import after_cut
from taskorch.executors._programs._temporary import make_temporary

_SAME_NAME = 1000


class Tail:
    """The last bytes of a stream, as many as its limit."""

    __slots__ = ("_cut", "_data", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self._cut = False

    def add(self, data: bytes) -> None:
        self._data += data
        # At twice the limit, so that each byte is moved once at most.
        if len(self._data) > 2 * self._limit:
            self._trim()

    def text(self) -> str:
        """The end of the stream as text, with U+FFFD for what cannot be text."""
        if len(self._data) > self._limit:
            self._trim()
        data = bytes(self._data)
        if self._cut:
            data = after_cut(data)
        # Databases that hold text refuse NUL.
        return data.decode(errors="replace").replace("\0", "\ufffd")

    def _trim(self) -> None:
        del self._data[: len(self._data) - self._limit]
        self._cut = True


class OutputLog:
    """
    The file that gets every byte of a program's output, up to a limit.

    It never raises: a program must not stop because its log cannot be written.
    """

    def __init__(self, limit: int) -> None:
        #: None if it could not be made.
        self.path: Path | None = None
        #: Why it is missing or ends early; None if all is well.
        self.error: str | None = None
        #: Bytes that are not in it.
        self.dropped = 0
        self._file = -1
        self._room = limit

    def open(self, folder: LogFolder, name: str, wanted: str | None = None) -> None:
        """
        Make the file of the attempt *name* in *folder*; never one that exists.

        If a path is *wanted*, that is the file instead: emptied, if it is there.
        """
        try:
            if wanted is None:
                self._file, self.path = folder.create(name)
            else:
                path = Path(wanted).absolute()
                self._file, self.path = _empty(path), path
        except OSError as error:
            self.error = f"the log could not be made: {error}"

    def write(self, data: bytes) -> None:
        kept = self._write(memoryview(data)[: self._room]) if self._file >= 0 else 0
        self._room -= kept
        self.dropped += len(data) - kept

    def close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            try:
                os.close(file)
            except OSError as error:  # a full disk across a network says it here
                self.error = self.error or self._unwritable(error)

    def _write(self, data: memoryview) -> int:
        done = 0
        try:
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError as error:
            self.error = self._unwritable(error)
            self.close()  # what came after a gap would mislead
        return done

    def _unwritable(self, error: OSError) -> str:
        return f"{self.path} ends early, it could not be written: {error}"


class LogFolder:
    """
    The folder of the logs, made when the first one is.

    Without a path it is a temporary one, which stays until the interpreter exits.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def create(self, name: str) -> tuple[int, Path]:
        """
        Make `NAME.log`, or `NAME.2.log`, … if that exists; its descriptor and its path.

        The name is of safe path segments, joined by "/".

        Raises:
            OSError: It cannot be made.
        """
        root = self._make()
        *parents, last = name.split("/")
        # Step by step, so that no link inside the folder can lead out of it.
        here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for parent in parents:
                with suppress(FileExistsError):
                    os.mkdir(parent, 0o700, dir_fd=here)
                inner = os.open(
                    parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here
                )
                os.close(here)
                here = inner
            file, file_name = _create_new(here, last)
        finally:
            os.close(here)
        return file, root.joinpath(*parents, file_name)

    def _make(self) -> Path:
        if self._path is None:
            self._path = make_temporary()
        else:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._path


def _empty(path: Path) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    # What is no plain file, such as a pipe without a reader, must not hold us up.
    flags |= os.O_NONBLOCK
    try:
        file = os.open(path, flags, 0o644)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, flags, 0o644)
    os.set_blocking(file, True)
    return file


def _create_new(folder: int, name: str) -> tuple[int, str]:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    for number in range(1, _SAME_NAME):
        file_name = f"{name}.log" if number == 1 else f"{name}.{number}.log"
        with suppress(FileExistsError):
            return os.open(file_name, flags, 0o600, dir_fd=folder), file_name
    msg = f"{_SAME_NAME - 1} logs of this name exist; remove some"
    raise FileExistsError(msg)
