"""Values as JSON can say them, for people and for other programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from typing import Any, Final, cast

import attrs

from taskorch.model._show import show
from taskorch.model._states import TaskState

#: Levels that are looked into; what is deeper is shown as text.
_MAX_DEPTH: Final = 20


def fields_of(value: object) -> Any:
    """*value* with a mapping in the place of each value of ours that has fields."""
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {name: fields_of(item) for name, item in items}
    if isinstance(value, list | tuple):
        return [fields_of(item) for item in cast("list[object]", value)]
    kind: type = type(value)
    if not attrs.has(kind) or isinstance(value, BaseException):
        return value
    names = [field.name for field in attrs.fields(kind)]
    return {n: fields_of(getattr(value, n)) for n in names if not n.startswith("_")}


def plain(value: object, depth: int = _MAX_DEPTH) -> Any:
    """
    *value* made of what JSON has: what it has no word for is shown as a text.

    It is for reading: it does not lead back to the value.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        # JSON has no infinity, and no NaN.
        return value if isinstance(value, int) or math.isfinite(value) else str(value)
    if isinstance(value, date):
        return value.isoformat()
    if depth and isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {
            key if isinstance(key, str) else show(key): plain(item, depth - 1)
            for key, item in items
        }
    if depth and isinstance(value, list | tuple):
        return [plain(item, depth - 1) for item in cast("list[object]", value)]
    return show(value)


def fields_of(value: Any, *, whole: bool = False) -> dict[str, Any]:
    """The fields of *value*, an attrs value; only if *whole*, also the usual ones."""
    found = [(field, getattr(value, field.name)) for field in attrs.fields(type(value))]
    return {
        field.name: _field(item, whole=whole)
        for field, item in found
        if whole or item != field.default
    }


def _field(value: Any, *, whole: bool) -> Any:
    if isinstance(value, Mapping):
        return {name: _field(item, whole=whole) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_field(item, whole=whole) for item in value]
    if isinstance(value, TaskState):
        return value.value
    return fields_of(value, whole=whole) if attrs.has(type(value)) else value
