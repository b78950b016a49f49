"""
What the parts of a runtime ask of it: steps under one lock, and to be told of faults.

Each part says in a protocol of its own, beside it, what else it asks. So a part is read
without the runtime, and imports nothing that stands above it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from taskorch.errors import InternalError, JournalError
from taskorch.executors._threads import Worker
from taskorch.kernel import Kernel, TaskRow
from taskorch.model import Units
from taskorch.runtime._work import Control, Work


@attrs.define(eq=False)
class Launch:
    """What a step says is to be done once the lock is free."""

    starts: list[tuple[TaskRow, int, Work, Worker | None]]
    #: The attempts about which something was decided besides starts.
    told: Sequence[Control] = ()


class Driver(Protocol):
    """What the parts of a runtime ask of the driver of the kernel."""

    name: str
    lock: threading.Lock
    kernel: Kernel
    #: A fault of our own, after which nothing starts.
    fault: InternalError | JournalError | None

    def now(self) -> int:
        """The time in ns."""
        ...

    def step(self, change: Callable[[int], Any], *, keep: bool = False) -> Any:
        """Enter the lock, make *change*, and do what follows from it."""
        ...

    def settle(self, now: int) -> Launch | None:
        """Under the lock: let the kernel choose, and note what is to be done."""
        ...

    def launch(self, launch: Launch | None) -> None:
        """Outside the lock: do what the step said."""
        ...

    def fail_stop(self, error: BaseException) -> None:
        """Stop all starts, and end all waits with *error*."""
        ...


class Finishes(Protocol):
    """A runtime that takes the ends of attempts."""

    def finish(
        self,
        row: TaskRow,
        attempt: int,
        work: Work,
        value: Any,
        error: BaseException | None,
        used: Units = (),
        /,
    ) -> None:
        """End an attempt, which was seen to use *used*, on any thread but a worker."""
        ...
