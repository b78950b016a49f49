"""
What policies of the user's are given to look at: what they change is their own.

Containers of Python's own are copied, and what is in them is not: an array, a file or
an object of the user's is the same for the task, its caller and every policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from typing import Any, Final

from taskorch.model import Call, Task
from taskorch.model._read_only import ReadOnly

#: Levels of containers that are copied; what is deeper is shared.
_MAX_DEPTH: Final = 20


def is_foreign(part: object) -> bool:
    """Whether *part* is of a class of the user's: ours change nothing."""
    return not type(part).__module__.startswith("taskorch.")


def lent_task(task: Task) -> Task:
    """*task* as a policy of the user's may have it; itself, if nobody can change it."""
    payload = task.payload
    changed: dict[str, object] = {}
    if type(payload) is Call:
        for arg in payload.args:
            if type(arg) in _MAKERS:
                break
        else:
            # Nearly every task is such a one.
            kwargs = payload.kwargs
            if not task.metadata and not (kwargs and _can_change(kwargs.values())):
                return task
        args, kwargs = (
            copy_containers(payload.args),
            copy_containers(dict(payload.kwargs)),
        )
        changed["payload"] = Call(payload.fn, args, kwargs, payload.executor)
    else:
        changed["payload"] = copy_containers(payload)
    if task.metadata:
        changed["metadata"] = ReadOnly(copy_containers(dict(task.metadata)))
    # By hand: it is checked already, and knows what it was submitted as.
    copied = copy(task)
    for name, value in changed.items():
        object.__setattr__(copied, name, value)
    return copied


def _can_change(values: Iterable[Any]) -> bool:
    return not _MAKERS.keys().isdisjoint(map(type, values))


def copy_containers(value: Any) -> Any:
    """*value* with copies in the place of containers."""
    return _lent(value, {}, _MAX_DEPTH)


def _lent(value: Any, known: dict[int, Any], depth: int) -> Any:
    kind = type(value)
    make = _MAKERS.get(kind)
    if make is None or not depth:
        return value
    found = known.get(id(value))
    return make(value, known, depth - 1) if found is None else found


def _dict(value: dict[Any, Any], known: dict[int, Any], depth: int) -> Any:
    made: dict[Any, Any] = {}
    known[id(value)] = made
    for key, item in value.items():
        made[key] = _lent(item, known, depth)
    return made


def _list(value: list[Any], known: dict[int, Any], depth: int) -> Any:
    made: list[Any] = []
    known[id(value)] = made
    made += [_lent(item, known, depth) for item in value]
    return made


def _tuple(value: tuple[Any, ...], known: dict[int, Any], depth: int) -> Any:
    return tuple([_lent(item, known, depth) for item in value])


def _flat(value: Any, known: dict[int, Any], _depth: int) -> Any:
    made = known[id(value)] = value.copy()
    return made


_MAKERS: Final[dict[type, Callable[[Any, dict[int, Any], int], Any]]] = {
    dict: _dict,
    list: _list,
    tuple: _tuple,
    set: _flat,
    bytearray: _flat,
}
