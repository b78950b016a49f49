"""
Tasks that are named among the arguments of another.

Inside a workflow they are `Reference`s to ids, so that a task holds no other task, and
a chain of any length is flat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from taskorch.model import Call, Reference, Task, references, refuse_in, replaced
from taskorch.model.ids import joined


def with_references(call: Call, change: Callable[[Any], Any]) -> Call:
    """Return *call* with its task arguments replaced by those of *change*."""
    refuse_in(call.fn)
    if not references(call.args, call.kwargs):
        return call
    args, kwargs = replaced(call.args, call.kwargs, change)
    return attrs.evolve(call, args=args, kwargs=kwargs)


def refers(task: Task) -> bool:
    """Return whether an argument of *task* refers to another task."""
    call = task.payload
    return (
        type(call) is Call
        and bool(call.args or call.kwargs)
        and any(type(item) is Reference for item in references(call.args, call.kwargs))
    )


def prefixed(task: Task, task_id: str, prefix: str, after: Iterable[Any]) -> Task:
    """
    Return *task* under another id, with a prefix before every id that it refers to.

    *prefix* and a slash come before the ids of other tasks of the workflow.
    """

    def renamed(arg: Any) -> Any:
        return Reference(joined(prefix, arg.task_id)) if type(arg) is Reference else arg

    payload = task.payload
    if type(payload) is Call:
        payload = with_references(payload, renamed)
    return attrs.evolve(task, id=task_id, after=tuple(after), payload=payload)
