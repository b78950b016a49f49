"""
taskorch: an orchestrator that you import.

    from taskorch import TaskOrchestrator

    with TaskOrchestrator() as orch:
        print(orch.submit(pow, 2, 10).result())

Here are the names of a first program; each is loaded when it is first asked for. The
others are where they belong: every error in `taskorch.errors`, every event in
`taskorch.events`, the values that tasks, statistics and explanations are made of in
`taskorch.model`, the policies that come with the library in `taskorch.policies`, what a
policy is given and answers in `taskorch.protocols`, and what tests need in
`taskorch.testing`.
"""

from __future__ import annotations

import itertools
import warnings
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskorch._contexts import TaskContext as TaskContext
    from taskorch._contexts import current_context as current_context
    from taskorch._decorators import task as task
    from taskorch._executor import TaskExecutor as TaskExecutor
    from taskorch._handles import TaskHandle as TaskHandle
    from taskorch._handles import as_completed as as_completed
    from taskorch._orchestrator import TaskOrchestrator as TaskOrchestrator
    from taskorch.errors import CycleError as CycleError
    from taskorch.errors import DependencyFailedError as DependencyFailedError
    from taskorch.errors import DuplicateTaskError as DuplicateTaskError
    from taskorch.errors import InvalidTaskError as InvalidTaskError
    from taskorch.errors import JournalTakenError as JournalTakenError
    from taskorch.errors import NotRunningError as NotRunningError
    from taskorch.errors import Permanent as Permanent
    from taskorch.errors import ProgramFailedError as ProgramFailedError
    from taskorch.errors import TaskCancelledError as TaskCancelledError
    from taskorch.errors import TaskFailedError as TaskFailedError
    from taskorch.errors import TaskorchError as TaskorchError
    from taskorch.errors import TaskTimeoutError as TaskTimeoutError
    from taskorch.errors import UnknownTaskError as UnknownTaskError
    from taskorch.errors import UnwantedResultError as UnwantedResultError
    from taskorch.errors import ValidationFailedError as ValidationFailedError
    from taskorch.errors import WorkflowFailedError as WorkflowFailedError
    from taskorch.journal import MemoryJournal as MemoryJournal
    from taskorch.journal import PostgresJournal as PostgresJournal
    from taskorch.journal import SqliteJournal as SqliteJournal
    from taskorch.model import DEFAULT_ENV as DEFAULT_ENV
    from taskorch.model import AtLeast as AtLeast
    from taskorch.model import Elastic as Elastic
    from taskorch.model import Explanation as Explanation
    from taskorch.model import Program as Program
    from taskorch.model import ProgramResult as ProgramResult
    from taskorch.model import Resources as Resources
    from taskorch.model import RetryPolicy as RetryPolicy
    from taskorch.model import StopReport as StopReport
    from taskorch.model import Task as Task
    from taskorch.model import TaskState as TaskState
    from taskorch.model import TaskStatus as TaskStatus
    from taskorch.protocols import AgentRegistry as AgentRegistry
    from taskorch.protocols import ResourceAllocator as ResourceAllocator
    from taskorch.protocols import RetryHandler as RetryHandler
    from taskorch.protocols import StateMachine as StateMachine
    from taskorch.protocols import TaskQueue as TaskQueue
    from taskorch.protocols import TaskRouter as TaskRouter
    from taskorch.protocols import Validator as Validator
    from taskorch.runs import WorkflowContext as WorkflowContext
    from taskorch.runs import WorkflowRun as WorkflowRun
    from taskorch.simulation._plans._report import ScheduledAttempt as ScheduledAttempt
    from taskorch.simulation._plans._report import SimulationReport as SimulationReport
    from taskorch.workflows import Approval as Approval
    from taskorch.workflows import Workflow as Workflow
    from taskorch.workflows import workflow as workflow

__version__ = "0.1.0"

_WHERE = {
    "taskorch._contexts": ("TaskContext", "current_context"),
    "taskorch._decorators": ("task",),
    "taskorch._executor": ("TaskExecutor",),
    "taskorch._handles": ("TaskHandle", "as_completed"),
    "taskorch.runs": ("WorkflowContext", "WorkflowRun"),
    "taskorch._orchestrator": ("TaskOrchestrator",),
    "taskorch.errors": (
        "CycleError",
        "DependencyFailedError",
        "DuplicateTaskError",
        "InvalidTaskError",
        "JournalTakenError",
        "NotRunningError",
        "Permanent",
        "ProgramFailedError",
        "TaskCancelledError",
        "TaskFailedError",
        "TaskTimeoutError",
        "TaskorchError",
        "UnknownTaskError",
        "UnwantedResultError",
        "ValidationFailedError",
        "WorkflowFailedError",
    ),
    "taskorch.journal": ("MemoryJournal", "PostgresJournal", "SqliteJournal"),
    "taskorch.model": (
        "DEFAULT_ENV",
        "AtLeast",
        "Elastic",
        "Explanation",
        "Program",
        "ProgramResult",
        "Resources",
        "RetryPolicy",
        "StopReport",
        "Task",
        "TaskState",
        "TaskStatus",
    ),
    "taskorch.protocols": (
        "AgentRegistry",
        "ResourceAllocator",
        "RetryHandler",
        "StateMachine",
        "TaskQueue",
        "TaskRouter",
        "Validator",
    ),
    "taskorch.simulation._plans._report": ("ScheduledAttempt", "SimulationReport"),
    "taskorch.workflows": ("Approval", "Workflow", "workflow"),
}

#: The modules of classes that this module once offered, too.
_PUBLIC_MODULES = ("errors", "events", "model", "policies", "protocols")

_NAMES = ("__version__", *sorted(itertools.chain.from_iterable(_WHERE.values())))

if not TYPE_CHECKING:
    # Type checkers have the names from the imports above.
    __all__ = tuple(_NAMES)


def __getattr__(name: str) -> object:
    for module, names in _WHERE.items():
        if name in names:
            export = getattr(import_module(module), name)
            globals()[name] = export
            return export
    for module in _PUBLIC_MODULES if name[0].isupper() else ():
        try:
            export = getattr(import_module(f"taskorch.{module}"), name)
        except (AttributeError, ImportError):
            # A name of another library raises an ImportError that suggests ours.
            continue
        msg = f"import {name} from taskorch.{module}, not from taskorch"
        warnings.warn(msg, DeprecationWarning, stacklevel=2)
        return export
    from taskorch.kit.vocabulary import no_name  # noqa: PLC0415 - for errors

    raise no_name(__name__, name)


def __dir__() -> list[str]:
    return sorted(_NAMES)
