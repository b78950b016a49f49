"""
Orders of independent tasks that need several resources for themselves alone.

An open shop is such: each task needs its job and its machine, in any order. Every task
that can begin begins, first the ones that need the resources with the most work left
(dense schedules: C. Guéret and C. Prins, *Classical and new heuristics for the
open-shop problem*, European Journal of Operational Research 107, 1998). A local search
then shifts some tasks to come sooner or later. For a few tasks, the best schedule may
let a task wait though it could begin: there, simulated annealing shifts tasks in an
order, and each begins once its resources are free.

Decision: plan-search.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from heapq import nsmallest
from math import inf, log
from random import Random
from time import monotonic
from typing import Final

from taskorch.ext.planner._scheduling import Problem, Schedule

#: The number of random schedules, of which the best is then improved.
_DRAWN: Final = 20
#: The random change of a key, as a share of the lower bound: first, and in each step.
_SPREADS: Final = (0.0, 0.05, 0.2, 0.5, 1.0)
_SOONER: Final = 1.0
_LATER: Final = 0.2
#: A step moves at most one task in so many.
_MOVED: Final = 10
#: A shop has few tasks up to this number.
_FEW: Final = 25
#: The usual amount by which a kept order is worse, as a share of the lower bound.
_WORSE: Final = 0.02
#: The number of shifts between two looks at the clock.
_BETWEEN: Final = 32


def is_open_shop(problem: Problem) -> bool:
    """Return whether all tasks are independent and one needs two resources alone."""
    if problem.lengths is not None or any(problem.parents):
        return False
    counts = [0] * len(problem)
    for place, capacity in enumerate(problem.capacities):
        users = [n for n, need in enumerate(problem.demands) if need[place]]
        amounts = [problem.demands[n][place] for n in users]
        if max(amounts, default=0) > capacity:
            return False
        if len(users) > 1 and sum(nsmallest(2, amounts)) > capacity:
            for number in users:
                counts[number] += 1
    return max(counts, default=0) > 1


def improve_open_shop(
    problem: Problem,
    begin: Schedule,
    end: float,
    bound: int,
    seed: int = 0,
    *,
    stop: Callable[[], bool] = bool,
) -> Schedule:
    """
    The best schedule that is found, no worse than *begin*.

    Args:
        problem: The problem.
        begin: A schedule that is known.
        end: Until when it looks, by the clock that does not jump.
        bound: A bound that no schedule beats.
        seed: The seed of random draws.
        stop: Says whether somebody else has found what cannot be better.
    """
    random = Random(seed)  # noqa: S311 - for chance, not for secrets
    count, dense = len(problem), _Dense(problem)
    best, starts, how = begin.makespan, begin.starts, begin.how
    tries, least = 0, -1
    best_keys: list[float] = []
    keeps_sum = False
    while best > bound and monotonic() < end and not stop():
        if tries < _DRAWN:
            width = bound * random.choice(_SPREADS)
            keys = [random.uniform(-width, 0) for _ in range(count)]
            by_sum = tries % 2 == 0
        else:
            keys, by_sum = best_keys.copy(), keeps_sum
            many = random.randint(1, min(count, max(2, count // _MOVED)))
            for number in random.sample(range(count), many):
                keys[number] = random.uniform(-_SOONER * bound, _LATER * bound)
        tries += 1
        drawn = dense.starts(keys, by_sum=by_sum)
        span = dense.span
        if least < 0 or span <= least:
            best_keys, keeps_sum, least = keys, by_sum, span
        if span < best:
            best, starts = span, drawn
            how = f"by the work that is left, after {tries} tries"
    if best <= bound and not how.endswith("as good as can be"):
        how += ": as good as can be"
    ends = [
        start + length for start, length in zip(starts, problem.durations, strict=True)
    ]
    return Schedule(list(starts), ends, [None] * count, how)


def pairs_of(problem: Problem) -> list[tuple[int, int]] | None:
    """
    Return the two resources that each task of a small open shop needs alone.

    A task that needs one has it twice, and one that needs none has a number of its own.
    None: there are many tasks, a task needs more, or some tasks share another resource.
    """
    if len(problem) > _FEW:
        return None
    alone: list[list[int]] = [[] for _ in range(len(problem))]
    for place, capacity in enumerate(problem.capacities):
        users = [n for n, need in enumerate(problem.demands) if need[place]]
        amounts = [problem.demands[n][place] for n in users]
        if sum(amounts) <= capacity:
            continue
        if sum(nsmallest(2, amounts)) <= capacity:
            return None
        for number in users:
            alone[number].append(place)
    if max(map(len, alone), default=0) > 2:  # noqa: PLR2004 - a pair
        return None
    own = len(problem.capacities)
    return [
        (each[0], each[-1]) if each else (own + number, own + number)
        for number, each in enumerate(alone)
    ]


def shift_tasks(
    problem: Problem,
    pairs: Sequence[tuple[int, int]],
    begin: Schedule,
    end: float,
    bound: int,
    seed: int = 0,
    *,
    stop: Callable[[], bool] = bool,
) -> Schedule:
    """
    Return the best schedule that shifts find: see `improve_open_shop`.

    Args:
        problem: The problem.
        pairs: The result of `pairs_of`.
        begin: The best schedule so far.
        end: Until when it looks, by the clock that does not jump.
        bound: A bound that no schedule beats.
        seed: The seed of random shifts.
        stop: Says whether somebody else has found what cannot be better.
    """
    random = Random(seed).random  # noqa: S311 - for chance, not for secrets
    count, both = len(problem), zip(problem.durations, pairs, strict=True)
    steps = [(length, *pair) for length, pair in both]
    places = max(map(max, pairs), default=0) + 1
    order = begin.order()
    span = best = max(_ends(order, steps, places))
    best_order, how, tries = order.copy(), begin.how, 0
    while best > bound:
        if tries % _BETWEEN == 0 and (monotonic() >= end or stop()):
            break
        tries += 1
        place, other = int(random() * count), int(random() * count)
        order.insert(other, order.pop(place))
        most = span - _WORSE * bound * log(1 - random())
        shifted = max(_ends(order, steps, places, most))
        if shifted > most:
            order.insert(place, order.pop(other))
            continue
        span = shifted
        if span < best:
            best, best_order = span, order.copy()
            how = f"by shifts in an order, after {tries} tries"
    if best <= bound and not how.endswith("as good as can be"):
        how += ": as good as can be"
    starts, ends = [0] * count, [0] * count
    free = [0] * places
    for number in best_order:
        length, first, second = steps[number]
        starts[number] = max(free[first], free[second])
        ends[number] = free[first] = free[second] = starts[number] + length
    return Schedule(starts, ends, [None] * count, how)


def _ends(
    order: Sequence[int],
    steps: Sequence[tuple[int, int, int]],
    places: int,
    most: float = inf,
) -> list[int]:
    """
    Return when each resource is free if a task begins behind those before it.

    A task that ends later than *most* is the last one that is looked at.
    """
    free = [0] * places
    for number in order:
        length, first, second = steps[number]
        moment, other = free[first], free[second]
        if other > moment:  # noqa: PLR1730 - `max` takes twice as long
            moment = other
        free[first] = free[second] = moment = moment + length
        if moment > most:
            break
    return free


class _Dense:
    """Schedules that never leave a task waiting that could begin."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._needs = problem.needs()
        self._work = problem.work()
        #: The makespan of the latest.
        self.span = 0

    def starts(  # noqa: C901, PLR0912 - the loop that all time goes into
        self, keys: Sequence[float], *, by_sum: bool
    ) -> list[int]:
        """
        Return the begin of each task.

        Args:
            keys: For each task, the amount of work by which it comes later.
            by_sum: Whether the sum of the work left on the resources of a task counts,
                or its maximum.
        """
        durations, needs = self._problem.durations, self._needs
        combine: Callable[[list[int]], int] = sum if by_sum else max
        work, free = self._work.copy(), list(self._problem.capacities)
        queued: Sequence[int] = range(len(durations))
        starts = [0] * len(durations)
        running: list[tuple[int, int]] = []
        now = 0
        while queued or running:
            waiting, able = [], []
            for number in queued:
                for place, amount in needs[number]:
                    if free[place] < amount:
                        waiting.append(number)
                        break
                else:
                    able.append(number)
            ranked = [
                (keys[n] - combine([work[place] for place, _ in needs[n]] or [0]), n)
                for n in able
            ]
            for _, number in sorted(ranked):
                length, need = durations[number], needs[number]
                for place, amount in need:
                    if free[place] < amount:
                        waiting.append(number)
                        break
                else:
                    for place, amount in need:
                        free[place] -= amount
                        work[place] -= amount * length
                    starts[number] = now
                    heapq.heappush(running, (now + length, number))
            queued = waiting
            if not running:
                break
            now = running[0][0]
            while running and running[0][0] == now:
                for place, amount in needs[heapq.heappop(running)[1]]:
                    free[place] += amount
        self.span = now
        return starts
