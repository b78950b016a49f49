"""
Identity and options of a task: under one id, only its options may change.

Its type, its payload and its dependencies are its identity. All else are options.

Decision: joins-and-stale-tasks.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from operator import attrgetter
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import attrs

from taskorch.core.engine._committer import Committer
from taskorch.core.kernel import DIGEST_BITS
from taskorch.errors import DuplicateTaskError
from taskorch.events import TaskOptionsChanged
from taskorch.kit.fence import is_values
from taskorch.kit.limits import NS
from taskorch.kit.plain import pythons
from taskorch.kit.visible import show
from taskorch.model import (
    OPTIONS,
    Call,
    Elasticity,
    Missing,
    Program,
    Reference,
    Task,
    requested,
)
from taskorch.model.ids import stem_of

if TYPE_CHECKING:
    from taskorch.core.kernel import Spec

#: The options of a task that may change while it has not ended.
_CHANGING: Final = tuple(name for name, each in OPTIONS.items() if not each.identity)
#: Options that are compared as the kernel has them.
_IN_SPEC: Final[dict[str, Callable[[Spec], Any]]] = {
    "requires": attrgetter("requires"),
    "resources": attrgetter("resources", "elastic", "spends"),
    "timeout": attrgetter("timeout_ns"),
    "idempotent": attrgetter("idempotent"),
    "owner": attrgetter("owner"),
}
#: The options that say how it depends on its parents, and its idempotency key.
_BESIDE: Final = tuple(
    name
    for name, each in OPTIONS.items()
    if each.identity and name not in ("type", "id", "after")
)
_beside: Final = attrgetter(*_BESIDE)
#: Fields of a program that may be secret.
_HIDDEN: Final = ("env", "stdin")
_ALL_BITS: Final = (1 << DIGEST_BITS) - 1
#: The most characters of a value, the most differences, and how deep they are sought.
_MAX_VALUE: Final = 60
_MAX_SHOWN: Final = 6
_MAX_DEPTH: Final = 4
_ABSENT: Final = object()
#: Classes whose instances are the same if they are equal.
_PLAIN: Final = frozenset({str, int, bool, bytes, type(None)})

#: Function that says whether two values are the same.
Alike: TypeAlias = Callable[[Any, Any], bool]
#: A field, with its old and its new value, as text for people.
Difference: TypeAlias = tuple[str, str, str]


def alike(committer: Committer | None) -> Alike:
    """
    Return a comparison of two values, type and all, as a journal would keep them.

    For Python, 1, 1.0 and True are equal, and so are values of a class of the user's
    that compares only some fields; a value from a journal may be equal to nothing. A
    value that no journal keeps is compared by its own `==`.
    """
    if committer is None:
        from taskorch.core.journal import _codec  # noqa: PLC0415 - seldom needed

        document: Callable[[Any], Any] = _codec.document
    else:
        document = committer.journal.document

    def are_alike(one: Any, other: Any) -> bool:
        if type(one) is not type(other):
            # A number of NumPy's comes back from a journal as one of Python's.
            one, other = pythons(one), pythons(other)
        if one is other or type(one) is not type(other):
            return one is other
        if type(one) in _PLAIN:
            return bool(one == other)
        if isinstance(one, Call):
            return all(
                are_alike(getattr(one, name), getattr(other, name))
                for name in ("fn", "args", "executor")
            ) and are_alike(dict(one.kwargs), dict(other.kwargs))
        if isinstance(one, dict):
            # The order of the keys does not matter.
            others = {(type(key), key): value for key, value in other.items()}
            return len(one) == len(other) and all(
                are_alike(value, others.get((type(key), key), _ABSENT))
                for key, value in one.items()
            )
        if type(one) in (list, tuple):
            return len(one) == len(other) and all(map(are_alike, one, other))
        # A value that no journal keeps, or the user's `==`, may raise anything.
        with suppress(Exception):
            return bool(document(one) == document(other))
        with suppress(Exception):
            return bool(one == other)
        return False

    return are_alike


# -- options -----------------------------------------------------------------------


def changed_options(
    old: Task, new: Task, specs: tuple[Spec, Spec], are_alike: Alike
) -> tuple[str, ...]:
    """
    Return the names of the options that differ in *new*, which was submitted again.

    The kernel has made *specs* of the two; for *are_alike* see `alike`.
    """
    found: list[str] = []
    for name in _CHANGING:
        if name in _IN_SPEC:
            one, other = (_IN_SPEC[name](spec) for spec in specs)
        else:
            one, other = getattr(old, name), getattr(new, name)
        if not are_alike(one, other):
            found.append(name)
    return tuple(found)


def options_between(
    old: Task, new: Task, specs: tuple[Spec, Spec], are_alike: Alike
) -> list[Difference]:
    """Return the options that differ in *new*, except metadata: see above."""
    return [
        (name, _shown(getattr(old, name)), _shown(getattr(new, name)))
        for name in changed_options(old, new, specs, are_alike)
        if name != "metadata"
    ]


def with_options(task: Task, given: Task) -> Task:
    """Return *task* with the options of *given*."""
    return attrs.evolve(task, **{name: getattr(given, name) for name in _CHANGING})


def changed_task(task: Task, event: TaskOptionsChanged, given: Task | None) -> Task:
    """Return *task* after *event*: with the options of *given*, or of the event."""
    if given is not None:
        return with_options(task, given)
    timeout = None if event.timeout_ns is None else event.timeout_ns / NS
    units = tuple(sorted((*event.resources, *event.spends)))
    resources = requested(units, cast("Elasticity | None", event.elastic))
    return attrs.evolve(
        task, resources=resources, timeout=timeout, idempotent=event.idempotent
    )


# -- identity ----------------------------------------------------------------------


def differences(
    old: Task,
    new: Task,
    above: tuple[Iterable[str], Iterable[str]],
    are_alike: Alike,
) -> list[Difference]:
    """
    Return the differences of identity between *old* and *new*; empty if none.

    Both are as a journal keeps them. *above* has the ids of their dependencies, of
    whichever runs; for *are_alike* see `alike`.
    """
    found: list[Difference] = []
    if old.type != new.type:
        found.append(("type", _shown(old.type), _shown(new.type)))
    found += _between("payload", old.payload, new.payload, are_alike)
    one, other = (sorted({stem_of(task_id) for task_id in ids}) for ids in above)
    if one != other:
        found.append(("after", _shown(one), _shown(other)))
    for name in _BESIDE:
        one, other = getattr(old, name), getattr(new, name)
        if not are_alike(one, other):
            found.append((name, _shown(one), _shown(other)))
    return found


def _between(
    where: str, one: Any, other: Any, are_alike: Alike, depth: int = 0
) -> list[Difference]:
    """Return the parts of two values that differ."""
    if are_alike(one, other):
        return []
    found: list[Difference] = []
    if depth < _MAX_DEPTH and type(one) is type(other):
        for place, a, b, is_hidden in _parts(where, one, other):
            if not is_hidden:
                found += _between(place, a, b, are_alike, depth + 1)
            elif not are_alike(a, b):
                found.append((place, _hidden(a), _hidden(b)))
    return found or [(where, _shown(one), _shown(other))]


def _parts(where: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any, bool]]:
    """Yield the parts of two values of one type: place, both, and whether to show."""
    if isinstance(one, Call):
        yield "function", one.fn, other.fn, False
        yield "args", one.args, other.args, False
        yield "kwargs", dict(one.kwargs), dict(other.kwargs), False
        yield "executor", one.executor, other.executor, False
    elif isinstance(one, Program):
        for field in attrs.fields(Program):
            a, b = getattr(one, field.name), getattr(other, field.name)
            if field.name == "env":
                for place, *both, _ in _parts("env", dict(a), dict(b)):
                    yield place, *both, True
            else:
                yield field.name, a, b, field.name in _HIDDEN
    elif isinstance(one, dict):
        for key in {**one, **other}:
            place = f"{where}[{_shown(key)}]"
            yield place, one.get(key, _ABSENT), other.get(key, _ABSENT), False
    elif isinstance(one, list | tuple) and len(one) == len(other):
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            yield f"{where}[{number}]", a, b, False


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "missing"
    if isinstance(value, Reference):
        return f"the result of {value.task_id}"
    if isinstance(value, Missing):
        return f"{str(value).replace(':', '.')}, which is gone: {value.why}"
    if isinstance(value, Call):
        return f"a call of {_shown(value.fn)}"
    name = getattr(value, "__qualname__", None)
    if callable(value) and isinstance(name, str):
        return f"{getattr(value, '__module__', '')}.{name}".lstrip(".")
    return " ".join(show(value, _MAX_VALUE).split())


def _hidden(value: Any) -> str:
    return "missing" if value is _ABSENT else "a value that is not shown"


def refusal(
    found: Mapping[str, tuple[str, list[Difference]]], hint: str
) -> DuplicateTaskError:
    """
    Return the error for tasks whose names are taken.

    For each task that exists, by its id, *found* has the name and the differences: none
    if its identity has left memory. The *hint* says what to do.
    """
    said: list[str] = []
    for name, parts in found.values():
        lines = [f"{field} was {was}, and is {now}" for field, was, now in parts]
        if len(lines) > _MAX_SHOWN:
            lines[_MAX_SHOWN:] = [f"and {len(lines) - _MAX_SHOWN} more"]
        why = "; ".join(lines) or "what it was has left memory"
        said.append(f"{name} is taken by a task with other content: {why}")
    if len(said) > _MAX_SHOWN:
        said[_MAX_SHOWN:] = [f"and so are {len(said) - _MAX_SHOWN} more"]
    every = tuple((i, *part) for i, (_, parts) in found.items() for part in parts)
    first = stem_of(next(iter(found)))
    return DuplicateTaskError(
        ". ".join(said), differences=every, hint=hint, task_id=first
    )


def digest(task: Task, after: Iterable[str]) -> int | None:
    """
    Return a number for the identity of *task*; None if it cannot be pickled.

    It is valid in this process only, and an odd number of `DIGEST_BITS`.
    """
    payload = task.payload
    beside = _beside(task)
    try:
        if type(payload) is not Call:
            kept = pickle.dumps(((payload,), beside))
        elif type(payload.fn) is FunctionType and not (
            payload.args or payload.kwargs or task.idempotency_key
        ):
            # Most tasks of a large graph are calls without arguments. Pickling each of
            # them would take a third of the time of the submission.
            kept = _pickled(payload.fn, payload.executor, beside)
        else:
            kept = pickle.dumps((_content(payload), beside))
    except BaseException as error:
        # An object of the user's cannot be pickled.
        if not is_values(error):
            raise
        return None
    found = hash((kept, task.type, frozenset(map(stem_of, after))))
    return (found & _ALL_BITS) | 1


def _content(call: Call) -> tuple[Any, ...]:
    """Return *call* as a tuple, which `pickle` writes ten times as fast."""
    return call.fn, call.args, dict(call.kwargs), call.executor


@lru_cache(64)
def _pickled(
    fn: Callable[..., Any], executor: str | None, beside: tuple[Any, ...]
) -> bytes:
    """Return the bytes of a call without arguments, cached by *fn*."""
    return pickle.dumps((_content(Call(fn, executor=executor)), beside))
