"""
The thirteen operators, and the values that dotted paths lead to, as closures.

Values that cannot be compared raise an `UnfitError`, and the caller decides what
follows. Numbers are numbers, texts are texts: 1 is neither "1" nor true.

Decision: policies-as-data.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar, cast

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.fence import is_values
from taskorch.kit.patterns import searcher
from taskorch.kit.plain import pythons
from taskorch.kit.visible import show
from taskorch.model import Call, call_type

P = ParamSpec("P")
T = TypeVar("T")

#: A test whether a value satisfies an operator.
Test: TypeAlias = Callable[[Any], bool]
#: Reads the value of an operation at the end of a path, or `NOWHERE`.
Getter: TypeAlias = Callable[[Any], Any]

#: Stands for a missing value.
NOWHERE: Final[Any] = object()
#: The number of letters of a text in which a regular expression is searched.
_MOST_LETTERS: Final = 10_000


class UnfitError(Exception):
    """A value is of a kind that its rule cannot judge."""


def fenced(look: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """
    Return the result of *look*, which reads values of users that may do anything.

    All code that judges such values calls this, and expects this error alone.

    Raises:
        UnfitError: A value has raised an error.
    """
    try:
        return look(*args, **kwargs)
    except UnfitError:
        raise
    except BaseException as error:
        if not is_values(error):
            raise
        msg = f"it cannot be read ({type(error).__name__})"
        raise UnfitError(msg) from None


# -- the values of an operation --------------------------------------------------------


def getter(steps: tuple[str | int, ...]) -> Getter:
    """Return a function that reads the value at *steps* of an operation."""
    first, rest = str(steps[0]), steps[1:]
    if not rest:
        return lambda operation: getattr(operation, first)
    if len(rest) == 1:
        step = rest[0]
        return lambda operation: _member(getattr(operation, first), step)

    def get(operation: Any) -> Any:
        value = getattr(operation, first)
        for step in rest:
            value = _member(value, step)
            if value is NOWHERE:
                return NOWHERE
        return value

    return get


def _member(value: Any, step: str | int) -> Any:
    if type(value) is dict:
        return value.get(step, NOWHERE)
    if isinstance(value, Mapping):
        return cast("Mapping[object, Any]", value).get(step, NOWHERE)
    if isinstance(step, int):
        is_there = isinstance(value, list | tuple) and step < len(value)
        return value[step] if is_there else NOWHERE
    if step == "function" and isinstance(value, Call):
        return call_type(value.fn)
    return getattr(value, step) if step in fields_of(type(value)) else NOWHERE


def fields_of(cls: type) -> Collection[str]:
    """Return the names of the public fields of *cls*, if it has any."""
    if cls is Call:
        # A called function counts by its name only: see `_member`.
        return ("args", "kwargs")
    if attrs.has(cls):
        names = [field.name for field in attrs.fields(cls)]
    elif dataclasses.is_dataclass(cls):
        names = [field.name for field in dataclasses.fields(cls)]
    else:
        return ()
    return [name for name in names if not name.startswith("_")]


# -- kinds of values -------------------------------------------------------------------


def _kind(value: Any) -> str:
    """
    Return the kind of values that *value* can be compared with.

    Raises:
        UnfitError: It is NaN, or of a kind that no document has.
    """
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a flag"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, int):
        return "a number"
    if isinstance(value, float):
        if math.isnan(value):
            msg = "NaN compares with nothing"
            raise UnfitError(msg)
        return "a number"
    if isinstance(value, list | tuple | set | frozenset):
        return "a list"
    if isinstance(value, Mapping):
        return "a mapping"
    msg = f"a {type(cast('object', value)).__name__} compares with nothing"
    raise UnfitError(msg)


def _demand(value: Any, kind: str) -> Any:
    value = pythons(value)
    actual = _kind(value)
    if actual != kind:
        msg = f"it is {actual}, not {kind}"
        raise UnfitError(msg)
    return value


def are_equal(first: Any, second: Any) -> bool:
    """Return whether two values are equal, with all that they contain."""
    one: Any = pythons(first)
    other: Any = pythons(second)
    kind = _kind(one)
    if kind != _kind(other):
        return False
    if kind == "a list" and type(one) not in (set, frozenset):
        return len(one) == len(other) and all(
            are_equal(*pair) for pair in zip(one, other, strict=True)
        )
    if kind == "a mapping":
        return one.keys() == other.keys() and all(
            are_equal(one[name], other[name]) for name in one
        )
    return bool(one == other)


def _is_among(value: Any, members: Collection[Any]) -> bool:
    """
    Return whether *value* is one of *members*.

    Raises:
        UnfitError: It is of another kind than all of them.
    """
    value = pythons(value)
    kind, kinds = _kind(value), [_kind(pythons(one)) for one in members]
    if kinds and kind not in kinds and kind != "nothing":
        msg = f"{kind} is compared with {' and '.join(sorted({*kinds}))}"
        raise UnfitError(msg)
    return any(are_equal(value, one) for one in members)


# -- operators -------------------------------------------------------------------------


def _equals(expected: Any) -> Test:
    kind = _kind(expected)
    if kind in ("a text", "a flag"):
        plain_type = type(expected)

        def is_it(actual: Any) -> bool:
            if type(actual) is plain_type:
                return bool(actual == expected)
            return False if actual is None else bool(_demand(actual, kind) == expected)

        return is_it

    def equals(actual: Any) -> bool:
        actual = pythons(actual)
        other = _kind(actual)
        if other != kind and "nothing" not in (other, kind):
            msg = f"it is {other}, not {kind}"
            raise UnfitError(msg)
        return are_equal(actual, expected)

    return equals


def _contains(expected: Any) -> Test:
    kind = _kind(expected)

    def contains(actual: Any) -> bool:
        actual = pythons(actual)
        other = _kind(actual)
        if other == "a list":
            return _is_among(expected, actual)
        if other == "a mapping" and kind == "a text":
            return expected in actual
        if other == "a text" and kind == "a text":
            return expected in actual
        msg = f"{other} contains no {kind.partition(' ')[2] or kind}"
        raise UnfitError(msg)

    return contains


_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "greater_than": operator.gt,
    "less_than": operator.lt,
    "greater_than_or_equal": operator.ge,
    "less_than_or_equal": operator.le,
}


def _compares(name: str, expected: Any) -> Test:
    compare = _COMPARISONS[name]
    if isinstance(expected, bool) or not isinstance(expected, int | float):
        msg = f"value: {name} needs a number, not {show(expected)}"
        raise InvalidTaskError(msg)

    def compares(actual: Any) -> bool:
        if type(actual) is not int:
            actual = _demand(actual, "a number")
        return bool(compare(actual, expected))

    return compares


def _is_in(expected: Any) -> Test:
    if not isinstance(expected, list | tuple) or not expected:
        msg = f"value: a list of what it may be is needed, not {show(expected)}"
        raise InvalidTaskError(msg)
    members: Any = tuple(expected)
    for one in members:
        _kind(one)
    if all(type(one) is str for one in members):
        names = frozenset(members)
        return lambda actual: (
            actual in names if type(actual) is str else _is_among(actual, members)
        )
    return lambda actual: _is_among(actual, members)


def _matches(expected: Any) -> Test:
    if not isinstance(expected, str):
        msg = f"value: a regular expression is needed, not {show(expected)}"
        raise InvalidTaskError(msg)
    try:
        search = searcher(expected)
    except re.error as error:
        msg = f"value: {show(expected)} is no regular expression: {error}"
        raise InvalidTaskError(msg) from None

    def matches(actual: Any) -> bool:
        text = _demand(actual, "a text")
        if len(text) > _MOST_LETTERS:
            msg = f"it has {len(text):,} letters, and {_MOST_LETTERS:,} are searched"
            raise UnfitError(msg)
        return search(text)

    return matches


def _negated(test: Test) -> Test:
    return lambda actual: not test(actual)


def test_of(name: str, expected: Any) -> Test:
    """
    Return a test whether a value satisfies the operator *name* with *expected*.

    It raises an `UnfitError` for values that cannot be compared. Only `exists` and
    `not_exists` get `NOWHERE`.

    Raises:
        InvalidTaskError: The operator does not compare with *expected*.
    """
    if name == "exists":
        return lambda actual: actual is not NOWHERE and actual is not None
    if name == "not_exists":
        return lambda actual: actual is NOWHERE or actual is None
    try:
        if name in ("equals", "not_equals"):
            test = _equals(expected)
        elif name in ("contains", "not_contains"):
            test = _contains(expected)
        elif name in ("in", "not_in"):
            test = _is_in(expected)
        elif name == "regex_match":
            test = _matches(expected)
        else:
            _kind(expected)
            test = _compares(name, expected)
    except UnfitError as error:
        msg = f"value: {error}"
        raise InvalidTaskError(msg) from None
    return _negated(test) if name.startswith("not_") else test
