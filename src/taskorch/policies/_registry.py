"""Which agents can do a task: those that have what it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskorch.policies._words import count
from taskorch.protocols import AgentView, Context, Match

if TYPE_CHECKING:
    from taskorch.model import Task


class CapabilityRegistry:
    """
    The AgentRegistry that matches capabilities by name.

    An agent matches if it has every capability of `task.requires`; a task that says
    nothing needs one, its type. An empty `requires` is matched by every agent. The
    agents keep the order in which they joined.

    Where nobody matches, the reason names what no agent has or, if each capability is
    to be found somewhere, the agent that lacks the fewest and what it lacks.
    """

    def matches(
        self, task: Task, agents: Sequence[AgentView], context: Context
    ) -> Match:
        """The agents, of all *agents*, that have what *task* needs."""
        needs = needs_of(task)
        names = tuple(
            agent.name
            for agent in agents
            if all(need in agent.capabilities for need in needs)
        )
        if names:
            reason = (
                f"{len(names):,} of {count(len(agents), 'agent')} can do {named(needs)}"
            )
        else:
            reason = _missing(needs, agents)
        return Match(names, reason, reusable=CapabilityRegistry)

    def __repr__(self) -> str:
        return "CapabilityRegistry()"


def _missing(needs: Sequence[str], agents: Sequence[AgentView]) -> str:
    if not agents:
        return "there is no agent"
    offered = {capability for agent in agents for capability in agent.capabilities}
    unknown = [need for need in needs if need not in offered]
    if unknown:
        return f"no agent can do {named(unknown)}"
    lacks = [
        (agent.name, [need for need in needs if need not in agent.capabilities])
        for agent in agents
    ]
    name, lacking = min(lacks, key=lambda lack: len(lack[1]))
    return f"no agent can do all of {named(needs)}; {name} lacks {named(lacking)}"


def needs_of(task: Task) -> list[str]:
    """What an agent must be able to do for *task*."""
    capabilities = (task.type,) if task.requires is None else task.requires
    # Sorted, since the order of a set differs from run to run.
    return sorted(set(capabilities))


def named(names: Sequence[str]) -> str:
    """The capabilities *names*, in a reason."""
    return ", ".join(map(repr, names)) or "what needs no capability"
