"""
What can be asked of a kernel, as values, and what applies them.

The library calls the verbs themselves. Tests compare, print, draw and list commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, assert_never

import attrs

from taskorch.core.kernel import Claim, Effect, Kernel, Spec, TaskRow, Terms
from taskorch.errors import DuplicateTaskError
from taskorch.model import UnitNames, Units
from taskorch.model.ids import run_of


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
class ChangePools:
    """Let there be more or less of some resources."""

    totals: Units
    gone: tuple[str, ...] = ()
    named: UnitNames = ()


@attrs.frozen
class ChangeQuotas:
    """Let those who are named have these quotas."""

    quotas: tuple[tuple[str, str, Units], ...]


@attrs.frozen
class Allocate:
    """Take from the pools by hand, or wait for it."""

    allocation_id: str
    owner: str
    units: Units


@attrs.frozen
class ReleaseAllocation:
    """Give back what was taken by hand."""

    allocation_id: str


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
    #: The incarnation of the orchestrator that began it; None is this one.
    epoch: int | None = None
    #: What it was seen to use.
    usage: Units = ()


@attrs.frozen
class ReachCheckpoint:
    """A running attempt is at a checkpoint, where its grant may shrink."""

    task_id: str
    attempt: int


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
    | ChangePools
    | ChangeQuotas
    | Allocate
    | ReleaseAllocation
    | EndAttempt
    | ReachCheckpoint
)


def handle(
    kernel: Kernel, commands: Sequence[Command], now: int
) -> tuple[list[TaskRow], list[Effect]]:
    """
    Apply *commands*, all of the same instant, and then start what can start.

    What is due at that instant comes before the commands: an attempt that ends just as
    its timeout is over is too late.

    Returns:
        The rows whose attempts are to be started, and the other effects.

    Raises:
        UsageError: A command was refused, whole; those before it stand, and what they
            let start is started by the next call.
        KeyError: A command names a task that is not in memory, likewise; the end of an
            attempt may.
    """
    kernel.tick(now)
    for command in commands:
        apply(kernel, command, now)
    kernel.serve_claims(now)
    kernel.dispatch(now)
    starts, effects = kernel.starts, kernel.effects
    kernel.starts, kernel.effects = [], []
    # Events say it too, to those who drive the kernel by commands.
    kernel.touched.clear()
    kernel.dropped.clear()
    return starts, effects


def apply(kernel: Kernel, command: Command, now: int) -> None:  # noqa: C901, PLR0912 - one a command
    """
    Apply one *command*; what it lets start is started by `dispatch`.

    Raises:
        UsageError: It was refused, whole.
        KeyError: It names a task that is not in memory; the end of an attempt may.
    """
    match command:
        case SubmitTask():
            _submit(kernel, command, now)
        case EndAttempt():
            fence = command.epoch, command.task_id, command.attempt
            how = command.outcome, now, command.error, command.usage
            kernel.end_reported(fence, *how)
        case CancelTask():
            kernel.cancel(kernel.row(command.task_id), now, command.reason)
        case SuspendTask():
            kernel.suspend(kernel.row(command.task_id), now, holdable=command.holdable)
        case ResumeTask():
            kernel.resume(kernel.row(command.task_id), now)
        case SetPriority():
            kernel.set_priority(kernel.row(command.task_id), command.priority, now)
        case ChangeOptions():
            _change(kernel, command, now)
        case AddParents():
            parents = [kernel.row(task_id) for task_id in command.after]
            kernel.add_parents(kernel.row(command.task_id), parents, now)
        case DecideTask():
            row = kernel.row(command.task_id)
            kernel.decide(row, command.verdict, now, command.reason)
        case EmitEvent():
            kernel.emit(command.name, command.cargo, command.keep_ns, now)
        case ExpireTasks():
            kernel.expire(command.older_than_ns, now)
        case ChangePools():
            kernel.change_pools(command.totals, now, command.gone, command.named)
        case ChangeQuotas():
            kernel.change_quotas(command.quotas, now)
        case Allocate():
            claim = Claim(command.allocation_id, command.owner, command.units)
            if not kernel.allocate(claim, now):
                kernel.await_allocation(claim)
        case ReleaseAllocation():
            row = kernel.allocations[command.allocation_id]
            kernel.release_allocation(row, now)
        case ReachCheckpoint():
            kernel.adjust(kernel.row(command.task_id), command.attempt, now)
        case _:
            assert_never(command)


def _submit(kernel: Kernel, command: SubmitTask, now: int) -> None:
    if command.task_id in kernel.tasks or command.task_id in kernel.evicted:
        msg = f"there is a task {command.task_id} already"
        raise DuplicateTaskError(msg, task_id=command.task_id)
    kernel.submit_general(
        command.task_id,
        kernel.bucket(command.spec),
        command.cargo,
        now,
        priority=command.priority,
        parents=[kernel.row(task_id) for task_id in command.after],
        not_before_ns=command.not_before_ns,
        deadline_ns=command.deadline_ns,
        terms=None if command.terms is None else attrs.evolve(command.terms),
        # The ids of these tests say the runs.
        run=run_of(command.task_id),
    )


def _change(kernel: Kernel, command: ChangeOptions, now: int) -> None:
    row = kernel.row(command.task_id)
    bucket = kernel.bucket(command.spec)
    seen = TaskRow(row.id, row.seq, bucket, row.cargo, row.submitted_ns)
    seen.run = row.run
    change = kernel.consider_change(
        row,
        seen,
        now,
        names=command.names,
        priority=command.priority,
        not_before_ns=command.not_before_ns,
        deadline_ns=command.deadline_ns,
    )
    kernel.change_options(change, now)
