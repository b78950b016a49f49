"""
Names of attributes of spans and metrics, and the protocol of a set of signals.

Names that begin with `cicd.`, and `error.type`, are OpenTelemetry's semantic
conventions (`opentelemetry-semantic-conventions` has them under a private name, so they
are written out here); the library's own begin with `taskorch.`.
"""

from __future__ import annotations

import sys
from typing import Any, Final, Protocol

# -- OpenTelemetry's ---------------------------------------------------------------

#: On runs of a workflow: the name of the workflow, its id, and the result.
PIPELINE: Final = "cicd.pipeline.name"
ACTION: Final = "cicd.pipeline.action.name"
RUN_ID: Final = "cicd.pipeline.run.id"
PIPELINE_RESULT: Final = "cicd.pipeline.result"
#: On attempts: the type of the task, `id:attempt`, and the result.
TASK_NAME: Final = "cicd.pipeline.task.name"
TASK_RUN_ID: Final = "cicd.pipeline.task.run.id"
TASK_RESULT: Final = "cicd.pipeline.task.run.result"
#: The worker.
WORKER: Final = "cicd.worker.name"
#: The class of the error, or the cause if there was none.
ERROR_TYPE: Final = "error.type"

# -- ours --------------------------------------------------------------------------

#: The id of the task, and the number of the attempt.
TASK_ID: Final = "taskorch.task.id"
ATTEMPT: Final = "taskorch.attempt"
#: On steps: the name and the number, and whether the result was kept from before.
STEP: Final = "taskorch.step.name"
STEP_NUMBER: Final = "taskorch.step.number"
STEP_KEPT: Final = "taskorch.step.kept"
#: The reason of a decision; the kind of failure; seconds before the next attempt.
REASON: Final = "taskorch.reason"
CAUSE: Final = "taskorch.cause"
DELAY: Final = "taskorch.retry.delay"
#: On violations: the severity, and the policy.
SEVERITY: Final = "taskorch.policy.severity"
POLICY: Final = "taskorch.policy.id"
#: On metrics: the state of tasks, the action of the retry handler, the pool, the
#: budget.
STATE: Final = "taskorch.state"
OUTCOME: Final = "taskorch.outcome"
RESOURCE: Final = "taskorch.resource"
BUDGET: Final = "taskorch.budget"
#: The prefix of the amount that an attempt holds; a dot and the resource follow.
HELD: Final = "taskorch.allocation"

# -- how something ended -----------------------------------------------------------

SUCCESS: Final = "success"
#: The work itself failed.
FAILURE: Final = "failure"
#: Another part failed: the worker died, or a part of the orchestrator raised.
ERROR: Final = "error"
TIMEOUT: Final = "timeout"
CANCELLATION: Final = "cancellation"

#: The result of an attempt, by the cause in the event of its failure.
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
    """Return the version of the package without an import of it."""
    number: str = sys.modules["taskorch"].__version__
    return number


def result_of(cause: str) -> str:
    """Return the result of an attempt that failed for *cause*."""
    return RESULTS.get(cause, ERROR)


class AnySignals(Protocol):
    """A signal for each class of events, by its name."""

    def __getattr__(self, name: str) -> Any: ...
