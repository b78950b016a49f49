"""The pipes of a program: reading what it writes, writing what it reads."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from taskorch.executors._programs._output import OutputLog, Tail

if TYPE_CHECKING:
    from taskorch.executors._programs._loop import Action, Loop

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
        #: When something last arrived, in seconds of the monotonic clock.
        self.last = time.monotonic()

    def start(self, stdout: int, stderr: int) -> None:
        """Read from these descriptors, which are ours to close from now on."""
        for fd, tail in zip((stdout, stderr), self._tails, strict=True):
            self._streams[fd] = tail
        for fd in self._streams:
            self._loop.watch(fd, self._safe(partial(self._read, fd)))

    @property
    def is_open(self) -> bool:
        """Whether more may come."""
        return bool(self._streams)

    def tails(self) -> tuple[str, str]:
        """The end of standard output and of standard error, as text."""
        return self._tails[0].text(), self._tails[1].text()

    def finish(self) -> None:
        """Read what is left in the pipes."""
        for fd in list(self._streams):
            # No more than can be in it: a process beyond our reach may still write.
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
        """How many bytes have come: 0 if there are none now, None at the end."""
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
    """What a program reads."""

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
        # In one step: a fork at this moment must find it, see `disown`.
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
        """In a forked child: close the child's copy, so that the program sees EOF."""
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
