"""
Values as what JSON has, from which `_restoring` makes them again, exactly.

What JSON has no word for is an object with one name that begins with `$`:
`{"$bytes": "…"}`. The fields of a fact are tuples all through, so there an array is a
tuple and a list is tagged; in a document it is the other way round.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from abc import ABCMeta
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, lru_cache
from json.encoder import encode_basestring_ascii as _quoted
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MethodType
from typing import Any, Final, NoReturn, TypeAlias, cast, get_type_hints

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.journal._restoring import TO_DATETIME, VALUES, Reader, imported
from taskorch.journal._scripts import named_module
from taskorch.model import (
    DEFAULT_ENV,
    AgentStats,
    AtLeast,
    Call,
    Elastic,
    Missing,
    Program,
    Resources,
    RetryPolicy,
    Stats,
    Task,
    TypeStats,
)
from taskorch.model._show import show

#: A value nested deeper than this is refused, so that reading it back never fails.
_MAX_DEPTH: Final = 100
#: Longer numbers are written in base 16: Python refuses to read them in base 10.
_MAX_BITS: Final = 4096
#: Items of a list that are written at once: some milliseconds' work.
_PART: Final = 1_000
#: Flags of the code of generator functions, asynchronous ones too.
_GENERATOR: Final = 0x20 | 0x200
#: Classes whose instances may be of any kind, and those that JSON has.
_OPEN: Final = frozenset({object, bool, type(None), Any})
#: Classes that are looked through, where others are derived from one.
_MANY: Final = 100
_FUNCTIONS: Final = frozenset({FunctionType, BuiltinFunctionType})
_PLAIN: Final = frozenset({type(None), bool, int, float, str})

dumps: Final = json.JSONEncoder(
    separators=(",", ":"), allow_nan=False, check_circular=False
).encode


def state_text(state: dict[str, Any]) -> str:
    """
    *state* as JSON, made in parts: other threads work in between.

    Raises:
        ValueError, TypeError: It has something that JSON has not.
    """
    return (
        f"{{{','.join([f'{_quoted(name)}:{_long(state[name])}' for name in state])}}}"
    )


def _long(value: Any) -> str:
    if type(value) is not list:
        return dumps(value)
    parts = [value[place : place + _PART] for place in range(0, len(value), _PART)]
    return f"[{','.join([dumps(part)[1:-1] for part in parts])}]"


class RefusedError(Exception):
    """A value that cannot be restored exactly, and its path."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy
        self.path = ""

    def within(self, name: object) -> None:
        """Put *name*, a field, key or index, before the path of the value."""
        dot = "" if self.path[:1] in ("", "[") else "."
        is_name = isinstance(name, str) and name.isidentifier()
        self.path = f"{name if is_name else f'[{show(name)}]'}{dot}{self.path}"

    def user_error(self) -> InvalidTaskError:
        """The error for the user."""
        msg = f"{self.path}: {self.why}; the journal cannot keep it"
        return InvalidTaskError(msg, hint=self.remedy)


def _refuse(why: str, remedy: str) -> NoReturn:
    raise RefusedError(why, remedy)


def plain(value: Any, array: type, depth: int) -> Any:
    """*value* in what JSON has; *array* is what a JSON array stands for."""
    cls = type(value)
    if cls is bool or value is None:
        return value
    write = WRITERS.get(cls)
    if write is None:
        if array is tuple:
            # The fields of facts are compared by value: a subclass is as good as its
            # base.
            bases: tuple[Callable[[Any], Any], ...] = (int, float, str, tuple)
            for base in bases:
                if isinstance(value, cast("type", base)):
                    return plain(base(value), array, depth)
        write = _find_other(cls)
    if depth > _MAX_DEPTH:
        why = f"it is nested more than {_MAX_DEPTH} deep, or contains itself"
        _refuse(why, "keep such a structure in a file, and name that")
    return write(value, array, depth + 1)


def _int(value: int, _array: type, _depth: int) -> Any:
    return value if value.bit_length() <= _MAX_BITS else {"$int": hex(value)}


def _float(value: float, _array: type, _depth: int) -> Any:
    return value if math.isfinite(value) else {"$float": str(value)}


def _str(value: str, _array: type, _depth: int) -> Any:
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return {"$str": value.encode(errors="surrogatepass").hex()}
    return value


def _items(value: Any, depth: int, array: type) -> list[Any]:
    made: list[Any] = []
    for number, item in enumerate(value):
        try:
            made.append(plain(item, array, depth))
        except RefusedError as refused:
            refused.within(number)
            raise
    return made


def _list(value: list[Any], array: type, depth: int) -> Any:
    items = _items(value, depth, array)
    return items if array is list else {"$list": items}


def _tuple(value: tuple[Any, ...], array: type, depth: int) -> Any:
    items = _items(value, depth, array)
    return items if array is tuple else {"$tuple": items}


def _dict(value: dict[Any, Any], array: type, depth: int) -> Any:
    pairs: list[Any] = []
    is_plain = True
    for key, item in value.items():
        try:
            name = plain(key, array, depth)
            pairs.append([name, plain(item, array, depth)])
        except RefusedError as refused:
            refused.within(key)
            raise
        is_plain = is_plain and type(name) is str and name[:1] != "$"
    return dict(pairs) if is_plain else {"$dict": pairs}


def _set(value: set[Any] | frozenset[Any], array: type, depth: int) -> Any:
    # Sorted, so that the same set is always the same text.
    items = sorted(_items(value, depth, array), key=dumps)
    return {f"${type(value).__name__}": items}


def _bytes(value: bytes, _array: type, _depth: int) -> Any:
    return {"$bytes": base64.b64encode(value).decode()}


def _path(value: Path, array: type, depth: int) -> Any:
    return {"$path": _str(str(value), array, depth)}


def zoned(name: str, read: Reader) -> Writer:
    """What writes a time or a datetime, with its zone, for *read* to read back."""

    def write(value: Any, array: type, _depth: int) -> Any:
        from zoneinfo import ZoneInfo  # noqa: PLC0415 - few values have one

        zone = value.tzinfo
        parts: list[Any] = [value.replace(fold=0).isoformat()]
        if type(zone) is ZoneInfo:
            bare = value.replace(tzinfo=None, fold=0)
            parts = [bare.isoformat(), zone.key, value.fold]
        elif value.fold:
            parts += [None, value.fold]
        # A zone of the user's own class or name would come back as a bare offset.
        if repr(read(parts, array)) != repr(value):
            _refuse(f"the time zone {zone!r} has no name", "use datetime.UTC")
        return {f"${name}": parts}

    return write


def _resources(value: Resources, _array: type, _depth: int) -> Any:
    return {"$Resources": [list(pair) for pair in value.units]}


def _elastic(value: Elastic, _array: type, _depth: int) -> Any:
    least, weight, fallback = value.elasticity
    pairs = [[list(pair) for pair in units] for units in (value.units, least)]
    return {"$Elastic": [*pairs, weight, fallback]}


def _attrs(value: Any, array: type, depth: int) -> Any:
    cls: type = type(value)
    made: dict[str, Any] = {}
    for name, default, is_plain, write in _fields(cls):
        item = getattr(value, name)
        if item is default or (
            is_plain and type(item) is type(default) and item == default
        ):
            continue
        try:
            made[name] = write(item, array, depth)
        except RefusedError as refused:
            refused.within(name)
            raise
    return {f"${cls.__name__}": made}


@cache
def _fields(cls: type) -> list[tuple[str, Any, bool, Writer]]:
    """Of each field: name, default, whether that is plain, and writer."""
    special = _SPECIAL.get(cls, {})
    return [
        (
            field.name,
            # An empty mapping is written out: an absent one would not say of which type
            # it is.
            attrs.NOTHING if type(field.default) is MappingProxyType else field.default,
            type(field.default) in _PLAIN,
            special.get(field.name, plain),
        )
        for field in attrs.fields(cls)
        if field.init
    ]


def _mapping(value: Any, array: type, depth: int) -> Any:
    """A mapping that the model promises, of whatever class: it comes back as a dict."""
    if type(value) is not dict and isinstance(value, Mapping):
        value = dict(value)
    return plain(value, array, depth)


def _inherited(value: Any, array: type, depth: int) -> Any:
    # The default names are always among them, and need not be written.
    names = value if value is True else sorted(value - DEFAULT_ENV)
    return plain(names, array, depth)


def _descriptors(_value: Any, _array: type, _depth: int) -> Any:
    # An empty tuple, which is the default, is not written: this is another.
    why = "numbers of open files mean nothing in another life"
    raise RefusedError(why, "hand over paths instead")


def _function(value: Any, _array: type, _depth: int) -> Any:
    if isinstance(value, Missing):
        return _missing(value, list, 0)
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    remedy = "use a function at the top level of a module that can be imported"
    if not (isinstance(module, str) and isinstance(name, str)):
        _refuse(f"{_named(value)} has no import path", remedy)
    if "<lambda>" in name:
        _refuse(f"the lambda {module}:{name} has no import path", remedy)
    if "<locals>" in name:
        why = f"{module}:{name} is made inside a function, and cannot be imported"
        _refuse(why, remedy)
    path = f"{named_module(module)}:{name}"
    try:
        found = imported(path)
    except (ImportError, AttributeError):
        found = None
    if found is value or (isinstance(value, MethodType) and found == value):
        return {"$import": path}
    _refuse(f"importing {path} does not give {_named(value)}", remedy)


def _called(value: Any, array: type, depth: int) -> Any:
    refused = refused_result(value)
    if refused is not None:
        _refuse(*refused)
    return _function(value, array, depth)


@lru_cache(256)
def refused_result(fn: Any) -> tuple[str, str] | None:
    """
    Why no journal can keep what *fn* returns, and a remedy; None if that is not known.

    It is known of generators, and of a class by which *fn* is annotated if neither its
    instances can be kept nor those of any class that is derived from it.
    """
    if not isinstance(fn, FunctionType):
        return None
    if fn.__code__.co_flags & _GENERATOR:
        why = f"{fn.__qualname__} is a generator function: its result would be lost"
        return why, "return a list"
    try:
        cls = get_type_hints(fn).get("return")
    except Exception:  # noqa: BLE001 - annotations may be anything
        return None
    if not isinstance(cls, type) or cls in _OPEN or isinstance(cls, ABCMeta):
        return None
    refused = _refusal(cls)
    if refused is None or getattr(cls, "stands_for_result", False):
        return None
    below: list[type] = type.__subclasses__(cls)
    seen: set[type] = set()
    while below:
        each = below.pop()
        if _refusal(each) is None or len(seen) > _MANY:
            return None
        seen.add(each)
        more: list[type] = type.__subclasses__(each)
        below += [one for one in more if one not in seen]
    why = f"{fn.__qualname__} returns a {cls.__qualname__}, as it is annotated, and "
    return f"{why}{refused.why}", refused.remedy


def _refusal(cls: type) -> RefusedError | None:
    try:
        if cls not in WRITERS:
            _find_other(cls)
    except RefusedError as refused:
        return refused
    return None


def import_path(value: Any) -> str | None:
    """The path of a function at the top of a module; None: ask `_function`."""
    if type(value) in _FUNCTIONS:
        module, name = value.__module__, value.__qualname__
        # With a dot it is a method, or was made inside a function.
        if getattr(sys.modules.get(module), name, None) is value and "." not in name:
            return f"{named_module(module)}:{name}"
    return None


def _missing(value: Missing, _array: type, _depth: int) -> Any:
    # Written as it was read, for a later life in which its class or function is back.
    return {"$import": value.name} if value.kept is None else value.kept


def _named(value: object) -> str:
    return f"this {type(value).__qualname__}"


def _waits(value: Any, array: type, depth: int) -> Any:
    return value if isinstance(value, str) else _function(value, array, depth)


def _retried(value: Any, array: type, depth: int) -> Any:
    if not isinstance(value, tuple):
        return _function(value, array, depth)
    made = [_function(cls, array, depth) for cls in value]
    return made if array is tuple else {"$tuple": made}


def _predicate(value: Any, array: type, depth: int) -> Any:
    return None if value is None else _function(value, array, depth)


def _join(value: Any, array: type, depth: int) -> Any:
    write = plain if isinstance(value, str | AtLeast) else _function
    return write(value, array, depth)


Writer: TypeAlias = Callable[[Any, type, int], Any]

WRITERS: Final[dict[type, Writer]] = {
    int: _int,
    float: _float,
    str: _str,
    list: _list,
    tuple: _tuple,
    dict: _dict,
    bytes: _bytes,
    set: _set,
    frozenset: _set,
    datetime: zoned("datetime", TO_DATETIME),
    Missing: _missing,
    Resources: _resources,
    Elastic: _elastic,
    type(Path()): _path,
    **dict.fromkeys(VALUES.values(), _attrs),
}

#: Asked for the writer of a class that is not among these.
_find_other: Callable[[type], Writer]


def find_other_writers(find: Callable[[type], Writer]) -> None:
    """Have *find* give the writers of unknown classes, or refuse them."""
    global _find_other  # noqa: PLW0603 - set once, by `_codec`, which stands above
    _find_other = find


#: Fields that are written in a way of their own.
_SPECIAL: Final[dict[type, dict[str, Writer]]] = {
    AgentStats: {"performance": _mapping},
    Call: {"fn": _called, "kwargs": _mapping},
    Program: {"env": _mapping, "inherit_env": _inherited, "pass_fds": _descriptors},
    RetryPolicy: {"wait": _waits, "retry_on": _retried, "retry_if_result": _predicate},
    Stats: dict.fromkeys(("resources", "agents", "types", "failures"), _mapping),
    Task: {"metadata": _mapping, "join": _join},
    TypeStats: {"failures": _mapping},
}
