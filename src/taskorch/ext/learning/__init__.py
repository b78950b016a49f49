"""
Policies that learn from reward which of several policies does best.

    router = Learned([LeastLoadedRouter(), PerformanceRouter()])
    orch = TaskOrchestrator(router=router)

The arms of a bandit are policies that exist, so nothing worse is done than one of them
would do. What is learnt is a projection of the events: deleting it changes no task.

- `_arms`: arms in contexts: which is chosen, so that a floor holds; what came of each.
- `_learner`: what learns of them: from events, of this incarnation and earlier, and
  snapshots.
- `_bandits`: which of a few arms is pulled next, by the rewards of earlier pulls;
  the one that looks at features.
- `_estimates`: what events say of choices and rewards, and what others would bring.
- `_learned`: a router, a queue, an allocator and a value, each with one that learns.
"""

from __future__ import annotations

from taskorch.ext.learning._arms import Chosen, Learning
from taskorch.ext.learning._bandits import (
    UCB1,
    Bandit,
    LinUCB,
    Thompson,
)
from taskorch.ext.learning._estimates import Value, off_policy
from taskorch.ext.learning._learned import (
    Learned,
    LearnedAllocator,
    LearnedQueue,
    LearnedRouter,
    LearnedValue,
)
from taskorch.ext.learning._learner import SNAPSHOTS, Learner

__all__ = (
    "SNAPSHOTS",
    "UCB1",
    "Bandit",
    "Chosen",
    "Learned",
    "LearnedAllocator",
    "LearnedQueue",
    "LearnedRouter",
    "LearnedValue",
    "Learner",
    "Learning",
    "LinUCB",
    "Thompson",
    "Value",
    "off_policy",
)
