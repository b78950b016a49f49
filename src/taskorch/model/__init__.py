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
from taskorch.model._agent import AGENT_KINDS as AGENT_KINDS
from taskorch.model._agent import CODING_TYPES as CODING_TYPES
from taskorch.model._agent import Agent as Agent
from taskorch.model._agent import AgentHealth as AgentHealth
from taskorch.model._agent import AgentInstance as AgentInstance
from taskorch.model._agent import AgentMatch as AgentMatch
from taskorch.model._agent import AgentState as AgentState
from taskorch.model._agent import AgentTemplate as AgentTemplate
from taskorch.model._agent import Breaker as Breaker
from taskorch.model._agent import Capability as Capability
from taskorch.model._agent import Performance as Performance
from taskorch.model._agent import ScalingDecision as ScalingDecision
from taskorch.model._agent import check_breaker as check_breaker
from taskorch.model._agent import check_capabilities as check_capabilities
from taskorch.model._agent import check_labels as check_labels
from taskorch.model._agent import is_able as is_able
from taskorch.model._agent import is_label as is_label
from taskorch.model._agent import level_names as level_names
from taskorch.model._agent import levels_had as levels_had
from taskorch.model._agent import levels_of as levels_of
from taskorch.model._arguments import Reference as Reference
from taskorch.model._arguments import may_refer as may_refer
from taskorch.model._arguments import references as references
from taskorch.model._arguments import refuse_in as refuse_in
from taskorch.model._arguments import replaced as replaced
from taskorch.model._cache import Cache as Cache
from taskorch.model._cache import Retention as Retention
from taskorch.model._made_for import MadeFor as MadeFor
from taskorch.model._made_for import inherited as inherited
from taskorch.model._missing import Missing as Missing
from taskorch.model._program import DEFAULT_ENV as DEFAULT_ENV
from taskorch.model._program import LIMITS as LIMITS
from taskorch.model._program import OUR_VARIABLES as OUR_VARIABLES
from taskorch.model._program import Enforce as Enforce
from taskorch.model._program import InheritEnv as InheritEnv
from taskorch.model._program import Program as Program
from taskorch.model._program import ProgramResult as ProgramResult
from taskorch.model._program import ProgramVariables as ProgramVariables
from taskorch.model._question import ANSWER_TO as ANSWER_TO
from taskorch.model._question import APPROVAL_OF as APPROVAL_OF
from taskorch.model._question import RAISE as RAISE
from taskorch.model._question import Answer as Answer
from taskorch.model._question import Escalation as Escalation
from taskorch.model._question import OpenQuestion as OpenQuestion
from taskorch.model._question import Question as Question
from taskorch.model._question import Wait as Wait
from taskorch.model._question import asked_of as asked_of
from taskorch.model._question import check_emitted as check_emitted
from taskorch.model._question import check_event as check_event
from taskorch.model._question import is_for_people as is_for_people
from taskorch.model._question import question_of as question_of
from taskorch.model._question import to_question as to_question
from taskorch.model._quota import BURST as BURST
from taskorch.model._quota import SOFT as SOFT
from taskorch.model._quota import STARTS as STARTS
from taskorch.model._quota import TASKS as TASKS
from taskorch.model._quota import BudgetUsage as BudgetUsage
from taskorch.model._quota import PoolUsage as PoolUsage
from taskorch.model._quota import Quota as Quota
from taskorch.model._quota import QuotaUsage as QuotaUsage
from taskorch.model._resources import FALLBACKS as FALLBACKS
from taskorch.model._resources import Elastic as Elastic
from taskorch.model._resources import Elasticity as Elasticity
from taskorch.model._resources import Fallback as Fallback
from taskorch.model._resources import HeldUnits as HeldUnits
from taskorch.model._resources import NamedUnits as NamedUnits
from taskorch.model._resources import Resources as Resources
from taskorch.model._resources import UnitNames as UnitNames
from taskorch.model._resources import Units as Units
from taskorch.model._resources import elasticity_of as elasticity_of
from taskorch.model._resources import requested as requested
from taskorch.model._resources import to_units as to_units
from taskorch.model._resources import units_in as units_in
from taskorch.model._resources import units_spent as units_spent
from taskorch.model._retry_policy import RetryPolicy as RetryPolicy
from taskorch.model._states import JOINS as JOINS
from taskorch.model._states import ON_PARENT_FAILURE as ON_PARENT_FAILURE
from taskorch.model._states import TERMINAL as TERMINAL
from taskorch.model._states import AtLeast as AtLeast
from taskorch.model._states import Join as Join
from taskorch.model._states import OnParentFailure as OnParentFailure
from taskorch.model._states import TaskState as TaskState
from taskorch.model._status import SEVERITIES as SEVERITIES
from taskorch.model._status import AgentStats as AgentStats
from taskorch.model._status import Durations as Durations
from taskorch.model._status import FailedRun as FailedRun
from taskorch.model._status import FailureCause as FailureCause
from taskorch.model._status import Health as Health
from taskorch.model._status import HealthCheck as HealthCheck
from taskorch.model._status import HistoryEntry as HistoryEntry
from taskorch.model._status import PoolStats as PoolStats
from taskorch.model._status import QueueStats as QueueStats
from taskorch.model._status import RecoveryAttempt as RecoveryAttempt
from taskorch.model._status import RetryStats as RetryStats
from taskorch.model._status import StateStats as StateStats
from taskorch.model._status import Stats as Stats
from taskorch.model._status import StopReport as StopReport
from taskorch.model._status import TaskStatus as TaskStatus
from taskorch.model._status import TypeStats as TypeStats
from taskorch.model._status import Unfinished as Unfinished
from taskorch.model._status import quantile as quantile
from taskorch.model._task import LOCAL as LOCAL
from taskorch.model._task import NO_RESOURCES as NO_RESOURCES
from taskorch.model._task import NO_RETRY as NO_RETRY
from taskorch.model._task import OPTIONS as OPTIONS
from taskorch.model._task import Call as Call
from taskorch.model._task import FilterFields as FilterFields
from taskorch.model._task import Task as Task
from taskorch.model._task import TaskOptions as TaskOptions
from taskorch.model._task import UntimedOptions as UntimedOptions
from taskorch.model._task import call_of as call_of
from taskorch.model._task import call_type as call_type
from taskorch.model._task import is_plain as is_plain
from taskorch.model._task import kind_of as kind_of
from taskorch.model._task import named as named
from taskorch.model._task import plain_but as plain_but
from taskorch.model._task import task_of_call as task_of_call
from taskorch.model.scopes import EVERYTHING as EVERYTHING
from taskorch.model.scopes import above_of as above_of
from taskorch.model.scopes import lock_of as lock_of
from taskorch.model.scopes import prefix_of as prefix_of
from taskorch.model.scopes import prefixes_of as prefixes_of
from taskorch.model.scopes import scope_problem as scope_problem
from taskorch.model.scopes import scopes_overlap as scopes_overlap

if TYPE_CHECKING:
    from taskorch.model._explanation import Blocker as Blocker
    from taskorch.model._explanation import Estimate as Estimate
    from taskorch.model._explanation import Explanation as Explanation
    from taskorch.model._explanation import Remedy as Remedy
    from taskorch.model._explanation import Stuck as Stuck
    from taskorch.model._filter import TaskFilter as TaskFilter
    from taskorch.model._log import TaskLog as TaskLog
    from taskorch.model._promise import EndChange as EndChange
    from taskorch.model._promise import InTime as InTime
    from taskorch.model._promise import Promise as Promise
    from taskorch.model._promise import TimelyChange as TimelyChange
    from taskorch.model._promise import WhatIf as WhatIf

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

    def __getattr__(name: str) -> object:
        return _load_late(__name__, _LATE, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
