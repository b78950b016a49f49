"""
The port for hosts: each connects once, if it knows its secret, and has our versions.

Decision: hosts-on-engines.
"""

from __future__ import annotations

import json
import pickle
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from taskorch.core.executors import wire
from taskorch.core.executors._processes._process import surroundings
from taskorch.ext.hosts._connection import (
    Stream,
    TlsSocket,
    versions,
    welcome,
    within_tls,
)
from taskorch.ext.hosts._given import RemoteHost
from taskorch.kit.fence import log_of
from taskorch.kit.loop import Loop
from taskorch.kit.visible import visible

#: The most connections without a proof of identity; each has a thread.
_MOST_UNPROVEN: Final = 64
#: Seconds in which a proof must come, and those in which no connection is dropped for
#: others that wait.
_PATIENCE: Final = 10.0
_UNDISTURBED: Final = 0.5
#: Seconds after which it accepts again, when the system had no descriptor.
_PAUSE: Final = 1.0
_QUIET: Final = 60.0
_log = log_of(__name__)


class HostDoor:
    """
    A port that hosts connect to.

    The number of connections without a proof of identity is limited. When it is
    reached, the oldest makes room for those who wait: a host needs some milliseconds.

    Args:
        loop: The loop that looks after it.
        hosts: The hosts that may come, by their numbers.
        joined: Called on the loop with each that has, and its socket.
        tls: The files of a certificate and its key. None: they are made, where hosts
            are not on this machine.
        quiet: Seconds between two lines of the log on connections that were refused.
    """

    def __init__(
        self,
        loop: Loop,
        hosts: Mapping[bytes, RemoteHost],
        joined: Callable[[RemoteHost, socket.socket], object],
        tls: tuple[str, str] | None,
        quiet: float = _QUIET,
    ) -> None:
        self._quiet = quiet
        self._loop, self._hosts, self._joined, self._tls = loop, hosts, joined, tls
        #: The sockets that listen, and the TLS context of each, if it has one.
        self._listeners: list[tuple[socket.socket, ssl.SSLContext | None]] = []
        #: Ports, and the certificates that hosts are to trust there, by the names of
        #: this machine.
        self._ports: dict[tuple[str, ...], tuple[int, str | None]] = {}
        self._sealed: tuple[ssl.SSLContext, str] | None = None
        # Guards the next attributes.
        self._lock = threading.Lock()
        #: Connections without a proof of identity, with the times when they came.
        self._unproven: dict[socket.socket, float] = {}
        #: How many were refused since the last log line; and whether the log waits now.
        self._refused = 0
        self._why = ""
        self._is_quiet = False
        #: Whether no connection is accepted now; only the loop uses it.
        self._is_paused = False
        #: The certificate that hosts are to trust, if all is within TLS.
        self.certificate: str | None = None
        #: The ports, by each name of this machine.
        self.addresses: Sequence[tuple[str, int]] = ()

    def open(self, names: Sequence[str]) -> None:
        """
        Listen, on a machine that hosts know by these *names* from now on.

        A cluster of this machine may get another one: hosts that were told other names
        still come in by those.
        """
        is_local = all(n == "localhost" or n.startswith("127.") for n in names)
        if tuple(names) not in self._ports:
            context, certificate = None, None
            if not is_local or self._tls is not None:
                self._sealed = self._sealed or self._seal()
                context, certificate = self._sealed
            listener = socket.create_server(("127.0.0.1" if is_local else "", 0))
            listener.setblocking(False)  # noqa: FBT003 - takes no name
            self._ports[tuple(names)] = listener.getsockname()[1], certificate
            self._listeners.append((listener, context))
            self._loop.call(self._watch)
        port, self.certificate = self._ports[tuple(names)]
        self.addresses = [(name, port) for name in names]

    def close(self) -> None:
        """Stop listening; a forked child closes its copies, too."""
        for listener, _ in self._listeners:
            listener.close()

    def _seal(self) -> tuple[ssl.SSLContext, str]:
        # Few need it.
        from taskorch.ext.hosts._certificate import (  # noqa: PLC0415
            certificates_in,
            made_certificate,
        )

        with made_certificate(self._tls) as (certificate, key):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            return context, certificates_in(certificate)

    # -- on the loop ---------------------------------------------------------------

    def _watch(self) -> None:
        for listener, context in self._listeners:
            self._loop.unwatch(listener.fileno())
            if not self._is_paused:
                accept = partial(self._accept, listener, context)
                self._loop.watch(listener.fileno(), accept)

    def _accept(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        with self._lock:
            is_full = len(self._unproven) >= _MOST_UNPROVEN
        if is_full:
            self._pause()
            self._make_room()
            return
        now = time.monotonic()
        sock: socket.socket
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError:
            # The loop would try again at once, without end.
            self._pause()
            self._loop.at(now + _PAUSE, self._go_on)
            return
        if context is not None:
            try:
                sock = within_tls(sock, context, is_server=True)
            except OSError:
                # The client has gone already.
                sock.close()
                return
        with self._lock:
            self._unproven[sock] = now
        self._loop.at(now + _PATIENCE, partial(self._give_up, sock))
        # A greeting may take long, and the client may be a stranger.
        thread = threading.Thread(
            target=self._welcome,
            args=(sock,),
            name="taskorch-welcome",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:
            self._let_go(sock)
            sock.close()

    def _pause(self) -> None:
        self._is_paused = True
        self._watch()

    def _go_on(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._watch()

    def _make_room(self) -> None:
        """End the oldest connection without a proof, once that is allowed."""
        if not self._is_paused:
            return
        with self._lock:
            oldest, since = next(iter(self._unproven.items()), (None, 0.0))
        if oldest is None:
            return
        when = since + _UNDISTURBED
        if time.monotonic() < when:
            self._loop.at(when, self._make_room)
        else:
            self._give_up(oldest)

    def _give_up(self, sock: socket.socket) -> None:
        with self._lock:
            if sock in self._unproven:
                # Its thread reads the end of it, and closes it.
                with suppress(OSError):
                    if isinstance(sock, TlsSocket):
                        sock.cut()
                    else:
                        sock.shutdown(socket.SHUT_RDWR)

    # -- on a thread for each ------------------------------------------------------

    def _let_go(self, sock: socket.socket) -> None:
        """Remove *sock* from those without a proof, so that another can come."""
        with self._lock:
            self._unproven.pop(sock, None)
        self._loop.call(self._go_on)

    def _welcome(self, sock: socket.socket) -> None:
        try:
            stream = Stream(sock)
            host = self._hosts[welcome(stream, self._secret_of)]
            self._let_go(sock)
            _, _, hello = stream.take(wire.READY)
            why = _objection(host, json.loads(hello))
            if why:
                stream.put(wire.LEAVE, wire.NOBODY, why.encode())
                msg = f"{host} was refused: {why}"
                raise ConnectionError(msg)
            begin = {**surroundings(), "main_name": None, "main_path": None}
            begin["path"] = [p for p in sys.path if p]
            stream.put(wire.BEGIN, wire.NOBODY, pickle.dumps(begin))
        except (OSError, LookupError, ValueError) as error:
            sock.close()
            self._let_go(sock)
            self._refuse(str(error))
            return
        self._loop.call(partial(self._joined, host, sock))

    def _refuse(self, why: str) -> None:
        """Log a connection that was refused: now, or later with others."""
        with self._lock:
            self._refused += 1
            self._why = why
            is_quiet, self._is_quiet = self._is_quiet, True
        if not is_quiet:
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            count, self._refused = self._refused, 0
            self._is_quiet = count > 0
            why = visible(self._why)
        if count == 1:
            _log.warning("taskorch: a connection was refused: %s", why)
        elif count:
            text = "taskorch: %d connections were refused in %g s, the last: %s"
            _log.warning(text, count, self._quiet, why)
        if count:
            when = time.monotonic() + self._quiet
            self._loop.call(partial(self._loop.at, when, self._tell))

    def _secret_of(self, number: bytes) -> bytes | None:
        host = self._hosts.get(number)
        return None if host is None else host.secret


def _objection(host: RemoteHost, hello: Mapping[str, Any]) -> str:
    if host.hello:
        return "this host is there already: the engine has begun it a second time"
    for name, ours in versions().items():
        theirs = hello.get(name)
        if theirs != ours:
            return (
                f"the node {hello.get('node')} has {name} {theirs}, and the "
                f"orchestrator {name} {ours}: install the same there"
            )
    host.hello = dict(hello)
    return ""
