"""How many tasks come before one: by a count that has a bound."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, Final

from taskorch.kernel._rows import IN_ORDER, Bucket, TaskRow

#: Tasks that are counted one by one.
FAR: Final = 5_000


def ahead(bucket: Bucket, row: TaskRow, most: int | None = FAR) -> int | None:
    """
    How many tasks of *bucket* come before *row*, a queued task of this one or another.

    Those that came in another order than they stand in are counted one by one: None if
    these are more than *most*, where there is a bound.
    """
    place = (row.key, row.seq)
    if bucket.stale:
        straight = _count(_in_fifo(bucket, place), most)
    else:
        straight = bisect_left(bucket.fifo, place, key=IN_ORDER)
    crossed = _count(_in_heap(bucket, place), most)
    return None if straight is None or crossed is None else straight + crossed


def _count(entries: Iterator[bool], most: int | None) -> int | None:
    """How many of *entries* are no stale ones; None if there are more than *most*."""
    count = 0
    for seen, is_queued in enumerate(entries, 1):
        if most is not None and seen > most:
            return None
        count += is_queued
    return count


def _in_fifo(bucket: Bucket, place: tuple[Any, int]) -> Iterator[bool]:
    # Stale ones stand anywhere, with a place that is not theirs any more.
    for row in bucket.fifo:
        if not row.ticket and (row.key, row.seq) >= place:
            return
        yield not row.ticket


def _in_heap(bucket: Bucket, place: tuple[Any, int]) -> Iterator[bool]:
    """What is not before it, nothing below is: only what counts is looked at."""
    heap = bucket.heap
    todo = [0]
    while todo:
        number = todo.pop()
        if number < len(heap) and heap[number][:2] < place:
            yield heap[number][2] == heap[number][3].ticket
            todo += (2 * number + 1, 2 * number + 2)
