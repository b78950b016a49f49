"""
Schedules, as far as the next life must know them: what they are, how far they came.

Up to a time, all slots are decided about: each was made or skipped. Besides, single
slots wait, though they are before that time, or were filled, though they are after it.
When a slot comes is for whoever drives the kernel; that it runs once is by the id of
its task. Here nothing decides.

Decisions: 0085, 0143.
"""

from __future__ import annotations

from collections.abc import Iterable

from taskorch.events import (
    ScheduleChanged,
    ScheduleFired,
    ScheduleQueued,
    ScheduleSkipped,
)
from taskorch.kernel._state import KernelState


def change(
    kernel: KernelState, name: str, document: str, done_ns: int, now: int
) -> None:
    """Set or change a schedule, which is done up to *done_ns*; without one: remove."""
    kernel.note(ScheduleChanged, now, name, document, done_ns)
    _set(kernel, name, document, done_ns)


def fire(
    kernel: KernelState, name: str, slot_ns: int, task_id: str, by: str, now: int
) -> None:
    """A slot has its task."""
    kernel.note(ScheduleFired, now, name, slot_ns, task_id, by)
    _made(kernel, name, slot_ns, by)


def queue(kernel: KernelState, name: str, slot_ns: int, now: int) -> None:
    """A slot has come, and waits for what was made before."""
    kernel.note(ScheduleQueued, now, name, slot_ns)
    _wait(kernel, name, slot_ns)


def skip(
    kernel: KernelState, name: str, slot_ns: int, count: int, why: str, now: int
) -> None:
    """So many slots get none, up to the one at *slot_ns*; those that wait go on so."""
    kernel.note(ScheduleSkipped, now, name, slot_ns, count, why)
    _advance(kernel, name, slot_ns)


def changed(kernel: KernelState, event: ScheduleChanged, _now: int) -> None:
    """What the fact does to the state."""
    _set(kernel, event.name, event.document, event.done_ns)


def fired(kernel: KernelState, event: ScheduleFired, _now: int) -> None:
    """What the fact does to the state."""
    _made(kernel, event.name, event.slot_ns, event.by)


def queued(kernel: KernelState, event: ScheduleQueued, _now: int) -> None:
    """What the fact does to the state."""
    _wait(kernel, event.name, event.slot_ns)


def skipped(kernel: KernelState, event: ScheduleSkipped, _now: int) -> None:
    """What the fact does to the state."""
    _advance(kernel, event.name, event.slot_ns)


def restore(
    kernel: KernelState,
    name: str,
    state: tuple[str, int],
    slots: Iterable[Iterable[int]],
) -> None:
    """A schedule as a snapshot has it, with the slots that wait and were filled."""
    waiting, filled = slots
    kernel.schedules[name] = state
    kernel.waiting_slots[name] = dict.fromkeys(waiting)
    kernel.filled_slots[name] = dict.fromkeys(filled)


def _set(kernel: KernelState, name: str, document: str, done_ns: int) -> None:
    if document:
        kernel.schedules[name] = document, done_ns
        kernel.waiting_slots.setdefault(name, {})
        kernel.filled_slots.setdefault(name, {})
    else:
        for kept in (kernel.schedules, kernel.waiting_slots, kernel.filled_slots):
            kept.pop(name, None)


def _made(kernel: KernelState, name: str, slot_ns: int, by: str) -> None:
    if name not in kernel.schedules or by == "trigger":
        return
    waiting = kernel.waiting_slots[name]
    if slot_ns in waiting:
        # It was decided about when it came, before the clock was set back perhaps.
        del waiting[slot_ns]
    elif by == "clock":
        _advance(kernel, name, slot_ns)
    elif slot_ns > kernel.schedules[name][1]:
        kernel.filled_slots[name][slot_ns] = None


def _wait(kernel: KernelState, name: str, slot_ns: int) -> None:
    if name in kernel.schedules:
        kernel.waiting_slots[name][slot_ns] = None
        _advance(kernel, name, slot_ns)


def _advance(kernel: KernelState, name: str, slot_ns: int) -> None:
    if name not in kernel.schedules:
        return
    document, done_ns = kernel.schedules[name]
    done_ns = max(done_ns, slot_ns)
    kernel.schedules[name] = document, done_ns
    filled = kernel.filled_slots[name]
    while filled and (first := next(iter(filled))) <= done_ns:
        del filled[first]
