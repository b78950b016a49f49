"""
The queue: tasks that wait for a turn, a resource or a time.

Decisions: followers-of-events, quotas-and-budgets, start-decisions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from heapq import heapify, heappush
from typing import Any, Final

import attrs

from taskorch.core.kernel._rows import (
    FEW,
    NOWHERE,
    UNLIMITED,
    Bucket,
    Entry,
    LockRow,
    Place,
    PoolRow,
    RetainedEvent,
    Share,
    Spec,
    StartLimit,
    TaskRow,
    Timed,
    Timer,
    WindowRow,
    WorkerRow,
    without_quotas,
)
from taskorch.core.kernel._state import (
    FEW_TIMERS,
    GRACE,
    LEASE,
    MANY,
    TIMEOUT,
    KernelState,
)
from taskorch.events import TaskReady
from taskorch.model import TERMINAL, TaskState, Units

# -- timers as data: a heap ordered by time --------------------------------------------

# An obsolete timer stays in the heap and does nothing when it is due. When most timers
# are obsolete, the heap is rebuilt.


#: Kinds of timers: a `not_before`, a delay before a retry, or the time of a wait is
#: over.
DUE: Final = 2
#: The task must have ended.
DEADLINE: Final = 3
#: The task has waited for its largest age.
EXPIRE: Final = 4
#: A kept event that no task has waited for is dropped.
RETAINED: Final = 6
#: A token that a bucket waits for is free again.
TOKEN: Final = 7
#: The open time of a breaker of a worker is over.
BREAKER: Final = 9
#: People are to be reminded of an open question.
REMIND: Final = 8


def arm(
    kernel: KernelState, when: int, kind: int, row: Timed, attempt: int = 0
) -> None:
    """Set a timer of *kind* for *when*; `TIMEOUT` and `GRACE` are for an *attempt*."""
    if len(kernel.timers) > kernel.most_timers or (
        kernel.points is not None and kernel.points.hit("timers.rebuild")
    ):
        kernel.timers = [timer for timer in kernel.timers if is_alive(timer)]
        heapify(kernel.timers)
        kernel.most_timers = FEW_TIMERS + 2 * len(kernel.timers)
    kernel.timer_no += 1
    heappush(kernel.timers, (when, kernel.timer_no, kind, row, attempt))


def is_alive(timer: Timer) -> bool:
    """Return whether *timer* still has an effect."""
    when, _, kind, row, attempt = timer
    if isinstance(row, WorkerRow):
        breakers = row.breakers.values() if kind == BREAKER else ()
        return (kind == LEASE and row.lease_due_ns == when and not row.lost) or any(
            one.state == "open" and one.until_ns == when for one in breakers
        )
    if isinstance(row, (RetainedEvent, WindowRow)):
        return row.until_ns == when
    if kind == EXPIRE:
        return row.attempt == 0 and row.state not in TERMINAL
    extra = row.extra
    if extra is None:
        # The task has completed and dropped its extra fields.
        return False
    if kind in (TIMEOUT, GRACE):
        if row.attempt != attempt or row.state is not TaskState.RUNNING:
            return False
        return extra.timer == when if kind == TIMEOUT else extra.stop != ""
    if kind in (DUE, REMIND):
        # The end of a delay sets `due_ns` to 0; a postponement sets another time.
        return when == (extra.due_ns if kind == DUE else _next_reminder(row))
    # A function that has returned met the deadline, however long its value takes.
    is_over = row.state in TERMINAL or (
        row.state is TaskState.RUNNING and extra.returned_ns
    )
    return not is_over and extra.deadline_ns == when


def _next_reminder(row: TaskRow) -> int:
    """Return the time of the next reminder of the question *row*, or 0."""
    terms = None if row.links is None else row.links.terms
    return terms.remind_at_ns if terms is not None and terms.awaits else 0


# -- buckets that cannot start anything now, and their wake-up -------------------------

# A bucket waits at one place for each of its workers: at each, for the first resource
# that is short there. Until one of these places has room, it cannot start, and nobody
# looks at it. A release wakes only the first in order. Once that one has been looked
# at, it passes the wake-up on if there is still room. So the cost of a release does not
# grow with the number of waiting buckets, and no wake-up is lost. The invariant, which
# `check_invariants` tests: while a place has room and a bucket waits there, an open
# bucket that comes before it carries a wake-up of that place.
#
# Answers of a policy (an allocator that puts off a task that would fit, a registry
# whose answer cannot be kept, a StateMachine that vetoes a start) are asked for again,
# all of them, whenever something has changed.
#
# If tenants share, the buckets of each wait at places of their own, so a release wakes
# one bucket of each tenant, and the standing of the tenants decides.


#: An entry before all ranked ones: an entry that is too early only costs a look. It is
#: recognised by identity, as entries are.
_FIRST: Final[Any] = (-math.inf,)


def open_bucket(kernel: KernelState, bucket: Bucket, row: TaskRow) -> None:
    """Enter *bucket*, whose head is *row*, among those that may have work."""
    known = bucket.entry
    if known is not None:
        if known[:2] <= (row.key, row.seq):
            # An entry that is too early only costs a look. It stays, since the bucket
            # may have to wake the next one of a place (`caller`) without delay.
            return
        _forget_entry(kernel, bucket.open)
    entry: Entry = (row.key, row.seq, bucket)
    bucket.entry = entry
    heappush(bucket.open, entry)
    if bucket.share is not None:
        look_again(kernel, bucket.share)


def look_again(kernel: KernelState, share: Share) -> None:
    """Rank *share* again, since its holdings or its queue has changed."""
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
    """Count an entry of *heap* as replaced; clean up if most have been."""
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
    at_workers: Mapping[WorkerRow, Place] = NOWHERE,
) -> None:
    """Park *bucket*, whose head is *row*, until one of *places* has room.

    It also waits at the places *at_workers*, where it is entered already.
    """
    bucket.entry = None
    bucket.parked = tuple(places)
    bucket.at_workers = at_workers
    kernel.parked[bucket] = None
    for place in bucket.parked:
        place.add(bucket, row)
    if bucket.caller is not None:
        pass_on(kernel, bucket)


def wait_at(
    kernel: KernelState, bucket: Bucket, row: TaskRow, pool: PoolRow, need: int
) -> None:
    """Park *bucket*, whose head is *row*, until *pool* has *need*, which it lacks."""
    park(kernel, bucket, row, (place_at(bucket, pool, need),))
    if bucket.workers_version < 0:
        kernel.parked_any[bucket] = None
    turn_away(kernel, bucket, row)


def turn_away(kernel: KernelState, bucket: Bucket, row: TaskRow) -> None:
    """Tell the limits of *bucket* that *row* does not wait for them any more."""
    for limit in bucket.limits:
        limit.turns_away(kernel, row)


def reopen(kernel: KernelState, bucket: Bucket) -> None:
    """Let the parked *bucket* be tried again."""
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
    """Return the one of *places* where *share* waits, or *place*, which is added."""
    key: Any = place.need if share is None else (place.need, share.number)
    return places.setdefault((key, "above") if place.above else key, place)


def wake(kernel: KernelState, place: Place) -> None:
    """Wake the first that waits at *place*, which has room."""
    row = _pop_free(place) if isinstance(place.pool, LockRow) else place.pop()
    if row is None:
        return
    bucket = row.bucket
    bucket.caller = place
    # This is the body of `reopen`.
    bucket.parked = None
    bucket.refusal = ""
    del kernel.parked[bucket]
    entry: Entry = (row.key, row.seq, bucket)
    bucket.entry = entry
    heappush(bucket.open, entry)
    if bucket.share is not None:
        look_again(kernel, bucket.share)


def _pop_free(place: Place) -> TaskRow | None:
    """Remove and return the first that waits at *place*, a lock, and for no other lock.

    Those before it go to the other lock and wait there: many tasks wait for several
    locks, and looking at each of them anew would cost more than all else.
    """
    while (row := place.pop()) is not None:
        bucket = row.bucket
        short = short_lock(bucket.locks or ())
        if short is None:
            return row
        other = place_at(bucket, *short)
        places = bucket.parked or ()
        bucket.parked = tuple([other if p is place else p for p in places])
        other.add(bucket, row)
    return None


def short_lock(locks: tuple[LockRow, ...]) -> tuple[LockRow, int] | None:
    """Return the first lock or folder above that is taken, with the amount needed."""
    for lock in locks:
        if lock.used:
            return lock, UNLIMITED
    for lock in locks:
        for folder in lock.above:
            if folder.used >= UNLIMITED:
                return folder, 1
    return None


def place_at(bucket: Bucket, pool: PoolRow, need: int) -> Place:
    """Return the place where *bucket* waits until *pool* has *need* free."""
    key: Any = need if bucket.share is None else (need, bucket.share.number)
    place = pool.short.get(key)
    if place is None:
        place = pool.short[key] = Place(pool=pool, name=pool.name, need=need)
    return place


def wake_some(kernel: KernelState, places: dict[Any, Place]) -> None:
    """Wake the first bucket for each amount in *places* that is free now."""
    for need, place in list(places.items()):
        if not place.heap:
            del places[need]
        elif place.has_room():
            wake(kernel, place)


def pass_on(kernel: KernelState, bucket: Bucket) -> None:
    """Wake the next waiting bucket if there is room, after *bucket* was looked at."""
    place, bucket.caller = bucket.caller, None
    if place is not None and place.heap and place.has_room():
        wake(kernel, place)


def head_came(kernel: KernelState, bucket: Bucket, row: TaskRow) -> None:
    """Note that *row* is the new head of the parked *bucket*."""
    places = bucket.places()
    # A bucket that was woken at a place with room may come later than this one.
    if waits_for_policy(bucket) or any(place.has_room() for place in places):
        reopen(kernel, bucket)
        return
    for place in places:
        place.add(bucket, row)
    if bucket.at_workers:
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
    """Return whether a policy, and no lack of room, made *bucket* wait."""
    return bucket.workers_version < 0 or bucket.refusal != ""


# -- the queue: tasks come into their buckets and leave them ---------------------------

# A task that a policy put off is asked about again when something changes.


_QUEUED: Final = TaskState.QUEUED


def bucket_of(kernel: KernelState, spec: Spec) -> Bucket:
    """Return the bucket of like tasks."""
    if kernel.points is not None and kernel.points.hit("buckets.forget"):
        _forget_idle(kernel)
    found = kernel.buckets.get(spec)
    if found is None:
        if len(kernel.buckets) > kernel.most_buckets:
            _forget_idle(kernel)
            kernel.most_buckets = MANY + 2 * len(kernel.buckets)
        kernel.bucket_no += 1
        type_row = kernel.type_row(spec.type)
        found = kernel.buckets[spec] = Bucket(spec, type_row, kernel.bucket_no)
        if spec.elastic is not None:
            kernel.elastic[found] = None
        found.open = kernel.open
        found.limits = _limits_of(kernel, found)
        if kernel.shares is not None:
            found.share = kernel.shares.of(spec.owner)
            found.share.buckets[found] = None
            found.open = found.share.open
    return found


def add_limit(kernel: KernelState, limit: StartLimit) -> None:
    """Ask *limit* as well from now on, before the existing ones.

    All waiting tasks are looked at again. Limits that are asked once a worker has room
    stand first in explanations, since they pass by themselves.
    """
    limits = sorted((limit, *kernel.limits), key=lambda each: not each.waits_for_room)
    kernel.limits = tuple(limits)
    look_whom(kernel, limit)
    # The direct routes of buckets were chosen without this limit.
    kernel.workers_version += 1
    unpark_all(kernel)


def look_whom(kernel: KernelState, limit: StartLimit) -> None:
    """Find the buckets that *limit*, which is new or has changed, concerns."""
    for bucket in kernel.buckets.values():
        others = [each for each in bucket.limits if each is not limit]
        those = [*others, limit] if limit.concerns(bucket) else others
        bucket.limits = tuple([each for each in kernel.limits if each in those])


def _limits_of(kernel: KernelState, bucket: Bucket) -> tuple[StartLimit, ...]:
    return tuple([limit for limit in kernel.limits if limit.concerns(bucket)])


def bucket_for(kernel: KernelState, run: str, bucket: Bucket) -> Bucket:
    """Return *bucket*, or that of like tasks of *run*, if the run has a quota."""
    workflow = run if run in kernel.workflows else None
    if workflow == bucket.spec.workflow:
        return bucket
    return bucket_of(kernel, attrs.evolve(bucket.spec, workflow=workflow))


def _forget_idle(kernel: KernelState) -> None:
    for spec, bucket in list(kernel.buckets.items()):
        if not bucket.size and bucket.parked is None and bucket.entry is None:
            del kernel.buckets[spec]
            kernel.elastic.pop(bucket, None)
            bucket.forgotten = True
            # A caller that still has this bucket must not take the quick path.
            bucket.checked = -1
            if bucket.share is not None:
                del bucket.share.buckets[bucket]
    if kernel.shares is not None:
        kernel.shares.forget_idle(MANY)


def hold(
    kernel: KernelState, share: Share, units: Units, slots: int, sign: int = 1
) -> None:
    """Charge *share* with units and slots, or discharge it (*sign* -1)."""
    share.running += sign * slots
    held = share.held
    for name, many in without_quotas(units):
        held[name] = held.get(name, 0) + sign * many
    look_again(kernel, share)


def tell_of_ready(kernel: KernelState, row: TaskRow) -> None:
    """Announce to listeners that *row* is about to be queued.

    The event has the number of the latest event, from which it follows, so that numbers
    do not depend on the listeners.
    """
    assert kernel.sink is not None  # noqa: S101 - set with tell_ready
    kernel.sink.append((TaskReady(kernel.seq, row.ready_ns, row.id), row.cargo))


def enqueue(kernel: KernelState, row: TaskRow, *, again: bool = False) -> None:
    """Put *row*, which is QUEUED, into its bucket; *again*, if it was queued before."""
    if kernel.tell_ready and not again:
        tell_of_ready(kernel, row)
    kernel.queued += 1
    bucket = row.bucket
    if bucket.forgotten:
        bucket = row.bucket = bucket_of(kernel, bucket.spec)
    first = bucket.push(row)
    if bucket.parked is not None:
        if first:
            head_came(kernel, bucket, row)
    elif first or bucket.entry is None:
        open_bucket(kernel, bucket, row)
    if bucket.share is not None:
        look_again(kernel, bucket.share)


def dequeue(kernel: KernelState, row: TaskRow) -> None:
    """Remove *row* from its bucket, though it is not the head."""
    kernel.queued -= 1
    if kernel.holders:
        # The removed task may have contended with running elastic attempts.
        kernel.growing = True
    if kernel.reserving is not None:
        # The removed task may have kept others from passing.
        ask_again(kernel)
    bucket = row.bucket
    if bucket.limits:
        turn_away(kernel, bucket, row)
    bucket.leave(row)
    if kernel.points is not None and kernel.points.hit("bucket.compact"):
        bucket.compact()
    if bucket.parked is not None and (not bucket.size or waits_for_policy(bucket)):
        reopen(kernel, bucket)


def remove(kernel: KernelState, row: TaskRow) -> None:
    """Remove a QUEUED task from the queue, wherever it stands."""
    if row in kernel.vetoed:
        del kernel.vetoed[row]
        unveto(kernel, row)
    else:
        dequeue(kernel, row)


def requeue(kernel: KernelState, row: TaskRow, now: int, detail: str = "") -> None:
    """Put a task that has left the queue into it again, at its old place."""
    row.ready_ns = now
    kernel.move(row, _QUEUED, now, detail)
    row.ticket += 1
    enqueue(kernel, row)


def ask_again(kernel: KernelState) -> None:
    """Have the policies that deferred or vetoed a start asked again."""
    if kernel.parked_any:
        reopen_all(kernel, kernel.parked_any)
    if not kernel.vetoed:
        return
    vetoed, kernel.vetoed = kernel.vetoed, {}
    for row in vetoed:
        unveto(kernel, row)
        enqueue(kernel, row, again=True)


def unveto(kernel: KernelState, row: TaskRow) -> None:
    """Lift the veto from *row*, which is in no queue then."""
    assert row.extra is not None  # noqa: S101 - the veto stands there
    row.extra.veto = ""
    kernel.queued -= 1


def unpark_all(kernel: KernelState) -> None:
    """Try all buckets again, since a worker has joined or was lost."""
    for bucket in list(kernel.parked):
        reopen(kernel, bucket)
    kernel.growing = bool(kernel.holders)
    if kernel.shares is not None:
        for share in kernel.shares.by_tenant.values():
            look_again(kernel, share)
    ask_again(kernel)
