"""The fixed table of states, and a view of it with four."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from taskorch.model import TaskState
from taskorch.protocols import Context, Permit, Transition

_ALLOWED: Final = Permit(allowed=True)


class StandardStateMachine:
    """
    StateMachine that forbids nothing, and calls every state by its own name.

    It watches no transition, so it is never asked. A subclass that overrides `check` is
    asked about all, or about the `(before, after)` pairs in its own `watches`.
    """

    #: The transitions that it wants to be asked about.
    watches: Collection[tuple[TaskState | None, TaskState]] = ()

    def check(self, transition: Transition, context: Context) -> Permit:
        """Return that *transition* may be made."""
        return _ALLOWED

    def label(self, state: TaskState) -> str:
        """Return the name of *state* for users: its own."""
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
    StateMachine that names four states: queued, running, completed, failed.

    It is for people, or systems, that know only these four. A task that may still run
    is *queued*, so a suspended task that does not run is, too, and a failed attempt
    that is tried again leads from *running* back to *queued*. A task that ended without
    a result is *failed*, a cancelled one too. Nothing else changes: each task keeps its
    own state, and this is its label.

    It forbids nothing, and is never asked. A subclass that overrides `check` is asked
    about all transitions, or about the `(before, after)` pairs in its own `watches`.
    """

    def label(self, state: TaskState) -> str:
        """Return the name of *state* for users: one of the four."""
        return _LABELS[state]
