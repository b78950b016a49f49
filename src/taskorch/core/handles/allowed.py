"""
The results of a `map` of which some calls may fail: errors stand in their places.

Decision: failures-and-recovery.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence, Sized
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from taskorch.core.engine import Latch, allowed_error, error_of, row_of, runtime_of
from taskorch.core.handles.handles import Ahead, MapResults, TaskHandle
from taskorch.kit.allowance import Allowance
from taskorch.kit.interrupts import defers_interrupts, takes_interrupts
from taskorch.model import TaskState

T = TypeVar("T")


class MapFailures:
    """
    The failures among the calls of a map.

    Args:
        value: How many may be: see `Allowance`.
        iterables: One for each argument; the shortest ends it.

    Raises:
        InvalidTaskError: *value* says no number.
    """

    def __init__(self, value: object, iterables: Sequence[Iterable[Any]]) -> None:
        self.allowance: Allowance = Allowance(value)
        self._total: int | None = None
        if iterables and all(isinstance(each, Sized) for each in iterables):
            self._total = min(
                len(each) for each in iterables if isinstance(each, Sized)
            )
        self._count = 0
        self._failed: dict[TaskHandle[Any], None] = {}
        #: Wakes callers that wait for results.
        self.wake: Callable[[], object] = int

    def watch(self, handles: Any) -> Any:
        """Count the failures among *handles*, which are new, from now on."""
        self._count += len(handles)
        for handle in handles:
            waiting = runtime_of(handle).waiting
            waiting.when(handle, waiting.is_told, partial(self._tell, handle))
        return handles

    def _tell(self, handle: TaskHandle[Any]) -> None:
        self._note(handle)
        self.wake()

    def _note(self, handle: TaskHandle[Any]) -> None:
        if row_of(handle).state is TaskState.FAILED:
            self._failed[handle] = None

    def value_of_first(self, ahead: Ahead[T]) -> T:
        """
        Return the result of the first call, which has ended, or its allowed error.

        Raises:
            TooManyFailuresError: More calls have failed than may.
        """
        # Who waits for the call may be woken before its end is told here.
        self._note(ahead.handles[0])
        self.check(ahead)
        result: T = _value_of(ahead.handles[0])
        ahead.taken(result)
        return result

    def check(self, ahead: Ahead[Any]) -> None:
        """
        Look at the calls that have failed.

        Raises:
            TooManyFailuresError: They are more than may.
        """
        total = self._count if ahead.is_over and self._total is None else self._total
        most = self.allowance.most(total)
        failed = [*self._failed]
        if most is None or len(failed) <= most:
            return
        errors = [(each.task_id, error_of(each)) for each in failed]
        rest = "calls that have not begun are cancelled, and those that run go on"
        whose = "the map"
        raise self.allowance.error(whose, errors, total, rest)

    def results(self, ahead: Ahead[T], end: float | None) -> MapResults[T]:
        """Return the results of the calls, with errors in place of failed ones."""
        return _Results(ahead, end, self)

    async def next_result(self, ahead: Ahead[T], end: float | None) -> T:
        """
        The result of the first call that is *ahead*, or its error, if that may be.

        Raises:
            TooManyFailuresError: More calls have failed than may.
            TimeoutError: It is not there by *end*.
        """
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(woken.set)

        async def ended() -> None:
            with suppress(Exception):
                await ahead.handles[0]

        self.wake = wake
        waiting = asyncio.ensure_future(ended())
        waiting.add_done_callback(lambda _: woken.set())
        try:
            async with asyncio.timeout(None if end is None else end - monotonic()):
                self.check(ahead)
                while not waiting.done():
                    await woken.wait()
                    woken.clear()
                    self.check(ahead)
        finally:
            waiting.cancel()
        return self.value_of_first(ahead)


def _value_of(handle: TaskHandle[Any]) -> Any:
    """The result of *handle*, which has ended; or the error that stands for it."""
    error = allowed_error(handle)
    if error is None:
        return handle.result(0)
    runtime_of(handle).notices.ask(handle)
    return error


class _Results(MapResults[T]):
    """The results of a map, in order; of a call that failed, and may, the error."""

    def __init__(
        self, ahead: Ahead[T], end: float | None, failures: MapFailures
    ) -> None:
        super().__init__(ahead, end)
        self._failures = failures
        self._latch = Latch()
        failures.wake = self._latch.set

    @defers_interrupts
    def __next__(self) -> T:
        self._is_asked = True
        ahead = self._ahead
        try:
            if ahead.wants_more():
                ahead.fill()
            self._failures.check(ahead)
            if not ahead.handles:
                raise StopIteration  # noqa: TRY301 - it closes the rest, as errors do
            self._wait(ahead.handles[0])
            return self._failures.value_of_first(ahead)
        except BaseException:
            self.close()
            raise

    @takes_interrupts
    def _wait(self, first: TaskHandle[T]) -> None:
        waiting = runtime_of(first).waiting
        while not waiting.is_told(first):
            if not waiting.until(self._latch, (first,), self._left()):
                first.result(0)
            self._failures.check(self._ahead)

    def _left(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - monotonic())
