"""
Soft quotas: who is above theirs starts when nobody else can use what is free.

What a start would put above a soft quota waits at that quota, as at one that is not
soft, and is woken when there is room in it. But it stands in a second queue as well: at
the end of a dispatch, once all that stays within its quotas has started or cannot, the
first of that queue has its turn, one at a time, as long as there are slots. So nothing
is held back, and those who are above cost nothing to the others.

If too little is free for one of these, it waits for that at a place of its own kind
(`Place.above`). A wake-up from there goes on to the next only once the turn of the
first has come (`Bucket.carried`), so a release wakes one of them, however many wait.

Decision: 0056.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop
from typing import Any

from taskorch.kernel import _books, _parking
from taskorch.kernel._rows import Bucket, Place, PoolRow, TaskRow
from taskorch.kernel._state import KernelState


def exceeded(kernel: KernelState, bucket: Bucket) -> tuple[PoolRow, int] | None:
    """
    The first soft quota above which a start of *bucket* would be, and what it takes.

    Where that depends on the agent, any of them counts.
    """
    if not bucket.soft:
        return None
    for need in bucket.needs:
        for name, units in _books.with_quotas(bucket, need)[1]:
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
    return [_parking.among(pool.short, place, bucket.share)]


def defer_if_over_quota(kernel: KernelState, bucket: Bucket, row: TaskRow) -> bool:
    """Set *bucket*, whose head is *row*, aside if others come first; whether it is."""
    _leave(kernel, bucket)
    if kernel.last is bucket:
        # Nobody else can start.
        kernel.last = None
        return False
    where = places(kernel, bucket)
    if where:
        if bucket.caller is not None and bucket.caller.above:
            bucket.carried, bucket.caller = bucket.caller, None
        _parking.enter_above(kernel, bucket, row)
        _parking.park(kernel, bucket, row, where)
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
        _parking.reopen(kernel, bucket)
    return bool(kernel.open)


def forget(kernel: KernelState) -> None:
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
        _parking.enter_above(kernel, bucket, row)
    elif bucket.above is entry:
        # All that it had to start has gone.
        _leave(kernel, bucket)
    heappop(kernel.above)
    return None


def _leave(kernel: KernelState, bucket: Bucket) -> None:
    """*bucket* is in the second queue no more: the next may have what woke it."""
    carried, bucket.carried, bucket.above = bucket.carried, None, None
    if carried is not None and carried.heap and carried.has_room():
        _parking.wake(kernel, carried)


def _heads(kernel: KernelState) -> list[TaskRow]:
    """The heads of those that are above."""
    return [
        row
        for entry in kernel.above
        if entry[2].above is entry and (row := entry[2].head()) is not None
    ]
