"""
Schedules, as far as the next life must know them: what they are, how far they came.

When a slot comes is for whoever drives the kernel; that it runs once is by the id of
its task. Here nothing decides.
"""

from __future__ import annotations

from taskorch.events import ScheduleChanged, ScheduleFired, ScheduleSkipped
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
    if by == "clock":
        _advance(kernel, name, slot_ns)


def skip(
    kernel: KernelState, name: str, slot_ns: int, count: int, why: str, now: int
) -> None:
    """So many slots get none, up to the one at *slot_ns*."""
    kernel.note(ScheduleSkipped, now, name, slot_ns, count, why)
    _advance(kernel, name, slot_ns)


def changed(kernel: KernelState, event: ScheduleChanged, _now: int) -> None:
    """What the fact does to the state."""
    _set(kernel, event.name, event.document, event.done_ns)


def fired(kernel: KernelState, event: ScheduleFired, _now: int) -> None:
    """What the fact does to the state."""
    if event.by == "clock":
        _advance(kernel, event.name, event.slot_ns)


def skipped(kernel: KernelState, event: ScheduleSkipped, _now: int) -> None:
    """What the fact does to the state."""
    _advance(kernel, event.name, event.slot_ns)


def _set(kernel: KernelState, name: str, document: str, done_ns: int) -> None:
    if document:
        kernel.schedules[name] = document, done_ns
    else:
        kernel.schedules.pop(name, None)


def _advance(kernel: KernelState, name: str, slot_ns: int) -> None:
    if name in kernel.schedules:
        document, done_ns = kernel.schedules[name]
        kernel.schedules[name] = document, max(done_ns, slot_ns)
