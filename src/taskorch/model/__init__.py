"""
Frozen values: the input of users, and the answers that they get.

1. A value checks its own ranges where it is made; a `Task` is checked at submission.
2. No value knows of the kernel, of time, or of any I/O.
3. Durations are seconds (float) here, and whole nanoseconds below.

- `_task`: the task, with its options.
- `ids`: the form of ids, and functions that compose and parse them.
- `_program`, `_question`: payloads of tasks other than calls.
- `_retry_policy`, `_cache`: retries; the cache, and retention of ended tasks.
- `_resources`, `_quota`: amounts; quotas, and their use.
- `scopes`: paths that a task may write, and their overlap.
- `_agent`: workers, and their templates.
- `_states`: the states of a task, and joins.
- `_status`: the status of one task, and statistics of all.
- `_log`: the log and output of an attempt.
- `_explanation`: why a task does not run, or how it ended.
- `_promise`: predictions of an end.
- `_filter`: filters of tasks.
- `_arguments`: tasks among the arguments of other tasks.
- `_missing`, `_made_for`: stand-ins for missing objects; the tick of a task.
- `forms`: the form of task fields in documents.
"""

from typing import TYPE_CHECKING

from taskorch.kit import load_late as _load_late
from taskorch.model._agent import (
    AGENT_KINDS as AGENT_KINDS,
    CODING_TYPES as CODING_TYPES,
    Agent,
    AgentHealth,
    AgentInstance,
    AgentMatch,
    AgentState,
    AgentTemplate,
    Breaker,
    Capability,
    Performance,
    ScalingDecision,
    check_breaker as check_breaker,
    check_capabilities as check_capabilities,
    check_labels as check_labels,
    is_able as is_able,
    is_label as is_label,
    level_names as level_names,
    levels_had as levels_had,
    levels_of as levels_of,
)
from taskorch.model._arguments import (
    Reference,
    may_refer as may_refer,
    references as references,
    refuse_in as refuse_in,
    replaced as replaced,
)
from taskorch.model._cache import Cache, Retention
from taskorch.model._made_for import MadeFor as MadeFor, inherited as inherited
from taskorch.model._missing import Missing
from taskorch.model._program import (
    DEFAULT_ENV as DEFAULT_ENV,
    LIMITS as LIMITS,
    OUR_VARIABLES as OUR_VARIABLES,
    Enforce,
    InheritEnv,
    Program,
    ProgramResult,
    ProgramVariables as ProgramVariables,
)
from taskorch.model._question import (
    ANSWER_TO as ANSWER_TO,
    APPROVAL_OF as APPROVAL_OF,
    RAISE as RAISE,
    Answer,
    Escalation,
    OpenQuestion,
    Question,
    Wait,
    asked_of as asked_of,
    check_emitted as check_emitted,
    check_event as check_event,
    is_for_people as is_for_people,
    question_of as question_of,
    to_question as to_question,
)
from taskorch.model._quota import (
    BURST as BURST,
    SOFT as SOFT,
    STARTS as STARTS,
    TASKS as TASKS,
    BudgetUsage,
    PoolUsage,
    Quota,
    QuotaUsage,
)
from taskorch.model._resources import (
    FALLBACKS as FALLBACKS,
    Elastic,
    Elasticity,
    Fallback,
    HeldUnits,
    NamedUnits,
    Resources,
    UnitNames,
    Units,
    elasticity_of as elasticity_of,
    requested as requested,
    to_units as to_units,
    units_in as units_in,
    units_spent as units_spent,
)
from taskorch.model._retry_policy import RetryPolicy
from taskorch.model._states import (
    JOINS as JOINS,
    ON_PARENT_FAILURE as ON_PARENT_FAILURE,
    TERMINAL,
    AtLeast,
    Join,
    OnParentFailure,
    TaskState,
)
from taskorch.model._status import (
    SEVERITIES as SEVERITIES,
    AgentStats,
    Durations,
    FailedRun as FailedRun,
    FailureCause,
    Health,
    HealthCheck,
    HistoryEntry,
    PoolStats,
    QueueStats,
    RecoveryAttempt,
    RetryStats,
    StateStats,
    Stats,
    StopReport,
    TaskStatus,
    TypeStats,
    Unfinished,
    quantile as quantile,
)
from taskorch.model._task import (
    LOCAL as LOCAL,
    NO_RESOURCES,
    NO_RETRY as NO_RETRY,
    OPTIONS as OPTIONS,
    Call,
    FilterFields,
    Task,
    TaskOptions,
    UntimedOptions,
    call_of as call_of,
    call_type as call_type,
    is_plain as is_plain,
    kind_of as kind_of,
    named as named,
    plain_but as plain_but,
    submitted_as as submitted_as,
    task_of_call as task_of_call,
)
from taskorch.model.scopes import (
    EVERYTHING as EVERYTHING,
    above_of as above_of,
    lock_of as lock_of,
    prefix_of as prefix_of,
    prefixes_of as prefixes_of,
    scope_problem as scope_problem,
    scopes_overlap as scopes_overlap,
)

if TYPE_CHECKING:
    from taskorch.model._explanation import (
        Blocker as Blocker,
        Estimate as Estimate,
        Explanation as Explanation,
        Remedy as Remedy,
        Stuck as Stuck,
    )
    from taskorch.model._filter import TaskFilter as TaskFilter
    from taskorch.model._log import TaskLog as TaskLog
    from taskorch.model._promise import (
        EndChange as EndChange,
        InTime as InTime,
        Promise as Promise,
        TimelyChange as TimelyChange,
        WhatIf as WhatIf,
    )

#: The names that are loaded on first use, each with its module.
_LATE = {
    "Blocker": "_explanation",
    "EndChange": "_promise",
    "Estimate": "_explanation",
    "Explanation": "_explanation",
    "InTime": "_promise",
    "Promise": "_promise",
    "Remedy": "_explanation",
    "Stuck": "_explanation",
    "TaskFilter": "_filter",
    "TaskLog": "_log",
    "TimelyChange": "_promise",
    "WhatIf": "_promise",
}

__all__ = (
    "NO_RESOURCES",
    "TERMINAL",
    "Agent",
    "AgentHealth",
    "AgentInstance",
    "AgentMatch",
    "AgentState",
    "AgentStats",
    "AgentTemplate",
    "Answer",
    "AtLeast",
    "Blocker",
    "Breaker",
    "BudgetUsage",
    "Cache",
    "Call",
    "Capability",
    "Durations",
    "Elastic",
    "Elasticity",
    "EndChange",
    "Enforce",
    "Escalation",
    "Estimate",
    "Explanation",
    "FailureCause",
    "Fallback",
    "FilterFields",
    "Health",
    "HealthCheck",
    "HeldUnits",
    "HistoryEntry",
    "InTime",
    "InheritEnv",
    "Join",
    "Missing",
    "NamedUnits",
    "OnParentFailure",
    "OpenQuestion",
    "Performance",
    "PoolStats",
    "PoolUsage",
    "Program",
    "ProgramResult",
    "Promise",
    "Question",
    "QueueStats",
    "Quota",
    "QuotaUsage",
    "RecoveryAttempt",
    "Reference",
    "Remedy",
    "Resources",
    "Retention",
    "RetryPolicy",
    "RetryStats",
    "ScalingDecision",
    "StateStats",
    "Stats",
    "StopReport",
    "Stuck",
    "Task",
    "TaskFilter",
    "TaskLog",
    "TaskOptions",
    "TaskState",
    "TaskStatus",
    "TimelyChange",
    "TypeStats",
    "Unfinished",
    "UnitNames",
    "Units",
    "UntimedOptions",
    "Wait",
    "WhatIf",
)

if not TYPE_CHECKING:
    # Type checkers know the names from the imports above, and no others.
    __getattr__, __dir__ = _load_late(__name__, _LATE)
