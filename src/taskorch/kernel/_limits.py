"""
What limits starts: pools, room on agents, soft quotas.

Decisions: 0047, 0056, 0156.
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

from taskorch.events import PoolsChanged, ResourcesAllocated, ResourcesReleased
from taskorch.kernel import _queue, _units
from taskorch.kernel._rows import (
    AgentRow,
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
    of_quotas,
)
from taskorch.kernel._state import MANY, KernelState
from taskorch.kit.vocabulary import meant
from taskorch.model import SOFT, TASKS, HeldUnits, UnitNames, Units

# -- what is held and what is free: what is short, and the books -----------------------

# A start asks whether anything is short, `explain` asks for all that is: see
# `_shortages`, which puts these together with what policies and breakers say.


#: Makes a shortage of a tuple with all its fields: that is three times as fast.
make: Final = Shortage._make

#: One task, as a quota counts it.
ONE: Final = 1_000_000


def wanted(bucket: Bucket, agent: AgentRow) -> Units:
    """
    What a task of *bucket* waits for on *agent*: its own request, or the agent's.

    Of an elastic request that is the least; of all others, what it then holds.
    """
    need = bucket.need or agent.request
    return with_quotas(bucket, need)[0] if bucket.bounds else need


def with_quotas(bucket: Bucket, need: Units) -> tuple[Units, Units]:
    """*need*, with what a task of *bucket* takes of quotas then; and that alone."""
    known = bucket.charges.get(need)
    if known is None:
        units = charged(bucket.bounds, need)
        known = bucket.charges[need] = units, of_quotas(units)
    return known


def subjects(spec: Spec) -> tuple[tuple[str, str], ...]:
    """Kind and name of each holder of quotas for tasks of *spec*; soft ones last."""
    found = [("type", spec.type)]
    if spec.owner is not None:
        found.append(("owner", spec.owner))
    if spec.workflow is not None:
        found.append(("workflow", spec.workflow))
    return *found, *((f"{SOFT}{kind}", who) for kind, who in found)


def bounds_of(
    kernel: KernelState, whose: Iterable[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """The pools of the quotas of *whose*, and of what each says how much."""
    quotas = kernel.quotas
    return tuple(bound for one in whose for bound in quotas.get(one, ()))


def charged(bounds: Iterable[tuple[str, str]], alloc: Units) -> Units:
    """*alloc*, and as much of the pools of the quotas that hold for it."""
    found, held = list(alloc), dict(alloc)
    for pool, resource in bounds:
        units = ONE if resource == TASKS else held.get(resource, 0)
        if units:
            found.append((pool, units))
    return tuple(sorted(found))


def charged_by_hand(kernel: KernelState, owner: str, units: Units) -> Units:
    """*units* that *owner* holds by hand, and as much of their quota: nothing runs."""
    bounds = bounds_of(kernel, (("owner", owner), (f"{SOFT}owner", owner)))
    return charged([bound for bound in bounds if bound[1] != TASKS], units)


def within_quotas(
    kernel: KernelState, spec: Spec, granted: Units, held: Units = ()
) -> Units:
    """The part of *granted* that quotas leave a task of *spec* holding *held*."""
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


def of_slots(agent: AgentRow, ahead: int = 0) -> Shortage | None:
    """Of the slots of *agent*, of which as many are to go to those who are *ahead*."""
    free = agent.limit - agent.running - ahead
    return None if free > 0 else make(("busy", "", 1, free, agent, None, 0, False))


def of_capacity(
    agent: AgentRow, need: Units, pools: Container[str] | None = None
) -> list[Shortage]:
    """
    What is short of *need* of that which *agent* has of its own.

    Of what its capacity does not name, the *pools* say how much there is: what is in
    none of these, is nowhere.
    """
    shorts: list[Shortage] = []
    for name, units in need:
        if name in agent.capacity:
            total, used = agent.capacity[name], agent.used.get(name, 0)
            group = agent.units.get(name) if agent.units else None
            if units > total - used or (group and units > group.most(units)):
                shorts += _of_amount(name, units, total, used, agent, None, group)
        elif pools is not None and name not in pools:
            shorts += _of_amount(name, units, 0, 0, agent)
    return shorts


def of_pools(
    kernel: KernelState,
    need: Units,
    agent: AgentRow | None = None,
    agents: Sequence[AgentRow] = (),
) -> list[Shortage]:
    """
    What pools have too little of, of *need*, which is for *agent*, or for any.

    Some of these *agents* may have units of their own: then amounts alone are looked
    at.
    """
    shorts: list[Shortage] = []
    for name, units in need:
        pool = kernel.pools.get(name)
        if pool is None:
            continue
        group = pool.units
        if group is not None and any(
            one is not None and name in one.units for one in (agent, *agents)
        ):
            group = None
        if units > pool.total - pool.used or (group and units > group.most(units)):
            shorts += _of_amount(name, units, pool.total, pool.used, agent, pool, group)
    return shorts


def _of_amount(
    name: str,
    need: int,
    total: int,
    used: int,
    agent: AgentRow | None,
    pool: PoolRow | None = None,
    group: UnitGroup | None = None,
) -> list[Shortage]:
    """
    What is wrong with one amount: all is too small, and were it not, is in use.

    Of the units of a *group*, it must be part of one, or whole ones.
    """
    is_hopeless = need > total or (group is not None and _units.is_uneven(need))
    if pool is not None and pool.is_quota:
        free = total - used
        return [make(("quota", name, need, free, agent, pool, 0, is_hopeless))]
    shorts = []
    if is_hopeless:
        shorts.append(
            Shortage("too small", name, need, total, agent, pool, is_hopeless=True)
        )
    free = max(need, total) - used
    if group is not None and not is_hopeless:
        free = min(free, group.most(need))
    if need > free:
        shorts.append(make(("too little", name, need, free, agent, pool, 0, False)))
    return shorts


def shortage(agent: AgentRow, need: Units) -> Shortage | None:
    """The first of *need* that *agent* has too little of."""
    shorts = of_capacity(agent, need) if agent.capacity else ()
    return shorts[0] if shorts else None


def pool_shortage(
    kernel: KernelState, need: Units, agents: Sequence[AgentRow] = ()
) -> Shortage | None:
    """The first of *need* that its pool has too little of, for any of *agents*."""
    shorts = of_pools(kernel, need, None, agents)
    return shorts[0] if shorts else None


def lacking(kernel: KernelState, bucket: Bucket, need: Units) -> Shortage | None:
    """
    What pools have too little of for a task of *bucket* that waits for *need*.

    An allocator that may grant less than is asked for may be asked although a pool has
    too little, but not beyond a quota.
    """
    short = None
    if bucket.bounds:
        short = pool_shortage(kernel, with_quotas(bucket, need)[1])
    if short is None and kernel.rigid:
        short = pool_shortage(kernel, need, bucket.agents)
    return short


def place_on(
    bucket: Bucket, agent: AgentRow, short: Shortage | Place, *, above: bool
) -> Place:
    """Where a task of *bucket* waits for what *agent* is *short* of."""
    share, among = bucket.share, _queue.among
    name = short.name
    if name:
        place = Place(agent=agent, name=name, need=short.need, above=above)
        return among(agent.short.setdefault(name, {}), place, share)
    if share is None:
        return agent.slots
    return among(agent.short.setdefault("", {}), Place(agent=agent), share)


def too_small(kernel: KernelState, bucket: Bucket, agent: AgentRow) -> Shortage | None:
    """What there will never be enough of for *bucket* on *agent*, or None."""
    # A quota that is too small may be raised: its tasks wait.
    for need in bucket.need or agent.request:
        own = of_capacity(agent, (need,), kernel.pools)
        for short in chain(own, of_pools(kernel, (need,), agent)):
            if short.is_hopeless:
                return short
    return None


def place_of(short: Shortage) -> str:
    """Where there is too little, as the end of a sentence."""
    if short.pool is not None:
        return "in the pool"
    agent = short.agent
    assert agent is not None  # noqa: S101 - what is too small is a pool or an agent's
    return f"on agent {agent.name}" if short.name in agent.capacity else "in any pool"


def of_no_pool(kernel: KernelState, name: str) -> str:
    """A sentence if no pool or agent has a resource *name*; "" if one may."""
    known = dict.fromkeys(kernel.pools)
    for agent in kernel.agents.values():
        known.update(dict.fromkeys(agent.capacity))
    if name in known or name in kernel.config.unknown:
        return ""
    near = meant(name, known)
    text = "no pool and no agent has a resource of that name"
    return f"{text}: {near}" if near else text


def acquire(kernel: KernelState, agent: AgentRow, alloc: Units) -> None:
    """Add *alloc* to what the pools and *agent* have in use."""
    for name, units in alloc:
        pool = kernel.pools.get(name)
        if pool is not None:
            pool.used += units
        elif (beside := kernel.beside.get(name)) is not None:
            _units.book(kernel, beside, units)
            continue
        # Whatever its capacity names now: that may change while it works.
        agent.used[name] = agent.used.get(name, 0) + units


def release(kernel: KernelState, agent: AgentRow, alloc: Units) -> None:
    """Subtract *alloc* from what is in use, and wake the buckets that wait for it."""
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
        agent.used[name] -= units
        if name in agent.short:
            _queue.wake_some(kernel, agent.short[name])


def _waiting_for(row: PoolRow) -> list[dict[Any, Place]]:
    """Where those wait who may have what *row*, of the pools beside, has free."""
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


# -- how much there is: pools come, go, and change their size while work goes on -------

# Nothing is taken from what is granted. A pool that has become smaller than what is
# held of it grants nothing until enough has been given back; one that has grown wakes
# those who wait. A request that is larger than the pool has become waits, and is
# explained: the pool may grow again.


def change_pools(
    kernel: KernelState,
    totals: Iterable[tuple[str, int]],
    now: int,
    gone: Iterable[str] = (),
    named: UnitNames = (),
) -> None:
    """
    Set the totals of some pools, and remove others.

    *totals* are in millionths; the units of some are *named*. Of the other pools, those
    that are to be *gone* go, unless they are in use.
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
    """What the fact does to the state."""
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
    kernel.agents_version += 1
    _queue.unpark_all(kernel)


def _held(kernel: KernelState, name: str) -> int:
    """How much of *name* was granted while there was no pool of it."""
    holders = (*kernel.agents.values(), kernel.by_hand)
    return sum(agent.used.get(name, 0) for agent in holders)


# -- what people take from the pools by hand, and give back ----------------------------

# An allocation by hand is held by its owner, in later lives too, until it is
# released. It is granted whole or not at all; who waits for one is served in the
# order in which they came, before tasks, and lets pass those who need less. That
# somebody waits is no fact: their thread dies with the process.


def allocate(kernel: KernelState, claim: Claim, now: int) -> bool:
    """Grant *claim* if all of it is free; whether it is."""
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
    """What *claim* would hold, of the quotas of its owner too."""
    return charged_by_hand(kernel, claim.owner, claim.units)


def wait(kernel: KernelState, claim: Claim) -> None:
    """Put *claim* at the end of those that wait for resources."""
    kernel.claims[claim] = None


def withdraw(kernel: KernelState, claim: Claim) -> None:
    """*claim* does not wait any more, if it did."""
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


# -- what the facts do -------------------------------------------------------------


def allocated(kernel: KernelState, event: ResourcesAllocated, now: int) -> None:
    """See `allocate`."""
    fields = event.allocation_id, event.owner, event.resources
    grant(kernel, *fields, now, event.units)


def released(kernel: KernelState, event: ResourcesReleased, _now: int) -> None:
    """See `release`."""
    _give_back(kernel, kernel.allocations[event.allocation_id])


def grant(
    kernel: KernelState,
    allocation_id: str,
    owner: str,
    units: Units,
    now: int,
    named: HeldUnits = (),
) -> AllocationRow:
    """*owner* holds *units*, of which some are *named*, from now on."""
    alloc = charged_by_hand(kernel, owner, units)
    alloc += _units.held(kernel, kernel.by_hand, named)
    row = AllocationRow(allocation_id, owner, alloc, now)
    kernel.allocations[allocation_id] = row
    acquire(kernel, kernel.by_hand, alloc)
    if kernel.shares is not None:
        _queue.hold(kernel, kernel.shares.of(owner), alloc, 0)
    return row


def _give_back(kernel: KernelState, row: AllocationRow) -> None:
    del kernel.allocations[row.id]
    if kernel.shares is not None:
        _queue.hold(kernel, kernel.shares.of(row.owner), row.alloc, 0, -1)
    release(kernel, kernel.by_hand, row.alloc)
    _queue.ask_again(kernel)


def _in_use(kernel: KernelState, units: Units) -> Units:
    """How much of what *units* name is in use."""
    return tuple((name, kernel.pools[name].used) for name, _ in units)


# -- which of its agents have room for the tasks of a bucket ---------------------------

# That is kept, and not asked of each agent for each task. An agent that begins or
# ends an attempt is noted once, for all buckets (`KernelState.moved`), and a bucket
# looks at those that have been noted since it looked last, or at all of its own if
# these are fewer. So a start costs the same among fifty agents and among thousands.
# The law, which `check_invariants` holds: an agent that a bucket has taken into
# account, and that has not been noted since, is where it belongs.
#
# The agents without room are where a parked bucket waits. It stays entered there
# while others start what it has; it is entered anew only where an agent has moved, or
# all over if its head comes earlier than before.


#: How much likelier another agent must be to complete a task that waits for it.
TIMES: Final = 4


def short_on(kernel: KernelState, bucket: Bucket, agent: AgentRow) -> Shortage | None:
    """
    The first that *agent* itself lacks for a task of *bucket*.

    Of what pools have, an allocator may grant less than is asked for, unless it is
    rigid: then what it grants must fit.
    """
    short = of_slots(agent)
    if short is None and agent.capacity:
        need = wanted(bucket, agent)
        if not kernel.rigid:
            need = tuple([pair for pair in need if pair[0] not in kernel.pools])
        short = shortage(agent, need)
    return short


def success_rate(bucket: Bucket, agent: AgentRow) -> float:
    """How likely *agent* is to complete a task of *bucket*, by its record."""
    return agent.view.performance(bucket.spec.type).success_rate


def candidates(
    kernel: KernelState, bucket: Bucket, shorts: Mapping[Units, Shortage]
) -> Candidates:
    """
    The agents about which the allocator is to be asked for a task of *bucket*.

    It is asked for none of the needs for which pools have too little (*shorts*).
    """
    room = look(kernel, bucket)
    if not shorts:
        return room
    if len(shorts) == len(bucket.needs):
        return Candidates(room.number, [], [])
    return room.without([a for a in room if (bucket.need or a.request) in shorts])


def needs_on(bucket: Bucket, agents: Candidates) -> tuple[Units, ...]:
    """What a task of *bucket* waits for on *agents*, as far as it differs."""
    if len(bucket.needs) == 1:
        # The same on all of them, if there are any.
        return bucket.needs if len(agents) else ()
    return tuple(dict.fromkeys([bucket.need or agent.request for agent in agents]))


def look(kernel: KernelState, bucket: Bucket) -> Room:
    """The agents with room for tasks of *bucket*, up to date."""
    room, moved = bucket.room, kernel.moved
    unread = room.read - kernel.moved_before
    if room.read < 0 and len(room.number) > 1:
        for agent in room.number:
            agent.watched = True
    if unread < 0 or len(moved) - unread > len(room.number):
        for agent in room.number:
            _weigh(kernel, bucket, agent)
    elif unread < len(moved):
        for agent in moved[unread:]:
            if agent in room.number:
                _weigh(kernel, bucket, agent)
    # A single one is looked at each time: then nobody need note it.
    if len(room.number) > 1:
        room.read = kernel.moved_before + len(moved)
    return room


def forget_moves(kernel: KernelState) -> None:
    """Drop what has moved, once it is much: who has not read it looks at all agents."""
    many = len(kernel.moved) > MANY
    if many or (kernel.points is not None and kernel.points.hit("moved.forget")):
        kernel.moved_before += len(kernel.moved)
        kernel.moved.clear()


def _weigh(kernel: KernelState, bucket: Bucket, agent: AgentRow) -> None:
    """*agent*, which matches *bucket*, may have room now, or none any more."""
    room = bucket.room
    room.places.pop(agent, None)
    short = short_on(kernel, bucket, agent)
    if short is None:
        room.unplaced.pop(agent, None)
        room.enter(agent)
    else:
        room.unplaced[agent] = short
        room.leave(agent)
    if kernel.config.waits_for_better and agent.failed:
        if success_rate(bucket, agent) * TIMES < 1:
            room.failing[agent] = None
        else:
            room.failing.pop(agent, None)


def better_than(bucket: Bucket, agent: AgentRow) -> AgentRow | None:
    """
    The busy agent that a task of *bucket* waits for rather than go to *agent*.

    One that fails at once is always free: it would get whatever the others have no room
    for, all that there is. So, where the router says so, a task waits for an agent that
    is four times as likely to complete it; None if there is none.
    """
    rate = success_rate(bucket, agent)
    if rate * TIMES >= 1:
        return None
    return next(
        (
            other
            for other in bucket.agents
            # The end of an attempt there is what wakes the bucket.
            if other.limit <= other.running > other.leaked
            and success_rate(bucket, other) > rate * TIMES
        ),
        None,
    )


def worse(bucket: Bucket, among: Candidates) -> list[AgentRow]:
    """
    Those *among* the candidates to which a task of *bucket* does not go.

    It waits for a busy agent instead: see `better_than`, for each of them.
    """
    room = bucket.room
    rates = {a: success_rate(bucket, a) for a in room.failing if a in among}
    if not rates:
        return []
    enough, best = TIMES * max(rates.values()), 0.0
    for busy in (room.places, room.unplaced):
        for agent in busy:
            if best <= enough and agent.limit <= agent.running > agent.leaked:
                best = max(best, success_rate(bucket, agent))
    return [agent for agent, rate in rates.items() if best > TIMES * rate]


def wait_at_agents(
    bucket: Bucket, row: TaskRow, *, above: bool
) -> Mapping[AgentRow, Place]:
    """
    Where *bucket*, whose head is *row*, waits at those of its agents without room.

    It is entered there; whether *above* a soft quota.
    """
    room = bucket.room
    head = (row.key, row.seq)
    if room.since is not None and (head < room.since or above != room.above):
        room.unplaced.update(room.places)
    for agent, short in room.unplaced.items():
        place = place_on(bucket, agent, short, above=above)
        place.add(bucket, row)
        room.places[agent] = place
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
    """Where *bucket* waits for what is short of its needs on agents with room."""
    needs = needs_on(bucket, bucket.room) if shorts else ()
    places = []
    for need, short in shorts.items():
        if need in needs:
            pool = kernel.pools[short.name]
            place = Place(pool=pool, name=short.name, need=short.need, above=above)
            places.append(_queue.among(pool.short, place, bucket.share))
    return places


def short_of_pools(kernel: KernelState, bucket: Bucket) -> dict[Units, Shortage]:
    """What pools have too little of, by what its tasks wait for on some agents."""
    return {
        need: short
        for need in bucket.needs
        if (short := lacking(kernel, bucket, need)) is not None
    }


# -- soft quotas: who is above theirs starts when nobody else can use what is free -----

# What a start would put above a soft quota waits at that quota, as at one that is not
# soft, and is woken when there is room in it. But it stands in a second queue as
# well: at the end of a dispatch, once all that stays within its quotas has started or
# cannot, the first of that queue has its turn, one at a time, as long as there are
# slots. So nothing is held back, and those who are above cost nothing to the others.
#
# If too little is free for one of these, it waits for that at a place of its own kind
# (`Place.above`). A wake-up from there goes on to the next only once the turn of the
# first has come (`Bucket.carried`), so a release wakes one of them, however many
# wait.


def exceeded(kernel: KernelState, bucket: Bucket) -> tuple[PoolRow, int] | None:
    """
    The first soft quota above which a start of *bucket* would be, and what it takes.

    Where that depends on the agent, any of them counts.
    """
    if not bucket.soft:
        return None
    for need in bucket.needs:
        for name, units in with_quotas(bucket, need)[1]:
            # It may have been lifted since the bucket was looked at.
            pool = kernel.pools.get(name)
            if pool is not None and pool.beyond and _is_above(pool, units):
                return pool, units
    return None


def places(kernel: KernelState, bucket: Bucket) -> list[Place]:
    """Place where *bucket* waits for room in a soft quota that it exceeds, if any."""
    found = exceeded(kernel, bucket)
    if found is None:
        return []
    pool, units = found
    place = Place(pool=pool, name=pool.name, need=units + pool.beyond)
    return [_queue.among(pool.short, place, bucket.share)]


def defer_if_over_quota(kernel: KernelState, bucket: Bucket, row: TaskRow) -> bool:
    """Set *bucket*, whose head is *row*, aside if others come first; whether it is."""
    _leave(kernel, bucket)
    if kernel.last is bucket:
        # Nobody else can start.
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
    """
    Try a task above its soft quota, if no task within its quotas can start.

    They are taken by *order*, which may make tasks fail, or by their places in the
    queue. Whether there is something to look at.
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
    """Quotas have changed: everything is to be tried again."""
    for *_, bucket in kernel.above:
        bucket.above = bucket.carried = None
    kernel.above.clear()
    kernel.last = None


def _is_above(pool: PoolRow, units: int) -> bool:
    return units + pool.beyond > pool.total - pool.used


def _first(kernel: KernelState) -> TaskRow | None:
    """The first of those that are above; None: its entry was out of date."""
    entry = kernel.above[0]
    bucket: Bucket = entry[2]
    row = bucket.head()
    if bucket.above is entry and row is not None:
        if entry[:2] == (row.key, row.seq):
            return row
        _queue.enter_above(kernel, bucket, row)
    elif bucket.above is entry:
        # All that it had to start has gone.
        _leave(kernel, bucket)
    heappop(kernel.above)
    return None


def _leave(kernel: KernelState, bucket: Bucket) -> None:
    """*bucket* is in the second queue no more: the next may have what woke it."""
    carried, bucket.carried, bucket.above = bucket.carried, None, None
    if carried is not None and carried.heap and carried.has_room():
        _queue.wake(kernel, carried)


def _heads(kernel: KernelState) -> list[TaskRow]:
    """The heads of those that are above."""
    return [
        row
        for entry in kernel.above
        if entry[2].above is entry and (row := entry[2].head()) is not None
    ]
