"""Results that are failures: see `RetryPolicy.retry_if_result`."""

from __future__ import annotations

from typing import Any

from taskorch.errors import UnwantedResultError
from taskorch.model._show import show
from taskorch.runtime._lent import copy_containers
from taskorch.runtime._work import Work

#: Characters of a result that the message shows.
_SHOWN = 80


def unwanted(work: Work, value: Any) -> BaseException | None:
    """Why an attempt of *work* that returned *value* failed all the same, if it did."""
    task = work._task
    holds = None if task is None else task.retry.retry_if_result
    if holds is None:
        return None
    try:
        if not holds(copy_containers(value)):
            return None
    except BaseException as error:  # noqa: BLE001 - it is the user's, as the task's are
        return error
    task_id = work._row.id
    msg = f"task {task_id} returned {show(value, _SHOWN)}, which is worth a retry"
    return UnwantedResultError(msg, result=value, task_id=task_id)
