"""
Descriptions of options, and the options that a function has for its calls.

Each option of a task is described once, at its field in `Task`. Its *form* defines its
valid values. Validation, documents, schemas, command lines and tests know the forms,
and read the form of each option from here.

Decision: options-and-settings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from inspect import cleandoc
from types import FunctionType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import attrs

#: The forms of values of options. `duration` is seconds, `moment` is seconds from
#: submission or an aware date; forms that end with `_or_zero` may be 0.
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
#: The match of a search by an option: its value equals the given one, matches a
#: pattern, or contains all given names and values.
Match: TypeAlias = Literal["equal", "pattern", "contains"]
#: The widest place in which an option can be set: with a function and all below, with a
#: task of a workflow, or with a submission only.
Place: TypeAlias = Literal["function", "workflow", "submission"]

_KEY: Final = "taskorch option"
#: An entry of the section `Attributes:` of a docstring.
_ENTRY: Final = re.compile(r"    (\w+): (.*(?:\n {8}.*)*)")


class Option(NamedTuple):
    """
    The description of one option of a task.

    Attributes:
        name: Its name.
        default: Its default value.
        form: The form of its values.
        identity: True if it is part of the identity of the task: a task that is
            submitted again under its id must have the same value. Other options may
            change until the task has ended.
        kind: True if tasks of one kind have it in common, so that one of them is
            validated for all, and they share a bucket.
        place: The widest place in which it can be set.
        match: The comparison for searches by it; None if there are none.
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
    """Return the metadata of the attrs field of an option: see `Option`."""
    return {_KEY: (form, identity, kind, place, match)}


def described(cls: type) -> dict[str, Option]:
    """Return the options of *cls* by name, in the order of its fields."""
    return {
        field.name: Option(field.name, field.default, *field.metadata[_KEY])
        for field in attrs.fields(cls)
        if _KEY in field.metadata
    }


def texts_of(cls: type, section: str = "Attributes") -> Mapping[str, str]:
    """Return the texts in *section* of the docstring of *cls*, by name."""
    entries = cleandoc(cls.__doc__ or "").partition(f"{section}:\n")[2]
    return {
        name: " ".join(text.split()) for name, text in _ENTRY.findall(f"{entries}\n")
    }


#: The attribute of a function that has its declaration.
DECLARED: Final = "__taskorch_task__"


@attrs.frozen
class Declared:
    """Options that `@taskorch.task` has noted of a function: its `TaskOptions`."""

    options: Mapping[str, Any]
    executor: str | None = None


class FunctionWithOptions:
    """
    A function with options for its calls: the result of `f.options(…)`.

    Attributes:
        fn: The function.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn: Callable[..., Any] = fn

    @property
    def with_noted(self) -> Declared:
        """Options of its calls, with those of the function."""
        raise NotImplementedError


def declared(fn: Callable[..., Any]) -> Declared | None:
    """Return the declaration of *fn*, or of the function that it calls, or None."""
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
    # The method of its class is called for an instance.
    call = getattr(type(fn), "__call__", None)  # noqa: B004 - for what it has noted
    declaration = getattr(call, DECLARED, None)
    return declaration if type(declaration) is Declared else None
