"""
The door of the kernel: the state, and all that can be asked of it.

Each verb is a function of its own, of `KernelState`; here stands which one. A driver
holds a lock around every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, assert_never

from attrs import evolve

from taskorch.errors import DuplicateTaskError
from taskorch.events import LateResultIgnored
from taskorch.kernel import (
    _admission,
    _application,
    _attempts,
    _books,
    _control,
    _dispatch,
    _driving,
    _edges,
    _faults,
    _leases,
    _options,
    _queue,
    _quick,
    _tick,
)
from taskorch.kernel._commands import (
    AddParents,
    CancelTask,
    ChangeOptions,
    Command,
    DecideTask,
    EmitEvent,
    EndAttempt,
    ExpireTasks,
    ResumeTask,
    SetPriority,
    SubmitTask,
    SuspendTask,
)
from taskorch.kernel._effects import Effect
from taskorch.kernel._faults import describe
from taskorch.kernel._rows import TaskRow
from taskorch.kernel._state import KernelState


class Kernel(KernelState):
    """
    The state machine of one orchestrator: its state, and what can be done to it.

    Not thread-safe: the driver holds a lock around every call. After a call the
    driver takes what is in `starts`, `effects`, `touched`, `dropped` and the sink, and
    empties them; nothing else of the state is written from outside.

    Args:
        config: What does not change.
        deciders: The answers of the policies.
        random: The only source of randomness, for policies.
        pools: The resources that there are, in millionths.
    """

    # The path of nearly every task.
    submit: Final = _quick.submit
    dispatch: Final = _quick.dispatch
    complete: Final = _quick.complete

    # A task comes, or is to wait for more.
    bucket: Final = _queue.bucket_of
    consider: Final = _admission.consider
    accept: Final = _admission.accept
    submit_general: Final = _admission.submit
    add_parents: Final = _edges.add_parents
    repoint: Final = _edges.repoint

    # An attempt waits, or ends.
    end_attempt: Final = _attempts.end
    yield_slot: Final = _attempts.yield_slot
    reclaim_slot: Final = _attempts.reclaim_slot
    forgo_slot: Final = _attempts.forgo_slot
    give_up: Final = _attempts.give_up

    # Control by the user.
    cancel: Final = _control.cancel
    suspend: Final = _control.suspend
    resume: Final = _control.resume
    set_priority: Final = _control.set_priority
    decide: Final = _control.decide
    emit: Final = _control.emit
    expire: Final = _control.expire
    miss: Final = _control.miss
    consider_change: Final = _options.consider
    change_options: Final = _options.apply

    # Agents, time, and what leaves memory.
    add_agent: Final = _leases.add
    add_pools: Final = _books.add_pools
    drop_pools: Final = _books.drop_pools
    match: Final = _dispatch.match
    note_fault: Final = _faults.note_fault
    beat: Final = _leases.beat
    excuse: Final = _leases.excuse
    tick: Final = _tick.tick
    retire: Final = _application.retire

    # The state of the driver itself.
    pause: Final = _driving.pause
    unpause: Final = _driving.unpause
    limit: Final = _driving.limit
    stop_attempt: Final = _driving.stop_attempt
    own_fact: Final = _driving.own_fact
    keep_finished: Final = _driving.keep_finished
    remember_ended: Final = _driving.remember_ended
    forget_ended: Final = _driving.forget_ended
    collapse: Final = _driving.collapse

    def handle(
        self, commands: Sequence[Command], now: int
    ) -> tuple[list[TaskRow], list[Effect]]:
        """
        Apply *commands*, all of the same instant, and then start what can start.

        What is due at that instant comes before the commands: an attempt that ends
        just as its timeout is over is too late.

        Returns:
            The rows whose attempts are to be started, and the other effects.

        Raises:
            UsageError: A command was refused, whole; those before it stand, and what
                they let start is started by the next call.
            KeyError: A command names a task that is not in memory, likewise; the end
                of an attempt may.
        """
        self.tick(now)
        for command in commands:
            self.apply(command, now)
        self.dispatch(now)
        starts, effects = self.drain()
        # Facts say it too, to those who drive the kernel by commands.
        self.touched.clear()
        self.dropped.clear()
        return starts, effects

    def apply(self, command: Command, now: int) -> None:  # noqa: C901 - one a command
        """
        Apply one *command*; what it lets start is started by `dispatch`.

        Raises:
            UsageError: It was refused, whole.
            KeyError: It names a task that is not in memory; the end of an attempt may.
        """
        match command:
            case SubmitTask():
                self._apply_submit(command, now)
            case EndAttempt():
                self._apply_end(command, now)
            case CancelTask():
                self.cancel(self.row(command.task_id), now, command.reason)
            case SuspendTask():
                self.suspend(self.row(command.task_id), now, holdable=command.holdable)
            case ResumeTask():
                self.resume(self.row(command.task_id), now)
            case SetPriority():
                self.set_priority(self.row(command.task_id), command.priority, now)
            case ChangeOptions():
                self._apply_change(command, now)
            case AddParents():
                parents = [self.row(task_id) for task_id in command.after]
                self.add_parents(self.row(command.task_id), parents, now)
            case DecideTask():
                row = self.row(command.task_id)
                self.decide(row, command.verdict, now, command.reason)
            case EmitEvent():
                self.emit(command.name, command.cargo, command.keep_ns, now)
            case ExpireTasks():
                self.expire(command.older_than_ns, now)
            case _:
                assert_never(command)

    def _apply_submit(self, command: SubmitTask, now: int) -> None:
        if command.task_id in self.tasks or command.task_id in self.retired:
            msg = f"there is a task {command.task_id} already"
            raise DuplicateTaskError(msg, task_id=command.task_id)
        self.submit_general(
            command.task_id,
            self.bucket(command.spec),
            command.cargo,
            now,
            priority=command.priority,
            parents=[self.row(task_id) for task_id in command.after],
            not_before_ns=command.not_before_ns,
            deadline_ns=command.deadline_ns,
            terms=None if command.terms is None else evolve(command.terms),
        )

    def _apply_change(self, command: ChangeOptions, now: int) -> None:
        row = self.row(command.task_id)
        bucket = self.bucket(command.spec)
        seen = TaskRow(row.id, row.seq, bucket, row.cargo, row.submitted_ns)
        change = self.consider_change(
            row,
            seen,
            now,
            names=command.names,
            priority=command.priority,
            not_before_ns=command.not_before_ns,
            deadline_ns=command.deadline_ns,
        )
        self.change_options(change, now)

    def _apply_end(self, command: EndAttempt, now: int) -> None:
        task_id, attempt = command.task_id, command.attempt
        # The task of an attempt that would not stop may have left memory.
        leak = self.leaked.get((task_id, attempt))
        row = self.tasks.get(task_id) if leak is None else leak.row
        if row is None or command.epoch not in (None, self.epoch):
            # Of another life, or long over: there is nothing that it could change.
            self.note(LateResultIgnored, now, task_id, attempt, command.outcome)
            return
        error = command.error
        described = ("", "")
        if error is not None:
            described = (type(error).__name__, describe(error).partition(": ")[2])
        self.end_attempt(row, attempt, command.outcome, now, error, described)
