"""
Values in terms of JSON, and back, exactly.

A value that JSON does not have is an object with one name that begins with `$`, the tag
of its kind: `{"$bytes": "…"}`. A `ValueKind` takes a value apart, into values that are
written in turn, and puts it together again. The fields of an event are tuples, so there
an array is a tuple and a list is tagged; in a document it is the other way round.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
import math
import sys
from abc import ABCMeta
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import date, datetime, time, timedelta
from functools import cache, lru_cache, partial
from json.encoder import encode_basestring_ascii as _quoted
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import (
    BuiltinFunctionType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
)
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    NamedTuple,
    NoReturn,
    TypeAlias,
    cast,
    get_type_hints,
)

import attrs

from taskorch.core.journal._scripts import (
    HERE,
    OtherScriptError,
    main_named,
    named_module,
)
from taskorch.errors import InvalidTaskError, JournalError, TaskFailedError
from taskorch.kit.building import called_in
from taskorch.kit.visible import show
from taskorch.model import (
    DEFAULT_ENV,
    Agent,
    AgentStats,
    Answer,
    AtLeast,
    Cache,
    Call,
    Durations,
    Elastic,
    Health,
    HealthCheck,
    Missing,
    Performance,
    PoolStats,
    Program,
    ProgramResult,
    Question,
    QueueStats,
    Reference,
    Resources,
    RetryPolicy,
    RetryStats,
    StateStats,
    Stats,
    Task,
    TypeStats,
    Wait,
    requested,
)

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

#: The hint for a value of an unknown kind.
NEWER: Final = "open it with the taskorch that wrote it"
#: The tag of values that are kept by registered functions.
OWN: Final = "own"
#: A value nested deeper than this is refused, so that reading it back never fails.
_MAX_DEPTH: Final = 100
#: Longer numbers are written in base 16: Python refuses to read them in base 10.
_MAX_BITS: Final = 4096
#: The number of items of a list that are written at once: some milliseconds' work.
_PART: Final = 1_000
#: Flags of the code of generator functions, asynchronous ones too.
_GENERATOR: Final = 0x20 | 0x200
#: Classes whose instances may be of any kind, and those that JSON has.
_OPEN: Final = frozenset({object, bool, type(None), Any})
#: The most derived classes of one that are looked through.
_MANY: Final = 100
_FUNCTIONS: Final = frozenset({FunctionType, BuiltinFunctionType})
_PLAIN: Final = frozenset({type(None), bool, int, float, str})

dumps: Final = json.JSONEncoder(
    separators=(",", ":"), allow_nan=False, check_circular=False
).encode


def state_text(state: dict[str, Any]) -> str:
    """
    Return *state* as JSON, made in parts, between which other threads work.

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
        """Return the error for the user."""
        msg = f"{self.path}: {self.why}; the journal cannot keep it"
        return InvalidTaskError(msg, hint=self.remedy)

    def returned_by(self, name: str) -> None:
        """Add that the function registered for *name* returned the value."""
        # The module is left out: that of a script is kept by the path of its file.
        name = name.rpartition(":")[2]
        where = f" at {self.path}" if self.path else ""
        sentence = f"encode of {name} returned{where} what cannot be kept"
        # An instance may contain itself: that is said once, however deep it went.
        if not self.why.startswith(sentence):
            self.why = f"{sentence}: {self.why}"
        self.path = ""


def _refuse(why: str, remedy: str) -> NoReturn:
    raise RefusedError(why, remedy)


class GoneError(Exception):
    """The class of a value, or another thing it needs, is gone or has changed."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(why)
        self.name = name
        self.why = why


class ValueKind(NamedTuple):
    """The way to keep values of a class."""

    #: The tag; "" if the part itself stands for the value.
    tag: str
    #: Takes a value apart: into a value, a dict of fields, or several as the type that
    #: it is given, for which a JSON array stands.
    apart: Callable[[Any, type], Any]
    #: Makes the value of its parts.
    together: Callable[[Any], Any]


# -- to JSON ---------------------------------------------------------------------------


def plain(value: Any, array: type, depth: int) -> Any:
    """Return *value* in terms of JSON; *array* is the type of JSON arrays."""
    cls = type(value)
    if cls is bool or value is None:
        return value
    if depth > _MAX_DEPTH:
        why = f"it is nested more than {_MAX_DEPTH} deep, or contains itself"
        _refuse(why, "keep such a structure in a file, and name that")
    write = _WRITERS.get(cls)
    if write is not None:
        return write(value, array, depth + 1)
    kind = _kind(cls, array)
    parts: Any = kind.apart(value, array)
    try:
        if type(parts) is array:
            # The dict of fields that a kind has made is no level of the user's.
            encoded: Any = [
                (_dict if type(part) is dict else plain)(part, array, depth + 1)
                for part in cast("Any", parts)
            ]
        else:
            encoded = plain(parts, array, depth + 1)
    except RefusedError as refused:
        if kind.tag == OWN:
            refused.returned_by(parts[0])
        raise
    return {f"${kind.tag}": encoded} if kind.tag else encoded


def _as(base: Callable[[Any], Any], value: Any, _array: type) -> Any:
    return base(value)


def _kind(cls: type, array: type) -> ValueKind:
    kind = KINDS.get(cls)
    if kind is None and array is tuple:
        # The fields of events are compared by value: a subclass is as good as its base.
        bases: tuple[Callable[[Any], Any], ...] = (int, float, str, tuple)
        for base in bases:
            if issubclass(cls, cast("type", base)):
                return ValueKind("", partial(_as, base), base)
    return kind or kind_of(cls)


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
    encoded: list[Any] = []
    for number, item in enumerate(value):
        try:
            encoded.append(plain(item, array, depth))
        except RefusedError as refused:
            refused.within(number)
            raise
    return encoded


def _list(value: list[Any], array: type, depth: int) -> Any:
    items = _items(value, depth, array)
    return items if array is list else {"$list": items}


def _tuple(value: tuple[Any, ...], array: type, depth: int) -> Any:
    items = _items(value, depth, array)
    return items if array is tuple else {"$tuple": items}


def _dict(value: dict[Any, Any], array: type, depth: int) -> Any:
    names: list[Any] = []
    items: list[Any] = []
    is_plain = True
    for key, item in value.items():
        try:
            name = (
                key if type(key) is str and key.isascii() else plain(key, array, depth)
            )
            is_plain = is_plain and type(name) is str and name[:1] != "$"
            names.append(name)
            items.append(plain(item, array, depth))
        except RefusedError as refused:
            refused.within(key)
            raise
    pairs = zip(names, items, strict=True)
    return dict(pairs) if is_plain else {"$dict": list(map(list, pairs))}


def _set(value: set[Any] | frozenset[Any], array: type, depth: int) -> Any:
    # They are sorted, so that the same set is always the same text.
    items = sorted(_items(value, depth, array), key=dumps)
    return {f"${type(value).__name__}": items}


def _missing(value: Missing, _array: type, _depth: int) -> Any:
    # It is written as it was read, for a later incarnation that has its class or
    # function.
    return {"$import": value.name} if value.kept is None else value.kept


# -- from JSON -------------------------------------------------------------------------


def restored(value: Any, array: type) -> Any:
    """
    Return *value* restored, or a `Missing` with *value* if its class is missing.

    So the journal can be opened, and only tasks that need the value fail.
    """
    try:
        return restore(value, array)
    except GoneError as gone:
        again = partial(
            _looked_for, gone.name, partial(restore, value, array), HERE.path
        )
        return Missing(gone.name, gone.why, value, again)


def restore(value: Any, array: type) -> Any:
    """
    Return the value that the JSON *value* means; *array* is the type of its arrays.

    Raises:
        GoneError: Its class, or another thing it needs, is gone or has changed.
        JournalError: A newer taskorch wrote it.
        TaskorchError, ValueError, TypeError, LookupError, AttributeError: It is
            damaged.
    """
    cls = type(value)
    if cls is list:
        items = [restore(item, array) for item in value]
        return items if array is list else tuple(items)
    if cls is not dict:
        return value
    if len(value) == 1:
        ((tag, inner),) = value.items()
        if tag[:1] == "$":
            return _tagged(tag[1:], inner, array)
    return {key: restore(item, array) for key, item in value.items()}


def _tagged(tag: str, inner: Any, array: type) -> Any:
    if tag not in TOGETHER:
        _load_others()
    together = TOGETHER.get(tag)
    if together is None:
        msg = f"${tag} is nothing that this taskorch knows"
        raise JournalError(msg, hint=NEWER)
    try:
        parts = restore(inner, array)
    except GoneError:
        if tag != Task.__name__:
            raise
        parts = {name: _of_task(name, item) for name, item in inner.items()}
    return together(parts)


def _of_task(name: str, kept: Any) -> Any:
    """Restore a field of a task, of which only some part may be missing."""
    if name != "metadata" or type(kept) is not dict:
        return restored(kept, list)
    # The user may find the task by the other entries.
    pairs = kept["$dict"] if kept.keys() == {"$dict"} else kept.items()
    return {restored(key, list): restored(item, list) for key, item in pairs}


# -- kinds -----------------------------------------------------------------------------


def _zone_of(name: str) -> ZoneInfo:
    """
    Return the time zone *name*.

    Raises:
        GoneError: This machine does not know it.
    """
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - few values have one

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        why = f"the time zone {name!r} is not known here: install tzdata"
        raise GoneError(name, why) from error


def _zoned(tag: str, cls: type[Any]) -> ValueKind:
    """Return the kind of a time or a datetime: `[text]` or `[text, zone, fold]`."""

    def apart(value: Any, array: type) -> Any:
        from zoneinfo import ZoneInfo  # noqa: PLC0415 - few values have one

        zone = value.tzinfo
        parts: list[Any] = [value.replace(fold=0).isoformat()]
        if type(zone) is ZoneInfo:
            bare = value.replace(tzinfo=None, fold=0)
            parts = [bare.isoformat(), zone.key, value.fold]
        elif value.fold:
            parts += [None, value.fold]
        # A zone of the user's own class or name would come back as a bare offset.
        if repr(together(parts)) != repr(value):
            _refuse(f"the time zone {zone!r} has no name", "use datetime.UTC")
        return array(parts)

    def together(parts: Any) -> Any:
        moment = cls.fromisoformat(parts[0])
        if len(parts) == 1:
            return moment
        _, zone, fold = parts
        zone = _zone_of(zone) if zone else moment.tzinfo
        return moment.replace(tzinfo=zone, fold=fold)

    return ValueKind(tag, apart, together)


def _text(tag: str, together: Callable[[Any], Any]) -> ValueKind:
    return ValueKind(tag, lambda value, _: str(value), together)


def _attributes(cls: type[Any], *names: str) -> ValueKind:
    def apart(value: Any, array: type) -> Any:
        return array([getattr(value, name) for name in names])

    return ValueKind(cls.__name__, apart, lambda parts: cls(*parts))


def _uuid(value: Any, array: type) -> Any:
    safe = value.is_safe.value
    return str(value) if safe is None else array([str(value), safe])


def _to_uuid(kept: Any) -> Any:
    from uuid import UUID, SafeUUID  # noqa: PLC0415 - few values are one

    if isinstance(kept, str):
        return UUID(kept)
    return UUID(kept[0], is_safe=SafeUUID(kept[1]))


def _to_decimal(text: str) -> Any:
    from decimal import Decimal  # noqa: PLC0415 - few values are one

    return Decimal(text)


_PURE_PATHS: Final = {cls.__name__: cls for cls in (PurePosixPath, PureWindowsPath)}
_PURE_PATH: Final = ValueKind(
    "purepath",
    lambda value, array: array([type(value).__name__, str(value)]),
    lambda parts: _PURE_PATHS[parts[0]](parts[1]),
)


def _resources(value: Resources, array: type) -> Any:
    pairs = array(map(array, value.units))
    if not value.unit_names:
        return pairs
    names = array([array([name, array(units)]) for name, units in value.unit_names])
    return array([pairs, names])


def _to_resources(kept: Any) -> Resources:
    if all(pair and isinstance(pair[0], str) for pair in kept):
        return Resources.from_units(tuple(map(tuple, kept)))
    pairs, names = kept
    named = tuple((name, tuple(units)) for name, units in names)
    return Resources.from_units(tuple(map(tuple, pairs)), named)


def _elastic(value: Elastic, array: type) -> Any:
    least, weight, fallback = value.elasticity
    pairs = (array(map(array, units)) for units in (value.units, least))
    return array([*pairs, weight, fallback])


def _to_elastic(parts: Any) -> Any:
    units, least, weight, fallback = parts
    pairs = (tuple(map(tuple, units)), tuple(map(tuple, least)))
    return requested(pairs[0], (pairs[1], weight, fallback))


def _failure(value: TaskFailedError, array: type) -> Any:
    if value.__cause__ is not None or type(value.task_id) is not str:
        why = "it has a cause, or no task"
        raise RefusedError(why, "keep its text")
    return array([value.message, value.type, value.task_id, value.traceback])


def _to_failure(kept: Any) -> TaskFailedError:
    message, kind, task_id, traceback = kept
    return TaskFailedError(message, type=kind, task_id=task_id, traceback=traceback)


# -- functions and classes, by their import paths


class ImportPath(str):
    """A stand-in for the object at an import path, `module:qualname`."""

    __slots__ = ()


def imported(path: str) -> Any:
    """
    Return the object at *path*, `module:qualname`.

    Raises:
        ImportError, AttributeError: It is not there, or of another script.
    """
    module, _, name = path.rpartition(":")
    target: Any = sys.modules.get(module) or main_named(module, name)
    target = target or _module(module)
    for part in name.split("."):
        target = getattr(target, part)
    return target


#: By name of a module that is not there, how many others were loaded then.
_looked_for_module: Final[dict[str, int]] = {}


def _module(name: str) -> ModuleType:
    if _looked_for_module.get(name) == len(sys.modules):
        msg = f"No module named {name!r}"
        raise ModuleNotFoundError(msg, name=name)
    try:
        return importlib.import_module(name)
    except Exception as error:
        # It is not imported again for each of its functions, until others are loaded.
        _looked_for_module[name] = len(sys.modules)
        if not isinstance(error, ModuleNotFoundError):
            raise
        room, _, file = name.rpartition(".")
        if not (room.startswith("taskorch.") and file.startswith("_")):
            raise
        # An earlier version had one more file; its public names are in the package now.
        return importlib.import_module(room)


#: Whether a thread only reads: then no path is imported.
_only_looks: Final = ContextVar("_only_looks", default=False)


@contextlib.contextmanager
def only_looking() -> Iterator[None]:
    """Restore functions as `Missing`, without importing them, in the block."""
    token = _only_looks.set(True)
    try:
        yield
    finally:
        _only_looks.reset(token)


def _to_function(path: str) -> Any:
    if _only_looks.get():
        return Missing(path)
    again = partial(_looked_for, path, partial(imported, path), HERE.path)
    try:
        return imported(path)
    except OtherScriptError as error:
        return Missing(path, str(error), look=again)
    except Exception:  # noqa: BLE001 - an import may raise anything
        # Only the task that calls it is held up, and not the start of all others.
        return Missing(path, look=again)


def _looked_for(path: str, find: Callable[[], Any], journal: str) -> Any:
    """
    Return the result of *find*, once the module of *path* is loaded; import nothing.

    The path is from the journal at the path *journal*.

    Raises:
        LookupError: It is not here.
    """
    module, _, name = path.rpartition(":")
    before, HERE.path = HERE.path, journal
    try:
        if module in sys.modules or main_named(module, name) is not None:
            return find()
    except (GoneError, ImportError, AttributeError) as error:
        raise LookupError(path) from error
    finally:
        HERE.path = before
    raise LookupError(path)


def _by_path(value: Any) -> Any:
    """Return *value*, with import paths for functions and classes."""
    if type(value) is tuple:
        return tuple(map(_by_path, value))
    if isinstance(value, Missing) or not callable(value):
        return value
    return _path_of(value)


def _path_of(value: Any) -> ImportPath:
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
        at_path = imported(path)
    except (ImportError, AttributeError):
        at_path = None
    if at_path is value or (isinstance(value, MethodType) and at_path == value):
        return ImportPath(path)
    _refuse(f"importing {path} does not give {_named(value)}", remedy)


def _called(value: Any) -> Any:
    refused = refused_result(value)
    if refused is not None:
        _refuse(*refused)
    return _by_path(value)


@lru_cache(256)
def refused_result(fn: Any) -> tuple[str, str] | None:
    """
    Return why no journal can keep the result of *fn*, and a hint; None if unknown.

    It is known of generators, and of an annotated class if neither its instances can be
    kept nor those of any class that is derived from it.
    """
    if not isinstance(fn, FunctionType):
        return None
    if called_in(fn).__code__.co_flags & _GENERATOR:
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
        if not is_known(cls):
            kind_of(cls)
    except RefusedError as refused:
        return refused
    return None


def import_path(value: Any) -> str | None:
    """Return the path of a function at the top of a module; None: ask `_path_of`."""
    if type(value) in _FUNCTIONS:
        module, name = value.__module__, value.__qualname__
        # With a dot it is a method, or was made inside a function.
        if getattr(sys.modules.get(module), name, None) is value and "." not in name:
            return f"{named_module(module)}:{name}"
    return None


def _named(value: object) -> str:
    return f"this {type(value).__qualname__}"


# -- classes of the model, field by field


def _attrs(value: Any, array: type, depth: int) -> Any:
    cls: type = type(value)
    fields: dict[str, Any] = {}
    for name, default, is_plain, special in _described(cls):
        item = getattr(value, name)
        if item is default or (
            is_plain and type(item) is type(default) and item == default
        ):
            continue
        try:
            item = item if special is None else special(item)
            fields[name] = plain(item, array, depth)
        except RefusedError as refused:
            refused.within(name)
            raise
    return {f"${cls.__name__}": fields}


@cache
def _described(cls: type) -> list[tuple[str, Any, bool, _Special | None]]:
    """Return for each field: name, default, whether that is plain, and its writer."""
    special = _SPECIAL.get(cls, {})
    return [
        (
            field.name,
            # An empty mapping is written out: an absent one would not tell its type.
            attrs.NOTHING if type(field.default) is MappingProxyType else field.default,
            type(field.default) in _PLAIN,
            special.get(field.name),
        )
        for field in attrs.fields(cls)
        if field.init
    ]


def _made(cls: type[Any], fields: dict[str, Any]) -> Any:
    if cls is RetryPolicy and type(fields.get("retry_on")) is tuple:
        # An exception class that is gone cannot be raised, so it needs no retry.
        exceptions = (
            each for each in fields["retry_on"] if not isinstance(each, Missing)
        )
        fields["retry_on"] = tuple(exceptions)
    return cls(**fields)


def _mapping(value: Any) -> Any:
    """Return a mapping of the model, whatever its class, as a dict."""
    if type(value) is not dict and isinstance(value, Mapping):
        return dict(value)
    return value


def _inherited(value: Any) -> Any:
    # The default names are always among them, and need not be written.
    return value if value is True else sorted(value - DEFAULT_ENV)


def _descriptors(_value: Any) -> Any:
    # An empty tuple, which is the default, is not written: this is another.
    why = "numbers of open files mean nothing in another incarnation"
    raise RefusedError(why, "hand over paths instead")


_Special: TypeAlias = Callable[[Any], Any]
#: Fields that are not written as they are.
_SPECIAL: Final[dict[type, dict[str, _Special]]] = {
    AgentStats: {"performance": _mapping},
    Call: {"fn": _called, "kwargs": _mapping},
    Program: {"env": _mapping, "inherit_env": _inherited, "pass_fds": _descriptors},
    RetryPolicy: dict.fromkeys(("wait", "retry_on", "retry_if_result"), _by_path),
    Stats: dict.fromkeys(("resources", "agents", "types", "failures"), _mapping),
    Task: {"metadata": _mapping, "join": _by_path},
    TypeStats: {"failures": _mapping},
}
_MODEL: Final = (
    Agent,
    AgentStats,
    Answer,
    AtLeast,
    Cache,
    Call,
    Durations,
    Health,
    HealthCheck,
    Performance,
    PoolStats,
    Program,
    ProgramResult,
    Question,
    QueueStats,
    Reference,
    RetryPolicy,
    RetryStats,
    StateStats,
    Stats,
    Task,
    TypeStats,
    Wait,
)


# -- the tables

Writer: TypeAlias = Callable[[Any, type, int], Any]

#: Types that are written directly: those of JSON, similar ones, and classes of the
#: model.
_WRITERS: Final[dict[type, Writer]] = {
    int: _int,
    float: _float,
    str: _str,
    list: _list,
    tuple: _tuple,
    dict: _dict,
    set: _set,
    frozenset: _set,
    Missing: _missing,
    **dict.fromkeys(_MODEL, _attrs),
}
#: The kind of each class.
KINDS: Final[dict[type, ValueKind]] = {
    bytes: ValueKind(
        "bytes", lambda value, _: base64.b64encode(value).decode(), base64.b64decode
    ),
    complex: _attributes(complex, "real", "imag"),
    range: _attributes(range, "start", "stop", "step"),
    date: _text("date", date.fromisoformat),
    datetime: _zoned("datetime", datetime),
    time: _zoned("time", time),
    timedelta: _attributes(timedelta, "days", "seconds", "microseconds"),
    type(Path()): _text("path", Path),
    PurePosixPath: _PURE_PATH,
    PureWindowsPath: _PURE_PATH,
    ImportPath: _text("import", _to_function),
    Resources: ValueKind("Resources", _resources, _to_resources),
    Elastic: ValueKind("Elastic", _elastic, _to_elastic),
    # Stands for the result of a task whose failure was allowed.
    TaskFailedError: ValueKind("TaskFailedError", _failure, _to_failure),
}
#: The same by import path, for classes that take a while to import.
LATE_KINDS: Final = {
    "decimal:Decimal": _text("decimal", _to_decimal),
    "uuid:UUID": ValueKind("uuid", _uuid, _to_uuid),
}
#: Makes a value of its parts, by tag.
TOGETHER: Final[dict[str, Callable[[Any], Any]]] = {
    "int": lambda text: int(text, 16),
    "float": float,
    "str": lambda text: bytes.fromhex(text).decode(errors="surrogatepass"),
    "list": list,
    "tuple": tuple,
    "dict": dict,
    "set": set,
    "frozenset": frozenset,
    **{cls.__name__: partial(_made, cls) for cls in _MODEL},
    **{kind.tag: kind.together for kind in (*KINDS.values(), *LATE_KINDS.values())},
}


def is_known(cls: type) -> bool:
    """Return whether instances of *cls* are kept exactly, whatever is registered."""
    path = f"{cls.__module__}:{cls.__qualname__}"
    return cls in _WRITERS or cls in KINDS or path in LATE_KINDS


#: Loads the kinds that are not in these tables, and returns their `kind_of`.
_load_others: Callable[[], Callable[[type], ValueKind]]


def load_others_with(load: Callable[[], Callable[[type], ValueKind]]) -> None:
    """Have *load* load the kinds of users' classes when the first one comes."""
    global _load_others  # noqa: PLW0603 - `_codec` sets it once
    _load_others = load


def kind_of(cls: type) -> ValueKind:
    """
    Return how instances of *cls*, which is in no table, are kept.

    Raises:
        RefusedError: They cannot be restored exactly.
    """
    late = LATE_KINDS.get(f"{cls.__module__}:{cls.__qualname__}")
    return late or _load_others()(cls)
