"""
The progress of a run of a plan, and the rest of a way to do the same.

Decision: planner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs

from taskorch.core.workflows import Workflow
from taskorch.core.workflows._arguments import with_references
from taskorch.core.workflows._graph import order
from taskorch.errors import PlanningError
from taskorch.ext.planner._domain import Decomposition, key_of
from taskorch.ext.planner._stages import Draft
from taskorch.ext.planner._values import (
    Constraint,
    Deadline,
    ExecutionPlan,
    MaxCost,
    TaskRequest,
)
from taskorch.kit.digests import UndescribedError, digest_of
from taskorch.kit.limits import NS
from taskorch.model import Call, Reference, Task, TaskState

_LOST: Final = frozenset({TaskState.FAILED, TaskState.CANCELLED})


@attrs.frozen(eq=False)
class Begun:
    """
    How far a run of a plan is, by the ids that its tasks have in the plan.

    Attributes:
        run_id: The id of the run.
        whole: All tasks of the way, with the ones of earlier runs.
        handles: The handles of all of them.
        kept: The tasks that have completed, or go on by themselves, in their order.
            completed: The completed ones of these.
        failed: The tasks that have failed, or wait for somebody to decide.
        seconds: Since the run began.
    """

    run_id: str
    whole: Workflow
    handles: Mapping[str, Any]
    kept: tuple[str, ...]
    completed: frozenset[str]
    failed: frozenset[str]
    seconds: float

    def step(self, name: str) -> tuple[Any, ...]:
        """Return the step of a domain that a task carries out."""
        task = self.whole[name].task
        call = task.payload
        return (task.type, *(call.args if isinstance(call, Call) else call or ()))

    def refused(self) -> tuple[Any, ...]:
        """Return the steps that have failed, and never went well here."""
        well = [key_of(self.step(name)) for name in self.kept]
        failed = (key_of(self.step(name)) for name in self.failed)
        return tuple(step for step in failed if step not in well)

    def as_it_stands(self, plan: ExecutionPlan) -> Draft:
        """Return all tasks of the way of *plan*."""
        reasons = {(each.task, each.needs): each.reason for each in plan.dependencies}
        costs = {task.id: task.cost for task in plan.tasks}
        return Draft(self.whole, reasons, costs, plan.choices)

    def same_in(self, workflow: Workflow) -> dict[str, str]:
        """Return the tasks of *workflow* that are kept, each with its id in the run."""
        return {
            name: name
            for name in self.kept
            if name in workflow and self.is_same(name, workflow)
        }

    def is_same(self, name: str, workflow: Workflow) -> bool:
        """Return whether task *name* of *workflow* is surely the one of this run."""
        mine, other = self.whole[name].task, workflow[name].task
        try:
            return _what(mine) == _what(other)
        except (UndescribedError, RecursionError):
            return False


def _what(task: Task) -> str:
    return digest_of((task.type, task.payload, task.requires))


def begun_of(plan: ExecutionPlan, run: Any, now: int) -> Begun:
    """
    Return the progress of *run*, which was started by *plan*.

    Args:
        plan: The plan.
        run: The run, as `orch.workflows` gives it.
        now: The time in ns since the epoch.

    Raises:
        PlanningError: It is the run of another plan.
    """
    whole = plan.workflow if plan.whole is None else plan.whole
    mine = dict(run.handles)
    handles = {**plan.earlier, **mine}
    missing = [name for name in whole if name not in handles]
    if missing:
        msg = f"run {run.workflow_id} is of another plan: it has no task {missing[0]!r}"
        raise PlanningError(msg, hint="say the plan that the run was started by")
    states = {name: handles[name].status for name in whole}
    failed = frozenset(
        name
        for name, status in states.items()
        if status.state is TaskState.FAILED or status.blocked_by == ("decision",)
    )
    lost = {name for name, status in states.items() if _is_lost(status)} | failed
    for name in order(whole.dependencies):
        above = whole.dependencies[name]
        waits = states[name].state in (TaskState.PENDING, TaskState.SUSPENDED)
        if waits and whole[name].task.join == "all" and not lost.isdisjoint(above):
            lost.add(name)
    begins = [handle.status.submitted for handle in mine.values()]
    first = min((each.timestamp() for each in begins if each), default=now / NS)
    return Begun(
        run.workflow_id,
        whole,
        handles,
        tuple(name for name in whole if name not in lost),
        frozenset(n for n, s in states.items() if s.state is TaskState.COMPLETED),
        failed,
        max(0.0, now / NS - first),
    )


def _is_lost(status: Any) -> bool:
    """Return whether a task needs somebody's help to complete."""
    if status.state is TaskState.BLOCKED:
        return bool(status.blocked_by != ("event",))
    return status.state in _LOST or bool(status.stale)


def rest_of(request: TaskRequest, plan: ExecutionPlan, begun: Begun) -> TaskRequest:
    """
    Return *request* with the rest of its time and of its cost.

    Raises:
        PlanningError: There is nothing left of either.
    """
    paid = {*begun.kept, *begun.failed}
    spent = sum(task.cost for task in plan.tasks if task.id in paid)
    constraints: list[Constraint] = []
    for each in request.constraints:
        if isinstance(each, Deadline):
            constraints.append(Deadline(_left(each, each.seconds, begun.seconds, "s")))
        elif isinstance(each, MaxCost):
            constraints.append(MaxCost(_left(each, each.amount, spent, "of cost")))
        else:
            constraints.append(each)
    deadline = request.deadline
    if isinstance(deadline, int | float):
        limit = Deadline(deadline)
        deadline = _left(limit, deadline, begun.seconds, "s")
    return attrs.evolve(request, constraints=constraints, deadline=deadline)


def _left(limit: Deadline | MaxCost, most: float, spent: float, unit: str) -> float:
    if spent > most:
        msg = f"{limit} cannot hold any more: {spent:g} {unit} are gone"
        raise PlanningError(msg, conflict=(str(limit),))
    return most - spent


def left_of(draft: Draft, same: Mapping[str, str], begun: Begun) -> Draft:
    """
    Return *draft* without the tasks that a run has done or does.

    Args:
        draft: A way to do all of it.
        same: The tasks that are in the run, each with its id there.
        begun: How far the run is.

    Raises:
        PlanningError: It has phases; or a task would have to run twice at once.
    """
    workflow = draft.workflow
    if workflow.phases:
        msg = f"workflow {workflow.name!r} has phases, which are not planned anew"
        hint = f"orch.workflows.restart({begun.run_id!r}) runs again what has failed"
        raise PlanningError(msg, hint=hint)
    above = workflow.dependencies
    kept: dict[str, Any] = {}
    for name in order(above):
        if name not in same:
            continue
        fresh = [parent for parent in above[name] if parent not in kept]
        if not fresh:
            kept[name] = begun.handles[same[name]]
        elif same[name] not in begun.completed:
            msg = f"{name} goes on in run {begun.run_id}, and would have to come after "
            msg += f"{fresh[0]}, which is planned anew"
            raise PlanningError(msg, hint="wait until it has ended, or cancel it")
    rest = Workflow(workflow.name)
    for name in workflow:
        if name not in kept:
            task = workflow[name].task
            waits: list[Any] = [up for up in above[name] if up not in kept]
            # A completed task need not be waited for, unless other parents could do
            # instead.
            waits += [
                kept[up]
                for up in above[name]
                if up in kept
                and (task.join != "all" or same[up] not in begun.completed)
            ]
            rest.add(
                attrs.evolve(
                    task,
                    id=name,
                    after=[*task.after, *waits],
                    payload=_with_results(task.payload, kept),
                )
            )
    return attrs.evolve(
        draft,
        workflow=rest,
        costs={name: cost for name, cost in draft.costs.items() if name in rest},
        whole=workflow,
        earlier=kept,
    )


def _with_results(payload: Any, kept: Mapping[str, Any]) -> Any:
    """Return *payload* with the results of *kept* tasks to which it refers."""
    if not isinstance(payload, Call):
        return payload

    def changed(argument: Any) -> Any:
        is_kept = type(argument) is Reference and argument.task_id in kept
        return kept[argument.task_id] if is_kept else argument

    return with_references(payload, changed)


def from_here(
    begun: Begun,
    domain: Any,
    state: Any,
    ways: Callable[[Any], Iterator[Decomposition]],
) -> Iterator[Decomposition]:
    """
    The steps of a run that are kept, and ways to go on from where they lead.

    Args:
        begun: How far the run is.
        domain: The domain of its steps.
        state: The state before.
        ways: Yields the ways from a state on.

    Raises:
        PlanningError: There is no way, or the steps cannot be done from *state* on.
    """
    kept_steps = [begun.step(name) for name in begun.kept]
    state, done = domain.after(state, kept_steps)
    keys = [key_of(step) for step in kept_steps]
    for way in ways(state):
        steps = []
        now = state
        for step in way.steps:
            task = (step.operator.name, *step.args)
            then, _ = domain.after(now, [task])
            # A step that was done, and would change nothing now, is not done again.
            if key_of(task) not in keys or then != now:
                steps.append(step)
                now = then
        yield Decomposition((*done, *steps), way.choices)
