"""`TaskOrchestrator`: one orchestrator, for threads and for coroutines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from taskorch._orchestrator import BlockingOrchestrator
from taskorch.model._suggesting import suggesting
from taskorch.runtime import _stop_signals
from taskorch.runtime._asyncio import asyncio, asyncio_loop

if TYPE_CHECKING:
    from types import TracebackType

    from taskorch._aio import AsyncOrchestrator

__all__ = ("TaskOrchestrator",)


@suggesting
class TaskOrchestrator(BlockingOrchestrator):
    """
    Validates, orders, routes, runs, retries, times and explains tasks.

    Use it in a `with` or an `async with` block. Nothing is started, and no file or
    clock is touched for work, before the block is entered or `start` is called; what
    is submitted earlier waits until then. All methods may be called from any thread.

    Ctrl-C never leaves an orchestrator that cannot be used; one that comes during a
    step arrives at its end. For that, `start` on the main thread puts a handler in the
    place of Python's own for SIGINT, and the last `stop` takes it back.

    Args:
        registry: Which agents match a task (`CapabilityRegistry`).
        router: Which of them does it (`PerformanceRouter`).
        validator: Whether a task is accepted (`StructuralValidator`).
        state_machine: A view of the states of your own (`StandardStateMachine`).
        queue: Order and admission (`PriorityQueue`).
        retry_handler: What follows a failure (`BackoffRetryHandler`).
        allocator: Who gets resources (`PoolAllocator`: all or nothing).
        journal: None keeps all in memory. A path makes it durable: what was submitted
            there survives the process, and goes on when the same path is opened again.
            Or a journal: `SqliteJournal(…)`, `MemoryJournal(…)`, or one of your own.
        resources: The pools; None is this machine's `cpu` and `memory_mb`.
        concurrency: Attempts that run at once.
        executors: Executors of your own, by name: of `concurrent.futures`, or each an
            `AttemptExecutor`.
        durability: Of a journal that is given by its path: `"power"` survives a loss
            of power, `"process"` only the death of the process, and is much faster.
        keep_finished: Finished tasks that stay in memory.
        max_queued: Queued tasks beyond which none is admitted; None is without limit.
        unknown_capability: Whether a task that no agent can do is refused
            (`"refuse"`) or waits for one (`"wait"`).
        stop_timeout: Seconds that the end of the block waits for work to finish;
            None is for ever.
        rerun_failed: Whether a task or a workflow that had failed in an earlier life
            of a durable orchestrator runs again when it is submitted again. In the
            same life it stays failed.
        seed: Repeats every random choice.
        monitor_interval: Seconds between monitoring events, while somebody listens.
        tracer_provider: Whose OpenTelemetry spans are made; None is the provider that
            has been set for the process by now, or by the start. If none has, no spans
            are made, and nothing of OpenTelemetry is imported.
        meter_provider: Whose OpenTelemetry metrics are measured; None likewise.

    Raises:
        InvalidTaskError: An argument is out of its range, or a part lacks a method.
    """

    _aio: AsyncOrchestrator | None = None

    @property
    def aio(self) -> AsyncOrchestrator:
        """The same methods as awaitables."""
        if self._aio is None:
            from taskorch._aio import AsyncOrchestrator  # noqa: PLC0415 - asyncio's world

            self._aio = AsyncOrchestrator(self)
        return self._aio

    async def __aenter__(self) -> Self:
        loop = asyncio_loop("the start of an orchestrator", "orch.start")
        self._rt.loops.adopt(loop)
        if self._rt.committer is not None:
            # A journal can take a while to read.
            await asyncio.to_thread(self.start)
        else:
            self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        was_stopped = self._rt.closed
        report = await _stop_signals.end_block_of_coroutine(
            self._lifecycle, self.aio.stop, error
        )
        if kind is None and not was_stopped:
            self._rt.notices.block_ended(report)
