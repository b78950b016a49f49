"""Tasks, workers and pools to ask about: all sorts, and all well formed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any, Final, TypeAlias

import attrs

from taskorch.kit.described import Form
from taskorch.kit.limits import MAX_AMOUNT, MAX_PRIORITY
from taskorch.model import (
    NO_RESOURCES,
    OPTIONS,
    Cache,
    Performance,
    Resources,
    RetryPolicy,
    Task,
    TaskState,
)
from taskorch.protocols import (
    AgentView,
    Contender,
    Context,
    OwnerView,
    PoolView,
)
from taskorch.testing._builders import (
    make_agent,
    make_context,
    make_owner,
    make_pool,
)

#: The tasks to ask about: these, or the ones that a function makes from a generator.
Tasks: TypeAlias = Iterable[Task] | Callable[[Random], Task]
#: The workers to choose from, or a function that makes some from a generator.
Workers: TypeAlias = Iterable[AgentView] | Callable[[Random], Iterable[AgentView]]

_TYPES: Final = ("build", "fetch", "review", "work")
_CAPABILITIES: Final = ("fast", "gpu", "linux", *_TYPES)
_NAMES: Final = ("ann", "bob", "cid", "dot", "eve", "fay")
_RESOURCES: Final = ("cpu", "gpu", "licence", "memory_mb")
_MILLION: Final = 1_000_000
#: One in so many tasks or pools is at an extreme.
_RARELY: Final = 8


@attrs.frozen
class QuestionWorld:
    """The world of one question; all contexts made of it are equal."""

    task: Task
    workers: tuple[AgentView, ...]
    pools: tuple[PoolView, ...]
    now: float
    seed: int
    queued: int
    contenders: tuple[Contender, ...] = ()

    def context(self, agents: Sequence[AgentView] | None = None) -> Context:
        """A context that nobody has drawn from, maybe with the *agents* changed."""
        present = self.workers if agents is None else agents
        return make_context(
            self.now,
            self.seed,
            present,
            self.pools,
            self.queued,
            sum(worker.running for worker in present),
            {} if self.task.id is None else {self.task.id: TaskState.QUEUED},
            self.contenders,
        )

    def later(self, seconds: float) -> QuestionWorld:
        """The same after so many *seconds*."""
        return attrs.evolve(self, now=self.now + seconds)


def task_source(tasks: Tasks | None) -> Callable[[Random], Task]:
    """
    Return a function that draws a task from *tasks*; None is all sorts.

    Raises:
        ValueError: There are none.
    """
    if tasks is None:
        return some_task
    if callable(tasks):
        return tasks
    choices = tuple(tasks)
    if not choices:
        msg = "tasks: at least one is needed"
        raise ValueError(msg)
    return lambda random: random.choice(choices)


def worker_source(
    agents: Workers | None, *, ready: bool = False
) -> Callable[[Random, Task], Sequence[AgentView]]:
    """
    Return a function that draws the workers for a task.

    Args:
        agents: Whom to draw from; None is all sorts.
        ready: Whether there must be one, and each of all sorts can do the task and has
            room for it.

    Raises:
        ValueError: There must be one, and there is none.
    """
    if agents is None:
        return lambda random, task: _some_workers(random, task, ready=ready)
    if callable(agents):
        return lambda random, _: tuple(agents(random))
    choices = tuple(agents)
    if not choices and ready:
        msg = "agents: at least one is needed"
        raise ValueError(msg)
    return lambda random, _: _some_of(random, choices)


def some_world(
    random: Random,
    draw_task: Callable[[Random], Task],
    draw_workers: Callable[[Random, Task], Sequence[AgentView]],
) -> QuestionWorld:
    """A random world: a task, workers and pools."""
    task = draw_task(random)
    return QuestionWorld(
        task=task,
        workers=tuple(draw_workers(random, task)),
        pools=tuple(_some_pools(random, task)),
        now=random.choice((0.0, 0.5, 60.0, 1e6, random.uniform(0.0, 1e9))),
        seed=random.getrandbits(32),
        queued=random.choice((0, 1, 10, 1_000_000)),
    )


def busier(random: Random, agent: AgentView) -> AgentView:
    """Return *agent* with other work: none at all, or up to its limits."""
    most, capacity = agent.max_concurrency, agent.capacity
    full = random.choice((False, True))
    return make_agent(
        agent.name,
        agent.capabilities,
        most,
        (1_000 if most is None else most) if full else 0,
        capacity,
        capacity if full else None,
        agent.performance,
        labels=agent.labels,
    )


# ------------------------------------------------------------------------- tasks


def some_tenant(random: Random) -> OwnerView:
    """A random owner with waiting tasks, who may hold something."""
    names = random.sample(_RESOURCES, random.randint(0, 2))
    held = Resources.from_units(tuple((name, _MILLION) for name in sorted(names)))
    share = random.choice((0.0, 0.25, random.random(), 1.0))
    return make_owner(
        random.choice((None, *_NAMES)),
        running=random.randint(0, 9),
        queued=random.randint(1, 99),
        held=held,
        share=share,
        demand=share + random.random(),
    )


def some_task(random: Random) -> Task:
    """A task that is well formed, with anything that a task may have."""
    options = {
        name: _SOME[each.form](random)
        for name, each in OPTIONS.items()
        if each.form in _SOME
    }
    payload = random.choice((None, some_data(random, 2), _some_fields(random)))
    return Task(payload=payload, **options)


def some_data(random: Random, depth: int) -> Any:
    """Plain data such as JSON has, nested at most *depth* deep."""
    kind = random.randrange(8 if depth else 6)
    if kind == 6:  # noqa: PLR2004 - the last two kinds are nested
        return [some_data(random, depth - 1) for _ in range(random.randrange(4))]
    if kind > 6:  # noqa: PLR2004
        return {key: some_data(random, depth - 1) for key in _some_names(random)}
    return random.choice(
        (
            None,
            random.choice((False, True)),
            random.randrange(-1_000_000, 1_000_000),
            random.uniform(-1e6, 1e6),
            "",
            f"text {random.getrandbits(16)} é",
        )
    )


def _some_fields(random: Random) -> dict[str, Any]:
    return {
        "path": random.choice(("a.txt", "data/b.csv", "")),
        "size": random.choice((0, 1, -1, 10**12)),
        "tenant": random.choice(("red", "blue")),
        "tags": list(_some_names(random)),
        "more": some_data(random, 1),
    }


def _some_names(random: Random) -> tuple[str, ...]:
    return tuple(random.sample(_CAPABILITIES, random.randrange(1, 3)))


def _some_priority(random: Random) -> int:
    if random.randrange(_RARELY) == 0:
        return random.choice((-MAX_PRIORITY, MAX_PRIORITY))
    return random.choice((0, 0, 1, 2, 5, 10, -1, -7))


def _some_resources(random: Random) -> Resources:
    names = random.sample(_RESOURCES, random.choice((0, 0, 1, 1, 2, 4)))
    amounts = (0, 0.000_001, 0.1, 1, 2, 2.5, 512)
    return Resources(**{name: random.choice(amounts) for name in names})


def _some_retry(random: Random) -> RetryPolicy:
    return RetryPolicy(
        random.choice((1, 1, 2, 3, 8)),
        wait=random.choice(("exponential", "linear", "fixed")),
        base=random.choice((0, 0.001, 1, 30.0)),
        max_delay=random.choice((0, 60.0, 1e6)),
        jitter=random.choice((0, 0.5, 1, "full")),
        retry_on=random.choice((Exception, (OSError, ValueError), ())),
        stop_after=random.choice((None, None, 0, 100.0)),
    )


def _one_of(*values: Any) -> Callable[[Random], Any]:
    return lambda random: random.choice(values)


#: Functions that make a value of each form; joins keep their defaults.
_SOME: Final[dict[Form, Callable[[Random], Any]]] = {
    "type": _one_of(*_TYPES),
    "id": lambda random: f"t-{random.getrandbits(24)}",
    "priority": _some_priority,
    "ids": _one_of((), (), ("t-before",), ("t-a", "t-b")),
    "names": lambda random: random.choice((None, None, (), _some_names(random))),
    "paths": _one_of(None, None, ("src/**",), ("a/b", "docs/*.md")),
    "resources": _some_resources,
    "duration": _one_of(None, None, 0.001, 30, 86_400.0),
    "duration_or_zero": _one_of(None, None, 0, 30),
    "moment": _one_of(None, None, 100.0, 1e6, datetime(2100, 1, 1, tzinfo=UTC)),
    # This is earlier than any of these moments.
    "moment_or_zero": _one_of(None, None, 0, 2.5, 60),
    "retry": _some_retry,
    "key": lambda random: random.choice((None, None, f"key-{random.getrandbits(16)}")),
    "flag": lambda random: random.randrange(3) > 0,
    "name": _one_of(None, None, "ann", "bob"),
    "cache": _one_of(None, None, Cache(), Cache(expires=60.0)),
    "values": lambda random: random.choice((None, {}, _some_fields(random))),
}


# ------------------------------------------------------------------------ workers


def _some_of(random: Random, workers: Sequence[AgentView]) -> Sequence[AgentView]:
    """A random part of *workers*, in the same order."""
    count = random.randint(min(1, len(workers)), len(workers))
    places = sorted(random.sample(range(len(workers)), count))
    return tuple(workers[place] for place in places)


def _some_workers(random: Random, task: Task, *, ready: bool) -> list[AgentView]:
    count = random.choice((1, 2, 3, 3, 6)) if ready else random.choice((0, 1, 2, 5))
    names = random.sample(_NAMES, count)
    needs = [task.type] if task.requires is None else list(task.requires)
    return [
        _some_worker(
            random,
            name,
            [*needs, *_some_names(random)]
            if ready or random.randrange(2)
            else _some_names(random),
            task.resources,
            room=ready or random.choice((False, True)),
        )
        for name in names
    ]


def _some_worker(
    random: Random,
    name: str,
    capabilities: Iterable[str],
    request: Resources,
    *,
    room: bool,
) -> AgentView:
    most = random.choice((None, 1, 2, 10, 1_000))
    running = random.choice((0, 1, 3, 50))
    if most is not None:
        running = min(running, most - 1) if room else most
    used = _some_resources(random) if running else NO_RESOURCES
    capacity = random.choice((None, used + request if room else used))
    records = {task_type: _some_performance(random) for task_type in _TYPES}
    return make_agent(name, capabilities, most, running, capacity, used, records)


def _some_performance(random: Random) -> Performance:
    completed = random.choice((0, 0, 1, 20, 1_000_000))
    return Performance(
        completed,
        random.choice((0, 0, 1, 20)),
        random.choice((0.0, 0.01, 2.0, 1e5)) if completed else None,
    )


# ------------------------------------------------------------------------- pools


def _some_pools(random: Random, task: Task) -> list[PoolView]:
    """A pool for each usual resource, and for whatever else *task* asks for."""
    names = sorted({*_RESOURCES, *task.resources})
    return [_some_pool(random, name, task.resources[name]) for name in names]


def _some_pool(random: Random, name: str, need: float) -> PoolView:
    # No pool is smaller than what a task asks for: it would not be accepted.
    total = max(need, random.choice((0, 1, 4, 64, 1_000.5)))
    if random.randrange(_RARELY) == 0:
        total = MAX_AMOUNT
    units = round(total * _MILLION)
    free = random.choice((0, units, random.randint(0, units), round(need * _MILLION)))
    if random.randrange(_RARELY) == 0:
        # The pool was made smaller while all of it was held.
        return make_pool(name, total, -1.0)
    return make_pool(name, total, free / _MILLION)
