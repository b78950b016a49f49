"""
What is to be small in a plan: its makespan, its cost, and what is in use at once.

Decision: 0100.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from taskorch._base.vocabulary import guess
from taskorch.errors import InvalidTaskError
from taskorch.model import is_number, show
from taskorch.planning._scheduling import Problem, Schedule
from taskorch.planning._values import ExecutionPlan

AIMS: Final = ("makespan", "cost", "peak")
#: Worse than all that aims may add up to, for a plan that is no better elsewhere.
_LATE: Final = 1e12
#: The shares of what there is with which is tried whether less in use is worth it.
_SHARES: Final = (1.0, 0.75, 0.5, 0.35, 0.2)


def aims_of(aims: object) -> dict[str, float]:
    """
    How much each aim counts.

    Raises:
        InvalidTaskError: One is none, or its weight is no number from 0.
    """
    if isinstance(aims, str):
        aims = (aims,)
    if not isinstance(aims, Iterable):
        msg = f"aims is a list, or a mapping to weights, not {show(aims)}"
        raise InvalidTaskError(msg, hint='aims={"makespan": 1, "cost": 0.5}')
    weights = dict(aims) if isinstance(aims, Mapping) else dict.fromkeys(aims, 1.0)
    for name, weight in weights.items():
        if name not in AIMS:
            msg = f"there is no aim {show(name)}{guess(str(name), AIMS)}"
            raise InvalidTaskError(msg, hint=f"there are {', '.join(AIMS)}")
        if not is_number(weight, 0, 1e9):
            msg = f"the weight of {name} is a number from 0, not {show(weight)}"
            raise InvalidTaskError(msg)
    if not any(weights.values()):
        msg = "aims: one at least, with a weight above 0"
        raise InvalidTaskError(msg)
    return weights


class Aim:
    """
    What schedules of a problem are worth: the less, the better.

    Args:
        weights: How much each aim counts.
        problem: The tasks, and what there is.
        plan: The plan as it was given, of whose amounts each aim is a part.
        limit: When all must have ended, in the time units of the problem.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        problem: Problem,
        plan: ExecutionPlan,
        limit: float = math.inf,
    ) -> None:
        self._limit = limit
        self._weights = {name: weight for name, weight in weights.items() if weight}
        self._problem = problem
        self._names = tuple(
            dict.fromkeys(name for task in plan.tasks for name in task.resources)
        )
        self._span = max(1.0, float(plan.estimated_duration) * 1000)
        dearest = [max(costs.values(), default=0.0) for costs in problem.costs or ()]
        self._cost = sum(dearest) or 1.0

    @property
    def is_makespan(self) -> bool:
        """Whether nothing else counts."""
        return self._weights.keys() == {"makespan"}

    def idle(self) -> str:
        """Which aims do nothing here, in words; or ""."""
        if "cost" in self._weights and not self._problem.costs:
            return "the cost is the same in any order, without prices of agents"
        if "peak" in self._weights and self._problem.lengths is not None:
            return "the peak does not count where agents differ"
        return ""

    def problems(self) -> list[Problem]:
        """The problem, and those with less of all, down to what one task needs."""
        problem = self._problem
        if "peak" not in self._weights or problem.lengths is not None:
            return [problem]
        least = [
            max((need[place] for need in problem.demands), default=0)
            for place in range(len(problem.capacities))
        ]
        # Of what all tasks together could use at once.
        most = [
            min(capacity, sum(need[place] for need in problem.demands))
            for place, capacity in enumerate(problem.capacities)
        ]
        smaller: dict[tuple[int, ...], Problem] = {}
        for share in _SHARES:
            both = zip(most, least, strict=True)
            capacities = tuple(max(low, int(high * share)) for high, low in both)
            smaller[capacities] = attrs.evolve(problem, capacities=capacities)
        return [problem, *smaller.values()]

    def worth(self, span: float, cost: float, peak: float) -> float:
        """What a schedule of this makespan, cost and peak is worth."""
        parts = {
            "makespan": span / self._span,
            "cost": cost / self._cost,
            "peak": peak,
        }
        return sum(weight * parts[name] for name, weight in self._weights.items())

    def value(self, schedule: Schedule) -> float:
        """What a schedule of agents that differ is worth; one that is late, little."""
        late = max(0.0, schedule.makespan - self._limit)
        worth = self.worth(schedule.makespan, self._problem.cost(schedule), 0.0)
        return worth + (_LATE * (1 + late / self._span) if late else 0.0)

    def peak_of(self, slots: float, resources: Mapping[str, float]) -> float:
        """How much of all that could be used is in use at once: the mean share."""
        shares = []
        used = [slots, *(resources.get(name, 0.0) * 1e6 for name in self._names)]
        for place, much in enumerate(used[: len(self._problem.capacities)]):
            most = sum(need[place] for need in self._problem.demands)
            most = min(most, self._problem.capacities[place])
            if most:
                shares.append(much / most)
        return sum(shares) / len(shares) if shares else 0.0
