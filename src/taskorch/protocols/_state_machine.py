"""A user's own view of the fixed table of states."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from taskorch._base.frozen import frozen
from taskorch.model import TaskState
from taskorch.protocols._context import Context


@frozen
class Transition:
    """
    A change of state that is about to be made.

    Attributes:
        task_id: The id of the task.
        type: The type of the task.
        before: None for a task that is being submitted.
        after: The state that it would come into.
        reason: Why.
    """

    task_id: str
    type: str
    before: TaskState | None
    after: TaskState
    reason: str = ""


@frozen
class Permit:
    """
    The answer of a StateMachine.

    Attributes:
        allowed: Whether it may be made.
        reason: Why not; the caller sees it.
    """

    allowed: bool
    reason: str = ""


@runtime_checkable
class StateMachine(Protocol):
    """
    Protocol: refines the fixed table; it can forbid, never add.

    A veto of a submission or a control (cancel, suspend, resume) is an error for the
    caller; a veto of a start keeps the task queued until something changes; the end
    of an attempt cannot be vetoed, because it has happened.

    It is asked under the orchestrator's lock: it must be fast and do no I/O. If it
    has an attribute `watches` (`WatchesTransitions`), a collection of `(before, after)`
    pairs, it is asked about these only; an empty one costs nothing.

    Laws:
        1. `check` of a transition that it does not watch is allowed.
        2. `label` names every state, always the same way.
        3. It changes none of its arguments.
    """

    def check(self, transition: Transition, context: Context) -> Permit:
        """Whether *transition* may be made."""
        ...

    def label(self, state: TaskState) -> str:
        """The name of *state* for the outside."""
        ...
