"""
Small random requests, and all the ways in which each can be done.

A request has parts, each done in one of several ways, and limits. Here every way of all
parts is tried in every order: what the planner says is held against that.
"""

from __future__ import annotations

import random
import re
from itertools import combinations, permutations, product

import attrs

from taskorch import Resources, TaskOrchestrator
from taskorch.errors import PlanningError
from taskorch.ext.planner import (
    Before,
    Deadline,
    DrawsOn,
    MaxCost,
    MaxPeak,
    TaskRequest,
)


@attrs.frozen
class Way:
    """One way to do a part."""

    name: str
    seconds: int
    cost: int
    cpu: int


@attrs.frozen
class World:
    """What there is, what is asked, and the limits."""

    pool: int
    slots: int
    left: int
    parts: tuple[tuple[Way, ...], ...]
    above: tuple[tuple[int, ...], ...]
    limits: tuple[object, ...]


def world(seed: int) -> World:
    """The request of this number."""
    draw = random.Random(seed)
    count = draw.choice((1, 1, 2, 3, 4, 5))
    most_ways = {1: 4, 2: 4, 3: 4, 4: 3, 5: 2}[count]
    parts = tuple(
        tuple(
            Way(
                f"p{part}w{number}",
                draw.choice((5, 10, 20, 40)),
                draw.choice((1, 4, 9)),
                draw.randint(1, 4),
            )
            for number in range(draw.randint(1, most_ways))
        )
        for part in range(count)
    )
    density = draw.choice((0.0, 0.0, 0.4, 1.0))
    above = tuple(
        tuple(n for n in range(part) if draw.random() < density)
        for part in range(count)
    )
    spans = (10, 15, 20, 25, 30, 40, 45, 50, 60, 75, 90, 110, 130)
    limits: list[object] = [
        Deadline(draw.choice(spans[: 3 + 2 * count])),
        MaxCost(draw.choice((3, 5, 8, 10, 14, 18, 25))),
        MaxPeak("cpu", draw.choice((1, 2, 3, 3, 4, 4, 5))),
        DrawsOn("purse"),
    ]
    if count > 1:
        one, other = draw.sample(range(count), 2)
        names = draw.choice(parts[one]).name, draw.choice(parts[other]).name
        limits.append(Before(*names))
    limits = draw.sample(limits, draw.randint(1, min(4, len(limits))))
    return World(
        pool=draw.choice((4, 6, 8)),
        slots=draw.choice((1, 2, 3, 8)),
        left=draw.choice((4, 8, 12, 20, 30)),
        parts=parts,
        above=above,
        limits=tuple(limits),
    )


class Truth:
    """All that can be said of a world, by trying everything."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ends: dict[object, int | None] = {}

    def earliest(self, limits) -> int | None:
        """The earliest end of any way that holds *limits*, deadlines apart."""
        key = tuple(each for each in limits if not isinstance(each, Deadline))
        if key not in self._ends:
            ends = [self._end(ways, key) for ways in product(*self._world.parts)]
            self._ends[key] = min((e for e in ends if e is not None), default=None)
        return self._ends[key]

    def holds(self, limits) -> bool:
        """Whether *limits* can hold together."""
        end = self.earliest(limits)
        latest = [each.seconds for each in limits if isinstance(each, Deadline)]
        return end is not None and end <= min(latest, default=end)

    def smallest(self, limits) -> int:
        """How many limits the smallest conflict has."""
        for size in range(len(limits) + 1):
            if any(not self.holds(each) for each in combinations(limits, size)):
                return size
        raise AssertionError(limits)

    def _end(self, ways, limits) -> int | None:
        """The earliest end of these ways; None: they do not hold *limits*."""
        pool, above = self._world.pool, [{*each} for each in self._world.above]
        names = [way.name for way in ways]
        cost = sum(way.cost for way in ways)
        for each in limits:
            if isinstance(each, MaxPeak):
                pool = min(pool, each.amount)
            elif isinstance(each, Before):
                if each.first not in names or each.then not in names:
                    return None
                above[names.index(each.then)].add(names.index(each.first))
            elif (isinstance(each, MaxCost) and cost > each.amount) or (
                isinstance(each, DrawsOn) and cost > self._world.left
            ):
                return None
        if any(way.cpu > pool for way in ways):
            return None
        orders = permutations(range(len(ways)))
        ends = [self._in_order(ways, order, above, pool) for order in orders]
        return min((e for e in ends if e is not None), default=None)

    def _in_order(self, ways, order, above, pool) -> int | None:
        """When all have ended, each begun as early as it can in this order."""
        ends = dict[int, int]()
        busy: list[tuple[int, int, int]] = []
        for part in order:
            if not above[part] <= ends.keys():
                return None
            ready = max((ends[up] for up in above[part]), default=0)
            moments = sorted({ready, *(e for _, e, _ in busy if e > ready)})
            start = next(m for m in moments if self._fits(busy, m, ways[part], pool))
            ends[part] = start + ways[part].seconds
            busy.append((start, ends[part], ways[part].cpu))
        return max(ends.values())

    def _fits(self, busy, start: int, way: Way, pool: int) -> bool:
        end = start + way.seconds
        for moment in (start, *(b for b, _, _ in busy if start < b < end)):
            here = [cpu for b, e, cpu in busy if b <= moment < e]
            if sum(here) + way.cpu > pool or len(here) + 1 > self._world.slots:
                return False
        return True


def orchestrator(world: World) -> TaskOrchestrator:
    """An orchestrator whose planner knows the ways of a world."""
    orch = TaskOrchestrator(resources={"cpu": world.pool}, concurrency=world.slots)
    orch.budget("purse", cost=world.left)
    domain = orch.planner.domain("d")
    for part, ways in enumerate(world.parts):

        def apply(state, part=part):
            for up in world.above[part]:
                state.get(up)
            return state.set(part, True)

        for number, way in enumerate(ways):
            domain.operator(
                apply,
                name=way.name,
                duration=way.seconds,
                cost=way.cost,
                resources=Resources(cpu=way.cpu),
                run=do_nothing,
            )
            domain.method(f"part{part}", name=f"by-{way.name}", cost=number)(
                lambda _state, name=way.name: [(name,)]
            )
    domain.method("go", name="all")(
        lambda _state: [(f"part{part}",) for part in range(len(world.parts))]
    )
    return orch


def do_nothing() -> None:
    pass


def faults_of(seed: int) -> list[str]:
    """What the planner says of the request of this number that is not so."""
    here = world(seed)
    truth = Truth(here)
    orch = orchestrator(here)
    request = TaskRequest("r", "go", constraints=here.limits)
    try:
        plan = orch.planner.plan(request)
    except PlanningError as refusal:
        if truth.holds(here.limits):
            return [f"refused though possible: {refusal}"]
        return list(_faults_of_refusal(here, truth, refusal))
    if not truth.holds(here.limits):
        return ["planned though impossible"]
    return [
        *_faults_of_plan(orch, here, plan),
        *(
            f"optimized: {fault}"
            for fault in _faults_of_plan(
                orch, here, orch.planner.optimize(plan, seconds=0)
            )
        ),
    ]


def _faults_of_refusal(here: World, truth: Truth, refusal: PlanningError):
    named = [each for each in here.limits if _is_named(each, refusal.conflict)]
    if truth.holds(named):
        yield f"the conflict is none: {refusal.conflict}: {refusal}"
    elif len(named) > truth.smallest(here.limits):
        yield f"the conflict is not the smallest: {refusal.conflict}: {refusal}"
    said = re.search(r"earliest end that was found is (\d+) s", str(refusal))
    if said and int(said[1]) != truth.earliest(()):
        yield f"the earliest end is {truth.earliest(())} s: {refusal}"
    if not said and any(isinstance(each, Deadline) for each in named):
        yield f"no earliest end: {refusal}"


def _is_named(limit, conflict) -> bool:
    if isinstance(limit, DrawsOn):
        return any(text.startswith("the budget purse") for text in conflict)
    return str(limit) in conflict


def _faults_of_plan(orch, here: World, plan):
    names = {each.name: each for ways in here.parts for each in ways}
    ways = {task.id: names[task.type] for task in plan.tasks}
    if not orch.planner.validate(plan).ok:
        yield f"it does not hold: {orch.planner.validate(plan)}"
    cost = sum(way.cost for way in ways.values())
    if plan.estimated_cost != cost:
        yield f"it costs {cost}, and not {plan.estimated_cost}"
    draw = random.Random(len(ways))
    as_said = {name: float(way.seconds) for name, way in ways.items()}
    other = {name: draw.uniform(0.5, 2) * way.seconds for name, way in ways.items()}
    for durations in (as_said, other):
        attempts = orch.simulate(plan, durations=durations).schedule
        spans = {each.task_id: (each.start, each.end) for each in attempts}
        if len(spans) < len(ways):
            yield "not all of it is carried out"
            return
        for limit in here.limits:
            if not _is_kept(limit, ways, spans, here.left, durations is as_said):
                yield f"told as kept, and broken: {limit}"
        end = max(end for _, end in spans.values())
        if durations is as_said and abs(end - plan.estimated_duration) > 1e-6:
            yield f"it takes {end:g} s, and not {float(plan.estimated_duration):g}"


def _is_kept(limit, ways, spans, left: int, is_as_said: bool) -> bool:
    cost = sum(way.cost for way in ways.values())
    if isinstance(limit, Deadline):
        # Only as long as tasks take what was said of them.
        latest = max(end for _, end in spans.values())
        return not is_as_said or latest <= limit.seconds + 1e-6
    if isinstance(limit, MaxPeak):
        peaks = [
            sum(ways[n].cpu for n, (b, e) in spans.items() if b <= moment < e)
            for moment, _ in spans.values()
        ]
        return max(peaks) <= limit.amount
    if isinstance(limit, Before):
        ends = {ways[name].name: end for name, (_, end) in spans.items()}
        starts = {ways[name].name: start for name, (start, _) in spans.items()}
        return limit.first in ends and ends[limit.first] <= starts[limit.then]
    return cost <= (limit.amount if isinstance(limit, MaxCost) else left)
