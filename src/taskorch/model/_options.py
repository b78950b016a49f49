"""What the options of a task are called, and of what types they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypedDict

from taskorch.model._joins import Join, OnParentFailure
from taskorch.model._resources import Resources
from taskorch.model._retry_policy import RetryPolicy

__all__ = ("TaskOptions", "UntimedOptions")


class UntimedOptions(TypedDict, total=False):
    """The options of a task, but for its `timeout`: see `TaskOptions`."""

    type: str
    id: str | None
    priority: int
    after: Iterable[Any]
    join: Join
    on_parent_failure: OnParentFailure
    requires: Iterable[str] | None
    resources: Resources | Mapping[str, float]
    deadline: float | timedelta | datetime | None
    not_before: float | timedelta | datetime | None
    retry: RetryPolicy
    idempotency_key: str | None
    idempotent: bool
    metadata: Mapping[str, Any] | None


class TaskOptions(UntimedOptions, total=False):
    """
    The options that `Task`, `Task.call`, `wf.task` and others take by their names.

    For a function of your own that hands them on: `**options: Unpack[TaskOptions]`.
    What each of them means stands at `Task`.
    """

    timeout: float | timedelta | None
