"""The server: uvicorn on a thread of its own, where nobody can hold it up."""

from __future__ import annotations

import asyncio
import errno
import resource
import select
import socket
import threading
from collections.abc import Callable
from ipaddress import ip_address
from itertools import islice
from operator import attrgetter
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final, Self, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from taskorch.errors import InvalidTaskError
from taskorch.kit.fence import log_of
from taskorch.kit.limits import RECEIPT_SECONDS
from taskorch.kit.visible import show

if TYPE_CHECKING:
    from starlette.applications import Starlette

_LOG: Final = log_of(__name__)
#: The key in the scope of a request whose sender has the token.
KNOWN: Final = "taskorch.known"
#: The largest number of connections, and of bytes in the head of a request.
_CONNECTIONS: Final = 200
_MAX_HEAD: Final = 16 << 10
#: The seconds that a connection may be idle, or unread by its client, before it ends.
_IDLE_SECONDS: Final = 5
STALLED_SECONDS: Final = 15.0
#: The seconds that unfinished answers have at the end.
_END_SECONDS: Final = 5
#: The largest number of bytes of answers that wait for their clients.
_MAX_JOINED: Final = 32 << 10
#: The number of further open sockets, which wait to be accepted, or closed.
_WAITING: Final = 50
#: The share of the descriptors of the process for connections.
_SHARE: Final = 4
#: Errors for a system, or a process, without a free descriptor.
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: The seconds until the next try then; and between two lines of the log.
_PAUSE: Final = 0.01
_MINUTE: Final = 60.0
#: The number of connections that the system keeps until they are accepted.
_BACKLOG: Final = 2_048
_RECEIVED: Final = (h11.DONE, h11.MUST_CLOSE, h11.CLOSED, h11.ERROR)


class LimitedListener(socket.socket):
    """
    A listener that lets in no more connections than there may be.

    Those that come when there is no room wait for those before to be looked at; if all
    that are there are wanted, they are hung up on, so that no descriptor is left
    for them, and nothing but a line a minute in the log.
    """

    def __init__(self, listener: socket.socket, most: int) -> None:
        super().__init__(
            listener.family, listener.type, listener.proto, listener.detach()
        )
        self._most = most
        #: The accepted connections, which may have ended.
        self._inside: list[socket.socket] = []
        #: The number of connections that are counted.
        self.looked_at: Callable[[], int] = lambda: 0
        self._refused = Rarely("hung up on %s connections: there were too many")

    def accept(self) -> tuple[socket.socket, Any]:
        """
        The next connection, as `socket.accept`.

        Raises:
            BlockingIOError: There is none, or no room for one.
        """
        if len(self._inside) >= self._most:
            self._inside = [one for one in self._inside if one.fileno() >= 0]
        if len(self._inside) >= self._most:
            if self.looked_at() >= self._most:
                self._take()[0].close()
                self._refused.say()
            raise BlockingIOError
        connection, address = self._take()
        self._inside.append(connection)
        return connection, address

    def _take(self) -> tuple[socket.socket, Any]:
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            # Other parts of this process have all descriptors; asyncio would log each
            # failure.
            self._refused.say()
            sleep(_PAUSE)
            raise BlockingIOError from None


class Rarely:
    """Logs something at most once a minute, with how often it came in between."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._count = 0
        self._since = -_MINUTE

    def say(self) -> None:
        """Count one more event, and log the count at most once a minute."""
        self._count += 1
        if monotonic() - self._since >= _MINUTE:
            self._since = monotonic()
            _LOG.warning(self._text, f"{self._count:,}")
            self._count = 0


class _JoiningTransport:
    """
    A transport that sends in one piece what is written in one step of the loop.

    An answer is written as its head, its body and its end. Each of them would be sent
    by itself, which costs more than all that a short answer costs besides.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self._length = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._send)
        self._parts.append(data)
        self._length += len(data)
        if self._length > _MAX_JOINED:
            # The sent bytes show whether the client keeps up.
            self._send()

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        data = b"".join(self._parts)
        self._parts.clear()
        self._length = 0
        if data:
            self._transport.write(data)


_SILENT: Final = Rarely("ended %s connections that had not asked, to make room")


class Protocol(H11Protocol):
    """
    One connection, which is ended if its client is too slow, in either direction.

    Not every answer is a short one: a client that follows events and does not read
    would have what it does not read kept for it.
    """

    receipt_seconds = RECEIPT_SECONDS + 2
    stalled_seconds = STALLED_SECONDS
    _receiving: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._since: float = monotonic()

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(
            cast("asyncio.Transport", _JoiningTransport(transport, self.loop))
        )
        self._await_request()
        self._make_room()

    def _make_room(self) -> None:
        """End the oldest idle connections, if there are too many."""
        over = len(self.connections) - (self.limit_concurrency or _CONNECTIONS) + 1
        if over <= 0:
            return
        others = [one for one in self.connections if isinstance(one, Protocol)]
        # Connections without a valid token go first, whatever they wait for.
        candidates = [one for one in others if not one.is_known and one is not self]
        candidates = candidates or [one for one in others if one.is_idle]
        candidates.sort(key=attrgetter("_since"))
        # A client whose request was not read yet is not silent.
        silent = (one for one in candidates if not one.has_news)
        for one in [*islice(silent, over)] or candidates[:over]:
            self.connections.discard(one)
            one._end()  # noqa: SLF001 - of its own class
            _SILENT.say()

    @property
    def is_known(self) -> bool:
        """True if the sender of the last request has shown a valid token."""
        scope: Any = self.scope
        return bool(scope and scope.get(KNOWN))

    @property
    def has_news(self) -> bool:
        """True if data has come that was not read yet."""
        sock: Any = self.transport.get_extra_info("socket")
        if sock is None or sock.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    @property
    def is_idle(self) -> bool:
        """True if the last request of the connection has its answer."""
        cycle: Any = self.cycle
        return bool(cycle and cycle.response_complete)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        for timer in (self._receiving, self._stalled):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._receiving is None:
            self._await_request()
        super().data_received(data)
        if self._receiving is not None and self.conn.their_state in _RECEIVED:
            self._receiving.cancel()
            self._receiving = None

    def _await_request(self) -> None:
        """A request is coming: all of it must come in time."""
        self._receiving = self.loop.call_later(self.receipt_seconds, self._end)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().pause_writing()
        self._stalled = self.loop.call_later(self.stalled_seconds, self._end)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    def _end(self) -> None:
        # A close would wait until the client has read all.
        self.transport.abort()


class Server:
    """
    A running server: made by `serve`.

    Attributes:
        url: Where it is, such as `http://127.0.0.1:8080`.
        port: Its port.
        token: The token that every request must have, if the caller has set it; or
            None.
    """

    token: str | None = None

    def __init__(self, app: Starlette, listener: socket.socket, host: str) -> None:
        self.port: int = listener.getsockname()[1]
        if ip_address(host).is_unspecified:
            # Clients on this machine use the loopback address; others know its names.
            host = "::1" if ":" in host else "127.0.0.1"
        name = f"[{host}]" if ":" in host else host
        self.url: str = f"http://{name}:{self.port}"
        self._app = app
        # If a process has few descriptors, other parts need them, too.
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = _CONNECTIONS
        if descriptors != resource.RLIM_INFINITY:
            most = min(most, max(1, descriptors // _SHARE))
        self._listener = LimitedListener(listener, most + _WAITING)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=Protocol,
                # Another event loop would not use our listener.
                loop="asyncio",
                backlog=_BACKLOG,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                # Any client can claim another address in a header.
                proxy_headers=False,
                limit_concurrency=most,
                h11_max_incomplete_event_size=_MAX_HEAD,
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=_END_SECONDS,
            )
        )
        state = self._server.server_state
        self._listener.looked_at = lambda: len(state.connections)
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="taskorch-service", daemon=True
        )

    @property
    def page(self) -> str:
        """
        The address of the page that shows it, with a code if the token is known.

        The code opens the page once: each time that it is asked for it is another.
        """
        return f"{self.url}/" + (
            f"#code={self._app.state.doors.new_code()}" if self.token else ""
        )

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        finally:
            self._listener.close()
            self._ended.set()

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most so many seconds for its end; return whether it has ended."""
        return self._ended.wait(timeout)

    def stop(self) -> None:
        """End: take no more requests, and give the answers under way five seconds."""
        # Streams never end by themselves.
        self._app.state.close()
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve(app: Starlette, *, host: str = "127.0.0.1", port: int = 8080) -> Server:
    """
    Serve an app on this machine, on a thread of its own.

    Others reach it through a proxy that speaks TLS and asks by a name of `hosts`; or
    they reach *host*, in a network where what they send may be read.

    When 200 connections are full, the oldest without a token makes room, then the
    oldest idle one. Other origins cannot read answers.

    Args:
        app: Made by `create_app`.
        host: An address of this machine. Others than it reach one that is not its own,
            such as `0.0.0.0`, which takes an app that asks for tokens.
        port: 0 takes one that is free.

    Raises:
        InvalidTaskError: Others would reach *host*, and the app asks nobody for a
            token; or it is no address, or *port* no port.
        OSError: The port is taken.
    """
    address = "127.0.0.1" if host == "localhost" else host
    try:
        is_loopback = ip_address(address).is_loopback
    except ValueError:
        msg = f"host: {show(host)} is no address"
        raise InvalidTaskError(msg, hint="127.0.0.1, or 0.0.0.0") from None
    if not is_loopback and getattr(app.state, "is_open", True):
        msg = f"host: others reach {address}, and this app asks nobody for a token"
        hint = "create_app(token=…), or tokens=…; or serve on 127.0.0.1"
        raise InvalidTaskError(msg, hint=hint)
    if type(port) is not int or not 0 <= port < 1 << 16:
        msg = f"a port is a number below 65,536, not {show(port)}"
        raise InvalidTaskError(msg, hint="0 takes one that is free")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, port), family=family, backlog=_BACKLOG)
    # Connections inherit this from their listener. Without it the body of an answer,
    # which is sent after its head, waits until the client has confirmed the head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = Server(app, listener, address)
    if hasattr(app.state, "served_at"):
        app.state.served_at(server.url)
    server.start()
    return server
