"""What the tests of executors share: processes change without telling anybody."""

import time
from collections.abc import Callable

from tests.house.pids import is_alive

#: Seconds that no test should need, on however busy a machine.
PATIENCE = 60.0


def eventually(what: Callable[[], object], patience: float = PATIENCE) -> None:
    """Poll until *what* is true."""
    deadline = time.monotonic() + patience
    while not what():
        assert time.monotonic() < deadline, "it has not come true"
        time.sleep(0.005)


def is_gone(pid: int) -> bool:
    """
    Whether there is none, or it has ended.

    What was killed goes once the machine gets to it; an end waits for that, but for a
    second only.
    """
    return not is_alive(pid)


class Thread:
    """One that does not run."""

    def __init__(self, *, is_alive=False, problem=None, **options):
        self.options, self.problem, self.waits = options, problem, []
        self.is_alive = lambda: is_alive
        self.join = self.waits.append
        self.started = 0

    def start(self):
        self.started += 1
        if self.problem is not None:
            raise self.problem
