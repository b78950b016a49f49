"""`orch.aio`: the same names as awaitables. One thin adapter, no second engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from taskorch._handles import TaskHandle
from taskorch.runtime._work import capture

if TYPE_CHECKING:
    from taskorch._orchestrator import TaskOrchestrator
    from taskorch.model import (
        Explanation,
        Health,
        Stats,
        StopReport,
        Task,
        TaskState,
        TaskStatus,
    )

__all__ = ("AsyncOrchestrator",)

T = TypeVar("T")


class AsyncOrchestrator:
    """
    The orchestrator for coroutines: what could block is done on another thread.

    Handles are awaitable themselves.
    """

    def __init__(self, orchestrator: TaskOrchestrator) -> None:
        self._orch = orchestrator

    async def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> TaskHandle[Any]:
        """See `TaskOrchestrator.submit`."""
        return await asyncio.to_thread(self._orch.submit, fn, *args, **kwargs)

    async def submit_task(self, task: Task) -> TaskHandle[Any]:
        """See `TaskOrchestrator.submit_task`; a slow validator does not block."""
        return await asyncio.to_thread(self._orch.submit_task, task)

    async def submit_tasks(self, tasks: Iterable[Task]) -> list[TaskHandle[Any]]:
        """See `TaskOrchestrator.submit_tasks`; slow validators do not block."""
        return await asyncio.to_thread(self._orch.submit_tasks, list(tasks))

    async def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,  # noqa: ASYNC109 - the name of the contract
    ) -> AsyncIterator[Any]:
        """
        See `TaskOrchestrator.map`: `async for result in orch.aio.map(…)`.

        All calls are submitted when the first result is asked for.
        """
        end = None if timeout is None else monotonic() + timeout
        calls = list(zip(*iterables, strict=False))
        works = await asyncio.to_thread(
            self._orch._rt.submit_calls, fn, calls, capture()
        )
        works.reverse()
        while works:
            handle = cast("TaskHandle[Any]", works.pop())
            # Only around the wait: what follows the yield is not ours to cut short.
            async with asyncio.timeout(None if end is None else end - monotonic()):
                result = await handle
            yield result

    async def cancel_task(self, task_id: str) -> bool:
        """See `TaskOrchestrator.cancel_task`."""
        return self._orch.cancel_task(task_id)

    async def suspend_task(self, task_id: str) -> bool:
        """See `TaskOrchestrator.suspend_task`."""
        return self._orch.suspend_task(task_id)

    async def resume_task(self, task_id: str) -> bool:
        """See `TaskOrchestrator.resume_task`."""
        return self._orch.resume_task(task_id)

    async def set_priority(self, task_id: str, priority: int) -> bool:
        """See `TaskOrchestrator.set_priority`."""
        return self._orch.set_priority(task_id, priority)

    async def decide(
        self,
        task_id: str,
        verdict: Literal["retry", "fail", "complete"],
        result: Any = None,
    ) -> bool:
        """See `TaskOrchestrator.decide`."""
        return self._orch.decide(task_id, verdict, result)

    async def rerun_task(self, task_id: str) -> TaskHandle[Any]:
        """See `TaskOrchestrator.rerun_task`."""
        return self._orch.rerun_task(task_id)

    async def expire_tasks(self, older_than: float) -> list[str]:
        """See `TaskOrchestrator.expire_tasks`."""
        return self._orch.expire_tasks(older_than)

    async def handle(self, task_id: str) -> TaskHandle[Any]:
        """See `TaskOrchestrator.handle`."""
        return self._orch.handle(task_id)

    async def get_task_status(self, task_id: str) -> TaskStatus:
        """See `TaskOrchestrator.get_task_status`."""
        return self._orch.get_task_status(task_id)

    async def tasks(
        self,
        state: TaskState | str | None = None,
        older_than: float | None = None,
        limit: int | None = 1_000,
    ) -> list[TaskStatus]:
        """See `TaskOrchestrator.tasks`."""
        return self._orch.tasks(state, older_than, limit)

    async def get_stats(self) -> Stats:
        """See `TaskOrchestrator.get_stats`."""
        return self._orch.get_stats()

    async def explain(self, task_id: str) -> Explanation:
        """See `TaskOrchestrator.explain`."""
        return self._orch.explain(task_id)

    async def health(self) -> Health:
        """See `TaskOrchestrator.health`."""
        return self._orch.health()

    async def start(self) -> None:
        """See `TaskOrchestrator.start`; coroutines run on the running loop."""
        self._orch._rt.loops.adopt(asyncio.get_running_loop())
        self._orch.start()

    async def wait(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - the name of the contract
    ) -> bool:
        """See `TaskOrchestrator.wait`."""
        return await asyncio.to_thread(self._orch.wait, timeout)

    async def stop(
        self,
        drain: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - the name of the contract
    ) -> StopReport:
        """See `TaskOrchestrator.stop`."""
        return await asyncio.to_thread(self._orch.stop, drain, timeout)
