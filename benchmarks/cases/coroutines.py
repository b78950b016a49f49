"""Coroutine functions as tasks, beside the same coroutines without an orchestrator."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from benchmarks._figures import ASYNCIO, Row
from benchmarks._registry import Run, case
from benchmarks._timing import interleave
from benchmarks._workloads import CONCURRENCY, gather_noops, noop_coroutine
from taskorch import TaskOrchestrator


async def _gather_through(orch: TaskOrchestrator, count: int) -> None:
    """Submit the coroutine function again and again, then await every handle."""
    await asyncio.gather(*[orch.submit(noop_coroutine) for _ in range(count)])


@case("coroutines")
def gathered(run: Run) -> Iterator[Row]:
    """No-op coroutine functions submitted from a coroutine and gathered."""
    count = run.size(10_000, quick=1_000)

    async def enter() -> TaskOrchestrator:
        return await TaskOrchestrator(concurrency=CONCURRENCY).__aenter__()

    async def leave(orch: TaskOrchestrator) -> None:
        await orch.__aexit__(None, None, None)

    with asyncio.Runner() as runner:
        orch = runner.run(enter())
        rounds = interleave(
            {
                "taskorch": lambda: runner.run(_gather_through(orch, count)),
                ASYNCIO: lambda: runner.run(gather_noops(count)),
            },
            rounds=run.pairs,
            warmups=2,
        )
        runner.run(leave(orch))
    yield Row(
        what="coroutines, gathered",
        ours=rounds.each("taskorch", count),
        peers={ASYNCIO: rounds.each(ASYNCIO, count)},
        measured=rounds.speed("taskorch", ASYNCIO),
        note=f"time a task, {count:,} tasks, {CONCURRENCY} at once (asyncio: all), "
        f"{run.pairs} rounds; measured: ratio of speeds to asyncio",
    )
