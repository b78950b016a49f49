"""What the tests of executors share: processes change without telling anybody."""

import time
from collections.abc import Callable

from taskorch.executors._programs import _guardian

#: Seconds that no test should need, on however busy a machine.
PATIENCE = 20.0


def eventually(what: Callable[[], object], patience: float = PATIENCE) -> None:
    """Poll until *what* is true."""
    deadline = time.monotonic() + patience
    while not what():
        assert time.monotonic() < deadline, "it has not come true"
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    state = _guardian.state_of(pid)
    return state is not None and state.alive


def is_gone(pid: int) -> bool:
    """Whether there is none, or it has ended."""
    return not is_alive(pid)
