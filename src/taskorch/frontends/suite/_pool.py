"""The agents of a suite where there are as many as there is work for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final, TypeAlias

import attrs

from taskorch.frontends.suite._model import Suite
from taskorch.model import AgentTemplate
from taskorch.policies import AgentPool
from taskorch.policies._agent_pool import Spawn

#: Seconds between two looks.
_LOOK: Final = 1.0
#: Adds an agent, by its name.
Add: TypeAlias = Callable[[str], object]


@attrs.frozen
class _Another:
    """Command: there is one agent more."""

    name: str
    add: Add

    def apply(self, orchestrator: Any, /) -> object:
        """Do it."""
        del orchestrator
        return self.add(self.name)


class SuitePool(AgentPool):
    """
    A driver: adds agents of this process, and lets them go.

    Args:
        suite: The suite: its limits say how many there may be.
        most: How many there are at the most: no more than it has tasks.
        names: How their ids are made.
        kinds: What they can do.
        add: Adds one.
    """

    def __init__(
        self, suite: Suite, most: int, names: str, kinds: Collection[str], add: Add
    ) -> None:
        limits = suite.limits
        super().__init__(
            AgentTemplate("agent", names=names),
            min_agents=min(limits.min_agents, most),
            max_agents=most,
            scale_up_threshold=limits.scale_up,
            scale_down_threshold=limits.scale_down,
            settle=limits.settle,
            interval=_LOOK,
        )
        # Classes of tests may have names that no template could name.
        self._names = frozenset(kinds)
        self._add = add

    def tick(self, view: Any, now: float) -> tuple[list[Any], float | None]:
        """See `AgentPool.tick`."""
        commands, again = super().tick(view, now)
        return [self._command(one) for one in commands], again

    def _command(self, command: Any) -> Any:
        if isinstance(command, Spawn):
            return _Another(command.agent_id, self._add)
        return command
