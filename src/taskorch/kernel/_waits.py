"""
Waits for what comes from outside, without a thread and without a slot.

A task that waits is BLOCKED as one is that is held for a decision, and a decision can
end it; so can its event, and the end of its time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from taskorch.events import EventEmitted, TaskBlocked
from taskorch.kernel import _attempts, _dependencies, _parking, _timers
from taskorch.kernel._history import more_of
from taskorch.kernel._state import Awaited, Kept, TaskRow, Terms
from taskorch.model import TaskState

if TYPE_CHECKING:
    from taskorch.kernel._kernel import Kernel

_BLOCKED: Final = TaskState.BLOCKED
#: The cause of a blockade, and of what ends it.
EVENT: Final = "event"


def _wait_of(row: TaskRow) -> tuple[Terms, Awaited]:
    """The terms of *row*, which is a wait, and what it waits for."""
    terms = _dependencies.links_of(row).terms
    assert terms is not None  # noqa: S101 - a wait has terms
    assert terms.wait is not None  # noqa: S101 - of this kind
    return terms, terms.wait


def begin(kernel: Kernel, row: TaskRow, wait: Awaited, now: int) -> None:
    """*row*, which waits for nothing else, waits for its event from now on."""
    name, timeout, _ = wait
    reason = "it waits for its time" if name is None else f"it waits for {name}"
    kernel.note(TaskBlocked, now, row.id, (), (), reason, EVENT, cargo=row.cargo)
    hold(kernel, row, reason, now)
    kernel.touched.append((row, row.cargo))
    kept = None if name is None else kernel.kept.get(name)
    if kept is not None and kept.until_ns > now:
        _let_go(kernel, row, kept.id, kept.cargo, now)
    elif timeout == 0:
        time_out(kernel, row, now)


def hold(kernel: Kernel, row: TaskRow, reason: str, now: int) -> None:
    """Move *row* to BLOCKED until its event comes, or its time is over."""
    terms, (name, timeout, _) = _wait_of(row)
    terms.awaits = True
    more = more_of(row)
    more.decision = True
    if name is not None:
        kernel.awaited.setdefault(name, {})[row] = None
    kernel.move(row, _BLOCKED, now, reason)
    if timeout is not None:
        more.due_ns = now + timeout
        kernel.delayed += 1
        _timers.arm(kernel, more.due_ns, _timers.DUE, row, row.attempt)


def leave(kernel: Kernel, row: TaskRow) -> None:
    """*row*, which ends, waits for its event no more, if it did."""
    if not _dependencies.awaits(row):
        return
    terms, (name, _, _) = _wait_of(row)
    terms.awaits = False
    if name is not None:
        rows = kernel.awaited[name]
        del rows[row]
        if not rows:
            del kernel.awaited[name]


def emit(kernel: Kernel, name: str, cargo: Any, keep_ns: int, now: int) -> int:
    """See `Kernel.emit`."""
    rows = list(kernel.awaited.get(name, ()))
    until = now + keep_ns if keep_ns and not rows else 0
    kernel.note(EventEmitted, now, name, len(rows), until, cargo=cargo)
    if until:
        keep(kernel, Kept(name, kernel.seq, until, cargo))
    for row in rows:
        _let_go(kernel, row, name, cargo, now)
    _parking.stir(kernel)
    return len(rows)


def keep(kernel: Kernel, event: Kept) -> None:
    """Remember *event* for those who come to wait for it; the latest one counts."""
    forget(kernel, kernel.kept.get(event.id))
    kernel.kept[event.id] = event
    _timers.arm(kernel, event.until_ns, _timers.KEPT, event, 0)


def forget(kernel: Kernel, event: Kept | None) -> None:
    """*event* is not kept any more."""
    if event is not None:
        event.until_ns = 0
        del kernel.kept[event.id]


def _let_go(kernel: Kernel, row: TaskRow, name: str, cargo: Any, now: int) -> None:
    """The event has come for which *row* waits."""
    kernel.hand_over(row.cargo, cargo)
    _attempts.complete(kernel, row, now, EVENT, f"{name} came")


def time_out(kernel: Kernel, row: TaskRow, now: int) -> None:
    """The time of *row*, which waits for its event, is over."""
    _, (name, timeout, completes) = _wait_of(row)
    if completes:
        kernel.hand_over(row.cargo, None)
        _attempts.complete(kernel, row, now, "timeout", "its time is over")
    else:
        message = f"{name} did not come within {(timeout or 0) / 1e9:g} s"
        _attempts.fail(kernel, row, ("TaskTimeoutError", message, "timeout"), now)
