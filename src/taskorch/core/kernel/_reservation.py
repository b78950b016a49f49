"""
Backfill: later tasks pass one that cannot start yet, and never put it off.

The first task in order for which too little is free has a reservation. It covers the
resources that the task needs, from the time at which enough of them are expected to be
free. Another task may pass it if that one is expected to have ended by then, or if it
takes no more than the reservation leaves. That is EASY backfilling (D. A. Lifka, *The
ANL/IBM SP scheduling system*, 1995; A. W. Mu'alem and D. G. Feitelson, IEEE
Transactions on Parallel and Distributed Systems 12 (6), 2001), for several resources.

The duration of a task is unknown until its user has given it, or tasks of its type have
completed. A task of unknown duration does not pass because of its length, and while the
reservation waits for its end, no task does. Resources that people hold, or attempts
that did not stop, are not expected to come free, so nothing is reserved for a task that
waits for them.

No event records a reservation: it follows from the allocations and their expected
durations. Later knowledge does not change an expected end. So tasks that pass never
move the reservation, and at its time only tasks that ran longer than expected delay it.

Decision: queue-and-routing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any, Final

from taskorch.core.kernel import _limits, _queue, _units
from taskorch.core.kernel._application import worker_of
from taskorch.core.kernel._history import typical_ns
from taskorch.core.kernel._rows import (
    IN_ORDER,
    UNIT,
    Reservation,
    Reserving,
    ResourceKey,
    TaskRow,
    UnitGroup,
    WorkerRow,
)
from taskorch.core.kernel._state import KernelState
from taskorch.model import TaskState, Units

_RUNNING: Final = TaskState.RUNNING
#: Why a task that has room does not start; it stands in place of an allocator's reason.
BEHIND: Final = "it would put off a task that comes first"
#: A time later than any other.
_NEVER: Final = 1 << 100


def reservation(kernel: KernelState, now: int) -> Reservation | None:
    """Return the reservation; None if there is none or the queue does not backfill."""
    reserving = kernel.reserving
    if reserving is None:
        return None
    moment = (kernel.seq, now)
    if reserving.moment != moment:
        before = reserving.reserved
        reserving.reserved = _reserve(kernel, reserving, now)
        reserving.moment = moment
        if before is not None and _leaves_more(before, reserving.reserved, now):
            reserving.is_more = True
    return reserving.reserved


def blocked(kernel: KernelState, reserving: Reserving, row: TaskRow) -> None:
    """Note that *row*, a head, cannot start, so that the reservation may change."""
    first = reserving.reserved
    if first is None or _place(kernel, row) <= _place(kernel, first.row):
        reserving.moment = None


def may_pass(
    kernel: KernelState, row: TaskRow, worker: WorkerRow, need: Units, now: int
) -> bool:
    """Return whether the queued *row* may take *need* on *worker* now."""
    kept = _before(kernel, row, now)
    if kept is None or _leaves(kept, _things(kernel, worker, need)):
        return True
    return _ends_in_time(kept, _end_from(kernel, row, now), now)


def within(
    kernel: KernelState,
    reserving: Reserving,
    row: TaskRow,
    worker: WorkerRow,
    granted: Units,
    now: int,
    held: Units = (),
) -> Units:
    """Return the part of *granted* that *row*, which holds *held*, may have now."""
    if row.state is _RUNNING:
        kept = reservation(kernel, now)
        end = _end_of(kernel, reserving, row)
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
        for thing in (("", name), (worker.name, name)):
            if thing in spare:
                most = min(most, has.get(name, 0) + spare[thing])
        found.append((name, most))
    return tuple(found)


def again(kernel: KernelState, reserving: Reserving, now: int) -> bool:
    """Return whether more tasks may pass, since the reservation leaves more now."""
    if kernel.paused or kernel.running >= kernel.concurrency:
        return False
    reservation(kernel, now)
    # Once in each moment is enough: the first task may be among those looked at again.
    moment = (kernel.seq, now)
    if not reserving.is_more or reserving.passed_at == moment:
        return False
    reserving.is_more, reserving.passed_at = False, moment
    _queue.reopen_all(kernel, kernel.parked_any)
    return bool(kernel.open)


def length_of(kernel: KernelState, row: TaskRow) -> int | None:
    """Return the expected duration of an attempt of *row* in ns; None if unknown."""
    said = kernel.deciders.expected(row)
    return typical_ns(row.bucket.type_row) if said is None else said


# -- the task with the reservation -------------------------------------------------


def _before(kernel: KernelState, row: TaskRow, now: int) -> Reservation | None:
    """Return the reservation that the queued *row* would pass."""
    kept = reservation(kernel, now)
    if kept is None or _place(kernel, row) <= _place(kernel, kept.row):
        return None
    return kept


def _place(kernel: KernelState, row: TaskRow) -> tuple[bool, Any, int]:
    # Tasks above a soft quota come after all others.
    return _limits.exceeded(kernel, row.bucket) is not None, row.key, row.seq


def _leaves(kept: Reservation, things: Mapping[ResourceKey, int]) -> bool:
    """Return whether *kept* leaves at least *things*."""
    spare = kept.spare
    return all(units <= spare.get(thing, units) for thing, units in things.items())


def _leaves_more(before: Reservation, kept: Reservation | None, now: int) -> bool:
    """Return whether *kept* lets a task pass that *before* would have stopped."""
    if kept is None or kept.row is not before.row:
        return True
    start, spare = kept.start_ns, kept.spare
    is_later = start is not None and start > max(now, before.start_ns or 0)
    return is_later or any(
        spare.get(thing, _NEVER) > units for thing, units in before.spare.items()
    )


def _ends_in_time(kept: Reservation, end: int | None, now: int) -> bool:
    start = kept.start_ns
    # After its time has come, nobody can tell how long another task would delay it.
    return start is not None and end is not None and now < start and end <= start


def _reserve(kernel: KernelState, reserving: Reserving, now: int) -> Reservation | None:
    """Return the reservation of the first task that waits for held resources."""
    heads = [
        row
        for bucket in kernel.parked
        # A task that a policy has put off would have room, and nothing is reserved for
        # a task above a soft quota.
        if (bucket.parked or bucket.at_workers)
        and not bucket.refusal
        and _limits.exceeded(kernel, bucket) is None
        and (row := bucket.head()) is not None
    ]
    if not heads:
        return None
    ends = _ends(kernel, reserving)
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
    """Return where and when *row* may start once enough has ended; None if never."""
    best: Reservation | None = None
    soonest = _NEVER
    unknown: dict[ResourceKey, int] = {}
    for worker in row.bucket.workers:
        alloc = _limits.wanted(row.bucket, worker)
        if not alloc:
            # It needs only a slot, and nobody before it in order gets one first.
            continue
        room = {
            thing: _free(kernel, thing) - units
            for thing, units in _things(kernel, worker, alloc).items()
        }
        groups = _groups(kernel, worker, alloc)
        now_room = dict(room)
        when = _when(room, ends, now, groups)
        if when is None:
            continue
        for thing in groups:
            # The ends until then decide which named units it gets, so none of them is
            # left for others.
            room[thing] = now_room[thing] = 0
        if when == _NEVER:
            for thing, left in now_room.items():
                unknown[thing] = min(max(0, left), unknown.get(thing, _NEVER))
        elif (start := max(when, now)) < soonest:
            soonest, best = start, Reservation(row, worker, start, room)
    if best is None and unknown:
        return Reservation(row, None, None, unknown)
    return best


def _when(
    room: dict[ResourceKey, int],
    ends: Iterable[tuple[int, Mapping[ResourceKey, int]]],
    now: int,
    groups: Mapping[ResourceKey, tuple[UnitGroup, int]],
) -> int | None:
    """Return when no thing in *room* is short any more, and update *room* to that time.

    All that ends at one instant is over before anything starts. The order in which late
    attempts end is unknown, so only as many of them count as are needed: further late
    ones delay nothing.

    Each of *groups* needs free units for its amount.
    """
    short = {thing for thing, left in room.items() if left < 0}
    free = {
        unit.name: unit.total - unit.used
        for group, _ in groups.values()
        for unit in group.units.values()
    }
    if not short and _fit(groups, free):
        # Another shortage keeps it from starting, such as a rate.
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
    kernel: KernelState, worker: WorkerRow, need: Units
) -> dict[ResourceKey, tuple[UnitGroup, int]]:
    """Return the groups of named units that *need* takes from, with each amount."""
    groups: dict[ResourceKey, tuple[UnitGroup, int]] = {}
    for name, units in need:
        group = _units.group_of(kernel, worker, name)
        if group is not None:
            groups[worker.name if name in worker.units else "", name] = group, units
    return groups


def _fit(
    groups: Mapping[ResourceKey, tuple[UnitGroup, int]], free: Mapping[str, int]
) -> bool:
    """Return whether each group could give its need, with *free* units of each."""
    return all(group.would_have(need, free) for group, need in groups.values())


# -- allocations, and their expected ends ------------------------------------------


def _ends(
    kernel: KernelState, reserving: Reserving
) -> list[tuple[int, Mapping[ResourceKey, int]]]:
    """Return each attempt's expected end and the things it frees, earliest first."""
    found: list[tuple[int, int, Mapping[ResourceKey, int]]] = []
    for row in reserving.under_way:
        end = _end_of(kernel, reserving, row)
        slots = 0 if row.extra is not None and row.extra.yielded else 1
        things = _things(kernel, worker_of(row), row.alloc, slots)
        found.append((_NEVER if end is None else end, row.seq, things))
    found.sort(key=itemgetter(0, 1))
    return [(end, things) for end, _, things in found]


def _end_of(kernel: KernelState, reserving: Reserving, row: TaskRow) -> int | None:
    """Return the expected end of the attempt of *row* in ns; None if unknown."""
    if row.state is not _RUNNING:
        # The end of a stopped program is unknown until it is resumed.
        return None
    end = reserving.under_way[row]
    if end is None:
        end = _end_from(kernel, row, row.started_ns)
        if end is not None:
            reserving.under_way[row] = end
    return end


def _end_from(kernel: KernelState, row: TaskRow, start: int) -> int | None:
    """Return the expected end in ns of an attempt of *row* that begins at *start*."""
    length = length_of(kernel, row)
    return None if length is None else start + length


def _things(
    kernel: KernelState, worker: WorkerRow, units: Units, slots: int = 1
) -> dict[ResourceKey, int]:
    """Return what an attempt on *worker* takes of slots, pools and capacity."""
    found: dict[ResourceKey, int] = {("", ""): slots, (worker.name, ""): slots}
    for name, many in units:
        if name in kernel.pools:
            found["", name] = many
        if name in worker.capacity:
            found[worker.name, name] = many
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
    worker = kernel.workers[name]
    return worker.free(resource) if resource else worker.limit - worker.running
