"""The fixed table of states, as it is."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from taskorch.protocols import Context, Permit, Transition

if TYPE_CHECKING:
    from taskorch.model import TaskState

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
