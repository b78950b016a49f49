"""
What a socket does not take at once is sent when there is room for it.

Decision: 0109.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from taskorch.executors._programs._loop import Loop

#: Neither waits, nor raises SIGPIPE.
FLAGS: Final = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)


#: Seconds after which a descriptor is asked for again.
_PAUSE: Final = 0.1


class Sender:
    """
    Sends bytes over a socket, in order, without waiting.

    `send` and `finish` are for every thread, `close` for that of the loop.

    Args:
        loop: What looks out for room in the socket.
        sock: The socket.
    """

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self._loop = loop
        #: The socket; None once it is closed.
        self.sock: socket.socket | None = sock
        # Guards the socket, and the order in which is sent.
        self._lock = threading.Lock()
        self._unsent: deque[memoryview] = deque()
        # The same socket, watched for room: a descriptor is watched for one thing only.
        self._room = -1

    def send(self, data: bytes) -> None:
        """Send *data*; if that fails, whoever reads the socket sees it."""
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
        """Close the socket; what it has not taken is dropped."""
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
        """In a forked child: close what is the parent's."""
        if self.sock is not None:
            self.sock.close()
        if self._room >= 0:
            os.close(self._room)

    def _wait_for_room(self) -> None:
        with self._lock:
            if self.sock is None or self._room >= 0 or not self._unsent:
                return
            try:
                self._room = os.dup(self.sock.fileno())
            except OSError:
                # The system has none now.
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
