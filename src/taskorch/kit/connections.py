"""
HTTP connections, on which every wait ends at one deadline.

All HTTP clients of the library use these: the client of a service, a remote worker, a
webhook. The timeout of a socket is for one step of many, so a peer that sends a byte
per second would hold its caller for ever.

Decision: connections-to-peers.
"""

from __future__ import annotations

import http.client
import io
import os
import select
import weakref
from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from taskorch.kit.deadline import PeerDeadline

if TYPE_CHECKING:
    import socket

    from _typeshed import WriteableBuffer

#: Seconds for which an idle connection is reused, well before the service ends it.
_IDLE_SECONDS: Final = 2.0
_MOST: Final = 32
#: The most bytes of an answer that are read.
_MOST_ANSWER: Final = 256 << 20


class TooLongError(Exception):
    """Error: an answer has more bytes than are read."""


class _UntilDeadline(io.RawIOBase):
    """A raw stream of a socket whose waits never outlast a deadline."""

    def __init__(self, sock: socket.socket, raw: Any, deadline: PeerDeadline) -> None:
        self._sock, self._raw, self._deadline = sock, raw, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._sock.settimeout(self._deadline.left())
        try:
            count: int | None = self._raw.readinto(buffer)
        except TimeoutError:
            raise self._deadline.over() from None
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer that is read until a deadline."""

    def __init__(
        self, sock: Any, *args: Any, deadline: PeerDeadline, **options: Any
    ) -> None:
        super().__init__(sock, *args, **options)
        raw = _UntilDeadline(sock, self.fp.detach(), deadline)
        self.fp = io.BufferedReader(raw)


class HttpConnection(http.client.HTTPConnection):
    """
    A connection that sends the head and body of a request in one piece.

    Attributes:
        deadline: The time at which a request on it ends, answered or not.
    """

    _parts: bytes = b""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.deadline: PeerDeadline = PeerDeadline()
        self.response_class: Any = partial(  # a class by its call
            _Answer, deadline=self.deadline
        )

    def connect(self) -> None:
        """Connect before the deadline, to each address of the host."""
        self.timeout: float | None = self.deadline.left()
        super().connect()

    def send(self, data: object) -> None:
        """Keep *data* until the answer is asked for."""
        assert isinstance(data, bytes)  # noqa: S101 - we ask, and with bytes
        self._parts += data

    def getresponse(self) -> http.client.HTTPResponse:
        """Send the kept data, and read the answer."""
        parts, self._parts = self._parts, b""
        if self.sock is None:
            self.connect()
        sock: Any = self.sock
        sock.settimeout(self.deadline.left())
        super().send(parts)
        return super().getresponse()


class HttpsConnection(HttpConnection, http.client.HTTPSConnection):
    """An HTTP connection with TLS."""


def read_answer(response: http.client.HTTPResponse, most: int) -> bytes:
    """
    Return the body of an answer; on an error, the caller closes the connection.

    Raises:
        TooLongError: The body is longer than *most* bytes.
        http.client.IncompleteRead: The body has ended early.
    """
    length = response.length
    if length is not None and length <= most:
        # With a number, half an answer would be taken for a whole one.
        return response.read()
    text = b"" if length is not None else response.read(most + 1)
    if length is not None or len(text) > most:
        msg = f"its answer has more than {most:,} bytes"
        raise TooLongError(msg)
    return text


_Rest: TypeAlias = tuple[float, int, HttpConnection]


class HttpConnections:
    """
    Reusable connections to one server, for any thread.

    No request is sent twice. An idle connection is reused only if nothing has come over
    it, such as its end, and if it was not idle for long, so that the server still has
    it. A port of None is that of the scheme.
    """

    def __init__(self, scheme: str, host: str, port: int | None) -> None:
        self._class = HttpsConnection if scheme == "https" else HttpConnection
        self._host = host
        self._port = port
        #: Idle connections with the time and the process: a forked child has none of
        #: its parent's.
        self._resting: list[_Rest] = []
        weakref.finalize(self, _close, self._resting)

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout: float,
    ) -> tuple[int, bytes]:
        """
        Return the status and the body of an answer that comes within *timeout* seconds.

        Raises:
            OSError: The server is not there, has ended the connection, does not speak
                HTTP, or has not answered in full in that time.
            TooLongError: The answer is longer than the limit.
        """
        connection = self._rested()
        if connection is None:
            connection = self._class(self._host, self._port)
        connection.deadline.set(timeout)
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            text = read_answer(response, _MOST_ANSWER)
        except http.client.HTTPException as error:
            connection.close()
            msg = f"what it says is no answer of HTTP: {error!r}"
            raise ConnectionError(msg) from error
        except BaseException:
            connection.close()
            raise
        if connection.sock is None or len(self._resting) >= _MOST:
            connection.close()
        else:
            self._resting.append((monotonic(), os.getpid(), connection))
        return response.status, text

    def _rested(self) -> HttpConnection | None:
        """Return the connection that was used last, if it can be used."""
        while self._resting:
            try:
                since, process, connection = self._resting.pop()
            except IndexError:
                # Another thread has taken it.
                break
            is_ours = process == os.getpid()
            if (
                is_ours
                and monotonic() - since < _IDLE_SECONDS
                and _is_silent(connection)
            ):
                return connection
            connection.close()
        return None


def _is_silent(connection: HttpConnection) -> bool:
    """Return whether nothing has come over it, not even its end."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)


def _close(resting: list[_Rest]) -> None:
    while resting:
        resting.pop()[2].close()
