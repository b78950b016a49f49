"""What is short, as values and in words: what `explain` makes of the answers."""

from __future__ import annotations

import attrs

from taskorch.kernel import _books
from taskorch.kernel._explain._holders import NAMED, Held, Holders, enough
from taskorch.kernel._rows import AgentRow, Bucket, TaskRow
from taskorch.kernel._state import KernelState
from taskorch.model import Blocker, Remedy, Resources, Units
from taskorch.model._explanation import some


@attrs.frozen
class Short:
    """Something that is short, or too small: what a blocker is made of."""

    kind: str
    name: str
    need: int
    have: int
    agent: AgentRow | None = None
    #: The most that there is, where that is too little: nobody's end helps.
    most: int | None = None
    #: What is to be freed; it is more than `need - have` where others come first.
    missing: int = 0
    reason: str = ""

    def counts(self, kernel: KernelState) -> bool:
        """Whether it keeps a task, whatever the allocator might be content with."""
        return kernel.rigid or self.most is not None


def of_one(
    kind: str, name: str, need: int, total: int, used: int, agent: AgentRow | None
) -> list[Short]:
    """What is wrong with one resource: too small, and then, too little is free."""
    found = []
    if total < need:
        found.append(Short(kind, name, need, total, agent, most=total))
        total = need
    free = total - used
    if free < need:
        found.append(Short(kind, name, need, free, agent, missing=need - free))
    return found


class Words:
    """
    Makes blockers of what is short for the tasks of one bucket.

    Args:
        kernel: The state.
        bucket: Like tasks.
        returning: Attempts that wait to have their slot again.
    """

    def __init__(
        self, kernel: KernelState, bucket: Bucket, returning: list[TaskRow]
    ) -> None:
        self._kernel = kernel
        self._bucket = bucket
        self._returning = returning
        self._holders = Holders(kernel)

    def nobody(self) -> Blocker:
        """No agent matches."""
        bucket = self._bucket
        reason = f": {bucket.match_reason}" if bucket.match_reason else ""
        detail = f"No agent can do it{reason}."
        needs = bucket.spec.requires or ()
        return Blocker(
            "capability", detail, ", ".join(needs), remedies=(self._another(),)
        )

    def _another(self) -> Remedy:
        """An agent more, that can do the task."""
        spec = self._bucket.spec
        needs = spec.requires or ()
        pools = self._kernel.pools
        own = any(name not in pools for name, _ in spec.resources)
        resources = Resources.from_units(spec.resources if own else ())
        room = f" and a capacity of {_shown(resources.units)}" if own else ""
        return Remedy(
            "add_agent",
            f"Add an agent{_skilled(needs)}{room}, by @orch.agent(…).",
            capabilities=needs,
            resources=resources,
        )

    def blocker(self, short: Short) -> Blocker:
        """What is short as a blocker."""
        if short.kind == "slot":
            return self.slots(short.missing, _name(short.agent))
        if short.kind == "lost":
            return self._lost_blocker(short)
        if short.kind == "allocator":
            return self._allocator_blocker(short)
        if short.most is not None:
            return self._small_blocker(short)
        if short.kind == "agent" and not short.name:
            return self._agent_blocker(short)
        return self._resource_blocker(short)

    def slots(self, missing: int, agent: str = "") -> Blocker:
        """So many slots of the orchestrator are missing, if *agent* is to do it."""
        kernel = self._kernel
        # A slot that is freed may go to an attempt that waits to go on, on that agent.
        ends = 1 + len(self._returning) + kernel.running - kernel.concurrency
        ends = max(missing, ends)
        held = self._holders.of_slots(ends) + self._first()
        detail = (
            f"All {kernel.concurrency} slots are taken "
            f"(concurrency={kernel.concurrency})."
        )
        if kernel.running < kernel.concurrency:
            detail = "Attempts that wait to go on take all slots that are free."
        more = kernel.concurrency + missing
        remedies = (
            *_free("slots", ends, held),
            Remedy(
                "raise_concurrency",
                f"Allow more in the next run: TaskOrchestrator(concurrency={more}).",
                amount=more,
            ),
        )
        if kernel.concurrency < kernel.config.concurrency:
            # To allow more would change nothing.
            detail = (
                f"The system has room for {kernel.concurrency} attempts at once, of "
                f"{kernel.config.concurrency} that may run: see health()."
            )
            remedies = remedies[:-1]
        return Blocker(
            "slot",
            detail,
            "concurrency",
            1,
            0,
            _names(held),
            agent=agent,
            remedies=remedies,
        )

    def _first(self, agent: AgentRow | None = None) -> Held:
        """The attempts that wait to have their slot again, as its holders."""
        return [
            (row.id, 1)
            for row in self._returning
            if agent is None or row.agent is agent
        ]

    def _lost_blocker(self, short: Short) -> Blocker:
        name = short.name
        back = Remedy(
            "agent_back",
            f"Agent {name} must give a sign of life, or join again.",
            name=name,
        )
        detail = f"Agent {name} is lost: it is to be heard of again first."
        return Blocker(
            "agent", detail, name, agent=name, remedies=(back, *self._others())
        )

    def _allocator_blocker(self, short: Short) -> Blocker:
        words = "The allocator must grant it; it is asked whenever something changes."
        policy = Remedy("policy", words, name="allocator")
        detail = f"The allocator puts it off: {short.reason}."
        name = _name(short.agent)
        return Blocker("allocator", detail, agent=name, remedies=(policy,))

    def _small_blocker(self, short: Short) -> Blocker:
        most = short.most or 0
        on_agent = short.kind == "agent"
        where = "in any pool"
        if on_agent:
            where = f"on agent {_name(short.agent)}"
        elif short.name in self._kernel.pools:
            where = "in the pool"
        detail = (
            f"It asks for {short.need / 1e6:g} {short.name}, and the most there is, "
            f"{where}, is {most / 1e6:g}."
        )
        enlarge = _enlarge(short.name, short.need)
        remedies = self._larger(short) if on_agent else (enlarge,)
        return Blocker(
            "resource",
            detail,
            short.name,
            short.need / 1e6,
            most / 1e6,
            agent=_name(short.agent),
            remedies=remedies,
        )

    def _larger(self, short: Short) -> tuple[Remedy, ...]:
        """An agent like this one, that is large enough."""
        agent = short.agent
        assert agent is not None  # noqa: S101 - the capacity is its own
        need = _books.wanted(self._bucket, agent)
        needs = self._bucket.spec.requires or ()
        room = f" and a capacity of {_shown(need)}"
        words = f"Add an agent{_skilled(needs)}{room}, by @orch.agent(…)."
        resources = Resources.from_units(need)
        return (Remedy("add_agent", words, capabilities=needs, resources=resources),)

    def _others(self) -> tuple[Remedy, ...]:
        """Where the registry goes by capabilities, an agent more is a way out."""
        return () if self._bucket.spec.requires is None else (self._another(),)

    def _agent_blocker(self, short: Short) -> Blocker:
        agent = short.agent
        assert agent is not None  # noqa: S101 - the slots are its own
        held = self._holders.of_slots(short.missing, agent) + self._first(agent)
        detail = f"Agent {agent.name} runs {agent.running} of {agent.limit} already."
        if agent.running < agent.limit:
            detail = (
                f"Attempts that wait to go on take the slots of agent {agent.name}."
            )
        return Blocker(
            "agent",
            detail,
            agent.name,
            1,
            0,
            _names(held),
            agent=agent.name,
            remedies=(*_free("slots", short.missing, held), *self._others()),
        )

    def _resource_blocker(self, short: Short) -> Blocker:
        agent, name = short.agent, short.name
        need, have = short.need / 1e6, short.have / 1e6
        if short.kind == "agent":
            assert agent is not None  # noqa: S101 - the capacity is its own
            held = self._holders.of(name, short.missing, agent)
            detail = (
                f"It needs {need:g} {name}, and agent {agent.name} has {have:g} free."
            )
            return Blocker(
                "agent",
                detail,
                agent.name,
                need,
                have,
                _names(held),
                resource=name,
                agent=agent.name,
                remedies=(*_free(name, short.missing, held), *self._others()),
            )
        held = self._holders.of(name, short.missing)
        pool = self._kernel.pools[name]
        total = max(pool.total, short.need)
        detail = f"It needs {need:g} {name}, and {have:g} of {total / 1e6:g} is free."
        remedies = (
            *_free(name, short.missing, held),
            _enlarge(name, total + short.missing),
        )
        return Blocker(
            "resource",
            detail,
            name,
            need,
            have,
            _names(held),
            agent=_name(agent),
            remedies=remedies,
        )


def _free(name: str, units: int, held: Held) -> tuple[Remedy, ...]:
    """The end of those who hold enough of it."""
    ends = enough(held, units)
    if sum(many for _, many in held) < units:
        # Not all that hold it were found.
        return ()
    if name == "slots" and units == 1 and len(held) > 1:
        words = f"It is enough that one of {some(_names(held))} ends."
    else:
        words = f"It is enough that {some(ends)} end{'s' * (len(ends) == 1)}."
    amount = units if name == "slots" else units / 1e6
    return (Remedy("free", words, ends, name, amount),)


def _enlarge(name: str, units: int) -> Remedy:
    amount = units / 1e6
    words = (
        "Let there be more in the next run: "
        f"TaskOrchestrator(resources=Resources({name}={amount:g}, …))."
    )
    return Remedy("enlarge_pool", words, name=name, amount=amount)


def _names(held: Held) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name, _ in held[:NAMED]))


def _skilled(needs: tuple[str, ...]) -> str:
    if not needs:
        return " of any kind, with any capabilities"
    return f" with capabilities={{{', '.join(map(repr, needs))}}}"


def _name(agent: AgentRow | None) -> str:
    return "" if agent is None else agent.name


def _shown(units: Units) -> str:
    return ", ".join(f"{many / 1e6:g} {name}" for name, many in units)
