"""
Names of spans' and metrics' attributes; signals, as those see them who read them.

Those that begin with `cicd.`, and `error.type`, are OpenTelemetry's semantic
conventions (`opentelemetry-semantic-conventions` has them under a private name, so they
are written out here); those of ours begin with `taskorch.`.
"""

from __future__ import annotations

import sys
from typing import Any, Final, Protocol

# -- OpenTelemetry's ---------------------------------------------------------------

#: Of a run of a workflow: the name of the workflow, its id, and how it ended.
PIPELINE: Final = "cicd.pipeline.name"
ACTION: Final = "cicd.pipeline.action.name"
RUN_ID: Final = "cicd.pipeline.run.id"
PIPELINE_RESULT: Final = "cicd.pipeline.result"
#: Of an attempt: the type of the task, `id:attempt`, and how it ended.
TASK_NAME: Final = "cicd.pipeline.task.name"
TASK_RUN_ID: Final = "cicd.pipeline.task.run.id"
TASK_RESULT: Final = "cicd.pipeline.task.run.result"
#: The agent.
AGENT: Final = "cicd.worker.name"
#: The class of what was raised, or the cause if nothing was.
ERROR_TYPE: Final = "error.type"

# -- ours --------------------------------------------------------------------------

#: The id of the task, and the number of the attempt.
TASK_ID: Final = "taskorch.task.id"
ATTEMPT: Final = "taskorch.attempt"
#: Of a step: its name and number, and whether it was kept, and nothing was called.
STEP: Final = "taskorch.step.name"
STEP_NUMBER: Final = "taskorch.step.number"
STEP_KEPT: Final = "taskorch.step.kept"
#: Why something was decided; the kind of failure; seconds before the next attempt.
REASON: Final = "taskorch.reason"
CAUSE: Final = "taskorch.cause"
DELAY: Final = "taskorch.retry.delay"
#: Of violations: how bad they are, and the policy.
SEVERITY: Final = "taskorch.policy.severity"
POLICY: Final = "taskorch.policy.id"
#: Of metrics: the state of tasks, what the retry handler did, the pool, the budget.
STATE: Final = "taskorch.state"
OUTCOME: Final = "taskorch.outcome"
RESOURCE: Final = "taskorch.resource"
BUDGET: Final = "taskorch.budget"
#: What an attempt holds: this, a dot, and the name of a resource.
HELD: Final = "taskorch.allocation"

# -- how something ended -----------------------------------------------------------

SUCCESS: Final = "success"
#: The work itself failed.
FAILURE: Final = "failure"
#: Something else did: its worker died, a part of the orchestrator raised.
ERROR: Final = "error"
TIMEOUT: Final = "timeout"
CANCELLATION: Final = "cancellation"

#: How an attempt ended, by the cause that a fact gives for its failure.
RESULTS: Final = {
    "error": FAILURE,
    "dependency": FAILURE,
    "decision": FAILURE,
    "timeout": TIMEOUT,
    "deadline": TIMEOUT,
    "expired": TIMEOUT,
    "stopped": CANCELLATION,
}


def version() -> str:
    """Version of the package, read without an import of it."""
    number: str = sys.modules["taskorch"].__version__
    return number


def result_of(cause: str) -> str:
    """How an attempt ended that failed for *cause*."""
    return RESULTS.get(cause, ERROR)


class AnySignals(Protocol):
    """A signal for each class of events, by its name."""

    def __getattr__(self, name: str) -> Any: ...
