"""
Arguments of policies, made by hand, for unit tests of policies of your own.

    answer = MyRouter().route(
        make_task("build", priority=3),
        [make_agent("a", running=2), make_agent("b")],
        make_context(now=60.0),
    )

Their results cannot be changed, but the generator of a context can be drawn from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from types import MappingProxyType
from typing import Any, TypeAlias

import attrs

from taskorch.kit.visible import counted
from taskorch.model import NO_RESOURCES, Performance, Resources, Task, TaskState
from taskorch.protocols import (
    AgentView,
    Contender,
    Context,
    Failure,
    OwnerView,
    PoolView,
)

#: The record of a worker: for all types, by type of task, or as a function of it.
Record: TypeAlias = (
    Performance | Mapping[str, Performance] | Callable[[str], Performance]
)

_UNTRIED = Performance()


def make_agent(
    name: str = "agent",
    capabilities: Iterable[str] = (),
    max_concurrency: int | None = None,
    running: int = 0,
    capacity: Resources | None = None,
    used: Resources | None = None,
    performance: Record | None = None,
    is_lost: bool = False,
    labels: Iterable[str] = (),
) -> AgentView:
    """
    A worker as a policy sees it.

    Args:
        name: Its name.
        capabilities: Its capabilities, in any order.
        max_concurrency: Attempts that it runs at once; None is without limit.
        running: Attempts that it runs now.
        capacity: Its own resources; None means that only the pools limit it.
        used: The resources that its attempts hold; None is nothing.
        performance: How well it has done: at all types of task, by type, or as a
            function of the type; at a type that is not named, it is untried.
        is_lost: Whether it is not there.
        labels: The labels of its machine, in any order.

    Raises:
        TypeError: *capabilities* is a single str.
    """
    if isinstance(capabilities, str):
        msg = f"capabilities: a list of names is needed, not {capabilities!r}"
        raise TypeError(msg)
    return _MadeWorker(
        name,
        tuple(sorted(set(capabilities))),
        max_concurrency,
        running,
        capacity,
        NO_RESOURCES if used is None else used,
        _record(performance),
        is_lost,
        tuple(sorted(set(labels))),
    )


def make_pool(name: str, total: float, free: float | None = None) -> PoolView:
    """
    A pool as a policy sees it.

    Args:
        name: Its resource.
        total: How much there is.
        free: How much nobody holds; None is all of it.
    """
    return _Pool(name, total, total if free is None else free)


def make_owner(
    name: str | None = None,
    running: int = 0,
    queued: int = 0,
    held: Resources = NO_RESOURCES,
    wanted: Resources | None = None,
    share: float = 0.0,
    demand: float | None = None,
) -> OwnerView:
    """
    An owner as a policy sees it.

    Args:
        name: Its name; None: of all tasks without an owner.
        running: Slots that its attempts take.
        queued: Its tasks that wait.
        held: The resources that its attempts hold.
        wanted: These, and the resources that its queued tasks ask for; None: they ask
            for none.
        share: Its dominant share.
        demand: Its dominant share of *wanted*; None: as large as *share*.
    """
    return _Tenant(
        name,
        running,
        queued,
        held,
        held if wanted is None else wanted,
        share,
        share if demand is None else demand,
    )


def make_context(
    now: float = 0.0,
    seed: int = 0,
    agents: Iterable[AgentView] = (),
    pools: Iterable[PoolView] | Mapping[str, PoolView] | None = None,
    queued: int = 0,
    running: int = 0,
    states: Mapping[str, TaskState] | None = None,
    contenders: Iterable[Contender] = (),
) -> Context:
    """
    A context, as a policy gets it with its question.

    Args:
        now: Seconds on a clock that never goes back.
        seed: The seed of its generator: equal seeds give equal draws.
        agents: All workers, in the order in which they joined.
        pools: All pools; in a mapping, only the values count. None is no pools.
        queued: Tasks that wait for a slot, a worker or resources.
        running: Attempts under way.
        states: The states of tasks by id; all others are not known.
        contenders: The elastic requests that contend.
    """
    pool_views = pools.values() if isinstance(pools, Mapping) else pools or ()
    view = _View(
        queued,
        running,
        tuple(agents),
        MappingProxyType({pool.name: pool for pool in pool_views}),
        MappingProxyType(dict(states or {})),
        tuple(contenders),
    )
    return _Context(now, Random(seed), view)  # noqa: S311 - repeatable, no secret


def make_task(type: str = "work", **options: Any) -> Task:  # noqa: A002 - as in Task
    """
    A task with an id, `task-1` unless *options* say otherwise.

    Args:
        type: The type of the task.
        options: The other arguments of `Task`, `payload` among them.
    """
    return Task(type, **{"id": "task-1", **options})


def make_failure(
    error: BaseException | None = None,
    attempts: int = 1,
    *,
    task: Task | None = None,
    elapsed: float = 0.0,
    last_delay: float = 0.0,
    agent: str = "agent",
) -> Failure:
    """
    A failed attempt, as a RetryHandler gets it.

    Args:
        error: The error that it raised; None is a RuntimeError.
        attempts: Attempts so far that count as a try, with this one.
        task: The task; None is `make_task()`.
        elapsed: Seconds from the start of the first attempt to now.
        last_delay: The delay before this attempt in seconds.
        agent: The worker that ran it.
    """
    return Failure(
        make_task() if task is None else task,
        RuntimeError("it failed") if error is None else error,
        attempts,
        elapsed,
        last_delay,
        agent,
    )


def _record(performance: Record | None) -> Callable[[str], Performance]:
    if performance is None:
        return _untried
    if isinstance(performance, Performance):
        return lambda _: performance
    if isinstance(performance, Mapping):
        performances = dict(performance)
        return lambda task_type: performances.get(task_type, _UNTRIED)
    return performance


def _untried(task_type: str) -> Performance:  # noqa: ARG001 - the same for all
    return _UNTRIED


@attrs.frozen(repr=False)
class _MadeWorker:
    name: str
    capabilities: tuple[str, ...]
    max_concurrency: int | None
    running: int
    capacity: Resources | None
    used: Resources
    done: Callable[[str], Performance]
    is_lost: bool
    labels: tuple[str, ...]

    def performance(self, task_type: str) -> Performance:
        return self.done(task_type)

    def __repr__(self) -> str:
        most = "" if self.max_concurrency is None else f" of {self.max_concurrency:,}"
        can = f" can {', '.join(self.capabilities)};" if self.capabilities else ""
        return f"<worker {self.name}:{can} {self.running:,}{most} running>"


@attrs.frozen(repr=False)
class _Pool:
    name: str
    total: float
    free: float

    @property
    def used(self) -> float:
        return self.total - self.free

    def __repr__(self) -> str:
        return f"<pool {self.name}: {self.free:,.15g} of {self.total:,.15g} free>"


@attrs.frozen(repr=False)
class _Tenant:
    name: str | None
    running: int
    queued: int
    held: Resources
    wanted: Resources
    share: float
    demand: float

    def __repr__(self) -> str:
        return f"<owner {self.name}: {self.share:g} of {self.demand:g}>"


@attrs.frozen(repr=False)
class _View:
    queued: int
    running: int
    _workers: tuple[AgentView, ...]
    _pools: Mapping[str, PoolView]
    _states: Mapping[str, TaskState]
    _contenders: tuple[Contender, ...] = ()

    def agents(self) -> Sequence[AgentView]:
        return self._workers

    def pools(self) -> Mapping[str, PoolView]:
        return self._pools

    def contenders(self) -> Sequence[Contender]:
        return self._contenders

    def state_of(self, task_id: str) -> TaskState | None:
        return self._states.get(task_id)

    def __repr__(self) -> str:
        return (
            f"<{counted(len(self._workers), 'worker')}, "
            f"{counted(len(self._pools), 'pool')}, "
            f"{self.queued:,} queued, {self.running:,} running>"
        )


@attrs.frozen(repr=False)
class _Context:
    now: float
    random: Random
    view: _View

    def __repr__(self) -> str:
        return f"<context at {self.now:,.15g} s: {self.view!r}>"
