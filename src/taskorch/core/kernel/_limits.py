"""
Limits of starts: pools, room on workers, soft quotas.

Decisions: queue-and-routing, quotas-and-budgets.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    Container,
    Iterable,
    Mapping,
    Sequence,
)
from heapq import heappop
from itertools import chain
from typing import Any, Final

from taskorch.core.kernel import _queue, _units
from taskorch.core.kernel._rows import (
    AllocationRow,
    Bucket,
    Candidates,
    Claim,
    LockRow,
    Place,
    PoolRow,
    Room,
    Shortage,
    Spec,
    TaskRow,
    UnitGroup,
    UnitRow,
    WorkerRow,
    of_quotas,
)
from taskorch.core.kernel._state import MANY, KernelState
from taskorch.events import PoolsChanged, ResourcesAllocated, ResourcesReleased
from taskorch.kit.vocabulary import meant
from taskorch.model import SOFT, TASKS, Agent, HeldUnits, UnitNames, Units

# -- amounts held and free: shortages, and the books -----------------------------------

# A start asks whether anything is short, `explain` asks for all shortages: see
# `_shortages`, which adds those of policies and breakers.


#: Makes a shortage of a tuple with all its fields, three times as fast as its class.
make: Final = Shortage._make

#: One task, in the unit of a quota.
ONE: Final = 1_000_000


def wanted(bucket: Bucket, worker: WorkerRow) -> Units:
    """Return the amounts that *bucket* needs on *worker*: its request, or the default.

    An elastic request needs its least amounts; any other needs all that it will hold.
    """
    need = bucket.need or worker.request
    return with_quotas(bucket, need)[0] if bucket.bounds else need


def with_quotas(bucket: Bucket, need: Units) -> tuple[Units, Units]:
    """Return *need* plus the quota units of a task of *bucket*, and these alone."""
    known = bucket.charges.get(need)
    if known is None:
        units = charged(bucket.bounds, need)
        known = bucket.charges[need] = units, of_quotas(units)
    return known


def subjects(spec: Spec) -> tuple[tuple[str, str], ...]:
    """Return kind and name of each quota holder for tasks of *spec*, soft ones last."""
    found = [("type", spec.type)]
    if spec.owner is not None:
        found.append(("owner", spec.owner))
    if spec.workflow is not None:
        found.append(("workflow", spec.workflow))
    return *found, *((f"{SOFT}{kind}", who) for kind, who in found)


def bounds_of(
    kernel: KernelState, whose: Iterable[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """Return the pools of the quotas of *whose*, each with its resource."""
    quotas = kernel.quotas
    return tuple(bound for one in whose for bound in quotas.get(one, ()))


def charged(bounds: Iterable[tuple[str, str]], alloc: Units) -> Units:
    """Return *alloc* plus the same amounts of the pools of its quotas."""
    found, held = list(alloc), dict(alloc)
    for pool, resource in bounds:
        units = ONE if resource == TASKS else held.get(resource, 0)
        if units:
            found.append((pool, units))
    return tuple(sorted(found))


def charged_by_hand(kernel: KernelState, tenant: str, units: Units) -> Units:
    """Return *units* that *tenant* takes by hand, plus those of its quotas."""
    bounds = bounds_of(kernel, (("owner", tenant), (f"{SOFT}owner", tenant)))
    return charged([bound for bound in bounds if bound[1] != TASKS], units)


def within_quotas(
    kernel: KernelState, spec: Spec, granted: Units, held: Units = ()
) -> Units:
    """Return the part of *granted* that the quotas leave a task that holds *held*."""
    if not kernel.quotas:
        return granted
    most = dict(held)
    left: dict[str, int] = {}
    for pool, resource in bounds_of(kernel, subjects(spec)):
        row = kernel.pools[pool]
        free = max(0, row.total - row.used)
        left[resource] = min(free, left.get(resource, free))
    return tuple(
        (name, min(units, most.get(name, 0) + left.get(name, units)))
        for name, units in granted
    )


def of_slots(worker: WorkerRow, ahead: int = 0) -> Shortage | None:
    """Return the shortage of slots on *worker* with *ahead* set aside, or None."""
    free = worker.limit - worker.running - ahead
    return None if free > 0 else make(("busy", "", 1, free, worker, None, 0, False))


def of_capacity(
    worker: WorkerRow, need: Units, pools: Container[str] | None = None
) -> list[Shortage]:
    """Return the shortages of *need* in the capacity of *worker*.

    Resources that its capacity does not name come from *pools*; a resource that is in
    neither does not exist.
    """
    shorts: list[Shortage] = []
    for name, units in need:
        if name in worker.capacity:
            total, used = worker.capacity[name], worker.used.get(name, 0)
            group = worker.units.get(name) if worker.units else None
            if units > total - used or (group and units > group.most(units)):
                shorts += _of_amount(name, units, total, used, worker, None, group)
        elif pools is not None and name not in pools:
            shorts += _of_amount(name, units, 0, 0, worker)
    return shorts


def of_pools(
    kernel: KernelState,
    need: Units,
    worker: WorkerRow | None = None,
    workers: Sequence[WorkerRow] = (),
) -> list[Shortage]:
    """Return the shortages of *need* in pools, for *worker* or for any worker.

    Some of these *workers* may have units of their own: then only amounts are compared.
    """
    shorts: list[Shortage] = []
    for name, units in need:
        pool = kernel.pools.get(name)
        if pool is None:
            continue
        group = pool.units
        if group is not None and any(
            one is not None and name in one.units for one in (worker, *workers)
        ):
            group = None
        if units > pool.total - pool.used or (group and units > group.most(units)):
            shorts += _of_amount(
                name, units, pool.total, pool.used, worker, pool, group
            )
    return shorts


def _of_amount(
    name: str,
    need: int,
    total: int,
    used: int,
    worker: WorkerRow | None,
    pool: PoolRow | None = None,
    group: UnitGroup | None = None,
) -> list[Shortage]:
    """Return the shortage in one amount: the total is too small, or too much is in use.

    Units of a *group* are given as a part of one unit, or as whole units.
    """
    is_hopeless = need > total or (group is not None and _units.is_uneven(need))
    if pool is not None and pool.is_quota:
        free = total - used
        return [make(("quota", name, need, free, worker, pool, 0, is_hopeless))]
    shorts = []
    if is_hopeless:
        shorts.append(
            Shortage("too small", name, need, total, worker, pool, is_hopeless=True)
        )
    free = max(need, total) - used
    if group is not None and not is_hopeless:
        free = min(free, group.most(need))
    if need > free:
        shorts.append(make(("too little", name, need, free, worker, pool, 0, False)))
    return shorts


def shortage(worker: WorkerRow, need: Units) -> Shortage | None:
    """Return the first resource of *need* that *worker* has too little of, or None."""
    shorts = of_capacity(worker, need) if worker.capacity else ()
    return shorts[0] if shorts else None


def pool_shortage(
    kernel: KernelState, need: Units, workers: Sequence[WorkerRow] = ()
) -> Shortage | None:
    """Return the first of *need* that its pool lacks, for any of *workers*, or None."""
    shorts = of_pools(kernel, need, None, workers)
    return shorts[0] if shorts else None


def lacking(kernel: KernelState, bucket: Bucket, need: Units) -> Shortage | None:
    """Return the shortages of pools for a task of *bucket* that waits for *need*.

    An allocator that may grant less than the request may be asked although a pool has
    too little, but not beyond a quota.
    """
    short = None
    if bucket.bounds:
        short = pool_shortage(kernel, with_quotas(bucket, need)[1])
    if short is None and kernel.rigid:
        short = pool_shortage(kernel, need, bucket.workers)
    return short


def place_on(
    bucket: Bucket, worker: WorkerRow, short: Shortage | Place, *, above: bool
) -> Place:
    """Return the place where *bucket* waits for the *short* resource of *worker*."""
    share, among = bucket.share, _queue.among
    name = short.name
    if name:
        place = Place(worker=worker, name=name, need=short.need, above=above)
        return among(worker.short.setdefault(name, {}), place, share)
    if share is None:
        return worker.slots
    return among(worker.short.setdefault("", {}), Place(worker=worker), share)


def too_small(
    kernel: KernelState, bucket: Bucket, worker: WorkerRow
) -> Shortage | None:
    """Return the resource of which *worker* never has enough for *bucket*, or None."""
    # Quotas are left out: one that is too small may be raised, so its tasks wait.
    for need in bucket.need or worker.request:
        own = of_capacity(worker, (need,), kernel.pools)
        for short in chain(own, of_pools(kernel, (need,), worker)):
            if short.is_hopeless:
                return short
    return None


def too_small_for(kernel: KernelState, bucket: Bucket, info: Agent) -> Shortage | None:
    """Return the resource of which a worker like *info* never has enough, or None."""
    return too_small(kernel, bucket, WorkerRow(info))


def place_of(short: Shortage) -> str:
    """Return where a resource is short as the end of a sentence."""
    if short.pool is not None:
        return "in the pool"
    worker = short.worker
    assert worker is not None  # noqa: S101 - what is too small is a pool or a worker's
    return (
        f"on worker {worker.name}" if short.name in worker.capacity else "in any pool"
    )


def of_no_pool(kernel: KernelState, name: str) -> str:
    """Return a sentence if no pool or worker has a resource *name*, else ""."""
    known = dict.fromkeys(kernel.pools)
    for worker in kernel.workers.values():
        known.update(dict.fromkeys(worker.capacity))
    if name in known or name in kernel.config.unknown:
        return ""
    near = meant(name, known)
    text = "no pool and no worker has a resource of that name"
    return f"{text}: {near}" if near else text


def acquire(kernel: KernelState, worker: WorkerRow, alloc: Units) -> None:
    """Add *alloc* to the amounts in use of the pools and of *worker*."""
    for name, units in alloc:
        pool = kernel.pools.get(name)
        if pool is not None:
            pool.used += units
        elif (beside := kernel.beside.get(name)) is not None:
            _units.book(kernel, beside, units)
            continue
        # The capacity may change during the attempt, so every resource is counted.
        worker.used[name] = worker.used.get(name, 0) + units


def release(kernel: KernelState, worker: WorkerRow, alloc: Units) -> None:
    """Subtract *alloc* from the amounts in use, and wake the waiting buckets."""
    if kernel.holders:
        kernel.growing = True
    for name, units in alloc:
        pool = kernel.pools.get(name)
        if pool is not None:
            pool.used -= units
            if pool.short:
                _queue.wake_some(kernel, pool.short)
            if pool.parked:
                _queue.reopen_all(kernel, pool.parked)
        elif (beside := kernel.beside.get(name)) is not None:
            _units.book(kernel, beside, -units)
            for places in _waiting_for(beside):
                if places:
                    _queue.wake_some(kernel, places)
            continue
        worker.used[name] -= units
        if name in worker.short:
            _queue.wake_some(kernel, worker.short[name])


def _waiting_for(row: PoolRow) -> list[dict[Any, Place]]:
    """Return the places of tasks that may take what the hidden pool *row* frees."""
    if isinstance(row, LockRow):
        return [row.short, *[folder.short for folder in row.above]]
    if not isinstance(row, UnitRow):
        return [row.short]
    if row.group is None:
        return []
    owner = row.group.owner
    if isinstance(owner, PoolRow):
        return [owner.short]
    return [owner.short[row.resource]] if row.resource in owner.short else []


# -- totals: pools come, go, and change their size while work goes on ------------------

# Granted resources are never taken back. A pool that is now smaller than the amount
# held grants nothing until enough has come back; a pool that has grown wakes waiting
# tasks. A request that is larger than the pool now waits, and is explained: the pool
# may grow again.


def change_pools(
    kernel: KernelState,
    totals: Iterable[tuple[str, int]],
    now: int,
    gone: Iterable[str] = (),
    named: UnitNames = (),
) -> None:
    """Set the totals of some pools, and remove others.

    *totals* are in millionths; *named* has the names of units of some pools. Pools in
    *gone* are removed, unless they are in use.
    """
    pools, names = kernel.pools, dict(named)
    none = [(name, 0) for name, units in named if not units]
    wanted = sorted(dict([*none, *totals]).items())
    changed = tuple(
        (name, total)
        for name, total in wanted
        if name not in pools or _units.declared(pools[name]) != (total, names.get(name))
    )
    idle = tuple(
        sorted(
            name
            for name in dict.fromkeys(gone)
            if name in pools and not pools[name].used
        )
    )
    if changed or idle:
        before = tuple((n, pools[n].total) for n, _ in changed if n in pools)
        units = _units.names_in((name for name, _ in changed), named)
        kernel.note(PoolsChanged, now, changed, idle, before, units=units)
        apply(kernel, changed, idle, units)


def changed(kernel: KernelState, event: PoolsChanged, _now: int) -> None:
    """Apply the event to the state."""
    apply(kernel, event.totals, event.gone, event.units)


def apply(
    kernel: KernelState, totals: Units, gone: tuple[str, ...], named: UnitNames = ()
) -> None:
    """Set the size of the pools in *totals*, and remove those in *gone*."""
    _units.of_pools(kernel, tuple([(n, 0) for n in gone if n in kernel.pools]), ())
    # A new mapping, so that caches made from the old one are seen to be old.
    pools = {name: pool for name, pool in kernel.pools.items() if name not in gone}
    for name, total in totals:
        pool = pools.get(name)
        if pool is None:
            pool = pools[name] = PoolRow(name, total)
            pool.used = _held(kernel, name)
        pool.total = total
    kernel.pools = pools
    _units.of_pools(kernel, totals, named)
    for name, _ in totals:
        pools[name].owed = max(0, pools[name].used - pools[name].total)
    kernel.workers_version += 1
    _queue.unpark_all(kernel)


def _held(kernel: KernelState, name: str) -> int:
    """Return the amount of *name* that was granted while it had no pool."""
    holders = (*kernel.workers.values(), kernel.by_hand)
    return sum(worker.used.get(name, 0) for worker in holders)


# -- allocations by hand: taken from the pools, and given back -------------------------

# A person or program holds an allocation until it is released, after a restart, too. It
# is granted whole or not at all. Waiting claims are served in order of arrival, before
# tasks, but a smaller claim may pass. A waiting claim is no event: its thread dies with
# the process.


def allocate(kernel: KernelState, claim: Claim, now: int) -> bool:
    """Grant *claim* if all of it is free; return whether it is."""
    if pool_shortage(kernel, need_of(kernel, claim)) is not None:
        return False
    units = _units.chosen(kernel, kernel.by_hand, claim.units)
    assert units is not None  # noqa: S101 - nothing is short
    before = _in_use(kernel, claim.units)
    fields = claim.id, claim.owner, claim.units
    named = _units.told(kernel, units)
    kernel.note(ResourcesAllocated, now, *fields, before, named)
    claim.granted = grant(kernel, *fields, now, named)
    return True


def need_of(kernel: KernelState, claim: Claim) -> Units:
    """Return the units that *claim* would hold, with those of its tenant's quotas."""
    return charged_by_hand(kernel, claim.owner, claim.units)


def wait(kernel: KernelState, claim: Claim) -> None:
    """Put *claim* at the end of those that wait for resources."""
    kernel.claims[claim] = None


def withdraw(kernel: KernelState, claim: Claim) -> None:
    """Remove *claim* from the waiting ones, if it is there."""
    kernel.claims.pop(claim, None)


def serve(kernel: KernelState, now: int) -> list[Claim]:
    """Grant waiting claims, before `dispatch`; return those granted."""
    if kernel.paused:
        return []
    found = [claim for claim in kernel.claims if allocate(kernel, claim, now)]
    for claim in found:
        del kernel.claims[claim]
    return found


def release_by_hand(kernel: KernelState, row: AllocationRow, now: int) -> None:
    """Free the allocation *row*."""
    before = _in_use(kernel, row.units)
    kernel.note(ResourcesReleased, now, row.id, row.owner, row.units, before)
    _give_back(kernel, row)


# -- effects of events --------------------------------------------------------------


def allocated(kernel: KernelState, event: ResourcesAllocated, now: int) -> None:
    """Apply the event: see `allocate`."""
    fields = event.allocation_id, event.owner, event.resources
    grant(kernel, *fields, now, event.units)


def released(kernel: KernelState, event: ResourcesReleased, _now: int) -> None:
    """Apply the event: see `release`."""
    _give_back(kernel, kernel.allocations[event.allocation_id])


def grant(
    kernel: KernelState,
    allocation_id: str,
    tenant: str,
    units: Units,
    now: int,
    named: HeldUnits = (),
) -> AllocationRow:
    """Give *tenant* the *units*, some of which are *named*."""
    alloc = charged_by_hand(kernel, tenant, units)
    alloc += _units.held(kernel, kernel.by_hand, named)
    row = AllocationRow(allocation_id, tenant, alloc, now)
    kernel.allocations[allocation_id] = row
    acquire(kernel, kernel.by_hand, alloc)
    if kernel.shares is not None:
        _queue.hold(kernel, kernel.shares.of(tenant), alloc, 0)
    return row


def _give_back(kernel: KernelState, row: AllocationRow) -> None:
    del kernel.allocations[row.id]
    if kernel.shares is not None:
        _queue.hold(kernel, kernel.shares.of(row.owner), row.alloc, 0, -1)
    release(kernel, kernel.by_hand, row.alloc)
    _queue.ask_again(kernel)


def _in_use(kernel: KernelState, units: Units) -> Units:
    """Return the amount in use of each resource in *units*."""
    return tuple((name, kernel.pools[name].used) for name, _ in units)


# -- workers with room for the tasks of a bucket ---------------------------------------

# Each bucket keeps that list, and asks no worker for each task. A worker whose attempt
# begins or ends is noted once, for all buckets (`KernelState.moved`). A bucket looks at
# the workers noted since it looked last, or at all of its own if these are fewer. So a
# start costs the same among fifty workers and among thousands. The invariant, which
# `check_invariants` tests: a worker that a bucket has looked at, and that was not noted
# since, is in the right list.
#
# A parked bucket waits at the workers without room. It stays entered there while other
# tasks start. It is entered anew only where a worker was noted, or everywhere if its
# head comes earlier than before.


#: How many times likelier another worker must be to complete a task that waits for it.
TIMES: Final = 4


def short_on(kernel: KernelState, bucket: Bucket, worker: WorkerRow) -> Shortage | None:
    """Return the first shortage on *worker* itself for a task of *bucket*.

    An allocator may grant less of the pools than is asked for, unless it is rigid: then
    the grant must fit.
    """
    short = of_slots(worker)
    if short is None and worker.capacity:
        need = wanted(bucket, worker)
        if not kernel.rigid:
            need = tuple([pair for pair in need if pair[0] not in kernel.pools])
        short = shortage(worker, need)
    return short


def success_rate(bucket: Bucket, worker: WorkerRow) -> float:
    """Return the rate at which *worker* completes tasks of *bucket*, by its record."""
    return worker.view.performance(bucket.spec.type).success_rate


def candidates(
    kernel: KernelState, bucket: Bucket, shorts: Mapping[Units, Shortage]
) -> Candidates:
    """Return the workers for which to ask the allocator about a task of *bucket*.

    Workers whose need is in *shorts*, the shortages of pools, are left out.
    """
    room = look(kernel, bucket)
    if not shorts:
        return room
    if len(shorts) == len(bucket.needs):
        return Candidates(room.number, [], [])
    return room.without([a for a in room if (bucket.need or a.request) in shorts])


def needs_on(bucket: Bucket, workers: Candidates) -> tuple[Units, ...]:
    """Return the different needs of a task of *bucket* on *workers*."""
    if len(bucket.needs) == 1:
        # Every worker has the same need, if there are any workers.
        return bucket.needs if len(workers) else ()
    return tuple(dict.fromkeys([bucket.need or worker.request for worker in workers]))


def look(kernel: KernelState, bucket: Bucket) -> Room:
    """Return the workers with room for tasks of *bucket*, up to date."""
    room, moved = bucket.room, kernel.moved
    unread = room.read - kernel.moved_before
    if room.read < 0 and len(room.number) > 1:
        for worker in room.number:
            worker.watched = True
    if unread < 0 or len(moved) - unread > len(room.number):
        for worker in room.number:
            _weigh(kernel, bucket, worker)
    elif unread < len(moved):
        for worker in moved[unread:]:
            if worker in room.number:
                _weigh(kernel, bucket, worker)
    # A single worker is looked at each time, so its changes need not be noted.
    if len(room.number) > 1:
        room.read = kernel.moved_before + len(moved)
    return room


def forget_moves(kernel: KernelState) -> None:
    """Drop a long list of moves; readers that lag then look at all workers."""
    many = len(kernel.moved) > MANY
    if many or (kernel.points is not None and kernel.points.hit("moved.forget")):
        kernel.moved_before += len(kernel.moved)
        kernel.moved.clear()


def _weigh(kernel: KernelState, bucket: Bucket, worker: WorkerRow) -> None:
    """Update whether *worker*, which matches *bucket*, has room now."""
    room = bucket.room
    room.places.pop(worker, None)
    short = short_on(kernel, bucket, worker)
    if short is None:
        room.unplaced.pop(worker, None)
        room.enter(worker)
    else:
        room.unplaced[worker] = short
        room.leave(worker)
    if kernel.config.waits_for_better and worker.failed:
        if success_rate(bucket, worker) * TIMES < 1:
            room.failing[worker] = None
        else:
            room.failing.pop(worker, None)


def better_than(bucket: Bucket, worker: WorkerRow) -> WorkerRow | None:
    """Return the busy worker that a task of *bucket* prefers to *worker* and awaits.

    A worker that fails at once is always free, so it would get every task for which the
    others have no room. So, if the router asks for it, a task waits for a worker that
    is four times as likely to complete it; return None if there is none.
    """
    rate = success_rate(bucket, worker)
    if rate * TIMES >= 1:
        return None
    return next(
        (
            other
            for other in bucket.workers
            # The end of an attempt there wakes the bucket.
            if other.limit <= other.running > other.leaked
            and success_rate(bucket, other) > rate * TIMES
        ),
        None,
    )


def worse(bucket: Bucket, among: Candidates) -> list[WorkerRow]:
    """Return the candidates *among* which a task of *bucket* does not go to.

    It waits for a busy worker instead: see `better_than`, for each of them.
    """
    room = bucket.room
    rates = {a: success_rate(bucket, a) for a in room.failing if a in among}
    if not rates:
        return []
    enough, best = TIMES * max(rates.values()), 0.0
    for busy in (room.places, room.unplaced):
        for worker in busy:
            if best <= enough and worker.limit <= worker.running > worker.leaked:
                best = max(best, success_rate(bucket, worker))
    return [worker for worker, rate in rates.items() if best > TIMES * rate]


def wait_at_workers(
    bucket: Bucket, row: TaskRow, *, above: bool
) -> Mapping[WorkerRow, Place]:
    """Return the places where *bucket* waits at its workers without room.

    The bucket, whose head is *row*, is entered there; *above* says if it is above a
    soft quota.
    """
    room = bucket.room
    head = (row.key, row.seq)
    if room.since is not None and (head < room.since or above != room.above):
        room.unplaced.update(room.places)
    for worker, short in room.unplaced.items():
        place = place_on(bucket, worker, short, above=above)
        place.add(bucket, row)
        room.places[worker] = place
    room.unplaced.clear()
    room.since, room.above = head, above
    return room.places


def wait_at_pools(
    kernel: KernelState,
    bucket: Bucket,
    shorts: Mapping[Units, Shortage],
    *,
    above: bool,
) -> list[Place]:
    """Return the places where *bucket* waits for the pools that are short."""
    needs = needs_on(bucket, bucket.room) if shorts else ()
    places = []
    for need, short in shorts.items():
        if need in needs:
            pool = kernel.pools[short.name]
            place = Place(pool=pool, name=short.name, need=short.need, above=above)
            places.append(_queue.among(pool.short, place, bucket.share))
    return places


def short_of_pools(kernel: KernelState, bucket: Bucket) -> dict[Units, Shortage]:
    """Return the shortage of pools for each different need of *bucket*."""
    return {
        need: short
        for need in bucket.needs
        if (short := lacking(kernel, bucket, need)) is not None
    }


# -- soft quotas: tasks above them start when nobody else can use what is free ---------

# A task whose start would exceed a soft quota waits at that quota, as at any other, and
# is woken when there is room in it. It stands in a second queue as well. At the end of
# a dispatch, once every task within its quotas has started or cannot, the first of that
# queue has its turn, one at a time, as long as there are slots. So nothing is held
# back, and tasks above their quotas cost the others nothing.
#
# If too little is free for one of these, it waits at a place of its own kind
# (`Place.above`). A wake-up from there goes on to the next only after the turn of the
# first (`Bucket.carried`), so a release wakes one of them, however many wait.


def exceeded(kernel: KernelState, bucket: Bucket) -> tuple[PoolRow, int] | None:
    """Return the first soft quota that a start of *bucket* would exceed, and the need.

    Where that depends on the worker, any of them counts.
    """
    if not bucket.soft:
        return None
    for need in bucket.needs:
        for name, units in with_quotas(bucket, need)[1]:
            # The quota may have been lifted since the bucket was looked at.
            pool = kernel.pools.get(name)
            if pool is not None and pool.beyond and _is_above(pool, units):
                return pool, units
    return None


def places(kernel: KernelState, bucket: Bucket) -> list[Place]:
    """Return the place where *bucket* waits for a soft quota it exceeds, if any."""
    found = exceeded(kernel, bucket)
    if found is None:
        return []
    pool, units = found
    place = Place(pool=pool, name=pool.name, need=units + pool.beyond)
    return [_queue.among(pool.short, place, bucket.share)]


def defer_if_over_quota(kernel: KernelState, bucket: Bucket, row: TaskRow) -> bool:
    """Set *bucket* with head *row* aside if others come first; return whether it is."""
    _leave(kernel, bucket)
    if kernel.last is bucket:
        # No other task can start.
        kernel.last = None
        return False
    where = places(kernel, bucket)
    if where:
        _queue.turn_away(kernel, bucket, row)
        if bucket.caller is not None and bucket.caller.above:
            bucket.carried, bucket.caller = bucket.caller, None
        _queue.enter_above(kernel, bucket, row)
        _queue.park(kernel, bucket, row, where)
    return bool(where)


def turn(kernel: KernelState, order: Callable[[TaskRow], Any] | None = None) -> bool:
    """Try a task above its soft quota, if no task within its quotas can start.

    They are taken by *order*, which may fail tasks, or by their places in the queue.
    Return whether there is a task to look at.
    """
    if kernel.paused or kernel.running >= kernel.concurrency:
        return False
    while kernel.above and not kernel.open:
        row = _first(kernel)
        if row is not None and order is not None:
            row = min(_heads(kernel), key=order)
        if row is None or row is not row.bucket.head():
            continue
        bucket = row.bucket
        bucket.above, kernel.last = None, bucket
        bucket.caller, bucket.carried = bucket.carried, None
        _queue.reopen(kernel, bucket)
    return bool(kernel.open)


def forget_turns(kernel: KernelState) -> None:
    """Reset all turns, since quotas have changed."""
    for *_, bucket in kernel.above:
        bucket.above = bucket.carried = None
    kernel.above.clear()
    kernel.last = None


def _is_above(pool: PoolRow, units: int) -> bool:
    return units + pool.beyond > pool.total - pool.used


def _first(kernel: KernelState) -> TaskRow | None:
    """Return the first head above its quota; None if its entry was out of date."""
    entry = kernel.above[0]
    bucket: Bucket = entry[2]
    row = bucket.head()
    if bucket.above is entry and row is not None:
        if entry[:2] == (row.key, row.seq):
            return row
        _queue.enter_above(kernel, bucket, row)
    elif bucket.above is entry:
        # All its startable tasks have gone.
        _leave(kernel, bucket)
    heappop(kernel.above)
    return None


def _leave(kernel: KernelState, bucket: Bucket) -> None:
    """Remove *bucket* from the second queue, and pass on what woke it."""
    carried, bucket.carried, bucket.above = bucket.carried, None, None
    if carried is not None and carried.heap and carried.has_room():
        _queue.wake(kernel, carried)


def _heads(kernel: KernelState) -> list[TaskRow]:
    """Return the heads that are above their soft quotas."""
    return [
        row
        for entry in kernel.above
        if entry[2].above is entry and (row := entry[2].head()) is not None
    ]
