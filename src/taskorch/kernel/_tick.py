"""What happens when a timer is due."""

from __future__ import annotations

from heapq import heappop

from taskorch.events import TaskDue
from taskorch.kernel import (
    _attempts,
    _control,
    _dependencies,
    _joins,
    _leases,
    _queue,
    _timers,
    _waits,
)
from taskorch.kernel._history import more_of
from taskorch.kernel._rows import AgentRow, Kept, TaskRow, Timer
from taskorch.kernel._state import KernelState
from taskorch.model import TaskState


def tick(kernel: KernelState, now: int) -> None:
    """Do what is due by *now*, in order of time."""
    timers = kernel.timers
    while timers and timers[0][0] <= now:
        timer = heappop(timers)
        if _timers.is_alive(timer):
            _ring(kernel, timer, now)
        timers = kernel.timers


def _ring(kernel: KernelState, timer: Timer, now: int) -> None:
    _, _, kind, row, _ = timer
    if isinstance(row, AgentRow):
        _leases.check(kernel, row, now)
    elif isinstance(row, Kept):
        _waits.forget(kernel, row)
    elif kind == _timers.TIMEOUT:
        _attempts.stop(kernel, row, "timeout", "the timeout is over", now)
    elif kind == _timers.GRACE:
        _attempts.give_up(kernel, row, now)
    elif kind == _timers.DUE:
        kernel.note(TaskDue, now, row.id, cargo=row.cargo)
        due(kernel, row, now)
        if _dependencies.awaits(row):
            _waits.time_out(kernel, row, now)
        _joins.decide(kernel, now)
    elif kind == _timers.DEADLINE:
        _control.miss_deadline(kernel, row, now)
    else:
        _control.expire_one(kernel, row, now, "it waited for longer than it may")


def due(kernel: KernelState, row: TaskRow, now: int) -> None:
    """A delay of *row* is over."""
    more_of(row).due_ns = 0
    if row.state is TaskState.RETRYING:
        kernel.delayed -= 1
        _queue.requeue(kernel, row, now)
    elif row.state is TaskState.PENDING and not _dependencies.is_waiting(row):
        kernel.delayed -= 1
        _dependencies.ready(kernel, row, now)
    elif row.state is TaskState.BLOCKED and _dependencies.awaits(row):
        kernel.delayed -= 1
