"""The options of a task: their names, their types, and those that a function has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from types import FunctionType
from typing import Any, Final, TypedDict

import attrs

from taskorch.model._joins import Join, OnParentFailure
from taskorch.model._resources import Resources
from taskorch.model._retry_policy import RetryPolicy

#: The attribute of a function that has what was declared with it.
DECLARED: Final = "__taskorch_task__"


class _Shared(TypedDict, total=False):
    """The options that many tasks can have in common, but for `timeout`."""

    type: str
    priority: int
    join: Join
    on_parent_failure: OnParentFailure
    requires: Iterable[str] | None
    resources: Resources | Mapping[str, float]
    expected: float | timedelta | None
    deadline: float | timedelta | datetime | None
    not_before: float | timedelta | datetime | None
    retry: RetryPolicy | int
    idempotent: bool
    metadata: Mapping[str, Any] | None
    owner: str | None


class FunctionOptions(_Shared, total=False):
    """The options that `@taskorch.task` takes: those of a task, but what names one."""

    timeout: float | timedelta | None


class UntimedOptions(_Shared, total=False):
    """The options of a task, but for its `timeout`: see `TaskOptions`."""

    id: str | None
    after: Iterable[Any]
    idempotency_key: str | None


class TaskOptions(UntimedOptions, total=False):
    """
    The options that `Task`, `Task.call`, `wf.task` and others take by their names.

    For a function of your own that hands them on: `**options: Unpack[TaskOptions]`.
    What each of them means stands at `Task`.
    """

    timeout: float | timedelta | None


@attrs.frozen
class Declared:
    """What `@taskorch.task` has noted of a function."""

    options: TaskOptions
    executor: str | None = None


def declared(fn: Callable[..., Any]) -> Declared | None:
    """What was declared with *fn*, or with what an object, method or partial calls."""
    while True:
        found = getattr(fn, DECLARED, None)
        # The class is compared, since a mock has every attribute that it is asked for.
        if type(found) is Declared:
            return found
        if type(fn) is FunctionType:
            return None
        if not isinstance(fn, partial):
            break
        fn = fn.func
    # An instance is called by the method of its class.
    call = getattr(type(fn), "__call__", None)  # noqa: B004 - for what it has noted
    found = getattr(call, DECLARED, None)
    return found if type(found) is Declared else None
