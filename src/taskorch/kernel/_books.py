"""
What is held and what is free: the predicates of scheduling, and the books.

`explain` reads the same predicates, so what it says is what happens.
"""

from __future__ import annotations

from taskorch.kernel import _parking
from taskorch.kernel._rows import AgentRow, Bucket
from taskorch.kernel._state import KernelState
from taskorch.model import Units


def wanted(bucket: Bucket, agent: AgentRow) -> Units:
    """What a task of *bucket* holds on *agent*: its own request, or the agent's."""
    return bucket.spec.resources or agent.request


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


def too_small(
    kernel: KernelState, bucket: Bucket, agent: AgentRow
) -> tuple[str, int, int, str] | None:
    """
    What there will never be enough of for *bucket* on *agent*, or None.

    Returns:
        The resource, what is needed, the most there is, and where that is.
    """
    for name, need in wanted(bucket, agent):
        pool, own = kernel.pools.get(name), agent.capacity.get(name)
        if own is not None and own < need:
            return name, need, own, f"on agent {agent.name}"
        if pool is not None and pool.total < need:
            return name, need, pool.total, "in the pool"
        if pool is None and own is None:
            here = f" or on agent {agent.name}" if agent.capacity else ""
            return name, need, 0, f"in any pool{here}"
    return None


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
