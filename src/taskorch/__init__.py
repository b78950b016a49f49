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
    from taskorch.api._contexts import (
        TaskContext as TaskContext,
        current_context as current_context,
    )
    from taskorch.api._decorators import task as task
    from taskorch.api._executor import TaskExecutor as TaskExecutor
    from taskorch.api._orchestrator import TaskOrchestrator as TaskOrchestrator
    from taskorch.core.handles.handles import (
        TaskHandle as TaskHandle,
        as_completed as as_completed,
    )
    from taskorch.core.journal import (
        MemoryJournal as MemoryJournal,
        SqliteJournal as SqliteJournal,
    )
    from taskorch.core.runs import (
        WorkflowContext as WorkflowContext,
        WorkflowRun as WorkflowRun,
    )
    from taskorch.core.workflows import (
        Approval as Approval,
        Workflow as Workflow,
        workflow as workflow,
    )
    from taskorch.errors import (
        CycleError as CycleError,
        DependencyFailedError as DependencyFailedError,
        DuplicateTaskError as DuplicateTaskError,
        InvalidTaskError as InvalidTaskError,
        JournalTakenError as JournalTakenError,
        NotRunningError as NotRunningError,
        Permanent as Permanent,
        ProgramFailedError as ProgramFailedError,
        TaskCancelledError as TaskCancelledError,
        TaskFailedError as TaskFailedError,
        TaskorchError as TaskorchError,
        TaskTimeoutError as TaskTimeoutError,
        UnknownTaskError as UnknownTaskError,
        UnwantedResultError as UnwantedResultError,
        ValidationFailedError as ValidationFailedError,
        WorkflowFailedError as WorkflowFailedError,
    )
    from taskorch.ext.postgres._journal import PostgresJournal as PostgresJournal
    from taskorch.ext.simulation._plans._report import (
        ScheduledAttempt as ScheduledAttempt,
        SimulationReport as SimulationReport,
    )
    from taskorch.model import (
        DEFAULT_ENV as DEFAULT_ENV,
        AtLeast as AtLeast,
        Elastic as Elastic,
        Explanation as Explanation,
        Program as Program,
        ProgramResult as ProgramResult,
        Resources as Resources,
        RetryPolicy as RetryPolicy,
        StopReport as StopReport,
        Task as Task,
        TaskState as TaskState,
        TaskStatus as TaskStatus,
    )
    from taskorch.protocols import (
        AgentRegistry as AgentRegistry,
        ResourceAllocator as ResourceAllocator,
        RetryHandler as RetryHandler,
        StateMachine as StateMachine,
        TaskQueue as TaskQueue,
        TaskRouter as TaskRouter,
        Validator as Validator,
    )

__version__ = "0.1.0"

_WHERE = {
    "taskorch.api._contexts": ("TaskContext", "current_context"),
    "taskorch.api._decorators": ("task",),
    "taskorch.api._executor": ("TaskExecutor",),
    "taskorch.core.handles.handles": ("TaskHandle", "as_completed"),
    "taskorch.core.runs": ("WorkflowContext", "WorkflowRun"),
    "taskorch.api._orchestrator": ("TaskOrchestrator",),
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
    "taskorch.core.journal": ("MemoryJournal", "SqliteJournal"),
    "taskorch.ext.postgres._journal": ("PostgresJournal",),
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
    "taskorch.ext.simulation._plans._report": ("ScheduledAttempt", "SimulationReport"),
    "taskorch.core.workflows": ("Approval", "Workflow", "workflow"),
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
