"""
Tests whether constraints can hold together: proven, found by search, or unknown.

Bounds come first, then orders by rules. Of a few tasks all orders that matter are tried
(each task as early as it can be, begun in the order of their starts), which proves that
none is in time. A search that would need longer ends without an answer.

Decision: planner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from time import monotonic
from typing import Final

import attrs

from taskorch.ext.planner._domain import PlannedStep, step_cost, step_seconds
from taskorch.ext.planner._job_shop import best_order
from taskorch.ext.planner._scheduling import (
    RULES,
    Problem,
    Schedule,
    heft,
    improve_workers,
    lower_bound,
    parallel,
    tails,
    topological,
)
from taskorch.ext.planner._state import EVERY, State
from taskorch.ext.planner._values import (
    COST,
    Before,
    BudgetLeft,
    Constraint,
    Deadline,
    MaxCost,
    MaxPeak,
    PlannedTask,
)
from taskorch.kit.vocabulary import guess

#: Time units of a second.
_UNIT: Final = 1_000
_SCALE: Final = 1_000_000
#: All orders are tried of at most so many tasks, and for at most so many steps.
_FEW: Final = 24
_STEPS: Final = 20_000
#: The seconds of a search for an order that keeps a deadline.
IN_TIME: Final = 0.1
DEFAULT_RULE: Final = next(iter(RULES))


def ticks(seconds: float) -> int:
    """Return seconds in the time units of a problem."""
    return round(seconds * _UNIT)


def seconds_of(units: float) -> float:
    """Return time units of a problem in seconds."""
    return units / _UNIT


def named_by(tasks: Iterable[PlannedTask], name: str) -> list[str]:
    """Return the ids that *name* stands for: one task, or all of a type."""
    return [task.id for task in tasks if name in (task.id, task.type)]


def limit_of(constraints: Iterable[Constraint]) -> float:
    """Return the seconds that a plan may take; infinity if it has no limit."""
    limits = [each.seconds for each in constraints if isinstance(each, Deadline)]
    return min(limits, default=math.inf)


def fits(problem: Problem) -> bool:
    """Return whether the capacities suffice for each task alone."""
    return all(
        amount <= capacity
        for need in problem.demands
        for amount, capacity in zip(need, problem.capacities, strict=True)
    )


def need_of(tasks: Iterable[PlannedTask], resource: str, cost: float) -> float:
    """Return how much *tasks* of this *cost* need of a resource of a budget."""
    if resource == COST:
        return cost
    return math.fsum(task.resources.get(resource, 0.0) for task in tasks)


# -- proofs ------------------------------------------------------------------------


def failing(
    constraints: Sequence[Constraint], tasks: Sequence[PlannedTask], problem: Problem
) -> str | None:
    """
    Return why these tasks cannot keep all *constraints*; None: they may.

    Only proofs count: bounds, and cycles. The *problem* has the full capacities: limits
    on peaks are tested here.
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
    """Return why *constraint* cannot hold in any order; None: it may hold."""
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
    """Return pairs of ids: the first task must end before the second begins."""
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
    """Return why *constraints* leave too little time; None: it may suffice."""
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
    """Return by how many time units the tasks may be shorter before rounding."""
    parts = sum(1 for task in tasks if float(task.duration) * _UNIT % 1)
    return (parts + 1) // 2


def _use(task: PlannedTask, resource: str) -> float:
    return task.resources.get(resource, 0.0)


# -- search ------------------------------------------------------------------------


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
    Return a schedule of all tasks that ends by *limit*, in time units.

    Without rounding, all tasks together may be shorter by *slack* units.
    """
    if not fits(problem):
        return TimelyOrder(None, is_sure=True)
    if problem.lengths is not None:
        # The choice of workers decides how long the tasks take.
        schedule, bound = heft(problem), 0
        if schedule.makespan > limit:
            schedule, bound = improve_workers(problem, IN_TIME)
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
    """Return the earliest end of all tasks that is found, in time units."""
    if not fits(problem):
        return math.inf
    if problem.lengths is not None:
        schedule = improve_workers(problem, IN_TIME)[0] if looks else heft(problem)
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
        least: Whether it looks for the earliest end, not for any in time.
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
        #: Whether all orders were tried.
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
                # Of two tasks that begin at once, only the order of their numbers is
                # tried.
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
        """Return what may begin next: start, weight, task; empty: all is too late."""
        problem, starts = self._problem, self._starts
        options = []
        for number, above in enumerate(problem.parents):
            if starts[number] >= 0 or any(starts[up] < 0 for up in above):
                continue
            ready = [starts[up] + problem.durations[up] for up in above]
            start = self._first(number, max([now, *ready]))
            if start + self._tails[number] > self._limit:
                # Other tasks before it can only delay it.
                return []
            options.append((start, -self._tails[number], number))
        return sorted(options)

    def _first(self, number: int, begin: int) -> int:
        """Return the first time at which a task fits beside those that run."""
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
        # None of these tasks begins later than this one, so that they only end.
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


# -- bounds of the first steps of a way ----------------------------------------------


@attrs.frozen(eq=False)
class Spent:
    """
    The least sums of some steps.

    Attributes:
        cost: Their cost.
        amounts: Their reservations of each resource.
        work: Amount times seconds, for each resource.
        ends: When each variable was last written, and read.
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
    Bounds that tell whether the first steps of a way can still keep all constraints.

    Args:
        constraints: The constraints.
        capacities: The capacity of each resource.
        seconds: Gives the least duration of a step.
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
        #: Whether a way beyond a bound is cut off, and whether one was.
        self.cuts = False
        self.has_cut = False

    def after(self, spent: Spent | None, step: PlannedStep) -> Spent | None:
        """Return *spent* with one more *step*; None: it exceeds a bound."""
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
        """Return when each variable is free after *step*, and its earliest end."""
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
        # Problems round to time units; here nothing is rounded, so the limit is wider.
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
    Return a function that gives the least seconds of a step; 0 if it states none.

    Args:
        stated: Corrects the stated seconds of a type.
        fastest: Gives the factor of the fastest worker for a type.
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
        kept: If they can, all constraints that such a way keeps.
        why: Otherwise, why not.
        is_sure: Whether the answer is proven.
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
    Return the fewest *constraints* that cannot hold together by any way, and why.

    If a set of constraints can hold, so can its subsets: *held* is not asked about
    these.

    Args:
        constraints: The constraints, which cannot hold together.
        held: Says whether some can.
        whole: Its answer for all of them.
        end: The time until which it may ask.

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
