"""Connections to a service, of which those at rest are used again."""

from __future__ import annotations

import http.client
import os
import select
import weakref
from collections.abc import Mapping
from time import monotonic
from typing import Final, TypeAlias

#: Seconds for which one at rest is used again: well before the service ends it.
_IDLE_SECONDS: Final = 2.0
_MOST: Final = 32


class _Http(http.client.HTTPConnection):
    """A connection that sends head and body of a request in one piece."""

    _parts: bytes = b""

    def send(self, data: object) -> None:
        """Keep *data* until the answer is asked for."""
        assert isinstance(data, bytes)  # noqa: S101 - we ask, and with bytes
        self._parts += data

    def getresponse(self) -> http.client.HTTPResponse:
        """Send what was kept, and read the answer."""
        parts, self._parts = self._parts, b""
        super().send(parts)
        return super().getresponse()


class _Https(_Http, http.client.HTTPSConnection):
    """The same, with TLS."""


_Rest: TypeAlias = tuple[float, int, http.client.HTTPConnection]


class HttpConnections:
    """
    Connections to one server, for any thread; port None is that of the scheme.

    No request is sent twice. One that was at rest is used only if nothing has come
    over it, such as its end, and if it did not rest for long: the server still has it.
    """

    def __init__(self, scheme: str, host: str, port: int | None) -> None:
        self._class = _Https if scheme == "https" else _Http
        self._host = host
        self._port = port
        #: Since when, and in which process: a child has none of its parent's.
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
        The status and the body of the answer; each step may take *timeout* seconds.

        Raises:
            OSError: The server is not there, has ended the connection, or says what is
                no HTTP.
        """
        connection = self._rested(timeout)
        if connection is None:
            connection = self._class(self._host, self._port, timeout=timeout)
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            answer = response.status, response.read()
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
        return answer

    def _rested(self, timeout: float) -> http.client.HTTPConnection | None:
        """The one that has rested least, if it can be used."""
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
                connection.sock.settimeout(timeout)
                return connection
            connection.close()
        return None


def _is_silent(connection: http.client.HTTPConnection) -> bool:
    """Whether nothing has come over it, not even its end."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)


def _close(resting: list[_Rest]) -> None:
    while resting:
        resting.pop()[2].close()
