"""
What goes into the kernel, as values: the slow, uniform door beside the methods.

`Kernel.handle(commands, now)` takes a list of these; the runtime calls the methods of
the same names, because an object per command costs a third of a microsecond.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import attrs

from taskorch.kernel._rows import Spec, Terms


@attrs.frozen
class SubmitTask:
    """Accept a task."""

    task_id: str
    spec: Spec
    cargo: Any = None
    priority: int = 0
    after: tuple[str, ...] = ()
    not_before_ns: int | None = None
    deadline_ns: int | None = None
    terms: Terms | None = None


@attrs.frozen
class CancelTask:
    """Cancel a task."""

    task_id: str
    reason: str = "cancelled by the user"


@attrs.frozen
class SuspendTask:
    """Suspend a task."""

    task_id: str
    #: Whether its running attempt can be stopped where it stands.
    holdable: bool = False


@attrs.frozen
class ResumeTask:
    """Resume a suspended task."""

    task_id: str


@attrs.frozen
class AddParents:
    """Let a task wait for more tasks than it was submitted with."""

    task_id: str
    after: tuple[str, ...]


@attrs.frozen
class SetPriority:
    """Move a task in the queue."""

    task_id: str
    priority: int


@attrs.frozen
class ChangeOptions:
    """Change the options of a task that has not ended."""

    task_id: str
    #: The names of those that are others.
    names: tuple[str, ...]
    #: With these.
    spec: Spec
    priority: int = 0
    not_before_ns: int | None = None
    deadline_ns: int | None = None


@attrs.frozen
class DecideTask:
    """Decide about a task that is held for a person: `retry`, `fail` or `complete`."""

    task_id: str
    verdict: str
    reason: str = ""


@attrs.frozen
class EmitEvent:
    """An event has come from outside."""

    name: str
    cargo: Any = None
    #: If nobody waits for it, how long it is kept.
    keep_ns: int = 0


@attrs.frozen
class ExpireTasks:
    """Fail every task that has been queued for longer than this."""

    older_than_ns: int


@attrs.frozen
class EndAttempt:
    """
    An attempt has ended: `completed`, `failed`, `stopped`, `lost` or `missing`.

    Or there was no room to begin it: `unstarted`.
    Epoch and attempt are the fence: what is not current changes nothing.
    """

    task_id: str
    attempt: int
    outcome: str
    error: BaseException | None = None
    #: The life of the orchestrator that began it; None is this one.
    epoch: int | None = None


Command: TypeAlias = (
    SubmitTask
    | CancelTask
    | SuspendTask
    | ResumeTask
    | SetPriority
    | ChangeOptions
    | AddParents
    | DecideTask
    | EmitEvent
    | ExpireTasks
    | EndAttempt
)
