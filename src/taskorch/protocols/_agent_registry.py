"""Which agents can do a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from taskorch._base.frozen import frozen
from taskorch.model import Task
from taskorch.protocols._context import AgentView, Context
from taskorch.protocols._reuse import Reuse


@frozen
class Match:
    """
    The answer of an AgentRegistry.

    Attributes:
        agents: Names of the agents that can do the task.
        reason: Why these, or why none.
        reusable: Whether it holds for every task with the same type, requirements and
            resources, for as long as no agent joins or leaves.
    """

    agents: tuple[str, ...]
    reason: str = ""
    reusable: Reuse = False


@runtime_checkable
class AgentRegistry(Protocol):
    """
    Protocol: says which agents match a task.

    It is asked under the orchestrator's lock: it must be fast and do no I/O.

    Laws:
        1. Only names of *agents* are returned, each once.
        2. The answer does not depend on how busy the agents are: an agent that is
           full now still matches.
        3. It is a function of task, agents and context: asked twice, it says the
           same.
        4. It changes none of its arguments.
    """

    def matches(
        self, task: Task, agents: Sequence[AgentView], context: Context
    ) -> Match:
        """The agents, of all *agents*, that can do *task*."""
        ...
