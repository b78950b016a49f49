"""Attempts that are coroutines, on the event loop of the runtime."""

from __future__ import annotations

from typing import Any

from taskorch.errors import AttemptInterrupted, TaskFailedError
from taskorch.protocols import Attempt, AttemptExecutor
from taskorch.runtime._asyncio import asyncio
from taskorch.runtime._interrupts import defers_interrupts
from taskorch.runtime._loops import LoopHost


class _Driven:
    """A coroutine that runs, or will; its fields belong to the loop."""

    __slots__ = ("task",)

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """On the loop, after it was made: cancel it, once."""
        if self.task is not None:
            self.task.cancel()


class Coroutines(AttemptExecutor[_Driven]):
    """
    Makes each attempt a task of asyncio's.

    The loop calls in the order in which it was asked to, so an attempt is stopped after
    it was made.
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
        """On the loop: make the task that does the attempt."""
        if attempt.cancelled:
            attempt.end(error=AttemptInterrupted("stopped before it began"))
            return
        loop = asyncio.get_running_loop()
        driver = _drive(attempt)
        try:
            task = loop.create_task(
                driver, name=attempt.task_id, context=attempt.variables()
            )
        except Exception as error:  # noqa: BLE001 - a task factory of the user's
            driver.close()
            attempt.end(error=error)
            return

        def ended(task: asyncio.Task[None]) -> None:
            # Cancelled before its first step: it could not say so itself.
            if task.cancelled():
                attempt.end(error=asyncio.CancelledError())

        driven.task = task
        task.add_done_callback(ended)


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
        # The frames of an error lead to this one: it keeps no task alive.
        fn = args = kwargs = None  # type: ignore[assignment]
        del attempt, value, error
