"""
A host: worker processes on a node, at the other end of a connection.

It ends when the orchestrator says so, or when the connection ends, and leaves nothing
behind. Frames of its processes are passed on unread: they are unpickled where the
classes are.
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from typing import Any, Final, cast

from taskorch.core.executors import wire
from taskorch.core.executors._processes._pool import WorkerPool
from taskorch.core.executors._processes._process import Assignment, WorkerProcess
from taskorch.core.executors.link import Link
from taskorch.core.executors.remote import RemoteEnd
from taskorch.ext.hosts._connection import (
    Stream,
    introduce,
    versions,
    within_tls,
)
from taskorch.ext.hosts._engine import Asked, KeptEnd
from taskorch.kit.loop import Loop
from taskorch.kit.visible import said
from taskorch.protocols import Attempt

#: Seconds that its processes have at the end.
_PATIENCE: Final = 5.0
#: The number of tries to connect to an open port, and the seconds between them.
_TRIES: Final = 3
_PAUSE: Final = 1.0


class _HostAttempt:
    """An attempt of the orchestrator's, for the processes of a host."""

    number: int = 0

    def __init__(self, host: RunningHost, number: bytes, task_id: str) -> None:
        self._host = host
        self.key: bytes = number
        self.task_id: str = task_id

    def end(self, value: Any = None, error: BaseException | None = None) -> None:
        self._host.say_end(wire.END, self.key, value, error)

    def unstarted(self, error: BaseException) -> None:
        self._host.say_end(wire.UNSTARTED, self.key, None, error)


class _Workers(WorkerPool):
    """The processes of a host, whose frames go on to the orchestrator."""

    def __init__(
        self, host: RunningHost, run_id: str, count: int, settings: Any
    ) -> None:
        super().__init__(run_id, count, settings)
        self._host = host

    def _heard(
        self, worker: WorkerProcess, kind: int, number: bytes, body: bytes
    ) -> None:
        if kind in {wire.TOLD, wire.LOGGED}:
            # Calls have the same numbers here as there.
            self._host.link.send(kind, number, worker.pid.to_bytes(wire.PID), body)
        else:
            super()._heard(worker, kind, number, body)

    def answer(self, pid: int, number: bytes, body: bytes) -> None:
        """Send a process the answer to a question of its task."""
        for worker in list(self._workers):
            if worker.pid == pid:
                worker.send(wire.ANSWER, number, body)


class RunningHost:
    """
    One host, on its node.

    Args:
        arguments: The settings from the orchestrator, pickled.
    """

    link: Link

    def __init__(self, arguments: bytes) -> None:
        self._given: dict[str, Any] = pickle.loads(arguments)  # noqa: S301 - from who started us
        self._loop = Loop()
        self._pool: _Workers | None = None
        self._calls: dict[bytes, Assignment] = {}
        # Guards the calls, which end on the thread of the processes.
        self._lock = threading.Lock()
        self._why = ""
        #: Results that the engine is to keep.
        self._kept: dict[bytes, RemoteEnd] = {}

    def run(self) -> str:
        """
        Be a host until the orchestrator, or the connection to it, ends.

        Returns:
            Why it has ended, or could not begin. An error would be logged by the
            engine, with the arguments, which are secret.
        """
        try:
            return self._run()
        except Exception as error:  # noqa: BLE001 - the orchestrator is told
            return ": ".join(said(error))

    def kept(self, number: bytes) -> bytes:
        """
        Return the result that is kept by *number*, pickled; for any thread.

        Raises:
            KeyError: It is not here any more.
        """
        return self._kept[number].data or b""

    def answer(self, asked: Asked, data: bytes) -> None:
        """Answer the question *asked* with a value that is pickled, as in `kept`."""
        pid, number, question = asked
        assert self._pool is not None  # noqa: S101 - its process has asked
        self._pool.answer(pid, number, pickle.dumps((question, None, data)))

    def _run(self) -> str:
        stream = self._introduced()
        try:
            hello = {**versions(), "pid": os.getpid(), "node": socket.gethostname()}
            stream.put(wire.READY, wire.NOBODY, json.dumps(hello).encode())
            begin = self._begun(stream)
        except BaseException:
            stream.sock.close()
            raise
        path = [*sys.path]
        path += [p for p in begin["path"] if p not in path and os.path.isdir(p)]  # noqa: PTH112
        begin["path"] = path
        mark = f"{self._given['run_id']}-host{int.from_bytes(self._given['number'])}"
        self._pool = _Workers(self, mark, self._given["slots"], begin)
        loop, lease = self._loop, self._given["lease"]
        # The orchestrator gives calls, and gets none.
        self.link = Link(loop, stream.sock, (), self._heard, self._ended, lease)
        loop.open()
        try:
            self.link.open()
            loop.run(lambda: bool(self._why))
        finally:
            loop.close()
            self._pool.end_all(0)
            self._pool.close(_PATIENCE)
            stream.sock.close()
        return self._why

    def _introduced(self) -> Stream:
        """Return a connection on which both sides have proved their identity."""
        tries = 0
        while True:
            sock = self._connect()
            try:
                if self._given["certificate"] is not None:
                    context = _trusting(self._given["certificate"])
                    sock = within_tls(sock, context, is_server=False)
                stream = Stream(sock)
                introduce(stream, self._given["number"], self._given["secret"])
            except OSError:
                sock.close()
                tries += 1
                if tries == _TRIES:
                    raise
            else:
                return stream
            # The port may have had to make room for others.
            time.sleep(_PAUSE)

    def _connect(self) -> socket.socket:
        last: OSError | None = None
        for address in self._given["addresses"]:
            try:
                return socket.create_connection(address, timeout=10)
            except OSError as error:
                last = error
        where = " or ".join(f"{host}:{port}" for host, port in self._given["addresses"])
        msg = (
            f"the host on {socket.gethostname()} cannot reach the orchestrator at "
            f"{where}: {last}"
        )
        raise ConnectionError(msg) from last

    def _begun(self, stream: Stream) -> dict[str, Any]:
        kinds = wire.LEAVE, wire.BEGIN
        kind, _, body = stream.take(*kinds, most=wire.MOST_BYTES)
        if kind == wire.LEAVE:
            raise ConnectionError(body.decode())
        begun: dict[str, Any] = pickle.loads(body)  # noqa: S301 - it knows the secret
        return begun

    # -- what the orchestrator says ------------------------------------------------

    def _heard(self, kind: int, number: bytes, rest: bytes) -> None:
        assert self._pool is not None  # noqa: S101 - none come before
        if kind == wire.CALL:
            self._begin(self._pool, number, rest)
        elif kind == wire.ANSWER:
            self._pool.answer(
                int.from_bytes(rest[: wire.PID]), number, rest[wire.PID :]
            )
        elif kind in {wire.TAKE, wire.FORGET}:
            end = self._kept.pop(number, None)
            if kind == wire.TAKE and end is not None:
                self.link.send(wire.END, number, pickle.dumps((end, None)))
        elif kind == wire.LEAVE:
            self._why = rest.decode() or "the orchestrator has ended it"
        elif kind in {wire.STOP, wire.GIVE_BACK}:
            with self._lock:
                call = self._calls.get(number)
            if call is None:
                return
            if kind == wire.STOP:
                self._pool.stop(call, float(rest))
            elif self._pool.withdraw(call):
                self._forget(number)
                self.link.send(wire.GIVEN_BACK, number)

    def _begin(self, pool: _Workers, number: bytes, rest: bytes) -> None:
        size = 2 + int.from_bytes(rest[:2])
        held = _HostAttempt(self, number, rest[2:size].decode())
        try:
            # Its end may come before the call is noted.
            with self._lock:
                self._calls[number] = pool.begin_call(
                    cast("Attempt", held), number, rest[size:]
                )
        except BaseException as error:  # noqa: BLE001 - the orchestrator is told
            held.unstarted(error)

    def _ended(self, why: str) -> None:
        self._why = self._why or f"the connection to the orchestrator has ended: {why}"

    # -- what came of calls --------------------------------------------------------

    def _forget(self, number: bytes) -> None:
        with self._lock:
            self._calls.pop(number, None)

    def say_end(
        self, kind: int, number: bytes, value: Any, error: BaseException | None
    ) -> None:
        self._forget(number)
        most = self._given["most"]
        if most is not None and type(value) is RemoteEnd and not value.raised:
            size = len(value.data or b"")
            if size > most:
                self._kept[number] = value
                value = KeptEnd(value.kind, size)
        try:
            body = pickle.dumps((value, error))
        except Exception as problem:  # noqa: BLE001 - whatever it is
            text = f"{type(error).__name__}: {error} ({problem})"
            body = pickle.dumps((None, RuntimeError(text)))
        self.link.send(kind, number, body)


def _trusting(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # It came with our arguments: no other is trusted, and its name does not matter.
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    with suppress(ssl.SSLError):
        context.load_verify_locations(cadata=certificate)
    return context
