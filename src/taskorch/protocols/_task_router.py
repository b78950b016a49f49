"""Which of the agents that could do a task does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from taskorch._base.frozen import frozen
from taskorch.model import Task
from taskorch.protocols._context import AgentView, Context
from taskorch.protocols._reuse import Reuse


@frozen
class Route:
    """
    The answer of a TaskRouter.

    Attributes:
        agent: The name of one of the candidates.
        reason: Why this one; `explain` shows it.
        reusable: Whether it holds for every like task while the same agents are
            candidates.
    """

    agent: str
    reason: str = ""
    reusable: Reuse = False


@runtime_checkable
class TaskRouter(Protocol):
    """
    Protocol: chooses an agent.

    It is asked under the orchestrator's lock: it must be fast and do no I/O. It may
    have what `WaitsForBetter` and, if it learns, `Learns` say.

    Laws:
        1. The agent of the answer is one of *candidates*.
        2. Randomness comes from `context.random` only: the same seed and the same
           questions give the same answers.
        3. It changes none of its arguments.
    """

    def route(
        self, task: Task, candidates: Sequence[AgentView], context: Context
    ) -> Route:
        """
        The agent that runs the next attempt of *task*.

        Args:
            task: The task that is to start.
            candidates: The agents that match it and have room for it now; never
                empty.
            context: What else is known.
        """
        ...
