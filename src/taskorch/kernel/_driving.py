"""
What whoever drives the kernel says of itself, and what it does when it has failed.

Nothing of this is a fact: the next life of an orchestrator begins without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from taskorch._limits import ASIDE_NS
from taskorch.events import Event, Fact
from taskorch.kernel._effects import StopAttempt
from taskorch.kernel._history import row_extra
from taskorch.kernel._rows import TaskRow
from taskorch.kernel._state import KernelState
from taskorch.model import TaskState

#: More tasks than there can be.
_ALL: Final = 2**63


def pause(kernel: KernelState) -> None:
    """Start nothing until `unpause`."""
    kernel.stopped = True
    settle(kernel)


def unpause(kernel: KernelState) -> None:
    """What can start does, from the next `dispatch` on, unless starts are held."""
    kernel.stopped = False
    settle(kernel)


def limit(kernel: KernelState, slots: int, aside_ns: int = ASIDE_NS) -> None:
    """
    Bound the running attempts by *slots*, and by the configured concurrency.

    A task whose start the system has no room for steps aside for *aside_ns*.
    """
    kernel.room = min(slots, kernel.config.concurrency)
    kernel.aside_ns = aside_ns
    settle(kernel)


def settle(kernel: KernelState) -> None:
    """Work out how many may run, and whether anything starts."""
    caps = [most for most, _, _ in kernel.holds.values()]
    # Where nothing is to start, attempts that wait to go on still do.
    kernel.paused = kernel.stopped or 0 in caps
    kernel.concurrency = min([kernel.room, *filter(None, caps)])


def stop_attempt(kernel: KernelState, row: TaskRow) -> None:
    """The attempt of *row* is to stop, for the driver's sake: no fact says so."""
    kernel.effects.append(StopAttempt(row, row.attempt, "stop"))


def own_fact(kernel: KernelState, cls: type[Event], now: int, *fields: Any) -> Fact:
    """A fact that goes to no sink: the driver says it, and keeps it, itself."""
    kernel.seq += 1
    made: Any = cls
    fact: Fact = made(kernel.seq, now, *fields)
    return fact


def keep_finished(kernel: KernelState) -> None:
    """Finished tasks leave memory only when the driver says `evict`."""
    kernel.keep = _ALL


def remember_ended(kernel: KernelState, ended: Mapping[str, TaskState]) -> None:
    """Note the tasks that are out of memory, since this life or an earlier one."""
    kernel.evicted.update(ended.items())


def forget_ended(kernel: KernelState) -> None:
    """The driver has another way to know of the tasks that have left memory."""
    kernel.evicted.clear()


def fail_everything(
    kernel: KernelState, rows: Iterable[TaskRow], message: str, now: int
) -> None:
    """
    The driver has failed: nothing starts any more, and *rows* fail without a fact.

    What the state says cannot be trusted after that, the counters least of all.
    """
    pause(kernel)
    kernel.starts.clear()
    kernel.active = kernel.delayed = 0
    for row in rows:
        row_extra(row).error = ("InternalError", message, "internal")
        row.state = TaskState.FAILED
        row.ended_ns = now
