"""Values as JSON, for people and for other programs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date
from enum import StrEnum
from typing import Any, Final, NoReturn, cast

import attrs

from taskorch.kit.visible import show

#: The names of NumPy's base classes of numbers and its bool; and of its durations.
_NUMBERS: Final = frozenset({"number", "bool", "bool_"})
_DURATION: Final = "timedelta64"


#: Names of documents of extensions (see `orch.kept`) that others read, too.
BACKFILLS: Final = "backfills"
SCHEDULES: Final = "schedules"
VERSIONS: Final = "versions"
#: The reason of a cancelled task of a run whose definition no longer has it.
GONE: Final = "skipped: the deployed definition of its run has it no more"


def is_numpys(cls: type) -> bool:
    """Return whether *cls* is a number class of NumPy, without loading NumPy."""
    if cls.__module__ != "numpy":
        return False
    names = {each.__name__ for each in cls.__mro__}
    return bool(names & _NUMBERS) and _DURATION not in names


def pythons(value: Any) -> Any:
    """Return a number of NumPy as one of Python, or *value* as it is."""
    return value.item() if is_numpys(type(value)) else value


#: The bits of an integer that every Python can write, with any digit limit.
_MAX_BITS: Final = 2_000
#: The levels that are read; deeper values are shown as text.
_MAX_DEPTH: Final = 20


def plain(value: object, depth: int = _MAX_DEPTH, above: tuple[int, ...] = ()) -> Any:
    """
    Return *value* as JSON has it; other values are shown as texts.

    A value that raises an error while it is read is shown as a text, too, and only that
    value. The result is for reading: the value cannot be made from it again. *depth*
    and *above* are as in `read_plain`.
    """
    try:
        return read_plain(value, depth, above, plain)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - it is the value's
        return show(value)


def read_plain(
    value: object,
    depth: int = _MAX_DEPTH,
    above: tuple[int, ...] = (),
    member: Callable[[object, int, tuple[int, ...]], Any] | None = None,
) -> Any:
    """
    Return *value* as `plain` does, but raise its errors, for decisions based on it.

    A value that contains itself is shown as a text; *above* are the values around
    *value*. *member* reads the inner values; None is this function.
    """
    member = member or read_plain
    value = pythons(value)
    if value is None or isinstance(value, bool | str):
        # A user's str class may have methods of its own.
        return str.__str__(value) if isinstance(value, str) else value
    if isinstance(value, int):
        # An integer with more digits than Python writes is no number to others, either.
        return value if value.bit_length() < _MAX_BITS else hex(value)
    if isinstance(value, float):
        # JSON has no infinity, and no NaN.
        return value if math.isfinite(value) else str(value)
    if isinstance(value, date):
        return value.isoformat()
    if not depth or id(value) in above:
        return show(value)
    above = (*above, id(value))
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {
            str.__str__(key) if isinstance(key, str) else show(key): member(
                item, depth - 1, above
            )
            for key, item in items
        }
    if isinstance(value, list | tuple):
        return [member(item, depth - 1, above) for item in cast("list[object]", value)]
    return show(value)


def fields_of(value: Any, *, whole: bool = True) -> dict[str, Any]:
    """Return the fields of an attrs *value*; unless *whole*, without default values."""
    pairs = [(field, getattr(value, field.name)) for field in attrs.fields(type(value))]
    return {
        field.name: taken_apart(item, whole=whole)
        for field, item in pairs
        if field.name[0] != "_" and (whole or item != field.default)
    }


def taken_apart(
    value: object, *, whole: bool = True, above: tuple[int, ...] = ()
) -> Any:
    """
    Return *value* with each object of ours replaced by its fields.

    A value that contains itself, or cannot be read, stays; *above* is as in
    `read_plain`.
    """
    if value is None or type(value) in (str, int, float, bool) or id(value) in above:
        return value
    above = (*above, id(value))
    try:
        if isinstance(value, Mapping):
            items = cast("Mapping[object, object]", value).items()
            return {
                name: taken_apart(item, whole=whole, above=above)
                for name, item in items
            }
        if isinstance(value, list | tuple):
            parts = cast("list[object]", value)
            return [taken_apart(item, whole=whole, above=above) for item in parts]
        if isinstance(value, StrEnum):
            return value.value
        if attrs.has(type(value)) and not isinstance(value, BaseException):
            return fields_of(value, whole=whole)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - it is the value's
        return value
    return value


def object_of(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """
    Make an object in a JSON decoder, and refuse repeated names.

    Raises:
        ValueError: A name is repeated, which other readers resolve in different ways.
    """
    by_name = dict(members)
    if len(by_name) < len(members):
        ((twice, _),) = Counter(name for name, _ in members).most_common(1)
        msg = f"the name {show(twice)} stands twice in an object"
        raise ValueError(msg)
    return by_name


def refuse_constant(name: str) -> NoReturn:
    """Refuse, in a JSON decoder, a constant that only Python takes for a number."""
    msg = f"{name} is no number of JSON"
    raise ValueError(msg)


def is_left_behind(status: Any) -> bool:
    """Return whether the run of a task has a later run of it, or has it no more."""
    return bool(status.rerun or (status.history and status.history[-1].detail == GONE))
