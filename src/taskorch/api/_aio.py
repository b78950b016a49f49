"""
`orch.aio`: the same names as awaitables. One thin adapter, no second engine.

Decision: verbs-and-front-ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
)
from datetime import timedelta
from functools import cache, partial, wraps
from itertools import islice
from time import monotonic
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    ParamSpec,
    TypeVar,
    Unpack,
    overload,
)

from taskorch.api._options import CallOptions
from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.core.engine import (
    NO_KWARGS,
    asyncio_loop,
    capture,
    end_block_of_coroutine,
    restore_handlers,
    runtime_of,
)
from taskorch.core.handles.handles import Ahead, TaskHandle
from taskorch.core.resources import ResourceManager
from taskorch.core.runs._manager import WorkflowManager
from taskorch.core.workers._manager import WorkerManager
from taskorch.kit.checks import called_as, to_patience
from taskorch.kit.limits import FOLLOWED_EVENTS
from taskorch.kit.verbs import Verb, verbs_of
from taskorch.kit.vocabulary import other_attribute

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime
    from taskorch.core.handles.allowed import MapFailures
    from taskorch.core.resources import HeldResources
    from taskorch.core.workflows import Workflow
    from taskorch.events import Event
    from taskorch.ext.controllers import ControllerManager
    from taskorch.ext.memo import MemoManager
    from taskorch.ext.notices.following import EventStream
    from taskorch.ext.planner import (
        ExecutionPlan,
        Given,
        ResourceEstimate,
        ValidationResult,
    )
    from taskorch.ext.schedules import ScheduleManager
    from taskorch.ext.simulation._plans._chance import Durations, Failures
    from taskorch.ext.simulation._plans._report import SimulationReport
    from taskorch.model import (
        FilterFields,
        Resources,
        StopReport,
        Task,
        TaskFilter,
        TaskOptions,
        TaskState,
        TaskStatus,
    )
    from taskorch.protocols import Journal

P = ParamSpec("P")
T = TypeVar("T")

#: The number of statuses that are handed over at once.
_PAGE: Final = 200


def is_prompt(orch: TaskOrchestrator) -> bool:
    """
    Whether what concerns one task of *orch* can be done on an event loop.

    It waits for nobody there, if there is no journal, no part of a user's, and nobody
    to whom spans are exported; and the way to a thread would cost ten times as much.
    """
    rt = runtime_of(orch)
    return rt.committer is None and rt.spans is None and rt.deciders.are_own


class _Face:
    """
    An object of the orchestrator for coroutines.

    A method that does nothing else than the one of the same name there is one line:
    the method, and where it is called. Its signature and its text are taken from it.
    """

    _orch: TaskOrchestrator
    _of: Any


def _made(
    run: Callable[[_Face, Callable[[], Any]], Coroutine[Any, Any, Any]],
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Return a coroutine function that lets *run* call *method* of a face's object."""
    name = method.__name__

    @wraps(method)
    async def call(face: _Face, /, *args: P.args, **kwargs: P.kwargs) -> T:
        # The lookup is by name, because a subclass may have its own method.
        bound = getattr(face._of, name)
        result: T = await run(face, partial(bound, *args, **kwargs))
        return result

    return call


def asked(
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """*method*, which may have to look into the journal: if so, on a thread."""
    return _made(_asked, method)


def on_thread(
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """*method*, which may wait, called on another thread."""
    return _made(_threaded, method)


async def _at_once(_face: _Face, call: Callable[[], T]) -> T:
    # It never waits, and runs on the loop.
    return call()


async def _asked(face: _Face, call: Callable[[], T]) -> T:
    return (
        call() if runtime_of(face._orch).committer is None else await _on_thread(call)
    )


async def _committed(face: _Face, call: Callable[[], T]) -> T:
    # It is called on the loop, and waits without a thread until that is kept.
    rt = runtime_of(face._orch)
    if rt.committer is None:
        return call()
    if not rt.opened:
        await _on_thread(rt.open)
    with rt.committer.deferred() as seqs:
        result = call()
    await rt.committer.wait_kept_async(seqs)
    return result


async def _threaded(_face: _Face, call: Callable[[], T]) -> T:
    return await _on_thread(call)


_WAYS: Final[Mapping[str, Callable[..., Any]]] = {
    "not": _at_once,
    "journal": _asked,
    "commit": _committed,
    "thread": _threaded,
}


def awaited(
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Return the verb *method* as a coroutine function that waits as the verb says."""
    verb: Verb = method.verb  # type: ignore[attr-defined]  # checkers see no marks
    return _made(_WAYS[verb.waits], method)


def _complete(face: type[_Face], of: type) -> None:
    """Give *face* the verbs of a class for which it has no line."""
    for name, verb in verbs_of(of).items():
        if not hasattr(face, name):
            setattr(face, name, awaited(verb.function))


@cache
def _class_of_face(of: type) -> type[_Face]:
    """Return the class for coroutines of a class whose methods are verbs."""
    face = type(f"Async{of.__name__}", (_Face,), {})
    _complete(face, of)
    return face


def _face_of(orch: TaskOrchestrator, of: Any) -> _Face:
    """Return the coroutines for the verbs of *of*, an extension of *orch*."""
    cls: Any = type(of)
    face = _class_of_face(cls)()
    face._orch, face._of = orch, of
    return face


class AsyncOrchestrator(_Face):
    """
    The orchestrator for coroutines: what could block is done on another thread.

    Handles are awaitable themselves.
    """

    def __init__(self, orchestrator: TaskOrchestrator) -> None:
        self._orch = self._of = orchestrator

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            extensions = getattr(vars(self).get("_orch"), "extensions", {})
            if name in extensions:
                return _face_of(self._orch, extensions[name])
            return other_attribute(self, name)

    cancel_task: Final = awaited(TaskOrchestrator.cancel_task)
    suspend_task: Final = awaited(TaskOrchestrator.suspend_task)
    resume_task: Final = awaited(TaskOrchestrator.resume_task)
    set_priority: Final = awaited(TaskOrchestrator.set_priority)
    prune: Final = awaited(TaskOrchestrator.prune)
    hold_starts: Final = awaited(TaskOrchestrator.hold_starts)
    release_starts: Final = awaited(TaskOrchestrator.release_starts)
    metrics: Final = awaited(TaskOrchestrator.metrics)
    notify: Final = awaited(TaskOrchestrator.notify)
    reward_task: Final = awaited(TaskOrchestrator.reward_task)
    decide: Final = awaited(TaskOrchestrator.decide)
    emit: Final = awaited(TaskOrchestrator.emit)
    rerun_task: Final = awaited(TaskOrchestrator.rerun_task)
    change_tasks: Final = awaited(TaskOrchestrator.change_tasks)
    expire_tasks: Final = awaited(TaskOrchestrator.expire_tasks)
    questions: Final = awaited(TaskOrchestrator.questions)
    failures: Final = awaited(TaskOrchestrator.failures)
    escalations: Final = awaited(TaskOrchestrator.escalations)
    answer: Final = awaited(TaskOrchestrator.answer)
    handle: Final = awaited(TaskOrchestrator.handle)
    get_task_status: Final = awaited(TaskOrchestrator.get_task_status)
    log: Final = awaited(TaskOrchestrator.log)
    get_stats: Final = awaited(TaskOrchestrator.get_stats)
    explain: Final = awaited(TaskOrchestrator.explain)
    compare: Final = awaited(TaskOrchestrator.compare)
    when: Final = awaited(TaskOrchestrator.when)
    at_risk: Final = awaited(TaskOrchestrator.at_risk)
    in_time: Final = awaited(TaskOrchestrator.in_time)
    what_if: Final = awaited(TaskOrchestrator.what_if)
    stuck: Final = awaited(TaskOrchestrator.stuck)
    health: Final = awaited(TaskOrchestrator.health)
    doctor: Final = awaited(TaskOrchestrator.doctor)
    wait: Final = awaited(TaskOrchestrator.wait)

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
        rt = runtime_of(self._orch)
        if rt.committer is not None and rt.knows(fn):
            # No policy of the user is asked here: only the commit takes time.
            return await _committed(
                self, partial(self._orch.submit, fn, *args, **kwargs)
            )
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
        allow_failures: int | str | None = None,
    ) -> AsyncIterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        timeout: float | timedelta | None = None,
        buffersize: int | None = None,
        allow_failures: int | str | None = None,
    ) -> AsyncIterator[T]: ...

    @called_as(
        "options of tasks go before it: orch.aio.options(id='n/{}').map(f, items)"
    )
    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        timeout: float | timedelta | None = None,
        buffersize: int | None = None,
        allow_failures: int | str | None = None,
    ) -> AsyncIterator[Any]:
        """
        See `TaskOrchestrator.map`: `async for result in orch.aio.map(…)`.

        Nothing is submitted before the first result is asked for. Close it
        (`contextlib.aclosing`) if you leave it early: what has not begun is cancelled.
        """
        rt = runtime_of(self._orch)
        ctx = capture(rt.spans)

        if allow_failures is not None:
            return self.options().map(
                fn,
                *iterables,
                timeout=timeout,
                buffersize=buffersize,
                allow_failures=allow_failures,
            )

        def submit(calls: list[tuple[Any, ...]]) -> Any:
            return rt.submit_calls(fn, [(args, NO_KWARGS) for args in calls], ctx)

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

    async def tasks(
        self,
        state: TaskFilter | TaskState | str | None = None,
        **fields: Unpack[FilterFields],
    ) -> AsyncIterator[TaskStatus]:
        """See `TaskOrchestrator.tasks`: `async for status in orch.aio.tasks(…)`."""
        statuses = await _asked(self, partial(self._orch.tasks, state, **fields))
        page: list[TaskStatus]
        while page := await _asked(self, partial(list, islice(statuses, _PAGE))):
            for status in page:
                yield status

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

    @property
    def workflows(self) -> AsyncWorkflows:
        """See `TaskOrchestrator.workflows`."""
        return AsyncWorkflows(self._orch)

    @property
    def planner(self) -> AsyncPlanner:
        """See `TaskOrchestrator.planner`."""
        return AsyncPlanner(self._orch)

    @property
    def resources(self) -> AsyncResources:
        """See `TaskOrchestrator.resources`."""
        return AsyncResources(self._orch)

    @property
    def memo(self) -> MemoManager:
        """See `TaskOrchestrator.memo`: with a journal, `clear` waits for it."""
        return self._orch.memo

    @property
    def schedules(self) -> ScheduleManager:
        """See `TaskOrchestrator.schedules`: with a journal, changes wait for it."""
        return self._orch.schedules

    @property
    def steps(self) -> Any:
        """See `TaskOrchestrator.steps`: its verbs are awaited."""
        return _face_of(self._orch, self._orch.steps)

    @property
    def drivers(self) -> ControllerManager:
        """See `TaskOrchestrator.drivers`: none of it waits."""
        return self._orch.drivers

    @property
    def governance(self) -> Any:
        """See `TaskOrchestrator.governance`: its verbs are awaited."""
        return _face_of(self._orch, self._orch.governance)

    @property
    def journal(self) -> Journal | None:
        """See `TaskOrchestrator.journal`."""
        return self._orch.journal

    @property
    def concurrency(self) -> int:
        """See `TaskOrchestrator.concurrency`."""
        return self._orch.concurrency

    @property
    def agents(self) -> AsyncWorkers:
        """See `TaskOrchestrator.agents`."""
        return AsyncWorkers(self._orch)

    async def start(self) -> None:
        """
        See `TaskOrchestrator.start`; coroutines run on the running loop.

        Cancelled meanwhile, it stops the orchestrator, and waits for that.
        """
        orch = self._orch
        runtime_of(orch).loops.adopt(asyncio_loop("orch.aio.start()", "orch.start"))
        try:
            if runtime_of(orch).committer is not None:
                # A journal can take a while to read.
                await _on_thread(orch.start)
            else:
                orch.start()
        except asyncio.CancelledError as error:
            # The other thread may be at it still, and nobody else would stop it.
            await end_block_of_coroutine(runtime_of(orch).lifecycle, self.stop, error)
            raise

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
        allow_failures: int | str | None = None,
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
        allow_failures: int | str | None = None,
    ) -> AsyncIterator[T]: ...

    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        id: str | None = None,  # noqa: A002 - as that of a task
        timeout: float | timedelta | None = None,
        buffersize: int | None = None,
        allow_failures: int | str | None = None,
    ) -> AsyncIterator[Any]:
        """See `WithOptions.map`, and `AsyncOrchestrator.map`."""
        rt = runtime_of(self._orch)
        options, failures = self._options.allowing(allow_failures, iterables)
        make = options.tasks_of(fn, id)

        def submit(calls: list[tuple[Any, ...]]) -> Any:
            handles = rt.submit_tasks(make(calls))
            return handles if failures is None else failures.watch(handles)

        return _map_calls(rt, submit, iterables, timeout, buffersize, failures)


class AsyncPlanner:
    """`orch.planner` for coroutines: plans are made on another thread."""

    def __init__(self, orchestrator: TaskOrchestrator) -> None:
        self._planner = orchestrator.planner

    async def plan(
        self, request: Given, *, cache: bool = False, **options: Any
    ) -> ExecutionPlan:
        """See `Planner.plan`."""
        plan = partial(self._planner.plan, request, cache=cache, **options)
        return await _on_thread(plan)

    async def replan(
        self, run: Any, plan: ExecutionPlan | None = None, **options: Any
    ) -> ExecutionPlan:
        """See `Planner.replan`."""
        return await _on_thread(partial(self._planner.replan, run, plan, **options))

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


class AsyncWorkflows(_Face):
    """`orch.workflows` for coroutines. A run is awaitable itself."""

    def __init__(self, orchestrator: TaskOrchestrator) -> None:
        self._orch, self._of = orchestrator, orchestrator.workflows

    start: Final = awaited(WorkflowManager.start)
    get: Final = awaited(WorkflowManager.get)
    find: Final = awaited(WorkflowManager.find)
    status: Final = awaited(WorkflowManager.status)
    versions: Final = awaited(WorkflowManager.versions)
    cancel: Final = awaited(WorkflowManager.cancel)
    pause: Final = awaited(WorkflowManager.pause)
    resume: Final = awaited(WorkflowManager.resume)
    approve: Final = awaited(WorkflowManager.approve)
    reject: Final = awaited(WorkflowManager.reject)
    restart: Final = awaited(WorkflowManager.restart)

    async def wait_paused(
        self,
        run_id: str,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109 - the name of the contract
    ) -> bool:
        """See `WorkflowRun.wait_paused`."""
        run = await self.get(run_id)
        return await _on_thread(run.wait_paused, timeout)


class AsyncWorkers(_Face):
    """`orch.agents` for coroutines."""

    def __init__(self, orchestrator: TaskOrchestrator) -> None:
        self._orch, self._of = orchestrator, orchestrator.agents

    template: Final = asked(WorkerManager.template)
    coding: Final = asked(WorkerManager.coding)
    spawn: Final = awaited(WorkerManager.spawn)
    terminate: Final = awaited(WorkerManager.terminate)
    drain: Final = awaited(WorkerManager.drain)
    list: Final = awaited(WorkerManager.list)
    get: Final = awaited(WorkerManager.get)
    health: Final = asked(WorkerManager.health)
    match: Final = awaited(WorkerManager.match)
    pool: Final = asked(WorkerManager.pool)
    provision_new_agent: Final = asked(WorkerManager.provision_new_agent)
    explain_scaling: Final = awaited(WorkerManager.explain_scaling)
    join: Final = asked(WorkerManager.join)
    beat: Final = asked(WorkerManager.beat)
    leave: Final = asked(WorkerManager.leave)
    is_lost: Final = asked(WorkerManager.is_lost)
    keep: Final = asked(WorkerManager.keep)
    bring_late: Final = asked(WorkerManager.bring_late)
    awaits_end: Final = asked(WorkerManager.awaits_end)


class AsyncResources(_Face):
    """`orch.resources` for coroutines."""

    def __init__(self, orchestrator: TaskOrchestrator) -> None:
        self._orch, self._of = orchestrator, orchestrator.resources

    resize: Final = awaited(ResourceManager.resize)
    set_quotas: Final = awaited(ResourceManager.set_quotas)
    budgets: Final = awaited(ResourceManager.budgets)
    raise_budget: Final = awaited(ResourceManager.raise_budget)
    quotas: Final = awaited(ResourceManager.quotas)
    set_saturation: Final = awaited(ResourceManager.set_saturation)
    usage: Final = awaited(ResourceManager.usage)
    release: Final = awaited(ResourceManager.release)
    allocations: Final = awaited(ResourceManager.allocations)

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
        manager = self._orch.resources
        claim = manager._claim(resources, owner, id)
        granting = asyncio.ensure_future(_on_thread(manager._obtain, claim, timeout))
        try:
            return await asyncio.shield(granting)
        except asyncio.CancelledError:
            claim.cargo.end()
            granting.add_done_callback(_release_unwanted)
            raise


def _release_unwanted(granting: asyncio.Future[HeldResources]) -> None:
    """Release a grant whose caller was cancelled meanwhile."""
    if not granting.cancelled() and granting.exception() is None:
        release = granting.result().release
        asyncio.get_running_loop().run_in_executor(None, release)


for _face, _of in (
    (AsyncOrchestrator, TaskOrchestrator),
    (AsyncWorkflows, WorkflowManager),
    (AsyncWorkers, WorkerManager),
    (AsyncResources, ResourceManager),
):
    _complete(_face, _of)


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
    failures: MapFailures | None = None,
) -> AsyncIterator[T]:
    seconds = to_patience(timeout)
    end = None if seconds is None else monotonic() + seconds
    ahead = Ahead(runtime, submit, iterables, buffersize)
    await _on_thread(ahead.fill, whole=ahead.is_accepted_at_once)
    try:
        while ahead.handles:
            # No variable keeps the result, so that of a long map none stays in memory.
            if failures is None:
                yield await _next_within(ahead, end)
            else:
                yield await failures.next_result(ahead, end)
            if ahead.wants_more():
                await _on_thread(ahead.fill)
        if failures is not None:
            failures.check(ahead)
    finally:
        ahead.leave()


async def _next_within(ahead: Ahead[T], end: float | None) -> T:
    """The result of the first call that is *ahead*, which goes, if it comes in time."""
    async with asyncio.timeout(None if end is None else end - monotonic()):
        result = await ahead.handles[0]
    ahead.taken(result)
    return result
