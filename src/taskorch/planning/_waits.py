"""
Waits by which an order gives the schedule that was found, and keeps its peaks.

Decisions: 0086, 0263.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence

import attrs

from taskorch.planning._scheduling import Problem, Schedule, parallel, topological
from taskorch.planning._values import Constraint, MaxPeak, PlannedTask

_SCALE = 1_000_000
#: Of a resource: what each task uses of it, and how much may be in use at once.
Peak = tuple[list[int], int]


def waits_that_keep(
    problem: Problem, schedule: Schedule, peaks: Sequence[Peak], loose: Problem
) -> Iterator[list[tuple[int, int]]]:
    """
    Waits by which a schedule comes about, the fewest first, and at last all of it.

    By each of them *peaks* are kept, however long each task takes. *loose* is the
    problem as the orchestrator has it, with more of some resource than may be used.
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
    """The peaks among *constraints* that tasks may exceed here, all at once."""
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
    """`order_edges`; a *loose* problem with other resources is none."""
    if loose is not None and len(loose.capacities) != len(problem.capacities):
        loose = None
    return order_edges(problem, schedule, loose)


def waits_for_peak(
    problem: Problem, schedule: Schedule, needs: Sequence[int], most: int
) -> list[tuple[int, int]]:
    """
    Waits by which tasks never use more than *most* at once, however long each takes.

    Each task takes what it *needs* from those that have ended in the schedule before it
    begins: it waits for these. What has been used by no one yet comes first, then what
    it waits for already.
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
    """Waits for all that ends before another begins: the schedule, and no other."""
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
    """The tasks as they begin, each after those that it waits for."""
    keys = [0.0] * len(problem)
    for place, number in enumerate(schedule.order()):
        keys[number] = place
    return topological(problem.parents, keys)


def _above(problem: Problem, order: Sequence[int]) -> list[int]:
    """Of each task, all that it waits for, as bits."""
    above = [0] * len(problem)
    for number in order:
        for up in problem.parents[number]:
            above[number] |= above[up] | 1 << up
    return above


def order_edges(
    problem: Problem, schedule: Schedule, loose: Problem | None = None
) -> list[tuple[int, int]]:
    """
    Few waits by which an order gives this schedule; none if that cannot be.

    Whatever fits begins, the first in order first, and that may be too early for what
    comes then. Each wait is for a task that ends in the schedule before the other
    begins, so there is no ring. *loose* is the problem as the orchestrator has it, with
    more of some resource than may be used.
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
    Waits for all that would begin so early that others would begin too late.

    It goes through time as the orchestrator does. What would begin before its time is
    let go if there is enough for it beside all others at their times.
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
                # The latest of those that end in time, if there is one.
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
    """What is free of each resource over time, beside tasks at their times."""

    def __init__(self, problem: Problem, schedule: Schedule) -> None:
        self._problem = problem
        self._starts = list(schedule.starts)
        self._times: list[int] = [0]
        self._free: list[list[int]] = [list(problem.capacities)]
        for number in schedule.order():
            self._take(number, 1)

    def _at(self, moment: int) -> int:
        """The place of a moment, which is made if there is none."""
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
    """Whether no more is in use at once than there is."""
    for place, capacity in enumerate(problem.capacities):
        changes = [
            (moment, sign * problem.demands[n][place])
            for n in range(len(problem))
            if starts[n] < ends[n]
            for moment, sign in ((starts[n], 1), (ends[n], -1))
        ]
        used = 0
        # What ends gives back before what begins takes.
        for _, amount in sorted(changes):
            used += amount
            if used > capacity:
                return False
    return True
