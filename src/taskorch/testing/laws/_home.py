"""
Calls that phone home: what an executor is given, and who hears of it.

A call says that it has begun, and goes on when it is let. It does so over a socket, so
that it may as well be made in another process.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

__all__ = ("Address", "Home", "call_home")

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
    Say that the call *name* has begun, wait to be let go on, and end.

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
    Hears of every call, and lets it go on, or keeps it while the door is shut.

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
        self._kept: list[socket.socket] = []
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
        """Keep what calls from now on."""
        with self._changed:
            self._is_shut = True

    def open(self) -> None:
        """Let go on what was kept, and what calls from now on."""
        with self._changed:
            self._is_shut = False
            kept, self._kept = self._kept, []
        for line in kept:
            _let_go(line)

    def has_heard_of(self, names: Iterable[str]) -> bool:
        """Whether one of these calls has begun; waits for it as long as is sensible."""
        wanted = set(names)
        with self._changed:
            return self._changed.wait_for(
                lambda: not wanted.isdisjoint(self._begun), self._patience
            )

    def close(self) -> None:
        """Let all go on, and hear of no more."""
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
                kept = self._is_shut
                if kept:
                    self._kept.append(line)
                self._changed.notify_all()
            if not kept:
                _let_go(line)


def _read_line(line: socket.socket) -> str:
    with line.makefile(encoding="utf-8") as text:
        return text.readline().strip()


def _let_go(line: socket.socket) -> None:
    with line:
        try:
            line.sendall(b".")
        except OSError:
            # The call has ended without leave: its process has died, say.
            return
