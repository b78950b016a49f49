"""Futures of `concurrent.futures` over handles, for those who take nothing else."""

from __future__ import annotations

import concurrent.futures
from _thread import start_new_thread
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from taskorch.core.engine import (
    ENDS_LOOPS,
    gone_result,
    is_settled,
    note_given,
    result_of,
    row_of,
    running_loop,
    runtime_of,
)
from taskorch.errors import InvalidTransitionError, TaskFailedError, TaskorchError
from taskorch.kit.interrupts import defers_interrupts
from taskorch.model import TaskState

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from taskorch.core.engine import Work

T = TypeVar("T")
#: A lock that is not free after so many seconds counts as held by this thread: other
#: threads hold it for some hundredths of a second.
_PATIENCE: Final = 1.0

# It locks the futures for `concurrent.futures.wait` and `as_completed`, one after
# another. An interrupt there would leave some locked for ever, and the publisher
# waiting for them.
_lock_of_all = cast("Any", concurrent.futures)._base._AcquireFutures
defers_interrupts(_lock_of_all.__enter__)
defers_interrupts(_lock_of_all.__exit__)


class TaskFuture(concurrent.futures.Future[T]):
    """
    The future of a task: pending until its first attempt, running from then on.

    A task that waits for it gives its slot back meanwhile, as for `handle.result()`.

    Args:
        handle: The handle of the task.
    """

    def __init__(self, handle: Work) -> None:
        super().__init__()
        self._handle = handle

    def running(self) -> bool:
        """Return whether the task has begun, and has no known outcome yet."""
        return row_of(self._handle).attempt > 0 and not self.done()

    def cancel(self) -> bool:
        """
        Cancel the task if it has not begun; whether it is cancelled.

        One that has begun goes on: to stop it too, use `TaskHandle.cancel`.
        """
        if not self.done():
            cancel_all((self,))
        return self.cancelled()

    def result(self, timeout: float | None = None) -> T:
        """
        Wait for the result, as `TaskHandle.result` does.

        Raises:
            TimeoutError: The caller's patience is over; the task goes on.
            CancelledError: The task was cancelled.
            WouldBlockError: The caller is on the loop that must do the work.
            WouldDeadlockError: The caller is a task for which this one waits.
        """
        error = self.exception(timeout)
        if error is None:
            return super().result()
        try:
            raise error
        finally:
            # The traceback refers to this frame: without the names, there is no cycle.
            del self, error

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """
        Wait for the end, and return what `result` would raise, or None.

        Raises:
            TimeoutError: The caller's patience is over; the task goes on.
            CancelledError: The task was cancelled.
            WouldBlockError: The caller is on the loop that must do the work.
            WouldDeadlockError: The caller is a task for which this one waits.
        """
        error = super().exception(self._give_way(timeout))
        if error is not None:
            note_given(self._handle, error)
        if isinstance(error, TaskFailedError) and running_loop() is None:
            # A StopIteration is wrapped for event loops, which cannot hand it on.
            cause = error.__cause__
            return cause if isinstance(cause, ENDS_LOOPS) else error
        return error

    def add_done_callback(
        self, fn: Callable[[concurrent.futures.Future[T]], object]
    ) -> None:
        """Call `fn(future)` when there is an outcome, on the publisher's thread."""
        super().add_done_callback(partial(_give, self._handle, fn))

    def join(self) -> None:
        """Wait until there is an outcome."""
        self._give_way(None)
        concurrent.futures.wait((self,))

    def _give_way(self, timeout: float | None) -> float | None:
        """
        Inside a task, let others run until there is an outcome; the time left.

        Raises:
            WouldBlockError: The caller is on the loop that must do the work.
        """
        waiting = runtime_of(self._handle).waiting
        if self.done() or not waiting.is_from_within():
            return timeout
        end = None if timeout is None else monotonic() + timeout
        waiting.wait(self._handle, timeout)
        return None if end is None else max(0.0, end - monotonic())

    def resolve(self, error: BaseException | None) -> None:
        """Set the outcome of an ended or blocked task, on the publisher's thread."""
        if row_of(self._handle).state is TaskState.CANCELLED:
            super().cancel()
        if not self.set_running_or_notify_cancel():
            return
        error = error or gone_result(self._handle)
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(result_of(self._handle))


def _give(
    handle: Work,
    fn: Callable[[concurrent.futures.Future[T]], object],
    future: concurrent.futures.Future[T],
) -> object:
    """Call *fn*, whose user sees the outcome of the task of *handle*."""
    if not future.cancelled():
        note_given(handle, concurrent.futures.Future.exception(future))
    return fn(future)


def cancel_all(futures: Sequence[TaskFuture[Any]]) -> None:
    """Cancel the *futures* of one orchestrator that have not begun."""
    if futures:
        rt = runtime_of(futures[0]._handle)
        rt.deciders.refuse_reentry()
    # On an event loop, nothing waits until the journal has written it.
    keep = running_loop() is None
    gone = set(cancel_pending([future._handle for future in futures], keep=keep))
    for future in futures:
        if future._handle in gone:
            concurrent.futures.Future.cancel(future)


def cancel_pending(handles: Sequence[Work], *, keep: bool) -> list[Work]:
    """
    Cancel those of *handles*, all of one orchestrator, that have not begun.

    Returns those that were cancelled; with *keep*, once that is kept. Without, they do
    not begin in this incarnation, and the journal learns of it as soon as it can.

    An iterator that is left cancels what it has not come to, and the collector closes
    it wherever it comes by, in the midst of a step of this thread, too. Then they are
    cancelled after that.
    """
    if not handles:
        return []
    rt = runtime_of(handles[0])
    if not is_free(rt.lock):
        # `threading` is no help here: the collector may run in the middle of it.
        with suppress(RuntimeError):
            start_new_thread(_cancel_after_step, (tuple(handles),))
        return []

    def change(now: int) -> list[Work]:
        if rt.closed and rt.committer is not None:
            # The next incarnation takes the tasks that a durable orchestrator has left.
            return []
        cancelled: list[Work] = []
        for handle in handles:
            row = row_of(handle)
            if row.attempt or is_settled(row):
                continue
            # A task that a StateMachine of the user protects from cancelling counts as
            # begun.
            with suppress(InvalidTransitionError):
                rt.kernel.cancel(row, now, "cancelled before it began")
                cancelled.append(handle)
        return cancelled

    result: list[Any] = rt.step(change, keep=keep)
    return result


@defers_interrupts
def is_free(lock: threading.Lock) -> bool:
    """Return whether this thread can take *lock*, which it must not hold already."""
    if not lock.acquire(timeout=_PATIENCE):
        return False
    lock.release()
    return True


def _cancel_after_step(handles: Sequence[Work]) -> None:
    # Nobody would see an error here; after one, the tasks run.
    with suppress(TaskorchError):
        cancel_pending(handles, keep=False)
