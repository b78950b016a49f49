"""
Loops on which coroutines run, latches, and when to yield to other threads.

Decision: durable-commits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from math import inf
from time import monotonic, sleep
from typing import Any, Final

from taskorch.core.engine._asyncio import asyncio, running_loop
from taskorch.errors import AttemptInterrupted, TaskFailedError
from taskorch.kit.interrupts import SLICE, defers_interrupts, join
from taskorch.protocols import Attempt, AttemptExecutor

# -- how threads of one process leave a lock to each other -----------------------------


#: Pauses in seconds between looks at a lock: first other threads get their turn.
PAUSES: Final = (0.0, 0.0, *[0.0001] * 100)


def yield_gil(lock: threading.Lock) -> None:
    """
    Yield the GIL to other threads until *lock* looks free.

    A thread that queues for a lock owns it as soon as it is released, long before it
    has the GIL again, and everybody queues behind it: a convoy, three to four times
    slower than asking later.
    """
    for pause in PAUSES:
        sleep(pause)
        if not lock.locked():
            return


# -- a flag that one thread waits for, and others set ----------------------------------


class Latch:
    """
    A flag to wait for, like `threading.Event`, that an interrupt cannot break.

    An interrupt inside of an Event can leave its lock taken for ever, and a thread
    that sets it then waits in our critical section. The end of a wait clears the flag.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def is_set(self) -> bool:
        """Return whether the flag is set."""
        return not self._lock.locked()

    def set(self) -> None:
        """Set the flag and wake the waiting thread; more calls change nothing."""
        with suppress(RuntimeError):
            self._lock.release()

    def clear(self) -> None:
        """Clear the flag."""
        self._lock.acquire(blocking=False)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is set, and clear it; return whether it came in time."""
        end = None if timeout is None else monotonic() + timeout
        return wait_for_lock(self._lock, end)


def wait_for_lock(lock: Any, end: float | None) -> bool:
    """
    Acquire *lock*, until *end* of the monotonic clock; return whether it succeeded.

    It waits in slices: an interrupt that comes just as a wait begins does not end that
    wait, and would be seen only after it.
    """
    while True:
        left = None if end is None else seconds_until(end)
        if lock.acquire(timeout=SLICE if left is None else min(left, SLICE)):
            return True
        if left is not None and left <= SLICE:
            return False


@defers_interrupts
def release_if_mine(lock: Any) -> None:
    """Release an RLock that an interrupted acquisition may have taken."""
    if lock._is_owned():
        lock.release()


def seconds_until(end: float | None) -> float | None:
    """Return the seconds until *end* of the monotonic clock; None is for ever."""
    if end is None:
        return None
    return min(max(0.0, end - monotonic()), threading.TIMEOUT_MAX)


# -- the event loop that coroutines run on: the caller's, or a private one -------------


class LoopHost:
    """
    The loop of one orchestrator.

    Inside `async with` it is the entering loop; otherwise a private one on a thread
    of its own, made when the first coroutine needs it. *crashed* is told what has ended
    that one, which nothing but `close` should.
    """

    def __init__(self, name: str, crashed: Callable[[BaseException], object]) -> None:
        self._name = name
        self._crashed = crashed
        self._lock = threading.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None
        #: The loop on which a plain call has opened the journal.
        self._opened_on: asyncio.AbstractEventLoop | None = None
        #: The private loop, and its thread.
        self._private: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        #: The thread that runs the loop.
        self._ident = 0
        #: Since when the loop has not answered a call that it was sent.
        self._asked = inf
        #: The next call that wakes the loop of the main thread.
        self._pulse: asyncio.TimerHandle | None = None

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use *loop*, which the caller's program runs."""
        self.loop = loop
        self._ident = threading.get_ident()
        if self._pulse is None and (
            threading.current_thread() is threading.main_thread()
        ):
            self._wake(loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """
        Wake *loop* again and again, as `wait_for_lock` does a thread.

        A signal that comes in the very moment in which the loop begins to wait does not
        end that wait, and its handler would be called whenever something else does.
        """
        self._pulse = loop.call_later(SLICE, self._wake, loop)

    def unanswered(self) -> tuple[float, int, str]:
        """
        Send the loop, if there is one, a call that it must answer.

        Returns:
            Since when an answer is due, the thread of the loop, and its current task.
        """
        loop, since = self.loop, self._asked
        if loop is None:
            return inf, 0, ""
        if since != inf:
            task = asyncio.current_task(loop)
            return since, self._ident, "" if task is None else task.get_name()
        self._asked = monotonic()
        # The loop may be closed already.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._answer)
            return inf, 0, ""
        self._answer()
        return inf, 0, ""

    def _answer(self) -> None:
        self._asked = inf

    @defers_interrupts
    def get(self) -> asyncio.AbstractEventLoop:
        """Return the loop; make a private one if there is none."""
        loop = self.loop
        if loop is not None:
            return loop
        with self._lock:
            if self.loop is None:
                loop = asyncio.new_event_loop()
                _hand_on_contexts(loop)
                thread = threading.Thread(
                    target=self._run,
                    args=(loop,),
                    name=f"{self._name}-loop",
                    daemon=True,
                )
                try:
                    thread.start()
                except RuntimeError:
                    loop.close()
                    raise
                self._thread = thread
                self.loop = self._private = loop
            return self.loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ident = threading.get_ident()
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        except BaseException as error:  # noqa: BLE001 - such as a sys.exit() in a callback
            self._crashed(error)
        finally:
            loop.run_until_complete(_end_all(loop))
            loop.close()

    def is_mine(self) -> bool:
        """Return whether the caller runs on the loop, where it must not be blocked."""
        loop = self.loop
        return loop is not None and asyncio._get_running_loop() is loop

    def opened_here(self) -> None:
        """Note that a plain call of the caller's opened the journal."""
        self._opened_on = running_loop()

    def may_block(self) -> bool:
        """
        Return whether the caller may wait for a commit.

        On the caller's own loop it may if a plain call has opened the journal there, as
        in a notebook: that has blocked the loop for longer than a commit does.
        """
        loop = running_loop()
        return loop is None or (loop is self._opened_on and loop is not self.loop)

    def call(self, fn: Callable[..., Any], *args: Any) -> bool:
        """Call *fn* on the loop, from any thread; False if the loop has been closed."""
        loop = self.get()
        if asyncio._get_running_loop() is loop:
            loop.call_soon(fn, *args)
            return True
        try:
            loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:
            return False
        return True

    def close(self, timeout: float) -> None:
        """End the private loop; a loop of the caller's program goes on."""
        if self._pulse is not None and self.loop is not None:
            # The loop may be closed already.
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._end_pulse)
        thread, loop = self._thread, self._private
        if thread is None or loop is None:
            return
        try:
            loop.call_soon_threadsafe(loop.stop)
        except RuntimeError:
            return
        if thread is not threading.current_thread():
            join(thread, timeout)

    def _end_pulse(self) -> None:
        if self._pulse is not None:
            self._pulse.cancel()


async def _end_all(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left on *loop*, which is about to be closed, and tidy up."""
    left = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


# -- attempts that are coroutines, on the event loop of the runtime --------------------


class _Driven:
    """A coroutine that runs, or will; its fields belong to the loop."""

    __slots__ = ("task",)

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Cancel the coroutine, once; called on the loop, after it was made."""
        if self.task is not None:
            self.task.cancel()


class Coroutines(AttemptExecutor[_Driven]):
    """
    Makes each attempt an asyncio task.

    The loop makes calls in the order in which it got them, so an attempt is stopped
    after it was made.
    """

    def __init__(self, loops: LoopHost) -> None:
        self._loops = loops

    def begin(self, attempt: Attempt) -> _Driven:
        """Create the asyncio task of *attempt* on the loop."""
        driven = _Driven()
        if not self._loops.call(self._make, attempt, driven):
            task_id = attempt.task_id
            msg = f"task {task_id}: the event loop has been closed"
            raise TaskFailedError(msg, task_id=task_id)
        return driven

    def stop(self, begun: _Driven, grace: float) -> None:
        """Cancel the asyncio task on the loop."""
        del grace
        self._loops.call(begun.cancel)

    @defers_interrupts
    def _make(self, attempt: Attempt, driven: _Driven) -> None:
        """Make the asyncio task that does the attempt; called on the loop."""
        if attempt.cancelled:
            attempt.end(error=AttemptInterrupted("stopped before it began"))
            return
        loop = asyncio.get_running_loop()
        driver = _drive(attempt)
        try:
            task = loop.create_task(
                driver, name=attempt.task_id, context=attempt.variables()
            )
        except Exception as error:  # noqa: BLE001 - a task factory is the user's
            driver.close()
            attempt.end(error=error)
            return

        def ended(task: asyncio.Task[None]) -> None:
            # It was cancelled before its first step, so its own code could not report
            # it.
            if task.cancelled():
                attempt.end(error=asyncio.CancelledError())

        driven.task = task
        task.add_done_callback(ended)


def _hand_on_contexts(loop: asyncio.AbstractEventLoop) -> None:
    """Run calls of `run_in_executor` on *loop* in their task's context."""
    run: Any = loop.run_in_executor

    def run_in_context(executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        if executor is None:
            # The default executor has threads, as in `asyncio.to_thread`; another may
            # have processes.
            return run(None, copy_context().run, func, *args)
        return run(executor, func, *args)

    # A loop of another library may take no attributes.
    with suppress(AttributeError):
        loop.run_in_executor = run_in_context  # type: ignore[method-assign,assignment]


async def _drive(attempt: Attempt) -> None:
    value: Any = None
    error: BaseException | None = None
    try:
        fn, args, kwargs = attempt.call()
        value = await fn(*args, **kwargs)
    except BaseException as raised:  # noqa: BLE001 - it is the task's
        error = raised
    try:
        attempt.end(value, error)
    finally:
        # An error's frames lead to this one, so its locals would keep the task alive.
        fn = args = kwargs = None  # type: ignore[assignment]
        del attempt, value, error
