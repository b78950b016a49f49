"""
The table of states: which change may follow which, as data, in one place.

The table is fixed. A user's StateMachine can forbid a transition, never add one.
The diagram in the docs is drawn from it. Which fact makes which of these changes, and
which function does it, is in `_table`, which stands above what it names.
"""

from __future__ import annotations

from typing import Final

from taskorch.model import TERMINAL, TaskState

_S = TaskState

#: State before (None: not submitted yet) → states that may follow.
TRANSITIONS: Final[dict[TaskState | None, tuple[TaskState, ...]]] = {
    None: (_S.PENDING, _S.QUEUED, _S.BLOCKED),
    _S.PENDING: (_S.QUEUED, _S.BLOCKED, _S.SUSPENDED, _S.FAILED, _S.CANCELLED),
    # PENDING: what it waited for runs again. BLOCKED: in a new life, nobody is there
    # who could do it. RETRYING: its attempt, whose end nobody knew, had
    # failed.
    _S.QUEUED: (
        _S.PENDING,
        _S.RUNNING,
        _S.RETRYING,
        _S.BLOCKED,
        _S.SUSPENDED,
        _S.FAILED,
        _S.CANCELLED,
    ),
    _S.RUNNING: (
        _S.COMPLETED,
        _S.RETRYING,
        _S.SUSPENDED,
        _S.BLOCKED,
        _S.FAILED,
        _S.CANCELLED,
    ),
    _S.RETRYING: (_S.QUEUED, _S.SUSPENDED, _S.FAILED, _S.CANCELLED),
    # SUSPENDED: it waits for an event.
    _S.BLOCKED: (
        _S.PENDING,
        _S.QUEUED,
        _S.SUSPENDED,
        _S.COMPLETED,
        _S.FAILED,
        _S.CANCELLED,
    ),
    _S.SUSPENDED: (
        _S.PENDING,
        _S.QUEUED,
        _S.RUNNING,
        _S.RETRYING,
        _S.BLOCKED,
        # The event has come for which it waits.
        _S.COMPLETED,
        _S.FAILED,
        _S.CANCELLED,
    ),
    _S.COMPLETED: (),
    _S.FAILED: (),
    _S.CANCELLED: (),
}


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    for before, afters in TRANSITIONS.items():
        lines += [f"    {before or '[*]'} --> {after}" for after in afters]
    lines += [f"    {state} --> [*]" for state in TaskState if state in TERMINAL]
    return "\n".join(lines)
