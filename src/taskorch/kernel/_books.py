"""
What is held and what is free: the predicates of scheduling, and the books.

`explain` reads the same predicates, so what it says is what happens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from taskorch._vocabulary import meant
from taskorch.kernel import _parking
from taskorch.kernel._rows import AgentRow, Bucket, Place, Spec, of_quotas
from taskorch.kernel._state import KernelState
from taskorch.model import SOFT, TASKS, Units

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


def has_slot(agent: AgentRow) -> bool:
    """Whether *agent* may run one more attempt."""
    return agent.running < agent.limit


def shortage(agent: AgentRow, need: Units) -> tuple[str, int] | None:
    """The first of *need* that *agent* has too little of: its name, and how much."""
    capacity = agent.capacity
    if not capacity:
        return None
    for name, units in need:
        # Of what its capacity does not name, the pools alone say how much there is.
        if name in capacity and units > agent.free(name):
            return name, units
    return None


def pool_shortage(kernel: KernelState, need: Units) -> tuple[str, int] | None:
    """The first of *need* that its pool has too little of: its name, and how much."""
    pools = kernel.pools
    for name, units in need:
        if name in pools:
            pool = pools[name]
            if units > pool.total - pool.used:
                return name, units
    return None


def lacks(kernel: KernelState, bucket: Bucket, need: Units) -> bool:
    """
    Whether pools have too little for a task of *bucket* that waits for *need*.

    An allocator that may grant less than is asked for may be asked although a pool has
    too little, but not beyond a quota.
    """
    if kernel.rigid:
        whole = with_quotas(bucket, need)[0] if bucket.bounds else need
        return pool_shortage(kernel, whole) is not None
    return (
        bool(bucket.bounds)
        and pool_shortage(kernel, with_quotas(bucket, need)[1]) is not None
    )


def place_on(bucket: Bucket, agent: AgentRow, *, above: bool) -> Place:
    """What keeps a task of *bucket* from running on *agent*, which has no room."""
    share, among = bucket.share, _parking.among
    if not has_slot(agent):
        if share is None:
            return agent.slots
        return among(agent.short.setdefault("", {}), Place(agent=agent), share)
    short = shortage(agent, wanted(bucket, agent))
    assert short is not None  # noqa: S101 - it has no room
    name, units = short
    place = Place(agent=agent, name=name, need=units, above=above)
    return among(agent.short.setdefault(name, {}), place, share)


def place_at_pool(
    kernel: KernelState, bucket: Bucket, need: Units, *, above: bool
) -> Place:
    """What keeps a task of *bucket* that waits for *need*: a pool `lacks` it."""
    whole, own = with_quotas(bucket, need) if bucket.bounds else (need, ())
    short = pool_shortage(kernel, own) or pool_shortage(kernel, whole)
    assert short is not None  # noqa: S101 - one does
    name, units = short
    pool = kernel.pools[name]
    place = Place(pool=pool, name=name, need=units, above=above)
    return _parking.among(pool.short, place, bucket.share)


def too_small(
    kernel: KernelState, bucket: Bucket, agent: AgentRow
) -> tuple[str, int, int, str] | None:
    """
    What there will never be enough of for *bucket* on *agent*, or None.

    It is told as the resource, what is needed, the most there is, and where that is.
    """
    # A quota that is too small may be raised: its tasks wait.
    for name, need in bucket.need or agent.request:
        pool, own = kernel.pools.get(name), agent.capacity.get(name)
        if own is not None and own < need:
            return name, need, own, f"on agent {agent.name}"
        if pool is not None and pool.total < need:
            return name, need, pool.total, "in the pool"
        if pool is None and own is None:
            here = f" or on agent {agent.name}" if agent.capacity else ""
            return name, need, 0, f"in any pool{here}"
    return None


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
                _parking.wake_some(kernel, pool.short)
            if pool.parked:
                _parking.reopen_all(kernel, pool.parked)
        agent.used[name] -= units
        if name in agent.short:
            _parking.wake_some(kernel, agent.short[name])
