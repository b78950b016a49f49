"""
What keeps a task from starting: one list of reasons, for the start and for explain.

A start asks each part for the first reason, and keeps what it need not ask again: which
agents have room (`_limits`), and where a bucket waits (`_queue`). `explain` asks for
all of them, of all agents. So what it names is what the start waits for.

Decision: 0195.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from taskorch.kernel import (
    _backfill,
    _breakers,
    _limits,
    _units,
)
from taskorch.kernel._application import agent_of
from taskorch.kernel._rows import (
    LOCAL,
    AgentRow,
    Bucket,
    Room,
    Shortage,
    TaskRow,
    of_quotas,
    without_quotas,
)
from taskorch.kernel._state import KernelState
from taskorch.model import TASKS, TaskState, Units

# -- what policies are asked -----------------------------------------------------------

_QUEUED: Final = TaskState.QUEUED
_RUNNING: Final = TaskState.RUNNING
#: Why nothing starts with what an allocator has granted: in the place of its word.
NO_UNIT: Final = "no unit has as much free as it would grant"
NO_ROOM: Final = "the agent has less free than it would grant"


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
    whose = _limits.subjects(bucket.spec) if kernel.quotas else ()
    bucket.bounds = _limits.bounds_of(kernel, whose)
    bucket.charges.clear()
    bucket.soft = any(kernel.pools[name].beyond for name, _ in bucket.bounds)
    bucket.agents = [
        agent
        for agent in bucket.matching
        if not _breakers.shut_out(agent, bucket.spec.requires)
        and _limits.too_small(kernel, bucket, agent) is None
    ]
    avoid = bucket.spec.avoid
    if avoid:
        others = [agent for agent in bucket.agents if agent.name not in avoid]
        bucket.agents = others or bucket.agents
    bucket.room = Room(bucket.agents)
    needs = [bucket.need or agent.request for agent in bucket.agents]
    bucket.needs = tuple(dict.fromkeys(needs))
    bucket.route = bucket.quota_route = None
    if kernel.points is not None and kernel.points.hit("match.forget"):
        reusable = False
    bucket.agents_version = kernel.agents_version if reusable else -1
    bucket.is_plain = reusable and _is_plain(kernel, bucket)


def _is_plain(kernel: KernelState, bucket: Bucket) -> bool:
    """Whether only slots, and quotas, limit the tasks of *bucket*, on one agent."""
    if kernel.watched or kernel.has_accounts or bucket.limits:
        return False
    if bucket.needs != ((),):
        return False
    return len(bucket.agents) == 1 and bucket.agents[0].is_plain


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


def of_units(
    kernel: KernelState, row: TaskRow, agent: AgentRow, granted: Units, least: Units
) -> Units:
    """The part of what *row* is *granted*, if that is elastic, that units can give."""
    elastic = row.bucket.spec.elastic
    if elastic is None:
        return granted
    now = elastic[2] != "all_or_nothing"
    return _units.fitting(kernel, agent, granted, least, now=now)


def in_pools(kernel: KernelState, need: Units) -> Units:
    """The part of *need* that the pools have to give."""
    return tuple(pair for pair in need if pair[0] in kernel.pools) if need else ()


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
    allowed = _limits.within_quotas(kernel, spec, granted)
    if kernel.backfill is not None:
        backfill = kernel.backfill
        allowed = _backfill.within(kernel, backfill, row, agent, allowed, now)
    if allowed != granted and spec.elastic[2] == "all_or_nothing":
        return None, "its quota, or a reservation, leaves less than that", False
    return allowed, answer[1], answer[2]


# -- what is short ---------------------------------------------------------------------


def shortages(kernel: KernelState, row: TaskRow, now: int) -> list[Shortage]:
    """
    All that keeps *row* from starting when it is its turn; nothing, if nothing does.

    The router has no say: any agent with room is good enough. Agents are alternatives,
    so of those without room each has its own, and those that lack least come first.

    Raises:
        PolicyFault: A policy failed that was asked.
    """
    bucket = row.bucket
    if bucket.agents_version != kernel.agents_version:
        match(kernel, bucket, row, now)
    agents = [*bucket.agents, *_breakers.for_now(kernel, bucket)] or bucket.matching
    # Before the allocator is asked what it would say if more were free.
    behind = {
        agent: short
        for agent in agents
        if (short := of_reservation(kernel, row, agent, now)) is not None
    }
    ahead = Counter(map(agent_of, returning(kernel)))
    # Which attempts come first that wait to go on, may depend on the agent.
    slots = [_of_slots(kernel, agent, ahead) for agent in (*agents,) or (None,)]
    shorts = [Shortage("not_started")] if kernel.paused else []
    if len({slot.missing if slot else 0 for slot in slots}) == 1:
        shorts += [slot._replace(agent=None) for slot in slots[:1] if slot]
        slots = [None] * len(agents)
    shorts += _of_veto_so_far(kernel, row, now)
    if kernel.judged and row.state is _QUEUED:
        ruling = kernel.deciders.judge(row, now)
        shown = ruling.shown or ruling.denied
        shorts += [Shortage("rules", shown)] if ruling.denied else []
    for limit in bucket.limits:
        shorts += limit.shortages(kernel, row, now)
    if not agents:
        shorts.append(_of_nobody(bucket))
    if agents and len(behind) == len(agents):
        shorts.append(behind[agents[0]]._replace(agent=None))
        behind = {}
    ways: list[list[Shortage]] = []
    for agent, slot in zip(agents, slots, strict=True):
        way = [slot] if slot else []
        way += _on(kernel, row, agent, now, ahead[agent], behind.get(agent))
        ways.append(way)
        if not way:
            # One is enough.
            ways = []
            break
    shorts += [short for way in sorted(ways, key=len) for short in way]
    # What is the same for every agent.
    shorts += [
        short
        for short in _limits.of_pools(kernel, bucket.need, None, bucket.agents)
        if kernel.rigid or (short.is_hopeless and not agents)
    ]
    return shorts + _of_shared_quotas(kernel, bucket)


def impossible(kernel: KernelState, row: TaskRow, now: int) -> list[Shortage]:
    """What keeps *row* from ever starting, if no agent can do it, or its quota none."""
    bucket = row.bucket
    shorts = [] if bucket.matching else [_of_nobody(bucket)]
    for agent in bucket.matching:
        shorts += _breakers.shut_out(agent, bucket.spec.requires)
        shorts += _of_amounts(kernel, bucket, agent)
        if not (kernel.rigid and bucket.spec.resources):
            shorts += _of_pools(kernel, bucket, agent)
    shorts += _limits.of_pools(kernel, bucket.need, None, bucket.matching)
    shorts += _of_shared_quotas(kernel, bucket)
    for limit in bucket.limits:
        shorts += limit.shortages(kernel, row, now)
    return [short for short in shorts if short.is_hopeless]


def returning(kernel: KernelState) -> list[TaskRow]:
    """The attempts that wait to have their slot again: they come first."""
    return [
        row
        for row in dict.fromkeys(kernel.returning)
        if row.extra is not None and row.extra.yielded
    ]


def of_veto(kernel: KernelState, row: TaskRow, now: int) -> Shortage | None:
    """Whether the user's StateMachine forbids the start of *row*."""
    why = vetoed(kernel, row, _QUEUED, _RUNNING, "dispatched", now)
    return None if why is None else Shortage("veto", why or "no reason given")


def of_reservation(
    kernel: KernelState, row: TaskRow, agent: AgentRow, now: int
) -> Shortage | None:
    """Whether *row*, on *agent*, would put off the first task that cannot start."""
    need = _limits.wanted(row.bucket, agent)
    if _backfill.may_pass(kernel, row, agent, need, now):
        return None
    kept = _backfill.reservation(kernel, now)
    assert kept is not None  # noqa: S101 - that is what it may not pass
    until = kept.start_ns or 0
    return Shortage("reservation", kept.row.id, agent=agent, until_ns=until)


def _of_veto_so_far(kernel: KernelState, row: TaskRow, now: int) -> list[Shortage]:
    """The veto that *row* met; else, that which it would meet now."""
    if row.extra is not None and row.extra.veto:
        return [Shortage("veto", row.extra.veto)]
    short = of_veto(kernel, row, now)
    return [] if short is None else [short]


def _of_nobody(bucket: Bucket) -> Shortage:
    """No agent matches."""
    needs = ", ".join(bucket.spec.requires or ())
    return Shortage("capability", needs, is_hopeless=True)


def _of_slots(
    kernel: KernelState, agent: AgentRow | None, ahead: Counter[AgentRow]
) -> Shortage | None:
    """
    Whether the orchestrator has too few slots for a start on *agent*, or on any.

    One is needed, and those of the attempts that come first.
    """
    first = 0
    for other, many in ahead.items():
        # Attempts that wait for a slot of an agent without a free one come later.
        room = many if other is agent else max(0, other.limit - other.running)
        first += min(many, room)
    free = kernel.concurrency - kernel.running
    return Shortage("slot", "", 1 + first, free, agent) if first >= free else None


def _on(
    kernel: KernelState,
    row: TaskRow,
    agent: AgentRow,
    now: int,
    ahead: int,
    behind: Shortage | None,
) -> list[Shortage]:
    """What keeps *row* from running on *agent*, but for what is shared."""
    bucket = row.bucket
    shorts = _breakers.shut_out(agent, bucket.spec.requires)
    if _breakers.avoided(bucket, row, agent, now):
        shorts.append(Shortage("failed there", agent=agent))
    busy = _limits.of_slots(agent, ahead)
    if busy is not None:
        shorts.append(busy)
    elif kernel.config.waits_for_better:
        better = _limits.better_than(bucket, agent)
        if better is not None:
            shorts.append(Shortage("fails", better.name, agent=agent))
    if behind is not None:
        shorts.append(behind)
    amounts, pools = _of_amounts(kernel, bucket, agent), []
    if not kernel.rigid:
        pools = [s for s in amounts if s.pool is None and s.name in kernel.pools]
    shorts += [short for short in amounts if short not in pools]
    pools += _of_pools(kernel, bucket, agent)
    if not kernel.rigid:
        # The allocator may grant less than is asked, so only its answer counts.
        shorts += [short for short in pools if short.is_hopeless]
        return shorts + _refusal(kernel, row, agent, pools, now, others=bool(shorts))
    if not bucket.spec.resources:
        shorts += pools
    # A rigid allocator grants all that fits, so it is asked only if everything fits.
    if shorts or pools:
        return shorts
    return _refusal(kernel, row, agent, [], now, others=False)


def _of_amounts(kernel: KernelState, bucket: Bucket, agent: AgentRow) -> list[Shortage]:
    """What *agent* has too little of, and quotas of what it takes by its own word."""
    need = _limits.wanted(bucket, agent)
    shorts = list(_limits.of_capacity(agent, need, kernel.pools))
    if not bucket.spec.resources:
        # How many run does not depend on the agent.
        own = (pair for pair in of_quotas(need) if not pair[0].endswith(f":{TASKS}"))
        shorts += _limits.of_pools(kernel, tuple(own), agent)
    return shorts


def _of_pools(kernel: KernelState, bucket: Bucket, agent: AgentRow) -> list[Shortage]:
    """What pools have too little of for a task of *bucket* on *agent*."""
    need = without_quotas(_limits.wanted(bucket, agent))
    return list(_limits.of_pools(kernel, need, agent))


def _of_shared_quotas(kernel: KernelState, bucket: Bucket) -> list[Shortage]:
    """The quotas that a task of *bucket* would exceed on any agent."""
    need = _limits.charged(bucket.bounds, bucket.need)
    return list(_limits.of_pools(kernel, of_quotas(need)))


def _refusal(
    kernel: KernelState,
    row: TaskRow,
    agent: AgentRow,
    pools: Sequence[Shortage],
    now: int,
    *,
    others: bool,
) -> list[Shortage]:
    """
    Why the allocator does not grant what *row* needs on *agent*, if it does not.

    That are those of *pools*, which have too little, without which it would; or its own
    word. *others* says whether anything else keeps the task from running there.
    """
    bucket = row.bucket
    if bucket.route is agent:
        # The router's answer was reusable, so it is not asked.
        return []
    # A pool that is too small says so itself: were it large enough, what then?
    small = [short for short in pools if short.is_hopeless]
    granted, refusal = _answer_with(kernel, row, agent, small, now)
    if granted is not None:
        # If it has changed its mind, it is asked when something changes.
        earlier = "" if others or row is not bucket.head() else bucket.refusal
        # Whether it would pass another is looked at by itself.
        is_final = earlier not in ("", _backfill.BEHIND)
        if is_final and not any(place.has_room() for place in bucket.places()):
            return [Shortage("allocator", earlier, agent=agent)]
        return []
    short = [one for one in pools if not one.is_hopeless]
    if short:
        granted, refusal = _answer_with(kernel, row, agent, pools, now)
    if granted is None:
        return [Shortage("allocator", refusal, agent=agent)]
    # Of these pools, those without which it would refuse all the same.
    for one in list(short):
        rest = [other for other in short if other is not one]
        if _answer_with(kernel, row, agent, [*small, *rest], now)[0] is not None:
            short = rest
    # It may be granted less than it asks for, and then needs no more.
    enough = dict(granted)
    return [
        one._replace(need=min(one.need, enough.get(one.name, one.need)))
        for one in short
    ]


def _free(kernel: KernelState, short: Shortage, units: int) -> None:
    """Have *units* more free where there is too little."""
    name, agent = short.name, short.agent
    if short.pool is not None:
        kernel.pools[name].used -= units
    else:
        assert agent is not None  # noqa: S101 - what is short is a pool's or an agent's
        agent.used[name] = agent.used.get(name, 0) - units


def _answer_with(
    kernel: KernelState,
    row: TaskRow,
    agent: AgentRow,
    freed: Iterable[Shortage],
    now: int,
) -> tuple[Units | None, str]:
    """What the allocator grants, or why not, if as much were free as *freed* lack."""
    need = in_pools(kernel, without_quotas(_limits.wanted(row.bucket, agent)))
    freed = tuple(freed)
    for short in freed:
        _free(kernel, short, short.missing)
    try:
        granted, why, _ = ask(kernel, row, agent, need, now)
    finally:
        for short in freed:
            _free(kernel, short, -short.missing)
    if granted is None:
        return None, why or "no reason given"
    on_agent = _without(granted, [short for short in freed if short.pool is None])
    if not kernel.rigid and _limits.shortage(agent, on_agent) is not None:
        return None, NO_ROOM
    units = of_units(kernel, row, agent, _without(granted, freed), need)
    if _units.chosen(kernel, agent, units) is None:
        return None, NO_UNIT
    return granted, ""


def _without(units: Units, shorts: Iterable[Shortage]) -> Units:
    """*units* without those of which *shorts* say that there is too little."""
    names = [short.name for short in shorts]
    return tuple([pair for pair in units if pair[0] not in names])
