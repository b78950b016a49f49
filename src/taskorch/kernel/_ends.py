"""
How a task ends, and how it is held: told in the same way whatever brought it about.

What has terms of its own, and hangs on it, is decided about later: whoever ends a task
calls `_joins.decide` once all is in order.
"""

from __future__ import annotations

from typing import Any

from taskorch.events import TaskBlocked, TaskCancelled, TaskCompleted, TaskFailed
from taskorch.kernel import _application
from taskorch.kernel._application import tell
from taskorch.kernel._deciders import PolicyFault
from taskorch.kernel._faults import describe, note_fault
from taskorch.kernel._rows import TaskRow
from taskorch.kernel._state import KernelState
from taskorch.model import TaskState, Units

#: `(type, message, cause)` of a failure.
Error = tuple[str, str, str]


#: What an attempt was seen to use, and what kind of failure ended it.
Measured = tuple[Units, str]
NOT_MEASURED: Measured = ((), "")


def said(*fields: Any) -> tuple[Any, ...]:
    """*fields* up to the last that is not empty: what a fact ends with."""
    found = fields
    while found and not found[-1]:
        found = found[:-1]
    return found


def complete(
    kernel: KernelState,
    row: TaskRow,
    now: int,
    cause: str = "",
    reason: str = "",
    usage: Units = (),
) -> None:
    """
    *row* ended well: by *cause*, if no attempt ended it, and for *reason*.

    Its attempt was seen to use *usage*.
    """
    name = "" if row.agent is None else row.agent.name
    latency = now - row.started_ns if row.state is TaskState.RUNNING else 0
    if kernel.tell_completed:
        because = said(cause, reason, usage)
        if len(because) == 1:
            because = cause, ""
        fields = (row.id, row.attempt, name, latency, *because)
        kernel.note(TaskCompleted, now, *fields, cargo=row.cargo)
    else:
        kernel.seq += 1
    _application.complete(kernel, row, latency, reason, now)


def fail(
    kernel: KernelState,
    row: TaskRow,
    error: Error,
    now: int,
    reason: str = "",
    *,
    charged: bool = False,
    roots: tuple[str, ...] = (),
    measured: Measured = NOT_MEASURED,
) -> None:
    """
    *row* ends badly, for good; for *reason* it is not tried again.

    If *charged*, the last attempt counts against the retry policy. The failure began
    with *roots* if its terms end it because of its parents.
    """
    agent = None if row.agent is None else row.agent.name
    tell(
        kernel,
        TaskFailed,
        row,
        now,
        row.attempt,
        agent,
        *error,
        reason,
        charged,
        *said(roots, *measured),
    )


def cancel(
    kernel: KernelState,
    row: TaskRow,
    reason: str,
    now: int,
    roots: tuple[str, ...] = (),
) -> None:
    """*row* is CANCELLED, for *roots* if it was skipped."""
    tell(kernel, TaskCancelled, row, now, reason, *((roots,) if roots else ()))


def hold(
    kernel: KernelState, row: TaskRow, error: Error, now: int, reason: str = ""
) -> None:
    """*row* is held for a person: for *reason*, or else that in *error*."""
    kind, message, cause = error
    why = reason or message
    tell(kernel, TaskBlocked, row, now, (), (), why, cause, kind, message)


def fail_by(kernel: KernelState, row: TaskRow, fault: PolicyFault, now: int) -> None:
    """A policy failed over *row*: that task fails with it, and no other."""
    note_fault(kernel, row.id, fault, now)
    message = f"the {fault.component} failed: {describe(fault.error)}"
    error = ("ComponentError", message, "component")
    fail(kernel, row, error, now, fault.component)
