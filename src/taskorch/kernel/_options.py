"""
Other options for a task that has not ended: what it is stays, how it runs may change.

They hold from its next attempt; its place in the queue, its deadline, and whether it
may run twice, at once. A date before which it is not to start counts while it waits for
that.

Decision: 0023.
"""

from __future__ import annotations

from typing import Any

import attrs

from taskorch.events import TaskOptionsChanged
from taskorch.kernel import (
    _admission,
    _control,
    _joins,
    _queue,
    _tick,
)
from taskorch.kernel._application import tell
from taskorch.kernel._history import row_extra
from taskorch.kernel._rows import Bucket, TaskRow
from taskorch.kernel._state import KernelState
from taskorch.model import TERMINAL, TaskState


@attrs.define(eq=False)
class Change:
    """New options of one task, checked and not yet applied."""

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
    kernel: KernelState,
    row: TaskRow,
    seen: TaskRow,
    now: int,
    *,
    names: tuple[str, ...],
    priority: int,
    not_before_ns: int | None = None,
    deadline_ns: int | None = None,
) -> Change:
    """
    Ask all who must agree to other options of *row*; nothing changes.

    *seen* is a row that is in no kernel, for the policies: as it will be then. The
    priority and the dates count only if they are among the *names* of the options that
    are others.

    Raises:
        UsageError: They are refused: it has ended, or nobody could do it.
    """
    if row.state in TERMINAL:
        msg = f"task {row.id} is {row.state}: its options do not matter any more"
        raise _control.refusal(row, msg)
    _admission.check_doable(kernel, seen, now)
    if "priority" not in names:
        # `set_priority` may have changed it since the task was submitted.
        priority = 0 if row.extra is None else row.extra.priority
    key = _control.key_of(kernel, seen, priority, row.submitted_ns)
    return Change(row, seen.bucket, names, priority, key, not_before_ns, deadline_ns)


def apply(kernel: KernelState, change: Change, now: int) -> None:
    """Apply the options that were checked in this step to their task."""
    row, names = change.row, change.names
    extra, spec = row_extra(row), change.bucket.spec
    deadline_ns = change.deadline_ns if "deadline" in names else extra.deadline_ns
    due_ns = None
    if "not_before" in names and row.attempt == 0 and row.state is TaskState.PENDING:
        wanted = change.not_before_ns or 0
        if extra.due_ns or wanted > now:
            due_ns = max(wanted, now)
    tell(
        kernel,
        TaskOptionsChanged,
        row,
        now,
        names,
        change.priority,
        change.key,
        spec.requires,
        spec.resources,
        spec.timeout_ns,
        spec.idempotent,
        due_ns,
        deadline_ns,
        spec.owner,
        spec.elastic,
    )
    # The new `not_before` or deadline may have come already.
    _tick.tick(kernel, now)
    _joins.decide(kernel, now)
    _queue.ask_again(kernel)
