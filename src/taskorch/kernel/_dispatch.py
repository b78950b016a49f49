"""Which task starts next, and where: asking everybody, and acting on the answers."""

from __future__ import annotations

from typing import Final

from taskorch.events import Fact, TaskStarted
from taskorch.kernel import _backfill, _books, _ends, _joins, _parking, _rates, _soft
from taskorch.kernel._application import begin
from taskorch.kernel._deciders import PolicyFault
from taskorch.kernel._history import row_extra
from taskorch.kernel._rows import (
    LOCAL,
    TOKEN,
    AgentRow,
    Bucket,
    Place,
    RateRow,
    TaskRow,
)
from taskorch.kernel._state import KernelState
from taskorch.model import TaskState, Units

_QUEUED: Final = TaskState.QUEUED
_RUNNING: Final = TaskState.RUNNING
#: How much likelier another agent must be to complete a task that waits for it.
_TIMES: Final = 4


def match(kernel: KernelState, bucket: Bucket, row: TaskRow, now: int) -> None:
    """
    Bring the agents that match *bucket* up to date.

    Raises:
        PolicyFault: The registry failed.
    """
    if bucket.spec.requires is None:
        bucket.matching = [kernel.agents[LOCAL]] if LOCAL in kernel.agents else []
        bucket.match_reason = "plain functions and programs run on the local agent"
        reusable = True
    else:
        agents = list(kernel.agents.values())
        names, reason, reusable = kernel.deciders.match(row, agents, now)
        bucket.matching = [kernel.agents[name] for name in names]
        bucket.match_reason = reason
    if bucket.spec.elastic is not None:
        kernel.size(bucket)
    whose = _books.subjects(bucket.spec) if kernel.quotas else ()
    bucket.bounds = _books.bounds_of(kernel, whose)
    bucket.charges.clear()
    bucket.soft = any(kernel.pools[name].beyond for name, _ in bucket.bounds)
    bucket.rates = _rates.rates_of(kernel, bucket.spec) if kernel.rates else ()
    bucket.agents = [
        agent
        for agent in bucket.matching
        if not agent.lost and _books.too_small(kernel, bucket, agent) is None
    ]
    bucket.route = bucket.quota_route = None
    if kernel.points is not None and kernel.points.hit("match.forget"):
        reusable = False
    bucket.agents_version = kernel.agents_version if reusable else -1


def place(kernel: KernelState, bucket: Bucket, row: TaskRow, now: int) -> None:
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
            match(kernel, bucket, row, now)
        if bucket.soft and _soft.defer_if_over_quota(kernel, bucket, row):
            return
        veto = None
        if kernel.watched:
            veto = vetoed(kernel, row, _QUEUED, _RUNNING, "dispatched", now)
        if veto is not None:
            row_extra(row).veto = veto or "no reason given"
            bucket.pop(row)
            kernel.vetoed[row] = None
            if kernel.under_way is not None:
                _backfill.blocked(kernel, row)
            return
        room = with_room(kernel, bucket)
        failing: list[AgentRow] = []
        if kernel.config.waits_for_better and room and len(room) < len(bucket.agents):
            failing = [a for a in room if better_than(bucket, a) is not None]
            room = [agent for agent in room if agent not in failing]
        rate = _rates.short_of(kernel, bucket, now) if bucket.rates and room else None
        if rate is None:
            _start_or_park(kernel, bucket, row, room, failing, now)
        else:
            # The same for all agents: only the token is waited for.
            _wait_for_token(kernel, bucket, row, rate)
    except PolicyFault as fault:
        kernel.last = None
        component_failed(kernel, row, fault, now)


def _start_or_park(
    kernel: KernelState,
    bucket: Bucket,
    row: TaskRow,
    room: list[AgentRow],
    failing: list[AgentRow],
    now: int,
) -> None:
    """
    Start *row* on one of the agents with *room*, or park its bucket.

    Agents that are *failing* have room, too, and the bucket waits for others.
    """
    candidates = room
    if kernel.under_way is not None:
        candidates = [
            agent
            for agent in room
            if _backfill.may_pass(kernel, row, agent, _books.wanted(bucket, agent), now)
        ]
    refusal: str | None = _backfill.BEHIND if room else ""
    if candidates:
        refusal = _try(kernel, bucket, row, candidates, now)
    if refusal is not None:
        _park(kernel, bucket, row, room, refusal, failing)


def _start_within_quotas(
    kernel: KernelState, bucket: Bucket, row: TaskRow, agent: AgentRow, now: int
) -> bool:
    """Start *row* on *agent* if its quotas, which alone bound it, leave room for it."""
    if bucket.route_version != kernel.agents_version or agent.running >= agent.limit:
        return False
    need, _ = bucket.charges[()]
    # As `_books.pool_shortage`.
    for name, units in need:
        pool = kernel.pools[name]
        if units > pool.total - pool.used:
            return False
    start(kernel, row, agent, need, now, bucket.route_reason)
    return True


def vetoed(
    kernel: KernelState,
    row: TaskRow,
    before: TaskState | None,
    after: TaskState,
    reason: str,
    now: int,
) -> str | None:
    """Why the user's StateMachine forbids the transition, or None."""
    watches = kernel.deciders.watches
    if watches is not None and (before, after) not in watches:
        return None
    return kernel.deciders.check(row, before, after, reason, now)


def with_room(kernel: KernelState, bucket: Bucket) -> list[AgentRow]:
    """
    The agents about which the allocator is to be asked for a task of *bucket*.

    One that may grant less than is asked is asked even if a pool has too little.
    """
    need = bucket.need
    if not need or bucket.bounds:
        return [agent for agent in bucket.agents if _has_room(kernel, bucket, agent)]
    if kernel.rigid and _books.pool_shortage(kernel, need) is not None:
        # A shortage of a pool is the same for all agents.
        return []
    return [
        agent
        for agent in bucket.agents
        if agent.running < agent.limit
        and (not agent.capacity or _books.shortage(agent, need) is None)
    ]


def _has_room(kernel: KernelState, bucket: Bucket, agent: AgentRow) -> bool:
    """Whether *agent* has room for tasks whose needs differ by agent."""
    if agent.running >= agent.limit:
        return False
    need = _books.wanted(bucket, agent)
    if not need:
        return True
    # What it takes of its quotas is part of *need*. An allocator that may grant less
    # than is asked for may be asked although a pool has too little, but not beyond a
    # quota.
    if kernel.rigid:
        short = _books.pool_shortage(kernel, need)
    else:
        short = _books.quota_shortage(kernel, bucket, agent) if bucket.bounds else None
    return short is None and _books.shortage(agent, need) is None


def better_than(bucket: Bucket, agent: AgentRow) -> AgentRow | None:
    """
    The busy agent that a task of *bucket* waits for rather than go to *agent*.

    One that fails at once is always free: it would get whatever the others have no room
    for, all that there is. So, where the router says so, a task waits for an agent that
    is four times as likely to complete it; None if there is none.
    """
    name = bucket.spec.type
    rate = agent.view.performance(name).success_rate
    if rate * _TIMES >= 1:
        return None
    return next(
        (
            other
            for other in bucket.agents
            # The end of an attempt there is what wakes the bucket.
            if other.limit <= other.running > other.leaked
            and other.view.performance(name).success_rate > rate * _TIMES
        ),
        None,
    )


def in_pools(kernel: KernelState, need: Units) -> Units:
    """The part of *need* that the pools have to give."""
    return tuple(pair for pair in need if pair[0] in kernel.pools) if need else ()


def _try(
    kernel: KernelState,
    bucket: Bucket,
    row: TaskRow,
    candidates: list[AgentRow],
    now: int,
) -> str | None:
    """Start *row* on one of *candidates*; or why none of them gets the resources."""
    deciders = kernel.deciders
    left = candidates.copy()
    refusal = ""
    while left:
        agent, reason, keep_route = deciders.route(row, left, now)
        need = _books.wanted(bucket, agent)
        asked = bucket.need or agent.request
        pooled = in_pools(kernel, asked)
        # As `ask`, which a rigid request need not go through.
        answer = (
            deciders.allocate(row, agent, pooled, now)
            if bucket.spec.elastic is None
            else ask(kernel, row, agent, pooled, now)
        )
        granted, refusal, keep_alloc = answer
        if granted is not None:
            if (
                keep_route
                and keep_alloc
                and not asked
                and not bucket.rates
                and not kernel.watched
                and bucket.share is None
                and kernel.under_way is None
                and not agent.lease_ns
                and len(bucket.agents) == 1
                and bucket.agents_version >= 0
            ):
                if not bucket.bounds:
                    bucket.route = agent
                elif not bucket.soft:
                    bucket.quota_route = agent
                bucket.route_reason = reason
                bucket.route_version = kernel.agents_version
            if len(pooled) < len(asked):
                own = (pair for pair in asked if pair[0] not in kernel.pools)
                granted = tuple(sorted((*granted, *own)))
            if bucket.bounds:
                granted = (
                    need if granted == asked else _books.charged(bucket.bounds, granted)
                )
            start(kernel, row, agent, granted, now, reason)
            return None
        left.remove(agent)
    return refusal or "no reason given"


def ask(
    kernel: KernelState, row: TaskRow, agent: AgentRow, pooled: Units, now: int
) -> tuple[Units | None, str, bool]:
    """
    What the allocator grants *row*, which waits for *pooled*, on *agent*.

    Raises:
        PolicyFault: The allocator failed.
    """
    spec = row.bucket.spec
    if spec.elastic is None:
        return kernel.deciders.allocate(row, agent, pooled, now)
    request = in_pools(kernel, spec.resources)
    answer = kernel.deciders.allocate(row, agent, request, now, pooled)
    granted = answer[0]
    if granted is None:
        return answer
    allowed = _books.within_quotas(kernel, spec, granted)
    if kernel.under_way is not None:
        allowed = _backfill.within(kernel, row, agent, allowed, now)
    if allowed != granted and spec.elastic[2] == "all_or_nothing":
        return None, "its quota, or a reservation, leaves less than that", False
    return allowed, answer[1], answer[2]


def start(
    kernel: KernelState,
    row: TaskRow,
    agent: AgentRow,
    alloc: Units,
    now: int,
    reason: str,
) -> None:
    """Begin an attempt of *row*, the head of its bucket, on *agent*."""
    row.bucket.pop(row)
    kernel.queued -= 1
    kernel.seq += 1
    begin(kernel, row, agent, alloc, reason, now)
    if kernel.tell_started:
        tell_of_start(kernel, row, now)
    kernel.starts.append(row)


def tell_of_start(kernel: KernelState, row: TaskRow, now: int) -> None:
    """The fact of a start, for those who listen."""
    assert kernel.sink is not None  # noqa: S101 - set with tell_started
    assert row.agent is not None  # noqa: S101 - it has just started
    fact: Fact = (
        TaskStarted,
        kernel.seq,
        now,
        row.id,
        row.attempt,
        row.agent.name,
        row.alloc,
        row.reason,
    )
    if kernel.learns:
        choice = kernel.deciders.choice(row)
        if choice is not None:
            fact += (choice,)
    kernel.sink.append((fact, row.cargo))


def component_failed(
    kernel: KernelState, row: TaskRow, fault: PolicyFault, now: int
) -> None:
    """A policy failed over *row*, which is to start."""
    _ends.fail_by(kernel, row, fault, now)
    _joins.decide(kernel, now)


def _park(
    kernel: KernelState,
    bucket: Bucket,
    row: TaskRow,
    refused: list[AgentRow],
    refusal: str,
    failing: list[AgentRow],
) -> None:
    """
    Park *bucket*, whose head is *row*, at what is short on each of its agents.

    The agents *refused* have room: the allocator granted nothing there, and why is the
    *refusal*.
    """
    beyond = _soft.places(kernel, bucket)
    places = [
        _place_of(kernel, bucket, agent, above=bool(beyond))
        for agent in bucket.agents
        if agent not in refused and agent not in failing
    ]
    places += beyond
    bucket.refusal = refusal
    _parking.park(kernel, bucket, row, dict.fromkeys(places))
    if kernel.under_way is not None:
        _backfill.blocked(kernel, row)
    if bucket.agents_version < 0:
        kernel.parked_any[bucket] = None
    for agent in refused:
        need = _books.wanted(bucket, agent)
        if _books.pool_shortage(kernel, need) is None:
            # It would fit into the pools: only the allocator knows why it refused.
            kernel.parked_any[bucket] = None
        for name, _ in in_pools(kernel, need):
            kernel.pools[name].parked[bucket] = None


def _wait_for_token(
    kernel: KernelState, bucket: Bucket, row: TaskRow, rate: RateRow
) -> None:
    """Park *bucket*, whose head is *row*, until *rate* has a token."""
    beyond = _soft.places(kernel, bucket)
    place = Place(pool=rate, name=rate.name, need=TOKEN, above=bool(beyond))
    place = _parking.among(rate.short, place, bucket.share)
    _parking.park(kernel, bucket, row, (place, *beyond))
    if bucket.agents_version < 0:
        kernel.parked_any[bucket] = None


def _place_of(
    kernel: KernelState, bucket: Bucket, agent: AgentRow, *, above: bool
) -> Place:
    """What keeps a task of *bucket* from running on *agent*, which has no room."""
    share, among = bucket.share, _parking.among
    if not _books.has_slot(agent):
        if share is None:
            return agent.slots
        return among(agent.short.setdefault("", {}), Place(agent=agent), share)
    need = _books.wanted(bucket, agent)
    short = _books.shortage(agent, need)
    if short is not None:
        name, units = short
        place = Place(agent=agent, name=name, need=units, above=above)
        return among(agent.short.setdefault(name, {}), place, share)
    # An allocator may do with less than the pools have, but no quota is exceeded.
    short = _books.quota_shortage(kernel, bucket, agent) if bucket.bounds else None
    short = short or _books.pool_shortage(kernel, need)
    assert short is not None  # noqa: S101 - it has no room
    name, units = short
    pool = kernel.pools[name]
    place = Place(pool=pool, name=name, need=units, above=above)
    return among(pool.short, place, share)
