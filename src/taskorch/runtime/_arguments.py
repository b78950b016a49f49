"""What a task calls: with results in the place of what it depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskorch._references import replaced
from taskorch.model import Reference, Task
from taskorch.runtime._context import result_of
from taskorch.runtime._work import Work, parent_named, works_above


def resolved(work: Work) -> tuple[Any, tuple[Any, ...], Mapping[str, Any]]:
    """What to call, with results in the place of dependencies."""
    fn, args, kwargs = work._fn, work._args, work._kwargs
    if work._above and (args or kwargs):
        parents = works_above(work)
        args, kwargs = replaced(args, kwargs, lambda ref: _value(ref, parents))
    return fn, args, kwargs


def _value(arg: Any, parents: Mapping[str, Work]) -> Any:
    if isinstance(arg, Work):
        # Not its own result, if it was run again meanwhile.
        return result_of(parent_named(arg._row.id, parents) or arg)
    if isinstance(arg, Task):
        arg = Reference(arg._submitted_as or arg.id or "")
    if isinstance(arg, Reference):
        # A handle, in an earlier life.
        parent = parent_named(arg.task_id, parents)
        assert parent is not None  # noqa: S101 - a reference is a dependency
        return result_of(parent)
    return arg
