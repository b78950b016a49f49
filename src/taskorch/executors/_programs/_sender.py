"""
What a socket does not take at once is sent when there is room for it.

Decision: 0109.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from taskorch.executors._programs._loop import Loop

#: Neither waits, nor raises SIGPIPE.
FLAGS: Final = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)


class Sender:
    """
    Sends bytes over a socket, in order, without waiting.

    `send` is for every thread, `close` for that of the loop.

    Args:
        loop: What looks out for room in the socket.
        sock: The socket.
        sealed: Gives what is sent in place of the bytes: called in their order.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        sealed: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._loop = loop
        #: The socket; None once it is closed.
        self.sock: socket.socket | None = sock
        self._sealed = sealed
        # Guards the socket, and the order in which is sent.
        self._lock = threading.Lock()
        self._unsent: deque[memoryview] = deque()
        # The same socket, watched for room: a descriptor is watched for one thing only.
        self._waiting: socket.socket | None = None

    def send(self, data: bytes) -> None:
        """Send *data*; if that fails, whoever reads the socket sees it."""
        with self._lock:
            if self.sock is None:
                return
            if self._sealed is not None:
                data = self._sealed(data)
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

    def disown(self) -> None:
        """In a forked child: close what is the parent's."""
        for sock in (self.sock, self._waiting):
            if sock is not None:
                sock.close()

    def _wait_for_room(self) -> None:
        with self._lock:
            if self.sock is None or self._waiting is not None or not self._unsent:
                return
            self._waiting = self.sock.dup()
            self._loop.watch(self._waiting.fileno(), self._send_rest, write=True)

    def _send_rest(self) -> None:
        with self._lock:
            assert self._waiting is not None  # noqa: S101 - it is watched
            try:
                while self._unsent:
                    part = self._unsent[0]
                    sent = self._waiting.send(part, FLAGS)
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
        if self._waiting is not None:
            self._loop.unwatch(self._waiting.fileno())
            self._waiting.close()
            self._waiting = None
