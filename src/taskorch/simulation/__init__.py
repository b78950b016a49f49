"""
The kernel in virtual time: what a plan would come to, and how the code stands faults.

1. Nothing reads a clock, and nothing waits: an hour passes in an instant.
2. The same seed gives the same run, in any process and under any `PYTHONHASHSEED`.
3. The world is perfect. What goes wrong in it comes from outside, through `Nature`.
4. What is simulated is the world: kernel, policies, submission and commits are those
   that run for real.
5. What `simulate` says of a plan is in `_plans`, which has no world and no faults. What
   checks or explores is in `testing`, never here.

- `_world`: what survives an orchestrator, and what time brings.
- `_life`: one life of an orchestrator, from its start to its end, or its crash.
- `_nature`: what the world does to us: by itself, nothing.
- `_agents`: agents that do simulated work.
- `_attempts`, `_run`: attempts as executors have them, and as agents do; virtual time.
- `_hosting`: what `orch.workflows` needs of a runtime, in virtual time.
- `_journal`: a journal that survives a crash.
- `_open`: when work that is open ends.
- `_plans`: what a plan would come to, without a world and without faults.
"""

from taskorch.simulation._journal import SimulatedJournal as SimulatedJournal
from taskorch.simulation._life import Setup as Setup
from taskorch.simulation._nature import Fate as Fate
from taskorch.simulation._nature import Nature as Nature
from taskorch.simulation._run import Attempt as Attempt
from taskorch.simulation._run import Outcome as Outcome
from taskorch.simulation._run import What as What
from taskorch.simulation._world import World as World
