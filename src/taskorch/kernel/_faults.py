"""Policies that fail: how that is said."""

from __future__ import annotations

from taskorch._visible import masked
from taskorch.events import ComponentFailed
from taskorch.kernel._deciders import PolicyFault
from taskorch.kernel._state import KernelState


def note_fault(
    kernel: KernelState, task_id: str | None, fault: PolicyFault, now: int
) -> None:
    """The fact that a policy failed; what fails at present is remembered."""
    many = kernel.faults.get(fault.component, (0, 0, ""))[0]
    kernel.faults[fault.component] = many + 1, now, describe(fault.error)
    kernel.note(
        ComponentFailed,
        now,
        fault.component,
        type(fault.error).__name__,
        describe(fault.error),
        task_id,
    )


def describe(error: BaseException) -> str:
    """*error* in a line, even if it cannot be printed."""
    try:
        return f"{type(error).__name__}: {masked(str(error))}"
    except BaseException:  # noqa: BLE001 - its __str__ is the user's
        return f"{type(error).__name__} (which cannot be printed)"
