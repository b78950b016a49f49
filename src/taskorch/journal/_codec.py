"""
Facts and documents as JSON text, and back, exactly.

What JSON has no word for is an object with one name that begins with `$`:
`{"$bytes": "…"}`. The fields of a fact are tuples all through, so there an array is a
tuple and a list is tagged; in a document it is the other way round.
"""

from __future__ import annotations

import base64
import importlib
import json
import math
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import MethodType
from typing import Any, Final, NoReturn, TypeAlias, cast
from zoneinfo import ZoneInfo

import attrs

from taskorch.errors import InvalidTaskError, JournalError, TaskorchError
from taskorch.events import (
    CATALOGUE,
    Event,
    TaskCompleted,
    TaskEvent,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.model import (
    DEFAULT_ENV,
    Agent,
    AgentStats,
    Call,
    Durations,
    Health,
    HealthCheck,
    Performance,
    PoolStats,
    Program,
    ProgramResult,
    QueueStats,
    Resources,
    RetryPolicy,
    RetryStats,
    StateStats,
    Stats,
    Task,
    TypeStats,
)
from taskorch.model._show import show
from taskorch.protocols import Entry

__all__ = ("Missing", "Row", "column", "decode", "encode")

#: `(seq, kind, at_ns, task_id, body, doc)`: an entry as the journal's table has it.
Row: TypeAlias = tuple[int, str, int, str | None, str, str | None]

#: A value nested deeper than this is refused, so that reading it back never fails.
_MAX_DEPTH: Final = 100
#: Longer numbers are written in base 16: Python refuses to read them in base 10.
_MAX_BITS: Final = 4096
_INT64: Final = 2**63

#: What is kept field by field, under its own name.
_VALUES: Final[dict[str, type[Any]]] = {
    cls.__name__: cls
    for cls in (
        Agent,
        AgentStats,
        Call,
        Durations,
        Health,
        HealthCheck,
        Performance,
        PoolStats,
        Program,
        ProgramResult,
        QueueStats,
        RetryPolicy,
        RetryStats,
        StateStats,
        Stats,
        Task,
        TypeStats,
    )
}
_KINDS: Final[dict[str, type[Event]]] = {cls.__name__: cls for cls in CATALOGUE}
_PLAIN: Final = frozenset({type(None), bool, int, float, str})
_NUMBERS: Final = frozenset({type(None), bool, int, float})
#: The fields of these go into JSON as they are; only the key is the user's.
_FREQUENT: Final = frozenset({TaskSubmitted, TaskStarted, TaskCompleted})
#: The place of the key in a TaskSubmitted.
_KEY: Final = 12

_dumps: Final = json.JSONEncoder(
    separators=(",", ":"), allow_nan=False, check_circular=False
).encode


# -- entries -----------------------------------------------------------------------


def encode(entry: Entry) -> Row:
    """
    *entry* as a row.

    Raises:
        InvalidTaskError: Something in it cannot be restored exactly; the message says
            where, as in `payload.items[2].when`.
        ValueError: Its number or its time does not fit into 64 bits.
    """
    fact, value = entry
    cls, seq, at_ns = fact[0], fact[1], fact[2]
    if not (0 <= seq < _INT64 and 0 <= at_ns < _INT64):
        msg = f"fact {seq} at {at_ns} ns: a number does not fit into 64 bits"
        raise ValueError(msg)
    task_id = column(fact[3]) if issubclass(cls, TaskEvent) else None
    doc = None if value is None else _document(value)
    return seq, cls.__name__, at_ns, task_id, _body(cls, fact), doc


def decode(row: Row) -> Entry:
    """
    The entry of *row*.

    Raises:
        JournalError: A newer taskorch wrote it, or it is damaged.
    """
    seq, kind, at_ns, _, body, doc = row
    cls = _KINDS.get(kind)
    if cls is None:
        _unknown(f"fact {seq} is a {kind}, which this taskorch does not know")
    try:
        schema, *fields = json.loads(body)
        if schema > cls.schema:
            _unknown(f"fact {seq} is a {kind} of schema {schema}, not {cls.schema}")
        fact = (cls, seq, at_ns, *[_restore(field, tuple) for field in fields])
        return fact, None if doc is None else _restore(json.loads(doc), list)
    except JournalError:
        raise
    except (TaskorchError, ValueError, TypeError, LookupError, AttributeError) as error:
        msg = f"fact {seq}, a {kind}, cannot be read: {error}"
        raise JournalError(msg, hint="restore the journal from a copy") from error


def _unknown(msg: str) -> NoReturn:
    raise JournalError(msg, hint="open it with the taskorch that wrote it")


def column(task_id: str) -> str:
    """*task_id* as it is looked up; the body has it as it is."""
    return task_id if task_id.isascii() else task_id.encode(errors="replace").decode()


def _body(cls: type[Event], fact: tuple[Any, ...]) -> str:
    if cls in _FREQUENT and (cls is not TaskSubmitted or _has_plain_key(fact)):
        try:
            text = _dumps((cls.schema, *fact[3:]))
        except (ValueError, TypeError):
            # The careful way says where it is.
            pass
        else:
            # Escaped surrogates: two that stood alone would come back as one letter.
            if "\\ud" not in text:
                return text
    names = [field.name for field in attrs.fields(cls)[2:]]
    fields: list[Any] = [cls.schema]
    for name, value in zip(names, fact[3:], strict=False):
        try:
            fields.append(_plain(value, tuple, 0))
        except _RefusedError as refused:
            refused.within(name)
            raise refused.told() from None
    return _dumps(fields)


def _has_plain_key(fact: tuple[Any, ...]) -> bool:
    if len(fact) <= _KEY:
        return True
    key = fact[_KEY]
    if type(key) is tuple:
        return all(type(part) in _NUMBERS for part in key)
    return type(key) in _NUMBERS


def _document(value: Any) -> str:
    try:
        return _dumps(_plain(value, list, 0))
    except _RefusedError as refused:
        if type(value) is not Task:
            refused.within("result")
        raise refused.told() from None


# -- writing -----------------------------------------------------------------------


class _RefusedError(Exception):
    """Something cannot be restored exactly; it learns its path on the way out."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy
        self.path = ""

    def within(self, name: object) -> None:
        """It is in the item *name* of what holds it: a field, a key or an index."""
        dot = "" if self.path[:1] in ("", "[") else "."
        is_name = isinstance(name, str) and name.isidentifier()
        self.path = f"{name if is_name else f'[{show(name)}]'}{dot}{self.path}"

    def told(self) -> InvalidTaskError:
        """The error for the user."""
        msg = f"{self.path}: {self.why}; the journal cannot keep it"
        return InvalidTaskError(msg, hint=self.remedy)


def _refuse(why: str, remedy: str) -> NoReturn:
    raise _RefusedError(why, remedy)


def _plain(value: Any, array: type, depth: int) -> Any:
    """*value* in what JSON has; *array* is what a JSON array stands for."""
    cls = type(value)
    if cls is bool or value is None:
        return value
    write = _WRITERS.get(cls)
    if write is not None:
        if depth > _MAX_DEPTH:
            why = f"it is nested more than {_MAX_DEPTH} deep, or contains itself"
            _refuse(why, "keep such a structure in a file, and name that")
        return write(value, array, depth + 1)
    if array is tuple:
        # The fields of facts are compared by value: a subclass is as good as its base.
        bases: tuple[Callable[[Any], Any], ...] = (int, float, str, tuple)
        for base in bases:
            if isinstance(value, cast("type", base)):
                return _plain(base(value), array, depth)
    why = f"a {cls.__module__}.{cls.__qualname__} cannot be restored exactly"
    _refuse(why, "use JSON values, tuples, datetimes or bytes, or keep it in a file")


def _int(value: int, _array: type, _depth: int) -> Any:
    return value if value.bit_length() <= _MAX_BITS else {"$int": hex(value)}


def _float(value: float, _array: type, _depth: int) -> Any:
    if not math.isfinite(value):
        _refuse(f"{value} is no number that JSON has", "use None instead")
    return value


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
            made.append(_plain(item, array, depth))
        except _RefusedError as refused:
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
            name = _plain(key, array, depth)
            pairs.append([name, _plain(item, array, depth)])
        except _RefusedError as refused:
            refused.within(key)
            raise
        is_plain = is_plain and type(name) is str and name[:1] != "$"
    return dict(pairs) if is_plain else {"$dict": pairs}


def _set(value: set[Any] | frozenset[Any], array: type, depth: int) -> Any:
    # Sorted, so that the same set is always the same text.
    items = sorted(_items(value, depth, array), key=_dumps)
    return {f"${type(value).__name__}": items}


def _bytes(value: bytes, _array: type, _depth: int) -> Any:
    return {"$bytes": base64.b64encode(value).decode()}


def _path(value: Path, array: type, depth: int) -> Any:
    return {"$path": _str(str(value), array, depth)}


def _datetime(value: datetime, _array: type, _depth: int) -> Any:
    zone = value.tzinfo
    parts: list[Any] = [value.replace(fold=0).isoformat()]
    if type(zone) is ZoneInfo:
        parts = [value.replace(tzinfo=None, fold=0).isoformat(), zone.key, value.fold]
    elif value.fold:
        parts += [None, value.fold]
    # A zone of the user's own class or name would come back as a bare offset.
    if repr(_to_datetime(parts)) != repr(value):
        _refuse(f"the time zone {zone!r} has no name", "use datetime.UTC")
    return {"$datetime": parts}


def _resources(value: Resources, _array: type, _depth: int) -> Any:
    return {"$Resources": [list(pair) for pair in value.units]}


def _attrs(value: Any, array: type, depth: int) -> Any:
    cls = type(value)
    special = _SPECIAL.get(cls, {})
    made: dict[str, Any] = {}
    for field in attrs.fields(cls):
        name, default = field.name, field.default
        if not field.init:
            continue
        item = getattr(value, name)
        if item is default or (
            type(item) is type(default) and type(item) in _PLAIN and item == default
        ):
            continue
        try:
            made[name] = special.get(name, _plain)(item, array, depth)
        except _RefusedError as refused:
            refused.within(name)
            raise
    return {f"${cls.__name__}": made}


def _mapping(value: Mapping[str, Any] | None, array: type, depth: int) -> Any:
    """A mapping that the model promises, of whatever class: it comes back as a dict."""
    return _plain(value if value is None else dict(value), array, depth)


def _inherited(value: Any, array: type, depth: int) -> Any:
    # The names of ours are always among them.
    names = value if value is True else sorted(value - DEFAULT_ENV)
    return _plain(names, array, depth)


def _function(value: Any, array: type, depth: int) -> Any:
    del array, depth
    if isinstance(value, Missing):
        return {"$import": value.name}
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
    path = f"{module}:{name}"
    try:
        found = _imported(path)
    except (ImportError, AttributeError):
        found = None
    if found is value or (isinstance(value, MethodType) and found == value):
        return {"$import": path}
    _refuse(f"importing {path} does not give {_named(value)}", remedy)


def _named(value: object) -> str:
    return f"this {type(value).__qualname__}"


def _waits(value: Any, array: type, depth: int) -> Any:
    return value if isinstance(value, str) else _function(value, array, depth)


def _retried(value: Any, array: type, depth: int) -> Any:
    if not isinstance(value, tuple):
        return _function(value, array, depth)
    made = [_function(cls, array, depth) for cls in value]
    return made if array is tuple else {"$tuple": made}


_Writer: TypeAlias = Callable[[Any, type, int], Any]

_WRITERS: Final[dict[type, _Writer]] = {
    int: _int,
    float: _float,
    str: _str,
    list: _list,
    tuple: _tuple,
    dict: _dict,
    bytes: _bytes,
    set: _set,
    frozenset: _set,
    datetime: _datetime,
    Resources: _resources,
    type(Path()): _path,
    **dict.fromkeys(_VALUES.values(), _attrs),
}

#: Fields that are written in a way of their own.
_SPECIAL: Final[dict[type, dict[str, _Writer]]] = {
    AgentStats: {"performance": _mapping},
    Call: {"fn": _function, "kwargs": _mapping},
    Program: {"env": _mapping, "inherit_env": _inherited},
    RetryPolicy: {"wait": _waits, "retry_on": _retried},
    Stats: dict.fromkeys(("resources", "agents", "types", "failures"), _mapping),
    Task: {"metadata": _mapping},
    TypeStats: {"failures": _mapping},
}


# -- reading -----------------------------------------------------------------------


class Missing:
    """Stands for a function that is no longer there: calling it says so."""

    def __init__(self, name: str) -> None:
        #: Its import path, `module:qualname`.
        self.name: str = name
        self.__qualname__ = name.partition(":")[2]

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        msg = f"{self.name} was kept in the journal and cannot be imported any more"
        raise InvalidTaskError(msg, hint="bring it back, or submit the task anew")

    def __repr__(self) -> str:
        return f"<missing {self.name}>"


def _restore(value: Any, array: type) -> Any:
    cls = type(value)
    if cls is list:
        items = [_restore(item, array) for item in value]
        return items if array is list else tuple(items)
    if cls is not dict:
        return value
    if len(value) == 1:
        ((tag, inner),) = value.items()
        if tag[:1] == "$":
            return _tagged(tag[1:], inner, array)
    return {key: _restore(item, array) for key, item in value.items()}


def _tagged(tag: str, inner: Any, array: type) -> Any:
    known = _VALUES.get(tag)
    if known is not None:
        fields = {name: _restore(item, array) for name, item in inner.items()}
        if known is RetryPolicy and type(fields.get("retry_on")) is tuple:
            # An exception class that is gone is raised by nobody.
            there = (cls for cls in fields["retry_on"] if not isinstance(cls, Missing))
            fields["retry_on"] = tuple(there)
        return known(**fields)
    read = _READERS.get(tag)
    if read is None:
        _unknown(f"${tag} is nothing that this taskorch knows")
    return read(inner, array)


def _to_datetime(parts: list[Any]) -> datetime:
    moment = datetime.fromisoformat(parts[0])
    if len(parts) == 1:
        return moment
    _, zone, fold = parts
    return moment.replace(tzinfo=ZoneInfo(zone) if zone else moment.tzinfo, fold=fold)


def _to_dict(pairs: list[Any], array: type) -> dict[Any, Any]:
    return {_restore(key, array): _restore(item, array) for key, item in pairs}


def _imported(path: str) -> Any:
    """
    What *path*, `module:qualname`, names.

    Raises:
        ImportError, AttributeError: It is not there.
    """
    module, _, name = path.partition(":")
    found: Any = sys.modules.get(module) or importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _to_function(path: str) -> Any:
    try:
        return _imported(path)
    except Exception:  # noqa: BLE001 - a module that is imported may raise anything
        # Only the task that needs it fails, and not the start of all others.
        return Missing(path)


_READERS: Final[dict[str, Callable[[Any, type], Any]]] = {
    "int": lambda text, _: int(text, 16),
    "str": lambda text, _: bytes.fromhex(text).decode(errors="surrogatepass"),
    "list": lambda items, array: [_restore(item, array) for item in items],
    "tuple": lambda items, array: tuple(_restore(item, array) for item in items),
    "dict": _to_dict,
    "set": lambda items, array: {_restore(item, array) for item in items},
    "frozenset": lambda items, array: frozenset(
        _restore(item, array) for item in items
    ),
    "bytes": lambda text, _: base64.b64decode(text),
    "datetime": lambda parts, _: _to_datetime(parts),
    "path": lambda text, array: Path(_restore(text, array)),
    "Resources": lambda pairs, _: Resources.from_units(tuple(map(tuple, pairs))),
    "import": lambda path, _: _to_function(path),
}
