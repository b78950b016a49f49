"""Whether a value was changed: a picture of it before, and one after."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

import attrs

_PLAIN: Final = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    datetime,
    timedelta,
    Enum,
)
#: The same, found faster: most values are of one of these classes themselves.
_PLAINEST: Final = frozenset(_PLAIN)


@attrs.frozen
class _Object:
    """An object that is compared by identity alone."""

    value: object = attrs.field(eq=id)


def snapshot(value: object) -> object:
    """
    What equals a later snapshot of *value* if nothing in it has changed meanwhile.

    It looks into mappings, lists, tuples, sets, exceptions, and the instances of attrs
    classes and dataclasses; anything else is compared by identity alone.
    """
    return _picture(value, ())


def _picture(value: object, above: tuple[int, ...]) -> object:
    if type(value) in _PLAINEST or isinstance(value, _PLAIN):
        return value
    if isinstance(value, set | frozenset):
        # Equal sets need not have the same order; members are hashable, and stay.
        return type(value), frozenset(value)
    if id(value) in above:
        # It contains itself, and is being looked at already.
        return _Object(value)
    parts = _parts(value)
    if parts is None:
        return _Object(value)
    inside = (*above, id(value))
    return type(value), tuple(_picture(part, inside) for part in parts)


def _parts(value: Any) -> list[Any] | None:
    """What *value* consists of, in order; None if it is not looked into."""
    cls = type(value)
    if attrs.has(cls):
        return [getattr(value, field.name) for field in attrs.fields(cls)]
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, list | tuple | deque):
        return list(value)
    if isinstance(value, bytearray):
        return [bytes(value)]
    if isinstance(value, BaseException):
        return [value.args, vars(value)]
    return None
