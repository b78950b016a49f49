"""
taskorch: an orchestrator that you import.

    from taskorch import TaskOrchestrator

    with TaskOrchestrator() as orch:
        print(orch.submit(pow, 2, 10).result())

The names below are all there is; each is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskorch._decorators import task as task
    from taskorch._executor import TaskExecutor as TaskExecutor
    from taskorch._handles import TaskHandle as TaskHandle
    from taskorch._handles import as_completed as as_completed
    from taskorch._managers import WorkflowContext as WorkflowContext
    from taskorch._managers import WorkflowRun as WorkflowRun
    from taskorch._orchestrator import TaskOrchestrator as TaskOrchestrator
    from taskorch.errors import AttemptInterrupted as AttemptInterrupted
    from taskorch.errors import AttemptLostError as AttemptLostError
    from taskorch.errors import ComponentError as ComponentError
    from taskorch.errors import CycleError as CycleError
    from taskorch.errors import DependencyFailedError as DependencyFailedError
    from taskorch.errors import DuplicateTaskError as DuplicateTaskError
    from taskorch.errors import GateFailedError as GateFailedError
    from taskorch.errors import InternalError as InternalError
    from taskorch.errors import InvalidTaskError as InvalidTaskError
    from taskorch.errors import InvalidTransitionError as InvalidTransitionError
    from taskorch.errors import JournalError as JournalError
    from taskorch.errors import JournalTakenError as JournalTakenError
    from taskorch.errors import JournalUnavailableError as JournalUnavailableError
    from taskorch.errors import NotRunningError as NotRunningError
    from taskorch.errors import Permanent as Permanent
    from taskorch.errors import ProgramFailedError as ProgramFailedError
    from taskorch.errors import QueueFullError as QueueFullError
    from taskorch.errors import ReentryError as ReentryError
    from taskorch.errors import ResultGoneError as ResultGoneError
    from taskorch.errors import TaskCancelledError as TaskCancelledError
    from taskorch.errors import TaskExpiredError as TaskExpiredError
    from taskorch.errors import TaskFailedError as TaskFailedError
    from taskorch.errors import TaskFailure as TaskFailure
    from taskorch.errors import TaskorchError as TaskorchError
    from taskorch.errors import TaskTimeoutError as TaskTimeoutError
    from taskorch.errors import UnknownAgentError as UnknownAgentError
    from taskorch.errors import UnknownCapabilityError as UnknownCapabilityError
    from taskorch.errors import UnknownTaskError as UnknownTaskError
    from taskorch.errors import UnsatisfiableError as UnsatisfiableError
    from taskorch.errors import UnwantedResultError as UnwantedResultError
    from taskorch.errors import UsageError as UsageError
    from taskorch.errors import ValidationFailedError as ValidationFailedError
    from taskorch.errors import WorkflowFailedError as WorkflowFailedError
    from taskorch.errors import WouldBlockError as WouldBlockError
    from taskorch.errors import WouldDeadlockError as WouldDeadlockError
    from taskorch.events import AgentJoined as AgentJoined
    from taskorch.events import AgentLost as AgentLost
    from taskorch.events import AgentReturned as AgentReturned
    from taskorch.events import AttemptReturned as AttemptReturned
    from taskorch.events import AttemptStopping as AttemptStopping
    from taskorch.events import AttemptWaiting as AttemptWaiting
    from taskorch.events import ComponentFailed as ComponentFailed
    from taskorch.events import Event as Event
    from taskorch.events import EventEmitted as EventEmitted
    from taskorch.events import EventsLost as EventsLost
    from taskorch.events import HealthReported as HealthReported
    from taskorch.events import JournalDegraded as JournalDegraded
    from taskorch.events import JournalRestored as JournalRestored
    from taskorch.events import LateResultIgnored as LateResultIgnored
    from taskorch.events import OrchestratorStarted as OrchestratorStarted
    from taskorch.events import OrchestratorStopped as OrchestratorStopped
    from taskorch.events import PerformanceReported as PerformanceReported
    from taskorch.events import PolicySlow as PolicySlow
    from taskorch.events import ReceiverFailed as ReceiverFailed
    from taskorch.events import SlotLeaked as SlotLeaked
    from taskorch.events import SlotRecovered as SlotRecovered
    from taskorch.events import StatsReported as StatsReported
    from taskorch.events import TaskBlocked as TaskBlocked
    from taskorch.events import TaskCancelled as TaskCancelled
    from taskorch.events import TaskCheckpointed as TaskCheckpointed
    from taskorch.events import TaskCompleted as TaskCompleted
    from taskorch.events import TaskDue as TaskDue
    from taskorch.events import TaskEvent as TaskEvent
    from taskorch.events import TaskFailed as TaskFailed
    from taskorch.events import TaskOptionsChanged as TaskOptionsChanged
    from taskorch.events import TaskParentsAdded as TaskParentsAdded
    from taskorch.events import TaskProgressed as TaskProgressed
    from taskorch.events import TaskRecalled as TaskRecalled
    from taskorch.events import TaskRejected as TaskRejected
    from taskorch.events import TaskReleased as TaskReleased
    from taskorch.events import TaskRepointed as TaskRepointed
    from taskorch.events import TaskReprioritised as TaskReprioritised
    from taskorch.events import TaskResumed as TaskResumed
    from taskorch.events import TaskRetrying as TaskRetrying
    from taskorch.events import TaskRouted as TaskRouted
    from taskorch.events import TaskStarted as TaskStarted
    from taskorch.events import TaskSubmitted as TaskSubmitted
    from taskorch.events import TaskSuspended as TaskSuspended
    from taskorch.events import TaskTimedOut as TaskTimedOut
    from taskorch.events import TaskUnblocked as TaskUnblocked
    from taskorch.events import TaskValidated as TaskValidated
    from taskorch.journal import MemoryJournal as MemoryJournal
    from taskorch.journal import SqliteJournal as SqliteJournal
    from taskorch.model import DEFAULT_ENV as DEFAULT_ENV
    from taskorch.model import Agent as Agent
    from taskorch.model import AgentStats as AgentStats
    from taskorch.model import AtLeast as AtLeast
    from taskorch.model import Blocker as Blocker
    from taskorch.model import Call as Call
    from taskorch.model import Durations as Durations
    from taskorch.model import Estimate as Estimate
    from taskorch.model import Explanation as Explanation
    from taskorch.model import Health as Health
    from taskorch.model import HealthCheck as HealthCheck
    from taskorch.model import HistoryEntry as HistoryEntry
    from taskorch.model import Performance as Performance
    from taskorch.model import PoolStats as PoolStats
    from taskorch.model import Program as Program
    from taskorch.model import ProgramResult as ProgramResult
    from taskorch.model import QueueStats as QueueStats
    from taskorch.model import Remedy as Remedy
    from taskorch.model import Resources as Resources
    from taskorch.model import RetryPolicy as RetryPolicy
    from taskorch.model import RetryStats as RetryStats
    from taskorch.model import StateStats as StateStats
    from taskorch.model import Stats as Stats
    from taskorch.model import StopReport as StopReport
    from taskorch.model import Stuck as Stuck
    from taskorch.model import Task as Task
    from taskorch.model import TaskOptions as TaskOptions
    from taskorch.model import TaskState as TaskState
    from taskorch.model import TaskStatus as TaskStatus
    from taskorch.model import TypeStats as TypeStats
    from taskorch.model import Unfinished as Unfinished
    from taskorch.model import Wait as Wait
    from taskorch.policies import BackoffRetryHandler as BackoffRetryHandler
    from taskorch.policies import CapabilityRegistry as CapabilityRegistry
    from taskorch.policies import DeadlineQueue as DeadlineQueue
    from taskorch.policies import FifoQueue as FifoQueue
    from taskorch.policies import FourStateMachine as FourStateMachine
    from taskorch.policies import JsonSchemaValidator as JsonSchemaValidator
    from taskorch.policies import LeastLoadedRouter as LeastLoadedRouter
    from taskorch.policies import PerformanceRouter as PerformanceRouter
    from taskorch.policies import PoolAllocator as PoolAllocator
    from taskorch.policies import PriorityQueue as PriorityQueue
    from taskorch.policies import ProportionalAllocator as ProportionalAllocator
    from taskorch.policies import QuotaRetryHandler as QuotaRetryHandler
    from taskorch.policies import SourceRegistry as SourceRegistry
    from taskorch.policies import StandardStateMachine as StandardStateMachine
    from taskorch.policies import StructuralValidator as StructuralValidator
    from taskorch.policies import TenacityRetryHandler as TenacityRetryHandler
    from taskorch.policies import ValidatorChain as ValidatorChain
    from taskorch.protocols import Admission as Admission
    from taskorch.protocols import AgentRegistry as AgentRegistry
    from taskorch.protocols import AgentView as AgentView
    from taskorch.protocols import Allocation as Allocation
    from taskorch.protocols import AllocationRequest as AllocationRequest
    from taskorch.protocols import Context as Context
    from taskorch.protocols import Failure as Failure
    from taskorch.protocols import Finding as Finding
    from taskorch.protocols import Match as Match
    from taskorch.protocols import Order as Order
    from taskorch.protocols import Permit as Permit
    from taskorch.protocols import PoolView as PoolView
    from taskorch.protocols import ResourceAllocator as ResourceAllocator
    from taskorch.protocols import RetryDecision as RetryDecision
    from taskorch.protocols import RetryHandler as RetryHandler
    from taskorch.protocols import Route as Route
    from taskorch.protocols import StateMachine as StateMachine
    from taskorch.protocols import StateView as StateView
    from taskorch.protocols import TaskQueue as TaskQueue
    from taskorch.protocols import TaskRouter as TaskRouter
    from taskorch.protocols import Transition as Transition
    from taskorch.protocols import Validator as Validator
    from taskorch.protocols import Verdict as Verdict
    from taskorch.runtime._context import TaskContext as TaskContext
    from taskorch.runtime._context import current_context as current_context
    from taskorch.simulation._plans._report import ScheduledAttempt as ScheduledAttempt
    from taskorch.simulation._plans._report import SimulationReport as SimulationReport
    from taskorch.workflows import Approval as Approval
    from taskorch.workflows import Workflow as Workflow

__version__ = "0.1.0"

_WHERE = {
    "taskorch._executor": ("TaskExecutor",),
    "taskorch._decorators": ("task",),
    "taskorch._handles": (
        "TaskHandle",
        "as_completed",
    ),
    "taskorch._managers": (
        "WorkflowContext",
        "WorkflowRun",
    ),
    "taskorch._orchestrator": ("TaskOrchestrator",),
    "taskorch.errors": (
        "AttemptInterrupted",
        "AttemptLostError",
        "ComponentError",
        "CycleError",
        "DependencyFailedError",
        "DuplicateTaskError",
        "GateFailedError",
        "InternalError",
        "InvalidTaskError",
        "InvalidTransitionError",
        "JournalError",
        "JournalTakenError",
        "JournalUnavailableError",
        "NotRunningError",
        "Permanent",
        "ProgramFailedError",
        "QueueFullError",
        "ReentryError",
        "ResultGoneError",
        "TaskCancelledError",
        "TaskExpiredError",
        "TaskFailedError",
        "TaskFailure",
        "TaskTimeoutError",
        "TaskorchError",
        "UnknownAgentError",
        "UnknownCapabilityError",
        "UnknownTaskError",
        "UnsatisfiableError",
        "UnwantedResultError",
        "UsageError",
        "ValidationFailedError",
        "WorkflowFailedError",
        "WouldBlockError",
        "WouldDeadlockError",
    ),
    "taskorch.events": (
        "AgentJoined",
        "AgentLost",
        "AgentReturned",
        "AttemptReturned",
        "AttemptStopping",
        "AttemptWaiting",
        "ComponentFailed",
        "Event",
        "EventEmitted",
        "EventsLost",
        "HealthReported",
        "JournalDegraded",
        "JournalRestored",
        "LateResultIgnored",
        "OrchestratorStarted",
        "OrchestratorStopped",
        "PerformanceReported",
        "PolicySlow",
        "ReceiverFailed",
        "SlotLeaked",
        "SlotRecovered",
        "StatsReported",
        "TaskBlocked",
        "TaskCancelled",
        "TaskCheckpointed",
        "TaskCompleted",
        "TaskDue",
        "TaskEvent",
        "TaskFailed",
        "TaskOptionsChanged",
        "TaskParentsAdded",
        "TaskProgressed",
        "TaskRejected",
        "TaskRecalled",
        "TaskReleased",
        "TaskRepointed",
        "TaskReprioritised",
        "TaskResumed",
        "TaskRetrying",
        "TaskRouted",
        "TaskStarted",
        "TaskSubmitted",
        "TaskSuspended",
        "TaskTimedOut",
        "TaskUnblocked",
        "TaskValidated",
    ),
    "taskorch.journal": ("MemoryJournal", "SqliteJournal"),
    "taskorch.model": (
        "Agent",
        "AgentStats",
        "AtLeast",
        "Blocker",
        "Call",
        "DEFAULT_ENV",
        "Durations",
        "Estimate",
        "Explanation",
        "Health",
        "HealthCheck",
        "HistoryEntry",
        "Performance",
        "PoolStats",
        "Program",
        "ProgramResult",
        "QueueStats",
        "Remedy",
        "Resources",
        "RetryPolicy",
        "RetryStats",
        "StateStats",
        "Stats",
        "StopReport",
        "Stuck",
        "Task",
        "TaskOptions",
        "TaskState",
        "TaskStatus",
        "TypeStats",
        "Unfinished",
        "Wait",
    ),
    "taskorch.policies": (
        "BackoffRetryHandler",
        "CapabilityRegistry",
        "DeadlineQueue",
        "FifoQueue",
        "FourStateMachine",
        "JsonSchemaValidator",
        "LeastLoadedRouter",
        "PerformanceRouter",
        "PoolAllocator",
        "PriorityQueue",
        "ProportionalAllocator",
        "QuotaRetryHandler",
        "SourceRegistry",
        "StandardStateMachine",
        "StructuralValidator",
        "TenacityRetryHandler",
        "ValidatorChain",
    ),
    "taskorch.protocols": (
        "Admission",
        "AgentRegistry",
        "AgentView",
        "Allocation",
        "AllocationRequest",
        "Context",
        "Failure",
        "Finding",
        "Match",
        "Order",
        "Permit",
        "PoolView",
        "ResourceAllocator",
        "RetryDecision",
        "RetryHandler",
        "Route",
        "StateMachine",
        "StateView",
        "TaskQueue",
        "TaskRouter",
        "Transition",
        "Validator",
        "Verdict",
    ),
    "taskorch.runtime._context": (
        "TaskContext",
        "current_context",
    ),
    "taskorch.simulation._plans._report": ("ScheduledAttempt", "SimulationReport"),
    "taskorch.workflows": (
        "Approval",
        "Workflow",
    ),
}

_NAMES = ("__version__", *sorted(chain.from_iterable(_WHERE.values())))

if not TYPE_CHECKING:
    # Checkers have the names from the imports above.
    __all__ = tuple(_NAMES)


def __getattr__(name: str) -> object:
    for module, names in _WHERE.items():
        if name in names:
            found = getattr(import_module(module), name)
            globals()[name] = found
            return found
    msg = f"module 'taskorch' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(_NAMES)
