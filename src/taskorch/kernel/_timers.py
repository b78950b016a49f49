"""
Timers as data: a heap of what is due when.

A timer is not taken out when it has lost its meaning: it is looked at when it is
due, and then does nothing. When most are of that kind, the heap is rebuilt.
"""

from __future__ import annotations

from heapq import heapify, heappush
from typing import Final

from taskorch.kernel._rows import (
    AgentRow,
    RateRow,
    RetainedEvent,
    TaskRow,
    Timed,
    Timer,
)
from taskorch.kernel._state import FEW_TIMERS, KernelState
from taskorch.model import TERMINAL, TaskState

#: An attempt has run for its timeout.
TIMEOUT: Final = 0
#: An attempt was asked to stop, and has not.
GRACE: Final = 1
#: A delay is over: `not_before`, or the wait before a retry; or the time of a wait.
DUE: Final = 2
#: The task must have ended.
DEADLINE: Final = 3
#: The task has waited for as long as it may.
EXPIRE: Final = 4
#: An agent may have been silent for too long.
LEASE: Final = 5
#: An event that nobody waited for is forgotten.
RETAINED: Final = 6
#: A token is free again for which a bucket waits.
TOKEN: Final = 7
#: A question is still open.
REMIND: Final = 8


def arm(
    kernel: KernelState, when: int, kind: int, row: Timed, attempt: int = 0
) -> None:
    """Set a timer of *kind* for *when*; `TIMEOUT` and `GRACE` are for an *attempt*."""
    if len(kernel.timers) > kernel.most_timers or (
        kernel.points is not None and kernel.points.hit("timers.rebuild")
    ):
        kernel.timers = [timer for timer in kernel.timers if is_alive(timer)]
        heapify(kernel.timers)
        kernel.most_timers = FEW_TIMERS + 2 * len(kernel.timers)
    kernel.timer_no += 1
    heappush(kernel.timers, (when, kernel.timer_no, kind, row, attempt))


def is_alive(timer: Timer) -> bool:
    """Whether *timer* still means something."""
    when, _, kind, row, attempt = timer
    if isinstance(row, AgentRow):
        return row.lease_due_ns == when and not row.lost
    if isinstance(row, (RetainedEvent, RateRow)):
        return row.until_ns == when
    if kind == EXPIRE:
        return row.attempt == 0 and row.state not in TERMINAL
    extra = row.extra
    if extra is None:
        # It has completed and dropped its extra fields.
        return False
    if kind in (TIMEOUT, GRACE):
        if row.attempt != attempt or row.state is not TaskState.RUNNING:
            return False
        return extra.timer == when if kind == TIMEOUT else extra.stop != ""
    if kind in (DUE, REMIND):
        # What ends a delay sets `due_ns` to 0; what puts it off sets another time.
        return when == (extra.due_ns if kind == DUE else _next_reminder(row))
    return row.state not in TERMINAL and extra.deadline_ns == when


def _next_reminder(row: TaskRow) -> int:
    """When the question that *row* is comes to mind again; 0: it has ended."""
    terms = None if row.links is None else row.links.terms
    return terms.remind_at_ns if terms is not None and terms.awaits else 0
