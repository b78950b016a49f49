"""
Orders of the tasks of a plan: one that keeps constraints, and better ones.

Decision: planner.
"""

from __future__ import annotations

import math
from collections.abc import (
    Iterable,
    Mapping,
    Sequence,
)
from numbers import Real
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from taskorch.core.worlds import Means, means_of
from taskorch.errors import (
    PlanningError,
)
from taskorch.ext.learning import Chosen
from taskorch.ext.planner._feasibility import (
    DEFAULT_RULE,
    fits,
    in_time,
    limit_of,
    rounded,
    seconds_of,
    soonest,
    ticks,
)
from taskorch.ext.planner._learning import (
    MARK,
    Chooser,
)
from taskorch.ext.planner._problems import (
    changed,
    critical_path,
    dependencies_of,
    problem_of,
    requirements_of,
)
from taskorch.ext.planner._scheduling import (
    RULES,
    Aim,
    Problem,
    Schedule,
    improve_workers,
    in_order,
    parallel,
    topological,
)
from taskorch.ext.planner._stages import (
    Draft,
    PlanOptimizer,
    SearchOptimizer,
)
from taskorch.ext.planner._timing import PlanTiming, TimedPlan
from taskorch.ext.planner._values import (
    COST,
    BudgetLeft,
    Constraint,
    ExecutionPlan,
    PlannedTask,
    Quantity,
    TaskRequest,
    budget_of,
)
from taskorch.ext.planner._waits import few_waits, peaks_to_keep, waits_that_keep
from taskorch.kit.visible import show
from taskorch.model import Resources
from taskorch.policies._router import PINNED

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime


#: A plan of more tasks keeps its order if there is no time to look for another.
_LARGE: Final = 500


class Orders:
    """
    Puts the tasks of plans in order.

    Args:
        runtime: The orchestrator's.
        timing: The simulation of plans.
        chooser: Chooses a rule by its rewards.
    """

    def __init__(self, runtime: Runtime, timing: PlanTiming, chooser: Chooser) -> None:
        self._rt = runtime
        self._timing = timing
        self._chooser = chooser

    def first(
        self,
        request: TaskRequest,
        draft: Draft,
        tasks: Sequence[PlannedTask],
        problem: Problem,
        constraints: Sequence[Constraint],
    ) -> ExecutionPlan:
        """The plan of a draft, in the order of the usual rule."""
        order = topological(problem.parents, RULES[DEFAULT_RULE](problem))
        starts, ends = parallel(problem, order)
        options: dict[str, dict[str, Any]] = {
            task.id: {"expected": float(task.duration)}
            for task in tasks
            if draft.workflow[task.id].task.expected is None
        }
        for task in tasks:
            own = draft.workflow[task.id].task
            if task.cost and _bounds_cost(constraints, own.budget):
                more = _with_cost(own.resources, task.cost)
                options.setdefault(task.id, {})["resources"] = more
        plan = ExecutionPlan(
            id=request.id,
            request=request,
            workflow=changed(draft.workflow, options),
            tasks=tuple(tasks[n] for n in order),
            dependencies=dependencies_of(draft.workflow, draft.reasons),
            resource_requirements=requirements_of(problem, starts, tasks),
            estimated_duration=Quantity(max(ends, default=0) / 1000),
            estimated_cost=round(math.fsum(task.cost for task in tasks), 9),
            critical_path=critical_path(problem, tasks),
            choices=draft.choices,
            whole=draft.whole,
            earlier=draft.earlier,
        )
        aim = Aim({"makespan": 1.0}, problem, plan)
        return self._timing.timed(plan, constraints, aim, problem).plan

    def keeping(
        self, plan: ExecutionPlan, constraints: Sequence[Constraint], means: Means
    ) -> tuple[ExecutionPlan | None, str, bool]:
        """Return *plan* in an order that keeps *constraints*, or None and why not."""
        tasks = plan.tasks
        problem = problem_of(tasks, plan.workflow, means, constraints=constraints)
        limit = limit_of(constraints)
        aim = Aim({"makespan": 1.0}, problem, plan)
        peaks = peaks_to_keep(constraints, tasks, dict(means.pools))
        is_paced = problem.lengths is not None and limit < math.inf
        was = self._timing.timed(plan, constraints, aim, problem)
        if not (was.breaks or peaks or is_paced):
            return plan, "", True
        most = ticks(limit) if limit < math.inf else limit
        timely = in_time(problem, most, rounded(tasks))
        schedule = timely.schedule
        if schedule is None and limit == math.inf:
            # A task never fits; validation reports it.
            return plan, "", True
        if schedule is None:
            seconds = seconds_of(soonest(problem, math.inf, looks=False))
            return None, f"it takes {seconds:g} s", timely.is_sure
        why = ""
        for waits in waits_that_keep(
            problem, schedule, peaks, self._loose(plan, means)
        ):
            ordered = self._made_of(plan, problem, schedule, waits)
            timed = self._timing.timed(ordered, constraints, aim, problem, schedule)
            if not timed.breaks:
                return timed.plan, "", True
            why = f"{timed.breaks[0]} does not hold in virtual time"
        return None, why, False

    def _loose(self, plan: ExecutionPlan, means: Means) -> Problem:
        """Return the problem of a plan with the full capacities."""
        return problem_of(plan.tasks, plan.workflow, means)

    def better(
        self,
        plan: ExecutionPlan,
        constraints: Sequence[Constraint],
        optimizer: PlanOptimizer,
        weights: Mapping[str, float],
        *,
        seconds: float,
        seed: int,
        speeds: Mapping[str, float] | None,
        prices: Mapping[str, float] | None,
        waits: bool,
        learn: bool,
    ) -> ExecutionPlan:
        """The plan in a better order: see `Planner.optimize`."""
        now = monotonic()
        end = now + seconds
        means = means_of(self._rt)
        problem = problem_of(
            plan.tasks,
            plan.workflow,
            means,
            constraints=constraints,
            speeds=speeds,
            prices=prices,
        )
        if not fits(problem):
            return attrs.evolve(plan, optimizer="as it was: it does not fit here")
        aim = Aim(weights, problem, plan, limit_of(constraints) * 1000)
        own = [task.agent for task in plan.tasks]
        begin = None if problem.lengths is None else in_order(problem, own)
        was = self._timing.timed(plan, constraints, aim, problem, begin)
        best: TimedPlan | None = None
        searched = aim.problems()
        loose = self._loose(plan, means)
        # The simulation of the results takes about as long as that of the plan just
        # did.
        end -= (monotonic() - now) * len(searched)
        is_said = problem.lengths is None or all(own)
        is_large = len(problem) > _LARGE and monotonic() > end
        if is_said and is_large:
            how = f"{plan.optimizer}; {seconds:g} s are too short for so many tasks"
            return attrs.evolve(was.plan, optimizer=how, speeds=speeds, prices=prices)
        chosen: list[Chosen] = []
        for number, each in enumerate(searched):
            budget = max(0.0, end - monotonic()) / (len(searched) - number)
            schedule, bound = self._search(
                optimizer,
                each,
                budget,
                seed,
                aim,
                chosen if learn else None,
                begin,
            )
            is_asked = waits and each.lengths is None
            edges = few_waits(each, schedule, loose) if is_asked else ()
            ordered = self._made_of(plan, each, schedule, edges)
            timed = self._timing.timed(ordered, constraints, aim, each, schedule)
            timed.plan = attrs.evolve(timed.plan, lower_bound=bound / 1000)
            if best is None or timed.is_better_than(best):
                best = timed
        assert best is not None  # noqa: S101 - there is a problem at least
        ordered = attrs.evolve(best.plan, speeds=speeds, prices=prices)
        idle = aim.idle()
        if idle:
            ordered = attrs.evolve(ordered, optimizer=f"{ordered.optimizer}; {idle}")
        if is_said and not best.is_better_than(was):
            how = f"{plan.optimizer}; nothing better was found"
            least = ordered.lower_bound or 0.0
            span = float(was.plan.estimated_duration)
            if aim.is_makespan and least >= span - 1e-9:
                how = f"{plan.optimizer}: as good as can be"
            how = f"{how}; {idle}" if idle else how
            return attrs.evolve(
                was.plan,
                optimizer=how,
                lower_bound=ordered.lower_bound,
                speeds=speeds,
                prices=prices,
            )
        return marked(ordered, self._chooser, chosen)

    def _search(
        self,
        optimizer: PlanOptimizer,
        problem: Problem,
        seconds: float,
        seed: int,
        aim: Aim,
        chosen: list[Chosen] | None,
        begin: Schedule | None,
    ) -> tuple[Schedule, float]:
        end = monotonic() + seconds
        bound: float
        if problem.lengths is not None:
            # Workers of different speed are chosen here, whatever the optimizer is.
            schedule, bound = improve_workers(problem, seconds, seed, aim.value, begin)
        elif chosen is not None and isinstance(optimizer, SearchOptimizer):
            rule = self._chooser.rule(_context_of(problem))
            chosen.append(rule)
            answer = optimizer.optimize(problem, seconds, seed, [rule.arm])
            schedule, bound = _checked_schedule(problem, answer)
            span = schedule.makespan
            near = min(1.0, bound / span) if span else 1.0
            self._chooser.learner.learn(rule, near)
        else:
            answer = optimizer.optimize(problem, seconds, seed)
            schedule, bound = _checked_schedule(problem, answer)
        if monotonic() > end + 10:
            how = f"{schedule.how}, {monotonic() - end:.0f} s too late"
            schedule = attrs.evolve(schedule, how=how)
        return schedule, bound

    def _made_of(
        self,
        plan: ExecutionPlan,
        problem: Problem,
        best: Schedule,
        waits: Iterable[tuple[int, int]],
    ) -> ExecutionPlan:
        """Return *plan* with the order and workers of a schedule, and with *waits*."""
        tasks = plan.tasks
        order = best.order()
        edges = [(tasks[first].id, tasks[then].id) for first, then in waits]
        base = plan.request.priority
        options: dict[str, dict[str, Any]] = {}
        planned = []
        for place, number in enumerate(order):
            task = tasks[number]
            own = plan.workflow[task.id].task
            priority = base + len(order) - 1 - place
            options[task.id] = {"priority": min(priority, 1_000_000)}
            slot = best.workers[number]
            worker = task.agent if slot is None else problem.workers[slot]
            if worker is not None:
                options[task.id]["metadata"] = {**(own.metadata or {}), PINNED: worker}
            planned.append(attrs.evolve(task, agent=worker))
        reasons = {(d.task, d.needs): d.reason for d in plan.dependencies}
        reasons |= {(then, first): "the order" for first, then in edges}
        workflow = changed(plan.workflow, options, edges)
        return attrs.evolve(
            plan,
            workflow=workflow,
            tasks=tuple(
                attrs.evolve(task, after=workflow[task.id].after) for task in planned
            ),
            dependencies=dependencies_of(workflow, reasons),
            resource_requirements=requirements_of(problem, best.starts, tasks),
            optimizer=best.how,
        )


def marked(
    plan: ExecutionPlan, chooser: Chooser, chosen: Sequence[Chosen]
) -> ExecutionPlan:
    """Return *plan* with a mark of the choices for it, if there were any."""
    return _marked(plan, chooser.learner.choice(chosen)) if chosen else plan


def _marked(plan: ExecutionPlan, choice: tuple[str, float]) -> ExecutionPlan:
    """Return *plan* with its choices, new and old, on its first task."""
    first = plan.tasks[0].id
    options: dict[str, dict[str, Any]] = {}
    arms, chance = choice
    for name in plan.workflow:
        metadata = dict(plan.workflow[name].task.metadata or {})
        earlier = metadata.pop(MARK, None)
        if earlier is not None:
            arms, chance = f"{earlier['choice']} + {arms}", earlier["chance"] * chance
            options[name] = {"metadata": metadata}
    own = dict(plan.workflow[first].task.metadata or {})
    own[MARK] = {
        "choice": arms,
        "chance": chance,
        "tasks": len(plan.tasks),
        "seconds": foretold(plan),
    }
    options[first] = {"metadata": own}
    return attrs.evolve(plan, workflow=changed(plan.workflow, options))


def foretold(plan: ExecutionPlan) -> float:
    """
    Return the seconds that a plan takes by the durations that its tasks state.

    The measured durations do not count: tasks that exceed the stated ones are a loss.
    """
    path = [task for task in plan.tasks if task.id in plan.critical_path]
    estimated = math.fsum(float(task.duration) for task in path)
    stated = math.fsum(
        plan.workflow[task.id].task.expected or float(task.duration) for task in path
    )
    return float(plan.estimated_duration) * (stated / estimated if estimated else 1.0)


def _bounds_cost(constraints: Sequence[Constraint], budget: str | None) -> bool:
    """Return whether *constraints* bound the cost of tasks that draw on *budget*."""
    drawn_on = budget_of(constraints)
    return any(
        isinstance(each, BudgetLeft)
        and each.resource == COST
        and budget in (each.budget, drawn_on)
        for each in constraints
    )


def _with_cost(resources: Resources, cost: float) -> Resources:
    """Return *resources* with *cost*, unless a cost is stated already."""
    if COST in resources or resources.is_elastic:
        return resources
    return Resources(**dict(resources), cost=cost)


def _context_of(problem: Problem) -> str:
    """Return a problem's rough size, width and tightness, for the choice of a rule."""
    count = len(problem)
    edges = sum(map(len, problem.parents))
    both = zip(problem.work(), problem.capacities, strict=True)
    most = max((work / (capacity or 1) for work, capacity in both), default=0)
    tight = most > 0.7 * max(sum(problem.durations) / 4, 1)
    size = "small" if count < 50 else "medium" if count < 200 else "large"  # noqa: PLR2004
    width = "dense" if edges > 2 * count else "loose"
    return f"{size}/{width}/{'tight' if tight else 'free'}"


def _checked_schedule(problem: Problem, answer: object) -> tuple[Schedule, float]:
    """
    Check the schedule of an optimizer, which may be one of the user, and return it.

    Raises:
        PlanningError: It is no schedule of all tasks, or no bound of it.
    """
    schedule: Any = None
    bound: Any = None
    if isinstance(answer, tuple) and len(answer) == 2:  # noqa: PLR2004 - two
        schedule, bound = answer
    count = len(problem)
    hint = "mend the optimizer"
    starts = _numbers(getattr(schedule, "starts", None), count)
    ends = _numbers(getattr(schedule, "ends", None), count)
    if not isinstance(schedule, Schedule) or starts is None or ends is None:
        msg = f"the optimizer gave {show(answer)}: a Schedule of all tasks, and a bound"
        raise PlanningError(msg, hint=hint)
    for number, above in enumerate(problem.parents):
        for parent in above:
            if starts[number] < ends[parent]:
                msg = "the optimizer let a task begin before what it waits for"
                raise PlanningError(msg, hint=hint)
    slots: object = schedule.workers
    workers: list[Any] = [*slots] if isinstance(slots, Iterable) else [slots]
    workers = workers or [None] * count
    named = [slot for slot in workers if slot is not None]
    slots_there = range(len(problem.workers))
    if len(workers) != count or any(slot not in slots_there for slot in named):
        msg = f"the optimizer gave the workers {show(slots)}: of each task the number "
        msg += f"of one, of {len(problem.workers)} that there are, or None"
        raise PlanningError(msg, hint=hint)
    schedule = attrs.evolve(schedule, starts=starts, ends=ends, workers=workers)
    span = schedule.makespan
    # A bound in floats may exceed the end by less than a time unit.
    if _numbers([bound], 1) is None or bound > span + 1:
        msg = (
            f"the optimizer gave the bound {show(bound)}, and a schedule that ends at "
        )
        msg += f"{span:g}: none ends before its bound"
        raise PlanningError(msg, hint=hint)
    return schedule, min(bound, span)


def _numbers(values: object, count: int) -> list[Any] | None:
    """Return *values* if they are *count* numbers from 0 on, or else None."""
    numbers = [*values] if isinstance(values, Iterable) else []
    is_fit = all(
        isinstance(each, Real) and 0 <= cast("float", each) < math.inf
        for each in numbers
    )
    return numbers if is_fit and len(numbers) == count else None
