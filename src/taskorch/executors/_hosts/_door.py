"""Where hosts come in: each once, if it knows its secret, and is as we are."""

from __future__ import annotations

import json
import logging
import pickle
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from taskorch._visible import visible
from taskorch.executors._hosts._connection import Seal, Stream, versions, welcome
from taskorch.executors._hosts._given import Host
from taskorch.executors._processes import _wire
from taskorch.executors._processes._process import surroundings
from taskorch.executors._programs._loop import Loop


class Door:
    """
    A port that hosts connect to.

    Args:
        loop: Which looks after it.
        hosts: Those that may come, by their numbers.
        joined: Called on the loop with each that has, and its connection.
        tls: The files of a certificate and its key. None: they are made, where hosts
            are not on this machine.
    """

    def __init__(
        self,
        loop: Loop,
        hosts: Mapping[bytes, Host],
        joined: Callable[[Host, Stream], object],
        tls: tuple[str, str] | None,
    ) -> None:
        self._loop, self._hosts, self._joined, self._tls = loop, hosts, joined, tls
        self._listener: socket.socket | None = None
        self._context: ssl.SSLContext | None = None
        #: What hosts are to trust, if all is within TLS.
        self.certificate: str | None = None
        #: Where it is, by each name of this machine.
        self.addresses: Sequence[tuple[str, int]] = ()

    def open(self, names: Sequence[str]) -> None:
        """Listen, on a machine that hosts know by these *names*."""
        is_local = all(n == "localhost" or n.startswith("127.") for n in names)
        if not is_local or self._tls is not None:
            self._seal()
        listener = socket.create_server(("127.0.0.1" if is_local else "", 0))
        listener.setblocking(False)  # noqa: FBT003 - it takes no name
        self._listener = listener
        self.addresses = [(name, listener.getsockname()[1]) for name in names]
        watch = partial(self._loop.watch, listener.fileno(), self._accept)
        self._loop.call(watch)

    def close(self) -> None:
        """Listen no more; also in a forked child, where it is the parent's."""
        if self._listener is not None:
            self._listener.close()

    def _seal(self) -> None:
        from taskorch.executors._hosts._certificate import made_certificate  # noqa: PLC0415 - for few

        with made_certificate(self._tls) as (certificate, key):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            self.certificate = Path(certificate).read_text()
        self._context = context

    def _accept(self) -> None:
        assert self._listener is not None  # noqa: S101 - it is watched
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        # It may take its time, and be a stranger.
        thread = threading.Thread(
            target=self._welcome, args=(sock,), name="taskorch-welcome", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            sock.close()

    def _welcome(self, sock: socket.socket) -> None:
        try:
            context = self._context
            seal = None if context is None else Seal(context, is_server=True)
            stream = Stream(sock, seal)
            host = self._hosts[welcome(stream, self._secret_of)]
            why = _objection(host, _hello(stream))
            if why:
                stream.put(_wire.frame(_wire.LEAVE, _wire.NOBODY, why.encode()))
                msg = f"{host} was refused: {why}"
                raise ConnectionError(msg)
            begin = {**surroundings(), "main_name": None, "main_path": None}
            begin["path"] = [p for p in sys.path if p]
            stream.put(_wire.frame(_wire.BEGIN, _wire.NOBODY, pickle.dumps(begin)))
        except (OSError, LookupError, ValueError) as error:
            logging.getLogger(__name__).warning(
                "taskorch: a connection was refused: %s", visible(str(error))
            )
            sock.close()
            return
        self._loop.call(partial(self._joined, host, stream))

    def _secret_of(self, number: bytes) -> bytes | None:
        host = self._hosts.get(number)
        return None if host is None else host.secret


def _hello(stream: Stream) -> dict[str, Any]:
    frames = _wire.Frames()
    found: list[tuple[int, bytes, bytes]] = []
    while not found:
        found = frames.feed(stream.take(1))
        if frames.is_garbled:
            msg = "what it says of itself is no frame"
            raise ConnectionError(msg)
    hello: dict[str, Any] = json.loads(found[0][2])
    return hello


def _objection(host: Host, hello: Mapping[str, Any]) -> str:
    if host.hello:
        return "this host is there already: the engine has begun it a second time"
    for what, ours in versions().items():
        theirs = hello.get(what)
        if theirs != ours:
            return (
                f"the node {hello.get('node')} has {what} {theirs}, and the "
                f"orchestrator {what} {ours}: install the same there"
            )
    host.hello = dict(hello)
    return ""
