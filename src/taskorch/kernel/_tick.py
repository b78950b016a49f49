"""What happens when a timer is due."""

from __future__ import annotations

from heapq import heappop

from taskorch.events import QuestionReminded, TaskDue
from taskorch.kernel import (
    _attempts,
    _control,
    _dependencies,
    _joins,
    _leases,
    _rates,
    _timers,
    _waits,
)
from taskorch.kernel._application import tell, terms_of_wait
from taskorch.kernel._rows import AgentRow, RateRow, RetainedEvent, Timer
from taskorch.kernel._state import KernelState


def tick(kernel: KernelState, now: int) -> None:
    """Fire the timers that are due by *now*, in order of time."""
    timers = kernel.timers
    while timers and timers[0][0] <= now:
        timer = heappop(timers)
        if _timers.is_alive(timer):
            _fire(kernel, timer, now)
        timers = kernel.timers


def _fire(kernel: KernelState, timer: Timer, now: int) -> None:
    _, _, kind, row, _ = timer
    if isinstance(row, AgentRow):
        _leases.check(kernel, row, now)
    elif isinstance(row, RetainedEvent):
        _waits.forget(kernel, row)
    elif isinstance(row, RateRow):
        _rates.wake(kernel, row, now)
    elif kind == _timers.TIMEOUT:
        _attempts.stop(kernel, row, "timeout", "the timeout is over", now)
    elif kind == _timers.GRACE:
        _attempts.give_up(kernel, row, now)
    elif kind == _timers.DUE:
        tell(kernel, TaskDue, row, now)
        if _dependencies.awaits(row):
            _waits.time_out(kernel, row, now)
        _joins.decide(kernel, now)
    elif kind == _timers.REMIND:
        terms, _ = terms_of_wait(row)
        tell(kernel, QuestionReminded, row, now, terms.reminded + 1)
    elif kind == _timers.DEADLINE:
        _control.miss_deadline(kernel, row, now)
    else:
        _control.expire_one(kernel, row, now, "it waited for longer than it may")
