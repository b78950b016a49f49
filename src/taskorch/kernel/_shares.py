"""
Which owner is served next, where the queue ranks them.

A queue with a method `standing` says of each owner where it stands, by what is held for
it; the one that stands lowest is served first, and of equals the one that was served
longest ago, so that none waits for ever. Which of its tasks that is, their keys say, as
always. It is asked about an owner once something has changed for that one, and not
before a choice is to be made.

Decision: 0050.
"""

from __future__ import annotations

from functools import partial
from heapq import heappop, heapreplace
from typing import Any, Final

from taskorch.kernel import _attempts, _dispatch, _grants, _parking, _soft
from taskorch.kernel._deciders import PolicyFault
from taskorch.kernel._rows import Bucket, Entry, Share, TaskRow
from taskorch.kernel._state import KernelState
from taskorch.model import TaskState

_QUEUED: Final = TaskState.QUEUED


def dispatch(kernel: KernelState, now: int) -> None:
    """Start all that can start, one of the lowest owner at a time."""
    if kernel.returning:
        _attempts.serve_returning(kernel, now)
    heap = kernel.open
    order = partial(_place, kernel, now)
    while (heap and kernel.running < kernel.concurrency and not kernel.paused) or (
        kernel.above and _soft.turn(kernel, order)
    ):
        entry: Entry = heap[0]
        share: Share = entry[2]
        if share.entry is not entry:
            heappop(heap)
            continue
        row = _head(kernel, share)
        if row is None:
            heappop(heap)
            share.entry = None
            continue
        place = _place(kernel, now, row)
        if row.state is not _QUEUED:
            continue
        if (place, row.seq) != entry[:2]:
            entry = (place, row.seq, share)
            share.entry = entry
            heapreplace(heap, entry)
            continue
        _dispatch.place(kernel, row.bucket, row, now)
    if kernel.growing and not kernel.paused:
        _grants.grow(kernel, now)


def _place(kernel: KernelState, now: int, row: TaskRow) -> tuple[float, int, Any]:
    """Sort key of *row*, the first of its owner; a failing queue fails the task."""
    share = row.bucket.share
    assert share is not None  # noqa: S101 - owners share
    if not share.is_ranked:
        try:
            share.standing = kernel.deciders.standing(share, now)
            share.is_ranked = True
        except PolicyFault as fault:
            _dispatch.component_failed(kernel, row, fault, now)
    return share.standing, share.served, row.key


def _head(kernel: KernelState, share: Share) -> TaskRow | None:
    """The first of the tasks of *share* that may start, as in `_quick.dispatch`."""
    heap = share.open
    while heap:
        entry: Entry = heap[0]
        bucket: Bucket = entry[2]
        if bucket.entry is not entry:
            heappop(heap)
            continue
        row: TaskRow | None = bucket.head()
        if row is None:
            heappop(heap)
            bucket.entry = None
        elif row.seq == entry[1] and row.key is entry[0]:
            return row
        else:
            # The bucket has another head than when it was entered: enter it anew.
            entry = (row.key, row.seq, bucket)
            bucket.entry = entry
            heapreplace(heap, entry)
        if bucket.caller is not None:
            _parking.pass_on(kernel, bucket)
    return None
