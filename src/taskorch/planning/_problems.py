"""
From the tasks of a plan to a problem of order, and from its answer to a workflow.

Plans of the same shape share what was found out. Two drafts have one shape if their
tasks differ in ids and payloads alone, and wait for each other in the same places. What
a plan has beyond its draft is then the same for both: an order, waits and estimates.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from itertools import combinations
from typing import Any, Final

import attrs

from taskorch.model import LOCAL, Agent, Task, is_able
from taskorch.planning._scheduling import (
    Problem,
    Schedule,
    parallel,
    tails,
    topological,
)
from taskorch.planning._stages import Draft
from taskorch.planning._values import (
    COST,
    Before,
    BudgetLeft,
    Constraint,
    Deadline,
    Dependency,
    ExecutionPlan,
    MaxCost,
    MaxPeak,
    PlannedTask,
    ResourceRequirement,
    TaskRequest,
)
from taskorch.runtime._memo import digest_of
from taskorch.simulation._plans._plan import Means
from taskorch.workflows import Workflow

#: Time units of a second.
_UNIT: Final = 1_000
_SCALE: Final = 1_000_000
#: Beyond that many constraints, one conflict is found, and not the smallest.
_MANY: Final = 12


def ticks(seconds: float) -> int:
    """Seconds in the time units of a problem."""
    return round(seconds * _UNIT)


def needs_of(task: Task) -> frozenset[str] | None:
    """Capabilities that the worker of a task must have; None: no worker does it."""
    if isinstance(task.payload, LOCAL):
        return None
    return frozenset((task.type,) if task.requires is None else task.requires)


def problem_of(
    tasks: Sequence[PlannedTask],
    workflow: Workflow,
    means: Means,
    *,
    constraints: Iterable[Constraint] = (),
    speeds: Mapping[str, float] | None = None,
    prices: Mapping[str, float] | None = None,
) -> Problem:
    """
    The problem of the order of *tasks*.

    Args:
        tasks: What is known of them.
        workflow: The tasks themselves.
        means: What there is.
        constraints: Those of peaks narrow what there is.
        speeds: By worker, how fast it is, where the usual is 1.
        prices: By worker, what a second of it costs.
    """
    place = {task.id: number for number, task in enumerate(tasks)}
    durations = [ticks(float(task.duration)) for task in tasks]
    parents = [[place[up] for up in task.after if up in place] for task in tasks]
    pools = dict(means.pools)
    for each in constraints:
        if isinstance(each, MaxPeak):
            most = round(each.amount * _SCALE)
            pools[each.resource] = min(pools.get(each.resource, most), most)
    names = [n for n in pools if any(n in task.resources for task in tasks)]
    needs = [needs_of(workflow[task.id].task) for task in tasks]
    able = [
        None
        if need is None
        else tuple(
            agent
            for agent in means.agents
            if is_able(workflow[task.id].task, agent.capabilities, agent.labels)
        )
        for task, need in zip(tasks, needs, strict=True)
    ]
    lengths, agents = _lengths(
        tasks, durations, able, means, speeds, is_priced=bool(prices)
    )
    groups: dict[tuple[str, ...], int] = {}
    for candidates in able:
        if candidates and all(a.max_concurrency is not None for a in candidates):
            key = tuple(a.name for a in candidates)
            groups[key] = sum(a.max_concurrency or 0 for a in candidates)
    demands, capacities = [], [means.config.concurrency]
    capacities += [pools[name] for name in names] + list(groups.values())
    for task, candidates in zip(tasks, able, strict=True):
        units = dict(task.resources.units)
        key = tuple(a.name for a in candidates or ())
        demands.append(
            [
                1,
                *(min(units.get(name, 0), pools[name]) for name in names),
                *(int(key == group) for group in groups),
            ]
        )
    if lengths is not None and names:
        # What is shared besides decides: agents are left to the router.
        lengths = None
    costs = None
    if lengths is not None and prices:
        rates = [prices.get(name, 0.0) / _UNIT for name in agents]
        costs = [{n: t * rates[n] for n, t in each.items()} for each in lengths]
    resources = ["slots", *names, *(f"agent {', '.join(group)}" for group in groups)]
    return Problem(
        durations, parents, demands, capacities, lengths, costs, agents, resources
    )


def _lengths(
    tasks: Sequence[PlannedTask],
    durations: Sequence[int],
    able: Sequence[tuple[Agent, ...] | None],
    means: Means,
    speeds: Mapping[str, float] | None,
    *,
    is_priced: bool = False,
) -> tuple[list[dict[int, int]] | None, tuple[str, ...]]:
    """How long each takes on each worker, if that differs; and their names."""
    every = [
        factors_of(task.type, agents or (), means, speeds)
        for task, agents in zip(tasks, able, strict=True)
    ]
    # Equally fast, and as fast as usual.
    alike = all({*factors.values()} <= {1.0} for factors in every)
    if alike and not (is_priced and any(every)):
        return None, ()
    slots: list[str] = []
    for agent in means.agents:
        most = min(agent.max_concurrency or len(tasks), means.config.concurrency)
        slots += [agent.name] * min(most, len(tasks))
    lengths = [
        {
            number: max(round(duration * factors[name]), int(duration > 0))
            for number, name in enumerate(slots)
            if name in factors
        }
        for duration, factors in zip(durations, every, strict=True)
    ]
    return lengths, tuple(slots)


def factors_of(
    kind: str,
    agents: Sequence[Agent],
    means: Means,
    speeds: Mapping[str, float] | None,
) -> dict[str, float]:
    """By worker, how much longer it takes than the usual."""
    if speeds is not None:
        return {agent.name: 1 / speeds.get(agent.name, 1.0) for agent in agents}
    averages = {
        agent.name: record[2]
        for agent in agents
        if (record := means.records.get(agent.name, {}).get(kind)) and record[2] > 0
    }
    if not averages:
        return {agent.name: 1.0 for agent in agents}
    mean = sum(averages.values()) / len(averages)
    return {agent.name: averages.get(agent.name, mean) / mean for agent in agents}


# -- what holds of an order --------------------------------------------------------


def critical_path(problem: Problem, tasks: Sequence[PlannedTask]) -> tuple[str, ...]:
    """Ids of the chain that takes longest."""
    if not tasks:
        return ()
    ways, children = tails(problem), problem.children()
    roots = [n for n in range(len(tasks)) if not problem.parents[n]]
    number = max(roots, key=lambda n: ways[n])
    path = [tasks[number].id]
    while children[number]:
        number = max(children[number], key=lambda n: ways[n])
        path.append(tasks[number].id)
    return tuple(path)


def requirements_of(
    problem: Problem,
    starts: Sequence[int],
    tasks: Sequence[PlannedTask],
) -> tuple[ResourceRequirement, ...]:
    """Peak and total of each resource, if tasks start then."""
    requirements = []
    names = dict.fromkeys(name for task in tasks for name in task.resources)
    for name in names:
        moments: list[tuple[int, float]] = []
        total = 0.0
        for number, task in enumerate(tasks):
            amount = task.resources.get(name, 0.0)
            if amount:
                end = starts[number] + problem.durations[number]
                moments += [(starts[number], amount), (end, -amount)]
                total += amount * float(task.duration)
        peak = used = 0.0
        for _, change in sorted(moments):
            used += change
            peak = max(peak, used)
        requirements.append(ResourceRequirement(name, round(peak, 6), round(total, 6)))
    return tuple(requirements)


def order_edges(
    problem: Problem, schedule: Schedule, loose: Problem | None = None
) -> list[tuple[int, int]]:
    """
    Few waits by which an order gives this schedule; none if that cannot be.

    Whatever fits begins, the first in order first, and that may be too early for what
    comes then. Each wait is for a task that ends in the schedule before the other
    begins, so there is no ring. *loose* is the problem as the orchestrator has it, with
    more of some resource than may be used.
    """
    real = problem if loose is None else loose
    order = schedule.order()

    def is_kept(edges: Sequence[tuple[int, int]]) -> bool:
        parents = [list(above) for above in problem.parents]
        for first, then in edges:
            parents[then].append(first)
        starts, ends = parallel(attrs.evolve(real, parents=parents), order)
        return max(ends, default=0) <= schedule.makespan and (
            loose is None or _is_within(problem, starts, ends)
        )

    if is_kept(()):
        return []
    edges = _held_back(problem, real, schedule, order)
    return edges if is_kept(edges) else []


def _held_back(  # noqa: C901 - the loop that much time goes into
    problem: Problem, real: Problem, schedule: Schedule, order: Sequence[int]
) -> list[tuple[int, int]]:
    """
    Waits for all that would begin so early that others would begin too late.

    It goes through time as the orchestrator does. What would begin before its time is
    let go if there is enough for it beside all others at their times.
    """
    durations, ends = problem.durations, [0] * len(problem)
    rank = [0] * len(problem)
    for place, number in enumerate(order):
        rank[number] = place
    timeline = _Taken(problem, schedule)
    waiting = [len(set(above)) for above in problem.parents]
    children = problem.children()
    edges: list[tuple[int, int]] = []
    free, needs = list(real.capacities), real.needs()
    ready = sorted(rank[n] for n, count in enumerate(waiting) if not count)
    running: list[tuple[int, int]] = []
    is_ended = [False] * len(problem)
    now = 0
    while ready or running:
        later: list[int] = []
        for at in ready:
            number = order[at]
            need = needs[number]
            if any(free[r] < amount for r, amount in need):
                later.append(at)
                continue
            if schedule.starts[number] > now and not timeline.move(number, now):
                # The latest of those that end in time, if there is one.
                before = max(
                    (
                        (schedule.ends[n], n)
                        for n in range(len(problem))
                        if not is_ended[n]
                        and durations[n]
                        and schedule.ends[n] <= schedule.starts[number]
                    ),
                    default=None,
                )
                if before is not None:
                    edges.append((before[1], number))
                    children[before[1]].append(number)
                    waiting[number] += 1
                    continue
            for r, amount in need:
                free[r] -= amount
            ends[number] = now + durations[number]
            heapq.heappush(running, (ends[number], number))
        ready = later
        if not running:
            break
        now = running[0][0]
        while running and running[0][0] == now:
            number = heapq.heappop(running)[1]
            is_ended[number] = True
            for r, amount in needs[number]:
                free[r] += amount
            for child in children[number]:
                waiting[child] -= 1
                if not waiting[child]:
                    insort(ready, rank[child])
    return edges


class _Taken:
    """What is free of each resource over time, beside tasks at their times."""

    def __init__(self, problem: Problem, schedule: Schedule) -> None:
        self._problem = problem
        self._starts = list(schedule.starts)
        self._times: list[int] = [0]
        self._free: list[list[int]] = [list(problem.capacities)]
        for number in schedule.order():
            self._take(number, 1)

    def _at(self, moment: int) -> int:
        """The place of a moment, which is made if there is none."""
        place = bisect_left(self._times, moment)
        if place == len(self._times) or self._times[place] != moment:
            self._times.insert(place, moment)
            self._free.insert(place, self._free[place - 1].copy())
        return place

    def _take(self, number: int, sign: int) -> None:
        start, length = self._starts[number], self._problem.durations[number]
        if not length:
            return
        first = self._at(start)
        last = self._at(start + length)
        need = [(r, sign * a) for r, a in enumerate(self._problem.demands[number]) if a]
        for free in self._free[first:last]:
            for resource, amount in need:
                free[resource] -= amount

    def move(self, number: int, start: int) -> bool:
        """Let a task begin at *start* if there is enough for it then."""
        self._take(number, -1)
        was, self._starts[number] = self._starts[number], start
        first = self._at(start)
        last = self._at(start + self._problem.durations[number])
        need = [(r, a) for r, a in enumerate(self._problem.demands[number]) if a]
        is_enough = all(
            free[resource] >= amount
            for free in self._free[first:last]
            for resource, amount in need
        )
        if not is_enough:
            self._starts[number] = was
        self._take(number, 1)
        return is_enough


def _is_within(problem: Problem, starts: Sequence[int], ends: Sequence[int]) -> bool:
    """Whether no more is in use at once than there is."""
    for place, capacity in enumerate(problem.capacities):
        changes = [
            (moment, sign * problem.demands[n][place])
            for n in range(len(problem))
            if starts[n] < ends[n]
            for moment, sign in ((starts[n], 1), (ends[n], -1))
        ]
        used = 0
        # What ends gives back before what begins takes.
        for _, amount in sorted(changes):
            used += amount
            if used > capacity:
                return False
    return True


def changed(
    workflow: Workflow,
    options: Mapping[str, Mapping[str, Any]],
    edges: Iterable[tuple[str, str]] = (),
) -> Workflow:
    """*workflow* with other *options* of its tasks, and more that they wait for."""
    variant = copy(workflow)
    variant._share()
    variant._tasks = {
        name: attrs.evolve(task, **options[name]) if name in options else task
        for name, task in workflow._tasks.items()
    }
    variant._added = {}
    variant._awaited = {name: [*waits] for name, waits in workflow._awaited.items()}
    variant._counts = dict(workflow._counts)
    variant._graph = variant._needed = None
    for first, then in edges:
        variant.chain(first, then)
    return variant


def dependencies_of(
    workflow: Workflow, reasons: Mapping[tuple[str, str], str]
) -> tuple[Dependency, ...]:
    """Why tasks wait for others."""
    return tuple(
        Dependency(name, up, reasons.get((name, up), "needed"))
        for name, above in workflow.dependencies.items()
        for up in above
    )


# -- constraints -------------------------------------------------------------------


def named_by(tasks: Iterable[PlannedTask], name: str) -> list[str]:
    """Ids of the tasks that *name* means: one by its id, or those of a type."""
    return [task.id for task in tasks if name in (task.id, task.type)]


def failing(  # noqa: C901, PLR0912 - a case a constraint
    constraints: Sequence[Constraint], tasks: Sequence[PlannedTask], problem: Problem
) -> str | None:
    """
    Why these *constraints* cannot hold together of these tasks; None: they may.

    Only what is sure counts: bounds, and rings. The *problem* has all that there is:
    what constraints say of peaks is looked at here.
    """
    place = {task.id: number for number, task in enumerate(tasks)}
    parents = [list(above) for above in problem.parents]
    for each in constraints:
        if isinstance(each, Before):
            for then in named_by(tasks, each.then):
                for first in named_by(tasks, each.first):
                    if first != then:
                        parents[place[then]].append(place[first])
    ordered = attrs.evolve(problem, parents=parents, durations=problem.fastest())
    ways = tails(ordered)
    if _has_ring(parents):
        return "tasks would wait for each other"
    shortest = max(ways, default=0)
    why = "its longest chain takes"
    for each in constraints:
        if isinstance(each, MaxPeak):
            for task in tasks:
                if task.resources.get(each.resource, 0.0) > each.amount:
                    amount = task.resources[each.resource]
                    return f"{task.id} alone needs {amount:g} {each.resource}"
            work = sum(
                float(t.duration) * t.resources.get(each.resource, 0.0) for t in tasks
            )
            least = ticks(work / each.amount) if each.amount and work else 0
            if least > shortest:
                shortest, why = least, f"{each.resource} alone takes"
    both = zip(problem.resources, ordered.work(), problem.capacities, strict=True)
    for name, work, capacity in both:
        least = -(-work // capacity) if capacity else 0
        if least > shortest:
            shortest, why = least, f"with the {name} that there are, it takes at least"
    limits = [each.seconds for each in constraints if isinstance(each, Deadline)]
    if limits and shortest > ticks(min(limits)):
        return f"{why} {shortest / _UNIT:g} s"
    cost = sum(task.cost for task in tasks)
    limits = [each.amount for each in constraints if isinstance(each, MaxCost)]
    if limits and cost > min(limits) + 1e-9:
        return f"its tasks cost {cost:g}"
    for each in constraints:
        if isinstance(each, BudgetLeft):
            need = need_of(tasks, each.resource, cost)
            if need > each.amount + 1e-9:
                return f"its tasks need {need:.12g} {each.resource}"
    return None


def need_of(tasks: Iterable[PlannedTask], resource: str, cost: float) -> float:
    """What *tasks*, which come to this *cost*, need of a resource of a budget."""
    if resource == COST:
        return cost
    return math.fsum(task.resources.get(resource, 0.0) for task in tasks)


def _has_ring(parents: Sequence[Sequence[int]]) -> bool:
    return len(topological(parents, [0.0] * len(parents))) < len(parents)


def smallest_conflict(
    constraints: Sequence[Constraint], tasks: Sequence[PlannedTask], problem: Problem
) -> tuple[tuple[Constraint, ...], str] | None:
    """The fewest of *constraints* that cannot hold together, and why; None: all can."""
    why = failing(constraints, tasks, problem)
    if why is None:
        return None
    if len(constraints) <= _MANY:
        for size in range(len(constraints) + 1):
            for subset in combinations(constraints, size):
                reason = failing(subset, tasks, problem)
                if reason is not None:
                    return subset, reason
    kept = list(constraints)
    for each in constraints:
        less = [other for other in kept if other is not each]
        reason = failing(less, tasks, problem)
        if reason is not None:
            kept, why = less, reason
    return tuple(kept), why


#: Fields of a task that are its name, or are looked at as a whole by places.
_NAMES: Final = frozenset({"type", "payload", "id", "after"})
_OPTIONS: Final = tuple(
    field.name for field in attrs.fields(Task) if field.name not in _NAMES
)
#: What a plan gives to a task.
_ORDERED: Final = ("priority", "expected", "metadata", "resources")


def shape_of(
    draft: Draft,
    tasks: Sequence[PlannedTask],
    constraints: Sequence[Constraint],
    versions: Mapping[str, Any],
) -> str:
    """
    What is the same for drafts of one shape, under the same constraints.

    Args:
        draft: The draft.
        tasks: What its tasks are thought to take; two digits of it count.
        constraints: What must hold of its plan.
        versions: What else a plan depends on.

    Raises:
        UndescribedError: Something has no description.
    """
    place = {task.id: number for number, task in enumerate(tasks)}
    parts = [
        (
            task.type,
            [place[name] for name in task.after],
            [f"{task.duration:.2g}", f"{task.duration.p90:.2g}", f"{task.cost:.2g}"],
            task.agent,
            [getattr(draft.workflow[task.id].task, name) for name in _OPTIONS],
        )
        for task in tasks
    ]
    # What is to be before another waits for it in the draft.
    limits = [each for each in constraints if not isinstance(each, Before)]
    return "shape " + digest_of((parts, limits, dict(versions)))


def like(
    draft_before: Draft,
    before: ExecutionPlan,
    draft: Draft,
    request: TaskRequest,
) -> ExecutionPlan:
    """The plan of a draft, by the plan of another draft of its shape."""
    ids_before = draft_before.workflow.dependencies
    names = dict(zip(ids_before, draft.workflow.dependencies, strict=True))
    options: dict[str, dict[str, Any]] = {}
    edges: list[tuple[str, str]] = []
    reasons = dict(draft.reasons)
    waits = {(each.needs, each.task): each.reason for each in before.dependencies}
    for name_before, name in names.items():
        node, own = before.workflow[name_before], draft_before.workflow[name_before]
        options[name] = {
            field: getattr(node.task, field)
            for field in _ORDERED
            if getattr(node.task, field) != getattr(own.task, field)
        }
        for first in node.after:
            if first not in own.after:
                edges.append((names[first], name))
                reasons[name, names[first]] = waits[first, name_before]
    workflow = changed(draft.workflow, options, edges)
    return attrs.evolve(
        before,
        id=request.id,
        request=request,
        workflow=workflow,
        tasks=tuple(
            attrs.evolve(task, id=names[task.id], after=workflow[names[task.id]].after)
            for task in before.tasks
        ),
        dependencies=dependencies_of(workflow, reasons),
        critical_path=tuple(names[name] for name in before.critical_path),
        choices=draft.choices,
        cache="hit",
    )
