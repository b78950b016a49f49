"""
Orders of tasks each of which needs one machine, or resource, for itself alone.

Tabu search among neighbours along the critical path (N5: E. Nowicki and C. Smutnicki,
*A fast taboo search algorithm for the job shop problem*, Management Science 42, 1996;
N6: E. Balas and A. Vazacopoulos, *Guided local search with shifting bottleneck for job
shop scheduling*, the same 44, 1998).

Decision: plan-search.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from heapq import nsmallest
from random import Random
from time import monotonic
from typing import Final, TypeAlias

from taskorch.ext.planner._open_shop import (
    improve_open_shop,
    is_open_shop,
    pairs_of,
    shift_tasks,
)
from taskorch.ext.planner._scheduling import Problem, Schedule, improve, topological

#: A task to be moved, the one next to which it goes, and whether it goes behind it.
Move: TypeAlias = "tuple[int, int, bool]"
#: A search begins again near one of the best after so many moves without a gain.
_STALE: Final = 600
#: The number of best orders that are kept, and of random moves at a new beginning.
_ELITE: Final = 6
_JOLTS: Final = 12
#: The share of the time for an open shop that is left to the general search.
_AFTERWARDS: Final = 0.25


def machines_of(  # noqa: C901 - a case a resource
    problem: Problem,
) -> list[int] | None:
    """
    Return the machine of each task, -1 for none; None: the problem is no job shop.

    It is one if all other resources suffice for every order of the tasks.
    """
    numbers = [n for n, length in enumerate(problem.durations) if length]
    machines = [-1] * len(problem)
    shared: list[int] = []
    if problem.lengths is not None:
        return None
    for place, capacity in enumerate(problem.capacities):
        users = [n for n in numbers if problem.demands[n][place]]
        amounts = [problem.demands[n][place] for n in users]
        if max(amounts, default=0) > capacity:
            return None
        if sum(amounts) <= capacity:
            continue
        if sum(nsmallest(2, amounts)) <= capacity:
            shared.append(place)
            continue
        for number in users:
            if machines[number] >= 0:
                return None
            machines[number] = place
    for place in shared:
        # The tasks of one machine never overlap, so that the largest one counts.
        most: dict[int, int] = {}
        for n in numbers:
            key = machines[n] if machines[n] >= 0 else -1 - n
            most[key] = max(most.get(key, 0), problem.demands[n][place])
        if sum(most.values()) > problem.capacities[place]:
            return None
    return machines if max(machines, default=-1) >= 0 else None


class _Shop:
    """An order of the tasks on each machine, with the times that follow from it."""

    def __init__(
        self, problem: Problem, machines: Sequence[int], starts: Sequence[int]
    ) -> None:
        #: The number that stands for no task; its duration is 0.
        self.none = none = len(problem)
        self.lengths = [*problem.durations, 0]
        self.machines = machines
        above = [tuple(dict.fromkeys(each)) for each in problem.parents]
        below = [tuple(each) for each in problem.children()]
        # Most tasks have one parent at most, and a plain number is quicker than a list.
        self.up = [*(each[0] if each else none for each in above), none]
        self.down = [*(each[0] if each else none for each in below), none]
        self.ups = [each[1:] for each in above]
        self.downs = [each[1:] for each in below]
        self.before, self.after = [none] * (none + 1), [none] * (none + 1)
        last: dict[int, int] = {}
        for number in sorted(range(none), key=lambda n: (starts[n], n)):
            machine = machines[number]
            if machine >= 0:
                before = last.get(machine, none)
                self.before[number] = before
                if before != none:
                    self.after[before] = number
                last[machine] = number
        waits = [
            [*problem.parents[n], *([self.before[n]] if self.before[n] != none else [])]
            for n in range(none)
        ]
        self.order = topological(waits, [float(each) for each in starts])
        self.place = [0] * none
        for place, number in enumerate(self.order):
            self.place[number] = place
        #: The end of each task, and the longest path from its start on.
        self.ends, self.tails = [0] * (none + 1), [0] * (none + 1)
        #: The latest end of its parents, and the longest path from its children on.
        self.ready, self.rest = [0] * (none + 1), [0] * (none + 1)
        self.span = 0
        self.times(0, none - 1)

    def copy(self) -> tuple[list[int], list[int], list[int]]:
        """Return a copy of the order."""
        return self.before.copy(), self.after.copy(), self.order.copy()

    def restore(self, saved: tuple[list[int], list[int], list[int]]) -> None:
        """Take an order that `copy` gave."""
        self.before, self.after, self.order = (each.copy() for each in saved)
        for place, number in enumerate(self.order):
            self.place[number] = place
        self.times(0, self.none - 1)

    def starts(self) -> list[int]:
        """Return the start of each task."""
        return [self.ends[n] - self.lengths[n] for n in range(self.none)]

    def times(self, first: int, last: int) -> None:
        """Compute all times again for the places from *first* up to *last*."""
        order, lengths, ends, tails = self.order, self.lengths, self.ends, self.tails
        before, after, ready, rest = self.before, self.after, self.ready, self.rest
        up, ups, down, downs = self.up, self.ups, self.down, self.downs
        for number in order[first:]:
            most = ends[up[number]]
            if ups[number]:
                for other in ups[number]:
                    most = max(most, ends[other])
            ready[number] = most
            end = ends[before[number]]
            ends[number] = (end if end > most else most) + lengths[number]  # noqa: FURB136 - quicker
        for number in order[last::-1]:
            most = tails[down[number]]
            if downs[number]:
                for other in downs[number]:
                    most = max(most, tails[other])
            rest[number] = most
            tail = tails[after[number]]
            tails[number] = (tail if tail > most else most) + lengths[number]  # noqa: FURB136 - quicker
        self.span = max(ends)

    def blocks(self, random: Random) -> list[list[int]]:
        """Return the blocks of tasks on one machine along a longest path."""
        lengths, ends, tails = self.lengths, self.ends, self.tails
        span, machines = self.span, self.machines
        firsts = [
            n
            for n in self.order
            if tails[n] == span and ends[n] == lengths[n] and lengths[n]
        ]
        number = random.choice(firsts)
        blocks: list[list[int]] = [[number]]
        remaining = span - lengths[number]
        while remaining:
            end = ends[number]
            nexts = [
                n
                for n in (self.down[number], *self.downs[number])
                if tails[n] == remaining and ends[n] - lengths[n] == end
            ]
            other = self.after[number]
            if tails[other] == remaining and ends[other] - lengths[other] == end:
                nexts.append(other)
            then = nexts[0] if len(nexts) == 1 else random.choice(nexts)
            if then == other and machines[then] >= 0:
                blocks[-1].append(then)
            else:
                blocks.append([then])
            number = then
            remaining -= lengths[number]
        return blocks

    def can_move(self, move: Move) -> bool:
        """Return whether *move* surely makes no cycle."""
        number, other, is_behind = move
        lengths = self.lengths
        if is_behind:
            limit = self.tails[other]
            return all(
                self.tails[n] < limit
                or (self.tails[n] == limit and lengths[n] and n != other)
                for n in (self.down[number], *self.downs[number])
                if n != self.none
            )
        limit = self.ends[other]
        return all(
            self.ends[n] < limit
            or (self.ends[n] == limit and lengths[n] and n != other)
            for n in (self.up[number], *self.ups[number])
            if n != self.none
        )

    def passed(self, move: Move) -> list[int]:
        """Return the tasks that *move* passes, in their order."""
        number, other, is_behind = move
        first, last = (number, other) if is_behind else (other, number)
        tasks = [first]
        while tasks[-1] != last:
            tasks.append(self.after[tasks[-1]])
        return tasks[1:] if is_behind else tasks[:-1]

    def estimate(self, move: Move, passed: Sequence[int]) -> int:
        """Return the estimated longest path through the tasks that *move* shifts."""
        number, _, is_behind = move
        lengths, ready, rest = self.lengths, self.ready, self.rest
        line = [*passed, number] if is_behind else [number, *passed]
        first, last = (number, passed[-1]) if is_behind else (passed[0], number)
        end = self.ends[self.before[first]]
        begins = []
        for n in line:
            begin = max(end, ready[n])
            begins.append(begin)
            end = begin + lengths[n]
        tail = self.tails[self.after[last]]
        most = 0
        for n, begin in zip(reversed(line), reversed(begins), strict=True):
            tail = max(tail, rest[n]) + lengths[n]
            most = max(most, begin + tail)
        return most

    def move(self, move: Move, passed: Sequence[int]) -> None:
        """Carry out *move*."""
        number, other, is_behind = move
        before, after, none = self.before, self.after, self.none
        above, below = before[number], after[number]
        after[above], before[below] = below, above
        if is_behind:
            below = after[other]
            after[other], before[number] = number, other
            after[number], before[below] = below, number
        else:
            above = before[other]
            before[other], after[number] = number, other
            before[number], after[above] = above, number
        before[none] = after[none] = none
        first, last = sorted((self.place[number], self.place[passed[-is_behind]]))
        part = self.order[first : last + 1]
        moved = {number}
        if is_behind:
            # Tasks that depend on the moved one go behind it, too.
            for n in part[1:]:
                if (
                    before[n] in moved
                    or self.up[n] in moved
                    or not moved.isdisjoint(self.ups[n])
                ):
                    moved.add(n)
            fresh = [n for n in part if n not in moved]
            fresh.append(number)
            fresh += [n for n in part[1:] if n in moved]
        else:
            for n in part[-2::-1]:
                if (
                    after[n] in moved
                    or self.down[n] in moved
                    or not moved.isdisjoint(self.downs[n])
                ):
                    moved.add(n)
            fresh = [n for n in part[:-1] if n in moved]
            fresh.append(number)
            fresh += [n for n in part if n not in moved]
        self.order[first : last + 1] = fresh
        for place, n in enumerate(fresh, first):
            self.place[n] = place
        self.times(first, last)


def _moves(blocks: Sequence[Sequence[int]]) -> list[Move]:
    """Return moves to the ends of each block, and from its ends into it."""
    moves: dict[Move, None] = {}
    for place, block in enumerate(blocks):
        if len(block) == 1:
            continue
        first, last = block[0], block[-1]
        if place + 1 < len(blocks):
            moves.update(dict.fromkeys((n, last, True) for n in block[:-1]))
            moves.update(dict.fromkeys((last, n, False) for n in block[:-1]))
        if place:
            moves.update(dict.fromkeys((n, first, False) for n in block[1:]))
            moves.update(dict.fromkeys((first, n, True) for n in block[1:]))
    return list(moves)


def best_order(
    problem: Problem,
    seconds: float,
    seed: int = 0,
    *,
    rules: Sequence[str] | None = None,
    begin: Schedule | None = None,
    stop: Callable[[], bool] = bool,
) -> tuple[Schedule, int]:
    """The best schedule that is found in so many seconds, and the lower bound."""
    end = monotonic() + seconds
    machines = machines_of(problem) if seconds > 0 else None
    is_open = seconds > 0 and machines is None and is_open_shop(problem)
    if machines is None and not is_open:
        return improve(problem, seconds, seed, rules=rules, begin=begin, stop=stop)
    schedule, bound = improve(problem, 0.0, seed, rules=rules, begin=begin)
    if machines is None:
        pairs = pairs_of(problem)
        if pairs is not None:
            schedule = shift_tasks(
                problem, pairs, schedule, end, bound, seed, stop=stop
            )
            return schedule, bound
        until = end - _AFTERWARDS * seconds
        schedule = improve_open_shop(problem, schedule, until, bound, seed, stop=stop)
        seconds = max(0.0, end - monotonic())
        return improve(problem, seconds, seed, begin=schedule, stop=stop)
    return improve_shop(problem, machines, schedule, end, bound, seed, stop=stop), bound


def improve_shop(
    problem: Problem,
    machines: Sequence[int],
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
        machines: The result of `machines_of`.
        begin: A schedule to begin with.
        end: Until when it looks, by the clock that does not jump.
        bound: A bound that no schedule beats.
        seed: The seed of random draws.
        stop: Says whether somebody else has found what cannot be better.
    """
    random = Random(seed)  # noqa: S311 - for chance, not for secrets
    shop = _Shop(problem, machines, begin.starts)
    count = len(problem)
    used = [machine for machine in machines if machine >= 0]
    tenure = 10 + len(used) // len({*used}) // len({*used})
    best, starts = begin.makespan, begin.starts
    if shop.span < best:
        best, starts = shop.span, shop.starts()
    elite = deque([shop.copy()], maxlen=_ELITE)
    forbidden: dict[int, int] = {}
    tries = stale = 0
    how = begin.how
    while best > bound and monotonic() < end and not stop():
        tries += 1
        stale += 1
        if stale % _STALE == 0:
            shop.restore(random.choice(elite))
            forbidden.clear()
            for _ in range(_JOLTS):
                _jolt(shop, random)
        moves = [m for m in _moves(shop.blocks(random)) if shop.can_move(m)]
        if not moves:
            if not _jolt(shop, random):
                break
            continue
        move, passed = _chosen(shop, moves, forbidden, tries, best, random)
        number, _, is_behind = move
        until = tries + tenure + random.randrange(tenure)
        for other in passed:
            pair = number * count + other if is_behind else other * count + number
            forbidden[pair] = until
        shop.move(move, passed)
        if shop.span < best:
            best, starts, stale = shop.span, shop.starts(), 0
            how = f"along the critical path, after {tries} moves"
            elite.append(shop.copy())
    if best <= bound and not how.endswith("as good as can be"):
        how += ": as good as can be"
    ends = [
        start + length for start, length in zip(starts, problem.durations, strict=True)
    ]
    return Schedule(list(starts), ends, [None] * count, how)


def _chosen(
    shop: _Shop,
    moves: Sequence[Move],
    forbidden: dict[int, int],
    now: int,
    best: int,
    random: Random,
) -> tuple[Move, list[int]]:
    """Return the most promising move that undoes no recent one."""
    count = shop.none
    least, ties = 0, 0
    chosen: tuple[Move, list[int]] | None = None
    for move in moves:
        number, _, is_behind = move
        passed = shop.passed(move)
        value = shop.estimate(move, passed)
        if chosen is not None and value > least:
            continue
        if value >= best and any(
            forbidden.get(
                other * count + number if is_behind else number * count + other, 0
            )
            > now
            for other in passed
        ):
            continue
        if chosen is None or value < least:
            chosen, least, ties = (move, passed), value, 1
        else:
            ties += 1
            if random.random() * ties < 1:
                chosen = move, passed
    if chosen is None:
        move = random.choice(moves)
        chosen = move, shop.passed(move)
    return chosen


def _jolt(shop: _Shop, random: Random) -> bool:
    """Swap two neighbours by chance; False if there are none."""
    pairs = [
        (block[n], block[n + 1], True)
        for block in shop.blocks(random)
        for n in range(len(block) - 1)
    ]
    pairs = [pair for pair in pairs if shop.can_move(pair)]
    if not pairs:
        return False
    move = random.choice(pairs)
    shop.move(move, shop.passed(move))
    return True
