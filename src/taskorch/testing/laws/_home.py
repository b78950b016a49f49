"""
Calls that phone home: what an executor is given to do, and who hears of it.

A call says that it has begun, and goes on when it is answered. It does so over a
socket, so that it may as well be made in another process.
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
#: Lines that may wait to be answered: more than there are calls at once.
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
    Say that the call *name* has begun, wait for the answer, and end.

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
    Hears of every call, and answers it, or lets it wait while the door is shut.

    Args:
        patience: Seconds to wait for anything.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._server = socket.create_server((_HOST, 0), backlog=_BACKLOG)
        #: Where to call.
        self.address: Address = self._server.getsockname()
        # Guards all that follows, and tells of changes.
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
        """Answer what waits, and what calls from now on."""
        with self._changed:
            self._is_shut = False
            waiting, self._waiting = self._waiting, []
        for line in waiting:
            _answer(line)

    def has_heard_of(self, names: Iterable[str]) -> bool:
        """Whether one of these calls has begun; waits for it as long as is sensible."""
        wanted = set(names)
        with self._changed:
            return self._changed.wait_for(
                lambda: not wanted.isdisjoint(self._begun), self._patience
            )

    def close(self) -> None:
        """Answer all, and hear of no more."""
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
    """The end of *call*, made on a thread of its own that nobody has to wait for."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            future.set_exception(error)

    threading.Thread(target=run, name="taskorch-laws", daemon=True).start()
    return future


def some_value(dice: Random) -> Any:
    """What a call returns: something small, large, odd or empty."""
    return dice.choice((some_data(dice, 2), "x" * 100_000, b"\0\xff", (), {1, 2}))


def some_error(dice: Random, *others: Exception) -> Exception:
    """What a call raises: an error of a builtin class, or one of *others*."""
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
    """What an error keeps on its way from another process."""
    return (type(error), None if error is None else error.args)
