"""
A link to a process that makes calls: the calls that it was given, answers, and its end.

A worker process of this machine has one over a pair of sockets, a host of workers
elsewhere one over TCP or TLS, and so has the host's own side. These rules hold for each
of them:

- The outcome of a call is sent with its number. An answer to no question, or bytes that
  are no frame, end the link: other messages may be lost with them.
- A link that has ended is never heard again, whatever is still on its way. Calls that
  were given and have no end by then are lost, for those who gave them.
- With a lease, each side gives a sign of life a few times in it, and a side that hears
  none for it ends the link. A process of this machine needs none: its end is seen.
- Sending never waits for the other side. How many calls a side is given ahead is up to
  those who give them.

Decisions: executors, worker-processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Final

from taskorch.core.executors import wire
from taskorch.core.executors._programs._output import FLAGS, Sender
from taskorch.kit.fence import log_of
from taskorch.kit.lease import Lease

if TYPE_CHECKING:
    import socket
    from contextvars import Context

    from taskorch.kit.loop import Loop
    from taskorch.protocols import Attempt

__all__ = ("Link", "LinkedCall")

_log = log_of(__name__)

#: Bytes that are read at a time: for more, the system would map memory each time.
_CHUNK: Final = 2**16
#: The most seconds between two signs of life.
BEAT: Final = 1.0
#: Bytes of a frame that count as a sign of life before its end: with fewer, a side that
#: sends a byte a second would count as alive for ever.
_LEAST_SAID: Final = 1_000


class LinkedCall:
    """An attempt that waits for a link, or that one was given."""

    __slots__ = ("attempt", "call", "is_asked", "is_over", "number", "variables")

    def __init__(self, attempt: Attempt, number: bytes, call: bytes) -> None:
        self.attempt: Attempt = attempt
        #: Its number, which both sides use.
        self.number: bytes = number
        #: Its bytes to be sent; empty once they are not needed any more.
        self.call: bytes = call
        #: Whether it was asked to end.
        self.is_asked: bool = False
        self.is_over: bool = False
        #: The context for its log records, once it has logged anything.
        self.variables: Context | None = None


class Link:
    """
    Frames over a socket that a loop looks after.

    `send` is for every thread; the rest is for the loop's.

    Args:
        loop: The loop.
        sock: The socket.
        given: The numbers of unfinished calls that the other side has been given.
        heard: Called with kind, number and body of each frame that comes.
        ended: Called once, with the reason, when no more comes.
        lease: Seconds of silence after which the other side counts as gone; None: it
            may be silent for any time.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        given: Container[bytes],
        heard: Callable[[int, bytes, bytes], object],
        ended: Callable[[str], object],
        lease: float | None = None,
    ) -> None:
        self._loop = loop
        self._sender = Sender(loop, sock)
        self._given = given
        self._heard, self._ended = heard, ended
        self._lease = None if lease is None else Lease(lease, time.monotonic())
        self._frames = wire.Frames()
        #: Whether the other side may be silent for now.
        self.may_be_silent: bool = False
        #: Whether its last frame cannot be right, so that it gets no more calls.
        self.is_garbled: bool = False
        self._is_over = False
        #: Bytes of a frame that have come since the latest sign of life.
        self._unfinished = 0

    def open(self) -> None:
        """Begin to listen."""
        sock = self._sender.sock
        assert sock is not None  # noqa: S101 - it is open
        sock.setblocking(False)  # noqa: FBT003 - takes no name
        self._loop.watch(sock.fileno(), self.read)
        if self._lease is not None:
            self._beat(self._lease)

    def send(self, kind: int, number: bytes, *body: bytes) -> None:
        """Send a frame without waiting; `ended` is called if the other side is gone."""
        self._sender.send(wire.frame(kind, number, *body))

    def read(self) -> bool:
        """Take the bytes that have come; return whether there may be more."""
        data = self._receive()
        if not data:
            return False
        frames = self._frames.feed(data)
        self._unfinished += len(data)
        if self._lease is not None and (frames or self._unfinished >= _LEAST_SAID):
            self._lease.renew(time.monotonic())
            self._unfinished = 0
        # This is set before the last frames are heard, or it would be given more calls.
        self.is_garbled = self._frames.is_garbled
        try:
            self._hear(frames)
        except Exception:  # noqa: BLE001 - later frames would be lost
            _log.exception("taskorch: what has come over a link cannot be read")
            self.is_garbled = True
            self.end("what has come over it cannot be read")
        if self.is_garbled:
            self.end("what has come over it was no frame")
        return not self._is_over

    def _hear(self, frames: list[tuple[int, bytes, bytes]]) -> None:
        hear, numbers = self._heard, self._given
        for kind, number, body in frames:
            if self._is_over:
                return
            if kind in wire.ENDS and number not in numbers:
                self.refuse()
            elif kind != wire.ALIVE:
                hear(kind, number, body)

    def _receive(self) -> bytes:
        """Return the bytes that have come; their end ends the link."""
        sock = self._sender.sock
        if sock is None:
            return b""
        try:
            data = sock.recv(_CHUNK, FLAGS)
        except BlockingIOError:
            return b""
        except BrokenPipeError:
            # Within TLS a read may send data, too, which fails on Python 3.14 and later
            # if the other side has gone.
            data = b""
        except OSError as error:
            self.end(f"{type(error).__name__}: {error}")
            return b""
        if not data:
            self.end("it was closed from there")
        return data

    def refuse(self) -> None:
        """End the link, as the other side has answered no question."""
        self.is_garbled = True
        self.end("it has answered what it was not asked")

    def end(self, why: str) -> None:
        """End it, and call `ended` with the reason."""
        if not self._is_over:
            self.close()
            self._ended(why)

    def close(self) -> None:
        """End it without a call of `ended`."""
        self._is_over = True
        self._sender.close()

    def finish(self) -> None:
        """Send the end, by which the other side ends, too."""
        self._sender.finish()

    def disown(self) -> None:
        """Close the parent's socket, in a forked child."""
        self._sender.disown()

    def _beat(self, lease: Lease) -> None:
        if self._is_over:
            return
        now = time.monotonic()
        if lease.is_over(now) and not self.may_be_silent:
            self.end(f"nothing was heard for {lease.silence(now):.1f} s")
            return
        self.send(wire.ALIVE, wire.NOBODY)
        when = now + min(BEAT, lease.length / 4)
        self._loop.at(when, lambda: self._beat(lease))
