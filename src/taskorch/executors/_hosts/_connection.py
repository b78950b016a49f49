"""What goes between the orchestrator and a host: frames, over one connection."""

from __future__ import annotations

import hmac
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from taskorch._base._lease import Lease
from taskorch.executors._processes import _wire
from taskorch.executors._programs._loop import Loop
from taskorch.executors._programs._sender import Sender

#: How the orchestrator begins; the number rises with what is said.
_GREETING: Final = b"tkh1"
_NONCE: Final = 32
_PROOF: Final = 32
#: Seconds that a greeting may take.
_PATIENCE: Final = 10.0
_CHUNK: Final = 2**18
#: Seconds between two signs of life.
BEAT: Final = 1.0


class Seal:
    """What is written and read, within TLS: for one thread at a time."""

    def __init__(self, context: ssl.SSLContext, *, is_server: bool) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._in, self._out, server_side=is_server)
        self._lock = threading.Lock()

    def shake(self, sock: socket.socket) -> None:
        """Agree with the other side on *sock*, which waits."""
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                sock.sendall(self._out.read())
                data = sock.recv(_CHUNK)
                if not data:
                    msg = "the other side has ended the connection"
                    raise ConnectionError(msg) from None
                self._in.write(data)
            else:
                sock.sendall(self._out.read())
                return

    def sealed(self, data: bytes) -> bytes:
        """*data*, as it is sent."""
        with self._lock:
            self._object.write(data)
            return self._out.read()

    def opened(self, data: bytes) -> bytes:
        """
        What has come with *data*.

        Raises:
            OSError: It is none that the other side has sealed.
        """
        parts: list[bytes] = []
        with self._lock:
            self._in.write(data)
            with suppress(ssl.SSLWantReadError):
                while part := self._object.read(_CHUNK):
                    parts.append(part)
        return b"".join(parts)


class Stream:
    """A connection before there are frames: exact numbers of bytes, and who it is."""

    def __init__(self, sock: socket.socket, seal: Seal | None) -> None:
        self.sock = sock
        self.seal = seal
        self._rest = b""
        sock.settimeout(_PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if seal is not None:
            seal.shake(sock)
            self._rest = seal.opened(b"")

    def put(self, data: bytes) -> None:
        """Send *data*, and wait for that."""
        self.sock.sendall(data if self.seal is None else self.seal.sealed(data))

    def take(self, size: int) -> bytes:
        """The next *size* bytes."""
        while len(self._rest) < size:
            data = self.sock.recv(_CHUNK)
            if not data:
                msg = "the other side has ended the connection"
                raise ConnectionError(msg)
            self._rest += data if self.seal is None else self.seal.opened(data)
        head, self._rest = self._rest[:size], self._rest[size:]
        return head

    def take_rest(self) -> bytes:
        """What has come, and was not taken."""
        rest, self._rest = self._rest, b""
        return rest


def welcome(stream: Stream, secret_of: Callable[[bytes], bytes | None]) -> bytes:
    """
    On our side: find out which host it is.

    Returns:
        Its number.

    Raises:
        ConnectionError: It does not know the secret of the host that it says it is.
        OSError: It has not answered.
    """
    ours = os.urandom(_NONCE)
    stream.put(_GREETING + ours)
    number = stream.take(_wire.NUMBER)
    theirs, proof = stream.take(_NONCE), stream.take(_PROOF)
    secret = secret_of(number)
    # Of a number that nobody has, no more is told than of a wrong secret.
    wanted = _proof(secret or os.urandom(_NONCE), b"host", ours, theirs, number)
    if secret is None or not hmac.compare_digest(wanted, proof):
        msg = "who has connected does not know the secret of a host"
        raise ConnectionError(msg)
    stream.put(_proof(secret, b"orchestrator", theirs, ours))
    return number


def introduce(stream: Stream, number: bytes, secret: bytes) -> None:
    """
    On the side of a host: say which it is, and find out who answers.

    Raises:
        ConnectionError: It is not who has started this host.
        OSError: It has not answered.
    """
    theirs = stream.take(len(_GREETING) + _NONCE)
    if not theirs.startswith(_GREETING):
        msg = "who answers there is no orchestrator, or of another version of taskorch"
        raise ConnectionError(msg)
    theirs = theirs[len(_GREETING) :]
    ours = os.urandom(_NONCE)
    stream.put(number + ours + _proof(secret, b"host", theirs, ours, number))
    if not hmac.compare_digest(
        stream.take(_PROOF), _proof(secret, b"orchestrator", ours, theirs)
    ):
        msg = "who answers there does not know the secret of this host"
        raise ConnectionError(msg)


def _proof(secret: bytes, *parts: bytes) -> bytes:
    return hmac.digest(secret, b"".join(parts), "sha256")


class Connection:
    """
    Frames over a socket that a loop looks after.

    `send` and `close` are for every thread; the rest is called on the loop's.

    Args:
        loop: The loop.
        stream: What it goes over.
        heard: Called with kind, number and body of each frame that comes.
        ended: Called once, with the reason, when no more comes.
        lease: Seconds of silence after which the other side counts as gone.
    """

    def __init__(
        self,
        loop: Loop,
        stream: Stream,
        heard: Callable[[int, bytes, bytes], object],
        ended: Callable[[str], object],
        lease: float,
    ) -> None:
        self._loop = loop
        self._stream = stream
        self._seal = stream.seal
        sealed = None if stream.seal is None else stream.seal.sealed
        self._sender = Sender(loop, stream.sock, sealed)
        self._heard, self._ended = heard, ended
        self._lease = Lease(lease, time.monotonic())
        self._frames = _wire.Frames()
        #: The other side is not lost by its silence, for now.
        self.may_be_silent: bool = False
        self._is_over = False

    def open(self) -> None:
        """On the loop: begin to listen."""
        sock = self._stream.sock
        sock.setblocking(False)  # noqa: FBT003 - it takes no name
        self._loop.watch(sock.fileno(), self._read)
        self._beat()
        self._feed(self._stream.take_rest())

    def send(self, kind: int, number: bytes, *body: bytes) -> None:
        """Send a frame, without waiting; if the connection ends, that is told."""
        self._sender.send(_wire.frame(kind, number, *body))

    def close(self) -> None:
        """End it, once the loop comes to that."""
        self._loop.call(lambda: self.end("it was closed"))

    def disown(self) -> None:
        """In a forked child: close what is the parent's."""
        self._sender.disown()

    # -- on the loop ---------------------------------------------------------------

    def _read(self) -> None:
        sock = self._sender.sock
        if sock is None:
            return
        try:
            data = sock.recv(_CHUNK)
            opened = data if self._seal is None else self._seal.opened(data)
        except BlockingIOError:
            return
        except OSError as error:
            self.end(f"{type(error).__name__}: {error}")
            return
        if not data:
            self.end("it was closed from there")
            return
        self._lease.renew(time.monotonic())
        self._feed(opened)

    def _feed(self, data: bytes) -> None:
        for kind, number, body in self._frames.feed(data):
            if kind != _wire.ALIVE and not self._is_over:
                self._heard(kind, number, body)
        if self._frames.is_garbled:
            self.end("what has come over it was no frame")

    def _beat(self) -> None:
        if self._is_over:
            return
        now = time.monotonic()
        if self._lease.is_over(now) and not self.may_be_silent:
            self.end(f"nothing was heard for {self._lease.silence(now):.1f} s")
            return
        self.send(_wire.ALIVE, _wire.NOBODY)
        self._loop.at(now + min(BEAT, self._lease.length / 4), self._beat)

    def end(self, why: str) -> None:
        """End it, for a reason."""
        if self._is_over:
            return
        self._is_over = True
        self._sender.close()
        self._ended(why)


def versions() -> dict[str, Any]:
    """What two sides must have in common."""
    ours: str = sys.modules["taskorch"].__version__
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": python, "taskorch": ours}


def compared(node: str, theirs: Any) -> tuple[str, str]:
    """What is to be said of a *node* that has answered with its `versions`."""
    ours = versions()
    if not isinstance(theirs, dict):
        return "failed", f"{node}: taskorch cannot be asked there: {theirs}"
    text = f"{node}, " + ", ".join(f"{name} {theirs.get(name)}" for name in ours)
    if theirs == ours:
        return "ok", text
    here = ", ".join(f"{name} {version}" for name, version in ours.items())
    return "failed", f"{text}: no host can start there, since here is {here}"
