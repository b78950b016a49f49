"""
Policies that learn from reward which of several policies does best.

    router = Learned([LeastLoadedRouter(), PerformanceRouter()])
    orch = TaskOrchestrator(router=router)

The arms of a bandit are policies that exist, so nothing worse is done than one of them
would do. What is learnt is a projection of the facts: deleting it changes no task.

- `_bandits`: which of a few arms is pulled next, by the rewards of earlier pulls.
- `_learned`: the policy that asks one of several policies, as the rewards say.
"""

from __future__ import annotations

from taskorch.adaptive._bandits import UCB1 as UCB1
from taskorch.adaptive._bandits import Bandit as Bandit
from taskorch.adaptive._bandits import LinUCB as LinUCB
from taskorch.adaptive._bandits import Thompson as Thompson
from taskorch.adaptive._learned import SNAPSHOTS as SNAPSHOTS
from taskorch.adaptive._learned import Learned as Learned
from taskorch.adaptive._learned import Learning as Learning
from taskorch.adaptive._learned import Value as Value

__all__ = (
    "SNAPSHOTS",
    "UCB1",
    "Bandit",
    "Learned",
    "Learning",
    "LinUCB",
    "Thompson",
    "Value",
)
