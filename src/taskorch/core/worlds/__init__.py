"""
What drives the core in virtual time: forecasts stand on it, and tests under faults.

1. Nothing reads a clock, and nothing waits: an hour passes in an instant.
2. The same seed gives the same run, in any process and under any `PYTHONHASHSEED`.
3. The world is perfect. All faults come from outside, through `Nature`.
4. Only the world is simulated: kernel, policies, submission and commits are the real
   ones.
5. Checkers and explorers are in `testing`, never here.

- `_plan`: tasks that nobody has submitted, and the means to carry them out.
- `_course`: one run of a plan: its tasks in a kernel, with durations alone.
- `_world`: everything around an orchestrator, and the passing of time.
- `_clockwork`: virtual time, and the one driver of a kernel in it: an incarnation and a
  run of a forecast are both driven by it.
- `_incarnation`: one orchestrator, from its start to its end or crash.
- `_nature`: the faults of the world: by default, none.
- `_workers`: workers that do simulated work.
- `_attempts`, `_run`: attempts as executors have them, and as workers do.
- `_hosting`: a runtime for `orch.workflows`, in virtual time.
- `_journal`: a journal that survives a crash.

Decision: simulation.
"""

from taskorch.core.worlds._course import (
    Course as Course,
    Ending as Ending,
    PlanDeciders as PlanDeciders,
    PlanRun as PlanRun,
)
from taskorch.core.worlds._plan import (
    Means as Means,
    SimulatedPlan as SimulatedPlan,
    means_of as means_of,
    plan_of as plan_of,
    takes_no_time as takes_no_time,
)
