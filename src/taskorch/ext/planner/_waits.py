"""
Waits that make the orchestrator keep a schedule and its peaks.

Decision: planner.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence

import attrs

from taskorch.ext.planner._scheduling import Problem, Schedule, parallel, topological
from taskorch.ext.planner._values import Constraint, MaxPeak, PlannedTask

_SCALE = 1_000_000
#: The use of a resource by each task, and the most that may be in use at once.
Peak = tuple[list[int], int]


def waits_that_keep(
    problem: Problem, schedule: Schedule, peaks: Sequence[Peak], loose: Problem
) -> Iterator[list[tuple[int, int]]]:
    """
    Yield sets of waits that give a schedule, the smallest first, all waits last.

    Each set keeps *peaks*, however long the tasks take. *loose* is the problem with the
    capacities of the orchestrator, which may exceed the peaks.
    """
    if problem.lengths is not None:
        yield []
        return
    waits: list[tuple[int, int]] = []
    for needs, most in peaks:
        waits += waits_for_peak(_with(problem, waits), schedule, needs, most)
    yield waits + order_edges(_with(problem, waits), schedule, _with(loose, waits))
    yield all_waits(problem, schedule)


def _with(problem: Problem, waits: Sequence[tuple[int, int]]) -> Problem:
    parents = [list(above) for above in problem.parents]
    for first, then in waits:
        parents[then].append(first)
    return attrs.evolve(problem, parents=parents)


def peaks_to_keep(
    constraints: Sequence[Constraint],
    tasks: Sequence[PlannedTask],
    pools: Mapping[str, int],
) -> list[Peak]:
    """Return the peaks in *constraints* that the tasks together may exceed."""
    peaks: list[Peak] = []
    for each in constraints:
        if isinstance(each, MaxPeak):
            most = round(each.amount * _SCALE)
            needs = [dict(task.resources.units).get(each.resource, 0) for task in tasks]
            if min(sum(needs), pools.get(each.resource, sum(needs))) > most:
                peaks.append((needs, most))
    return peaks


def few_waits(
    problem: Problem, schedule: Schedule, loose: Problem | None = None
) -> list[tuple[int, int]]:
    """Return `order_edges`; ignore a *loose* problem that has other resources."""
    if loose is not None and len(loose.capacities) != len(problem.capacities):
        loose = None
    return order_edges(problem, schedule, loose)


def waits_for_peak(
    problem: Problem, schedule: Schedule, needs: Sequence[int], most: int
) -> list[tuple[int, int]]:
    """
    Return waits that keep the use at *most*, however long each task takes.

    Each task takes the amount that it *needs* over from tasks that have ended in the
    schedule before it begins, and waits for these. Unused amounts come first, then the
    tasks for which it waits already.
    """
    order = _order_of(problem, schedule)
    above = _above(problem, order)
    free = {-1: most}
    edges: list[tuple[int, int]] = []
    for number in order:
        missing = needs[number]
        if not missing:
            continue
        givers = [
            n for n in free if n < 0 or schedule.ends[n] <= schedule.starts[number]
        ]
        givers.sort(
            key=lambda n: (
                n >= 0 and not above[number] >> n & 1,
                -1 if n < 0 else -schedule.ends[n],
            )
        )
        for giver in givers:
            amount = min(missing, free[giver])
            missing -= amount
            free[giver] -= amount
            if not free[giver]:
                del free[giver]
            if amount and giver >= 0 and not above[number] >> giver & 1:
                edges.append((giver, number))
                above[number] |= above[giver] | 1 << giver
            if not missing:
                break
        free[number] = needs[number]
    return edges


def all_waits(problem: Problem, schedule: Schedule) -> list[tuple[int, int]]:
    """Let each task wait for all that end before it begins in the schedule."""
    order = _order_of(problem, schedule)
    above = _above(problem, order)
    edges: list[tuple[int, int]] = []
    by_end: list[tuple[int, int, int]] = []
    for place, number in enumerate(order):
        start = schedule.starts[number]
        count = bisect_right(by_end, (start, len(order), 0))
        for _, _, other in reversed(by_end[:count]):
            if not above[number] >> other & 1:
                edges.append((other, number))
                above[number] |= above[other] | 1 << other
        by_end.append((schedule.ends[number], place, number))
        by_end.sort()
    return edges


def _order_of(problem: Problem, schedule: Schedule) -> list[int]:
    """Return the tasks as they begin, each after the ones that it waits for."""
    keys = [0.0] * len(problem)
    for place, number in enumerate(schedule.order()):
        keys[number] = place
    return topological(problem.parents, keys)


def _above(problem: Problem, order: Sequence[int]) -> list[int]:
    """Return all ancestors of each task, as bits."""
    above = [0] * len(problem)
    for number in order:
        for up in problem.parents[number]:
            above[number] |= above[up] | 1 << up
    return above


def order_edges(
    problem: Problem, schedule: Schedule, loose: Problem | None = None
) -> list[tuple[int, int]]:
    """
    Return few waits with which the order gives this schedule; none if it cannot.

    The orchestrator begins each task that fits, in order, which may be too early for
    the next ones. Each wait is for a task that ends in the schedule before the other
    begins, so that there is no cycle. *loose* is the problem with the capacities of the
    orchestrator.
    """
    real = problem if loose is None else loose
    order = schedule.order()

    def is_kept(edges: Sequence[tuple[int, int]]) -> bool:
        parents = [list(above) for above in problem.parents]
        for first, then in edges:
            parents[then].append(first)
        starts, ends = parallel(attrs.evolve(real, parents=parents), order)
        return max(ends, default=0) <= schedule.makespan and (
            loose is None or _is_within(problem, starts, ends)
        )

    if is_kept(()):
        return []
    edges = _held_back(problem, real, schedule, order)
    return edges if is_kept(edges) else []


def _held_back(  # noqa: C901 - the loop that much time goes into
    problem: Problem, real: Problem, schedule: Schedule, order: Sequence[int]
) -> list[tuple[int, int]]:
    """
    Return waits for tasks that would begin so early that others would begin too late.

    It goes through time as the orchestrator does. A task may begin before its time if
    there is enough for it beside all others at their times.
    """
    durations, ends = problem.durations, [0] * len(problem)
    rank = [0] * len(problem)
    for place, number in enumerate(order):
        rank[number] = place
    timeline = _Taken(problem, schedule)
    waiting = [len(set(above)) for above in problem.parents]
    children = problem.children()
    edges: list[tuple[int, int]] = []
    free, needs = list(real.capacities), real.needs()
    ready = sorted(rank[n] for n, count in enumerate(waiting) if not count)
    running: list[tuple[int, int]] = []
    is_ended = [False] * len(problem)
    now = 0
    while ready or running:
        later: list[int] = []
        for at in ready:
            number = order[at]
            need = needs[number]
            if any(free[r] < amount for r, amount in need):
                later.append(at)
                continue
            if schedule.starts[number] > now and not timeline.move(number, now):
                # It waits for the latest task that ends in time, if there is one.
                before = max(
                    (
                        (schedule.ends[n], n)
                        for n in range(len(problem))
                        if not is_ended[n]
                        and durations[n]
                        and schedule.ends[n] <= schedule.starts[number]
                    ),
                    default=None,
                )
                if before is not None:
                    edges.append((before[1], number))
                    children[before[1]].append(number)
                    waiting[number] += 1
                    continue
            for r, amount in need:
                free[r] -= amount
            ends[number] = now + durations[number]
            heapq.heappush(running, (ends[number], number))
        ready = later
        if not running:
            break
        now = running[0][0]
        while running and running[0][0] == now:
            number = heapq.heappop(running)[1]
            is_ended[number] = True
            for r, amount in needs[number]:
                free[r] += amount
            for child in children[number]:
                waiting[child] -= 1
                if not waiting[child]:
                    insort(ready, rank[child])
    return edges


class _Taken:
    """The free amounts of each resource over time, beside a schedule."""

    def __init__(self, problem: Problem, schedule: Schedule) -> None:
        self._problem = problem
        self._starts = list(schedule.starts)
        self._times: list[int] = [0]
        self._free: list[list[int]] = [list(problem.capacities)]
        for number in schedule.order():
            self._take(number, 1)

    def _at(self, moment: int) -> int:
        """Return the place of a moment, and make it if there is none."""
        place = bisect_left(self._times, moment)
        if place == len(self._times) or self._times[place] != moment:
            self._times.insert(place, moment)
            self._free.insert(place, self._free[place - 1].copy())
        return place

    def _take(self, number: int, sign: int) -> None:
        start, length = self._starts[number], self._problem.durations[number]
        if not length:
            return
        first = self._at(start)
        last = self._at(start + length)
        need = [(r, sign * a) for r, a in enumerate(self._problem.demands[number]) if a]
        for free in self._free[first:last]:
            for resource, amount in need:
                free[resource] -= amount

    def move(self, number: int, start: int) -> bool:
        """Let a task begin at *start* if there is enough for it then."""
        self._take(number, -1)
        was, self._starts[number] = self._starts[number], start
        first = self._at(start)
        last = self._at(start + self._problem.durations[number])
        need = [(r, a) for r, a in enumerate(self._problem.demands[number]) if a]
        is_enough = all(
            free[resource] >= amount
            for free in self._free[first:last]
            for resource, amount in need
        )
        if not is_enough:
            self._starts[number] = was
        self._take(number, 1)
        return is_enough


def _is_within(problem: Problem, starts: Sequence[int], ends: Sequence[int]) -> bool:
    """Return whether the use never exceeds the capacities."""
    for place, capacity in enumerate(problem.capacities):
        changes = [
            (moment, sign * problem.demands[n][place])
            for n in range(len(problem))
            if starts[n] < ends[n]
            for moment, sign in ((starts[n], 1), (ends[n], -1))
        ]
        used = 0
        # Tasks that end give back before tasks that begin take.
        for _, amount in sorted(changes):
            used += amount
            if used > capacity:
                return False
    return True
