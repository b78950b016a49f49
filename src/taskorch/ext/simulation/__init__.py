"""
The kernel in virtual time: forecasts of plans, and tests of the code under faults.

1. Nothing reads a clock, and nothing waits: an hour passes in an instant.
2. The same seed gives the same run, in any process and under any `PYTHONHASHSEED`.
3. The world is perfect. All faults come from outside, through `Nature`.
4. Only the world is simulated: kernel, policies, submission and commits are the real
   ones.
5. `_plans` simulates plans for `simulate`, without a world and without faults. Checkers
   and explorers are in `testing`, never here.

- `_world`: everything around an orchestrator, and the passing of time.
- `_clockwork`: virtual time, and the one driver of a kernel in it: an incarnation and a
  run of a forecast are both driven by it.
- `_life`: one incarnation of an orchestrator, from its start to its end, or crash.
- `_nature`: the faults of the world: by default, none.
- `_agents`: agents that do simulated work.
- `_attempts`, `_run`: attempts as executors have them, and as agents do.
- `_hosting`: a runtime for `orch.workflows`, in virtual time.
- `_journal`: a journal that survives a crash.
- `_open`: forecasts for work that has been submitted.
- `_plans`: forecasts for plans, without a world and without faults.
"""

from taskorch.ext.simulation._journal import SimulatedJournal as SimulatedJournal
from taskorch.ext.simulation._life import Setup as Setup
from taskorch.ext.simulation._nature import Fate as Fate, Nature as Nature
from taskorch.ext.simulation._run import (
    Attempt as Attempt,
    Outcome as Outcome,
    What as What,
)
from taskorch.ext.simulation._world import World as World
