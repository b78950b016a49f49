"""
How a task ends, and how it is held: the same whatever brought it about.

What has terms of its own, and hangs on it, is decided about later: whoever ends a task
calls `_joins.decide` once all is in order.
"""

from __future__ import annotations

from typing import Final

from taskorch.events import TaskBlocked, TaskCancelled, TaskCompleted, TaskFailed
from taskorch.kernel import _dependencies
from taskorch.kernel._history import more_of
from taskorch.kernel._rows import Awaited, More, TaskRow, Terms
from taskorch.kernel._state import MANY, KernelState
from taskorch.model import TaskState

_RUNNING: Final = TaskState.RUNNING

#: The cause of a blockade: there is no agent, or no function, for the task any more.
GONE: Final = "gone"

#: `(type, message, cause)` of a failure.
Error = tuple[str, str, str]


def complete(
    kernel: KernelState, row: TaskRow, now: int, cause: str = "", reason: str = ""
) -> None:
    """
    *row* ended well, on a path that is not the plain one.

    Args:
        kernel: The state.
        row: The task.
        now: The time in ns.
        cause: What ended it, if no attempt did.
        reason: And why, for its history.
    """
    more = more_of(row)
    more.stop = ""
    more.aside = more.decision = False
    agent = row.agent
    latency = 0
    if agent is not None and row.state is _RUNNING:
        latency = now - row.started_ns
        agent.completed += 1
        kernel.record(agent, row.bucket.spec.type).add(latency)
        row.bucket.type_row.samples.append(
            (row.submitted_ns, row.ready_ns, row.started_ns, now)
        )
        if more.charged:
            kernel.retries_recovered += 1
    row.bucket.type_row.completed += 1
    _end_waits(kernel, row)
    row.ended_ns = now
    if more.past is None:
        # As `move`, of a kind that the plain history shows by itself.
        kernel.active -= 1
        kernel.completed += 1
        row.state = TaskState.COMPLETED
    else:
        kernel.move(row, TaskState.COMPLETED, now, reason)
    kernel.seq += 1
    if kernel.tell_completed and kernel.sink is not None:
        name = "" if agent is None else agent.name
        because = (cause, reason) if cause else ()
        fact = (
            TaskCompleted,
            kernel.seq,
            now,
            row.id,
            row.attempt,
            name,
            latency,
            *because,
        )
        kernel.sink.append((fact, row.cargo))
    if row.links is not None:
        row.links.parents = ()
        _dependencies.release(kernel, row, now)
    if more.past is None and not (more.priority or more.rerun_of):
        # A timeout or a date, and nothing that anybody could still want to know.
        row.more = None
    _finish(kernel, row)


def _finish(kernel: KernelState, row: TaskRow) -> None:
    kernel.touched.append((row, row.cargo))
    kernel.finished.append(row)
    if len(kernel.finished) > kernel.keep:
        retire(kernel)


def fail(
    kernel: KernelState,
    row: TaskRow,
    error: Error,
    now: int,
    reason: str = "",
    *,
    charged: bool = False,
    roots: tuple[str, ...] = (),
) -> None:
    """
    *row* ends badly, for good. It holds nothing any more.

    Args:
        kernel: The state.
        row: The task.
        error: The type, message and cause of the failure.
        now: The time in ns.
        reason: Why it is not tried again.
        charged: Whether the last attempt counts against the retry policy.
        roots: Where it began, if its terms end it because of its parents.
    """
    more = more_of(row)
    more.error = error
    more.stop = ""
    pass_on(more, roots)
    cause = error[2]
    type_row = row.bucket.type_row
    type_row.failed += 1
    type_row.failures[error[0]] = type_row.failures.get(error[0], 0) + 1
    kernel.causes[cause] = kernel.causes.get(cause, 0) + 1
    more.decision = False
    _end_waits(kernel, row)
    row.ended_ns = now
    kernel.move(row, TaskState.FAILED, now, error[1])
    agent = None if row.agent is None else row.agent.name
    kernel.note(
        TaskFailed,
        now,
        row.id,
        row.attempt,
        agent,
        *error,
        reason,
        charged,
        *((roots,) if roots else ()),
        cargo=row.cargo,
    )
    _dependencies.broke(kernel, row)
    _finish(kernel, row)


def pass_on(more: More, roots: tuple[str, ...]) -> None:
    """It ends because of its parents: of these, only where it began is kept."""
    if roots:
        more.first_roots = roots
        more.blocked_by = {}


def call_off(
    kernel: KernelState,
    row: TaskRow,
    reason: str,
    now: int,
    roots: tuple[str, ...] = (),
) -> None:
    """*row* is CANCELLED, for *roots* if it was skipped. It holds nothing any more."""
    more = more_of(row)
    more.stop = ""
    more.stop_reason = reason
    pass_on(more, roots)
    row.bucket.type_row.cancelled += 1
    more.decision = False
    _end_waits(kernel, row)
    row.ended_ns = now
    kernel.move(row, TaskState.CANCELLED, now, reason)
    because = (roots,) if roots else ()
    kernel.note(TaskCancelled, now, row.id, reason, *because, cargo=row.cargo)
    _dependencies.broke(kernel, row)
    _finish(kernel, row)


def _end_waits(kernel: KernelState, row: TaskRow) -> None:
    """*row* ends: it waits for no time and no event any more."""
    forget_delay(kernel, row)
    if row.links is not None:
        leave_wait(kernel, row)


def forget_delay(kernel: KernelState, row: TaskRow) -> None:
    """*row* leaves a delay, or a wait, before its end."""
    more = row.more
    if more is None or not more.due_ns:
        return
    if (
        row.state is TaskState.RETRYING
        or (row.state is TaskState.PENDING and not _dependencies.is_waiting(row))
        or (row.state is TaskState.BLOCKED and _dependencies.awaits(row))
    ):
        kernel.delayed -= 1
    more.due_ns = 0


def hold_because(
    kernel: KernelState, row: TaskRow, error: Error, reason: str, now: int
) -> None:
    """Tell that *row* is held for a person, and hold it."""
    kind, message, cause = error
    kernel.note(
        TaskBlocked,
        now,
        row.id,
        (),
        (),
        reason,
        cause,
        kind,
        message,
        cargo=row.cargo,
    )
    hold_for_decision(kernel, row, reason, now)
    kernel.touched.append((row, row.cargo))


def block_gone(kernel: KernelState, row: TaskRow, reason: str, now: int) -> None:
    """*row*, which waits for nothing else, is held: what it needs is gone."""
    block(kernel, row, ("UnknownCapabilityError", reason, GONE), now)


def block(kernel: KernelState, row: TaskRow, error: Error, now: int) -> None:
    """*row*, of which no attempt is under way, is held for the reason in *error*."""
    more_of(row).error = error
    hold_because(kernel, row, error, error[1], now)


def hold_for_decision(kernel: KernelState, row: TaskRow, reason: str, now: int) -> None:
    """Move *row* to BLOCKED until a person decides."""
    more = more_of(row)
    more.decision = True
    more.aside = False
    more.stop = ""
    # It may be that it waited for others until now. What was gone may return, and then
    # it waits as before.
    if more.error is not None and more.error[2] == GONE:
        more.blocked_by = {}
    else:
        _dependencies.detach(row)
    kernel.move(row, TaskState.BLOCKED, now, reason)


def leave_wait(kernel: KernelState, row: TaskRow) -> None:
    """*row*, which ends, waits for its event no more, if it did."""
    if not _dependencies.awaits(row):
        return
    terms, (name, _, _) = wait_of(row)
    terms.awaits = False
    if name is not None:
        rows = kernel.awaited[name]
        del rows[row]
        if not rows:
            del kernel.awaited[name]


def wait_of(row: TaskRow) -> tuple[Terms, Awaited]:
    """The terms of *row*, which is a wait, and what it waits for."""
    terms = _dependencies.links_of(row).terms
    assert terms is not None  # noqa: S101 - a wait has terms
    assert terms.wait is not None  # noqa: S101 - of this kind
    return terms, terms.wait


def retire(kernel: KernelState) -> None:
    """Let the oldest finished task leave memory."""
    row = kernel.finished.popleft()
    tasks = kernel.tasks
    if len(tasks) > kernel.most_tasks:
        kernel.most_tasks = len(tasks)
    elif len(tasks) < kernel.most_tasks >> 3:
        # A dict stays as large as it has been.
        kernel.tasks = tasks = dict(tasks)
        kernel.most_tasks = MANY + len(tasks)
    del tasks[row.id]
    kernel.retired[row.id] = row.state
    if row.links is not None or row.named:
        # The driver has more to let go of, or to remember.
        kernel.dropped.append(row)
    else:
        row.cargo = None
