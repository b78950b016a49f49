"""`orch.aio`: the same names as awaitables. One thin adapter, no second engine."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Mapping,
)
from datetime import timedelta
from functools import partial
from itertools import islice
from time import monotonic
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    ParamSpec,
    TypeVar,
    Unpack,
    overload,
)

from taskorch._ahead import Ahead
from taskorch._handles import TaskHandle
from taskorch._limits import FOLLOWED_EVENTS, KEEP_EVENTS
from taskorch._suggesting import no_attribute
from taskorch._with_options import CallOptions
from taskorch.model import to_patience
from taskorch.runtime._asyncio import asyncio_loop
from taskorch.runtime._interrupts import restore_handlers
from taskorch.runtime._work import capture

if TYPE_CHECKING:
    from taskorch._following import EventStream
    from taskorch._managers import HeldResources, WorkflowRun
    from taskorch._orchestrator import TaskOrchestrator
    from taskorch.events import Event
    from taskorch.model import (
        Agent,
        Explanation,
        FilterFields,
        Health,
        PoolUsage,
        Quota,
        QuotaUsage,
        Resources,
        Stats,
        StopReport,
        Stuck,
        Task,
        TaskFilter,
        TaskOptions,
        TaskState,
        TaskStatus,
    )
    from taskorch.planning import (
        ExecutionPlan,
        Given,
        ResourceEstimate,
        ValidationResult,
    )
    from taskorch.protocols import AttemptExecutor
    from taskorch.runtime._runtime import Runtime
    from taskorch.simulation._plans._chance import Durations, Failures
    from taskorch.simulation._plans._report import SimulationReport
    from taskorch.workflows import Workflow, WorkflowStatus

P = ParamSpec("P")
T = TypeVar("T")

#: Statuses that are handed over at once.
_PAGE: Final = 200


def is_prompt(orch: TaskOrchestrator) -> bool:
    """
    Whether what concerns one task of *orch* can be done on an event loop.

    It waits for nobody there, if there is no journal, no part of a user's, and nobody
    to whom spans are exported; and the way to a thread would cost ten times as much.
    """
    rt = orch._rt
    return rt.committer is None and rt.spans is None and rt.deciders.are_own


class AsyncOrchestrator:
    """
    The orchestrator for coroutines: what could block is done on another thread.

    Handles are awaitable themselves.
    """

    def __init__(self, orchestrator: TaskOrchestrator) -> None:
        self._orch = orchestrator

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise no_attribute(self, name)

    async def _committed(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call *call*; what must be kept is waited for without blocking the loop."""
        committer = self._orch._rt.committer
        if committer is None:
            return call(*args, **kwargs)
        if not self._orch._rt.opened:
            await _on_thread(self._orch._rt.open)
        with committer.deferred() as seqs:
            result = call(*args, **kwargs)
        await committer.wait_kept_async(seqs)
        return result

    async def _asked(self, call: Callable[..., T], *args: Any) -> T:
        """Call *call*, which may have to look into the journal."""
        if self._orch._rt.committer is None:
            return call(*args)
        return await _on_thread(call, *args)

    @overload
    async def submit(
        self, fn: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any
    ) -> TaskHandle[T]: ...

    @overload
    async def submit(
        self, fn: Callable[..., T], /, *args: Any, **kwargs: Any
    ) -> TaskHandle[T]: ...

    async def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> TaskHandle[Any]:
        """See `TaskOrchestrator.submit`."""
        rt = self._orch._rt
        if rt.committer is not None and rt.knows(fn):
            # No policy of the user's is asked here: only the commit takes time.
            return await self._committed(self._orch.submit, fn, *args, **kwargs)
        return await _on_thread(self._orch.submit, fn, *args, **kwargs)

    async def submit_task(
        self, task: Task[T], *, replace: bool = False
    ) -> TaskHandle[T]:
        """See `TaskOrchestrator.submit_task`; a slow validator does not block."""
        if is_prompt(self._orch):
            return self._orch.submit_task(task, replace=replace)
        return await _on_thread(self._orch.submit_task, task, replace=replace)

    async def submit_tasks(self, tasks: Iterable[Task[T]]) -> list[TaskHandle[T]]:
        """See `TaskOrchestrator.submit_tasks`; slow validators do not block."""
        return await _on_thread(self._orch.submit_tasks, list(tasks))

    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        /,
        *iterables: Iterable[Any],
        timeout: float | timedelta | None = None,
        buffersize: int | None = None,
    ) -> AsyncIterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        timeout: float | timedelta | None = None,
        buffersize: int | None = None,
    ) -> AsyncIterator[T]: ...

    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        timeout: float | timedelta | None = None,
        buffersize: int | None = None,
    ) -> AsyncIterator[Any]:
        """
        See `TaskOrchestrator.map`: `async for result in orch.aio.map(…)`.

        Nothing is submitted before the first result is asked for. Close it
        (`contextlib.aclosing`) if you leave it early: what has not begun is cancelled.
        """
        rt = self._orch._rt
        ctx = capture(rt.spans)

        def submit(calls: list[tuple[Any, ...]]) -> Any:
            return rt.submit_calls(fn, calls, ctx)

        return _map_calls(rt, submit, iterables, timeout, buffersize)

    def options(
        self, *, executor: str | None = None, **task_options: Unpack[TaskOptions]
    ) -> AsyncWithOptions:
        """See `TaskOrchestrator.options`."""
        return AsyncWithOptions(self._orch, CallOptions(executor, task_options))

    def events(
        self,
        *,
        task: str | TaskHandle[Any] | None = None,
        types: str | type[Event] | Iterable[str | type[Event]] | None = None,
        buffer: int = FOLLOWED_EVENTS,
    ) -> EventStream:
        """See `TaskOrchestrator.events`: `async for event in orch.aio.events()`."""
        return self._orch.events(task=task, types=types, buffer=buffer)

    async def cancel_task(
        self, task_id: str, *, reason: str = "cancelled by the user"
    ) -> bool:
        """See `TaskOrchestrator.cancel_task`."""
        return await self._committed(self._orch.cancel_task, task_id, reason=reason)

    async def suspend_task(self, task_id: str) -> bool:
        """See `TaskOrchestrator.suspend_task`."""
        return await self._committed(self._orch.suspend_task, task_id)

    async def resume_task(self, task_id: str) -> bool:
        """See `TaskOrchestrator.resume_task`."""
        return await self._committed(self._orch.resume_task, task_id)

    async def set_priority(self, task_id: str, priority: int) -> bool:
        """See `TaskOrchestrator.set_priority`."""
        return await self._committed(self._orch.set_priority, task_id, priority)

    async def reward_task(
        self,
        task_id: str,
        value: float,
        *,
        attempt: int | None = None,
        source: str = "user",
    ) -> bool:
        """See `TaskOrchestrator.reward_task`."""
        return await self._committed(
            partial(self._orch.reward_task, attempt=attempt, source=source),
            task_id,
            value,
        )

    async def decide(
        self,
        task_id: str,
        verdict: Literal["retry", "fail", "complete"],
        result: Any = None,
        reason: str = "",
    ) -> bool:
        """See `TaskOrchestrator.decide`."""
        return await self._committed(
            self._orch.decide, task_id, verdict, result, reason
        )

    async def emit(
        self, name: str, payload: Any = None, *, keep: float | timedelta = KEEP_EVENTS
    ) -> int:
        """See `TaskOrchestrator.emit`."""
        return await self._committed(self._orch.emit, name, payload, keep=keep)

    async def rerun_task(
        self, task_id: str, *, downstream: bool | None = None
    ) -> TaskHandle[Any]:
        """See `TaskOrchestrator.rerun_task`."""
        return await self._committed(
            self._orch.rerun_task, task_id, downstream=downstream
        )

    async def change_tasks(
        self,
        action: Literal["cancel", "suspend", "resume", "rerun", "set_priority"],
        **which: Any,
    ) -> list[str]:
        """See `TaskOrchestrator.change_tasks`."""
        return await self._asked(partial(self._orch.change_tasks, action, **which))

    async def expire_tasks(self, older_than: float | timedelta) -> list[str]:
        """See `TaskOrchestrator.expire_tasks`."""
        return await self._committed(self._orch.expire_tasks, older_than)

    async def handle(self, task_id: str) -> TaskHandle[Any]:
        """See `TaskOrchestrator.handle`."""
        return await self._asked(self._orch.handle, task_id)

    async def get_task_status(self, task_id: str) -> TaskStatus:
        """See `TaskOrchestrator.get_task_status`."""
        return await self._asked(self._orch.get_task_status, task_id)

    async def tasks(
        self,
        state: TaskFilter | TaskState | str | None = None,
        **fields: Unpack[FilterFields],
    ) -> AsyncIterator[TaskStatus]:
        """See `TaskOrchestrator.tasks`: `async for status in orch.aio.tasks(…)`."""
        found = await self._asked(partial(self._orch.tasks, state, **fields))
        page: list[TaskStatus]
        while page := await self._asked(list, islice(found, _PAGE)):
            for status in page:
                yield status

    async def get_stats(self) -> Stats:
        """See `TaskOrchestrator.get_stats`."""
        return await self._asked(self._orch.get_stats)

    async def explain(self, task_id: str, *, estimates: bool = True) -> Explanation:
        """See `TaskOrchestrator.explain`."""
        return self._orch.explain(task_id, estimates=estimates)

    async def stuck(self) -> tuple[Stuck, ...]:
        """See `TaskOrchestrator.stuck`; it is looked for on another thread."""
        return await _on_thread(self._orch.stuck)

    async def simulate(
        self,
        workflow: Workflow | ExecutionPlan | Iterable[Task],
        durations: Durations = None,
        *,
        failures: Failures = None,
        draws: int = 1,
        seed: int = 0,
    ) -> SimulationReport:
        """See `TaskOrchestrator.simulate`; it is made whole on another thread."""

        def simulate() -> SimulationReport:
            report = self._orch.simulate(
                workflow, durations, failures=failures, draws=draws, seed=seed
            )
            # The text computes the parts of the report that are computed on first use.
            str(report)
            return report

        return await _on_thread(simulate)

    async def health(self) -> Health:
        """See `TaskOrchestrator.health`."""
        return self._orch.health()

    @property
    def workflows(self) -> AsyncWorkflows:
        """See `TaskOrchestrator.workflows`."""
        return AsyncWorkflows(self)

    @property
    def planner(self) -> AsyncPlanner:
        """See `TaskOrchestrator.planner`."""
        return AsyncPlanner(self)

    @property
    def resources(self) -> AsyncResources:
        """See `TaskOrchestrator.resources`."""
        return AsyncResources(self)

    @property
    def agents(self) -> AsyncAgents:
        """See `TaskOrchestrator.agents`."""
        return AsyncAgents(self)

    async def start(self) -> None:
        """See `TaskOrchestrator.start`; coroutines run on the running loop."""
        self._orch._rt.loops.adopt(asyncio_loop("orch.aio.start()", "orch.start"))
        if self._orch._rt.committer is not None:
            await _on_thread(self._orch.start)
        else:
            self._orch.start()

    async def wait(
        self,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - the contract's name
    ) -> bool:
        """See `TaskOrchestrator.wait`."""
        return await _on_thread(self._orch.wait, timeout)

    async def stop(
        self,
        drain: bool = True,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - the contract's name
    ) -> StopReport:
        """See `TaskOrchestrator.stop`."""
        try:
            return await _on_thread(self._orch.stop, drain, timeout)
        finally:
            # The signal handlers can be restored from the main thread only.
            restore_handlers()


class AsyncWithOptions:
    """`orch.options(…)` for coroutines."""

    def __init__(self, orchestrator: TaskOrchestrator, options: CallOptions) -> None:
        self._orch = orchestrator
        self._options = options

    @overload
    async def submit(
        self, fn: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any
    ) -> TaskHandle[T]: ...

    @overload
    async def submit(
        self, fn: Callable[..., T], /, *args: Any, **kwargs: Any
    ) -> TaskHandle[T]: ...

    async def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> TaskHandle[Any]:
        """See `WithOptions.submit`."""
        task = self._options.task(fn, args, kwargs)
        return await self._orch.aio.submit_task(task)

    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        /,
        *iterables: Iterable[Any],
        id: str | None = None,
        timeout: float | timedelta | None = None,
        buffersize: int | None = None,
    ) -> AsyncIterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        id: str | None = None,
        timeout: float | timedelta | None = None,
        buffersize: int | None = None,
    ) -> AsyncIterator[T]: ...

    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        id: str | None = None,  # noqa: A002 - as that of a task
        timeout: float | timedelta | None = None,
        buffersize: int | None = None,
    ) -> AsyncIterator[Any]:
        """See `WithOptions.map`, and `AsyncOrchestrator.map`."""
        rt, make = self._orch._rt, self._options.tasks_of(fn, id)

        def submit(calls: list[tuple[Any, ...]]) -> Any:
            return rt.submit_tasks(make(calls))

        return _map_calls(rt, submit, iterables, timeout, buffersize)


class AsyncPlanner:
    """`orch.planner` for coroutines: plans are made on another thread."""

    def __init__(self, aio: AsyncOrchestrator) -> None:
        self._planner = aio._orch.planner

    async def plan(self, request: Given, *, cache: bool = True) -> ExecutionPlan:
        """See `Planner.plan`."""
        return await _on_thread(partial(self._planner.plan, request, cache=cache))

    async def validate(self, plan: ExecutionPlan) -> ValidationResult:
        """See `Planner.validate`."""
        return await _on_thread(partial(self._planner.validate, plan))

    async def optimize(
        self, plan: ExecutionPlan, *, seconds: float = 1.0, **options: Any
    ) -> ExecutionPlan:
        """See `Planner.optimize`."""
        optimize = partial(self._planner.optimize, plan, seconds=seconds, **options)
        return await _on_thread(optimize)

    async def estimate(self, plan: ExecutionPlan) -> ResourceEstimate:
        """See `Planner.estimate`."""
        return await _on_thread(partial(self._planner.estimate, plan))


class AsyncWorkflows:
    """`orch.workflows` for coroutines. A run is awaitable itself."""

    def __init__(self, aio: AsyncOrchestrator) -> None:
        self._aio = aio
        self._manager = aio._orch.workflows

    async def start(
        self,
        workflow: Workflow | ExecutionPlan,
        id: str | None = None,  # noqa: A002 - the contract's name
        **options: Any,
    ) -> WorkflowRun:
        """See `WorkflowManager.start`; slow validators do not block."""
        start = partial(self._manager.start, workflow, id, **options)
        return await _on_thread(start)

    async def get(self, run_id: str) -> WorkflowRun:
        """See `WorkflowManager.get`."""
        return await self._aio._asked(self._manager.get, run_id)

    async def find(self, pattern: str = "*") -> list[WorkflowRun]:
        """See `WorkflowManager.find`."""
        return await self._aio._asked(self._manager.find, pattern)

    async def status(self, run_id: str) -> WorkflowStatus:
        """See `WorkflowManager.status`."""
        return await self._aio._asked(self._manager.status, run_id)

    async def cancel(self, run_id: str, *, reason: str | None = None) -> bool:
        """See `WorkflowManager.cancel`."""
        cancel = partial(self._manager.cancel, reason=reason)
        return await self._aio._asked(cancel, run_id)

    async def pause(self, run_id: str) -> bool:
        """See `WorkflowManager.pause`."""
        return await self._aio._asked(self._manager.pause, run_id)

    async def wait_paused(
        self,
        run_id: str,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - the name of the contract
    ) -> bool:
        """See `WorkflowRun.wait_paused`."""
        run = await self.get(run_id)
        return await _on_thread(run.wait_paused, timeout)

    async def resume(self, run_id: str) -> bool:
        """See `WorkflowManager.resume`."""
        return await self._aio._asked(self._manager.resume, run_id)

    async def approve(self, run_id: str, gate: str, *, by: str, note: str = "") -> bool:
        """See `WorkflowManager.approve`."""
        approve = partial(self._manager.approve, run_id, gate, by=by, note=note)
        return await self._aio._asked(approve)

    async def reject(self, run_id: str, gate: str, *, by: str, note: str = "") -> bool:
        """See `WorkflowManager.reject`."""
        reject = partial(self._manager.reject, run_id, gate, by=by, note=note)
        return await self._aio._asked(reject)

    async def restart(self, run_id: str) -> WorkflowRun:
        """See `WorkflowManager.restart`."""
        return await self._aio._asked(self._manager.restart, run_id)


class AsyncAgents:
    """`orch.agents` for coroutines."""

    def __init__(self, aio: AsyncOrchestrator) -> None:
        self._aio = aio
        self._manager = aio._orch.agents

    async def join(self, agent: Agent, executor: AttemptExecutor[Any]) -> None:
        """See `AgentManager.join`."""
        await self._aio._asked(self._manager.join, agent, executor)

    async def beat(
        self, name: str, attempts: Iterable[tuple[str, int]]
    ) -> list[tuple[str, int]]:
        """See `AgentManager.beat`."""
        return await self._aio._asked(self._manager.beat, name, attempts)

    async def leave(self, name: str, unbegun: Collection[tuple[str, int]] = ()) -> bool:
        """See `AgentManager.leave`."""
        return await self._aio._asked(self._manager.leave, name, unbegun)

    async def is_lost(self, name: str) -> bool:
        """See `AgentManager.is_lost`."""
        return await self._aio._asked(self._manager.is_lost, name)

    async def keep(self) -> None:
        """See `AgentManager.keep`."""
        await self._aio._asked(self._manager.keep)

    async def bring_late(
        self,
        task_id: str,
        fence: tuple[int, int],
        value: Any = None,
        error: BaseException | None = None,
        *,
        agent: str,
    ) -> bool:
        """See `AgentManager.bring_late`."""
        late = partial(self._manager.bring_late, value=value, error=error, agent=agent)
        return await self._aio._asked(late, task_id, fence)


class AsyncResources:
    """`orch.resources` for coroutines."""

    def __init__(self, aio: AsyncOrchestrator) -> None:
        self._aio = aio
        self._manager = aio._orch.resources

    async def resize(self, resources: Resources | Mapping[str, float]) -> None:
        """See `ResourceManager.resize`."""
        await self._aio._asked(self._manager.resize, resources)

    async def set_quotas(self, *quotas: Quota) -> None:
        """See `ResourceManager.set_quotas`."""
        await self._aio._asked(self._manager.set_quotas, *quotas)

    async def quotas(self) -> list[QuotaUsage]:
        """See `ResourceManager.quotas`."""
        return await self._aio._asked(self._manager.quotas)

    async def set_saturation(
        self, threshold: float, relief: float | None = None
    ) -> None:
        """See `ResourceManager.set_saturation`."""
        await self._aio._asked(self._manager.set_saturation, threshold, relief)

    async def usage(self, *, holders: bool = False) -> Mapping[str, PoolUsage]:
        """See `ResourceManager.usage`."""
        return await self._aio._asked(partial(self._manager.usage, holders=holders))

    async def allocate(
        self,
        resources: Resources | Mapping[str, float],
        *,
        owner: str,
        timeout: float | timedelta | None = 0.0,  # noqa: ASYNC109 - as there
        id: str | None = None,  # noqa: A002 - as there
    ) -> HeldResources:
        """
        See `ResourceManager.allocate`.

        Cancelled while it waits, it takes nothing.
        """
        manager = self._manager
        claim = manager._claim(resources, owner, id)
        granting = asyncio.ensure_future(_on_thread(manager._obtain, claim, timeout))
        try:
            return await asyncio.shield(granting)
        except asyncio.CancelledError:
            claim.cargo.end()
            granting.add_done_callback(_release_unwanted)
            raise

    async def release(
        self, allocation: HeldResources | str, *, owner: str | None = None
    ) -> None:
        """See `ResourceManager.release`."""
        release = partial(self._manager.release, allocation, owner=owner)
        await self._aio._asked(release)

    async def allocations(
        self,
        *,
        owner: str | None = None,
        older_than: float | timedelta | None = None,
    ) -> list[HeldResources]:
        """See `ResourceManager.allocations`."""
        ask = partial(self._manager.allocations, owner=owner, older_than=older_than)
        return await self._aio._asked(ask)


def _release_unwanted(granting: asyncio.Future[HeldResources]) -> None:
    """Release a grant whose caller was cancelled meanwhile."""
    if not granting.cancelled() and granting.exception() is None:
        release = granting.result().release
        asyncio.get_running_loop().run_in_executor(None, release)


async def _on_thread(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """
    Call *call* on another thread.

    Raises:
        UsageError: The caller runs on no event loop of asyncio's.
    """
    asyncio_loop("a method of orch.aio", "orch.method")
    return await asyncio.to_thread(call, *args, **kwargs)


async def _map_calls(
    runtime: Runtime,
    submit: Callable[[list[tuple[Any, ...]]], list[TaskHandle[T]]],
    iterables: tuple[Iterable[Any], ...],
    timeout: float | timedelta | None,  # noqa: ASYNC109 - as that of `map`
    buffersize: int | None,
) -> AsyncIterator[T]:
    seconds = to_patience(timeout)
    end = None if seconds is None else monotonic() + seconds
    ahead = Ahead(runtime, submit, iterables, buffersize)
    await _on_thread(ahead.fill, whole=ahead.is_accepted_at_once)
    try:
        while ahead.handles:
            # Not kept in a variable: of a long map, no result stays in memory.
            yield await _next_within(ahead, end)
            if ahead.wants_more():
                await _on_thread(ahead.fill)
    finally:
        ahead.leave()


async def _next_within(ahead: Ahead[T], end: float | None) -> T:
    """The result of the first call that is *ahead*, which goes, if it comes in time."""
    async with asyncio.timeout(None if end is None else end - monotonic()):
        result = await ahead.handles[0]
    ahead.taken(result)
    return result
