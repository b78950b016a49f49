"""Whether a ResourceAllocator keeps its laws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs

from taskorch.model import NO_RESOURCES, Resources
from taskorch.protocols import (
    Allocation,
    AllocationRequest,
    Contender,
    PoolView,
    ResourceAllocator,
)
from taskorch.protocols._policies import said_of
from taskorch.testing._builders import make_agent, make_pool
from taskorch.testing.laws._case import Case, brief, cases, maker
from taskorch.testing.laws._worlds import (
    QuestionWorld,
    Tasks,
    Workers,
    some_world,
    task_source,
    worker_source,
)

#: A request is repeated so often while all that it needs is free.
_TIMES: Final = 50
#: The most seconds that all questions of a case take.
_DAYS: Final = 4 * 86_400.0
_MILLION: Final = 1_000_000
_RIGID: Final = "it is rigid: it grants all of what fits and nothing of what does not."


def check_resource_allocator(
    allocator: ResourceAllocator | Callable[[], ResourceAllocator],
    *,
    seed: int = 0,
    examples: int = 200,
    tasks: Tasks | None = None,
    agents: Workers | None = None,
) -> None:
    """
    Check the laws of ResourceAllocator.

    Law 3 is seen by asking the same object again, fifty times over three days,
    while everything is free and nobody else waits. An allocator that says it is `rigid`
    is held to that, too; one that names its `chunks` is asked about elastic requests.

    Args:
        allocator: The allocator, or what makes one.
        seed: The seed of the questions.
        examples: How many requests.
        tasks: Tasks to ask about, or what makes one of a `random.Random`; what they ask
            for is in the pools, if not always free.
        agents: Workers, as of `make_agent`, one of which would run the task; or what
            makes those of one question of a `random.Random`.

    Raises:
        LawViolation: A law is broken.
    """
    make, draw = maker(allocator, ResourceAllocator), task_source(tasks)
    draw_workers = worker_source(agents, ready=True)
    now = 0.0
    for case in cases(ResourceAllocator, "check_resource_allocator", seed, examples, 4):
        world = some_world(case.random, draw, draw_workers)
        # The clock of one object never goes back, and a case takes days.
        world = attrs.evolve(world, now=max(now, world.now))
        now = world.now + _DAYS
        asked = make()
        wanted = world.task.resources
        granted = _ask(case, asked, wanted, world)
        fits = _fits(wanted, world.pools)
        rigid = said_of(asked, "allocate", "rigid")
        if rigid and granted != (wanted if fits else None):
            did = f"It granted {granted!r} of {wanted!r} with {brief(world.pools)}."
            case.fail(0, did, says=_RIGID)
        if granted is None:
            _check_granted_at_last(case, asked, wanted, world)
        chunks = said_of(asked, "allocate", "chunks")
        if chunks and wanted.units:
            _check_part(case, asked, dict(Resources.of(chunks).units), world)


def _ask(
    case: Case, allocator: ResourceAllocator, wanted: Resources, world: QuestionWorld
) -> Resources | None:
    request = AllocationRequest(world.task, world.workers[0], wanted)
    pools = {pool.name: pool for pool in world.pools}
    answer = case.ask(
        allocator.allocate,
        Allocation,
        request=request,
        pools=pools,
        context=world.context(),
    )
    case.form(answer, granted=Resources | None, reason=str, reusable=bool | type)
    if answer.granted is None:
        return None
    asked = dict(wanted.units)
    for name, units in answer.granted.units:
        if units > (_free_units(pools[name]) if name in pools else 0):
            free = pools.get(name, "no such pool")
            case.fail(1, f"It granted {answer.granted!r} with {free!r}.")
        if units > asked.get(name, 0):
            case.fail(2, f"It granted {answer.granted!r} of {wanted!r}.")
    return answer.granted


def _check_part(
    case: Case,
    allocator: ResourceAllocator,
    chunks: dict[str, int],
    world: QuestionWorld,
) -> None:
    """Check a grant for an elastic request, alone and beside others."""
    random, wanted = case.random, world.task.resources
    least = tuple([(name, min(n, chunks.get(name, n))) for name, n in wanted.units])
    kind = Contender(
        wanted,
        Resources.from_units(least),
        random.choice((0.5, 1, 3)),
        random.choice(("best_effort", "all_or_nothing")),
    )
    held = random.choice((None, None, kind.least, wanted))
    others = [
        attrs.evolve(kind, weight=weight, waiting=random.randrange(4))
        for weight in random.sample((0.5, 1, 2, 3), random.randrange(4))
    ]
    request = AllocationRequest(
        world.task, world.workers[0], wanted, *attrs.astuple(kind, recurse=False)[1:4]
    )
    request = attrs.evolve(request, held=held)
    pools = {pool.name: pool for pool in world.pools}
    answer = case.ask(
        allocator.allocate,
        Allocation,
        request=request,
        pools=pools,
        context=attrs.evolve(world, contenders=tuple(others)).context(),
    )
    case.form(answer, granted=Resources | None, reason=str, reusable=bool | type)
    if answer.granted is None:
        return
    granted = answer.granted
    did = f"It granted {granted!r} of {request!r} with {brief(world.pools)}."
    parts, own = dict(granted.units), dict(held.units if held else ())
    for name, units in parts.items():
        free = _free_units(pools[name]) if name in pools else 0
        case.expect(units <= free + own.get(name, 0), 1, did)
    case.expect(parts.keys() <= dict(wanted.units).keys(), 2, did)
    for (name, need), (_, low) in zip(wanted.units, least, strict=True):
        part, chunk = parts.get(name, 0), chunks.get(name, need)
        case.expect(low <= part <= need, 2, did)
        case.expect(part % chunk == 0 or part == need, 5, did)


def _check_granted_at_last(
    case: Case, allocator: ResourceAllocator, wanted: Resources, world: QuestionWorld
) -> None:
    idle = [
        make_agent(
            worker.name,
            worker.capabilities,
            worker.max_concurrency,
            0,
            worker.capacity,
            NO_RESOURCES,
            worker.performance,
        )
        for worker in world.workers
    ]
    free = [make_pool(pool.name, pool.total) for pool in world.pools]
    later = attrs.evolve(world, workers=tuple(idle), pools=tuple(free), queued=1)
    for _ in range(_TIMES):
        # The first repetition comes after a second, the next ones ever later.
        later = later.later(1.0 + (later.now - world.now) / 4)
        if _ask(case, allocator, wanted, later) is not None:
            return
    case.fail(
        3,
        f"It refused {wanted!r} {_TIMES} times while everything was free: "
        f"{brief(later.pools)}.",
    )


def _fits(wanted: Resources, pools: Sequence[PoolView]) -> bool:
    free = {pool.name: _free_units(pool) for pool in pools}
    return all(units <= free.get(name, 0) for name, units in wanted.units)


def _free_units(pool: PoolView) -> int:
    return max(0, round(pool.free * _MILLION))
