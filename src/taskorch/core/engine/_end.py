"""
The end of a runtime, by a fault or a stop, and what is refused from then on.

Decision: faults-and-interrupts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

from taskorch.core.engine._context import current_or_none
from taskorch.core.engine._work import ALL_KEPT, Work
from taskorch.core.kernel import StopAttempt, TaskRow, describe, is_under_way
from taskorch.errors import InternalError, JournalError, NotRunningError
from taskorch.kit.fence import log_of
from taskorch.kit.interrupts import defers_interrupts
from taskorch.kit.visible import visible
from taskorch.model import TERMINAL

if TYPE_CHECKING:
    from taskorch.core.engine._runtime import Runtime

_LOG: Final = log_of(__name__)


def interrupted(rt: Runtime, error: BaseException) -> None:
    """
    Stop everything, as an exception from outside has cut a step short.

    An attempt that was to start may be lost, so this ends the runtime as a fault does.
    """
    message = f"a step was cut short by {type(error).__name__}"
    fault = InternalError(message, hint="make a new orchestrator")
    fault.__cause__ = error
    # The exception may have come between the call of a policy and its count.
    rt.deciders.asking = 0
    rt.fail_stop(fault)


@defers_interrupts
def fail_stop(rt: Runtime, error: BaseException) -> None:
    """
    Stop everything because of a fault of our own, and wake all callers that wait.

    The state can no longer be trusted, so every task that has not ended fails with an
    InternalError, as does every later submission, and every task whose end is not kept.
    If the journal is lost, its error takes the place of ours, and attempts under way
    are asked to stop.
    """
    with rt.lock:
        if rt.fault is not None:
            return
        if isinstance(error, InternalError | JournalError):
            # The error of a journal is raised as it is, not as a fault of taskorch.
            rt.fault = _again(error)
        else:
            rt.fault = InternalError(f"taskorch itself failed: {describe(error)}")
        rt.fault.__cause__ = error
        message = rt.fault.message
        _LOG.critical("%s", visible(message), exc_info=error)
        kernel = rt.kernel
        under_way = [row for row in kernel.tasks.values() if is_under_way(row)]
        # Nothing more will be kept, so ends are reported as the state has them now.
        kept, rt.committed = rt.committed, ALL_KEPT
        left = [
            row
            for row in kernel.tasks.values()
            if row.state not in TERMINAL or row.cargo._visible_after > kept
        ]
        kernel.fail_everything(left, message, rt.now())
        for row in left:
            work: Work | None = row.cargo
            if work is not None:
                work._error = None
                if work._waiters is not None:
                    rt.wake(work)
        rt.waiting.say_quiet()
        rt.waiting.return_all()
        if rt.committer is not None:
            rt.committer.lost()
        told = []
        if isinstance(error, JournalError):
            told = rt.attempts.in_order(
                [StopAttempt(row, row.attempt, "stop") for row in under_way]
            )
    rt.attempts.carry_out(told)


def is_left(rt: Runtime, row: TaskRow) -> bool:
    """
    Return whether the orchestrator has stopped, and *row* had ended by then.

    Raises:
        NotRunningError: It has stopped, and left *row* to its next incarnation.
    """
    if not rt.closed or rt.committer is None:
        return False
    if row.state not in TERMINAL:
        msg = f"the orchestrator has stopped; its next incarnation has task {row.id}"
        hint = "open the journal again, and do it there"
        raise NotRunningError(msg, hint=hint, task_id=row.id)
    return True


@defers_interrupts
def halt(rt: Runtime) -> None:
    """Wake all callers that wait: unfinished tasks go on in the next incarnation."""
    if rt.committer is None:
        return
    with rt.lock:
        rt.halted = True
        for row in rt.kernel.tasks.values():
            work: Work | None = row.cargo
            if work is not None and work._waiters is not None:
                rt.wake(work)


def refuse_submission(rt: Runtime) -> None:
    """
    Raise if no task may come in; hold the lock.

    Raises:
        NotRunningError: It has stopped.
        InternalError: It has failed.
    """
    if rt.fault is not None:
        fault = rt.fault
        raise _again(fault) from fault
    if rt.closed:
        msg = "the orchestrator has stopped"
        raise NotRunningError(msg, hint="make a new one: it cannot be restarted")


def is_left_outside(rt: Runtime) -> bool:
    """Return whether the caller is no task that goes on, and no listener."""
    context = current_or_none()
    if context is not None and context._rt is rt:
        return context.cancelled
    return not rt.publisher.is_inside()


def patience(
    rt: Runtime, is_over: Callable[[], bool] | None = None
) -> AbstractContextManager[None]:
    """Let calls in the block wait for a slow journal, as steps do, to the stop."""
    committer = rt.committer
    if committer is None:
        return nullcontext()
    return committer.patient(is_over or (lambda: rt.draining or rt.closed))


def refuse_new(rt: Runtime) -> None:
    """
    Raise if no new task may come in; hold the lock.

    A stop that drains accepts what tasks, listeners and callbacks submit. New tasks
    from outside would delay it for ever.

    Raises:
        NotRunningError: It has stopped, or is about to and the caller is outside.
        InternalError: It has failed.
    """
    refuse_submission(rt)
    if not rt.draining or rt.publisher.is_inside():
        return
    context = current_or_none()
    if context is None or context._rt is not rt:
        msg = "the orchestrator is draining: it takes no new work from outside any more"
        hint = "submit before the end of the block, or from a task or a receiver"
        raise NotRunningError(msg, hint=hint)


def _again(fault: InternalError | JournalError) -> InternalError | JournalError:
    """Return a copy of *fault*, to be raised on another thread."""
    return type(fault)(fault.message, hint=fault.hint)
