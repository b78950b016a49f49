"""
Connections of hosts before there is a link: TLS, and proofs of identity.

Decision: worker-processes.
"""

from __future__ import annotations

import hmac
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, Self

from taskorch.core.executors import wire
from taskorch.kit.deadline import PeerDeadline

_NONCE: Final = 32
#: Seconds that a greeting, and each message of it, may take.
_PATIENCE: Final = 10.0
#: The most bytes of a frame from a side that has not proved its identity.
_SMALL: Final = 2**12


class TlsSocket(ssl.SSLSocket):
    """
    A socket within TLS for two threads: one reads, one writes.

    OpenSSL is for one thread at a time. Without a timeout, a call that would have to
    wait raises a `BlockingIOError`, and needs no flags for that.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make one that has its lock before anything is sent."""
        sock = super().__new__(cls, *args, **kwargs)
        sock._one_at_a_time = threading.Lock()
        return sock

    _one_at_a_time: threading.Lock

    def send(self, data: Any, flags: int = 0) -> int:
        """Send as many bytes as there is room for."""
        del flags
        try:
            with self._one_at_a_time:
                return super().send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError(error.errno, "it would wait") from error

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Return the bytes that have come, up to *buflen*; b"" at the end."""
        del flags
        parts: list[bytes] = []
        try:
            with self._one_at_a_time:
                while buflen > 0 and (part := super().recv(buflen)):
                    parts.append(part)
                    buflen -= len(part)
                    if self.gettimeout() != 0:
                        break
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            if not parts:
                raise BlockingIOError(error.errno, "it would wait") from error
        return b"".join(parts)

    def cut(self) -> None:
        """Let a thread that reads here see an end; for any thread."""
        # The `shutdown` of an SSLSocket would end TLS.
        socket.socket.shutdown(self, socket.SHUT_RDWR)


def within_tls(
    sock: socket.socket, context: ssl.SSLContext, *, is_server: bool
) -> TlsSocket:
    """
    Return *sock* within TLS, which is negotiated later; it replaces the socket.

    Raises:
        OSError: The other side has gone already.
    """
    context.sslsocket_class = TlsSocket
    sealed = context.wrap_socket(
        sock, server_side=is_server, do_handshake_on_connect=False
    )
    assert isinstance(sealed, TlsSocket)  # noqa: S101 - the class was set
    return sealed


class Stream:
    """A socket before there is a link: frames one after the other, and an identity."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._deadline = PeerDeadline()
        self._deadline.set(_PATIENCE)
        sock.settimeout(_PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()

    def put(self, kind: int, number: bytes, *body: bytes) -> None:
        """Send a frame, and wait until it is sent."""
        self.sock.sendall(wire.frame(kind, number, *body))

    def take(self, *kinds: int, most: int = _SMALL) -> tuple[int, bytes, bytes]:
        """
        Return the next frame, as its kind, number and body; read nothing beyond it.

        Raises:
            ConnectionError: It is none, of none of these *kinds*, or too large.
            OSError: It has not come in time.
        """
        self._deadline.set(_PATIENCE)
        head = wire.read_head(self._exactly(wire.HEAD), most=most)
        if head is not None and head[0] in kinds:
            kind, number, size = head
            body = self._exactly(size)
            if self._exactly(wire.TAIL) == number:
                return kind, number, body
        msg = "what has come is not what was to come, or is no frame"
        raise ConnectionError(msg)

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            self.sock.settimeout(self._deadline.left())
            try:
                part = self.sock.recv(size - len(data))
            except TimeoutError:
                raise self._deadline.over() from None
            if not part:
                msg = "the other side has ended the connection"
                raise ConnectionError(msg)
            data += part
        return bytes(data)


def welcome(stream: Stream, secret_of: Callable[[bytes], bytes | None]) -> bytes:
    """
    Find out which host is connecting; on the orchestrator's side.

    Returns:
        Its number.

    Raises:
        ConnectionError: It does not know the secret of the host of that number.
        OSError: It has not answered.
    """
    ours = os.urandom(_NONCE)
    stream.put(wire.CHALLENGE, wire.NOBODY, ours)
    _, number, body = stream.take(wire.PROOF)
    theirs, proof = body[:_NONCE], body[_NONCE:]
    secret = secret_of(number)
    # An unknown number gets the same answer as a wrong secret.
    wanted = _proof(secret or os.urandom(_NONCE), b"host", ours, theirs, number)
    if secret is None or not hmac.compare_digest(wanted, proof):
        msg = "who has connected does not know the secret of a host"
        raise ConnectionError(msg)
    stream.put(wire.PROOF, number, _proof(secret, b"orchestrator", theirs, ours))
    return number


def introduce(stream: Stream, number: bytes, secret: bytes) -> None:
    """
    Prove which host this is, and find out who answers; on a host's side.

    Raises:
        ConnectionError: The other side has not started this host.
        OSError: It has not answered.
    """
    try:
        _, _, theirs = stream.take(wire.CHALLENGE, most=_NONCE)
    except ConnectionError as error:
        msg = "who answers there is no orchestrator, or of another version of taskorch"
        raise ConnectionError(msg) from error
    ours = os.urandom(_NONCE)
    proof = _proof(secret, b"host", theirs, ours, number)
    stream.put(wire.PROOF, number, ours + proof)
    _, _, proof = stream.take(wire.PROOF)
    if not hmac.compare_digest(proof, _proof(secret, b"orchestrator", ours, theirs)):
        msg = "who answers there does not know the secret of this host"
        raise ConnectionError(msg)


def _proof(secret: bytes, *parts: bytes) -> bytes:
    return hmac.digest(secret, b"".join(parts), "sha256")


def versions() -> dict[str, Any]:
    """Return the versions that both sides must share."""
    ours: str = sys.modules["taskorch"].__version__
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": python, "taskorch": ours}


def compared(node: str, theirs: Any) -> tuple[str, str]:
    """Return the finding on a *node* that has answered with its `versions`."""
    ours = versions()
    if not isinstance(theirs, dict):
        return "failed", f"{node}: taskorch cannot be asked there: {theirs}"
    text = f"{node}, " + ", ".join(f"{name} {theirs.get(name)}" for name in ours)
    if theirs == ours:
        return "ok", text
    here = ", ".join(f"{name} {version}" for name, version in ours.items())
    return "failed", f"{text}: no host can start there, since here is {here}"
