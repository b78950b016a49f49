"""
How options are described, and which of them a function has for its calls.

Each option of a task is described once, where its field stands in `Task`. What it may
be is its *form*. Validation, documents, schemas, command lines and tests know the
forms; which option has which form, they take from here.

Decision: 0071.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from inspect import cleandoc
from types import FunctionType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import attrs

#: What the value of an option may be. `duration` is seconds, `moment` is seconds from
#: submission or an aware date; those that end with `_or_zero` may be 0.
Form: TypeAlias = Literal[
    "type",
    "id",
    "key",
    "name",
    "names",
    "ids",
    "paths",
    "join",
    "on_parent_failure",
    "priority",
    "resources",
    "retry",
    "duration",
    "duration_or_zero",
    "moment",
    "moment_or_zero",
    "flag",
    "values",
    "cache",
]
FORMS: Final[tuple[Form, ...]] = get_args(Form)
#: How tasks are looked for by an option: its value is the one that is given, matches a
#: pattern, or has all the names and values that are given.
Match: TypeAlias = Literal["equal", "pattern", "contains"]
#: The widest place in which an option can be said: with a function and all that is
#: below, with a task of a workflow, or with a submission only.
Place: TypeAlias = Literal["function", "workflow", "submission"]

_KEY: Final = "taskorch option"
#: An entry of the section `Attributes:` of a docstring.
_ENTRY: Final = re.compile(r"    (\w+): (.*(?:\n {8}.*)*)")


class Option(NamedTuple):
    """
    The description of one option of a task.

    Attributes:
        name: Its name.
        default: Its value if nothing is said.
        form: What its value may be.
        identity: Whether it belongs to what the task is: a task that is submitted again
            under its id has the same. All others may change until the task has ended.
        kind: Whether tasks of one kind have it in common, so that one of them is
            validated for all, and they wait in one place.
        place: The widest place in which it can be said.
        match: How tasks are looked for by it; None if they are not.
    """

    name: str
    default: Any
    form: Form
    identity: bool
    kind: bool
    place: Place
    match: Match | None


def option(
    form: Form,
    *,
    identity: bool = False,
    kind: bool = False,
    place: Place = "function",
    match: Match | None = None,
) -> dict[str, Any]:
    """The metadata of the attrs field of an option: see `Option`."""
    return {_KEY: (form, identity, kind, place, match)}


def described(cls: type) -> dict[str, Option]:
    """The options of *cls* by name, in the order of its fields."""
    return {
        field.name: Option(field.name, field.default, *field.metadata[_KEY])
        for field in attrs.fields(cls)
        if _KEY in field.metadata
    }


def texts_of(cls: type, section: str = "Attributes") -> Mapping[str, str]:
    """What the docstring of *cls* says in *section*, by name, in one line each."""
    entries = cleandoc(cls.__doc__ or "").partition(f"{section}:\n")[2]
    return {
        name: " ".join(text.split()) for name, text in _ENTRY.findall(f"{entries}\n")
    }


#: The attribute of a function that has what was declared with it.
DECLARED: Final = "__taskorch_task__"


@attrs.frozen
class Declared:
    """What `@taskorch.task` has noted of a function: its `TaskOptions`, and where."""

    options: Mapping[str, Any]
    executor: str | None = None


class FunctionWithOptions:
    """
    A function, and options for its calls: what `f.options(…)` gives.

    Attributes:
        fn: The function.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn: Callable[..., Any] = fn

    @property
    def with_noted(self) -> Declared:
        """The options of its calls, those of the function among them."""
        raise NotImplementedError


def declared(fn: Callable[..., Any]) -> Declared | None:
    """What was declared with *fn*, or with what an object, method or partial calls."""
    while True:
        if isinstance(fn, FunctionWithOptions):
            return fn.with_noted
        declaration = getattr(fn, DECLARED, None)
        # The class is compared, since a mock has every attribute that it is asked for.
        if type(declaration) is Declared:
            return declaration
        if type(fn) is FunctionType:
            return None
        if not isinstance(fn, partial):
            break
        fn = fn.func
    # An instance is called by the method of its class.
    call = getattr(type(fn), "__call__", None)  # noqa: B004 - for what it has noted
    declaration = getattr(call, DECLARED, None)
    return declaration if type(declaration) is Declared else None
