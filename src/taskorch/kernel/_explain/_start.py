"""What keeps a task from starting that waits for no other: slots, agents, resources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from taskorch.kernel import _books
from taskorch.kernel._application import agent_of
from taskorch.kernel._dispatch import in_pools, match, vetoed
from taskorch.kernel._explain._shortages import Short, Words, of_one
from taskorch.kernel._rows import AgentRow, Bucket, TaskRow
from taskorch.kernel._state import KernelState
from taskorch.model import Blocker, Remedy, TaskState, Units

#: Agents without room that are named: any one of them is enough.
_MOST_AGENTS: Final = 5

#: Why nothing starts, where only the driver can know.
NOT_STARTED: Final = Blocker(
    "not_started",
    "The orchestrator starts nothing: it is not started, or it stops.",
    remedies=(Remedy("start", "Call orch.start(), or enter `with orch:`."),),
)


class Start:
    """
    Asks, for one task, everything that a dispatch would ask, except for the router.

    Args:
        kernel: The state.
        row: The task, as it will be when it is its turn.
        now: The time in ns.
        paused: Why nothing starts, if nothing does.
    """

    def __init__(
        self, kernel: KernelState, row: TaskRow, now: int, paused: Blocker = NOT_STARTED
    ) -> None:
        self._kernel = kernel
        self._row = row
        self._bucket: Bucket = row.bucket
        self._now = now
        self._paused = paused
        #: Attempts that wait to have their slot again: they come first.
        returning = [
            other
            for other in dict.fromkeys(kernel.returning)
            if other.extra is not None and other.extra.yielded
        ]
        self._ahead: Counter[AgentRow] = Counter(map(agent_of, returning))
        self._words = Words(kernel, row.bucket, returning)
        #: Agents without room that are not among the blockers.
        self.more_agents = 0

    def blockers(self) -> list[Blocker]:
        """
        What keeps the task from starting; nothing, if only its turn does.

        Raises:
            PolicyFault: A policy failed that was asked.
        """
        kernel, bucket = self._kernel, self._bucket
        found: list[Blocker] = []
        if kernel.paused:
            found.append(self._paused)
        if bucket.agents_version != kernel.agents_version:
            match(kernel, bucket, self._row, self._now)
        agents = bucket.agents or bucket.matching
        need = bucket.spec.resources
        # The shortages of pools that are the same for every agent.
        shared = self._pools(need, None) if need and kernel.rigid else []
        if not agents:
            shared = [one for one in self._pools(need, None) if one.counts(kernel)]
        # Which attempts come first that wait to go on, may depend on the agent.
        slots = [self._slots(agent) for agent in agents] or [self._slots(None)]
        if slots.count(slots[0]) == len(slots):
            found += [self._words.slots(missing) for missing in slots[:1] if missing]
            slots = [0] * len(agents)
        found += self._veto()
        if not agents:
            found.append(self._words.nobody())
        found += self._on_any(agents, slots)
        found += map(self._words.blocker, shared)
        return found

    def impossible(self) -> list[Blocker]:
        """What keeps the task from ever starting; of a task that no agent can do."""
        agents = self._bucket.matching
        need = self._bucket.spec.resources
        shorts = [one for agent in agents for one in self._on(agent)]
        shorts += self._pools(need, None)
        found = [] if agents else [self._words.nobody()]
        return found + [
            self._words.blocker(one)
            for one in shorts
            if one.kind == "lost" or one.most is not None
        ]

    def _on_any(self, agents: list[AgentRow], slots: list[int]) -> list[Blocker]:
        """What keeps the task from running on *agents*, unless one has room."""
        ways = []
        for agent, missing in zip(agents, slots, strict=True):
            short = self._on(agent)
            if missing:
                short.insert(0, Short("slot", "", 1, 0, agent, missing=missing))
            if not short:
                return []
            ways.append(short)
        # Those that lack least; of equals, the first.
        ways.sort(key=len)
        self.more_agents = max(0, len(ways) - _MOST_AGENTS)
        return [self._words.blocker(one) for way in ways[:_MOST_AGENTS] for one in way]

    # -- questions -----------------------------------------------------------------

    def _veto(self) -> list[Blocker]:
        kernel, row = self._kernel, self._row
        veto = None if row.extra is None else row.extra.veto or None
        if veto is None:
            veto = vetoed(
                kernel,
                row,
                TaskState.QUEUED,
                TaskState.RUNNING,
                "dispatched",
                self._now,
            )
        if veto is None:
            return []
        why = veto or "no reason given"
        detail = f"The state machine does not let it start: {why}."
        words = (
            "The state machine must allow it; it is asked whenever something changes."
        )
        remedy = Remedy("policy", words, name="state_machine")
        return [Blocker("veto", detail, remedies=(remedy,))]

    def _slots(self, agent: AgentRow | None) -> int:
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

    def _on(self, agent: AgentRow) -> list[Short]:
        """What keeps the task from running on *agent*, but for what is shared."""
        kernel, bucket = self._kernel, self._bucket
        found: list[Short] = []
        if agent.lost:
            found.append(Short("lost", agent.name, 0, 0, agent))
        free = agent.limit - agent.running - self._ahead[agent]
        if free < 1:
            found.append(Short("agent", "", 1, 0, agent, missing=1 - free))
        need = _books.wanted(bucket, agent)
        for name, units in need:
            if name in agent.capacity:
                total, used = agent.capacity[name], agent.used.get(name, 0)
                found += of_one("agent", name, units, total, used, agent)
            elif name not in kernel.pools:
                found.append(Short("resource", name, units, 0, agent, most=0))
        pools = self._pools(need, agent)
        if not kernel.rigid:
            # The allocator may grant less than is asked, so only its answer counts.
            found += [one for one in pools if one.counts(kernel)]
            return found + self._refusal(agent, need, others=bool(found))
        if not bucket.spec.resources:
            found += pools
        # A rigid allocator grants all that fits, so it is asked only if everything
        # fits.
        return found if found or pools else self._refusal(agent, need, others=False)

    def _pools(self, need: Units, agent: AgentRow | None) -> list[Short]:
        """The pools that have too little, or are too small."""
        pools = self._kernel.pools
        return [
            short
            for name, units in need
            if name in pools
            for short in of_one(
                "resource", name, units, pools[name].total, pools[name].used, agent
            )
        ]

    def _refusal(self, agent: AgentRow, need: Units, *, others: bool) -> list[Short]:
        """
        Why the allocator grants nothing on *agent*, if it does not.

        Args:
            agent: Where.
            need: What the task takes there.
            others: Whether anything else keeps it from running there.
        """
        kernel, bucket = self._kernel, self._bucket
        if bucket.route is agent and bucket.route_version == kernel.agents_version:
            # The router's answer was reusable, so it is not asked.
            return []
        pooled = in_pools(kernel, need)
        refusal = self._ask(agent, pooled)
        if refusal is None:
            # If it has changed its mind, it is asked when something changes.
            known = "" if others or self._row is not bucket.head() else bucket.refusal
            if known and not any(place.has_room() for place in bucket.parked or ()):
                return [Short("allocator", "", 0, 0, agent, reason=known)]
            return []
        short = [one for one in self._pools(pooled, agent) if one.most is None]
        if short:
            refusal = self._ask(agent, pooled, short)
        if refusal is not None:
            return [Short("allocator", "", 0, 0, agent, reason=refusal)]
        # Of these pools, those without which it would refuse all the same.
        for one in list(short):
            rest = [other for other in short if other is not one]
            if self._ask(agent, pooled, rest) is None:
                short = rest
        return short

    def _ask(
        self, agent: AgentRow, pooled: Units, freed: Sequence[Short] = ()
    ) -> str | None:
        """Why the allocator refuses, if as much were free as *freed* lack; or None."""
        kernel = self._kernel
        for one in freed:
            kernel.pools[one.name].used -= one.missing
        try:
            granted, why, _ = kernel.deciders.allocate(
                self._row, agent, pooled, self._now
            )
        finally:
            for one in freed:
                kernel.pools[one.name].used += one.missing
        return None if granted is not None else why or "no reason given"
