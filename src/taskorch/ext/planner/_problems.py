"""
From the tasks of a plan to a problem of order, and from its answer to a workflow.

Plans of the same shape share the result of a search. Two drafts have one shape if their
tasks differ in ids and payloads alone, and wait for each other in the same places. The
order, the waits and the estimates of their plans are then the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any, Final

import attrs

from taskorch.core.workflows import Workflow
from taskorch.core.worlds import Means
from taskorch.ext.planner._feasibility import ticks
from taskorch.ext.planner._scheduling import (
    Problem,
    tails,
)
from taskorch.ext.planner._stages import Draft
from taskorch.ext.planner._values import (
    Before,
    Constraint,
    Dependency,
    ExecutionPlan,
    MaxPeak,
    PlannedTask,
    ResourceRequirement,
    TaskRequest,
)
from taskorch.kit.digests import digest_of
from taskorch.model import LOCAL, Agent, Task, Wait, is_able

#: Time units of a second.
_UNIT: Final = 1_000
_SCALE: Final = 1_000_000


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
        tasks: The tasks with their estimates.
        workflow: The tasks themselves.
        means: The workers and resources.
        constraints: Limits on peaks lower the capacities.
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
            worker
            for worker in means.workers
            if is_able(workflow[task.id].task, worker.capabilities, worker.labels)
        )
        for task, need in zip(tasks, needs, strict=True)
    ]
    lengths, workers = _lengths(
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
        # A task that waits for something outside takes no place.
        is_wait = isinstance(workflow[task.id].task.payload, Wait)
        demands.append(
            [
                int(not is_wait),
                *(min(units.get(name, 0), pools[name]) for name in names),
                *(int(key == group) for group in groups),
            ]
        )
    if lengths is not None and names:
        # With shared resources, the router chooses the workers.
        lengths = None
    costs = None
    if lengths is not None and prices:
        rates = [prices.get(name, 0.0) / _UNIT for name in workers]
        costs = [{n: t * rates[n] for n, t in each.items()} for each in lengths]
    resources = ["slots", *names, *(f"worker {', '.join(group)}" for group in groups)]
    return Problem(
        durations, parents, demands, capacities, lengths, costs, workers, resources
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
    """Return the durations by worker, if workers differ, and their names."""
    every = [
        factors_of(task.type, workers or (), means, speeds)
        for task, workers in zip(tasks, able, strict=True)
    ]
    # All workers are equally fast, and as fast as usual.
    alike = all({*factors.values()} <= {1.0} for factors in every)
    if alike and not (is_priced and any(every)):
        return None, ()
    slots: list[str] = []
    for worker in means.workers:
        most = min(worker.max_concurrency or len(tasks), means.config.concurrency)
        slots += [worker.name] * min(most, len(tasks))
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
    workers: Sequence[Agent],
    means: Means,
    speeds: Mapping[str, float] | None,
) -> dict[str, float]:
    """Return the factor on the usual duration, by worker: 2 is twice as long."""
    if speeds is not None:
        return {worker.name: 1 / speeds.get(worker.name, 1.0) for worker in workers}
    averages = {
        worker.name: record[2]
        for worker in workers
        if (record := means.records.get(worker.name, {}).get(kind)) and record[2] > 0
    }
    if not averages:
        return {worker.name: 1.0 for worker in workers}
    mean = sum(averages.values()) / len(averages)
    return {worker.name: averages.get(worker.name, mean) / mean for worker in workers}


# -- measures of an order ----------------------------------------------------------


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
    """Return the peak and total of each resource for these starts."""
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


def changed(
    workflow: Workflow,
    options: Mapping[str, Mapping[str, Any]],
    edges: Iterable[tuple[str, str]] = (),
) -> Workflow:
    """Return *workflow* with *options* for its tasks, and with more waits."""
    variant = copy(workflow)
    variant._tasks = {
        name: attrs.evolve(task, **options[name]) if name in options else task
        for name, task in workflow._tasks.items()
    }
    variant._added = {}
    variant._dependencies = workflow._dependencies.copy()
    variant._counts = dict(workflow._counts)
    for first, then in edges:
        variant.chain(first, then)
    return variant


def dependencies_of(
    workflow: Workflow, reasons: Mapping[tuple[str, str], str]
) -> tuple[Dependency, ...]:
    """Return why tasks wait for others."""
    return tuple(
        Dependency(name, up, reasons.get((name, up), "needed"))
        for name, above in workflow.dependencies.items()
        for up in above
    )


# -- shapes -----------------------------------------------------------------------

#: Fields of a task that name it, or that are compared by place.
_NAMES: Final = frozenset({"type", "payload", "id", "after"})
_OPTIONS: Final = tuple(
    field.name for field in attrs.fields(Task) if field.name not in _NAMES
)
#: Fields of a task that a plan sets.
_ORDERED: Final = ("priority", "expected", "metadata", "resources")


def shape_of(
    draft: Draft,
    tasks: Sequence[PlannedTask],
    constraints: Sequence[Constraint],
    versions: Mapping[str, Any],
) -> str:
    """
    Return a key that is equal for drafts of one shape under the same constraints.

    Args:
        draft: The draft.
        tasks: The tasks with their estimates: two digits count, or all of them if a
            constraint limits them.
        constraints: The constraints of its plan.
        versions: The versions of all else on which a plan depends.

    Raises:
        UndescribedError: Something has no description.
    """
    place = {task.id: number for number, task in enumerate(tasks)}
    # A Before constraint has become a wait in the draft.
    limits = [each for each in constraints if not isinstance(each, Before)]
    form = ".17g" if limits else ".2g"
    parts = [
        (
            task.type,
            [place[name] for name in task.after],
            [
                f"{task.duration:{form}}",
                f"{task.duration.p90:.2g}",
                f"{task.cost:{form}}",
            ],
            task.agent,
            [getattr(draft.workflow[task.id].task, name) for name in _OPTIONS],
        )
        for task in tasks
    ]
    return "shape " + digest_of((parts, limits, dict(versions)))


def like(
    draft_before: Draft,
    before: ExecutionPlan,
    draft: Draft,
    request: TaskRequest,
) -> ExecutionPlan:
    """Return the plan of a draft, by the plan of another draft of its shape."""
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
