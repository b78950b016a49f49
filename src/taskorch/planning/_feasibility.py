"""
Whether constraints can hold together: what is sure, what is found, what is not known.

Bounds come first, then orders by rules. Of a few tasks all orders that matter are tried
(each task as early as it can be, begun in the order of their starts), and then it is
proved that none is in time. What needs longer than that is not known, and said so.

Decision: 0263.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from time import monotonic
from typing import Final

import attrs

from taskorch.kit.vocabulary import guess
from taskorch.planning._domain import PlannedStep, step_cost, step_seconds
from taskorch.planning._job_shop import best_order
from taskorch.planning._scheduling import (
    RULES,
    Problem,
    Schedule,
    heft,
    improve_agents,
    lower_bound,
    parallel,
    tails,
    topological,
)
from taskorch.planning._state import EVERY, State
from taskorch.planning._values import (
    COST,
    Before,
    BudgetLeft,
    Constraint,
    Deadline,
    MaxCost,
    MaxPeak,
    PlannedTask,
)

#: Time units of a second.
_UNIT: Final = 1_000
_SCALE: Final = 1_000_000
#: Tasks of which all orders may be tried, and steps of that before it is given up.
_FEW: Final = 24
_STEPS: Final = 20_000
#: Seconds for which an order is looked for that keeps a deadline.
IN_TIME: Final = 0.1
DEFAULT_RULE: Final = next(iter(RULES))


def ticks(seconds: float) -> int:
    """Seconds in the time units of a problem."""
    return round(seconds * _UNIT)


def seconds_of(units: float) -> float:
    """Time units of a problem in seconds."""
    return units / _UNIT


def named_by(tasks: Iterable[PlannedTask], name: str) -> list[str]:
    """Ids of the tasks that *name* means: one by its id, or those of a type."""
    return [task.id for task in tasks if name in (task.id, task.type)]


def limit_of(constraints: Iterable[Constraint]) -> float:
    """Seconds that a plan may take."""
    limits = [each.seconds for each in constraints if isinstance(each, Deadline)]
    return min(limits, default=math.inf)


def fits(problem: Problem) -> bool:
    """Whether each task can run alone."""
    return all(
        amount <= capacity
        for need in problem.demands
        for amount, capacity in zip(need, problem.capacities, strict=True)
    )


def need_of(tasks: Iterable[PlannedTask], resource: str, cost: float) -> float:
    """What *tasks*, which come to this *cost*, need of a resource of a budget."""
    if resource == COST:
        return cost
    return math.fsum(task.resources.get(resource, 0.0) for task in tasks)


# -- what is sure ------------------------------------------------------------------


def failing(
    constraints: Sequence[Constraint], tasks: Sequence[PlannedTask], problem: Problem
) -> str | None:
    """
    Why these *constraints* cannot hold together of these tasks; None: they may.

    Only what is sure counts: bounds, and rings. The *problem* has all that there is:
    what constraints say of peaks is looked at here.
    """
    place = {task.id: number for number, task in enumerate(tasks)}
    parents = [list(above) for above in problem.parents]
    for first, then in befores(constraints, tasks):
        parents[place[then]].append(place[first])
    if len(topological(parents, [0.0] * len(parents))) < len(parents):
        return "tasks would wait for each other"
    problem = attrs.evolve(problem, parents=parents)
    cost = math.fsum(task.cost for task in tasks)
    for each in constraints:
        why = _excess(each, tasks, cost)
        if why is not None:
            return why
    return _too_long(constraints, tasks, problem)


def _excess(
    constraint: Constraint, tasks: Sequence[PlannedTask], cost: float
) -> str | None:
    """Why *constraint* cannot hold of tasks of this *cost*, in whatever order."""
    if isinstance(constraint, Before):
        for name in (constraint.first, constraint.then):
            if not named_by(tasks, name):
                return f"it has no task {name!r}{guess(name, [t.id for t in tasks])}"
    elif isinstance(constraint, MaxPeak):
        name = constraint.resource
        for task in tasks:
            if _use(task, name) > constraint.amount + 1e-9:
                return f"{task.id} alone needs {_use(task, name):g} {name}"
    elif isinstance(constraint, MaxCost) and cost > constraint.amount + 1e-9:
        return f"its tasks cost {cost:g}"
    elif isinstance(constraint, BudgetLeft):
        need = need_of(tasks, constraint.resource, cost)
        if need > constraint.amount + 1e-9:
            return f"its tasks need {need:.12g} {constraint.resource}"
    return None


def befores(
    constraints: Iterable[Constraint], tasks: Sequence[PlannedTask]
) -> list[tuple[str, str]]:
    """Which of *tasks* must end before which begins, by their ids."""
    return [
        (first, then)
        for each in constraints
        if isinstance(each, Before)
        for first in named_by(tasks, each.first)
        for then in named_by(tasks, each.then)
        if first != then
    ]


def _too_long(
    constraints: Sequence[Constraint], tasks: Sequence[PlannedTask], problem: Problem
) -> str | None:
    """Why these *constraints* leave too little time; None: they may suffice."""
    limit = limit_of(constraints)
    if limit == math.inf:
        return None
    quickest = attrs.evolve(problem, durations=problem.fastest())
    shortest, why = max(tails(quickest), default=0), "its longest chain takes"
    for each in constraints:
        if isinstance(each, MaxPeak):
            work = sum(float(t.duration) * _use(t, each.resource) for t in tasks)
            least = ticks(work / each.amount) if each.amount and work else 0
            if least > shortest:
                shortest, why = least, f"{each.resource} alone takes"
    both = zip(problem.resources, quickest.work(), problem.capacities, strict=True)
    for name, work, capacity in both:
        least = -(-work // capacity) if capacity else 0
        if least > shortest:
            shortest, why = least, f"with the {name} that there are, it takes at least"
    is_late = shortest > ticks(limit) + rounded(tasks)
    return f"{why} {shortest / _UNIT:g} s" if is_late else None


def rounded(tasks: Iterable[PlannedTask]) -> int:
    """By how many time units the tasks may be shorter than it is reckoned."""
    parts = sum(1 for task in tasks if float(task.duration) * _UNIT % 1)
    return (parts + 1) // 2


def _use(task: PlannedTask, resource: str) -> float:
    return task.resources.get(resource, 0.0)


# -- what is found -----------------------------------------------------------------


@attrs.frozen(eq=False)
class TimelyOrder:
    """
    A schedule that ends in time, if there is one.

    Attributes:
        schedule: The schedule; None: none was found.
        is_sure: Whether it is known that there is none.
    """

    schedule: Schedule | None
    is_sure: bool = False


def in_time(problem: Problem, limit: float, slack: int = 0) -> TimelyOrder:
    """
    A schedule of all tasks that ends by *limit*, in time units.

    By so many units as *slack* tasks may be shorter than it is reckoned here.
    """
    if not fits(problem):
        return TimelyOrder(None, is_sure=True)
    if problem.lengths is not None:
        # Who does what decides how long it takes.
        schedule, bound = heft(problem), 0
        if schedule.makespan > limit:
            schedule, bound = improve_agents(problem, IN_TIME)
        return _within(schedule, limit, bound > limit + slack)
    order = topological(problem.parents, RULES[DEFAULT_RULE](problem))
    schedule = _schedule(*parallel(problem, order))
    if schedule.makespan <= limit:
        return TimelyOrder(schedule)
    if lower_bound(problem) > limit + slack:
        return TimelyOrder(None, is_sure=True)
    is_complete = len(problem) <= _FEW
    if is_complete:
        tried = _Orders(problem, limit)
        if tried.best is not None:
            return TimelyOrder(tried.best)
        is_complete = tried.is_complete and not slack
    if not is_complete:
        schedule, bound = best_order(problem, IN_TIME)
        is_complete = schedule.makespan <= bound and not slack
    return _within(schedule, limit, is_complete)


def _within(schedule: Schedule, limit: float, is_sure: bool) -> TimelyOrder:
    is_in_time = schedule.makespan <= limit
    return TimelyOrder(schedule if is_in_time else None, is_sure and not is_in_time)


def soonest(problem: Problem, limit: float, *, looks: bool) -> float:
    """The earliest end of all tasks that is found before *limit*, in time units."""
    if not fits(problem):
        return math.inf
    if problem.lengths is not None:
        schedule = improve_agents(problem, IN_TIME)[0] if looks else heft(problem)
        return schedule.makespan
    order = topological(problem.parents, RULES[DEFAULT_RULE](problem))
    end = max(parallel(problem, order)[1], default=0)
    bound = lower_bound(problem)
    if end > bound and len(problem) <= _FEW and bound < limit:
        tried = _Orders(problem, min(end, limit) - 1, least=True)
        if tried.best is not None:
            end = tried.best.makespan
        looks = looks and not tried.is_complete
    if looks and end > bound:
        end = min(end, best_order(problem, IN_TIME)[0].makespan)
    return end


def _schedule(starts: list[int], ends: list[int]) -> Schedule:
    return Schedule(starts, ends, [None] * len(starts))


class _Orders:
    """
    All orders of a few tasks, each begun as early as it can be.

    Args:
        problem: The tasks.
        limit: When all must have ended.
        least: Whether the earliest end is looked for, and not any in time.
    """

    def __init__(self, problem: Problem, limit: float, *, least: bool = False) -> None:
        self._problem = problem
        self._needs = problem.needs()
        self._tails = tails(problem)
        self._limit = limit
        self._is_least = least
        self._left = _STEPS
        self._starts = [-1] * len(problem)
        self.best: Schedule | None = None
        self._search(0, 0, -1)
        #: Whether all were tried.
        self.is_complete = self._left > 0

    def _search(self, count: int, now: int, last: int) -> bool:
        """Begin one more task, at *now* or later; return whether the search is over."""
        problem, starts = self._problem, self._starts
        durations = problem.durations
        if count == len(problem):
            ends = [s + d for s, d in zip(starts, durations, strict=True)]
            self.best = _schedule(list(starts), ends)
            self._limit = self.best.makespan - 1
            return not self._is_least
        for start, _, number in self._options(now):
            self._left -= 1
            if self._left <= 0:
                return True
            if start == now and number < last and last not in problem.parents[number]:
                # Two that begin at once are begun in the order of their numbers.
                continue
            if start + self._tails[number] > self._limit:
                continue
            starts[number] = start
            is_enough = self._search(count + 1, start, number)
            starts[number] = -1
            if is_enough:
                return True
        return False

    def _options(self, now: int) -> list[tuple[int, int, int]]:
        """What may begin next, when, and how much comes after it; none: it is late."""
        problem, starts = self._problem, self._starts
        options = []
        for number, above in enumerate(problem.parents):
            if starts[number] >= 0 or any(starts[up] < 0 for up in above):
                continue
            ready = [starts[up] + problem.durations[up] for up in above]
            start = self._first(number, max([now, *ready]))
            if start + self._tails[number] > self._limit:
                # It can only begin later than that, whatever comes before it.
                return []
            options.append((start, -self._tails[number], number))
        return sorted(options)

    def _first(self, number: int, begin: int) -> int:
        """When a task can begin at the earliest beside those that have begun."""
        problem = self._problem
        length, need = problem.durations[number], self._needs[number]
        running = [
            (start + problem.durations[n], n)
            for n, start in enumerate(self._starts)
            if start >= 0 and start + problem.durations[n] > begin
        ]
        if not length:
            return begin
        running.sort()
        # None of them begins later than it does: they only end.
        moments = [begin, *(end for end, _ in running)]
        for moment in moments:
            busy = [n for end, n in running if end > moment]
            if all(
                sum(problem.demands[n][r] for n in busy) + amount
                <= problem.capacities[r]
                for r, amount in need
            ):
                return moment
        return moments[-1]


# -- what the beginning of a way has come to ---------------------------------------


@attrs.frozen(eq=False)
class Spent:
    """
    What steps come to at least.

    Attributes:
        cost: What they cost.
        amounts: What they reserve of each resource.
        work: Of each, amount times seconds.
        ends: Of each variable, when it was written last, and read.
        latest: When the last of them has ended.
        count: How many there are.
    """

    cost: float = 0.0
    amounts: Mapping[str, float] = attrs.field(factory=dict)
    work: Mapping[str, float] = attrs.field(factory=dict)
    ends: State = attrs.field(factory=State)
    latest: float = 0.0
    count: int = 0


class PathBounds:
    """
    Says of the beginning of a way whether constraints can hold of it yet.

    Args:
        constraints: The constraints.
        capacities: What there is of each resource.
        seconds: Of an operator and arguments, how long it takes at least.
    """

    def __init__(
        self,
        constraints: Sequence[Constraint],
        capacities: Mapping[str, float],
        seconds: Callable[[PlannedStep], float],
    ) -> None:
        self._seconds = seconds
        self.limit = limit_of(constraints)
        costs = [each.amount for each in constraints if isinstance(each, MaxCost)]
        self._cost = min(costs, default=math.inf)
        self._left = [each for each in constraints if isinstance(each, BudgetLeft)]
        self._peaks = dict(capacities)
        for each in constraints:
            if isinstance(each, MaxPeak):
                most = self._peaks.get(each.resource, math.inf)
                self._peaks[each.resource] = min(most, each.amount)
        #: Whether what is too much is cut off, and whether anything was.
        self.cuts = False
        self.has_cut = False

    def after(self, spent: Spent | None, step: PlannedStep) -> Spent | None:
        """What it comes to with one more *step*; None: too much."""
        spent = Spent() if spent is None else spent
        operator = step.operator
        cost = step_cost(operator, step.args)
        amounts, work = dict(spent.amounts), dict(spent.work)
        seconds = self._seconds(step)
        needs = {} if operator.resources.is_elastic else dict(operator.resources)
        for name, amount in needs.items():
            amounts[name] = amounts.get(name, 0.0) + amount
            work[name] = work.get(name, 0.0) + amount * seconds
        ends, end = self._ended(spent, step, seconds)
        then = Spent(
            spent.cost + (cost or needs.get(COST, 0.0)),
            amounts,
            work,
            ends,
            max(spent.latest, end),
            spent.count + 1,
        )
        if self.cuts and self._is_too_much(then):
            self.has_cut = True
            return None
        return then

    def _ended(
        self, spent: Spent, step: PlannedStep, seconds: float
    ) -> tuple[State, float]:
        """When each variable is free after a step, and when that has ended at least."""
        if self.limit == math.inf:
            return spent.ends, 0.0
        none = 0.0, 0.0
        before = spent.ends
        reads = {name for name in step.reads if name is not EVERY}
        begin = max(
            [
                0.0,
                *(before.get(name, none)[0] for name in reads),
                *(max(before.get(name, none)) for name in step.writes),
            ]
        )
        end = begin + seconds
        ends = {}
        for name in reads:
            wrote, read = before.get(name, none)
            ends[name] = wrote, max(read, end)
        for name in step.writes:
            ends[name] = end, end
        return before.changed(ends), end

    def _is_too_much(self, spent: Spent) -> bool:
        if spent.cost > self._cost + 1e-9:
            return True
        for each in self._left:
            need = spent.amounts.get(each.resource, 0.0)
            need = spent.cost if each.resource == COST else need
            if need > each.amount + 1e-9:
                return True
        # What is reckoned in time units is rounded, and here nothing is.
        limit = self.limit + (spent.count + 1) / _UNIT
        return spent.latest > limit or any(
            work > limit * self._peaks[name]
            for name, work in spent.work.items()
            if self._peaks.get(name)
        )


def least_seconds(
    stated: Callable[[str, float], float], fastest: Callable[[str], float]
) -> Callable[[PlannedStep], float]:
    """
    How long a step takes at least; 0 if that is not said.

    Args:
        stated: Of a type and the seconds that are said, the seconds that are thought.
        fastest: Of a type, by how much the fastest worker shortens it.
    """

    def seconds(step: PlannedStep) -> float:
        operator = step.operator
        expected = step_seconds(operator, step.args)
        if expected is None:
            return 0.0
        factor = fastest(operator.name) if operator.run is None else 1.0
        return stated(operator.name, expected) * factor

    return seconds


# -- conflicts ---------------------------------------------------------------------


@attrs.frozen(eq=False)
class Possibility:
    """
    Whether constraints can hold together.

    Attributes:
        kept: If they can, all those that hold of a way for which they do.
        why: Otherwise, why not.
        is_sure: Whether it is known.
    """

    kept: frozenset[Constraint] = frozenset()
    why: str | None = None
    is_sure: bool = True


def smallest_conflict(
    constraints: Sequence[Constraint],
    held: Callable[[tuple[Constraint, ...]], Possibility],
    whole: Possibility,
    end: float,
) -> tuple[tuple[Constraint, ...], str, bool]:
    """
    The fewest *constraints* that cannot hold together, over all ways; and why.

    Sets of which it is known that they can be held are left out with all their parts,
    so that few are asked about.

    Args:
        constraints: The constraints, which cannot hold together.
        held: Says whether some can.
        whole: What it has said of all.
        end: Until when it may ask.

    Returns:
        The constraints, why, and whether it is known that no fewer conflict.
    """
    unique = tuple(dict.fromkeys(constraints))
    possible: list[frozenset[Constraint]] = []
    is_smallest = True
    for size in range(len(unique)):
        for subset in combinations(unique, size):
            if any(together.issuperset(subset) for together in possible):
                continue
            if monotonic() > end:
                return unique, whole.why or "", False
            answer = held(subset)
            if answer.why is None:
                possible.append(answer.kept.union(subset))
            elif answer.is_sure:
                return subset, answer.why, is_smallest
            else:
                is_smallest = False
    return unique, whole.why or "", is_smallest
