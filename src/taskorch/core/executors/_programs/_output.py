"""
Input and output of programs: pipes; the end of it in memory, all of it in files.

Bytes that a socket does not take at once are sent when it has room.

Decision: connections-to-peers.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from taskorch.kit.temporary import make_temporary
from taskorch.kit.visible import after_cut
from taskorch.model.ids import folders_of

if TYPE_CHECKING:
    from taskorch.kit.loop import Action, Loop


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
        # It is cut at twice the limit, so that each byte is moved once at most.
        if len(self._data) > 2 * self._limit:
            self._trim()

    def text(self) -> str:
        """Return the end of the stream as text, with U+FFFD for other bytes."""
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

        If a path is *wanted*, use that file instead, and empty it.
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
        Make `NAME.log`, or `NAME.2.log`, … if that exists; return descriptor and path.

        The name consists of safe path segments, joined by "/".

        Raises:
            OSError: It cannot be made.
        """
        root = self._make()
        *parents, last = folders_of(name)
        # It goes step by step, so that no link inside the folder can lead out of it.
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
    # A file of another kind, such as a pipe without a reader, must not block us.
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


_CHUNK = 64 * 1024
# The most that a pipe can hold, unless the administrator has raised it.
_PIPE_MOST_BYTES = 2**20


class Output:
    """Both output streams of a program; *on_end* is called when both have ended."""

    def __init__(
        self,
        loop: Loop,
        log: OutputLog,
        *,
        tail_bytes: int,
        on_end: Action,
        safe: Callable[[Action], Action],
    ) -> None:
        self._loop = loop
        self._log = log
        self._on_end = on_end
        self._safe = safe
        self._tails = Tail(tail_bytes), Tail(tail_bytes)
        self._streams: dict[int, Tail] = {}
        #: When the last bytes came, in seconds of the monotonic clock.
        self.last = time.monotonic()

    def start(self, stdout: int, stderr: int) -> None:
        """Read from these descriptors, which are ours to close from now on."""
        for fd, tail in zip((stdout, stderr), self._tails, strict=True):
            self._streams[fd] = tail
        for fd in self._streams:
            self._loop.watch(fd, self._safe(partial(self._read, fd)))

    @property
    def is_open(self) -> bool:
        """Return whether more may come."""
        return bool(self._streams)

    def tails(self) -> tuple[str, str]:
        """Return the end of standard output and of standard error, as text."""
        return self._tails[0].text(), self._tails[1].text()

    def finish(self) -> None:
        """Read what is left in the pipes."""
        for fd in list(self._streams):
            # A pipe holds no more: a process beyond our reach may still write.
            for _ in range(_PIPE_MOST_BYTES // _CHUNK):
                if not self._read_some(fd):
                    break

    def close(self) -> None:
        """Close the pipes as they are."""
        for fd in list(self._streams):
            self._close(fd)

    def forget(self) -> None:
        """Drop what has been read."""
        self._tails = Tail(0), Tail(0)

    def _read(self, fd: int) -> None:
        """Read from *fd*, and close it at the end of the stream."""
        if self._read_some(fd) is None:
            self._close(fd)
            if not self._streams:
                self._on_end()

    def _read_some(self, fd: int) -> int | None:
        """Return how many bytes have come: 0 if none now, None at the end."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            return None
        self.last = time.monotonic()
        self._streams[fd].add(data)
        self._log.write(data)
        return len(data)

    def _close(self, fd: int) -> None:
        del self._streams[fd]
        self._loop.unwatch(fd)
        os.close(fd)


class Input:
    """The standard input of a program."""

    def __init__(
        self, loop: Loop, data: bytes, *, safe: Callable[[Action], Action]
    ) -> None:
        self._loop = loop
        self._data = memoryview(data)
        self._safe = safe
        self._fd = -1

    def open(self) -> int:
        """
        Make the pipe, and return the program's end of it.

        Raises:
            OSError: There are no descriptors left.
        """
        # Both are set in one step, since a fork at this moment must find it: see
        # `disown`.
        theirs, self._fd = os.pipe()
        os.set_blocking(self._fd, False)
        return theirs

    def start(self) -> None:
        self._loop.watch(self._fd, self._safe(self._write), write=True)

    def close(self) -> None:
        """Close the pipe, whether or not all has been written."""
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            fd, self._fd = self._fd, -1
            os.close(fd)
        self._data = memoryview(b"")

    def disown(self) -> None:
        """Close the copy of a forked child, so that the program sees EOF."""
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)

    def _write(self) -> None:
        try:
            done = _write_without_signal(self._fd, self._data[:_CHUNK])
        except BlockingIOError:
            return
        except OSError:  # it has closed its end: it wants no more
            done = len(self._data)
        self._data = self._data[done:]
        if not self._data:
            self.close()


def _write_without_signal(fd: int, data: memoryview) -> int:
    # Python ignores SIGPIPE, but an application may have chosen to die of it, and then
    # a program that does not read its input would end us.
    if signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN:
        return os.write(fd, data)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        return os.write(fd, data)
    except BrokenPipeError:
        if signal.SIGPIPE in signal.sigpending():
            signal.sigwait({signal.SIGPIPE})
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


#: Flags to neither wait nor raise SIGPIPE.
FLAGS: Final = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)


#: Seconds after which it asks for a descriptor again.
_PAUSE: Final = 0.1


class Sender:
    """
    Sends bytes over a socket, in order, without waiting.

    `send` and `finish` are for every thread, `close` for that of the loop.

    Args:
        loop: The loop that watches for room in the socket.
        sock: The socket.
    """

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self._loop = loop
        #: The socket; None once it is closed.
        self.sock: socket.socket | None = sock
        # Guards the socket, and the order of what is sent.
        self._lock = threading.Lock()
        self._unsent: deque[memoryview] = deque()
        # A copy of the socket, watched for room: a descriptor is watched for one thing
        # only.
        self._room = -1

    def send(self, data: bytes) -> None:
        """Send *data*; if that fails, the reader of the socket sees it."""
        with self._lock:
            if self.sock is None:
                return
            if self._unsent:
                self._unsent.append(memoryview(data))
                return
            sent = 0
            try:
                sent = self.sock.send(data, FLAGS)
            except BlockingIOError:
                pass
            except OSError:
                return
            if sent == len(data):
                return
            self._unsent.append(memoryview(data)[sent:])
        self._loop.call(self._wait_for_room)

    def close(self) -> None:
        """Close the socket; bytes that it has not taken are dropped."""
        with self._lock:
            self._wait_no_more()
            sock, self.sock = self.sock, None
            self._unsent.clear()
        if sock is not None:
            self._loop.unwatch(sock.fileno())
            sock.close()

    def finish(self) -> None:
        """Let the other side read an end."""
        with self._lock:
            if self.sock is not None:
                with suppress(OSError):
                    self.sock.shutdown(socket.SHUT_WR)

    def disown(self) -> None:
        """Close the parent's socket, in a forked child."""
        if self.sock is not None:
            self.sock.close()
        if self._room >= 0:
            os.close(self._room)
            # A number that is closed twice may be another file's by then.
            self._room = -1

    def _wait_for_room(self) -> None:
        with self._lock:
            if self.sock is None or self._room >= 0 or not self._unsent:
                return
            try:
                self._room = os.dup(self.sock.fileno())
            except OSError:
                # The system has no descriptor now.
                self._loop.at(time.monotonic() + _PAUSE, self._wait_for_room)
                return
            self._loop.watch(self._room, self._send_rest, write=True)

    def _send_rest(self) -> None:
        with self._lock:
            assert self.sock is not None  # noqa: S101 - it is watched
            try:
                while self._unsent:
                    part = self._unsent[0]
                    sent = self.sock.send(part, FLAGS)
                    if sent < len(part):
                        self._unsent[0] = part[sent:]
                        return
                    self._unsent.popleft()
            except BlockingIOError:
                return
            except OSError:
                self._unsent.clear()
            self._wait_no_more()

    def _wait_no_more(self) -> None:
        if self._room >= 0:
            self._loop.unwatch(self._room)
            os.close(self._room)
            self._room = -1
