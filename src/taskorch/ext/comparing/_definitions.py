"""
The differences of two tasks of one name: code, arguments, options, data, machine.

Their times and ends are no part of it: such a difference leads to them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from inspect import unwrap
from typing import Any, Final, NamedTuple

import attrs

from taskorch.ext.comparing._facts import RunFacts, TaskFacts
from taskorch.ext.comparing._sizes import growth, sizes_of
from taskorch.kit.fence import is_values
from taskorch.kit.visible import show, visible
from taskorch.kit.words import some
from taskorch.model import Call, Missing, Program, Reference, Task, Wait
from taskorch.model.ids import in_run

#: The fields that define a task, and its notes; all others are options.
_NO_OPTIONS: Final = frozenset({"after", "id", "metadata", "payload"})
#: The fields of a program that may be secret.
_HIDDEN: Final = frozenset({"env", "stdin"})
#: The fields of a program that are its arguments; all others are options.
_OF_PROGRAMS: Final = frozenset({"args", "env", "stdin"})
#: Notes of the user under such names are sizes of data.
_SIZED: Final = ("size", "bytes", "rows", "count")
_ABSENT: Final = object()
_HIDDEN_TEXT: Final = "(a value that is not shown)"


class TaskChange(NamedTuple):
    """
    One thing in which a task differs from the earlier one.

    Attributes:
        what: `code`, `arguments`, `options`, `data` or `machine`.
        text: The difference in words.
        ratio: How many times as large a size or a number is; None: it is unknown.
        source: The task whose result has another size; "" for any other thing.
        acts_on: The time that it can lengthen: the `work` of the task, its `wait`, or
            `both`; "" for an option that hardly lengthens anything.
    """

    what: str
    text: str
    ratio: float | None = None
    source: str = ""
    acts_on: str = "work"


def changes(
    earlier: RunFacts,
    later: RunFacts,
    name: str,
    moved: Mapping[str, tuple[Any, Any]],
    new: Collection[str],
) -> Iterator[TaskChange]:
    """
    Yield the differences of the task *name* in *later*.

    An argument that follows a parameter which *moved* is not told: see `parameters`.
    *new* are the machines that the earlier run did not use: see `new_places`.
    """
    was, now = earlier.tasks[name], later.tasks[name]
    if was.has_left or now.has_left:
        return
    task_changes = [TaskChange("code", text) for text in _other_code(was, now)]
    if was.task is not None and now.task is not None:
        task_changes += _other_parts(earlier, later, (was.task, now.task), moved)
        task_changes += _other_notes(was.task, now.task)
        task_changes += _other_inputs(earlier, later, now.task)
    grown = growth(was.sizes, now.sizes)
    # With the same work to do as before, it found more, or less.
    if grown is not None and all(each.acts_on != "work" for each in task_changes):
        task_changes.append(
            TaskChange("data", f"its result {grown.text}", grown.ratio, name)
        )
    yield from task_changes
    yield from _other_parents(was, now, earlier.tasks, later.tasks)
    yield from _other_machine(was, now, new)


def new_places(earlier: RunFacts, later: RunFacts) -> frozenset[str]:
    """Return the machines and workers of a run that the earlier one did not use."""
    was, now = earlier.tasks, later.tasks
    places = {_place(was[name], now[name]) for name in now if name in was}
    machines = [each.machine or {} for each in was.values()]
    used = {_machine(each["host"]) for each in machines if "host" in each}
    used |= {f"the worker {each.status.agent_id}" for each in was.values()}
    return frozenset(places - used - {""})


def _other_parts(
    earlier: RunFacts,
    later: RunFacts,
    both: tuple[Task, Task],
    moved: Mapping[str, tuple[Any, Any]],
) -> Iterator[TaskChange]:
    """Yield the parts and the options of a task that differ."""
    for kind_of_all, pairs in (
        ("", _pairs(*map(_parts, both))),
        ("options", _pairs(*map(_options, both))),
    ):
        for place, one, other in pairs:
            if _is_same(one, other, earlier, later) or _moved(one, other, moved):
                continue
            if place.partition("[")[0].partition(".")[0] in _HIDDEN:
                text = f"another {place} {_HIDDEN_TEXT}"
                yield TaskChange(kind_of_all or _kind_of(place, both[1]), text)
                continue
            grown = growth(sizes_of(one), sizes_of(other))
            if grown is not None and not kind_of_all:
                yield TaskChange("data", f"{place} {grown.text}", grown.ratio)
                continue
            kind = kind_of_all or _kind_of(place, both[1])
            texts = _text(one, earlier), _text(other, later)
            text = f"{place} {texts[0]} → {texts[1]}"
            acts_on = _ACTS_ON.get(place, "") if kind_of_all else "work"
            yield TaskChange(kind, text, _ratio(one, other), acts_on=acts_on)


#: The time that each option can lengthen.
_ACTS_ON: Final = {
    **dict.fromkeys(("resources", "requires", "type"), "both"),
    **dict.fromkeys(("retry", "timeout"), "work"),
    **dict.fromkeys(("join", "not_before", "owner", "priority", "writes"), "wait"),
}


def _kind_of(place: str, task: Task) -> str:
    """Return the kind of a part of the work of a task: see `TaskChange.what`."""
    if place == "function":
        return "code"
    if place == "executor":
        return "options"
    is_option = isinstance(task.payload, Program) and place not in _OF_PROGRAMS
    return "options" if is_option else "arguments"


def _ratio(one: Any, other: Any) -> float | None:
    """Return how many times as large a number above 0 is; None: no float says it."""
    if not all(_is_number(each) and each > 0 for each in (one, other)):
        return None
    try:
        ratio = float(other) / float(one)
    except OverflowError:
        return None
    # Of numbers that are infinite, or far from each other, it is infinite or 0.
    return ratio if 0 < ratio < math.inf else None


def _is_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and not math.isnan(value))


def _other_notes(was: Task, now: Task) -> Iterator[TaskChange]:
    """Yield the sizes that the user has noted, and that differ."""
    for name, one, other in _pairs(was.metadata or {}, now.metadata or {}):
        is_size = any(word in str(name).lower() for word in _SIZED)
        if is_size and _is_number(one) and _is_number(other) and one != other:
            text = f"{name} {shown(one)} → {shown(other)}"
            yield TaskChange("data", text, _ratio(one, other))


def _other_inputs(
    earlier: RunFacts, later: RunFacts, task: Task
) -> Iterator[TaskChange]:
    """Yield the results that a task uses, and that have another size."""
    for name in _used(task, later):
        was, now = earlier.tasks.get(name), later.tasks.get(name)
        grown = None if was is None or now is None else growth(was.sizes, now.sizes)
        if grown is not None:
            text = f"the result of {name} {grown.text}"
            yield TaskChange("data", text, grown.ratio, name)


def _used(task: Task, run: RunFacts) -> Iterator[str]:
    """Yield the tasks of its run whose results are arguments of a task."""
    todo = [*_parts(task).values()]
    while todo:
        each = todo.pop()
        if isinstance(each, Reference):
            yield _name_in(each, run)
        elif type(each) in (list, tuple):
            todo += each
        elif type(each) is dict:
            todo += each.values()


def _other_parents(
    was: TaskFacts, now: TaskFacts, earlier: Collection[str], later: Collection[str]
) -> Iterator[TaskChange]:
    """Yield the tasks that it waits for, too, and those that it waits for no more."""
    for word, one, other, tasks in (
        ("waits for {}, too", was, now, earlier),
        ("does not wait for {} any more", now, was, later),
    ):
        # Tasks that are new, or gone, are told on their own.
        names = [
            each for each in other.needs if each not in one.needs and each in tasks
        ]
        if names:
            yield TaskChange("options", word.format(some(names)), acts_on="wait")


def _other_machine(
    was: TaskFacts, now: TaskFacts, new: Collection[str]
) -> Iterator[TaskChange]:
    """Yield the differences of its machine; a machine that both runs used is none."""
    # All new ones are told as one: by where each task ran, a fleet whose machines have
    # new names each night would be told in many pieces.
    if _place(was, now) in new:
        text = f"ran on {some(sorted(new))}, not used before"
        yield TaskChange("machine", text)
    one, other = was.machine or {}, now.machine or {}
    for key, value in other.items():
        if key != "host" and one.get(key, value) != value:
            yield TaskChange("machine", f"{key} {one[key]} → {value}")


def _place(was: TaskFacts, now: TaskFacts) -> str:
    """Return the machine of a task, or its worker unless both say theirs; or ""."""
    one, other = was.machine or {}, now.machine or {}
    if "host" in one and "host" in other:
        return _machine(other["host"])
    has_both = was.status.agent_id and now.status.agent_id
    return f"the worker {now.status.agent_id}" if has_both else ""


def _machine(host: str) -> str:
    return f"the machine {' '.join(visible(host).split())}"


def given(
    earlier: RunFacts, later: RunFacts, name: str, moved: Mapping[str, tuple[Any, Any]]
) -> set[str]:
    """Return the changed parameters that the task *name* used."""
    was, now = earlier.tasks[name].task, later.tasks[name].task
    if was is None or now is None or not moved:
        return set()
    pairs = _pairs(_parts(was), _parts(now))
    return {each for _, one, other in pairs for each in _moved(one, other, moved)}


def parameters(earlier: RunFacts, later: RunFacts) -> dict[str, tuple[Any, Any]]:
    """Return the parameters that differ: both values, by name, if they are known."""
    for run in (earlier, later):
        if all(task.has_left for task in run.tasks.values()):
            return {}
    both = _pairs(earlier.parameters, later.parameters)
    return {name: (one, other) for name, one, other in both if not _equal(one, other)}


def shown(value: Any) -> str:
    """A value of a parameter, for people."""
    return "missing" if value is _ABSENT else " ".join(show(value, 60).split())


def _other_code(was: TaskFacts, now: TaskFacts) -> Iterator[str]:
    """The functions that both called, and that have other code."""
    if was.codes is None or now.codes is None:
        one, other = _function(was), _function(now)
        is_known = one is not None and other is not None
        if is_known and one is not other and _code(one) != _code(other):
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
    if (was.codes is not None and now.codes is not None) or (was.awaits and now.awaits):
        return True
    one, other = _function(was), _function(now)
    return one is not None and (one is other or _code(one) != _code(other))


def _function(task: TaskFacts) -> Any:
    """Return the function that a task calls; None: none, or an unknown one."""
    payload = None if task.task is None else task.task.payload
    # The decorator @task wraps the function.
    return unwrap(payload.fn) if isinstance(payload, Call) else None


def _code(function: Any) -> Any:
    return getattr(function, "__code__", None)


def _name_of(function: Any) -> str:
    name = getattr(function, "__qualname__", show(function))
    return f"{getattr(function, '__module__', '')}.{name}".lstrip(".")


def _parts(task: Task) -> dict[str, Any]:
    """Return the parts of the work of a task, by their places."""
    payload = task.payload
    if isinstance(payload, Call):
        called = _name_of(payload.fn)
        arguments = {f"args[{n}]": each for n, each in enumerate(payload.args)}
        arguments |= {f"kwargs[{name}]": each for name, each in payload.kwargs.items()}
        return {"function": called, **arguments, "executor": payload.executor}
    if isinstance(payload, Program | Wait):
        return {
            field.name: getattr(payload, field.name)
            for field in attrs.fields(type(payload))
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
    """Return whether two values are equal, except for ids of their runs."""
    if isinstance(one, Reference):
        return isinstance(other, Reference) and _text(one, earlier) == _text(
            other, later
        )
    if type(one) is not type(other):
        return False
    if issubclass(type(one), Missing):
        # Who cannot import it has an object of its own for each mention of the name.
        return (one.name, one.kept) == (other.name, other.kept)
    if isinstance(one, Call):
        one, other = (
            attrs.asdict(one, recurse=False),
            attrs.asdict(other, recurse=False),
        )
    pairs: Iterable[tuple[Any, Any]]
    # A class of the user may refuse access to its items.
    if type(one) in (list, tuple) and len(one) == len(other):
        pairs = zip(one, other, strict=True)
    elif type(one) is dict and _equal([*one], [*other]):
        pairs = zip(one.values(), other.values(), strict=True)
    else:
        return _equal(one, other)
    return all(_is_same(was, now, earlier, later) for was, now in pairs)


def _equal(one: Any, other: Any) -> bool:
    """Return whether two values are equal, or at least look equal."""
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
        return f"the result of {_name_in(value, run)}"
    return shown(value)


def _name_in(reference: Reference, run: RunFacts) -> str:
    """Return the id in the workflow of the task that *reference* stands for."""
    return reference.task_id.removeprefix(in_run(run.run_id, ""))
