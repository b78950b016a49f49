"""
The simulation of a plan: its duration, and the constraints that do not hold.

Decision: planner.
"""

from __future__ import annotations

import math
from collections.abc import (
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.core.worlds import means_of
from taskorch.errors import (
    TaskorchError,
)
from taskorch.ext.planner._feasibility import (
    named_by,
    need_of,
)
from taskorch.ext.planner._problems import (
    needs_of,
    problem_of,
)
from taskorch.ext.planner._scheduling import (
    Aim,
    Problem,
    Schedule,
    in_order,
)
from taskorch.ext.planner._values import (
    Before,
    BudgetLeft,
    Constraint,
    Deadline,
    ExecutionPlan,
    MaxCost,
    MaxPeak,
    PlanFinding,
    PlannedTask,
    Quantity,
)
from taskorch.ext.simulation._plans._report import simulate

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime


#: The distance of the P90 from the median, in deviations of a normal distribution.
_Z90: Final = 1.2816
#: A limit is near if this share of it is used.
_NEAR: Final = 0.8


@attrs.define(eq=False)
class TimedPlan:
    """
    A plan with the results of its simulation.

    It has the constraints that the plan breaks, the amount by which it does, and its
    worth by an aim: less is better.
    """

    plan: ExecutionPlan
    breaks: tuple[Constraint, ...]
    broken: int
    worth: float

    def is_better_than(self, other: TimedPlan) -> bool:
        """Return whether it breaks less, or as much and has a better worth."""
        if self.broken != other.broken:
            return self.broken < other.broken
        return self.worth < other.worth - 1e-9


class PlanTiming:
    """
    The simulation of plans in virtual time.

    Args:
        runtime: The runtime of the orchestrator, of which a copy is simulated.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime

    def timed(
        self,
        plan: ExecutionPlan,
        constraints: Sequence[Constraint],
        aim: Aim,
        problem: Problem,
        schedule: Schedule | None = None,
    ) -> TimedPlan:
        """
        Return *plan* with its simulated duration, and the tightest constraint.

        For workers that differ the *schedule* gives the duration: the simulator ignores
        that.
        """
        seconds, source = float(plan.estimated_duration), "simulated"
        cost = math.fsum(task.cost for task in plan.tasks)
        peak = 1.0
        peaks: Mapping[str, float] = {}
        has_ended = False
        with suppress(TaskorchError):
            report = self._simulated(plan)
            if not report.never and not report.failed:
                seconds = report.makespan
                peaks = report.peak.resources
                peak = aim.peak_of(report.peak.slots, peaks)
                has_ended = True
        value = aim.worth(seconds * 1000, 0.0, peak)
        if schedule is not None and problem.lengths is not None:
            seconds, source = schedule.makespan / 1000, "scheduled"
            cost += problem.cost(schedule)
            value = aim.value(schedule)
        by_id = {task.id: task.duration for task in plan.tasks}
        spread = math.fsum(
            ((by_id[name].p90 - float(by_id[name])) / _Z90) ** 2
            for name in plan.critical_path
        )
        high = seconds + _Z90 * math.sqrt(spread)
        plan = attrs.evolve(
            plan,
            estimated_duration=Quantity(seconds, high, source),
            estimated_cost=round(cost, 9),
        )
        limits = _limits(constraints, plan.tasks, seconds, cost, peaks)
        breaks = tuple(each for each, used, limit in limits if used > limit + 1e-6)
        plan = attrs.evolve(plan, binding=_binding(plan, constraints))
        return TimedPlan(plan, breaks, len(breaks) + (not has_ended), value)

    def _simulated(self, plan: ExecutionPlan) -> Any:
        return simulate(self._rt, plan.workflow, dict(plan.durations), None, 1, 0)

    def findings(
        self, plan: ExecutionPlan, constraints: Sequence[Constraint]
    ) -> tuple[list[PlanFinding], float | None]:
        """Return the faults of a plan here and now, and its seconds."""
        findings: list[PlanFinding] = []
        names = {worker.name for worker in means_of(self._rt).workers}
        for name in sorted({t.agent for t in plan.tasks if t.agent} - names):
            text = f"worker {name} is not there: the router chooses another"
            why = "pins of the plan"
            findings.append(PlanFinding("agent_gone", text, why, is_fatal=False))
        if plan.request.requirements and all(
            needs_of(plan.workflow[name].task) is None for name in plan.workflow
        ):
            text = "its requirements do nothing: its tasks are calls and programs"
            findings.append(
                PlanFinding("no_effect", text, "requirements", is_fatal=False)
            )
        try:
            report = self._simulated(plan)
        except TaskorchError as error:
            findings.append(PlanFinding(error.code, error.message, error.hint or ""))
            return findings, None
        findings += [
            PlanFinding("never", f"{name} would never run", why)
            for name, why in report.never.items()
        ]
        findings += [
            PlanFinding("failed", f"{name} would fail", why)
            for name, why in report.failed.items()
        ]
        findings += [
            PlanFinding("assumed", text, "the simulator", is_fatal=False)
            for text in report.assumed
        ]
        ended = not report.never and not report.failed
        seconds = report.makespan if ended else 0.0
        paced = self._paced(plan)
        if ended and paced is not None:
            # The simulator takes all workers for equally fast.
            is_said = all(task.agent for task in plan.tasks)
            seconds = paced if is_said else max(seconds, paced)
        findings += self._broken(plan, report, seconds, constraints)
        return findings, seconds if ended else None

    def _paced(self, plan: ExecutionPlan) -> float | None:
        """Return the seconds of a plan with workers that differ; None: they do not."""
        problem = problem_of(
            plan.tasks,
            plan.workflow,
            means_of(self._rt),
            speeds=plan.speeds,
            prices=plan.prices,
        )
        if problem.lengths is None:
            return None
        return in_order(problem, [task.agent for task in plan.tasks]).makespan / 1000

    def _broken(
        self,
        plan: ExecutionPlan,
        report: Any,
        seconds: float,
        constraints: Sequence[Constraint],
    ) -> Iterator[PlanFinding]:
        """Yield the *constraints* that do not hold in the simulator."""
        cost, peaks = plan.estimated_cost, report.peak.resources
        for each, used, limit in _limits(constraints, plan.tasks, seconds, cost, peaks):
            if used > limit + 1e-6:
                code, sentence, cause = _BROKEN[type(each)]
                resource = getattr(each, "resource", "")
                text = f"{sentence.format(used, resource)} {each}"
                path = " → ".join(plan.critical_path)
                yield PlanFinding(code, text, cause.format(path))
        ends = {one.task_id: one.end for one in report.schedule}
        starts = {one.task_id: one.start for one in reversed(report.schedule)}
        for each in constraints:
            if isinstance(each, Before):
                late = [
                    (a, b)
                    for a in named_by(plan.tasks, each.first)
                    for b in named_by(plan.tasks, each.then)
                    if a != b and starts.get(b, 0.0) < ends.get(a, 0.0) - 1e-9
                ]
                for first, then in late[:3]:
                    text = f"{then} would begin before {first} has ended"
                    yield PlanFinding("before", text, str(each))


def _limits(
    constraints: Iterable[Constraint],
    tasks: Sequence[PlannedTask],
    seconds: float,
    cost: float,
    peaks: Mapping[str, float],
) -> Iterator[tuple[Constraint, float, float]]:
    """Yield the constraints on an amount, each with its use and its limit."""
    for each in constraints:
        if isinstance(each, Deadline):
            yield each, seconds, each.seconds
        elif isinstance(each, MaxCost):
            yield each, cost, each.amount
        elif isinstance(each, MaxPeak):
            yield each, peaks.get(each.resource, 0.0), each.amount
        elif isinstance(each, BudgetLeft):
            yield each, need_of(tasks, each.resource, cost), each.amount


#: For a broken constraint: the code, the message, and the cause.
_BROKEN: Final = {
    Deadline: ("deadline", "it takes {0:g} s, and misses", "critical path: {0}"),
    MaxCost: ("cost", "it costs {0:g}, and breaks", "the costs of its tasks"),
    MaxPeak: (
        "peak",
        "{0:g} {1} are in use at once: it breaks",
        "optimize puts it in order",
    ),
    BudgetLeft: (
        "budget",
        "{0:.12g} {1} is needed: it breaks",
        "orch.resources.raise_budget sets how much there is",
    ),
}


def _binding(plan: ExecutionPlan, constraints: Sequence[Constraint]) -> str | None:
    """Return the constraint that is used up most, if it is near its limit."""
    peaks = {each.resource: each.peak for each in plan.resource_requirements}
    seconds, cost = float(plan.estimated_duration), plan.estimated_cost
    shares = [
        (used / limit, f"{each}: {used:g} is taken")
        for each, used, limit in _limits(constraints, plan.tasks, seconds, cost, peaks)
        if limit
    ]
    share, text = max(shares, default=(0.0, ""))
    return text if share >= _NEAR else None
