"""
Who starts, and where; and more of a resource for those that run.

Decisions: 0046, 0072, 0195, 0268.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from taskorch.events import AllocationChanged, PolicyViolated, TaskStarted
from taskorch.kernel import (
    _backfill,
    _breakers,
    _ends,
    _limits,
    _queue,
    _shortages,
    _units,
)
from taskorch.kernel._application import (
    ASKED,
    ASKING,
    ASKS,
    DENIED,
    agent_of,
    begin,
    tell,
)
from taskorch.kernel._deciders import PolicyFault, Ruling
from taskorch.kernel._ends import note_fault
from taskorch.kernel._history import TellAllocation, row_extra
from taskorch.kernel._rows import (
    LESS,
    AgentRow,
    Bucket,
    Candidates,
    Shortage,
    TaskRow,
    nonzero,
    without_beside,
    without_quotas,
)
from taskorch.kernel._state import KernelState
from taskorch.model import TaskState, Units

# -- which task starts next, and where: asking everybody, and acting on the answers ----


_RUNNING: Final = TaskState.RUNNING


def place(  # noqa: C901 - all who are asked, in order
    kernel: KernelState, bucket: Bucket, row: TaskRow, now: int
) -> None:
    """
    Ask everybody about *row*, the first of *bucket*, and act on the answers.

    It starts, or is set aside, or its bucket is parked, or it fails with the policy
    that failed: in any case the bucket's head or the bucket's place has changed.
    """
    if bucket.quota_route is not None and _start_within_quotas(
        kernel, bucket, row, bucket.quota_route, now
    ):
        return
    try:
        if bucket.agents_version != kernel.agents_version:
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
            if kernel.backfill is not None:
                _backfill.blocked(kernel, kernel.backfill, row)
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
    """Whether rules allow *row* to start; if not, it is on hold from now on."""
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
    if kernel.backfill is not None:
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
    Start *row* on one of the agents with *room*, or park its bucket.

    *shorts* is what pools have too little of, by what it would wait for on some agents.
    Others may have room, to which it prefers to wait: the bucket waits at the rest.
    """
    open_to_it = room
    if kernel.backfill is not None:
        open_to_it = room.without(
            [
                agent
                for agent in room
                if _shortages.of_reservation(kernel, row, agent, now) is not None
            ]
        )
    refusal: str | None = _backfill.BEHIND if len(room) else ""
    if len(open_to_it):
        refusal = _try(kernel, bucket, row, open_to_it, now)
    if refusal is not None:
        _park(kernel, bucket, row, room, shorts, refusal)


def _failing(
    kernel: KernelState, bucket: Bucket, row: TaskRow, room: Candidates, now: int
) -> list[AgentRow]:
    """Of the agents with *room*, those to which *row* prefers to wait for others."""
    found = _limits.worse(bucket, room) if bucket.room.failing else []
    if row.extra is not None and row.extra.failed_on:
        agents = map(kernel.agents.get, row.extra.failed_on)
        found += [
            agent
            for agent in agents
            if agent is not None
            and agent in room
            and _breakers.avoided(bucket, row, agent, now)
        ]
    return found


def _start_within_quotas(
    kernel: KernelState, bucket: Bucket, row: TaskRow, agent: AgentRow, now: int
) -> bool:
    """Start *row* on *agent* if its quotas, which alone bound it, leave room for it."""
    if bucket.route_version != kernel.agents_version or agent.running >= agent.limit:
        return False
    need, _ = bucket.charges[()]
    if _limits.pool_shortage(kernel, need) is not None:
        return False
    start(kernel, row, agent, need, now, bucket.route_reason)
    return True


def _try(
    kernel: KernelState,
    bucket: Bucket,
    row: TaskRow,
    candidates: Candidates,
    now: int,
) -> str | None:
    """Start *row* on one of *candidates*; or why none of them gets the resources."""
    deciders = kernel.deciders
    refusal = ""
    while len(candidates):
        agent, reason, keep_route = deciders.route(row, candidates, now)
        need = _limits.wanted(bucket, agent)
        asked = bucket.need or agent.request
        pooled = _shortages.in_pools(kernel, asked)
        # As `_shortages.ask`, which a rigid request need not go through.
        answer = (
            deciders.allocate(row, agent, pooled, now)
            if bucket.spec.elastic is None
            else _shortages.ask(kernel, row, agent, pooled, now)
        )
        granted, refusal, keep_alloc = answer
        if granted:
            granted, misfit = _fitting(kernel, row, agent, granted, asked)
            refusal = misfit or refusal
        if granted is not None:
            is_judged = kernel.judged and deciders.is_judged(bucket.spec.type)
            if bucket.is_plain and keep_route and keep_alloc and not is_judged:
                if not bucket.bounds:
                    bucket.route = agent
                elif not bucket.soft:
                    bucket.quota_route = agent
                bucket.route_reason = reason
                bucket.route_version = kernel.agents_version
            if granted != pooled and bucket.spec.elastic is None:
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
            start(kernel, row, agent, granted, now, reason)
            return None
        candidates = candidates.without((agent,))
    return refusal or "no reason given"


def _fitting(
    kernel: KernelState, row: TaskRow, agent: AgentRow, granted: Units, asked: Units
) -> tuple[Units | None, str]:
    """What *agent* has room for of what is *granted* of *asked*; or why it has none."""
    if not kernel.rigid and _limits.shortage(agent, granted) is not None:
        return None, _shortages.NO_ROOM
    if not kernel.has_units:
        return granted, ""
    granted = _shortages.of_units(kernel, row, agent, granted, asked)
    own = tuple([pair for pair in asked if pair[0] not in kernel.pools])
    has_units = _units.chosen(kernel, agent, (*granted, *own)) is not None
    return (granted, "") if has_units else (None, _shortages.NO_UNIT)


def start(
    kernel: KernelState,
    row: TaskRow,
    agent: AgentRow,
    alloc: Units,
    now: int,
    reason: str,
) -> None:
    """
    Begin an attempt of *row*, the head of its bucket, on *agent*.

    Raises:
        PolicyFault: A limit has failed that was told of it; nothing has begun.
    """
    for limit in row.bucket.limits:
        limit.starts(kernel, row)
    if kernel.ruling is not None:
        _tell_of_violations(kernel, row, kernel.ruling, now)
    row.bucket.pop(row)
    kernel.queued -= 1
    kernel.seq += 1
    units = _units.chosen(kernel, agent, alloc) if kernel.has_units and alloc else ()
    assert units is not None  # noqa: S101 - nothing is short
    begin(kernel, row, agent, alloc, reason, now, units)
    if kernel.tell_started:
        tell_of_start(kernel, row, now)
    kernel.starts.append(row)


def tell_of_start(kernel: KernelState, row: TaskRow, now: int) -> None:
    """The fact of a start, for those who listen."""
    assert kernel.sink is not None  # noqa: S101 - set with tell_started
    assert row.agent is not None  # noqa: S101 - it has just started
    choice = kernel.deciders.choice(row) if kernel.learns else None
    # What it may write, and what it reserves of a budget, its submission says.
    alloc = without_beside(row.alloc) if kernel.beside else row.alloc
    fact = TaskStarted(
        kernel.seq,
        now,
        row.id,
        row.attempt,
        row.agent.name,
        alloc,
        row.reason,
        choice,
        () if kernel.ruling is None else kernel.ruling.permit,
        _units.told(kernel, row.alloc) if kernel.has_units else (),
    )
    kernel.sink.append((fact, row.cargo))


def component_failed(
    kernel: KernelState, row: TaskRow, fault: PolicyFault, now: int
) -> None:
    """A policy failed over *row*, which is to start."""
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
    """
    Park *bucket*, whose head is *row*, at what is short on each of its agents.

    The agents *refused* have room: the allocator granted nothing there, and why is the
    *refusal*.
    """
    beyond = _limits.places(kernel, bucket)
    above = bool(beyond)
    places = _limits.wait_at_pools(kernel, bucket, shorts, above=above) + beyond
    at_agents = _limits.wait_at_agents(bucket, row, above=above)
    bucket.refusal = refusal
    _queue.park(kernel, bucket, row, dict.fromkeys(places), at_agents)
    if kernel.backfill is not None:
        _backfill.blocked(kernel, kernel.backfill, row)
    if bucket.agents_version < 0:
        kernel.parked_any[bucket] = None
    for need in _limits.needs_on(bucket, refused):
        whole = _limits.with_quotas(bucket, need)[0] if bucket.bounds else need
        if _limits.pool_shortage(kernel, whole) is None:
            # It would fit into the pools: only the allocator knows why it refused.
            kernel.parked_any[bucket] = None
        for name, _ in _shortages.in_pools(kernel, whole):
            kernel.pools[name].parked[bucket] = None


# -- what running attempts hold of elastic requests: it grows, and it shrinks ----------

# Both from the first checkpoint on. Who never comes to one would not give back what
# it got, or, as a program, would not even know of it.


def grow(kernel: KernelState, now: int) -> None:
    """Grant running elastic attempts what is free and no waiting task can use."""
    kernel.growing = False
    for row, learns in list(kernel.holders.items()):
        if learns and _could_use_more(kernel, row):
            _review(kernel, row, now, only_more=True)


def adjust(kernel: KernelState, row: TaskRow, attempt: int, now: int) -> None:
    """The attempt of *row* is at a checkpoint: it takes its share."""
    if row in kernel.holders and row.attempt == attempt and row.state is _RUNNING:
        kernel.holders[row] = True
        _review(kernel, row, now, only_more=False)


def _could_use_more(kernel: KernelState, row: TaskRow) -> bool:
    """Whether something is free of which *row*, which runs, holds less than it asks."""
    if row.state is not _RUNNING or (row.extra is not None and row.extra.stop):
        return False
    held = dict(row.alloc)
    for name, units in _shortages.in_pools(kernel, row.bucket.spec.resources):
        pool = kernel.pools[name]
        if held.get(name, 0) < units and pool.used < pool.total:
            return True
    return False


def _review(kernel: KernelState, row: TaskRow, now: int, *, only_more: bool) -> None:
    """Ask what *row* is to hold; if *only_more*, nothing is taken from it."""
    bucket = row.bucket
    before = without_beside(row.alloc)
    alloc = without_quotas(before) if kernel.quotas else before
    held = _shortages.in_pools(kernel, alloc)
    request = _shortages.in_pools(kernel, bucket.spec.resources)
    least = _shortages.in_pools(kernel, bucket.need)
    try:
        granted, reason, _ = kernel.deciders.allocate(
            row, agent_of(row), request, now, least, held
        )
    except PolicyFault as fault:
        # It holds what it holds.
        note_fault(kernel, row.id, fault, now)
        return
    if granted is not None:
        granted = _limits.within_quotas(kernel, bucket.spec, granted, held)
        if kernel.backfill is not None:
            agent = agent_of(row)
            given, backfill = granted, kernel.backfill
            granted = _backfill.within(kernel, backfill, row, agent, given, now, held)
    if granted is not None and kernel.has_units:
        # It has its units until it ends.
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
        # Who is at a checkpoint asks by itself.
        kernel.effects.append(TellAllocation(row, row.attempt))


def _is_of_units(kernel: KernelState, row: TaskRow, name: str) -> bool:
    return _units.group_of(kernel, agent_of(row), name) is not None


def _less(before: Units, after: Units) -> bool:
    """Whether there is less of something in *after*."""
    amounts = dict(after)
    return any(units > amounts.get(name, 0) for name, units in before)
