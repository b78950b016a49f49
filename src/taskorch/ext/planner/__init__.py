"""
Planning: from a request to a workflow that is estimated and in a good order.

1. A plan holds a workflow that has not been started, and says an order and workers,
   never times: the kernel starts each task that can start.
2. The kernel knows nothing of plans, and learning changes no event.
3. Each of the five stages is a protocol of one method.
4. The same request, history and seed give the same plan, whatever the order of a set or
   of a hash. Only the time of a search can change it.
5. Nothing recurses, however deep a plan is.

- `_texts`: limits in texts of requests.
- `_planner`, `_stages`: `orch.planner`; the five stages, each a protocol with a
  default.
- `_values`, `_schemas`: requests and plans; their JSON Schemas.
- `_domain`, `_state`: the search for the steps of a task; the state between steps.
- `_patterns`: templates, and parts of recorded runs that come back.
- `_estimates`: estimates of the duration, memory and cost of tasks.
- `_learning`: choices that are learnt.
- `_ways`, `_feasibility`, `_waits`: the choice of a way that keeps all constraints;
  tests whether they can hold together; waits that keep them.
- `_problems`: from tasks to a problem of order, and back; plans of the same shape.
- `_scheduling`, `_job_shop`, `_open_shop`, `_solver`: orders and aims, in general; on
  one machine for each task; on several; by CP-SAT.
- `_orders`, `_timing`: the order of a plan; its simulation.
- `_bounds`, `_kept_plans`: checks of a request; the cache of plans.
- `_replanning`: the rest of a plan after some of it was done.
"""

from taskorch.ext.learning import Chosen as Chosen, off_policy as off_policy
from taskorch.ext.planner._domain import (
    Decomposition as Decomposition,
    Domain as Domain,
)
from taskorch.ext.planner._estimates import Estimator as Estimator
from taskorch.ext.planner._learning import Bandit as Bandit
from taskorch.ext.planner._patterns import Proposal as Proposal, Template as Template
from taskorch.ext.planner._planner import Planner as Planner
from taskorch.ext.planner._scheduling import Problem as Problem, Schedule as Schedule
from taskorch.ext.planner._schemas import (
    agent_schema as agent_schema,
    plan_schema as plan_schema,
    request_schema as request_schema,
    workflow_schema as workflow_schema,
)
from taskorch.ext.planner._stages import (
    DependencyResolver as DependencyResolver,
    Draft as Draft,
    Given as Given,
    InterferenceResolver as InterferenceResolver,
    LibraryDecomposer as LibraryDecomposer,
    PlanOptimizer as PlanOptimizer,
    PlanValidator as PlanValidator,
    RequestParser as RequestParser,
    RuleParser as RuleParser,
    SearchOptimizer as SearchOptimizer,
    SimulatedValidator as SimulatedValidator,
    TaskDecomposer as TaskDecomposer,
)
from taskorch.ext.planner._state import State as State
from taskorch.ext.planner._values import (
    Before as Before,
    Choice as Choice,
    Constraint as Constraint,
    Deadline as Deadline,
    Dependency as Dependency,
    DrawsOn as DrawsOn,
    ExecutionPlan as ExecutionPlan,
    MaxCost as MaxCost,
    MaxPeak as MaxPeak,
    PlanFinding as PlanFinding,
    PlannedTask as PlannedTask,
    Quantity as Quantity,
    ResourceEstimate as ResourceEstimate,
    ResourceRequirement as ResourceRequirement,
    TaskRequest as TaskRequest,
    ValidationResult as ValidationResult,
)
