"""One connection to the service, made again whenever it has broken."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, urlsplit

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.ext.channel import FrameError, Wire
from taskorch.kit.connections import (
    HttpConnection,
    HttpsConnection,
    TooLongError,
    read_answer,
)
from taskorch.kit.visible import show

_OK: Final = 200
#: Statuses of requests that may be accepted later.
_PASSING: Final = (408, 425, 429, *range(500, 600))
#: Statuses of requests whose content is refused.
_OF_CONTENT: Final = (400, 413, 422)
#: Statuses of a service that cannot read frames after all.
_NOT_UNDERSTOOD: Final = (400, 415)
#: The number of bytes that are read of an answer.
_MOST: Final = 64 << 20


class Unreachable(Exception):  # noqa: N818 - a state, not a fault
    """No answer, or no valid one: the request is repeated later."""


class Refusal(Exception):  # noqa: N818 - what the service has said
    """
    The service has refused a request.

    Attributes:
        status: The status of HTTP.
        code: Its name for programs.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("detail", f"HTTP status {status}")))
        self.status = status
        self.code = str(problem.get("code", ""))

    @property
    def is_passing(self) -> bool:
        """True if the service may accept the same later."""
        return self.status in _PASSING

    @property
    def is_of_content(self) -> bool:
        """True if the same content will always be refused."""
        return self.status in _OF_CONTENT


@attrs.frozen
class ServiceAddress:
    """
    The address of the service, and the secrets of the worker.

    Attributes:
        url: Such as `http://127.0.0.1:8080`.
        worker: The name of the worker.
        session: A secret that only the worker knows.
        token: The token that the service asks for.

    Raises:
        InvalidTaskError: The URL is none.
    """

    url: str
    worker: str
    session: str
    token: str | None = None

    def __attrs_post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            scheme, host, _ = parts.scheme, parts.hostname, parts.port
        except ValueError:
            scheme, host = "", None
        if scheme in ("http", "https") and host:
            return
        msg = f"{show(self.url)} is no address of a service"
        raise InvalidTaskError(msg, hint="such as http://127.0.0.1:8080")

    def connection(self) -> HttpConnection:
        """A new connection."""
        parts = urlsplit(self.url)
        connect = HttpsConnection if parts.scheme == "https" else HttpConnection
        return connect(parts.hostname or "", parts.port)

    def path(self, verb: str) -> str:
        """The path of the request *verb*."""
        before = urlsplit(self.url).path.rstrip("/")
        return f"{before}/api/v1/agents/{quote(self.worker, safe='')}/{verb}"


class Line:
    """
    Says one thing after another to the service; for one thread at a time.

    All messages of a worker may come twice, so that one without an answer is repeated.
    """

    def __init__(self, address: ServiceAddress) -> None:
        self._address = address
        self._connection: HttpConnection | None = None
        self._is_cut = False
        self._wire = Wire()
        #: Whether the service can read frames, by its own words; and whether it gets
        #: JSON all the same.
        self._offered: str | None = None
        self._is_plain = False

    def say(
        self, verb: str, message: Mapping[str, Any], seconds: float
    ) -> dict[str, Any]:
        """
        Send a message, and return the answer, if it is not late by *seconds*.

        Raises:
            Unreachable: There was no answer.
            Refusal: It was refused.
        """
        body, kind = self._wire.packed(json.dumps(message).encode(), self._offered)
        headers = {"Content-Type": kind, "Accept": self._wire.offer}
        if verb != "hello":
            headers["Taskorch-Session"] = self._address.session
        if self._address.token is not None:
            headers["Authorization"] = f"Bearer {self._address.token}"
        is_used = self._connection is not None
        try:
            status, text = self._exchange(verb, body, headers, seconds)
            if status in _NOT_UNDERSTOOD and kind != "application/json":
                # In doubt all messages are JSON from now on.
                self._offered, self._is_plain = None, True
                return self.say(verb, message, seconds)
        except (OSError, TooLongError, http.client.HTTPException) as error:
            self.close()
            if not is_used or self._is_cut or isinstance(error, TimeoutError):
                raise Unreachable(str(error) or type(error).__name__) from None
            # The service ends idle connections, so that it may not have got this
            # request.
            return self.say(verb, message, seconds)
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            self.close()
            msg = "what answers there is no service of taskorch"
            raise Unreachable(msg)
        if status != _OK:
            raise Refusal(status, answer)
        return answer

    def _exchange(
        self, verb: str, body: bytes, headers: Mapping[str, str], seconds: float
    ) -> tuple[int, bytes]:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._address.connection()
        connection.deadline.set(seconds)
        connection.request("POST", self._address.path(verb), body, dict(headers))
        response = connection.getresponse()
        text = read_answer(response, _MOST)
        offered = response.getheader("Accept-Post")
        if offered and not self._is_plain:
            self._offered = offered
        with suppress(FrameError):
            # An unreadable frame is no JSON, either.
            kind = response.getheader("Content-Type")
            text = self._wire.unpacked(text, kind, _MOST)
        if response.will_close:
            self.close()
        return response.status, text

    def cut(self) -> None:
        """Close the connection for good, from another thread: waits for answers end."""
        self._is_cut = True
        connection = self._connection
        sock = None if connection is None else connection.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection; the next request makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
