"""How many tasks come before one: by a count that has a bound."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final

from taskorch.kernel._rows import Bucket

if TYPE_CHECKING:
    from taskorch.kernel._rows import TaskRow

#: Tasks that are counted one by one.
FAR: Final = 5_000


def ahead(bucket: Bucket, row: TaskRow, most: int | None = FAR) -> int | None:
    """
    How many tasks of *bucket* come before *row*, a queued task of this one or another.

    Args:
        bucket: Whose tasks are counted.
        row: What they come before.
        most: Tasks that are counted one by one: those that came in another order than
            they stand in. None is all.

    Returns:
        None where more than *most* would have to be.
    """
    place = (row.key, row.seq)
    straight = _in_fifo(bucket, place, most)
    crossed = _in_heap(bucket, place, most)
    return None if straight is None or crossed is None else straight + crossed


def _in_fifo(bucket: Bucket, place: tuple[Any, int], most: int | None) -> int | None:
    fifo = bucket.fifo
    if not bucket.stale:
        return bisect_left(fifo, place, key=lambda row: (row.key, row.seq))
    # Stale ones stand anywhere, with a place that is not theirs any more.
    count = seen = 0
    for row in fifo:
        seen += 1
        if row.ticket:
            continue
        if (row.key, row.seq) >= place:
            break
        if most is not None and seen > most:
            return None
        count += 1
    return count


def _in_heap(bucket: Bucket, place: tuple[Any, int], most: int | None) -> int | None:
    """What is not before it, nothing below is: only what counts is looked at."""
    heap = bucket.heap
    if most is None:
        return sum(e[:2] < place and e[2] == e[3].ticket for e in heap)
    count = seen = 0
    todo = [0]
    while todo:
        number = todo.pop()
        if number >= len(heap) or heap[number][:2] >= place:
            continue
        seen += 1
        if seen > most:
            return None
        if heap[number][2] == heap[number][3].ticket:
            count += 1
        todo += (2 * number + 1, 2 * number + 2)
    return count
