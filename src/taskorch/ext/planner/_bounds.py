"""
Checks of a request: its deadline, budget, and the names in its constraints.

Decision: planner.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Sequence,
)
from datetime import datetime
from typing import TYPE_CHECKING

from taskorch.core.worlds import Means
from taskorch.errors import (
    PlanningError,
)
from taskorch.ext.planner._values import (
    Before,
    BudgetLeft,
    Constraint,
    MaxPeak,
    PlannedTask,
    TaskRequest,
    budget_of,
)
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import guess

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime


def budget_left(request: TaskRequest, rt: Runtime) -> list[BudgetLeft]:
    """
    Return the rest of the budget of a request, and of the budgets above it.

    Raises:
        PlanningError: There is no such budget.
    """
    name = budget_of(request.constraints)
    rt.look_up()
    amounts = []
    with rt.lock:
        budgets = rt.kernel.budgets
        if name is not None and name not in budgets:
            msg = f"request {request.id!r}: there is no budget {show(name)}"
            hint = f"orch.budget({show(name)}, cost=…) declares it"
            near = guess(name, budgets)
            raise PlanningError(msg + near, conflict=(f"the budget {name}",), hint=hint)
        while name in budgets:
            row = budgets[name]
            if not row.is_open:
                amounts += [
                    BudgetLeft(name, resource, max(0, each.total - each.used) / 1e6)
                    for resource, each in row.pools.items()
                ]
            name = row.parent
    return amounts


def refuse_past(request: TaskRequest, now: float) -> None:
    """
    Refuse a deadline before *now*.

    Raises:
        PlanningError: It has passed.
    """
    deadline = request.deadline
    if isinstance(deadline, datetime):
        seconds_left = deadline.timestamp() - now
        if seconds_left <= 0:
            msg = f"the deadline of request {request.id!r} was "
            msg += f"{-seconds_left:.0f} s ago"
            raise PlanningError(msg, conflict=("the deadline",), hint="say a later one")


def refuse_unknown(request: TaskRequest, means: Means) -> None:
    """
    Refuse requirements that no worker has, where there are workers.

    Raises:
        PlanningError: A requirement is unknown.
    """
    capabilities = sorted({c for worker in means.workers for c in worker.capabilities})
    labels = {label for worker in means.workers for label in worker.labels}
    offered = labels.union(capabilities)
    missing = [need for need in request.requirements if need not in offered]
    if missing and capabilities:
        near = guess(missing[0], capabilities)
        msg = f"no worker has what request {request.id!r} requires: "
        msg += f"{', '.join(map(repr, missing))}{near}"
        raise PlanningError(
            msg,
            conflict=tuple(f"the requirement {need}" for need in missing),
            hint=f"workers have {', '.join(capabilities)}",
        )


def refuse_strange(
    request: TaskRequest,
    tasks: Sequence[PlannedTask],
    means: Means,
    types: Callable[[], Iterable[str]],
) -> None:
    """
    Refuse constraints that name an unknown resource or task.

    Raises:
        PlanningError: A name in a constraint is unknown.
    """
    for each in request.constraints:
        if isinstance(each, MaxPeak):
            names = {
                *dict(means.pools),
                *(r for task in tasks for r in task.resources),
            }
            names.update(r for worker in means.workers for r in worker.capacity or ())
            _refuse_name(request, each, "resource", each.resource, names)
        elif isinstance(each, Before):
            names = {one for task in tasks for one in (task.id, task.type)}
            # Another way may have the task.
            names.update(types())
            for name in (each.first, each.then):
                _refuse_name(request, each, "task", name, names)


def _refuse_name(
    request: TaskRequest,
    constraint: Constraint,
    what: str,
    name: str,
    known: Collection[str],
) -> None:
    if name not in known:
        msg = f"request {request.id!r}: {constraint}: there is no {what} {name!r}"
        raise PlanningError(
            msg + guess(name, known),
            conflict=(str(constraint),),
            hint=f"there are {', '.join(sorted(known)) or 'none'}",
        )
