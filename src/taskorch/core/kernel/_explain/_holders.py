"""Holders of short resources, and the number of tasks that come before one.

The search for holders is bounded, and so is the count.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import chain, islice, tee
from typing import Any, Final, TypeAlias

from taskorch.core.kernel._application import is_under_way, worker_of
from taskorch.core.kernel._rows import IN_ORDER, Bucket, TaskRow, WorkerRow
from taskorch.core.kernel._scopes import held_in
from taskorch.core.kernel._state import KernelState
from taskorch.model import TaskState, Units

#: The most tasks that are looked at, from the oldest and from the youngest on: most
#: running tasks are among the oldest unfinished ones, and 10,000 finished ones are
#: kept.
REACH: Final = 20_000
#: The most holders that are named.
NAMED: Final = 100
_HOLDING: Final = (TaskState.RUNNING, TaskState.SUSPENDED)

#: A share that one attempt holds: its name, worker, slots and resources.
Share: TypeAlias = tuple[str, WorkerRow, int, Units]
#: Names of holders, each with its slots or its units of one resource.
Held: TypeAlias = list[tuple[str, int]]


def share_of(row: TaskRow) -> Share:
    """Return the worker, slots and resources that the attempt of *row* holds."""
    slots = 0 if row.extra is not None and row.extra.yielded else 1
    return row.id, worker_of(row), slots, row.alloc


def leaked_shares(kernel: KernelState) -> list[Share]:
    """Return the shares of attempts that did not stop when they were asked to."""
    return [
        (
            f"{task_id} (attempt {attempt}, which would not stop)",
            leak.worker,
            leak.slots,
            leak.alloc,
        )
        for (task_id, attempt), leak in kernel.leaked.items()
    ]


def shares_by_hand(kernel: KernelState) -> list[Share]:
    """Return the shares of allocations that people hold."""
    return [
        (f"allocation {row.id} (of {row.owner})", kernel.by_hand, 0, row.alloc)
        for row in kernel.allocations.values()
    ]


def holders_of(kernel: KernelState, name: str) -> Held:
    """Return the holders of the resource *name* and their units: see `Holders`."""
    return Holders(kernel).of(name, kernel.pools[name].used)


class Holders:
    """A search for holders of slots and resources that looks at few attempts.

    The kernel keeps no list of them, since that would cost every start. If more than
    twice `REACH` tasks are in memory, some may be missing.
    """

    def __init__(self, kernel: KernelState) -> None:
        self._kernel = kernel
        self._rows = _under_way(kernel)

    def rows(self) -> Iterator[TaskRow]:
        """Return the tasks with an attempt under way."""
        # Each copy of the iterator has the rows that other copies have read.
        self._rows, rows = tee(self._rows)
        return rows

    def of(self, name: str | None, need: int, worker: WorkerRow | None = None) -> Held:
        """Return holders of the resource *name* (None: of slots), on *worker* or all.

        It stops when they are enough to be named, and together hold *need*.
        """
        held: Held = []
        there = (row for row in self.rows() if worker in (None, row.worker))
        others = leaked_shares(self._kernel) + shares_by_hand(self._kernel)
        for holder, where, slots, alloc in chain(map(share_of, there), others):
            units = slots if name is None else held_in(self._kernel, alloc)[name]
            if units and worker in (None, where):
                held.append((holder, units))
                need -= units
                if need <= 0 and len(held) >= NAMED:
                    break
        return held


def _under_way(kernel: KernelState) -> Iterator[TaskRow]:
    tasks = kernel.tasks.values()
    seen: set[TaskRow] = set()
    # Holders that were not found yet: running tasks, and slots of attempts that do not
    # run.
    running = kernel.active
    slots = kernel.running - sum(leak.slots for leak in kernel.leaked.values())
    for row in chain(islice(tasks, REACH), islice(reversed(tasks), REACH)):
        if not running and not slots:
            return
        if row.state in _HOLDING and row not in seen and is_under_way(row):
            seen.add(row)
            running -= row.state is TaskState.RUNNING
            slots -= share_of(row)[2]
            yield row


def enough(held: Held, need: int) -> tuple[str, ...]:
    """Return the names of a few *held* allocations that together free *need*."""
    chosen: list[str] = []
    # The largest come first; equal ones keep their order.
    for name, units in sorted(held, key=lambda pair: -pair[1]):
        if need <= 0:
            break
        chosen.append(name)
        need -= units
    return tuple(chosen)


#: The most tasks that are counted one by one.
FAR: Final = 5_000


def ahead(bucket: Bucket, row: TaskRow, most: int | None = FAR) -> int | None:
    """Return how many tasks of *bucket* come before the queued *row*.

    *row* may be of another bucket. Tasks outside the order of arrival are counted one
    by one; return None if these are more than *most*, where there is a bound.
    """
    place = (row.key, row.seq)
    if bucket.stale:
        straight = _count(_in_fifo(bucket, place), most)
    else:
        straight = bisect_left(bucket.fifo, place, key=IN_ORDER)
    crossed = _count(_in_heap(bucket, place), most)
    return None if straight is None or crossed is None else straight + crossed


def _count(entries: Iterator[bool], most: int | None) -> int | None:
    """Count *entries* that are not stale; return None if there are more than *most*."""
    count = 0
    for seen, is_queued in enumerate(entries, 1):
        if most is not None and seen > most:
            return None
        count += is_queued
    return count


def _in_fifo(bucket: Bucket, place: tuple[Any, int]) -> Iterator[bool]:
    # Stale entries stand anywhere, with an old place.
    for row in bucket.fifo:
        if not row.ticket and (row.key, row.seq) >= place:
            return
        yield not row.ticket


def _in_heap(bucket: Bucket, place: tuple[Any, int]) -> Iterator[bool]:
    """Yield whether each heap entry before *place* is queued; skip later branches."""
    heap = bucket.heap
    todo = [0]
    while todo:
        number = todo.pop()
        if number < len(heap) and heap[number][:2] < place:
            yield heap[number][2] == heap[number][3].ticket
            todo += (2 * number + 1, 2 * number + 2)
