"""
Waits for what comes from outside, without a thread and without a slot.

A task that waits is BLOCKED as one is that is held for a decision, and a decision can
end it; so can its event, and the end of its time.

Decision: 0018.
"""

from __future__ import annotations

from typing import Any

from taskorch.events import TaskBlocked
from taskorch.kernel import _ends, _timers
from taskorch.kernel._application import EVENT, tell, terms_of_wait
from taskorch.kernel._rows import Awaited, RetainedEvent, TaskRow
from taskorch.kernel._state import KernelState


def begin(kernel: KernelState, row: TaskRow, wait: Awaited, now: int) -> None:
    """*row*, which waits for nothing else, waits for its event from now on."""
    name, timeout, _ = wait
    reason = "it waits for its time" if name is None else f"it waits for {name}"
    tell(kernel, TaskBlocked, row, now, (), (), reason, EVENT)
    known = None if name is None else kernel.retained.get(name)
    if known is not None and known.until_ns > now:
        deliver(kernel, row, known.id, known.cargo, now)
    elif timeout == 0:
        time_out(kernel, row, now)


def retain(kernel: KernelState, event: RetainedEvent) -> None:
    """Remember *event* for those who come to wait for it; the latest one counts."""
    forget(kernel, kernel.retained.get(event.id))
    kernel.retained[event.id] = event
    _timers.arm(kernel, event.until_ns, _timers.RETAINED, event)


def forget(kernel: KernelState, event: RetainedEvent | None) -> None:
    """*event* is not kept any more."""
    if event is not None:
        event.until_ns = 0
        del kernel.retained[event.id]


def deliver(kernel: KernelState, row: TaskRow, name: str, cargo: Any, now: int) -> None:
    """The event has come for which *row* waits."""
    kernel.hand_over(row.cargo, cargo)
    _ends.complete(kernel, row, now, EVENT, f"{name} came")


def time_out(kernel: KernelState, row: TaskRow, now: int) -> None:
    """The time of *row*, which waits for its event, is over."""
    _, (name, timeout, completes) = terms_of_wait(row)
    if completes:
        kernel.hand_over(row.cargo, None)
        _ends.complete(kernel, row, now, "timeout", "its time is over")
    else:
        message = f"{name} did not come within {(timeout or 0) / 1e9:g} s"
        _ends.fail(kernel, row, ("TaskTimeoutError", message, "timeout"), now)
