"""Which agent does it: the one with the least to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskorch.model import check_count
from taskorch.policies._words import count
from taskorch.protocols import AgentView, Context, Route

if TYPE_CHECKING:
    from taskorch.model import Task


class LeastLoadedRouter:
    """
    The TaskRouter that goes by load alone, and leaves nothing to chance.

    The load of an agent is the share of its slots that are busy. An agent without a
    limit is as busy as its share of all that those compared run. The least load is
    chosen; of equal ones the agent that runs least, then the one that joined first.

    With *choices*, so many candidates are drawn, all alike, and the least loaded of
    those is chosen; of equal ones the one drawn first. Two are enough to come close to
    the best balance, and that is the better rule where several orchestrators share
    their agents: each sees its own load only, and if all chose the least loaded, they
    would choose the same one. It takes no longer among thousands. Source:
    M. Mitzenmacher, *The Power of Two Choices in Randomized Load Balancing*, IEEE
    Transactions on Parallel and Distributed Systems 12 (10), 2001.

    A single candidate needs no decision, and the answer holds for all like tasks.

    Args:
        choices: How many candidates to compare, 1 or more; None compares all.

    Raises:
        InvalidTaskError: *choices* is no such number.
    """

    def __init__(self, *, choices: int | None = None) -> None:
        if choices is not None:
            check_count("choices", choices, least=1)
        self.choices = choices

    def route(
        self, task: Task, candidates: Sequence[AgentView], context: Context
    ) -> Route:
        """The agent that runs the next attempt of *task*."""
        if len(candidates) == 1:
            name = candidates[0].name
            return Route(name, "the only candidate", reusable=LeastLoadedRouter)
        total = count(len(candidates), "agent")
        compared, how = candidates, f"least of {total}"
        # A draw that is not needed would change all later ones of the same seed.
        if self.choices is not None and self.choices < len(candidates):
            places = context.random.sample(range(len(candidates)), self.choices)
            compared = [candidates[place] for place in places]
            how = f"least of {self.choices:,} drawn from {total}"
        running = sum(agent.running for agent in compared)

        def load(agent: AgentView) -> tuple[float, int]:
            # The attempt that is to start counts too, so that nothing divides by 0.
            limit = agent.max_concurrency
            slots = running + 1 if limit is None else limit
            return agent.running / slots, agent.running

        # Of equals `min` takes the first.
        agent = min(compared, key=load)
        limit = agent.max_concurrency
        slots = "without limit" if limit is None else f"of {limit:,}"
        return Route(agent.name, f"{agent.running:,} running {slots}; {how}")

    def __repr__(self) -> str:
        return f"LeastLoadedRouter(choices={self.choices!r})"
