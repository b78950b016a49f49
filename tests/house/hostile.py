"""
Values of users that do what nobody expects: one list, which laws share.

Each law takes all of `VALUES`; what is added here is tried everywhere.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

#: Methods that Python calls of a value while it is shown, compared, counted, searched.
METHODS = (
    "__repr__",
    "__str__",
    "__format__",
    "__eq__",
    "__hash__",
    "__len__",
    "__bool__",
    "__iter__",
    "__contains__",
    "__getitem__",
    "__getattr__",
    "__lt__",
    "__index__",
    "__float__",
    "__reduce_ex__",
    "__copy__",
    "__deepcopy__",
    "__sizeof__",
)


class Unforeseen(BaseException):
    """An error that `except Exception` lets pass."""


def raising(name: str, bases: tuple[type, ...], error: Any, *methods: str) -> type:
    """A class whose *methods* raise *error*."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return type(name, bases, dict.fromkeys(methods, fail) | {"__module__": __name__})


class Classless:
    """A value whose class raises, as that of a proxy whose target has gone."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError


@attrs.define
class Closed:
    """A value of fields that cannot be read any more."""

    x: object = None

    def __getattribute__(self, name: str) -> Any:
        if name == "x":
            raise RuntimeError
        return object.__getattribute__(self, name)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def ring() -> list[Any]:
    value: list[Any] = []
    value += [value, value, value]
    return value


def ring_of_names() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value |= {"a": value, "b": [value, value]}
    return value


_TAKEN_APART = (
    *("__eq__", "__ne__", "__hash__", "__lt__", "__le__", "__gt__", "__ge__"),
    *("__len__", "__iter__", "__getitem__", "__contains__"),
)
_MAPPING = ("__getitem__", "__iter__", "__len__")
#: Methods of a text that nobody needs in order to compare it, or to take it apart.
WRITING = tuple(
    name
    for name in vars(str)
    if name not in ("__new__", "__doc__", "__getattribute__", *_TAKEN_APART)
)
_COMPARED = ("__eq__", "__lt__", "__gt__", "__le__", "__ge__", "__hash__")

#: What makes each value.
VALUES: dict[str, Callable[[], Any]] = {
    "a file name that is no UTF-8": lambda: "caf\udce9.txt",
    "half of a character": lambda: "\ud800",
    "a name that is half of one": lambda: {"\ud800": 1, "x": "\udfff"},
    "a text with NUL": lambda: "a\0b",
    "10 ** 400": lambda: 10**400,
    "10 ** 5000": lambda: 10**5_000,
    "NaN": lambda: math.nan,
    "infinity": lambda: math.inf,
    "a decimal NaN": lambda: decimal.Decimal("sNaN"),
    "the end of the calendar": lambda: dt.datetime.max.replace(tzinfo=dt.UTC),
    "a long text": lambda: "x" * 100_000,
    "10,000 levels": lambda: nested(10_000),
    "a list in itself": ring,
    "a mapping in itself": ring_of_names,
    "1,000 names": lambda: dict.fromkeys(map(str, range(1_000)), 1),
    "keys of many kinds": lambda: {1: 1, None: 2, (1, 2): 3, "x": 4},
    "a generator": lambda: (each for each in "abc"),
    "no class": Classless,
    "no field": Closed,
    "a closed mapping": raising("ClosedMapping", (Mapping,), RuntimeError, *_MAPPING),
    "a closed sequence": raising(
        "ClosedSequence", (Sequence,), RuntimeError, "__getitem__", "__len__"
    ),
    "a closed dict": lambda: raising(
        "ClosedDict", (dict,), RuntimeError, "items", "get", "keys", *_MAPPING
    )(x=1),
    "a text of its own": lambda: raising(
        "OwnText", (str,), RuntimeError, "__len__", *_COMPARED
    )("x"),
    "a text that cannot be written": lambda: raising(
        "UnwrittenText", (str,), Unforeseen, *WRITING
    )("x"),
    "a number of its own": lambda: raising("OwnInt", (int,), RuntimeError, *_COMPARED)(
        5
    ),
    "a list of its own": lambda: raising(
        "OwnList", (list,), RuntimeError, "__len__", "__iter__", "__eq__"
    )([1]),
    **{
        f"no {method}": raising(f"No{method}", (), RuntimeError, method)
        for method in METHODS
    },
    **{
        f"{error.__name__} from all": raising(
            f"All{error.__name__}", (), error, *METHODS
        )
        for error in (RecursionError, MemoryError, Unforeseen)
    },
    **{
        f"a mapping of {error.__name__}": raising(
            f"Mapping{error.__name__}", (Mapping,), error, *_MAPPING, "__repr__"
        )
        for error in (RecursionError, MemoryError, Unforeseen)
    },
}

#: Texts of JSON that Python or others cannot read, or read as such a value.
JSON = {
    "half of a character": '"\\ud800"',
    "a name that is half of one": '{"\\ud800": 1}',
    "10 ** 400": "1" + "0" * 400,
    "10 ** 5000": "1" + "0" * 5_000,
    "NaN": "NaN",
    "infinity": "-Infinity",
    "1e999": "1e999",
    "NUL": '"a\\u0000b"',
    "10,000 levels": "[" * 10_000 + "]" * 10_000,
    "50 levels of names": '{"x":' * 50 + "1" + "}" * 50,
    "a long text": '"' + "x" * 100_000 + '"',
    "a name twice": '{"x": 1, "x": 2}',
}


# -- values that grow: each is made of so many parts ------------------------------------


def nested_groups(parts: int) -> Exception:
    error: Exception = ValueError("0")
    for number in range(parts):
        error = ExceptionGroup("nested", [error, ValueError(number)])
    return error


def chained(link: str) -> Callable[[int], Exception]:
    def make(parts: int) -> Exception:
        error = ValueError("0")
        for number in range(parts):
            later = ValueError(str(number))
            setattr(later, link, error)
            error = later
        return error

    return make


def noted(parts: int) -> Exception:
    error = ValueError("noted")
    error.__notes__ = [f"note {number}" for number in range(parts)]
    return error


def with_attributes(parts: int) -> Exception:
    error = ValueError("with attributes")
    vars(error).update({f"name{number}": number for number in range(parts)})
    return error


#: What makes an error of each kind.
ERRORS: dict[str, Callable[[int], Exception]] = {
    "a group": lambda parts: ExceptionGroup(
        "wide", [ValueError(f"row {number} is bad") for number in range(parts)]
    ),
    "a group of system errors": lambda parts: ExceptionGroup(
        "wide", [OSError(number % 100, "no") for number in range(parts)]
    ),
    "a group of chains": lambda parts: ExceptionGroup(
        "wide", [chained("__cause__")(9) for _ in range(1 + parts // 10)]
    ),
    "groups in groups": nested_groups,
    "causes": chained("__cause__"),
    "contexts": chained("__context__"),
    "reasons": chained("reason"),
    "a text": lambda parts: ValueError("no such row " * parts),
    "lines": lambda parts: ValueError("error: no such row\n" * parts),
    "arguments": lambda parts: ValueError(*range(parts)),
    "an argument of many levels": lambda parts: ValueError(nested(parts)),
    "notes": noted,
    "attributes": with_attributes,
    "an output": lambda parts: subprocess.CalledProcessError(
        1, ["ls"] * parts, "a line of output\n" * parts, b"no such thing\n" * parts
    ),
    "a path": lambda parts: FileNotFoundError(2, "no such file", "x" * parts),
}
#: What makes a value of each kind.
LARGE: dict[str, Callable[[int], Any]] = {
    "a list": lambda parts: list(range(parts)),
    "tuples": lambda parts: [(number, str(number)) for number in range(parts)],
    "mappings": lambda parts: [{"a": number, "b": [number]} for number in range(parts)],
    "a mapping": lambda parts: {f"key{number}": number for number in range(parts)},
    "a set": lambda parts: set(range(parts)),
    "levels": nested,
    "a text": lambda parts: "x" * 10 * parts,
    "bytes": lambda parts: b"x" * 10 * parts,
    "fractions": lambda parts: [number / 7 for number in range(parts)],
    "digits": lambda parts: 7**parts,
    "errors": lambda parts: [ValueError(number) for number in range(parts)],
}
