"""Data about a task that has failed, for the modules that report it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.ext.questions import failure_of
from taskorch.kit.limits import NS

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime

#: The class of a failure by its cause, where no attempt reported it.
_BY_CAUSE: Final = {
    **dict.fromkeys(("timeout", "deadline"), "timeout_error"),
    **dict.fromkeys(("lost", "missing", "unstarted", "poisoned"), "system_error"),
}


@attrs.frozen
class LatestFailure:
    """
    The latest failure of a task.

    Attributes:
        attempt: The number of the attempt.
        error_type: The class of the error.
        message: The message of the error.
        cause: The cause, as in `TaskFailed`.
        failure_class: The class of failure.
    """

    attempt: int
    error_type: str
    message: str
    cause: str
    failure_class: str


def class_by_cause(failure_class: str, cause: str) -> str:
    """Return the class of a failure: the reported one, or that of its *cause*."""
    return failure_class or _BY_CAUSE.get(cause, "unknown")


class FailedTasks:
    """
    Tasks that have failed, as a runtime knows them.

    Args:
        runtime: The runtime of the orchestrator.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime

    def latest(self, task_id: str) -> LatestFailure | None:
        """Return the latest failure of a task; None if none is in memory."""
        row = self._rt.kernel.tasks.get(task_id)
        extra = None if row is None else row.extra
        if row is None or extra is None or extra.error is None:
            return None
        error_type, message, cause = extra.error
        kind = class_by_cause(extra.failure_class, cause)
        return LatestFailure(row.attempt, error_type, message, cause, kind)

    def about(self, task_id: str) -> dict[str, Any] | None:
        """Return the content of an escalation of a task; None if not in memory."""
        return failure_of(self._rt, task_id)

    def timeout(self, task_id: str) -> float | None:
        """Return the seconds of an attempt at a task; None is without limit."""
        row = self._rt.kernel.tasks.get(task_id)
        limit = None if row is None else row.bucket.spec.timeout_ns
        return None if limit is None else float(limit / NS)
