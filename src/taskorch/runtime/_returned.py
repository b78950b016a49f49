"""
An attempt whose function has returned the handle of another task: it ends as that does.

It is as if it waited for the result, and no thread did: it has given its slot back, and
its timeout, its cancellation and all else about it are those of an attempt that waits.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from taskorch.errors import (
    AttemptInterrupted,
    InvalidTransitionError,
    ResultGoneError,
    TaskorchError,
    UnknownTaskError,
)
from taskorch.kernel import PolicyFault, TaskRow
from taskorch.model import TERMINAL, TaskState
from taskorch.runtime._context import context_of
from taskorch.runtime._driver import Driver, Finishes
from taskorch.runtime._publisher import Publisher
from taskorch.runtime._waiting import Waiting, blockade, is_hopeless
from taskorch.runtime._work import Work, error_of, note_given, unfinished


class ReturnHost(Driver, Finishes, Protocol):
    """What returned handles ask of a runtime."""

    publisher: Publisher
    waiting: Waiting


def adopt_result_of(
    rt: ReturnHost, row: TaskRow, attempt: int, work: Work, target: Work
) -> None:
    """Have the attempt end with the outcome of *target*, without waiting for that."""
    if target._rt is not rt:
        # Nothing here would be told of its end.
        rt.finish(row, attempt, work, None, _foreign(target, row.id))
        return
    _Ending(rt, row, attempt, work, target).begin()


def _foreign(target: Work, task_id: str) -> UnknownTaskError:
    """The error of a task that has returned the handle of another orchestrator."""
    msg = f"task {task_id} returned {target!r}, which is of another orchestrator"
    hint = "wait there, with handle.result(), and return what it returns"
    return UnknownTaskError(msg, hint=hint, task_id=task_id)


class _Ending:
    """The end of an attempt, once that of another task is known."""

    def __init__(
        self, rt: ReturnHost, row: TaskRow, attempt: int, work: Work, target: Work
    ) -> None:
        self._rt = rt
        self._row = row
        self._attempt = attempt
        self._work = work
        self._target = target
        self._context = context_of(work, attempt)
        self._is_over = False
        #: What listens to the other task.
        self._waiter: Callable[[], object] | None = None

    def begin(self) -> None:
        """Begin to wait; a wait that could never end fails the attempt."""
        waiting = self._rt.waiting
        waiting.note_used(self._context, (self._target,))
        if self._context.cancelled:
            self._finish(None, AttemptInterrupted(self._context._control.why))
            return
        try:
            waiting.enter(self._context, (self._target._row,))
        except TaskorchError as error:
            self._finish(None, error)
            return
        waiting.note(self._context, self._stop)
        self._listen()
        if self._context.cancelled:
            # It was told between the two.
            self._stop()

    def _listen(self) -> None:
        when = self._rt.waiting.when
        self._waiter = when(self._target, _is_known, self._tell)
        if self._is_over:
            # It was told before this came back.
            self._listen_no_more()

    def _listen_no_more(self) -> None:
        # Each refers to the other.
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._rt.waiting.remove(self._target, waiter)

    def _tell(self) -> None:
        """Under the lock: something has become of the other task."""
        # Not here: a step of the kernel is under way.
        self._rt.publisher.put([(self._conclude, None)])

    def _stop(self) -> None:
        """The attempt is to stop."""
        with self._rt.lock:
            self._tell()

    def _conclude(self, _: None) -> None:
        """On the publisher's thread: the wait is over, and so is the attempt."""
        rt, target = self._rt, self._target
        if self._is_over:
            return
        is_told = rt.waiting.is_told(target)
        if not (self._context.cancelled or is_told):
            # A re-run has let it go meanwhile.
            self._listen()
            return
        self._is_over = True
        self._listen_no_more()
        rt.waiting.forget(self._context, (target._row,), self._stop)
        if self._context.cancelled:
            self._finish(None, AttemptInterrupted(self._context._control.why))
            return
        if target._row.state is TaskState.CANCELLED:
            # What the user's StateMachine forbids, or fails at, ends as a failure.
            with suppress(InvalidTransitionError, PolicyFault, TaskorchError):
                self._cancel()
        self._finish(*_end_of(target))

    def _cancel(self) -> None:
        rt, row = self._rt, self._row
        why = f"{self._target._row.id}, as which it was to end, was cancelled"

        def change(now: int) -> None:
            if row.attempt == self._attempt:
                rt.kernel.cancel(row, now, why)

        rt.step(change)

    def _finish(self, value: Any, error: BaseException | None) -> None:
        self._rt.finish(self._row, self._attempt, self._work, value, error)


def _is_known(work: Work) -> bool:
    # What is left to the next life need not be known: each attempt is told to stop.
    return is_hopeless(work)


def _end_of(target: Work) -> tuple[Any, BaseException | None]:
    """The result of *target*, or what `result()` of it raises."""
    row = target._row
    if isinstance(target._error, ResultGoneError):
        return None, target._error
    if row.state is TaskState.COMPLETED:
        return target._value, None
    if row.state in TERMINAL:
        error = error_of(target)
    else:
        error = blockade(row) if is_hopeless(target) else unfinished(target)
    note_given(target, error)
    return None, error
