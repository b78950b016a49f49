"""
The order in which tasks should begin, the worker for each, and the aims of both.

Resources are shared by schedule generation (R. Kolisch, *Serial and parallel
resource-constrained project scheduling methods revisited*, European Journal of
Operational Research 90, 1996), made better by double justification (V. Valls, F.
Ballestín and S. Quintanilla, *Justification and RCPSP: a technique that pays*, the same
165, 2005) and by drawing the order anew within a window of the best schedule. Workers
that differ are chosen by the earliest end (HEFT: H. Topcuoglu, S. Hariri and M. Wu,
IEEE Transactions on Parallel and Distributed Systems 13, 2002).

The aims are a small makespan, a small cost, and a small peak of use.

Decision: planner.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from time import monotonic
from typing import Final, TypeVar

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.ext.planner._values import ExecutionPlan
from taskorch.kit.checks import is_number
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import guess

N = TypeVar("N", int, float)
#: After so many tries without an improvement, the whole order is drawn anew.
_STALE: Final = 200
#: A plan of at most so many tasks tries all rules, however little time there is.
_MANY: Final = 500


@attrs.frozen(eq=False)
class Problem:
    """
    Tasks to be put in order, by their numbers.

    Attributes:
        durations: The duration of each task, a whole number of time units.
        parents: The tasks that each task waits for.
        demands: The amount of each resource that each task holds.
        capacities: The capacity of each resource.
        lengths: The duration of each task on each worker that can do it; empty: no
            worker is asked. None: there are no workers that differ.
        costs: The cost of each task on each of these; None: there is none.
        workers: The names of the workers, by their numbers.
        resources: The names of the resources, for people.
    """

    durations: Sequence[int]
    parents: Sequence[Sequence[int]]
    demands: Sequence[Sequence[int]]
    capacities: Sequence[int]
    lengths: Sequence[dict[int, int]] | None = None
    costs: Sequence[dict[int, float]] | None = None
    workers: Sequence[str] = ()
    resources: Sequence[str] = ()

    def cost(self, schedule: Schedule) -> float:
        """Return the cost of the workers of a schedule."""
        if self.costs is None:
            return 0.0
        both = zip(self.costs, schedule.workers, strict=True)
        return sum(costs[worker] for costs, worker in both if worker is not None)

    def __len__(self) -> int:
        return len(self.durations)

    def work(self) -> list[int]:
        """Return for each resource the sum of amount times duration."""
        both = [*zip(self.durations, self.demands, strict=True)]
        places = range(len(self.capacities))
        return [sum(time * need[place] for time, need in both) for place in places]

    def needs(self) -> list[list[tuple[int, int]]]:
        """Return the resources and amounts of each task, the scarcest first."""
        both = zip(self.work(), self.capacities, strict=True)
        scarce = [work / capacity if capacity else 0.0 for work, capacity in both]
        places = sorted(range(len(scarce)), key=lambda r: -scarce[r])
        return [[(r, need[r]) for r in places if need[r]] for need in self.demands]

    def fastest(self) -> Sequence[int]:
        """Return the shortest duration of each task."""
        if self.lengths is None:
            return self.durations
        both = zip(self.lengths, self.durations, strict=True)
        return [min(lengths.values(), default=time) for lengths, time in both]

    def children(self) -> list[list[int]]:
        """Return the tasks that wait for each task."""
        return _waiting(self.parents)[1]


@attrs.frozen(eq=False)
class Schedule:
    """
    When each task begins and ends, and by whom it is done.

    Attributes:
        starts: The start of each task.
        ends: The end of each task.
        workers: The number of the worker of each task; None: it has none.
        how: The way in which it was found, in words.
    """

    starts: list[int]
    ends: list[int]
    workers: list[int | None]
    how: str = ""

    @property
    def makespan(self) -> int:
        """The end of the last task."""
        return max(self.ends, default=0)

    def order(self) -> list[int]:
        """Return the tasks by their starts; if these are equal, by their ends."""
        return sorted(
            range(len(self.starts)), key=lambda n: (self.starts[n], self.ends[n], n)
        )


def _waiting(
    parents: Sequence[Sequence[int]],
) -> tuple[list[int], list[list[int]]]:
    """Return the number of parents of each task, and its children."""
    children: list[list[int]] = [[] for _ in parents]
    for number, above in enumerate(parents):
        for parent in set(above):
            children[parent].append(number)
    return [len(set(above)) for above in parents], children


def topological(parents: Sequence[Sequence[int]], keys: Sequence[float]) -> list[int]:
    """Return the tasks by their keys, each after the ones that it waits for."""
    waiting, children = _waiting(parents)
    heap = [(keys[n], n) for n, count in enumerate(waiting) if not count]
    heapq.heapify(heap)
    order = []
    while heap:
        number = heapq.heappop(heap)[1]
        order.append(number)
        for child in children[number]:
            waiting[child] -= 1
            if not waiting[child]:
                heapq.heappush(heap, (keys[child], child))
    return order


def tails(problem: Problem) -> list[int]:
    """Return the length of the longest chain that begins with each task."""
    return _ways(problem, problem.durations)


def _ways(problem: Problem, durations: Sequence[N]) -> list[N]:
    """Return `tails` for other *durations*."""
    longest = list(durations)
    children = problem.children()
    for number in reversed(topological(problem.parents, [0.0] * len(problem))):
        if children[number]:
            longest[number] += max(longest[child] for child in children[number])
    return longest


def lower_bound(problem: Problem) -> int:
    """Return a bound that no makespan beats, by chains and by resources."""
    bound = max(tails(problem), default=0)
    for work, capacity in zip(problem.work(), problem.capacities, strict=True):
        if capacity:
            bound = max(bound, -(-work // capacity))
    return bound


def serial(  # noqa: C901, PLR0912 - the loop that all time goes into
    problem: Problem,
    order: Sequence[int],
    parents: Sequence[Sequence[int]] | None = None,
) -> tuple[list[int], list[int]]:
    """Start each task, in this order, as early as it can; return starts and ends."""
    above = problem.parents if parents is None else parents
    durations, demands = problem.durations, problem.demands
    starts, ends = [0] * len(durations), [0] * len(durations)
    # The free amounts from each moment on, until the next one.
    times: list[int] = [0]
    free: list[list[int]] = [list(problem.capacities)]
    for number in order:
        begin = 0
        for parent in above[number]:
            begin = max(begin, ends[parent])
        length = durations[number]
        need = [(r, a) for r, a in enumerate(demands[number]) if a]
        if not length or not need:
            starts[number], ends[number] = begin, begin + length
            continue
        first = bisect_left(times, begin)
        if first == len(times) or times[first] != begin:
            first -= 1
        start, place = begin, first
        while True:
            end = start + length
            # Every moment until the end must have enough.
            while place < len(times) and times[place] < end:
                have = free[place]
                for resource, amount in need:
                    if have[resource] < amount:
                        break
                else:
                    place += 1
                    continue
                place += 1
                start, first = times[place], place
                end = start + length
            break
        if times[first] != start:
            first += 1
            times.insert(first, start)
            free.insert(first, free[first - 1].copy())
        last = bisect_left(times, end, first)
        if last == len(times) or times[last] != end:
            times.insert(last, end)
            free.insert(last, free[last - 1].copy())
        for have in free[first:last]:
            for resource, amount in need:
                have[resource] -= amount
        starts[number], ends[number] = start, end
    return starts, ends


def parallel(  # noqa: C901 - the loop that much time goes into
    problem: Problem, order: Sequence[int]
) -> tuple[list[int], list[int]]:
    """
    Start each task that fits, in this order, at each moment; return starts and ends.

    An orchestrator does so, if it has the order and nothing more.
    """
    count = len(problem)
    rank = [0] * count
    for place, number in enumerate(order):
        rank[number] = place
    durations, needs = problem.durations, problem.needs()
    waiting, children = _waiting(problem.parents)
    starts, ends = [0] * count, [0] * count
    free = list(problem.capacities)
    ready = sorted(rank[n] for n in range(count) if not waiting[n])
    running: list[tuple[int, int]] = []
    now = 0
    while ready or running:
        later: list[int] = []
        for at in ready:
            number = order[at]
            need = needs[number]
            for r, a in need:
                if free[r] < a:
                    later.append(at)
                    break
            else:
                for r, a in need:
                    free[r] -= a
                starts[number], ends[number] = now, now + durations[number]
                heapq.heappush(running, (ends[number], number))
        ready = later
        if not running:
            break
        now = running[0][0]
        while running and running[0][0] == now:
            number = heapq.heappop(running)[1]
            for r, a in needs[number]:
                free[r] += a
            for child in children[number]:
                waiting[child] -= 1
                if not waiting[child]:
                    insort(ready, rank[child])
    return starts, ends


def justified(
    problem: Problem, children: Sequence[Sequence[int]], ends: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return the schedule shifted to the right, and then to the left."""
    numbers = range(len(problem))
    # Backwards in time, each task ends as late as it can, the last ones first.
    back = sorted(numbers, key=lambda n: (-ends[n], n))
    back = topological(children, _places(back))
    late, _ = serial(problem, back, children)
    forth = sorted(numbers, key=lambda n: (-(late[n] + problem.durations[n]), n))
    forth = topological(problem.parents, _places(forth))
    return serial(problem, forth)


def _places(order: Sequence[int]) -> list[float]:
    places = [0.0] * len(order)
    for place, number in enumerate(order):
        places[number] = place
    return places


#: Rules for the order of tasks, by which the search begins.
RULES: Final[dict[str, Callable[[Problem], list[float]]]] = {
    "longest way first": lambda p: [-float(t) for t in tails(p)],
    "latest start first": lambda p: [
        d - float(t) for t, d in zip(tails(p), p.durations, strict=True)
    ],
    "most work first": lambda p: [
        -float(d * (1 + sum(need)))
        for d, need in zip(p.durations, p.demands, strict=True)
    ],
    "most successors first": lambda p: [-float(len(c)) for c in p.children()],
    "shortest first": lambda p: [float(d) for d in p.durations],
    "as they were written": lambda p: [float(n) for n in range(len(p))],
}


def improve(  # noqa: C901 - one loop, in order
    problem: Problem,
    seconds: float,
    seed: int = 0,
    *,
    rules: Sequence[str] | None = None,
    begin: Schedule | None = None,
    stop: Callable[[], bool] = bool,
) -> tuple[Schedule, int]:
    """
    The best schedule that is found in so many seconds, and the lower bound.

    Args:
        problem: The problem.
        seconds: How long is looked.
        seed: The seed of random draws.
        rules: By which rules it begins; None is by all.
        begin: A schedule to begin with, instead.
        stop: Says whether somebody else has found what cannot be better.
    """
    end = monotonic() + seconds
    children = problem.children()
    bound = lower_bound(problem)
    best: tuple[list[int], list[int]] | None = None
    how = ""

    def take(times: tuple[list[int], list[int]], name: str) -> bool:
        nonlocal best, how
        if best is None or max(times[1], default=0) < max(best[1], default=0):
            best, how = times, name
            return True
        return False

    if begin is not None:
        best, how = (begin.starts, begin.ends), begin.how
    for name in () if begin is not None else rules or RULES:
        order = topological(problem.parents, RULES[name](problem))
        for make in (parallel, serial):
            if best is not None and len(problem) > _MANY and monotonic() > end:
                break
            times = make(problem, order)
            take(times, name)
            if len(problem) <= _MANY or monotonic() < end:
                take(justified(problem, children, times[1]), f"{name}, justified")
    assert best is not None  # noqa: S101 - there is a rule at least
    random = Random(seed)  # noqa: S311 - for chance, not for secrets
    tries = stale = 0
    current = best
    while max(best[1], default=0) > bound and monotonic() < end and not stop():
        tries += 1
        times = _redrawn(problem, children, current, random, wide=stale > _STALE)
        span = max(times[1])
        if span <= max(current[1]) or random.random() < 0.02:  # noqa: PLR2004
            current = times
        if take(times, f"redrawn, after {tries} tries"):
            stale = 0
        else:
            stale += 1
            if stale % (2 * _STALE) == 0:
                current = best
    if max(best[1], default=0) <= bound:
        how += ": as good as can be"
    return Schedule(*best, workers=[None] * len(problem), how=how), bound


def _redrawn(
    problem: Problem,
    children: Sequence[Sequence[int]],
    best: tuple[list[int], list[int]],
    random: Random,
    *,
    wide: bool,
) -> tuple[list[int], list[int]]:
    """A schedule like *best*, with the order within a part of it drawn anew."""
    starts, ends = best
    span = max(ends)
    noise = span * random.choice((0.05, 0.1, 0.2, 0.4))
    low, high = 0.0, float(span)
    if not wide and random.random() < 0.5:  # noqa: PLR2004 - half of the tries
        low = random.random() * span
        high = low + span * (0.2 + 0.3 * random.random())
    keys = [
        start + random.uniform(-noise, noise) if low <= start <= high else float(start)
        for start in starts
    ]
    times = serial(problem, topological(problem.parents, keys))
    return justified(problem, children, times[1])


# -- workers that differ -----------------------------------------------------------


def heft(problem: Problem) -> Schedule:
    """Start each task, the most urgent first, where it ends first."""
    return _placed(problem, _ranks(problem), {})


def in_order(problem: Problem, workers: Sequence[str | None]) -> Schedule:
    """
    Schedule each task, in the order of numbers, on the worker that is named for it.

    A task without such a worker, or with one that cannot do it, goes where it ends
    first.
    """
    assert problem.lengths is not None  # noqa: S101 - asked if workers differ
    lengths = []
    for own, worker in zip(problem.lengths, workers, strict=True):
        pinned = {n: time for n, time in own.items() if problem.workers[n] == worker}
        lengths.append(pinned or own)
    ranks = [-float(number) for number in range(len(problem))]
    return _placed(attrs.evolve(problem, lengths=lengths), ranks, {})


def _ranks(problem: Problem) -> list[float]:
    assert problem.lengths is not None  # noqa: S101 - asked if workers differ
    mean = [
        sum(lengths.values()) / len(lengths) if lengths else float(duration)
        for lengths, duration in zip(problem.lengths, problem.durations, strict=True)
    ]
    return _ways(problem, mean)


def _placed(
    problem: Problem, ranks: Sequence[float], pinned: dict[int, int]
) -> Schedule:
    assert problem.lengths is not None  # noqa: S101 - asked if workers differ
    count = len(problem)
    order = topological(problem.parents, [-rank for rank in ranks])
    starts, ends = [0] * count, [0] * count
    workers: list[int | None] = [None] * count
    busy: dict[int, list[tuple[int, int]]] = {}
    for number in order:
        ready = max((ends[parent] for parent in problem.parents[number]), default=0)
        lengths = problem.lengths[number]
        if not lengths:
            starts[number], ends[number] = ready, ready + problem.durations[number]
            continue
        if number in pinned:
            lengths = {pinned[number]: lengths[pinned[number]]}
        end, start, worker = min(
            (_gap(busy.get(worker, []), ready, length) + length, -length, worker)
            for worker, length in lengths.items()
        )
        start = end + start
        insort(busy.setdefault(worker, []), (start, end))
        starts[number], ends[number], workers[number] = start, end, worker
    return Schedule(starts, ends, workers, "by the earliest end of each (HEFT)")


def _gap(busy: Sequence[tuple[int, int]], ready: int, length: int) -> int:
    """Return when a worker is free for *length*, from *ready* on."""
    start = ready
    for begin, end in busy:
        if start + length <= begin:
            break
        start = max(start, end)
    return start


def improve_workers(
    problem: Problem,
    seconds: float,
    seed: int = 0,
    value: Callable[[Schedule], float] | None = None,
    begin: Schedule | None = None,
) -> tuple[Schedule, int]:
    """
    The best that is found for workers that differ, and the lower bound.

    Args:
        problem: The problem.
        seconds: How long is looked.
        seed: The seed of random draws.
        value: Gives the worth of a schedule, the less the better; None: its makespan.
        begin: A schedule that is known; the result is no worse.
    """
    assert problem.lengths is not None  # noqa: S101 - asked if workers differ
    end = monotonic() + seconds
    ranks = _ranks(problem)
    best = heft(problem)
    bound = max(_ways(problem, problem.fastest()), default=0)
    random = Random(seed)  # noqa: S311 - for chance, not for secrets
    top = max(ranks, default=0.0)
    current_ranks, pinned = ranks, dict[int, int]()
    movable = [n for n, lengths in enumerate(problem.lengths) if len(lengths) > 1]
    tries = 0
    lengths = problem.lengths
    worth = value or (lambda schedule: schedule.makespan)
    least = current_worth = worth(best)
    if value is not None and problem.costs is not None:
        cheapest = {
            n: min(
                (cost, lengths[n][worker], worker) for worker, cost in costs.items()
            )[2]
            for n, costs in enumerate(problem.costs)
            if costs
        }
        candidate = _placed(problem, ranks, cheapest)
        if worth(candidate) < least:
            pinned = cheapest
            least = current_worth = worth(candidate)
            best = attrs.evolve(candidate, how="by the cheapest worker of each")
    if begin is not None and worth(begin) < least:
        current_ranks = [-float(start) for start in begin.starts]
        pinned = {
            n: worker for n, worker in enumerate(begin.workers) if worker is not None
        }
        least = current_worth = worth(begin)
        best = begin
    while monotonic() < end and (value is not None or best.makespan > bound):
        tries += 1
        noise = top * random.choice((0.02, 0.05, 0.1, 0.3))
        tried = [rank + random.uniform(-noise, noise) for rank in current_ranks]
        pins = {n: a for n, a in pinned.items() if random.random() < 0.8}  # noqa: PLR2004
        for number in random.sample(movable, min(len(movable), random.randint(0, 3))):
            pins[number] = random.choice(list(problem.lengths[number]))
        candidate = _placed(problem, tried, pins)
        candidate_worth = worth(candidate)
        if candidate_worth <= current_worth:
            current_ranks, pinned, current_worth = tried, pins, candidate_worth
        if candidate_worth < least:
            least = candidate_worth
            best = attrs.evolve(
                candidate, how=f"redrawn from HEFT, after {tries} tries"
            )
    return best, bound


AIMS: Final = ("makespan", "cost", "peak")
#: A penalty for a late schedule, which is larger than all aims together.
_LATE: Final = 1e12
#: The shares of the capacities with which a smaller peak is tried.
_SHARES: Final = (1.0, 0.75, 0.5, 0.35, 0.2)


def aims_of(aims: object) -> dict[str, float]:
    """
    Return the weight of each aim, by name.

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
    The worth of schedules of a problem; less is better.

    Args:
        weights: How much each aim counts.
        problem: The tasks and capacities.
        plan: The given plan; each aim counts relative to its amount there.
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
        """True if nothing but the makespan counts."""
        return self._weights.keys() == {"makespan"}

    def idle(self) -> str:
        """Return in words which aims have no effect here; or ""."""
        if "cost" in self._weights and not self._problem.costs:
            return "the cost is the same in any order, without prices of workers"
        if "peak" in self._weights and self._problem.lengths is not None:
            return "the peak does not count where workers differ"
        return ""

    def problems(self) -> list[Problem]:
        """Return the problem, and copies with smaller capacities."""
        problem = self._problem
        if "peak" not in self._weights or problem.lengths is not None:
            return [problem]
        least = [
            max((need[place] for need in problem.demands), default=0)
            for place in range(len(problem.capacities))
        ]
        # The most that all tasks together could use at once.
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
        """Return the weighted sum of the aims; less is better."""
        parts = {
            "makespan": span / self._span,
            "cost": cost / self._cost,
            "peak": peak,
        }
        return sum(weight * parts[name] for name, weight in self._weights.items())

    def value(self, schedule: Schedule) -> float:
        """Return the worth of a schedule of unequal workers, with a penalty if late."""
        late = max(0.0, schedule.makespan - self._limit)
        worth = self.worth(schedule.makespan, self._problem.cost(schedule), 0.0)
        return worth + (_LATE * (1 + late / self._span) if late else 0.0)

    def peak_of(self, slots: float, resources: Mapping[str, float]) -> float:
        """Return the mean share of the usable amounts that is in use at once."""
        shares = []
        used = [slots, *(resources.get(name, 0.0) * 1e6 for name in self._names)]
        for place, much in enumerate(used[: len(self._problem.capacities)]):
            most = sum(need[place] for need in self._problem.demands)
            most = min(most, self._problem.capacities[place])
            if most:
                shares.append(much / most)
        return sum(shares) / len(shares) if shares else 0.0
