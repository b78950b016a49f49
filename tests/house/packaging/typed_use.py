"""
What checkers say of a user's code: never run, but checked by mypy and by pyright.

A line that must be an error says so in a comment: if it is none any more, the comment
is one too many, and that is an error.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any, Unpack, assert_type

from taskorch import (
    ProgramResult,
    RetryPolicy,
    Task,
    TaskExecutor,
    TaskHandle,
    TaskOrchestrator,
    Workflow,
    as_completed,
    task,
)
from taskorch.core.engine._given import Caching, Meter, Pruning, Tracer
from taskorch.core.workers._manager import Spawning
from taskorch.ext.learning import Learned
from taskorch.ext.memo import Memo
from taskorch.ext.recovery import RecoveryHandler
from taskorch.ext.retention import Pruner
from taskorch.ext.schedules import ScheduleManager, ScheduleStatus
from taskorch.ext.spawned._spawned import SpawnedWorkers
from taskorch.ext.telemetry._metrics import Metrics
from taskorch.ext.telemetry._spans import Spans
from taskorch.kit.extension import Extension
from taskorch.kit.verbs import verb
from taskorch.model import TaskOptions
from taskorch.policies import (
    FairShareQueue,
    LeastLoadedRouter,
    PerformanceRouter,
    PriorityQueue,
    ProportionalAllocator,
)
from taskorch.protocols import (
    AgentView,
    Backfills,
    Classifies,
    Context,
    GrantsChunks,
    Learns,
    RanksOwners,
    Recommends,
    Route,
    SetsGrace,
    TaskRouter,
    WaitsForBetter,
)
from taskorch.testing import Simulation


def word(n: int, end: str = "") -> str:
    return f"{n}{end}"


async def load(path: str) -> bytes:
    return path.encode()


def anything() -> Any: ...


def executed(orch: TaskOrchestrator) -> None:
    pool = TaskExecutor(2, journal="runs.db", stop_timeout=timedelta(seconds=1))
    TaskExecutor(orchestrator=orch)
    TaskExecutor(jurnal="runs.db")  # type: ignore[call-arg]
    TaskExecutor(durability="disk")  # type: ignore[arg-type]
    assert_type(pool.submit(word, 1, end="."), Future[str])
    assert_type(pool.submit(load, "path"), Future[bytes])
    assert_type(pool.submit(lambda: 1), Future[int])
    assert_type(pool.submit(anything), Future[Any])


def submitted(orch: TaskOrchestrator) -> None:
    handle = orch.submit(word, 1, end=".")
    assert_type(handle, TaskHandle[str])
    assert_type(handle.result(), str)
    assert_type(handle.result(timedelta(seconds=1)), str)
    assert_type(handle.future(), Future[str])
    # A coroutine function gives what it returns, and a handle may stand for a value.
    assert_type(orch.submit(load, handle), TaskHandle[bytes])
    assert_type(orch.submit(anything), TaskHandle[Any])
    assert_type(orch.submit(lambda: 1), TaskHandle[int])
    assert_type(orch.map(word, [1, 2]), Iterator[str])
    assert_type(orch.map(load, ["a"], timeout=3), Iterator[bytes])
    for ended in as_completed([handle], timeout=timedelta(minutes=1)):
        assert_type(ended, TaskHandle[str])
    number: TaskHandle[int] = orch.submit(word)  # type: ignore[arg-type]
    del number


def described(orch: TaskOrchestrator) -> None:
    call = Task.call(word, 1, timeout=timedelta(minutes=1), resources={"cpu": 2})
    assert_type(call, Task[str])
    assert_type(orch.submit_task(call), TaskHandle[str])
    assert_type(orch.submit_tasks([call]), list[TaskHandle[str]])
    assert_type(orch.submit_task(Task.call(load, "a")).result(), bytes)
    run = orch.submit_task(Task.program(["ls"], priority=3))
    assert_type(run.result(), ProgramResult)
    # What an agent gives back is known by nobody; and no type has to be written.
    review = Task("review", {"path": "a.py"}, after=[call, run, "x"], deadline=60)
    assert_type(review, Task[Any])
    assert_type(orch.submit_task(review).result(), Any)
    Task("later", not_before=datetime.now(UTC), retry=RetryPolicy(3, base=timedelta(1)))


async def awaited(orch: TaskOrchestrator) -> None:
    assert_type(await orch.submit(word, 1), str)
    assert_type(await orch.aio.submit(load, "a"), TaskHandle[bytes])
    assert_type(await orch.aio.submit_task(Task.call(word, 1)), TaskHandle[str])
    assert_type(orch.aio.map(load, ["a"]), AsyncIterator[bytes])


@task(timeout=60, retry=RetryPolicy(3), resources={"cpu": 1})
def declared(n: int, end: str = "") -> str:
    return word(n, end)


@task(timeout=timedelta(minutes=1))
async def declared_too(n: int) -> bytes:
    return bytes(n)


def decorated(orch: TaskOrchestrator) -> None:
    assert_type(declared(1, end="."), str)
    assert_type(orch.submit(declared, 1), TaskHandle[str])
    assert_type(orch.submit(declared_too, 1), TaskHandle[bytes])
    declared("1")  # type: ignore[arg-type]
    task(timout=3)  # type: ignore[call-overload]
    task(id="x")  # type: ignore[call-overload]


def my_own(n: int, **options: Unpack[TaskOptions]) -> Task[str]:
    return Task.call(word, n, **options)


def misspelt() -> None:
    Task("review", timout=3)  # type: ignore[call-arg]
    Task.call(word, 1, timout=3)  # type: ignore[call-overload]
    Task.program(["ls"], timout=3)  # type: ignore[call-arg]
    Task.wait_for("x", priorty=3)  # type: ignore[call-arg]
    Workflow("w").task(word, 1, timout=3)  # type: ignore[call-arg]
    RetryPolicy(max_attempt=3)  # type: ignore[call-arg]
    TaskOrchestrator(concurency=3)  # type: ignore[call-arg]
    TaskOrchestrator.from_config(concurency=3)  # type: ignore[call-arg]
    TaskExecutor(keep_finished_mb=3, concurency=3)  # type: ignore[call-arg]
    Simulation(1, journal="runs.db")  # type: ignore[call-arg]
    my_own(1, timout=3)  # type: ignore[call-arg]


def of_another_type() -> None:
    Task.call(word, 1, timeout="3")  # type: ignore[call-overload]
    Task("review", priority="high")  # type: ignore[arg-type]
    Task("review", resources={"cpu": "2"})  # type: ignore[dict-item]
    Task("review", join="most")  # type: ignore[arg-type]


class Learning:
    """A router that learns, and says so by no base class."""

    waits_for_better = True

    def route(
        self, task: Task, candidates: Sequence[AgentView], context: Context
    ) -> Route:
        return Route(candidates[0].name)

    def choice_of(self, task_id: str, attempt: int) -> tuple[str, float] | None: ...

    def attach(self, orchestrator: TaskOrchestrator) -> None: ...

    def restore(self, kept: Callable[[str], Any]) -> None: ...


def of_a_router(learns: Learns, waits: WaitsForBetter) -> None: ...


def of_a_queue(backfills: Backfills, ranks: RanksOwners) -> None: ...


def of_a_handler(grace: SetsGrace, rules: Classifies, matrix: Recommends) -> None: ...


def of_an_allocator(chunks: GrantsChunks) -> None: ...


def what_a_policy_may_have(router: TaskRouter) -> None:
    if isinstance(router, Learns):
        assert_type(router.choice_of("x", 1), tuple[str, float] | None)
    of_a_router(Learning(), Learning())
    of_a_router(Learned([1, 2]), PerformanceRouter())
    of_a_router(PerformanceRouter(), Learning())  # type: ignore[arg-type]
    of_a_router(Learning(), LeastLoadedRouter())  # type: ignore[arg-type]
    of_a_queue(PriorityQueue(backfill=True), FairShareQueue())
    of_a_queue(PriorityQueue(), PriorityQueue())  # type: ignore[arg-type]
    of_a_handler(RecoveryHandler(), RecoveryHandler(), RecoveryHandler())
    of_an_allocator(ProportionalAllocator())
    TaskOrchestrator(router=Learning())
    TaskOrchestrator(router=PriorityQueue())  # type: ignore[arg-type]


class Mine(Extension):
    name = "mine"
    orch: TaskOrchestrator

    def attach(self, orch: TaskOrchestrator) -> None: ...

    @verb("Count.", "not", "GET /count")
    def count(self, least: int = 0) -> int:
        return least


def what_extensions_give(
    spans: Spans, metrics: Metrics, memo: Memo, pruner: Pruner, workers: SpawnedWorkers
) -> tuple[Tracer, Meter, Caching, Pruning, Spawning]:
    return spans, metrics, memo, pruner, workers


def what_stands_beside_the_core(orch: TaskOrchestrator) -> None:
    assert_type(orch.schedules, ScheduleManager)
    assert_type(orch.schedules.list(), list[ScheduleStatus])
    assert_type(orch.recovery, RecoveryHandler)
    assert_type(orch.extensions[Mine], Mine)
    assert_type(orch.extensions[Mine].count(1), int)
    assert_type(orch.extensions["mine"], Extension)
    assert_type(Mine().orch, TaskOrchestrator)
    TaskOrchestrator(extensions=[Mine()])
    TaskOrchestrator(extensions=[Mine])  # type: ignore[list-item]
    print(orch.mine)  # type: ignore[attr-defined]
