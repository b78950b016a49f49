"""
Buckets that cannot start anything now, and how they are woken.

A bucket waits at as many places as it has agents: at each, for the first thing that
is short there. Until one of these places has room, it cannot start, and nobody looks
at it. What is released wakes the first in order only; once that one has been looked
at, it passes the wake-up on if there is still room: so the cost of a release does not
grow with the number of those who wait, and no wake-up is lost. The law, which
`check_invariants` holds: while a place has room and somebody waits there, an open
bucket that comes before them carries a wake-up of that place.

What rests on the word of a policy (an allocator that puts off what would fit, a
registry whose answer cannot be kept, a StateMachine that vetoes a start) is tried
again, all of it, whenever something has changed.

Where owners share, those of each wait at places of their own, so that a release wakes
one of each, and the standing of the owners decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from heapq import heapify, heappush
from typing import Any, Final

from taskorch.kernel._rows import (
    FEW,
    NOWHERE,
    AgentRow,
    Bucket,
    Entry,
    Place,
    Share,
    TaskRow,
)
from taskorch.kernel._state import KernelState

#: Before all that were ranked: an entry that is too early only costs a look.
#: Known by being this object, as entries are.
_FIRST: Final[Any] = (-math.inf,)


def open_bucket(kernel: KernelState, bucket: Bucket, row: TaskRow) -> None:
    """Enter *bucket*, whose head is *row*, among those that may have work."""
    known = bucket.entry
    if known is not None:
        if known[:2] <= (row.key, row.seq):
            # An entry that is too early only costs a look. It stays, since the bucket
            # may have to wake the next one of a place (`caller`), and not later.
            return
        _forget_entry(kernel, bucket.open)
    entry: Entry = (row.key, row.seq, bucket)
    bucket.entry = entry
    heappush(bucket.open, entry)
    if bucket.share is not None:
        look_again(kernel, bucket.share)


def look_again(kernel: KernelState, share: Share) -> None:
    """What *share* holds, or what it may start, has changed: rank it again."""
    share.is_ranked = False
    known = share.entry
    if not share.open or (known is not None and known[0] is _FIRST):
        return
    if known is not None:
        _forget_entry(kernel, kernel.open)
    entry: Entry = (_FIRST, share.number, share)
    share.entry = entry
    heappush(kernel.open, entry)


def _forget_entry(kernel: KernelState, heap: list[Entry]) -> None:
    """An entry of *heap* is replaced; clean up if most have been."""
    kernel.stale_entries += 1
    many = kernel.stale_entries > FEW and 2 * kernel.stale_entries > len(heap)
    if many or (kernel.points is not None and kernel.points.hit("open.rebuild")):
        heap[:] = [entry for entry in heap if entry[2].entry is entry]
        heapify(heap)
        kernel.stale_entries = 0


def park(
    kernel: KernelState,
    bucket: Bucket,
    row: TaskRow,
    places: Iterable[Place] = (),
    at_agents: Mapping[AgentRow, Place] = NOWHERE,
) -> None:
    """
    Park *bucket*, whose head is *row*, until one of *places* has room.

    So it is *at_agents*, where it is entered already.
    """
    bucket.entry = None
    bucket.parked = tuple(places)
    bucket.at_agents = at_agents
    kernel.parked[bucket] = None
    for place in bucket.parked:
        place.add(bucket, row)
    if bucket.caller is not None:
        pass_on(kernel, bucket)


def reopen(kernel: KernelState, bucket: Bucket) -> None:
    """*bucket*, which is parked, may be tried again."""
    bucket.parked = None
    bucket.refusal = ""
    del kernel.parked[bucket]
    row = bucket.head()
    if row is not None:
        open_bucket(kernel, bucket, row)


def reopen_all(kernel: KernelState, buckets: dict[Bucket, None]) -> None:
    """Reopen all parked *buckets*, and empty the mapping."""
    for bucket in list(buckets):
        if bucket.parked is not None:
            reopen(kernel, bucket)
    buckets.clear()


def among(places: dict[Any, Place], place: Place, share: Share | None) -> Place:
    """The one of *places* where those of *share* wait: *place*, if there is none."""
    key: Any = place.need if share is None else (place.need, share.number)
    return places.setdefault((key, "above") if place.above else key, place)


def wake(kernel: KernelState, place: Place) -> None:
    """*place* has room: wake the first that waits there."""
    row = place.pop()
    if row is None:
        return
    bucket = row.bucket
    bucket.caller = place
    # As in `reopen`.
    bucket.parked = None
    bucket.refusal = ""
    del kernel.parked[bucket]
    entry: Entry = (row.key, row.seq, bucket)
    bucket.entry = entry
    heappush(bucket.open, entry)
    if bucket.share is not None:
        look_again(kernel, bucket.share)


def wake_some(kernel: KernelState, places: dict[Any, Place]) -> None:
    """Wake the first bucket for each amount in *places* that is free now."""
    for need, place in list(places.items()):
        if not place.heap:
            del places[need]
        elif place.has_room():
            wake(kernel, place)


def pass_on(kernel: KernelState, bucket: Bucket) -> None:
    """*bucket*, which was woken, has been looked at: wake the next if it has room."""
    place, bucket.caller = bucket.caller, None
    if place is not None and place.heap and place.has_room():
        wake(kernel, place)


def head_came(kernel: KernelState, bucket: Bucket, row: TaskRow) -> None:
    """*row* is the new head of *bucket*, which is parked."""
    places = bucket.places()
    # A bucket that a place with room has woken may come later than this one.
    if waits_for_policy(bucket) or any(place.has_room() for place in places):
        reopen(kernel, bucket)
        return
    for place in places:
        place.add(bucket, row)
    if bucket.at_agents:
        bucket.room.since = (row.key, row.seq)
    if bucket.above is not None:
        enter_above(kernel, bucket, row)


def enter_above(kernel: KernelState, bucket: Bucket, row: TaskRow) -> None:
    """Enter *bucket*, whose head is *row*, among those above their soft quotas."""
    heap = kernel.above
    entry: Entry = (row.key, row.seq, bucket)
    bucket.above = entry
    heappush(heap, entry)
    many = len(heap) > FEW + 2 * len(kernel.buckets)
    if many or (kernel.points is not None and kernel.points.hit("above.rebuild")):
        heap[:] = [entry for entry in heap if entry[2].above is entry]
        heapify(heap)


def waits_for_policy(bucket: Bucket) -> bool:
    """Whether *bucket* was parked for its head only, by the word of a policy."""
    return bucket.agents_version < 0 or bucket.refusal != ""
