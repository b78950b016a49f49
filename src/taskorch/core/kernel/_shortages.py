"""Reasons that keep a task from starting: one list, for starts and explanations.

A start asks each part for its first reason, and keeps answers that need no new
question: the workers with room (`_limits`), and the places where a bucket waits
(`_queue`). `explain` asks for all reasons, of all workers. So an explanation names the
same reasons for which the start waits.

Decision: start-decisions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from taskorch.core.kernel import (
    _breakers,
    _limits,
    _reservation,
    _units,
)
from taskorch.core.kernel._application import worker_of
from taskorch.core.kernel._rows import (
    LOCAL,
    Bucket,
    Room,
    Shortage,
    TaskRow,
    WorkerRow,
    of_quotas,
    without_quotas,
)
from taskorch.core.kernel._state import KernelState
from taskorch.model import TASKS, TaskState, Units

# -- questions to policies -------------------------------------------------------------

_QUEUED: Final = TaskState.QUEUED
_RUNNING: Final = TaskState.RUNNING
#: Why nothing starts with a grant of the allocator; it stands in place of its reason.
NO_UNIT: Final = "no unit has as much free as it would grant"
NO_ROOM: Final = "the worker has less free than it would grant"


def match(kernel: KernelState, bucket: Bucket, row: TaskRow, now: int) -> None:
    """
    Update the workers that match *bucket*.

    Raises:
        PolicyFault: The registry failed.
    """
    if bucket.spec.requires is None:
        bucket.matching = [kernel.workers[LOCAL]] if LOCAL in kernel.workers else []
        bucket.match_reason = "plain functions and programs run on the local worker"
        reusable = True
    else:
        workers = list(kernel.workers.values())
        names, reason, reusable = kernel.deciders.match(row, workers, now)
        bucket.matching = [kernel.workers[name] for name in names]
        bucket.match_reason = reason
    if bucket.spec.elastic is not None:
        kernel.size(bucket)
    whose = _limits.subjects(bucket.spec) if kernel.quotas else ()
    bucket.bounds = _limits.bounds_of(kernel, whose)
    bucket.charges.clear()
    bucket.soft = any(kernel.pools[name].beyond for name, _ in bucket.bounds)
    bucket.workers = [
        worker
        for worker in bucket.matching
        if not _breakers.shut_out(worker, bucket.spec.requires)
        and _limits.too_small(kernel, bucket, worker) is None
    ]
    avoid = bucket.spec.avoid
    if avoid:
        others = [worker for worker in bucket.workers if worker.name not in avoid]
        bucket.workers = others or bucket.workers
    bucket.room = Room(bucket.workers)
    needs = [bucket.need or worker.request for worker in bucket.workers]
    bucket.needs = tuple(dict.fromkeys(needs))
    bucket.route = bucket.quota_route = None
    if kernel.points is not None and kernel.points.hit("match.forget"):
        reusable = False
    bucket.workers_version = kernel.workers_version if reusable else -1
    bucket.is_plain = reusable and _is_plain(kernel, bucket)


def _is_plain(kernel: KernelState, bucket: Bucket) -> bool:
    """Return whether slots and quotas of one worker are all that limits *bucket*."""
    if kernel.watched or kernel.has_accounts or bucket.limits:
        return False
    if bucket.needs != ((),):
        return False
    return len(bucket.workers) == 1 and bucket.workers[0].is_plain


def vetoed(
    kernel: KernelState,
    row: TaskRow,
    before: TaskState | None,
    after: TaskState,
    reason: str,
    now: int,
) -> str | None:
    """Return why the user's StateMachine forbids the transition, or None."""
    watches = kernel.deciders.watches
    if watches is not None and (before, after) not in watches:
        return None
    return kernel.deciders.check(row, before, after, reason, now)


def of_units(
    kernel: KernelState, row: TaskRow, worker: WorkerRow, granted: Units, least: Units
) -> Units:
    """Return the part of an elastic grant that the named units can give *row*."""
    elastic = row.bucket.spec.elastic
    if elastic is None:
        return granted
    now = elastic[2] != "all_or_nothing"
    return _units.fitting(kernel, worker, granted, least, now=now)


def in_pools(kernel: KernelState, need: Units) -> Units:
    """Return the part of *need* that comes from pools."""
    return tuple(pair for pair in need if pair[0] in kernel.pools) if need else ()


def ask(
    kernel: KernelState, row: TaskRow, worker: WorkerRow, pooled: Units, now: int
) -> tuple[Units | None, str, bool]:
    """
    Return the allocator's grant on *worker* for *row*, which waits for *pooled*.

    Raises:
        PolicyFault: The allocator failed.
    """
    spec = row.bucket.spec
    if spec.elastic is None:
        return kernel.deciders.allocate(row, worker, pooled, now)
    request = in_pools(kernel, spec.resources)
    answer = kernel.deciders.allocate(row, worker, request, now, pooled)
    granted = answer[0]
    if granted is None:
        return answer
    allowed = _limits.within_quotas(kernel, spec, granted)
    if kernel.reserving is not None:
        reserving = kernel.reserving
        allowed = _reservation.within(kernel, reserving, row, worker, allowed, now)
    if allowed != granted and spec.elastic[2] == "all_or_nothing":
        return None, "its quota, or a reservation, leaves less than that", False
    if allowed != granted:
        return allowed, "its quota, or a reservation, leaves no more", answer[2]
    return answer


# -- shortages -------------------------------------------------------------------------


def shortages(kernel: KernelState, row: TaskRow, now: int) -> list[Shortage]:
    """
    Return all shortages that keep *row* from starting when it is its turn.

    The router is not asked: any worker with room counts. Workers are alternatives, so
    each worker without room has its own shortages; those that lack least come first.

    Raises:
        PolicyFault: A policy failed.
    """
    bucket = row.bucket
    if bucket.workers_version != kernel.workers_version:
        match(kernel, bucket, row, now)
    workers = [*bucket.workers, *_breakers.for_now(kernel, bucket)] or bucket.matching
    # This comes before the allocator is asked what it would grant if more were free.
    behind = {
        worker: short
        for worker in workers
        if (short := of_reservation(kernel, row, worker, now)) is not None
    }
    ahead = Counter(map(worker_of, returning(kernel)))
    # The attempts that wait to go on and come first may depend on the worker.
    slots = [_of_slots(kernel, worker, ahead) for worker in (*workers,) or (None,)]
    shorts = [Shortage("not_started")] if kernel.paused else []
    if len({slot.missing if slot else 0 for slot in slots}) == 1:
        shorts += [slot._replace(worker=None) for slot in slots[:1] if slot]
        slots = [None] * len(workers)
    shorts += _of_veto_so_far(kernel, row, now)
    if kernel.judged and row.state is _QUEUED:
        ruling = kernel.deciders.judge(row, now)
        shown = ruling.shown or ruling.denied
        shorts += [Shortage("rules", shown)] if ruling.denied else []
    for limit in bucket.limits:
        shorts += limit.shortages(kernel, row, now)
    if not workers:
        shorts.append(_of_nobody(bucket))
    if workers and len(behind) == len(workers):
        shorts.append(behind[workers[0]]._replace(worker=None))
        behind = {}
    ways: list[list[Shortage]] = []
    for worker, slot in zip(workers, slots, strict=True):
        way = [slot] if slot else []
        way += _on(kernel, row, worker, now, ahead[worker], behind.get(worker))
        ways.append(way)
        if not way:
            # One worker with room is enough.
            ways = []
            break
    shorts += [short for way in sorted(ways, key=len) for short in way]
    # These shortages are the same for every worker.
    shorts += [
        short
        for short in _limits.of_pools(kernel, bucket.need, None, bucket.workers)
        if kernel.rigid or (short.is_hopeless and not workers)
    ]
    return shorts + _of_shared_quotas(kernel, bucket)


def impossible(kernel: KernelState, row: TaskRow, now: int) -> list[Shortage]:
    """Return the shortages that keep *row* from ever starting, if there are any."""
    bucket = row.bucket
    shorts = [] if bucket.matching else [_of_nobody(bucket)]
    for worker in bucket.matching:
        shorts += _breakers.shut_out(worker, bucket.spec.requires)
        shorts += _of_amounts(kernel, bucket, worker)
        if not (kernel.rigid and bucket.spec.resources):
            shorts += _of_pools(kernel, bucket, worker)
    shorts += _limits.of_pools(kernel, bucket.need, None, bucket.matching)
    shorts += _of_shared_quotas(kernel, bucket)
    for limit in bucket.limits:
        shorts += limit.shortages(kernel, row, now)
    return [short for short in shorts if short.is_hopeless]


def returning(kernel: KernelState) -> list[TaskRow]:
    """Return the attempts that wait for their slot again and come first."""
    return [
        row
        for row in dict.fromkeys(kernel.returning)
        if row.extra is not None and row.extra.yielded
    ]


def of_veto(kernel: KernelState, row: TaskRow, now: int) -> Shortage | None:
    """Return the veto of the user's StateMachine against a start of *row*, or None."""
    why = vetoed(kernel, row, _QUEUED, _RUNNING, "dispatched", now)
    return None if why is None else Shortage("veto", why or "no reason given")


def of_reservation(
    kernel: KernelState, row: TaskRow, worker: WorkerRow, now: int
) -> Shortage | None:
    """Return the reservation that a start of *row* on *worker* would delay, or None."""
    need = _limits.wanted(row.bucket, worker)
    if _reservation.may_pass(kernel, row, worker, need, now):
        return None
    kept = _reservation.reservation(kernel, now)
    assert kept is not None  # noqa: S101 - that is what it may not pass
    until = kept.start_ns or 0
    return Shortage("reservation", kept.row.id, worker=worker, until_ns=until)


def _of_veto_so_far(kernel: KernelState, row: TaskRow, now: int) -> list[Shortage]:
    """Return the last veto against *row*, or the one that it would meet now."""
    if row.extra is not None and row.extra.veto:
        return [Shortage("veto", row.extra.veto)]
    short = of_veto(kernel, row, now)
    return [] if short is None else [short]


def _of_nobody(bucket: Bucket) -> Shortage:
    """Return the shortage that no worker matches."""
    needs = ", ".join(bucket.spec.requires or ())
    return Shortage("capability", needs, is_hopeless=True)


def _of_slots(
    kernel: KernelState, worker: WorkerRow | None, ahead: Counter[WorkerRow]
) -> Shortage | None:
    """Return the shortage of the orchestrator's slots for a start, or None.

    A start needs one slot, beside those of the attempts that come first.
    """
    first = 0
    for other, many in ahead.items():
        # Attempts that wait for a slot of a worker without a free one come later.
        room = many if other is worker else max(0, other.limit - other.running)
        first += min(many, room)
    free = kernel.concurrency - kernel.running
    return Shortage("slot", "", 1 + first, free, worker) if first >= free else None


def _on(
    kernel: KernelState,
    row: TaskRow,
    worker: WorkerRow,
    now: int,
    ahead: int,
    behind: Shortage | None,
) -> list[Shortage]:
    """Return the shortages of *row* on *worker*, without shared ones."""
    bucket = row.bucket
    shorts = _breakers.shut_out(worker, bucket.spec.requires)
    if _breakers.avoided(bucket, row, worker, now):
        shorts.append(Shortage("failed there", worker=worker))
    busy = _limits.of_slots(worker, ahead)
    if busy is not None:
        shorts.append(busy)
    elif kernel.config.waits_for_better:
        better = _limits.better_than(bucket, worker)
        if better is not None:
            shorts.append(Shortage("fails", better.name, worker=worker))
    if behind is not None:
        shorts.append(behind)
    amounts, pools = _of_amounts(kernel, bucket, worker), []
    if not kernel.rigid:
        pools = [s for s in amounts if s.pool is None and s.name in kernel.pools]
    shorts += [short for short in amounts if short not in pools]
    pools += _of_pools(kernel, bucket, worker)
    if not kernel.rigid:
        # The allocator may grant less than is asked, so only its answer counts.
        shorts += [short for short in pools if short.is_hopeless]
        return shorts + _refusal(kernel, row, worker, pools, now, others=bool(shorts))
    if not bucket.spec.resources:
        shorts += pools
    # A rigid allocator grants all that fits, so it is asked only if everything fits.
    if shorts or pools:
        return shorts
    return _refusal(kernel, row, worker, [], now, others=False)


def _of_amounts(
    kernel: KernelState, bucket: Bucket, worker: WorkerRow
) -> list[Shortage]:
    """Return the capacity that *worker* lacks, and quotas of its default request."""
    need = _limits.wanted(bucket, worker)
    shorts = list(_limits.of_capacity(worker, need, kernel.pools))
    if not bucket.spec.resources:
        # The number of running tasks does not depend on the worker.
        own = (pair for pair in of_quotas(need) if not pair[0].endswith(f":{TASKS}"))
        shorts += _limits.of_pools(kernel, tuple(own), worker)
    return shorts


def _of_pools(kernel: KernelState, bucket: Bucket, worker: WorkerRow) -> list[Shortage]:
    """Return the pools that have too little for a task of *bucket* on *worker*."""
    need = without_quotas(_limits.wanted(bucket, worker))
    return list(_limits.of_pools(kernel, need, worker))


def _of_shared_quotas(kernel: KernelState, bucket: Bucket) -> list[Shortage]:
    """Return the quotas that a task of *bucket* would exceed on any worker."""
    need = _limits.charged(bucket.bounds, bucket.need)
    return list(_limits.of_pools(kernel, of_quotas(need)))


def _refusal(
    kernel: KernelState,
    row: TaskRow,
    worker: WorkerRow,
    pools: Sequence[Shortage],
    now: int,
    *,
    others: bool,
) -> list[Shortage]:
    """Return why the allocator does not grant the need of *row* on *worker*, if so.

    The reasons are those of *pools* without which it would, or its own text. *others*
    says whether anything else keeps the task from running there.
    """
    bucket = row.bucket
    if bucket.route is worker:
        # The router's answer was reusable, so the allocator is not asked.
        return []
    # A pool that is too small is a shortage of its own; the rest is asked as if it were
    # large.
    small = [short for short in pools if short.is_hopeless]
    granted, refusal = _answer_with(kernel, row, worker, small, now)
    if granted is not None:
        # If the allocator has changed its mind, it is asked when something changes.
        earlier = "" if others or row is not bucket.head() else bucket.refusal
        # A refusal for the sake of the reservation is reported elsewhere.
        is_final = earlier not in ("", _reservation.BEHIND)
        if is_final and not any(place.has_room() for place in bucket.places()):
            return [Shortage("allocator", earlier, worker=worker)]
        return []
    short = [one for one in pools if not one.is_hopeless]
    if short:
        granted, refusal = _answer_with(kernel, row, worker, pools, now)
    if granted is None:
        return [Shortage("allocator", refusal, worker=worker)]
    # Only pools without which it would grant the need are named.
    for one in list(short):
        rest = [other for other in short if other is not one]
        if _answer_with(kernel, row, worker, [*small, *rest], now)[0] is not None:
            short = rest
    # A task may be granted less than it asks for, and then needs no more.
    enough = dict(granted)
    return [
        one._replace(need=min(one.need, enough.get(one.name, one.need)))
        for one in short
    ]


def _free(kernel: KernelState, short: Shortage, units: int) -> None:
    """Make *units* more free where there is too little."""
    name, worker = short.name, short.worker
    if short.pool is not None:
        kernel.pools[name].used -= units
    else:
        assert worker is not None  # noqa: S101 - what is short is a pool's or a worker's
        worker.used[name] = worker.used.get(name, 0) - units


def _answer_with(
    kernel: KernelState,
    row: TaskRow,
    worker: WorkerRow,
    freed: Iterable[Shortage],
    now: int,
) -> tuple[Units | None, str]:
    """Return what the allocator would grant, or why not, with *freed* amounts free."""
    need = in_pools(kernel, without_quotas(_limits.wanted(row.bucket, worker)))
    freed = tuple(freed)
    for short in freed:
        _free(kernel, short, short.missing)
    try:
        granted, why, _ = ask(kernel, row, worker, need, now)
    finally:
        for short in freed:
            _free(kernel, short, -short.missing)
    if granted is None:
        return None, why or "no reason given"
    on_worker = _without(granted, [short for short in freed if short.pool is None])
    if not kernel.rigid and _limits.shortage(worker, on_worker) is not None:
        return None, NO_ROOM
    units = of_units(kernel, row, worker, _without(granted, freed), need)
    if _units.chosen(kernel, worker, units) is None:
        return None, NO_UNIT
    return granted, ""


def _without(units: Units, shorts: Iterable[Shortage]) -> Units:
    """Return *units* without the resources that *shorts* say are short."""
    names = [short.name for short in shorts]
    return tuple([pair for pair in units if pair[0] not in names])
