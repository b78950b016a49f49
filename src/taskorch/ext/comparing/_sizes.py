"""How large a value is, and whether another one of the same place is larger."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from taskorch.kit.fence import is_values
from taskorch.kit.visible import counted
from taskorch.model import Missing

#: The amounts of a value, by their unit: `item`, `character`, `byte`.
Sizes: TypeAlias = Mapping[str, int]

#: Smaller amounts are arguments, not data. Of several that grew, the first one is told.
_LEAST: Final = {"item": 10, "byte": 200, "character": 200}
#: Smaller growth is chance.
_GROWS: Final = 1.2
#: At most so many values are looked at.
_MOST: Final = 10_000


class Growth(NamedTuple):
    """
    The change of a size.

    Attributes:
        ratio: How many times as large it is.
        text: Both amounts, in words.
    """

    ratio: float
    text: str


def sizes_of(value: Any) -> Sizes | None:
    """Return how large *value* is; None: it is no data, or nobody knows."""
    cls = type(value)
    try:
        if issubclass(cls, Missing):
            # A value in an object store says its size; all others are unknown.
            return _amounts(byte=getattr(value, "size", None))
        if issubclass(cls, str):
            return {"character": len(value)}
        if issubclass(cls, bytes | bytearray | memoryview):
            return {"byte": len(value)}
        if cls in (list, tuple, set, frozenset, dict):
            return _within(value)
        # Arrays have many bytes behind a short length.
        return _amounts(byte=getattr(value, "nbytes", None)) or _amounts(
            item=len(value) if hasattr(cls, "__len__") else None
        )
    except BaseException as error:
        if not is_values(error):
            raise
        return None


def growth(was: Sizes | None, now: Sizes | None) -> Growth | None:
    """Return the growth from *was* to *now*, also below 1; None: hardly any."""
    if was is None or now is None:
        return None
    for unit, least in _LEAST.items():
        if unit in was and unit in now and max(was[unit], now[unit]) >= least:
            ratio = (now[unit] + 1) / (was[unit] + 1)
            if not 1 / _GROWS < ratio < _GROWS:
                return Growth(ratio, _change(unit, was[unit], now[unit]))
    return None


def _amounts(**amounts: Any) -> Sizes | None:
    """Return the amounts that can be sizes: an attribute of a value may be anything."""
    sizes = {
        unit: each
        for unit, each in amounts.items()
        if type(each) is int and 0 <= each < sys.maxsize
    }
    return sizes or None


def _within(value: Any) -> Sizes:
    """Return the amounts of a collection, with those of its parts."""
    sizes = {"item": 0, "character": 0, "byte": 0}
    todo, seen = [value], 0
    while todo and seen < _MOST:
        each = todo.pop()
        seen += 1
        cls = type(each)
        if issubclass(cls, str):
            sizes["character"] += len(each)
        elif issubclass(cls, bytes | bytearray):
            sizes["byte"] += len(each)
        elif cls in (list, tuple, set, frozenset, dict):
            # A mapping within a collection is one of its items, such as a row.
            if cls is not dict or each is value:
                sizes["item"] += len(each)
            if len(each) <= _MOST:
                todo += each.values() if cls is dict else each
    return sizes


def _change(unit: str, was: int, now: int) -> str:
    return f"{counted(was, unit)} → {counted(now, unit)}"
