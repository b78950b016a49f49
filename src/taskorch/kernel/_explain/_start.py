"""What keeps a task from starting that waits for no other: slots, agents, resources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from taskorch._base._frozen import frozen
from taskorch._base._limits import NS
from taskorch._base._visible import counted
from taskorch.kernel import _backfill, _breakers, _limits
from taskorch.kernel._application import agent_of
from taskorch.kernel._dispatch import ask, better_than, in_pools, match, vetoed
from taskorch.kernel._explain import _holds
from taskorch.kernel._explain._holders import NAMED, Held, Holders, enough
from taskorch.kernel._rows import (
    QUOTA,
    TOKEN,
    AgentRow,
    PoolRow,
    Reservation,
    TaskRow,
    of_quotas,
    without_quotas,
)
from taskorch.kernel._standing import limits_of, meaning_of, so_many
from taskorch.kernel._state import KernelState
from taskorch.model import (
    BURST,
    STARTS,
    TASKS,
    Blocker,
    Remedy,
    Resources,
    TaskState,
    Units,
)
from taskorch.model._explanation import in_words, some

#: Agents without room that are named: any one of them is enough.
_MOST_AGENTS: Final = 5

#: Why nothing starts, where only the driver can know.
NOT_STARTED: Final = Blocker(
    "not_started",
    "The orchestrator starts nothing: it is not started, or it stops.",
    remedies=(Remedy("start", "Call orch.start(), or enter `with orch:`."),),
)


@frozen
class _Short:
    """A shortage: a resource or slot that is short, or too small for the task."""

    #: Says so: only of what is told, since holders must be looked for.
    blocker: Callable[[], Blocker]
    #: Nobody's end helps.
    hopeless: bool = False
    #: Of a pool, its name, and how much is to be freed, or how much too small it is.
    pool: str = ""
    missing: int = 0


class Start:
    """
    Asks everything about *row* that a dispatch would ask, except for the router.

    It is asked about as it will be when it is its turn.
    """

    def __init__(
        self, kernel: KernelState, row: TaskRow, now: int, paused: Blocker = NOT_STARTED
    ) -> None:
        self._kernel = kernel
        self._row = row
        self._bucket = row.bucket
        self._now = now
        self._paused = paused
        self._holders = Holders(kernel)
        #: Attempts that wait to have their slot again: they come first.
        self._returning = [
            other
            for other in dict.fromkeys(kernel.returning)
            if other.extra is not None and other.extra.yielded
        ]
        self._ahead = Counter(map(agent_of, self._returning))
        #: Agents without room that are not among the blockers.
        self.more_agents = 0
        #: Those on which it would put off a task that comes first.
        self._behind: dict[AgentRow, None] = {}

    def blockers(self) -> list[Blocker]:
        """
        What keeps the task from starting; nothing, if only its turn does.

        Raises:
            PolicyFault: A policy failed that was asked.
        """
        kernel, bucket = self._kernel, self._bucket
        found = [self._paused] if kernel.paused else []
        if bucket.agents_version != kernel.agents_version:
            match(kernel, bucket, self._row, self._now)
        agents = [*bucket.agents, *_breakers.for_now(kernel, bucket)]
        agents = agents or bucket.matching
        # Before the allocator is asked what it would say if more were free.
        kept = _backfill.reservation(kernel, self._now)
        if kept is not None:
            self._behind = self._in_its_way(agents)
        # The shortages of pools that are the same for every agent.
        shared = [
            one
            for one in self._pools(bucket.need)
            if kernel.rigid or (one.hopeless and not agents)
        ]
        shared += self._shared_quotas()
        # Which attempts come first that wait to go on, may depend on the agent.
        slots = [self._missing_slots(agent) for agent in agents]
        slots = slots or [self._missing_slots(None)]
        if len(set(slots)) == 1:
            found += [self._slot(missing) for missing in slots[:1] if missing]
            slots = [0] * len(agents)
        found += self._veto() + self._rates()
        if not agents:
            found.append(self._nobody())
        if kept is not None and agents and len(self._behind) == len(agents):
            self._behind = {}
            found.append(self._reserved(kept))
        found += self._on_any(agents, slots)
        return found + [one.blocker() for one in shared]

    def impossible(self) -> list[Blocker]:
        """What keeps the task from ever starting; of a task that no agent can do."""
        agents = self._bucket.matching
        shorts = [one for agent in agents for one in self._on(agent)]
        shorts += self._pools(self._bucket.need) + self._shared_quotas()
        found = [] if agents else [self._nobody()]
        return found + [one.blocker() for one in shorts if one.hopeless]

    # -- questions -----------------------------------------------------------------

    def _on_any(self, agents: list[AgentRow], slots: list[int]) -> list[Blocker]:
        """What keeps the task from running on *agents*, unless one has room."""
        ways = []
        for agent, missing in zip(agents, slots, strict=True):
            short = self._on(agent)
            if missing:
                short.insert(0, _Short(partial(self._slot, missing, agent.name)))
            if not short:
                return []
            ways.append(short)
        # Those that lack least; of equals, the first.
        ways.sort(key=len)
        self.more_agents = max(0, len(ways) - _MOST_AGENTS)
        return [one.blocker() for way in ways[:_MOST_AGENTS] for one in way]

    def _missing_slots(self, agent: AgentRow | None) -> int:
        """
        How many slots of the orchestrator are missing.

        They are needed for it, and for the attempts that come first, if it is to run
        on *agent*.
        """
        kernel = self._kernel
        first = 0
        for other, many in self._ahead.items():
            # Attempts that wait for a slot of an agent without a free one come later.
            room = many if other is agent else max(0, other.limit - other.running)
            first += min(many, room)
        return max(0, first + 1 + kernel.running - kernel.concurrency)

    def _on(self, agent: AgentRow) -> list[_Short]:
        """What keeps the task from running on *agent*, but for what is shared."""
        kernel, bucket = self._kernel, self._bucket
        found = self._not_free(agent)
        kept = kernel.reserved
        if kept is not None and agent in self._behind:
            found.append(_Short(partial(self._reserved, kept, agent.name)))
        need = _limits.wanted(bucket, agent)
        for name, units in need:
            if name in agent.capacity:
                total, used = agent.capacity[name], agent.used.get(name, 0)
                found += self._resource(name, units, total, used, agent, own=True)
            elif name not in kernel.pools:
                found += self._resource(name, units, 0, 0, agent)
        if not bucket.spec.resources:
            # How many run does not depend on the agent.
            own = [p for p in of_quotas(need) if not p[0].endswith(f":{TASKS}")]
            found += self._quotas(own, agent)
        need = without_quotas(need)
        pools = self._pools(need, agent)
        if not kernel.rigid:
            # The allocator may grant less than is asked, so only its answer counts.
            found += [one for one in pools if one.hopeless]
            return found + self._refusal(agent, need, others=bool(found))
        if not bucket.spec.resources:
            found += pools
        # A rigid allocator grants all that fits, so it is asked only if everything
        # fits.
        return found if found or pools else self._refusal(agent, need, others=False)

    def _not_free(self, agent: AgentRow) -> list[_Short]:
        """Whether *agent* is there, has a slot, and is to have the task at all."""
        found: list[_Short] = []
        for one in _breakers.shut_out(agent, self._bucket.spec.requires):
            hopeless = one.why in ("lost", "draining")
            found.append(_Short(partial(self._shut, agent, one), hopeless=hopeless))
        if _breakers.avoided(self._bucket, self._row, agent, self._now):
            found.append(_Short(partial(self._failed_there, agent)))
        free = agent.limit - agent.running - self._ahead[agent]
        if free < 1:
            found.append(_Short(partial(self._busy, agent, 1 - free)))
        elif self._kernel.config.waits_for_better:
            better = better_than(self._bucket, agent)
            if better is not None:
                found.append(_Short(partial(self._fails, agent, better)))
        return found

    def _pools(self, need: Units, agent: AgentRow | None = None) -> list[_Short]:
        """The pools that have too little, or are too small; of all, or for *agent*."""
        pools = self._kernel.pools
        return [
            short
            for name, units in need
            if name in pools
            for short in self._resource(
                name, units, pools[name].total, pools[name].used, agent
            )
        ]

    def _shared_quotas(self) -> list[_Short]:
        """The quotas that the task would exceed on any agent."""
        bucket = self._bucket
        need = _limits.charged(bucket.bounds, bucket.need)
        return self._quotas(of_quotas(need))

    def _quotas(
        self, need: Iterable[tuple[str, int]], agent: AgentRow | None = None
    ) -> list[_Short]:
        """The quotas that *need* would exceed; of all, or for *agent*."""
        found: list[_Short] = []
        where = "" if agent is None else agent.name
        for name, units in need:
            pool = self._kernel.pools[name]
            if units > pool.total - pool.used:
                hopeless = units > pool.total
                blocker = partial(self._quota, pool, units, where)
                found.append(_Short(blocker, hopeless=hopeless))
        return found

    def _rates(self) -> list[Blocker]:
        """Blockers: the rates that have no token for the task yet."""
        found = []
        for rate in self._bucket.rates:
            ns = rate.wait(self._now)
            if ns:
                kind, _, who = rate.name.partition("=")
                burst = rate.total // TOKEN
                more = f" ({burst:,} at one moment)" if burst > 1 else ""
                left = in_words(ns / NS)
                detail = (
                    f"The quota of {kind} {who!r} lets {rate.per_second / 1e6:g} start "
                    f"in a second{more}: the next may in {left}."
                )
                remedy = Remedy("wait", f"Wait for {left}.", seconds=ns / NS)
                blocker = Blocker(
                    "rate", detail, rate.name, until=ns / NS, remedies=(remedy,)
                )
                found.append(blocker)
        return found

    def _quota(self, pool: PoolRow, units: int, agent: str) -> Blocker:
        """The quota of *pool* leaves less than *units*."""
        kind, who, what = meaning_of(pool)
        total, used, need = pool.total / 1e6, pool.used / 1e6, units / 1e6
        detail = (
            f"The quota of {kind} {who!r} is {so_many(pool.total, what)} at once: "
            f"{used:g} is in use, and it needs {need:g}."
        )
        missing = units - (max(pool.total, units) - pool.used)
        held = self._holders_of(pool.name, missing) if missing > 0 else []
        more = (pool.used + units) / 1e6
        raised = _raised(self._kernel, (kind, who), what, more)
        words = f"Raise it: orch.resources.set_quotas({raised})."
        remedy = Remedy("raise_quota", words, name=what, amount=more)
        ends = () if pool.total < units else _free(what, missing, held)
        return Blocker(
            "quota",
            detail,
            pool.name.removeprefix(QUOTA),
            need,
            max(0.0, total - used),
            _names(held),
            agent=agent,
            remedies=(*ends, remedy),
        )

    def _in_its_way(self, agents: Iterable[AgentRow]) -> dict[AgentRow, None]:
        """The *agents* on which the task would put off the one with a reservation."""
        kernel, row, now = self._kernel, self._row, self._now
        return {
            agent: None
            for agent in agents
            if not _backfill.may_pass(
                kernel, row, agent, _limits.wanted(self._bucket, agent), now
            )
        }

    def _reserved(self, kept: Reservation, agent: str = "") -> Blocker:
        """Blocker: a start would put off the first task that cannot start."""
        first = kept.row.id
        left = None if kept.start_ns is None else (kept.start_ns - self._now) / NS
        length = _backfill.length_of(self._kernel, self._row)
        takes = "nobody knows how long this one takes"
        if length is not None:
            takes = f"this one takes about {in_words(length / NS)}"
        if left is None:
            when = "and nobody knows how long some of what holds it takes"
        elif left <= 0:
            when = "as soon as what holds it ends, which is due"
        else:
            when = f"in about {in_words(left)}; and {takes}"
        detail = (
            f"{first} comes first: what it needs is reserved for it, {when}. This one "
            "passes it only if that does not put it off."
        )
        words = f"It is enough that {first} starts, or ends."
        remedies = (Remedy("complete", words, (first,)),)
        until = None if left is None else max(0.0, left)
        return Blocker(
            "reservation", detail, first, until=until, agent=agent, remedies=remedies
        )

    def _refusal(self, agent: AgentRow, need: Units, *, others: bool) -> list[_Short]:
        """
        Why the allocator does not grant *need* on *agent*, if it does not.

        *others* says whether anything else keeps the task from running there.
        """
        kernel, bucket = self._kernel, self._bucket
        if bucket.route is agent:
            # The router's answer was reusable, so it is not asked.
            return []
        pooled = in_pools(kernel, need)
        pools = self._pools(pooled, agent)
        # A pool that is too small says so itself: were it large enough, what then?
        small = [one for one in pools if one.hopeless]
        refusal = self._ask(agent, pooled, small)
        if refusal is None:
            # If it has changed its mind, it is asked when something changes.
            known = "" if others or self._row is not bucket.head() else bucket.refusal
            if known == _backfill.BEHIND:
                # That is looked at by itself.
                known = ""
            if known and not any(place.has_room() for place in bucket.places()):
                return [_Short(partial(_put_off, agent, known))]
            return []
        short = [one for one in pools if not one.hopeless]
        if short:
            refusal = self._ask(agent, pooled, [*small, *short])
        if refusal is not None:
            return [_Short(partial(_put_off, agent, refusal))]
        # Of these pools, those without which it would refuse all the same.
        for one in list(short):
            rest = [other for other in short if other is not one]
            if self._ask(agent, pooled, [*small, *rest]) is None:
                short = rest
        return short

    def _ask(
        self, agent: AgentRow, pooled: Units, freed: Sequence[_Short]
    ) -> str | None:
        """Why the allocator refuses, if as much were free as *freed* lack; or None."""
        kernel = self._kernel
        for one in freed:
            kernel.pools[one.pool].used -= one.missing
        try:
            granted, why, _ = ask(kernel, self._row, agent, pooled, self._now)
        finally:
            for one in freed:
                kernel.pools[one.pool].used += one.missing
        return None if granted is not None else why or "no reason given"

    # -- answers -------------------------------------------------------------------

    def _veto(self) -> list[Blocker]:
        row = self._row
        why = None if row.extra is None else row.extra.veto or None
        if why is None:
            before, after = TaskState.QUEUED, TaskState.RUNNING
            why = vetoed(self._kernel, row, before, after, "dispatched", self._now)
        if why is None:
            return []
        detail = "The state machine does not let it start: "
        detail += f"{why or 'no reason given'}."
        words = (
            "The state machine must allow it; it is asked whenever something changes."
        )
        remedy = Remedy("policy", words, name="state_machine")
        return [Blocker("veto", detail, remedies=(remedy,))]

    def _nobody(self) -> Blocker:
        """Blocker: no agent matches."""
        reason = self._bucket.match_reason
        detail = f"No agent can do it{f': {reason}' if reason else ''}."
        needs = ", ".join(self._bucket.spec.requires or ())
        return Blocker("capability", detail, needs, remedies=(self._add_agent(),))

    def _slot(self, missing: int, agent: str = "") -> Blocker:
        """Blocker: *missing* slots of the orchestrator, for a start on *agent*."""
        kernel = self._kernel
        limit = kernel.concurrency
        # A slot that is freed may go to an attempt that waits to go on, on that agent.
        ends = max(missing, 1 + len(self._returning) + kernel.running - limit)
        held = self._holders_of(None, ends)
        remedies = _free(None, ends, held)
        if limit < kernel.room:
            # The one that allows the least.
            who, (most, why, _) = min(kernel.holds.items(), key=_most_of)
            detail = _holds.words_of_hold(who, most, why)
            remedies += (_holds.remedy(kernel, who),)
        elif limit < kernel.config.concurrency:
            # To allow more would change nothing.
            detail = (
                f"The system has room for {counted(limit, 'attempt')} at once, of "
                f"{kernel.config.concurrency} that may run: see health()."
            )
        else:
            slots = "The one slot is" if limit == 1 else f"All {limit} slots are"
            detail = f"{slots} taken (concurrency={limit})."
            if kernel.running < limit:
                detail = "Attempts that wait to go on take all slots that are free."
            more = limit + missing
            words = f"Allow more in the next run: TaskOrchestrator(concurrency={more})."
            remedies += (Remedy("raise_concurrency", words, amount=more),)
        names = _names(held)
        return Blocker(
            "slot", detail, "concurrency", 1, 0, names, agent=agent, remedies=remedies
        )

    def _shut(self, agent: AgentRow, shut: _breakers.ShutOut) -> Blocker:
        """*agent* gets no such work."""
        name = agent.name
        until = None
        if shut.why == "lost":
            detail = f"Agent {name} is lost: it is to be heard of again first."
            words = f"Agent {name} must give a sign of life, or join again."
            back = Remedy("agent_back", words, name=name)
        elif shut.why == "draining":
            detail = f"Agent {name} gets no new work: {agent.draining}."
            words = f"Let it have work again: orch.agents.drain({name!r}, on=False)."
            back = Remedy("agent_back", words, name=name)
        else:
            what = f" for {shut.capability}" if shut.capability else ""
            if shut.why == "breaker open":
                until = max(0, shut.until_ns - self._now) / NS
                detail = (
                    f"The breaker of agent {name}{what} is open, because what it does "
                    f"fails: the next probe is in {in_words(until)}."
                )
            else:
                detail = (
                    f"The breaker of agent {name}{what} is half-open, and all its "
                    "probes are under way."
                )
            words = f"Wait for a probe on {name} that ends well."
            back = Remedy("wait", words, seconds=until)
        return Blocker(
            "agent",
            detail,
            name,
            until=until,
            agent=name,
            remedies=(back, *self._others()),
        )

    def _failed_there(self, agent: AgentRow) -> Blocker:
        """It has failed on *agent*, where most fails, and waits for another one."""
        name = agent.name
        detail = (
            f"It has failed on agent {name}, as most does there: others come first."
        )
        return Blocker("agent", detail, name, agent=name, remedies=self._others())

    def _busy(self, agent: AgentRow, missing: int) -> Blocker:
        """*agent* lacks so many slots."""
        name, held = agent.name, self._holders_of(None, missing, agent)
        detail = f"Agent {name} runs {agent.running} of {agent.limit} already."
        if agent.running < agent.limit:
            detail = f"Attempts that wait to go on take the slots of agent {name}."
        remedies = (*_free(None, missing, held), *self._others())
        names = _names(held)
        return Blocker(
            "agent", detail, name, 1, 0, names, agent=name, remedies=remedies
        )

    def _fails(self, agent: AgentRow, better: AgentRow) -> Blocker:
        """Rather than go to *agent*, it waits for another one, which is *better*."""
        held = self._holders_of(None, 1, better)
        done = agent.view.performance(self._bucket.spec.type)
        detail = (
            f"Agent {agent.name} has failed {done.failed:,} of "
            f"{done.failed + done.completed:,} such tasks: it waits for agent "
            f"{better.name}, which does better."
        )
        return Blocker(
            *("agent", detail, agent.name, 1, 0, _names(held)),
            agent=agent.name,
            remedies=_free(None, 1, held),
        )

    def _resource(
        self,
        name: str,
        need: int,
        total: int,
        used: int,
        agent: AgentRow | None,
        *,
        own: bool = False,
    ) -> list[_Short]:
        """
        What is wrong with one resource: too small, and then, too little is free.

        It matters on *agent* (None: everywhere), and is its *own* capacity, or a pool.
        """
        where = "" if agent is None else agent.name
        room = max(total, need)
        missing = need - (room - used)
        needs, free = need / 1e6, (room - used) / 1e6

        def too_small() -> Blocker:
            place = "in the pool" if name in self._kernel.pools else "in any pool"
            remedy = _enlarge(name, need)
            if own and agent is not None:
                place = f"on agent {where}"
                remedy = self._add_agent(
                    without_quotas(_limits.wanted(self._bucket, agent))
                )
            most = total / 1e6
            detail = (
                f"It asks for {needs:g} {name}, and the most there is, {place}, is "
                f"{most:g}."
            )
            unknown = _limits.of_no_pool(self._kernel, name)
            if unknown:
                detail = f"It asks for {needs:g} {name}, and {unknown.rstrip('?')}."
            return Blocker(
                "resource", detail, name, needs, most, agent=where, remedies=(remedy,)
            )

        def too_little() -> Blocker:
            held = self._holders_of(name, missing, agent if own else None)
            ends = _free(name, missing, held)
            short = partial(Blocker, need=needs, have=free, holders=_names(held))
            least = "" if self._bucket.spec.elastic is None else " at the least"
            detail = f"It needs {needs:g} {name}{least}, and "
            if own:
                detail += f"agent {where} has {free:g} free."
                remedies = (*ends, *self._others())
                return short(
                    "agent",
                    detail,
                    where,
                    resource=name,
                    agent=where,
                    remedies=remedies,
                )
            detail += f"{free:g} of {room / 1e6:g} is free."
            remedies = (*ends, _enlarge(name, room + missing))
            return short("resource", detail, name, agent=where, remedies=remedies)

        found = []
        if total < need:
            small = need - total
            found.append(_Short(too_small, hopeless=True, pool=name, missing=small))
        if missing > 0:
            found.append(_Short(too_little, pool=name, missing=missing))
        return found

    def _holders_of(
        self, name: str | None, need: int, agent: AgentRow | None = None
    ) -> Held:
        """Holders, with the attempts that wait for their slots: see `Holders.of`."""
        held = self._holders.of(name, need, agent)
        if name is None:
            rows = [row for row in self._returning if agent in (None, row.agent)]
            held += [(row.id, 1) for row in rows]
        return held

    def _others(self) -> tuple[Remedy, ...]:
        """Remedy: add an agent, where the registry matches by capabilities."""
        return () if self._bucket.spec.requires is None else (self._add_agent(),)

    def _add_agent(self, capacity: Units | None = None) -> Remedy:
        """An agent more that can do the task; None: with what no pool has."""
        spec = self._bucket.spec
        if capacity is None:
            own = any(name not in self._kernel.pools for name, _ in spec.resources)
            capacity = spec.resources if own else ()
        needs = spec.requires or ()
        skills = " of any kind, with any capabilities"
        if needs:
            skills = f" with capabilities={{{', '.join(map(repr, needs))}}}"
        room = ", ".join(f"{units / 1e6:g} {name}" for name, units in capacity)
        room = f" and a capacity of {room}" if room else ""
        return Remedy(
            "add_agent",
            f"Add an agent{skills}{room}, by @orch.agent(…).",
            capabilities=needs,
            resources=Resources.from_units(capacity),
        )


def _raised(kernel: KernelState, whose: tuple[str, str], what: str, more: float) -> str:
    """The quota of *whose* as one writes it, with *more* of *what*."""
    limits = {n: units / 1e6 for n, units in limits_of(kernel, whose)} | {what: more}
    most, rate, burst = (limits.pop(name, None) for name in (TASKS, STARTS, BURST))
    parts = [f"{whose[0]}={whose[1]!r}"]
    if limits:
        amounts = ", ".join(f"{name!r}: {much:g}" for name, much in limits.items())
        parts.append(f"resources={{{amounts}}}")
    if most is not None:
        parts.append(f"max_parallel={most:g}")
    if rate is not None:
        parts.append(f"{STARTS}={rate:g}, {BURST}={burst:.0f}")
    return f"Quota({', '.join(parts)})"


def _put_off(agent: AgentRow, why: str) -> Blocker:
    words = "The allocator must grant it; it is asked whenever something changes."
    remedy = Remedy("policy", words, name="allocator")
    detail = f"The allocator puts it off: {why}."
    return Blocker("allocator", detail, agent=agent.name, remedies=(remedy,))


def _free(name: str | None, units: int, held: Held) -> tuple[Remedy, ...]:
    """The end of those who hold enough of a resource, or of slots, if that is None."""
    ends = enough(held, units)
    if sum(many for _, many in held) < units:
        # Not all that hold it were found.
        return ()
    if name is None and units == 1 and len(held) > 1:
        words = f"It is enough that one of {some(_names(held))} ends."
    else:
        words = f"It is enough that {some(ends)} end{'s' * (len(ends) == 1)}."
    amount = units if name is None else units / 1e6
    return (Remedy("free", words, ends, name or "slots", amount),)


def _enlarge(name: str, units: int) -> Remedy:
    words = f"Let there be more: orch.resources.resize({{{name!r}: {units / 1e6:g}}})."
    return Remedy("enlarge_pool", words, name=name, amount=units / 1e6)


def _names(held: Held) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name, _ in held[:NAMED]))


def _most_of(held: tuple[str, tuple[int, str, bool]]) -> int:
    """How many may run while this holds starts back; one that holds all is last."""
    return held[1][0] or 1 << 30
