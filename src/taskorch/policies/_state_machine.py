"""The fixed table of states: as it is, and seen from outside as four."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from taskorch.model import TaskState
from taskorch.protocols import Context, Permit, Transition

_ALLOWED: Final = Permit(allowed=True)


class StandardStateMachine:
    """
    The StateMachine that forbids nothing, and calls every state by its own name.

    It watches no transition, so it is never asked. A subclass that overrides `check` is
    asked about all, or about the `(before, after)` pairs in its own `watches`.
    """

    #: The transitions that it wants to be asked about.
    watches: Collection[tuple[TaskState | None, TaskState]] = ()

    def check(self, transition: Transition, context: Context) -> Permit:
        """Whether *transition* may be made: always."""
        return _ALLOWED

    def label(self, state: TaskState) -> str:
        """The name of *state* for the outside: its own."""
        return state.value

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


_LABELS: Final[Mapping[TaskState, str]] = {
    TaskState.PENDING: "queued",
    TaskState.QUEUED: "queued",
    TaskState.RETRYING: "queued",
    TaskState.BLOCKED: "queued",
    TaskState.SUSPENDED: "queued",
    TaskState.RUNNING: "running",
    TaskState.COMPLETED: "completed",
    TaskState.FAILED: "failed",
    TaskState.CANCELLED: "failed",
}


class FourStateMachine(StandardStateMachine):
    """
    The StateMachine that names four states: queued, running, completed, failed.

    For those who show tasks to people, or to a system, that know no more than these.
    Whatever may still run is *queued*, so a suspended task that runs no more is too,
    and a failed attempt that is tried again leads from *running* back to *queued*;
    whatever ended without a result is *failed*, a cancelled task too. Nothing else
    changes: each task keeps its own state, and this is its label.

    It forbids nothing, and is never asked. A subclass that overrides `check` is asked
    about all transitions, or about the `(before, after)` pairs in its own `watches`.
    """

    def label(self, state: TaskState) -> str:
        """The name of *state* for the outside: one of the four."""
        return _LABELS[state]
