"""
Calls that phone home: work for executors, and the server that it reports to.

A call reports that it has begun, and goes on when it gets an answer. It uses a socket,
so that it may run in another process.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from random import Random
from typing import Any, Final, TypeAlias

from taskorch.testing.laws._worlds import some_data

Address: TypeAlias = tuple[str, int]

_HOST: Final = "127.0.0.1"
#: The number of connections that may wait: more than there are calls at once.
_BACKLOG: Final = 1_024


def call_home(
    address: Address,
    patience: float,
    name: str,
    value: Any = None,
    error: Exception | None = None,
    **_others: Any,
) -> Any:
    """
    Report that the call *name* has begun, wait for the answer, and end.

    Returns:
        *value*, unless there is an *error*, which is raised.
    """
    with socket.create_connection(address, patience) as line:
        line.sendall(f"{name}\n".encode())
        line.recv(1)
    if error is not None:
        raise error
    return value


class Home:
    """
    A server that answers every call, or lets it wait while the door is shut.

    Args:
        patience: Seconds to wait for anything.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._server = socket.create_server((_HOST, 0), backlog=_BACKLOG)
        #: The address for calls.
        self.address: Address = self._server.getsockname()
        # It guards the fields below, and announces changes.
        self._changed = threading.Condition()
        self._begun: list[str] = []
        self._waiting: list[socket.socket] = []
        self._is_shut = False
        self._is_over = False
        self._thread = threading.Thread(
            target=self._serve, name="taskorch-laws", daemon=True
        )
        self._thread.start()

    @property
    def begun(self) -> tuple[str, ...]:
        """The names of the calls that have begun, in order."""
        with self._changed:
            return tuple(self._begun)

    def shut(self) -> None:
        """Make later calls wait."""
        with self._changed:
            self._is_shut = True

    def open(self) -> None:
        """Answer the waiting calls, and all later ones."""
        with self._changed:
            self._is_shut = False
            waiting, self._waiting = self._waiting, []
        for line in waiting:
            _answer(line)

    def has_heard_of(self, names: Iterable[str]) -> bool:
        """Wait for one of these calls to begin, and return whether one has."""
        wanted = set(names)
        with self._changed:
            return self._changed.wait_for(
                lambda: not wanted.isdisjoint(self._begun), self._patience
            )

    def close(self) -> None:
        """Answer all calls, and accept no more."""
        self.open()
        with self._changed:
            self._is_over = True
        # Nothing else wakes a thread that waits for a call.
        socket.create_connection(self.address, self._patience).close()
        self._thread.join(self._patience)
        self._server.close()

    def _serve(self) -> None:
        while True:
            line, _ = self._server.accept()
            line.settimeout(self._patience)
            try:
                name = _read_line(line)
            except OSError:
                name = ""
            with self._changed:
                if self._is_over:
                    line.close()
                    return
                self._begun.append(name)
                is_to_wait = self._is_shut
                if is_to_wait:
                    self._waiting.append(line)
                self._changed.notify_all()
            if not is_to_wait:
                _answer(line)


def _read_line(line: socket.socket) -> str:
    with line.makefile(encoding="utf-8") as text:
        return text.readline().strip()


def _answer(line: socket.socket) -> None:
    with line:
        try:
            line.sendall(b".")
        except OSError:
            # The call has ended without the answer: its process has died, say.
            return


def elsewhere(call: Callable[[], Any]) -> Future[Any]:
    """Start *call* on a thread of its own, and return a future."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            future.set_exception(error)

    threading.Thread(target=run, name="taskorch-laws", daemon=True).start()
    return future


def some_value(dice: Random) -> Any:
    """Return a random result of a call: small, large, odd or empty."""
    return dice.choice((some_data(dice, 2), "x" * 100_000, b"\0\xff", (), {1, 2}))


def some_error(dice: Random, *others: Exception) -> Exception:
    """Return a random error of a call: builtin, or one of *others*."""
    return dice.choice(
        (
            ValueError("no good", dice.getrandbits(16)),
            OSError(28, "no space left"),
            KeyError(("a", 1)),
            RuntimeError(),
            TimeoutError("out of time"),
            *others,
        )
    )


def kind_of(error: BaseException | None) -> tuple[object, ...]:
    """Return the parts of an error that survive the way between processes."""
    return (type(error), None if error is None else error.args)
