"""
Choice of the next start and its worker, and growth of elastic attempts.

Decisions: queue-and-routing, shares-and-sizes, start-decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from taskorch.core.kernel import (
    _breakers,
    _ends,
    _limits,
    _queue,
    _reservation,
    _shortages,
    _units,
)
from taskorch.core.kernel._application import (
    ASKED,
    ASKING,
    ASKS,
    DENIED,
    begin,
    tell,
    worker_of,
)
from taskorch.core.kernel._deciders import PolicyFault, Ruling
from taskorch.core.kernel._ends import note_fault
from taskorch.core.kernel._history import TellAllocation, row_extra
from taskorch.core.kernel._rows import (
    LESS,
    Bucket,
    Candidates,
    Shortage,
    TaskRow,
    WorkerRow,
    nonzero,
    without_beside,
    without_quotas,
)
from taskorch.core.kernel._state import KernelState
from taskorch.events import AllocationChanged, PolicyViolated, TaskStarted
from taskorch.model import TaskState, Units

# -- choice of the next start and its worker: ask all policies, act on the answers -----


_RUNNING: Final = TaskState.RUNNING


def place(  # noqa: C901 - all who are asked, in order
    kernel: KernelState, bucket: Bucket, row: TaskRow, now: int
) -> None:
    """Ask all policies about *row*, the first of *bucket*, and act on the answers.

    It starts, is set aside, has its bucket parked, or fails with the policy that
    failed. In each case the bucket's head or place has changed.
    """
    if bucket.quota_route is not None and _start_within_quotas(
        kernel, bucket, row, bucket.quota_route, now
    ):
        return
    try:
        if bucket.workers_version != kernel.workers_version:
            _shortages.match(kernel, bucket, row, now)
        if bucket.soft and _limits.defer_if_over_quota(kernel, bucket, row):
            return
        for limit in bucket.limits:
            if not limit.waits_for_room and limit.must_wait(kernel, bucket, row, now):
                return
        veto = _shortages.of_veto(kernel, row, now) if kernel.watched else None
        if veto is not None:
            row_extra(row).veto = veto.name
            bucket.pop(row)
            kernel.vetoed[row] = None
            if kernel.reserving is not None:
                _reservation.blocked(kernel, kernel.reserving, row)
            return
        if kernel.judged and not _is_allowed(kernel, row, now):
            return
        shorts = _limits.short_of_pools(kernel, bucket)
        room = _limits.candidates(kernel, bucket, shorts)
        failing = _failing(kernel, bucket, row, room, now)
        if failing:
            room = room.without(failing)
        for limit in bucket.limits if len(room) else ():
            if limit.waits_for_room and limit.must_wait(kernel, bucket, row, now):
                return
        _start_or_park(kernel, bucket, row, room, shorts, now)
    except PolicyFault as fault:
        kernel.last = None
        component_failed(kernel, row, fault, now)
    kernel.ruling = None


def _is_allowed(kernel: KernelState, row: TaskRow, now: int) -> bool:
    """Return whether rules allow *row* to start; put it on hold if they do not."""
    ruling = kernel.deciders.judge(row, now)
    if not ruling.denied:
        kernel.ruling = ruling
        return True
    _tell_of_violations(kernel, row, ruling, now)
    error, shown = ("PolicyDeniedError", ruling.denied, DENIED), ruling.shown
    if ruling.asks:
        error = (ASKS, f"{ASKING}{ruling.denied}", ASKED)
        shown = f"{ASKING}{shown or ruling.denied}"
    _ends.hold(kernel, row, error, now, shown)
    _ends.decide(kernel, now)
    if kernel.reserving is not None:
        _queue.ask_again(kernel)
    return False


def _tell_of_violations(
    kernel: KernelState, row: TaskRow, ruling: Ruling, now: int
) -> None:
    if ruling.violated:
        kernel.note(PolicyViolated, now, row.id, *ruling.violated, cargo=row.cargo)


def _start_or_park(
    kernel: KernelState,
    bucket: Bucket,
    row: TaskRow,
    room: Candidates,
    shorts: Mapping[Units, Shortage],
    now: int,
) -> None:
    """
    Start *row* on one of the workers with *room*, or park its bucket.

    *shorts* has the shortage of pools for each need on some workers. It may prefer to
    wait although other workers have room; then the bucket waits at the rest.
    """
    open_to_it = room
    if kernel.reserving is not None:
        open_to_it = room.without(
            [
                worker
                for worker in room
                if _shortages.of_reservation(kernel, row, worker, now) is not None
            ]
        )
    refusal: str | None = _reservation.BEHIND if len(room) else ""
    if len(open_to_it):
        refusal = _try(kernel, bucket, row, open_to_it, now)
    if refusal is not None:
        _park(kernel, bucket, row, room, shorts, refusal)


def _failing(
    kernel: KernelState, bucket: Bucket, row: TaskRow, room: Candidates, now: int
) -> list[WorkerRow]:
    """Return the workers with *room* that *row* avoids while others may take it."""
    found = _limits.worse(bucket, room) if bucket.room.failing else []
    if row.extra is not None and row.extra.failed_on:
        workers = map(kernel.workers.get, row.extra.failed_on)
        found += [
            worker
            for worker in workers
            if worker is not None
            and worker in room
            and _breakers.avoided(bucket, row, worker, now)
        ]
    return found


def _start_within_quotas(
    kernel: KernelState, bucket: Bucket, row: TaskRow, worker: WorkerRow, now: int
) -> bool:
    """Start *row* on *worker* if its quotas, which alone bound it, leave room."""
    if bucket.route_version != kernel.workers_version or worker.running >= worker.limit:
        return False
    need, _ = bucket.charges[()]
    if _limits.pool_shortage(kernel, need) is not None:
        return False
    start(kernel, row, worker, need, now, bucket.route_reason)
    return True


def _try(
    kernel: KernelState,
    bucket: Bucket,
    row: TaskRow,
    candidates: Candidates,
    now: int,
) -> str | None:
    """Start *row* on one of *candidates*, or return why none gets the resources."""
    deciders = kernel.deciders
    refusal = ""
    while len(candidates):
        worker, reason, keep_route = deciders.route(row, candidates, now)
        need = _limits.wanted(bucket, worker)
        asked = bucket.need or worker.request
        pooled = _shortages.in_pools(kernel, asked)
        # This is `_shortages.ask` without the parts that a rigid request does not need.
        answer = (
            deciders.allocate(row, worker, pooled, now)
            if bucket.spec.elastic is None
            else _shortages.ask(kernel, row, worker, pooled, now)
        )
        granted, refusal, keep_alloc = answer
        if granted:
            granted, misfit = _fitting(kernel, row, worker, granted, asked)
            refusal = misfit or refusal
        if granted is not None:
            is_judged = kernel.judged and deciders.is_judged(bucket.spec.type)
            if bucket.is_plain and keep_route and keep_alloc and not is_judged:
                if not bucket.bounds:
                    bucket.route = worker
                elif not bucket.soft:
                    bucket.quota_route = worker
                bucket.route_reason = reason
                bucket.route_version = kernel.workers_version
            if granted != (
                pooled
                if bucket.spec.elastic is None
                else _shortages.in_pools(kernel, bucket.spec.resources)
            ):
                reason = f"{reason}{LESS}{refusal or 'no reason given'}"
            if len(pooled) < len(asked):
                own = (pair for pair in asked if pair[0] not in kernel.pools)
                granted = tuple(sorted((*granted, *own)))
            if bucket.bounds:
                granted = (
                    need
                    if granted == asked
                    else _limits.charged(bucket.bounds, granted)
                )
            start(kernel, row, worker, granted, now, reason)
            return None
        candidates = candidates.without((worker,))
    return refusal or "no reason given"


def _fitting(
    kernel: KernelState, row: TaskRow, worker: WorkerRow, granted: Units, asked: Units
) -> tuple[Units | None, str]:
    """Return the part of *granted* that *worker* has room for, or None; and why."""
    if not kernel.rigid and _limits.shortage(worker, granted) is not None:
        return None, _shortages.NO_ROOM
    if not kernel.has_units:
        return granted, ""
    part = _shortages.of_units(kernel, row, worker, granted, asked)
    own = tuple([pair for pair in asked if pair[0] not in kernel.pools])
    has_units = _units.chosen(kernel, worker, (*part, *own)) is not None
    why = "" if part == granted else "no other unit has more room"
    return (part, why) if has_units else (None, _shortages.NO_UNIT)


def start(
    kernel: KernelState,
    row: TaskRow,
    worker: WorkerRow,
    alloc: Units,
    now: int,
    reason: str,
) -> None:
    """
    Begin an attempt of *row*, the head of its bucket, on *worker*.

    Raises:
        PolicyFault: A limit that was told of the start has failed; nothing has begun.
    """
    for limit in row.bucket.limits:
        limit.starts(kernel, row)
    if kernel.ruling is not None:
        _tell_of_violations(kernel, row, kernel.ruling, now)
    row.bucket.pop(row)
    kernel.queued -= 1
    kernel.seq += 1
    units = _units.chosen(kernel, worker, alloc) if kernel.has_units and alloc else ()
    assert units is not None  # noqa: S101 - nothing is short
    begin(kernel, row, worker, alloc, reason, now, units)
    if kernel.tell_started:
        tell_of_start(kernel, row, now)
    kernel.starts.append(row)


def tell_of_start(kernel: KernelState, row: TaskRow, now: int) -> None:
    """Announce a start to the sinks of events."""
    assert kernel.sink is not None  # noqa: S101 - set with tell_started
    assert row.worker is not None  # noqa: S101 - it has just started
    choice = kernel.deciders.choice(row) if kernel.learns else None
    # The submission names the paths that it may write and its reservations of budgets.
    alloc = without_beside(row.alloc) if kernel.beside else row.alloc
    event = TaskStarted(
        kernel.seq,
        now,
        row.id,
        row.attempt,
        row.worker.name,
        alloc,
        row.reason,
        choice,
        () if kernel.ruling is None else kernel.ruling.permit,
        _units.told(kernel, row.alloc) if kernel.has_units else (),
    )
    kernel.sink.append((event, row.cargo))


def component_failed(
    kernel: KernelState, row: TaskRow, fault: PolicyFault, now: int
) -> None:
    """Fail *row*, which was about to start, since a policy raised an error."""
    _ends.fail_by(kernel, row, fault, now)
    _ends.decide(kernel, now)


def _park(
    kernel: KernelState,
    bucket: Bucket,
    row: TaskRow,
    refused: Candidates,
    shorts: Mapping[Units, Shortage],
    refusal: str,
) -> None:
    """Park *bucket*, whose head is *row*, at the shortage of each of its workers.

    The workers *refused* have room, but the allocator granted nothing there; *refusal*
    is its reason.
    """
    beyond = _limits.places(kernel, bucket)
    above = bool(beyond)
    places = _limits.wait_at_pools(kernel, bucket, shorts, above=above) + beyond
    at_workers = _limits.wait_at_workers(bucket, row, above=above)
    bucket.refusal = refusal
    _queue.park(kernel, bucket, row, dict.fromkeys(places), at_workers)
    if kernel.reserving is not None:
        _reservation.blocked(kernel, kernel.reserving, row)
    if bucket.workers_version < 0:
        kernel.parked_any[bucket] = None
    for need in _limits.needs_on(bucket, refused):
        whole = _limits.with_quotas(bucket, need)[0] if bucket.bounds else need
        if _limits.pool_shortage(kernel, whole) is None:
            # It would fit into the pools: only the allocator knows why it refused.
            kernel.parked_any[bucket] = None
        for name, _ in _shortages.in_pools(kernel, whole):
            kernel.pools[name].parked[bucket] = None


# -- elastic grants of running attempts: they grow and shrink --------------------------

# Both happen from the first checkpoint on. An attempt without checkpoints would not
# give back what it got and, if it is a program, would not even know of it.


def grow(kernel: KernelState, now: int) -> None:
    """Grant running elastic attempts free resources that no waiting task can use."""
    kernel.growing = False
    for row, learns in list(kernel.holders.items()):
        if learns and _could_use_more(kernel, row):
            _review(kernel, row, now, only_more=True)


def adjust(kernel: KernelState, row: TaskRow, attempt: int, now: int) -> None:
    """Give the attempt of *row*, which is at a checkpoint, its share."""
    if row in kernel.holders and row.attempt == attempt and row.state is _RUNNING:
        kernel.holders[row] = True
        _review(kernel, row, now, only_more=False)


def _could_use_more(kernel: KernelState, row: TaskRow) -> bool:
    """Return whether the running *row* holds less than it asks while more is free."""
    if row.state is not _RUNNING or (row.extra is not None and row.extra.stop):
        return False
    held = dict(row.alloc)
    for name, units in _shortages.in_pools(kernel, row.bucket.spec.resources):
        pool = kernel.pools[name]
        if held.get(name, 0) < units and pool.used < pool.total:
            return True
    return False


def _review(kernel: KernelState, row: TaskRow, now: int, *, only_more: bool) -> None:
    """Ask how much *row* is to hold; with *only_more*, take nothing from it."""
    bucket = row.bucket
    before = without_beside(row.alloc)
    alloc = without_quotas(before) if kernel.quotas else before
    held = _shortages.in_pools(kernel, alloc)
    request = _shortages.in_pools(kernel, bucket.spec.resources)
    least = _shortages.in_pools(kernel, bucket.need)
    try:
        granted, reason, _ = kernel.deciders.allocate(
            row, worker_of(row), request, now, least, held
        )
    except PolicyFault as fault:
        # After a fault of the allocator, it keeps what it holds.
        note_fault(kernel, row.id, fault, now)
        return
    if granted is not None:
        granted = _limits.within_quotas(kernel, bucket.spec, granted, held)
        if kernel.reserving is not None:
            worker = worker_of(row)
            given, reserving = granted, kernel.reserving
            granted = _reservation.within(
                kernel, reserving, row, worker, given, now, held
            )
    if granted is not None and kernel.has_units:
        # It keeps its named units until it ends.
        kept = dict(held)
        granted = tuple(
            [
                (name, kept.get(name, 0) if _is_of_units(kernel, row, name) else n)
                for name, n in granted
            ]
        )
        granted = nonzero(granted)
    if granted is None or granted == held or (only_more and _less(held, granted)):
        return
    own = tuple([pair for pair in alloc if pair not in held])
    after = tuple(sorted((*granted, *own)))
    if kernel.quotas:
        whose = _limits.subjects(bucket.spec)
        after = _limits.charged(_limits.bounds_of(kernel, whose), after)
    tell(kernel, AllocationChanged, row, now, row.attempt, before, after, reason)
    if only_more:
        # An attempt at a checkpoint asks by itself, so it needs no message.
        kernel.effects.append(TellAllocation(row, row.attempt))


def _is_of_units(kernel: KernelState, row: TaskRow, name: str) -> bool:
    return _units.group_of(kernel, worker_of(row), name) is not None


def _less(before: Units, after: Units) -> bool:
    """Return whether *after* has less of a resource than *before*."""
    amounts = dict(after)
    return any(units > amounts.get(name, 0) for name, units in before)
