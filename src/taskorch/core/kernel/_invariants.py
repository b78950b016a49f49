"""Invariants after every command, checked by counting everything again.

The cost is linear in the number of tasks: the checks are for tests, simulation and
doubtful cases. The comment on each checked field of the state names its function here.
"""

from __future__ import annotations

from collections import Counter

from taskorch.core.kernel._dependencies import (
    awaits,
    is_broken,
    is_forgiven,
    is_lost,
    is_waiting,
)
from taskorch.core.kernel._limits import short_on
from taskorch.core.kernel._rows import (
    BLOCKED_BY,
    SCOPE,
    UNIT,
    UNLIMITED,
    WHOLE,
    Bucket,
    Links,
    LockRow,
    Place,
    PoolRow,
    TaskRow,
    UnitGroup,
    UnitRow,
    WorkerRow,
)
from taskorch.core.kernel._scopes import Scopes
from taskorch.core.kernel._state import KernelState
from taskorch.errors import InternalError
from taskorch.model import (
    TERMINAL,
    TaskState,
    is_for_people,
)
from taskorch.model.scopes import above_of, lock_of, scopes_overlap


def check_invariants(kernel: KernelState) -> None:
    """
    Check all invariants by a recount of everything.

    Raises:
        InternalError: An invariant does not hold; the message names all violations.
    """
    faults: list[str] = []
    check_counters(kernel, faults)
    check_waits(kernel, faults)
    check_asked(kernel, faults)
    check_runs(kernel, faults)
    check_books(kernel, faults)
    check_holders(kernel, faults)
    check_attempts(kernel, faults)
    check_limits(kernel, faults)
    if kernel.shares is not None:
        check_shares(kernel, faults)
    check_leases(kernel, faults)
    check_queues(kernel, faults)
    check_kept(kernel, faults)
    check_scopes(kernel, faults)
    check_budgets(kernel, faults)
    check_units(kernel, faults)
    for row in kernel.tasks.values():
        check_alloc(row, faults)
        if row.links is not None and row.state not in TERMINAL:
            check_links(row, row.links, faults)
    if faults:
        raise InternalError("; ".join(faults))


def check_counters(kernel: KernelState, faults: list[str]) -> None:
    states = Counter(row.state for row in kernel.tasks.values())
    states.update(state for _, state in kernel.evicted.items())
    for state in TaskState:
        # `running` counts slots.
        name = "active" if state is TaskState.RUNNING else state.value
        count = getattr(kernel, name)
        if states[state] != count:
            faults.append(f"{states[state]} tasks are {state}, not {count}")
    delayed = sum(_is_delayed(row) for row in kernel.tasks.values())
    if delayed != kernel.delayed:
        faults.append(f"{delayed} tasks are delayed, not {kernel.delayed}")
    ended = [row for row in kernel.finished if row.state not in TERMINAL]
    if ended or len(kernel.finished) > len(kernel.tasks):
        faults.append(f"not all that is finished has ended: {ended}")


def check_waits(kernel: KernelState, faults: list[str]) -> None:
    """Check that `awaited` lists exactly the tasks that wait for each event."""
    awaited = [row for rows in kernel.awaited.values() for row in rows]
    if not all(awaits(row) and row.state not in TERMINAL for row in awaited):
        faults.append(f"not all of {awaited} wait for an event")
    for row in kernel.tasks.values():
        terms = None if row.links is None else row.links.terms
        if terms is None or not terms.awaits or terms.wait is None:
            continue
        name = terms.wait[0]
        if name is not None and row not in kernel.awaited.get(name, ()):
            faults.append(f"{row.id} waits for {name}, and would not hear of it")
    if kernel.undecided and not kernel.deciding:
        faults.append(f"nothing was decided about {[*kernel.undecided]}")
    for name, event in kernel.retained.items():
        if event.id != name or not event.until_ns:
            faults.append(f"{name} is kept, and is {event.id} until {event.until_ns}")


def check_asked(kernel: KernelState, faults: list[str]) -> None:
    """Check that open questions are exactly the waits for answers and failures."""
    asked = [row.id for row in kernel.tasks.values() if _is_asked(row)]
    if sorted(asked) != sorted(row.id for row in kernel.asked):
        faults.append(f"people are asked about {asked}, not {[*kernel.asked]}")
    denied = [row.id for row in kernel.tasks.values() if _is_denied(row)]
    if sorted(denied) != sorted(row.id for row in kernel.denied):
        faults.append(f"rules deny {denied}, not {[*kernel.denied]}")
    for row in kernel.tasks.values():
        extra = row.extra
        if row.state is not TaskState.BLOCKED or extra is None or awaits(row):
            continue
        if extra.decision and extra.error and extra.error[2] not in BLOCKED_BY:
            faults.append(f"nobody hears why {row.id} is blocked: {extra.error[2]}")


def _is_denied(row: TaskRow) -> bool:
    extra = row.extra
    if extra is None or extra.error is None:
        return False
    return extra.decision and extra.error[2] == "policy"


def _is_asked(row: TaskRow) -> bool:
    terms = None if row.links is None else row.links.terms
    if terms is not None and terms.awaits and terms.wait is not None:
        return is_for_people(terms.wait[0] or "")
    extra = row.extra
    if row.state is not TaskState.BLOCKED or extra is None or extra.error is None:
        return False
    return extra.decision and extra.error[2] == "asked"


def _is_delayed(row: TaskRow) -> bool:
    # The condition is written again here: a call would hide a fault of the kernel's
    # function.
    if row.extra is None or not row.extra.due_ns:
        return False
    return (
        row.state is TaskState.RETRYING
        or (row.state is TaskState.PENDING and not is_waiting(row))
        or (row.state is TaskState.BLOCKED and awaits(row))
    )


def _holding(kernel: KernelState) -> list[tuple[WorkerRow, TaskRow]]:
    """Return the tasks whose current attempt holds something: running, or held."""
    return [
        (row.worker, row)
        for row in kernel.tasks.values()
        if row.worker is not None
        and (
            (row.state is TaskState.RUNNING and not _has_returned(row))
            or (row.state is TaskState.SUSPENDED and row.extra and row.extra.held)
        )
    ]


def _has_returned(row: TaskRow) -> bool:
    return row.extra is not None and row.extra.returned_ns > 0


def check_runs(kernel: KernelState, faults: list[str]) -> None:
    """Check that each task of a run is listed in that run, once, and no other is."""
    of_runs = {name: run for run, ids in kernel.runs.items() for name in ids}
    if len(of_runs) != sum(map(len, kernel.runs.values())):
        faults.append("a task stands in its run twice, or in two")
    faults.extend(
        f"{row.id} is of the run {row.run!r}, and stands in {of_runs.get(row.id)!r}"
        for row in kernel.tasks.values()
        if row.run != of_runs.get(row.id, "")
    )


def check_books(kernel: KernelState, faults: list[str]) -> None:
    slots: Counter[str] = Counter()
    pools: Counter[str] = Counter()
    used: Counter[tuple[str, str]] = Counter()
    held = [
        (worker, row.alloc, 0 if row.extra is not None and row.extra.yielded else 1)
        for worker, row in _holding(kernel)
    ]
    held += [(leak.worker, leak.alloc, leak.slots) for leak in kernel.leaked.values()]
    held += [(kernel.by_hand, row.alloc, 0) for row in kernel.allocations.values()]
    for worker, alloc, taken in held:
        slots[worker.name] += taken
        for name, units in alloc:
            pools[name] += units
            used[worker.name, name] += units
    if sum(slots.values()) != kernel.running:
        faults.append(f"{sum(slots.values())} slots are taken, not {kernel.running}")
    # A hold does not bound attempts that ran before it.
    most = kernel.room if kernel.holds else kernel.concurrency
    if kernel.running > most:
        faults.append(f"{kernel.running} run, and {most} may")
    for worker in (*kernel.workers.values(), kernel.by_hand):
        check_worker(worker, slots[worker.name], used, faults)
    for name, pool in kernel.pools.items():
        if pool.used != pools[name]:
            faults.append(f"of {name}, {pools[name]} is held, not {pool.used}")
        if pool.used > pool.total + pool.owed:
            faults.append(f"{name} is over-committed: {pool.used} of {pool.total}")


def check_holders(kernel: KernelState, faults: list[str]) -> None:
    """Check that the lists of holders name exactly the tasks that hold something."""
    rows = {row: None for _, row in _holding(kernel)}
    reserving = kernel.reserving
    if reserving is not None and reserving.under_way.keys() != rows.keys():
        faults.append(f"under way are {[*rows]}, not {[*reserving.under_way]}")
    elastic = [row for row in rows if row.bucket.spec.elastic is not None and row.alloc]
    if {*elastic} - {*kernel.holders} or {*kernel.holders} - {*rows}:
        faults.append(f"{elastic} hold what is elastic, not {[*kernel.holders]}")
    leaks = Counter(leak.worker for leak in kernel.leaked.values())
    faults.extend(
        f"{leaks[worker]} attempts have leaked on {worker.name}, not {worker.leaked}"
        for worker in kernel.workers.values()
        if leaks[worker] != worker.leaked
    )


def check_attempts(kernel: KernelState, faults: list[str]) -> None:
    """Check that an attempt under way has its history in its past: see `_quick`."""
    for _, row in _holding(kernel):
        extra = row.extra
        if extra is None or row.state is not TaskState.RUNNING:
            continue
        if extra.past is None and (extra.charged or extra.crashes or extra.decision):
            faults.append(f"the past of {row.id} is not known")
        if extra.past is None and extra.due_ns:
            faults.append(f"{row.id} runs, and is due at {extra.due_ns}")
        if extra.suspending and not (extra.stop or extra.past):
            faults.append(f"{row.id} is to be suspended, and is not to stop")


def check_scopes(kernel: KernelState, faults: list[str]) -> None:
    """Check that no two holders may write the same, and that the turn waits."""
    writers = [(row.id, row.bucket) for _, row in _holding(kernel)]
    writers += [(leak.row.id, leak.row.bucket) for leak in kernel.leaked.values()]
    writers = [(name, bucket) for name, bucket in writers if bucket.spec.writes]
    faults.extend(
        f"{one} and {other} may write the same, and both run"
        for place, (one, mine) in enumerate(writers)
        for other, its in writers[:place]
        if scopes_overlap(mine.spec.writes, its.spec.writes)
    )
    used: Counter[str] = Counter()
    for _, bucket in writers:
        locks = [*map(lock_of, bucket.spec.writes)]
        above = [up for path in locks for up in above_of(path)]
        used.update(dict.fromkeys((f"{SCOPE}{path}" for path in locks), UNLIMITED))
        used.update([f"{SCOPE}{path}" for path in above])
    locks_known = [
        row.name for row in kernel.beside.values() if isinstance(row, LockRow)
    ]
    for name in dict.fromkeys([*used, *locks_known]):
        scope = kernel.beside.get(name)
        if used[name] != (scope.used if scope is not None else 0):
            faults.append(f"{used[name]} of {name} is held, and not known as such")
    lasting = {
        (row.id, row.attempt): row.bucket
        for _, row in _holding(kernel)
        if row.state is TaskState.SUSPENDED or (row.extra and row.extra.yielded)
    } | {key: leak.row.bucket for key, leak in kernel.leaked.items()}
    keeping = {key for key, bucket in lasting.items() if bucket.spec.writes}
    [scopes] = [limit for limit in kernel.limits if isinstance(limit, Scopes)]
    if keeping != {*scopes.writers}:
        faults.append(f"{keeping} keep what they may write, not {[*scopes.writers]}")
    first = scopes.first
    if first is not None and first.state is not TaskState.QUEUED:
        faults.append(f"it is the turn of {first.id}, which is {first.state}")
    if (scopes.turn.used, scopes.passing.used) != (first is not None,) * 2:
        faults.append("a turn is somebody's, and others would not wait for it")


def check_budgets(kernel: KernelState, faults: list[str]) -> None:
    """Check that the used part of a budget is the sum of spent and reserved amounts."""
    allocs = [row.alloc for _, row in _holding(kernel)]
    allocs += [leak.alloc for leak in kernel.leaked.values()]
    held = Counter[str]()
    for alloc in allocs:
        held.update(dict(alloc))
    for name, budget in kernel.budgets.items():
        for what, pool in budget.pools.items():
            taken = budget.spent[what] + held[pool.name]
            if pool.used != taken:
                faults.append(f"of {what} of {name}, {taken} is taken, not {pool.used}")


def check_units(kernel: KernelState, faults: list[str]) -> None:
    """Check that no unit is overused, and that its holders hold its pool too."""
    held = Counter[str]()
    allocs = [row.alloc for _, row in _holding(kernel)]
    allocs += [leak.alloc for leak in kernel.leaked.values()]
    allocs += [row.alloc for row in kernel.allocations.values()]
    for alloc in allocs:
        amounts = Counter[str]()
        for name, units in alloc:
            if name.startswith(UNIT):
                held[name] += units
                unit = kernel.beside.get(name)
                amounts[unit.resource if isinstance(unit, UnitRow) else "?"] += units
        if not amounts.items() <= dict(alloc).items():
            faults.append(f"of units, {dict(amounts)} is held, and of all, {alloc}")
    rows = [row for row in kernel.beside.values() if isinstance(row, UnitRow)]
    for row in rows:
        group = row.group
        is_there = group is not None and group.units.get(row.unit) is row
        if row.used != held[row.name] or not 0 <= row.used <= WHOLE:
            faults.append(f"of {row.name}, {held[row.name]} is held, not {row.used}")
        if row.total != WHOLE * is_there or not (row.total or row.used):
            faults.append(f"{row.name} has a total of {row.total}: there, {is_there}")
    for group, total in _groups_of(kernel):
        whole = WHOLE * len(group.units)
        gone = [row.used for row in rows if row.group is group and not row.total]
        if total != whole + sum(gone):
            faults.append(f"{group.resource}: {total}, and {whole} + {gone} are there")


def _groups_of(kernel: KernelState) -> list[tuple[UnitGroup, int]]:
    """Return the groups of named units of pools and workers, with their totals."""
    groups = [
        (pool.units, pool.total)
        for pool in kernel.pools.values()
        if pool.units is not None
    ]
    return groups + [
        (group, worker.capacity[group.resource])
        for worker in kernel.workers.values()
        for group in worker.units.values()
    ]


def check_kept(kernel: KernelState, faults: list[str]) -> None:
    """Check that each known extension has documents and none of them is empty."""
    for name, documents in kernel.kept.items():
        if not documents or not all(documents.values()):
            faults.append(f"of {name} there are empty documents: {[*documents]}")


def check_limits(kernel: KernelState, faults: list[str]) -> None:
    for limit in kernel.limits:
        limit.check(faults)


def check_shares(kernel: KernelState, faults: list[str]) -> None:
    """Check that each tenant's share is the sum of its attempts and allocations."""
    slots: Counter[str | None] = Counter()
    held: Counter[tuple[str | None, str]] = Counter()
    for _, row in _holding(kernel):
        extra = row.extra
        assert extra is not None  # noqa: S101 - its share stands there
        tenant = None if extra.share is None else extra.share.owner
        slots[tenant] += not extra.yielded
        held.update({(tenant, name): units for name, units in row.alloc})
    for leak in kernel.leaked.values():
        tenant = None if leak.share is None else leak.share.owner
        slots[tenant] += leak.slots
        held.update({(tenant, name): units for name, units in leak.alloc})
    for taken in kernel.allocations.values():
        held.update({(taken.owner, name): units for name, units in taken.units})
    for tenant, share in (kernel.shares.by_tenant if kernel.shares else {}).items():
        if share.running != slots[tenant]:
            faults.append(f"{tenant} has {slots[tenant]} slots, not {share.running}")
        for name, units in share.held.items():
            if units != held[tenant, name]:
                faults.append(
                    f"{tenant} holds {held[tenant, name]} {name}, not {units}"
                )
        known = share.entry is not None and share.entry in kernel.open
        if any(e[2].entry is e for e in share.open) and not known:
            faults.append(f"{tenant} may have something to start, and nobody looks")


def check_leases(kernel: KernelState, faults: list[str]) -> None:
    for worker in kernel.workers.values():
        there = [row for owner, row in _holding(kernel) if owner is worker]
        if worker.lease_ns and {*there} != {*worker.seen}:
            faults.append(
                f"{worker.name} runs {there}, and is to name {[*worker.seen]}"
            )


def check_worker(
    worker: WorkerRow,
    slots: int,
    used: Counter[tuple[str, str]],
    faults: list[str],
) -> None:
    if worker.running != slots:
        faults.append(f"{worker.name} runs {slots}, not {worker.running}")
    if worker.running > worker.limit:
        faults.append(f"{worker.name} runs {worker.running} of {worker.limit}")
    notes = worker.lease_ns or worker.info.breaker or worker.seen or worker.breakers
    if worker.is_plain and notes:
        faults.append(f"{worker.name} is not plain")
    if worker.lost and slots:
        faults.append(f"{worker.name} is lost, and runs {slots}")
    for name, total in worker.capacity.items():
        entered = worker.used.get(name, 0)
        if entered != used[worker.name, name]:
            faults.append(f"{worker.name}: {name} {used[worker.name, name]}≠{entered}")
        if entered > total:
            faults.append(f"{worker.name} is over-committed: {entered} of {total}")


def check_queues(kernel: KernelState, faults: list[str]) -> None:
    found: dict[str, None] = {}
    for bucket in dict.fromkeys(row.bucket for row in kernel.tasks.values()):
        rows = bucket.rows()
        if len(rows) != bucket.size:
            faults.append(f"{bucket.spec.type}: {len(rows)} queued, not {bucket.size}")
        found.update(dict.fromkeys(row.id for row in rows))
        if rows:
            check_parking(kernel, bucket, rows[0], faults)
        check_room(kernel, bucket, faults)
    found.update(dict.fromkeys(row.id for row in kernel.vetoed))
    faults.extend(
        f"{row.id} is {row.state}, in the queue: {row.id in found}"
        for row in kernel.tasks.values()
        if (row.state is TaskState.QUEUED) != (row.id in found)
    )


def check_parking(
    kernel: KernelState, bucket: Bucket, head: TaskRow, faults: list[str]
) -> None:
    """Add to *faults* the lost wake-ups and the late places of *bucket*."""
    name = bucket.spec.type
    place = (head.key, head.seq)
    if bucket.head() is not head:
        faults.append(f"{name}: {bucket.head()} is the head, not {head}")
    if (bucket.parked is not None) != (bucket in kernel.parked):
        faults.append(f"{name}: parked, and not known as such")
    if bucket.parked is None:
        if bucket.entry is None or not any(e is bucket.entry for e in bucket.open):
            faults.append(f"{name}: queued tasks that nobody looks at")
        elif bucket.entry[:2] > place:
            faults.append(f"{name}: {head.id} is looked at too late")
        return
    if bucket.entry is not None or bucket.caller is not None:
        faults.append(f"{name}: parked and open")
    check_places(kernel, bucket, head, faults)
    # Only a soft quota keeps it waiting: it may start when nobody else can.
    places = bucket.places()
    if places and not bucket.refusal and all(map(_is_soft, places)):
        entry = bucket.above
        if entry is None or not any(e is entry for e in kernel.above):
            faults.append(f"{name}: above its soft quota, and it has no turn")
        elif entry[:2] > place:
            faults.append(f"{name}: {head.id} has its turn too late")


def check_places(
    kernel: KernelState, bucket: Bucket, head: TaskRow, faults: list[str]
) -> None:
    """Add to *faults* each place where parked *bucket* is not woken in its turn."""
    name = bucket.spec.type
    place = (head.key, head.seq)
    for where in bucket.places():
        if bucket not in where.members or where.members[bucket][:2] > place:
            faults.append(f"{name}: {head.id} is woken too late")
        awake = any(
            e is e[2].entry and e[2].caller is where and e[:2] < place
            for e in bucket.open
        ) or any(
            e is e[2].above and e[2].carried is where and e[:2] < place
            for e in kernel.above
        )
        if where.has_room() and not awake:
            faults.append(f"{name}: there is room, and nobody wakes it in its turn")


def check_room(kernel: KernelState, bucket: Bucket, faults: list[str]) -> None:
    """Add to *faults* the workers about which *bucket* has outdated notes."""
    room, name = bucket.room, bucket.spec.type
    if room.read < kernel.moved_before:
        return
    unread = kernel.moved[room.read - kernel.moved_before :]
    for worker in room.number:
        is_free = worker in room
        if worker not in unread and is_free != (
            short_on(kernel, bucket, worker) is None
        ):
            faults.append(f"{name}: has {worker.name} room? Not as it is taken to")
        if is_free == (worker in room.places or worker in room.unplaced):
            faults.append(f"{name}: {worker.name} is on both sides, or on neither")
    if room.views != [worker.view for worker in room.workers]:
        faults.append(f"{name}: a router sees other workers than those with room")


def _is_soft(place: Place) -> bool:
    return isinstance(place.pool, PoolRow) and place.pool.beyond > 0


def check_alloc(row: TaskRow, faults: list[str]) -> None:
    """Check that nothing is held before the first or after the last attempt."""
    if row.alloc and (row.state in TERMINAL or row.state is TaskState.QUEUED):
        faults.append(f"{row.id} is {row.state} and holds {row.alloc}")


def check_links(row: TaskRow, links: Links, faults: list[str]) -> None:
    """Check the counts that *row* keeps of its parents against their states."""
    terms = links.terms
    # After the join has held, the ends of the parents do not count.
    parents = [] if terms is not None and terms.joined else links.parents
    parents = [p for p in parents if not is_forgiven(p, links)]
    waiting = sum(p.state is not TaskState.COMPLETED for p in parents)
    if waiting != links.waiting:
        faults.append(f"{row.id} waits for {waiting}, not {links.waiting}")
    early = (TaskState.QUEUED, TaskState.RUNNING, TaskState.RETRYING)
    if is_waiting(row) and row.state in early:
        faults.append(f"{row.id} is {row.state} and waits for {waiting}")
    if not waiting and row.state is TaskState.PENDING and not _is_delayed(row):
        faults.append(f"{row.id} is pending and waits for nothing")
    is_held = row.extra is not None and row.extra.decision
    broken = set[str]() if is_held else {p.id for p in parents if is_broken(p)}
    known: set[str] = set() if row.extra is None else set(row.extra.blocked_by)
    if broken != known:
        faults.append(f"{row.id} is blocked by {broken}, not {known}")
    # With on_failure="run" it is not blocked, and waits until all parents have ended.
    runs = terms is not None and terms.on_failure == "run"
    goes_on = runs and len(broken) < waiting
    if row.state is TaskState.PENDING and is_lost(row) and not goes_on:
        faults.append(f"{row.id} is pending, and cannot be reached")
    if row.state is TaskState.BLOCKED and known and (runs or not is_lost(row)):
        faults.append(f"{row.id} is blocked, and may be reached")
