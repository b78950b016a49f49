"""
An event loop on one thread: descriptors, times, and calls from other threads.

A `LinePipe` takes lines from other processes, with such a loop or without.
"""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from taskorch.kit.fence import log_of
from taskorch.kit.temporary import make_temporary

_log = log_of(__name__)

# The longest single wait: selectors cannot count further than a few weeks.
_PATIENCE_SECONDS = 3600.0

#: The bytes of a pipe that are read at a time, and the most bytes of a line.
_SLICE: Final = 4096
_LONGEST_LINE: Final = 1 << 16

Action = Callable[[], object]


class Loop:
    """
    Event loop on one thread that runs actions for descriptors and times.

    `call` is for every thread, the other methods are for the one that runs the loop.
    An action that raises is logged, and the loop goes on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: deque[Action] = deque()
        self._wake_in = self._wake_out = -1
        self._woken = False
        self._selector: selectors.BaseSelector | None = None
        self._watched: dict[int, Action] = {}
        self._times: list[tuple[float, int, Action]] = []
        self._count = itertools.count()

    def call(self, action: Action) -> None:
        """Run *action* on the loop as soon as possible; for any thread."""
        with self._lock:
            self._calls.append(action)
            if self._wake_in >= 0 and not self._woken:
                self._woken = True
                os.write(self._wake_in, b"!")

    def at(self, when: float, action: Action) -> None:
        """Run *action* at *when*, in seconds of the monotonic clock."""
        heapq.heappush(self._times, (when, next(self._count), action))

    def watch(self, fd: int, action: Action, *, write: bool = False) -> None:
        """Run *action* whenever *fd* can be read, or written."""
        event = selectors.EVENT_WRITE if write else selectors.EVENT_READ
        self._opened().register(fd, event)
        self._watched[fd] = action

    def unwatch(self, fd: int) -> None:
        """Stop watching *fd*, before it is closed."""
        if self._watched.pop(fd, None) is not None:
            self._opened().unregister(fd)

    def open(self) -> None:
        """
        Open the descriptors of the loop.

        Raises:
            OSError: There are no descriptors left.
        """
        selector = selectors.DefaultSelector()
        try:
            wake_out, wake_in = os.pipe()
        except OSError:
            selector.close()
            raise
        # Neither reading nor writing this pipe may ever hold up the loop.
        os.set_blocking(wake_out, False)
        os.set_blocking(wake_in, False)
        self._selector = selector
        self.watch(wake_out, self._drain)
        with self._lock:
            self._wake_out, self._wake_in = wake_out, wake_in
            # This is for calls that came before there was a pipe.
            self._woken = True
            os.write(wake_in, b"!")

    def run(self, until: Callable[[], bool]) -> None:
        """Run actions as they become due, until *until* returns True."""
        selector = self._opened()
        while not until():
            for key, _ in selector.select(self._patience()):
                action = self._watched.get(key.fd)
                # An earlier action may have closed this descriptor.
                if action is not None:
                    self._act(action)
            now = time.monotonic()
            while self._times and self._times[0][0] <= now:
                self._act(heapq.heappop(self._times)[2])

    def close(self) -> None:
        """Close everything; pending actions never run."""
        with self._lock:
            fds = self._wake_in, self._wake_out
            self._wake_in = self._wake_out = -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        self._watched.clear()
        self._times.clear()

    def _opened(self) -> selectors.BaseSelector:
        if self._selector is None:
            msg = "the loop is not open"
            raise RuntimeError(msg)
        return self._selector

    def _patience(self) -> float:
        if not self._times:
            return _PATIENCE_SECONDS
        return min(max(self._times[0][0] - time.monotonic(), 0.0), _PATIENCE_SECONDS)

    def _drain(self) -> None:
        os.read(self._wake_out, 16)
        with self._lock:
            self._woken = False
        # Calls that arrive meanwhile wake the loop again: descriptors get their turn
        # first.
        for _ in range(len(self._calls)):
            self._act(self._calls.popleft())

    def _act(self, action: Action) -> None:
        try:
            action()
        except Exception:  # noqa: BLE001 - a fault of one must not stop all
            _log.exception("taskorch: an action of the supervisor of programs failed")


class LinePipe:
    """
    A pipe that a program writes lines into, for the supervisor's thread.

    *on_lines* gets the lines that have come; without a *loop*, when it is read.
    """

    def __init__(
        self,
        loop: Loop | None,
        on_lines: Callable[[list[bytes]], object],
        *,
        safe: Callable[[Action], Action] = lambda action: action,
    ) -> None:
        self._loop = loop
        self._on_lines = on_lines
        self._safe = safe
        self._folder: Path | None = None
        self._fds: list[int] = []
        #: The bytes after the last end of a line.
        self._rest = b""

    def open(self, name: str) -> Path:
        """
        Make the pipe in a folder of its own, and return its path.

        Raises:
            OSError: The system has no room for it.
        """
        folder = self._folder = make_temporary()
        os.mkfifo(folder / name, 0o600)
        # With a writing end of our own, the pipe does not end whenever a writer does.
        for way in (os.O_RDONLY, os.O_WRONLY):
            flags = way | os.O_NONBLOCK | os.O_CLOEXEC
            self._fds.append(os.open(folder / name, flags))
        if self._loop is not None:
            self._loop.watch(self._fds[0], self._safe(self.read))
        return folder / name

    def close(self) -> None:
        """Remove the pipe with its folder, if it is there."""
        fds, self._fds = self._fds, []
        for fd in fds:
            if self._loop is not None:
                self._loop.unwatch(fd)
            os.close(fd)
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def read(self, *, is_last: bool = False) -> None:
        """Pass on the lines that have come; the last call passes on the rest, too."""
        lines: list[bytes] = []
        with suppress(BlockingIOError):
            while self._fds and (data := os.read(self._fds[0], _SLICE)):
                *ended, self._rest = (self._rest + data).split(b"\n")
                lines += ended
                # A longer line is of no use to anybody, so it is cut.
                self._rest = self._rest[:_LONGEST_LINE]
        if is_last and self._rest:
            lines, self._rest = [*lines, self._rest], b""
        if lines:
            self._on_lines(lines)
