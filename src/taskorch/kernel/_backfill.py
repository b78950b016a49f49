"""
Backfill: later tasks pass one that cannot start yet, and never put it off.

The first task in order for which too little is free has a reservation: of what it
needs, from the moment on at which enough of it is expected to be free, when those have
ended that hold it. Another task may pass it if it is expected to have ended by then, or
if it takes no more than what the reservation leaves. That is EASY backfilling (D. A.
Lifka, *The ANL/IBM SP scheduling system*, 1995; A. W. Mu'alem and D. G. Feitelson, IEEE
Transactions on Parallel and Distributed Systems 12 (6), 2001), for several resources.

Of a task nobody knows how long it takes until its user has said so, or some of its type
have completed. Such a one does not pass by its length; and while the reservation waits
for its end, nobody does. What is held by hand, or by an attempt that would not stop, is
not expected to come free, so nothing is reserved for a task that waits for that.

Nothing of this is a fact: it follows from what is held, and how long that lasts. An
expected end is not changed by what is learnt later. So those that pass never move the
reservation, and once its time has come only that many are before it as were then
expected to have ended.

Decision: 0054.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any, Final

from taskorch.kernel import _limits, _queue, _units
from taskorch.kernel._application import agent_of
from taskorch.kernel._history import typical_ns
from taskorch.kernel._rows import (
    IN_ORDER,
    UNIT,
    AgentRow,
    Backfilling,
    Reservation,
    ResourceKey,
    TaskRow,
    UnitGroup,
)
from taskorch.kernel._state import KernelState
from taskorch.model import TaskState, Units

_RUNNING: Final = TaskState.RUNNING
#: Why a task that has room does not start: in the place of the allocator's word.
BEHIND: Final = "it would put off a task that comes first"
#: Later than any time.
_NEVER: Final = 1 << 100


def reservation(kernel: KernelState, now: int) -> Reservation | None:
    """What is kept, and for whom; None: for nobody, or the queue does not backfill."""
    backfill = kernel.backfill
    if backfill is None:
        return None
    moment = (kernel.seq, now)
    if backfill.moment != moment:
        before = backfill.reserved
        backfill.reserved = _reserve(kernel, backfill, now)
        backfill.moment = moment
        if before is not None and _leaves_more(before, backfill.reserved, now):
            backfill.is_more = True
    return backfill.reserved


def blocked(kernel: KernelState, backfill: Backfilling, row: TaskRow) -> None:
    """*row*, a head, cannot start: it may be the first, or not be that any more."""
    first = backfill.reserved
    if first is None or _place(kernel, row) <= _place(kernel, first.row):
        backfill.moment = None


def may_pass(
    kernel: KernelState, row: TaskRow, agent: AgentRow, need: Units, now: int
) -> bool:
    """Whether *row*, which is queued, may take *need* on *agent* now."""
    kept = _before(kernel, row, now)
    if kept is None or _leaves(kept, _things(kernel, agent, need)):
        return True
    return _ends_in_time(kept, _end_from(kernel, row, now), now)


def within(
    kernel: KernelState,
    backfill: Backfilling,
    row: TaskRow,
    agent: AgentRow,
    granted: Units,
    now: int,
    held: Units = (),
) -> Units:
    """The part of *granted* from the pools that *row*, holding *held*, may have now."""
    if row.state is _RUNNING:
        kept = reservation(kernel, now)
        end = _end_of(kernel, backfill, row)
    else:
        kept = _before(kernel, row, now)
        end = _end_from(kernel, row, now)
    if kept is None or _ends_in_time(kept, end, now):
        return granted
    has = dict(held)
    spare = kept.spare
    found: list[tuple[str, int]] = []
    for name, units in granted:
        most = units
        for thing in (("", name), (agent.name, name)):
            if thing in spare:
                most = min(most, has.get(name, 0) + spare[thing])
        found.append((name, most))
    return tuple(found)


def again(kernel: KernelState, backfill: Backfilling, now: int) -> bool:
    """Whether there are others that may pass now, since the reservation leaves more."""
    if kernel.paused or kernel.running >= kernel.concurrency:
        return False
    reservation(kernel, now)
    # Once in each moment: while they are looked at, the first may be among them.
    moment = (kernel.seq, now)
    if not backfill.is_more or backfill.passed_at == moment:
        return False
    backfill.is_more, backfill.passed_at = False, moment
    _queue.reopen_all(kernel, kernel.parked_any)
    return bool(kernel.open)


def length_of(kernel: KernelState, row: TaskRow) -> int | None:
    """How long an attempt of *row* is expected to take, in ns; None: nobody knows."""
    said = kernel.deciders.expected(row)
    return typical_ns(row.bucket.type_row) if said is None else said


# -- for whom it is ----------------------------------------------------------------


def _before(kernel: KernelState, row: TaskRow, now: int) -> Reservation | None:
    """The reservation that *row*, which is queued, would pass."""
    kept = reservation(kernel, now)
    if kept is None or _place(kernel, row) <= _place(kernel, kept.row):
        return None
    return kept


def _place(kernel: KernelState, row: TaskRow) -> tuple[bool, Any, int]:
    # Who is above a soft quota comes after all others.
    return _limits.exceeded(kernel, row.bucket) is not None, row.key, row.seq


def _leaves(kept: Reservation, things: Mapping[ResourceKey, int]) -> bool:
    """Whether *kept* leaves as much as *things*."""
    spare = kept.spare
    return all(units <= spare.get(thing, units) for thing, units in things.items())


def _leaves_more(before: Reservation, kept: Reservation | None, now: int) -> bool:
    """Whether *kept* lets something pass that would not have passed *before*."""
    if kept is None or kept.row is not before.row:
        return True
    start, spare = kept.start_ns, kept.spare
    is_later = start is not None and start > max(now, before.start_ns or 0)
    return is_later or any(
        spare.get(thing, _NEVER) > units for thing, units in before.spare.items()
    )


def _ends_in_time(kept: Reservation, end: int | None, now: int) -> bool:
    start = kept.start_ns
    # Once its time has come, there is no saying for how long one would be in the way.
    return start is not None and end is not None and now < start and end <= start


def _reserve(
    kernel: KernelState, backfill: Backfilling, now: int
) -> Reservation | None:
    """The reservation of the first task that waits for what attempts hold."""
    heads = [
        row
        for bucket in kernel.parked
        # What a policy has put off would have room; and for what is above a soft quota,
        # nothing is kept from anybody.
        if (bucket.parked or bucket.at_agents)
        and not bucket.refusal
        and _limits.exceeded(kernel, bucket) is None
        and (row := bucket.head()) is not None
    ]
    if not heads:
        return None
    ends = _ends(kernel, backfill)
    for row in sorted(heads, key=IN_ORDER):
        found = _reserve_for(kernel, row, ends, now)
        if found is not None:
            return found
    return None


def _reserve_for(
    kernel: KernelState,
    row: TaskRow,
    ends: Iterable[tuple[int, Mapping[ResourceKey, int]]],
    now: int,
) -> Reservation | None:
    """When *row* may start, once enough has ended; None: as things stand, never."""
    best: Reservation | None = None
    soonest = _NEVER
    unknown: dict[ResourceKey, int] = {}
    for agent in row.bucket.agents:
        alloc = _limits.wanted(row.bucket, agent)
        if not alloc:
            # It needs a slot only, which nobody gets before it does.
            continue
        room = {
            thing: _free(kernel, thing) - units
            for thing, units in _things(kernel, agent, alloc).items()
        }
        groups = _groups(kernel, agent, alloc)
        now_room = dict(room)
        when = _when(room, ends, now, groups)
        if when is None:
            continue
        for thing in groups:
            # Which units it gets then, follows from all that ends until then: of what
            # has names, nothing is left for others.
            room[thing] = now_room[thing] = 0
        if when == _NEVER:
            for thing, left in now_room.items():
                unknown[thing] = min(max(0, left), unknown.get(thing, _NEVER))
        elif (start := max(when, now)) < soonest:
            soonest, best = start, Reservation(row, agent, start, room)
    if best is None and unknown:
        return Reservation(row, None, None, unknown)
    return best


def _when(
    room: dict[ResourceKey, int],
    ends: Iterable[tuple[int, Mapping[ResourceKey, int]]],
    now: int,
    groups: Mapping[ResourceKey, tuple[UnitGroup, int]],
) -> int | None:
    """
    When no thing in *room* is short any more, if some is; *room* is as it is then.

    All that ends at one instant is over before anything starts. Of what is late,
    though, nobody knows what ends first: only as many count as are needed, and so what
    is late by and by puts nothing off.

    Of each of *groups*, units must be free for so much.
    """
    short = {thing for thing, left in room.items() if left < 0}
    free = {
        unit.name: unit.total - unit.used
        for group, _ in groups.values()
        for unit in group.units.values()
    }
    if not short and _fit(groups, free):
        # Something else keeps it, such as a rate.
        return None
    when: int | None = None
    for end, held in ends:
        if when is not None and (when <= now or end != when):
            break
        for thing, units in held.items():
            if thing in room:
                room[thing] += units
                if room[thing] >= 0:
                    short.discard(thing)
            elif thing[1] in free:
                free[thing[1]] += units
        if not short and _fit(groups, free):
            when = end
    return when


def _groups(
    kernel: KernelState, agent: AgentRow, need: Units
) -> dict[ResourceKey, tuple[UnitGroup, int]]:
    """Of which units that have names *need* is, and how much of each."""
    groups: dict[ResourceKey, tuple[UnitGroup, int]] = {}
    for name, units in need:
        group = _units.group_of(kernel, agent, name)
        if group is not None:
            groups[agent.name if name in agent.units else "", name] = group, units
    return groups


def _fit(
    groups: Mapping[ResourceKey, tuple[UnitGroup, int]], free: Mapping[str, int]
) -> bool:
    """Whether units have so much, where as much as *free* says is free of each."""
    return all(group.would_have(need, free) for group, need in groups.values())


# -- what is held, and until when --------------------------------------------------


def _ends(
    kernel: KernelState, backfill: Backfilling
) -> list[tuple[int, Mapping[ResourceKey, int]]]:
    """When which attempt gives back what, the first first."""
    found: list[tuple[int, int, Mapping[ResourceKey, int]]] = []
    for row in backfill.under_way:
        end = _end_of(kernel, backfill, row)
        slots = 0 if row.extra is not None and row.extra.yielded else 1
        things = _things(kernel, agent_of(row), row.alloc, slots)
        found.append((_NEVER if end is None else end, row.seq, things))
    found.sort(key=itemgetter(0, 1))
    return [(end, things) for end, _, things in found]


def _end_of(kernel: KernelState, backfill: Backfilling, row: TaskRow) -> int | None:
    """When the attempt of *row* is expected to have ended, in ns, if that is known."""
    if row.state is not _RUNNING:
        # A program that was stopped goes on when it is resumed.
        return None
    end = backfill.under_way[row]
    if end is None:
        end = _end_from(kernel, row, row.started_ns)
        if end is not None:
            backfill.under_way[row] = end
    return end


def _end_from(kernel: KernelState, row: TaskRow, start: int) -> int | None:
    """When an attempt of *row* that begins at *start* is expected to have ended."""
    length = length_of(kernel, row)
    return None if length is None else start + length


def _things(
    kernel: KernelState, agent: AgentRow, units: Units, slots: int = 1
) -> dict[ResourceKey, int]:
    """What an attempt takes on *agent*: slots, of the pools, and of its capacity."""
    found: dict[ResourceKey, int] = {("", ""): slots, (agent.name, ""): slots}
    for name, many in units:
        if name in kernel.pools:
            found["", name] = many
        if name in agent.capacity:
            found[agent.name, name] = many
        if name.startswith(UNIT):
            found["", name] = many
    return found


def _free(kernel: KernelState, thing: ResourceKey) -> int:
    name, resource = thing
    if not name:
        if not resource:
            return kernel.concurrency - kernel.running
        pool = kernel.pools[resource]
        return pool.total - pool.used
    agent = kernel.agents[name]
    return agent.free(resource) if resource else agent.limit - agent.running
