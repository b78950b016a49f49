"""
Other options for a task that has not ended: what it is stays, how it runs may change.

They hold from its next attempt; its place in the queue, its deadline, and whether it
may run twice, at once. A date before which it is not to start counts while it waits for
that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from taskorch.errors import InvalidTransitionError
from taskorch.events import TaskOptionsChanged
from taskorch.kernel import _admission, _control, _parking, _tick, _timers
from taskorch.kernel._history import more_of, remember
from taskorch.kernel._state import Bucket, TaskRow
from taskorch.model import TERMINAL, TaskState

if TYPE_CHECKING:
    from taskorch.kernel._kernel import Kernel


@attrs.define(eq=False)
class Change:
    """Other options of one task, about to be taken."""

    row: TaskRow
    bucket: Bucket
    #: The names of the options that are others.
    names: tuple[str, ...]
    priority: int
    key: Any
    #: Of these two, what was said is of use only if they are among the names.
    not_before_ns: int | None
    deadline_ns: int | None


def consider(
    kernel: Kernel,
    row: TaskRow,
    seen: TaskRow,
    now: int,
    *,
    names: tuple[str, ...],
    priority: int,
    not_before_ns: int | None = None,
    deadline_ns: int | None = None,
) -> Change:
    """See `Kernel.consider_change`."""
    if row.state in TERMINAL:
        msg = f"task {row.id} is {row.state}: its options do not matter any more"
        raise InvalidTransitionError(msg, task_id=row.id, story=_control.story(row))
    _admission.check_doable(kernel, seen, now)
    if "priority" not in names:
        # It may have been moved since it was submitted.
        priority = 0 if row.more is None else row.more.priority
    key = _control.key_of(kernel, seen, priority, row.submitted_ns)
    return Change(row, seen.bucket, names, priority, key, not_before_ns, deadline_ns)


def take(kernel: Kernel, change: Change, now: int) -> None:
    """See `Kernel.change_options`."""
    row, names = change.row, change.names
    more, spec = more_of(row), change.bucket.spec
    deadline_ns = change.deadline_ns if "deadline" in names else more.deadline_ns
    due_ns = None
    if "not_before" in names and row.attempt == 0 and row.state is TaskState.PENDING:
        wanted = change.not_before_ns or 0
        if more.due_ns or wanted > now:
            due_ns = max(wanted, now)
    kernel.note(
        TaskOptionsChanged,
        now,
        row.id,
        names,
        change.priority,
        change.key,
        spec.requires,
        spec.resources,
        spec.timeout_ns,
        spec.idempotent,
        due_ns,
        deadline_ns,
        cargo=row.cargo,
    )
    enter(kernel, change, due_ns, deadline_ns, now)
    # A date that has come already is not waited for any more.
    _tick.tick(kernel, now)
    kernel.look(now)
    _parking.stir(kernel)


def enter(
    kernel: Kernel,
    change: Change,
    due_ns: int | None,
    deadline_ns: int | None,
    now: int,
) -> None:
    """Let *change* hold: what follows from it is in facts of its own."""
    row, more = change.row, more_of(change.row)
    is_queued = row.state is TaskState.QUEUED
    if is_queued:
        _control.take_out(kernel, row)
    row.bucket, row.key = change.bucket, change.key
    more.priority = change.priority
    if is_queued:
        kernel.enqueue(row)
    if due_ns is not None:
        more.due_ns = due_ns
        _timers.arm(kernel, due_ns, _timers.DUE, row, 0)
    if deadline_ns != more.deadline_ns:
        more.deadline_ns = deadline_ns
        if deadline_ns is not None:
            _timers.arm(kernel, deadline_ns, _timers.DEADLINE, row, 0)
    remember(row, row.state, now, f"options changed: {', '.join(change.names)}")
