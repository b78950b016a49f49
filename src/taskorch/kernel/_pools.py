"""
How much there is: pools come, go, and change their size while work goes on.

Nothing is taken from what is granted. A pool that has become smaller than what is held
of it grants nothing until enough has been given back; one that has grown wakes those
who wait. A request that is larger than the pool has become waits, and is explained: the
pool may grow again.

Decision: 0047.
"""

from __future__ import annotations

from collections.abc import Iterable

from taskorch.events import PoolsChanged
from taskorch.kernel import _queue
from taskorch.kernel._rows import PoolRow
from taskorch.kernel._state import KernelState
from taskorch.model import Units


def change(
    kernel: KernelState,
    totals: Iterable[tuple[str, int]],
    now: int,
    gone: Iterable[str] = (),
) -> None:
    """
    Set the totals of some pools, and remove others.

    *totals* are in millionths. Of the other pools, those that are to be *gone* go,
    unless they are in use.
    """
    pools = kernel.pools
    wanted = sorted(dict(totals).items())
    changed = tuple(
        (name, total)
        for name, total in wanted
        if name not in pools or pools[name].total != total
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
        kernel.note(PoolsChanged, now, changed, idle, before)
        apply(kernel, changed, idle)


def changed(kernel: KernelState, event: PoolsChanged, _now: int) -> None:
    """What the fact does to the state."""
    apply(kernel, event.totals, event.gone)


def apply(kernel: KernelState, totals: Units, gone: tuple[str, ...]) -> None:
    """Set the size of the pools in *totals*, and remove those in *gone*."""
    # A new mapping, so that caches made from the old one are seen to be old.
    pools = {name: pool for name, pool in kernel.pools.items() if name not in gone}
    for name, total in totals:
        pool = pools.get(name)
        if pool is None:
            pool = pools[name] = PoolRow(name, total)
            pool.used = _held(kernel, name)
        pool.total = total
        pool.owed = max(0, pool.used - total)
    kernel.pools = pools
    kernel.agents_version += 1
    _queue.unpark_all(kernel)


def _held(kernel: KernelState, name: str) -> int:
    """How much of *name* was granted while there was no pool of it."""
    holders = (*kernel.agents.values(), kernel.by_hand)
    return sum(agent.used.get(name, 0) for agent in holders)
