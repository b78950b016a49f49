"""
Values of Python's own that JSON has no word for, and few tasks have.

This module is loaded when the first one comes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Final
from uuid import UUID, SafeUUID

from taskorch.journal._restoring import Reader, reader_of_zoned, restore
from taskorch.journal._writing import Writer, plain, zoned

_PURE_PATHS: Final = {cls.__name__: cls for cls in (PurePosixPath, PureWindowsPath)}


def _text(name: str) -> Writer:
    return lambda value, _array, _depth: {f"${name}": str(value)}


def _parts(name: str, *attributes: str) -> Writer:
    def write(value: Any, array: type, depth: int) -> Any:
        parts = [getattr(value, attribute) for attribute in attributes]
        return {f"${name}": [plain(part, array, depth) for part in parts]}

    return write


def _uuid(value: UUID, _array: type, _depth: int) -> Any:
    safe = value.is_safe
    text = str(value)
    return {"$uuid": text if safe is SafeUUID.unknown else [text, safe.value]}


def _to_uuid(kept: Any, _array: type) -> UUID:
    if isinstance(kept, str):
        return UUID(kept)
    return UUID(kept[0], is_safe=SafeUUID(kept[1]))


def _pure_path(value: Any, array: type, depth: int) -> Any:
    name = type(value).__name__
    return {"$purepath": [name, plain(str(value), array, depth)]}


def _to_pure_path(kept: list[Any], array: type) -> Any:
    name, text = kept
    return _PURE_PATHS[name](restore(text, array))


def _from_parts(cls: Callable[..., Any]) -> Reader:
    return lambda parts, array: cls(*[restore(part, array) for part in parts])


_TO_TIME: Final = reader_of_zoned(time)
#: What writes instances of just this class.
VALUE_WRITERS: Final[dict[type, Writer]] = {
    Decimal: _text("decimal"),
    UUID: _uuid,
    complex: _parts("complex", "real", "imag"),
    date: _text("date"),
    range: _parts("range", "start", "stop", "step"),
    time: zoned("time", _TO_TIME),
    timedelta: _parts("timedelta", "days", "seconds", "microseconds"),
    PurePosixPath: _pure_path,
    PureWindowsPath: _pure_path,
}
VALUE_READERS: Final[dict[str, Reader]] = {
    "complex": _from_parts(complex),
    "date": lambda text, _: date.fromisoformat(text),
    "decimal": lambda text, _: Decimal(text),
    "purepath": _to_pure_path,
    "range": _from_parts(range),
    "time": _TO_TIME,
    "timedelta": _from_parts(timedelta),
    "uuid": _to_uuid,
}
