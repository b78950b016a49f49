"""In what two tasks of one name are made of other things: calls, arguments, options."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from inspect import unwrap
from typing import Any, Final

import attrs

from taskorch.comparing._facts import RunFacts, TaskFacts
from taskorch.kit.fence import is_values
from taskorch.kit.visible import show
from taskorch.model import Call, Program, Reference, Task
from taskorch.model.ids import in_run

#: What a task is, and what is noted with it; all else are options.
_NO_OPTIONS: Final = frozenset({"after", "id", "metadata", "payload"})
#: Of a program, what may be secret.
_HIDDEN: Final = frozenset({"env", "stdin"})
_ABSENT: Final = object()
_HIDDEN_TEXT: Final = "(a value that is not shown)"


def changes(
    earlier: RunFacts, later: RunFacts, name: str, moved: Mapping[str, tuple[Any, Any]]
) -> Iterator[str]:
    """
    Say in what the task *name* is made of other things in *later*, in words.

    An argument that follows a parameter which *moved* is not told: see `parameters`.
    """
    was, now = earlier.tasks[name], later.tasks[name]
    yield from _other_code(was, now)
    if was.task is None or now.task is None:
        return
    pairs = [*_pairs(_parts(was.task), _parts(now.task))]
    pairs += [*_pairs(_options(was.task), _options(now.task))]
    for place, one, other in pairs:
        if _is_same(one, other, earlier, later) or _moved(one, other, moved):
            continue
        if place.partition("[")[0].partition(".")[0] in _HIDDEN:
            yield f"another {place} {_HIDDEN_TEXT}"
        else:
            texts = _text(one, earlier), _text(other, later)
            yield f"{place} {texts[0]} → {texts[1]}"


def given(
    earlier: RunFacts, later: RunFacts, name: str, moved: Mapping[str, tuple[Any, Any]]
) -> set[str]:
    """The parameters that *moved*, and with them what the task *name* was given."""
    was, now = earlier.tasks[name].task, later.tasks[name].task
    if was is None or now is None or not moved:
        return set()
    pairs = _pairs(_parts(was), _parts(now))
    return {each for _, one, other in pairs for each in _moved(one, other, moved)}


def parameters(earlier: RunFacts, later: RunFacts) -> dict[str, tuple[Any, Any]]:
    """The parameters of which the two runs were given others: both values, by name."""
    both = _pairs(earlier.parameters, later.parameters)
    return {name: (one, other) for name, one, other in both if not _equal(one, other)}


def shown(value: Any) -> str:
    """A value of a parameter, for people."""
    return "missing" if value is _ABSENT else " ".join(show(value, 60).split())


def _other_code(was: TaskFacts, now: TaskFacts) -> Iterator[str]:
    """The functions that both called, and that have other code."""
    if was.codes is None or now.codes is None:
        one, other = _function(was), _function(now)
        if one is not other and _code(one) != _code(other):
            yield f"other code of {_name_of(other)}"
        return
    for name in was.codes.keys() & now.codes.keys():
        if was.codes[name] != now.codes[name]:
            yield f"other code of {name}"


def is_code_known(was: TaskFacts, now: TaskFacts) -> bool:
    """
    Whether it is known if two tasks of one name called the same code.

    Without a journal no versions are kept: then it is known of one and the same
    function, and of two with other instructions.
    """
    if was.codes is not None and now.codes is not None:
        return True
    one, other = _function(was), _function(now)
    return one is not None and (one is other or _code(one) != _code(other))


def _function(task: TaskFacts) -> Any:
    """The function that a task calls; None: it calls none, or nobody knows."""
    payload = None if task.task is None else task.task.payload
    # What @task has made of a function wraps it.
    return unwrap(payload.fn) if isinstance(payload, Call) else None


def _code(function: Any) -> Any:
    return getattr(function, "__code__", None)


def _name_of(function: Any) -> str:
    name = getattr(function, "__qualname__", show(function))
    return f"{getattr(function, '__module__', '')}.{name}".lstrip(".")


def _parts(task: Task) -> dict[str, Any]:
    """The parts of what a task does, by their places."""
    payload = task.payload
    if isinstance(payload, Call):
        called = _name_of(payload.fn)
        arguments = {f"args[{n}]": each for n, each in enumerate(payload.args)}
        arguments |= {f"kwargs[{name}]": each for name, each in payload.kwargs.items()}
        return {"function": called, **arguments, "executor": payload.executor}
    if isinstance(payload, Program):
        return {
            field.name: getattr(payload, field.name) for field in attrs.fields(Program)
        }
    return {"payload": payload}


def _options(task: Task) -> dict[str, Any]:
    return {
        field.name: getattr(task, field.name)
        for field in attrs.fields(Task)
        if field.name not in _NO_OPTIONS and not field.name.startswith("_")
    }


def _pairs(
    one: Mapping[str, Any], other: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    for place in {**one, **other}:
        yield place, one.get(place, _ABSENT), other.get(place, _ABSENT)


def _is_same(one: Any, other: Any, earlier: RunFacts, later: RunFacts) -> bool:
    """Whether two values are one, but that each names tasks of its own run."""
    if isinstance(one, Reference):
        return isinstance(other, Reference) and _text(one, earlier) == _text(
            other, later
        )
    if type(one) is not type(other):
        return False
    pairs: Iterable[tuple[Any, Any]]
    # What a class of the user's does with its items, it may refuse to do.
    if type(one) in (list, tuple) and len(one) == len(other):
        pairs = zip(one, other, strict=True)
    elif type(one) is dict and _equal([*one], [*other]):
        pairs = zip(one.values(), other.values(), strict=True)
    else:
        return _equal(one, other)
    return all(_is_same(was, now, earlier, later) for was, now in pairs)


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are equal; of those that no one can compare: are shown so."""
    if one is other:
        return True
    try:
        return bool(one == other)
    except BaseException as error:
        if not is_values(error):
            raise
        return show(one) == show(other)


def _moved(one: Any, other: Any, moved: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """The parameters that moved as a value of a task did."""
    return [
        name
        for name, (was, now) in moved.items()
        if _equal(one, was) and _equal(other, now)
    ]


def _text(value: Any, run: RunFacts) -> str:
    if isinstance(value, Reference):
        return f"the result of {value.task_id.removeprefix(in_run(run.run_id, ''))}"
    return shown(value)
