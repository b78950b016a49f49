"""
Tasks that are named among the arguments of another.

Inside a workflow they are `Reference`s to ids, so that a task holds no other task, and
a chain of any length is flat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from taskorch.model import Call, Reference, Task

__all__ = ("prefixed", "refers", "with_references")


def with_references(call: Call, change: Callable[[Any, str], Any]) -> Call:
    """
    *call* with what *change* makes of its arguments, and of items of direct lists.

    Args:
        call: The call.
        change: Called with a value, and with where it stands: `args[0]`.
    """
    if not (call.args or call.kwargs):
        return call

    def changed(arg: Any, where: str) -> Any:
        if type(arg) is not list:
            return change(arg, where)
        items: list[Any] = arg
        made = [change(item, f"{where}[{i}]") for i, item in enumerate(items)]
        same = all(new is old for new, old in zip(made, items, strict=True))
        return arg if same else made

    args = tuple([changed(arg, f"args[{i}]") for i, arg in enumerate(call.args)])
    kwargs: Mapping[str, Any] = call.kwargs
    if kwargs:
        kwargs = {k: changed(arg, f"kwargs[{k!r}]") for k, arg in kwargs.items()}
    return attrs.evolve(call, args=args, kwargs=kwargs)


def refers(task: Task) -> bool:
    """Whether there is a reference to another task among the arguments of *task*."""
    call = task.payload
    if type(call) is not Call or not (call.args or call.kwargs):
        return False
    return any(
        type(item) is Reference
        for arg in (*call.args, *call.kwargs.values())
        for item in (arg if type(arg) is list else (arg,))
    )


def prefixed(task: Task, task_id: str, prefix: str, after: Iterable[Any]) -> Task:
    """
    *task* under another id, with the same prefix before every id that it refers to.

    Args:
        task: A task of a workflow.
        task_id: Its new id.
        prefix: Comes before the ids of other tasks of the workflow, with a "/".
        after: What it is to come after.
    """

    def renamed(arg: Any, _where: str) -> Any:
        return Reference(f"{prefix}/{arg.task_id}") if type(arg) is Reference else arg

    payload = task.payload
    if type(payload) is Call:
        payload = with_references(payload, renamed)
    return attrs.evolve(task, id=task_id, after=tuple(after), payload=payload)
