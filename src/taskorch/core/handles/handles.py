"""
Handles of tasks, and the results of a `map`.

A handle is a future that is also awaitable. `as_completed` gives handles as their tasks
end; `MapResults` gives results in order, and `Ahead` submits calls as these are taken.

Decision: retention.
"""

from __future__ import annotations

import concurrent.futures
import threading
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, cast

from taskorch.core.engine import (
    CURRENT,
    LOCAL,
    UNSTARTED,
    Latch,
    Work,
    blockade,
    error_of,
    gone_result,
    is_settled,
    note_given,
    row_of,
    runtime_of,
    size_of,
    takes_interrupts,
    unfinished,
    unresolvable_root,
)
from taskorch.core.handles.futures import TaskFuture, cancel_pending, is_free
from taskorch.errors import TaskorchError, UsageError
from taskorch.kit.checks import check_count, to_patience
from taskorch.kit.interrupts import defers_interrupts
from taskorch.kit.visible import counted, show
from taskorch.kit.vocabulary import other_attribute
from taskorch.model import TERMINAL, Missing, TaskState

if TYPE_CHECKING:
    # Type checkers know it without the package; Python has it from 3.13 on.
    from typing_extensions import TypeVar

    from taskorch.core.engine import Runtime
    from taskorch.model import TaskStatus

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")

#: The number of calls ahead at first, and at most; and the bytes of their results,
#: estimated by the latest one.
_FIRST_AHEAD: Final = 64
_MOST_AHEAD: Final = 4_096
_BYTES_AHEAD: Final = 16 << 20
_COMPLETED: Final = TaskState.COMPLETED
_FAILED: Final = TaskState.FAILED
#: The module of the callbacks with which asyncio itself waits.
_ASYNCIO: Final = "asyncio.tasks"
_AS_TASKS: Final = (
    "asyncio.wait([asyncio.ensure_future(handle), …]); gather, wait_for, shield and "
    "as_completed take handles as they are"
)


class TaskHandle(Work, Generic[T]):
    """
    A task that was submitted: wait for it, await it, cancel it, depend on it.

    Made by the orchestrator; handles of the same task are the same object while it
    is in memory. A handle keeps its own result, however old.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        # A handle asks the whole runtime.
        _rt: Runtime  # pyright: ignore[reportIncompatibleVariableOverride]
    else:

        def __getattr__(self, name: str) -> Any:
            return other_attribute(self, name)

    @property
    def task_id(self) -> str:
        """The id of the task."""
        return self._row.id

    @property
    def status(self) -> TaskStatus:
        """The present status: see `TaskOrchestrator.get_task_status`."""
        # This import is done without the lock, because it takes a while.
        from taskorch.core.engine import status_of  # noqa: PLC0415 - for those who ask

        rt = self._rt
        rt.deciders.refuse_reentry()
        with rt.lock:
            return status_of(rt, self._row, self)

    @property
    def progress(self) -> Any:
        """The latest that the task has reported by `context.progress(…)`, or None."""
        return None if self._extra is None else self._extra.progress

    def done(self) -> bool:
        """Return whether the task has ended."""
        return self._row.state in TERMINAL and self._visible_after <= self._rt.committed

    def cancelled(self) -> bool:
        """Return whether the task was cancelled."""
        return self._row.state is TaskState.CANCELLED and self.done()

    def result(self, timeout: float | timedelta | None = None) -> T:
        """
        Wait for the result.

        Inside a task this gives back the slot meanwhile, but no resources.

        Args:
            timeout: Seconds to wait, or a timedelta; None is for ever.

        Raises:
            TimeoutError: The caller's patience is over; the task goes on.
            TaskFailure: The end of the task, if its own exception is not known.
            DependencyFailedError: The task is blocked, or its function, or that of a
                task that it needs, is gone.
            WouldBlockError: The caller is on the loop that must do the work.
            WouldDeadlockError: The wait could never end.
        """
        rt = self._rt
        if self._row.state is not _COMPLETED:
            patience = None if timeout is None else to_patience(timeout)
            self._wait(patience, None if patience is None else monotonic() + patience)
        if (
            self._row.state is _COMPLETED
            and self._error is None
            and self._visible_after <= rt.committed
        ):
            # Most tasks complete, and need no call of `exception`. `cast` is avoided,
            # because it is a call.
            value: T = self._value
            if LOCAL.worker is not None or CURRENT.get() is not None:
                # Inside a task, the uses of results are kept.
                rt.waiting.used((self,))
            return value
        error = self.exception(timeout)
        if error is None:
            return cast("T", self._value)
        try:
            raise error
        finally:
            # The traceback refers to this frame: without the names, there is no cycle.
            del self, error

    def exception(
        self, timeout: float | timedelta | None = None
    ) -> BaseException | None:
        """
        Wait for the end, and return what `result` would raise, or None.

        Raises:
            TimeoutError: The caller's patience is over; the task goes on.
        """
        patience = to_patience(timeout)
        end = None if patience is None else monotonic() + patience
        while True:
            self._wait(patience, end)
            settled, error = self._outcome()
            if settled:
                self._rt.waiting.used((self,))
                if error is not None:
                    note_given(self, error)
                return error

    def _wait(self, patience: float | None, end: float | None) -> None:
        """
        Wait until there is something to say of the task.

        Raises:
            TimeoutError: It is *end*, and *patience*, in seconds, is over.
        """
        seconds_left = None if end is None else max(0.0, end - monotonic())
        if not self._rt.waiting.wait(self, seconds_left):
            msg = f"task {self._row.id} has not ended within {patience:g} s"
            if not self._rt.started:
                msg += f": {UNSTARTED}"
            raise TimeoutError(msg)

    def _outcome(self) -> tuple[bool, BaseException | None]:
        """Return whether there is an outcome (a re-run may end it), and its error."""
        row, rt = self._row, self._rt
        gone = gone_result(self)
        if gone is not None:
            return True, gone
        if self._visible_after <= rt.committed and row.state in TERMINAL:
            return True, None if row.state is _COMPLETED else error_of(self)
        rt.deciders.refuse_reentry()
        with rt.lock:
            return self._said()

    def _said(self) -> tuple[bool, BaseException | None]:
        """Return `_outcome`, under the lock."""
        row, rt = self._row, self._rt
        if self._visible_after <= rt.committed:
            if row.state in TERMINAL:
                return True, None if row.state is _COMPLETED else error_of(self)
            if is_settled(row):
                return True, blockade(row)
        if unresolvable_root(self) is not None:
            return True, blockade(row)
        return (True, unfinished(self)) if rt.halted else (False, None)

    def cancel(self) -> bool:
        """Cancel the task; False if it has ended. See `cancel_task`."""
        rt = self._rt

        def change(now: int) -> bool:
            reason = "cancelled by the user"
            return not rt.is_left(self._row) and rt.kernel.cancel(
                self._row, now, reason
            )

        return bool(rt.step(change, keep=True))

    def add_done_callback(self, fn: Callable[[TaskHandle[T]], object]) -> None:
        """
        Call `fn(handle)` when the task has ended, on the publisher's thread.

        A task that is blocked has not ended. What *fn* raises is reported as
        `ReceiverFailed`.

        Raises:
            UsageError: `asyncio.wait` takes the handle for a future of its loop.
        """
        if not callable(fn):
            msg = f"a done-callback is called with the handle; {show(fn)} cannot be"
            raise TypeError(msg)
        if getattr(fn, "__module__", None) == _ASYNCIO:
            # asyncio would call it outside the loop, which would not wake up. It cannot
            # be called there either: inside a task the slot has to be given back during
            # such a wait, and a blocked task would never call it.
            msg = (
                f"asyncio.wait() takes futures and tasks of asyncio, and {self!r} is "
                "none: it would wait for ever"
            )
            raise UsageError(msg, hint=_AS_TASKS, task_id=self._row.id)

        def tell() -> None:
            if self._row.state is _FAILED:
                note_given(self, error_of(self))
            self._rt.publisher.put([(fn, self)])

        self._rt.waiting.when(self, lambda work: row_of(work).state in TERMINAL, tell)

    def future(self) -> concurrent.futures.Future[T]:
        """
        A future of `concurrent.futures` with the same outcome.

        To cancel it cancels the task if that has not begun; that of a task that was
        cancelled is cancelled. That of a task that is blocked is resolved with its
        DependencyFailedError, finally.
        """
        future: TaskFuture[T] = TaskFuture(self)

        def tell() -> None:
            # The outcome is read now, because a re-run may unblock the task before the
            # publisher's turn.
            self._rt.publisher.put([(future.resolve, self._said()[1])])

        settled, error = self._outcome()
        if settled:
            future.resolve(error)
        else:
            self._rt.waiting.when(self, self._rt.waiting.is_told, tell)
        return future

    def __await__(self) -> Generator[Any, None, T]:
        if issubclass(type(self._value), Missing):
            import asyncio  # noqa: PLC0415 - of a later incarnation, and seldom

            # The value may come from far away, so that others on the loop go on.
            asked = asyncio.to_thread(self._outcome)
            settled, error = yield from asked.__await__()
        else:
            settled, error = self._outcome()
        while not settled:
            yield from self._rt.waiting.wait_async(self).__await__()
            settled, error = self._outcome()
        self._rt.waiting.used((self,))
        if error is None:
            return cast("T", self._value)
        note_given(self, error)
        try:
            raise error
        finally:
            # As in `result`.
            del self, error

    def __repr__(self) -> str:
        row = self._row
        if row is None:
            return "<TaskHandle, not submitted>"
        return f"<TaskHandle {row.id}: {row.state}>"


def as_completed(
    handles: Iterable[TaskHandle[T]], timeout: float | timedelta | None = None
) -> Iterator[TaskHandle[T]]:
    """
    Yield handles as their tasks end, or are blocked.

    Args:
        handles: Handles of any orchestrators; each is yielded once.
        timeout: Seconds, or a timedelta, for all of them together.

    Raises:
        TimeoutError: Some have not ended within *timeout*.
    """
    unended: dict[TaskHandle[T], Callable[[], object]] = {}
    settled: deque[TaskHandle[T]] = deque()
    latch = Latch()

    def watch(handle: TaskHandle[T]) -> Callable[[], object]:
        def tell() -> None:
            settled.append(handle)
            latch.set()

        waiting = runtime_of(handle).waiting
        return waiting.when(handle, waiting.is_told, tell)

    for handle in dict.fromkeys(handles):
        unended[handle] = watch(handle)
        del handle
    del handles
    total = len(unended)
    seconds = to_patience(timeout)
    end = None if seconds is None else monotonic() + seconds
    try:
        while unended:
            while not settled:
                patience = None if end is None else max(0.0, end - monotonic())
                where = runtime_of(next(iter(unended))).waiting
                if not where.until(latch, tuple(unended), patience) and not settled:
                    verb = "has" if len(unended) == 1 else "have"
                    of = counted(total, "task")
                    msg = f"{len(unended)} of {of} {verb} not ended in {seconds} s"
                    raise TimeoutError(msg)
                latch.clear()
            del unended[settled[0]]
            # No variable keeps the value, so that only the caller holds it.
            yield settled.popleft()
    finally:
        for handle, waiter in unended.items():
            runtime_of(handle).waiting.abandon(handle, waiter)


class DoneAndNotDone(NamedTuple, Generic[T]):
    """
    The result of `orch.wait(handles)`.

    Attributes:
        done: Handles of tasks that have ended, or are blocked for good.
        not_done: The others.
    """

    done: set[TaskHandle[T]]
    not_done: set[TaskHandle[T]]


def wait_for(
    handles: Iterable[TaskHandle[T]], timeout: float | timedelta | None
) -> DoneAndNotDone[T]:
    """Wait until all *handles* are done, or *timeout* is over."""
    not_done = set(handles)
    done: set[TaskHandle[T]] = set()
    with suppress(TimeoutError):
        done.update(as_completed(not_done, timeout))
    return DoneAndNotDone(done, not_done - done)


class Ahead(Generic[T]):
    """
    Submits calls as results are taken, so that the iterables may be endless.

    Args:
        runtime: The runtime that runs them.
        submit: Takes some of the arguments, and gives the handles.
        iterables: One for each argument; the shortest ends it.
        most: Calls that are submitted before their results are taken; None is some
            thousand, or fewer if the results are large.

    Raises:
        InvalidTaskError: *most* is no number of 1 or more.
    """

    def __init__(
        self,
        runtime: Runtime,
        submit: Callable[[list[tuple[Any, ...]]], list[TaskHandle[T]]],
        iterables: tuple[Iterable[Any], ...],
        most: int | None,
    ) -> None:
        if most is not None:
            check_count("buffersize", most, least=1)
        self.runtime = runtime
        self.handles: deque[TaskHandle[T]] = deque()
        self._submit = submit
        try:
            self._calls = zip(*iterables, strict=False)
        except TypeError as error:
            error.add_note("a value for all calls of a map is itertools.repeat(value)")
            raise
        self._is_adapting = most is None
        self._set_most(_FIRST_AHEAD if most is None else most)
        #: Whether it has an end, so that all of it can be submitted.
        self.has_end: bool = most is None and all(
            isinstance(each, Sized) for each in iterables
        )
        #: Whether a journal has accepted it, so that it is made in any case.
        self.is_accepted_at_once: bool = self.has_end and runtime.committer is not None
        #: Whether all calls have been submitted, or nobody wants the others.
        self.is_over: bool = False
        #: When results are waited for no more; None before the first are.
        self.end: float | None = None
        # A drain submits the rest, at the same time as the consumer of results.
        self._lock = threading.Lock()
        if self.has_end:
            runtime.maps[id(self)] = self

    def _set_most(self, most: int) -> None:
        self._most = most
        #: With so many ahead, or fewer, more are submitted.
        self.refill_at: int = most >> 1 if self._is_adapting else most - 1

    def wants_more(self) -> bool:
        """Return whether too few calls are ahead, and more may come."""
        return len(self.handles) <= self.refill_at and not self.is_over

    def fill(self, *, whole: bool = False) -> None:
        """Submit calls up to the limit, or the *whole* rest."""
        with self._lock:
            if self.is_over or not (whole or self.wants_more()):
                return
            most = None if whole else self._most - len(self.handles)
            some = _take(self._calls, most)
            self.is_over = most is None or len(some) < most
            committer, end = self.runtime.committer, self.end
            if committer is None or end is None:
                self.handles += self._submit(some)
                return
            # The trouble of a journal must not end a map that has begun.
            with committer.patient(lambda: monotonic() >= end or self.runtime.closed):
                self.handles += self._submit(some)

    def taken(self, result: T) -> None:
        """The first of the handles has brought *result*, and goes."""
        self.handles.popleft()
        if self.is_over or not self._is_adapting or len(self.handles) > self.refill_at:
            return
        size = size_of(result) * self._most
        if size < _BYTES_AHEAD:
            self._set_most(min(_MOST_AHEAD, self._most * 2))
        elif size > 2 * _BYTES_AHEAD:
            self._set_most(max(1, self._most >> 1))

    def leave(self) -> None:
        """Cancel the calls that have not begun, as their results are not asked for."""
        self.is_over = True
        handles = list(self.handles)
        self.handles.clear()
        for handle in handles:
            runtime_of(handle).notices.ask(handle)
        # It does not wait for the journal, whose error would replace the one that ended
        # the map.
        cancel_pending(handles, keep=False)
        # Otherwise there would be a cycle: an error has frames, these have such a list,
        # and the list has the handle with the error.
        handles.clear()


class MapResults(Iterator[T]):
    """
    The results of a `map`, in order.

    If no result was asked for when the iterator goes, the calls were wanted: they are
    made, all of them. Otherwise, calls that have not begun are cancelled.
    """

    def __init__(self, ahead: Ahead[T], end: float | None) -> None:
        self._ahead = ahead
        self._end = end
        ahead.end = inf if end is None else end
        self._is_asked = False

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return other_attribute(self, name)

    @defers_interrupts
    def __next__(self) -> T:
        self._is_asked = True
        ahead = self._ahead
        try:
            if len(ahead.handles) <= ahead.refill_at:
                ahead.fill()
            if not ahead.handles:
                raise StopIteration  # noqa: TRY301 - it closes the rest, as errors do
            result = _first_result(ahead.handles, self._end)
            ahead.taken(result)
        except BaseException:
            self.close()
            raise
        return result

    def close(self) -> None:
        """Cancel calls that have not begun; there are no more results."""
        self._is_asked = True
        self._ahead.leave()

    @defers_interrupts
    def __del__(self) -> None:
        # Python only prints errors of a destructor.
        with suppress(TaskorchError, RuntimeError, AttributeError):
            if self._is_asked:
                self._ahead.leave()
            elif self._ahead.has_end and not self._ahead.is_over:
                # The collector may run anywhere, even in the middle of a step.
                if is_free(self._ahead.runtime.lock):
                    self._ahead.fill(whole=True)
                else:
                    start_new_thread(_submit_after_step, (self._ahead,))


def map_calls(
    runtime: Runtime,
    submit: Callable[[list[tuple[Any, ...]]], list[TaskHandle[T]]],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | timedelta | None,
    buffersize: int | None,
    results_of: Callable[[Ahead[T], float | None], MapResults[T]] = MapResults,
) -> MapResults[T]:
    """
    The results of calls that *submit* submits, some at a time; see `Ahead`.

    *results_of* makes the iterator.

    Raises:
        InvalidTaskError: An argument is out of its range.
    """
    seconds = to_patience(timeout)
    end = None if seconds is None else monotonic() + seconds
    ahead = Ahead(runtime, submit, iterables, buffersize)
    ahead.fill(whole=ahead.is_accepted_at_once)
    return results_of(ahead, end)


def _submit_after_step(ahead: Ahead[Any]) -> None:
    # Nobody would see an error here.
    with suppress(TaskorchError):
        ahead.fill(whole=True)


@takes_interrupts
def _take(calls: Iterator[tuple[Any, ...]], most: int | None) -> list[tuple[Any, ...]]:
    return list(islice(calls, most))


@takes_interrupts
def _first_result(handles: deque[TaskHandle[T]], end: float | None) -> T:
    # No variable keeps the handle, which the frame of an error would hold.
    seconds_left = None if end is None else max(0.0, end - monotonic())
    return handles[0].result(seconds_left)
