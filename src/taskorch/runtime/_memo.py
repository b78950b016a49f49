"""
Remembered results: what calls are, described, and where the result of a like one is.

Decision: 0113.
"""

from __future__ import annotations

import contextlib
import copyreg
import dataclasses
import inspect
import json
import sys
import sysconfig
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import cached_property, lru_cache, partial
from hashlib import blake2b
from pathlib import Path, PurePath
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID
from weakref import WeakKeyDictionary

import attrs

from taskorch.errors import InvalidTaskError, UnknownTaskError
from taskorch.events import ResultRemembered, ResultReused, ResultsForgotten
from taskorch.kernel import Kernel, TaskRow
from taskorch.kit.building import called_in
from taskorch.kit.fence import is_values
from taskorch.kit.limits import MAX_DOCUMENTS, NS
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import meant
from taskorch.model import Cache, Missing, TaskState
from taskorch.model.ids import stem_of
from taskorch.runtime._translation import is_coroutine_function
from taskorch.runtime._work import Work

# -- what a value or a function is, in bytes: the same for what is alike, and for no
# other

# Remembered results and plans are found by these. A journal has to make its values
# anew, so it keeps them by a codec of its own; what that one tells apart, these bytes
# do too.
#
# The classes and functions that come up are numbered, and what they are made of
# follows at the end: so they may name each other, and none is looked at twice.


#: How deep a value may be nested.
_DEEPEST: Final = 100
#: Functions and classes that are followed from one value.
_MOST: Final = 2_000
#: What is longer stands as its digest, of so many bytes.
_LONG: Final = 64
_DIGEST: Final = 20
_HEAPTYPE: Final = 1 << 9
_CACHED: Final = type(lru_cache(lambda: None))


class UndescribedError(Exception):
    """A value has no description; the text says why."""


def described(value: Any) -> bytes:
    """
    The description of *value*.

    Raises:
        UndescribedError: It has none.
    """
    describer = _Describer()
    return describer.whole(describer.value(value))


def described_function(fn: Any) -> bytes:
    """
    The description of what *fn* does, whatever it is called with.

    That is its name, its code as it was loaded, what it closes over, and of its module
    the functions, classes and constants that it reads, and what these read. Its
    defaults are left to who describes its arguments.

    Raises:
        UndescribedError: It has none.
    """
    describer = _Describer()
    if isinstance(fn, FunctionType):
        return describer.whole(describer.function(fn, _CALLED))
    return describer.whole(describer.value(fn))


def digest_of(value: Any) -> str:
    """
    What is the same for values of one description, and short.

    Raises:
        UndescribedError: It has none.
    """
    return blake2b(described(value), digest_size=_DIGEST).hexdigest()


def name_of(fn: Any) -> str:
    """The module and the qualified name of a function."""
    return f"{getattr(fn, '__module__', '')}.{getattr(fn, '__qualname__', fn)!s}"


# -- bytes -----------------------------------------------------------------------------


def packed(tag: bytes, *parts: bytes) -> bytes:
    """The *tag* and the *parts*, so that each can be told from the others."""
    body = b"".join([b"%d:%b" % (len(part), part) for part in parts])
    if len(body) > _LONG:
        return b"%b#%b" % (tag, blake2b(body, digest_size=_DIGEST).digest())
    return b"%b=%b" % (tag, body)


def _text(value: str) -> bytes:
    return packed(b"str", value.encode("utf-8", "surrogatepass"))


def _float(value: float) -> bytes:
    # All that is no number is alike; 0.0 and -0.0 are not.
    return b"float=" + (b"nan" if value != value else value.hex().encode())  # noqa: PLR0124


_SIMPLE: Final[dict[type, Callable[[Any], bytes]]] = {
    str: _text,
    int: lambda value: b"int=%x" % value,
    bool: lambda value: b"true" if value else b"false",
    type(None): lambda _: b"none",
    float: _float,
    bytes: lambda value: packed(b"bytes", value),
    bytearray: lambda value: packed(b"bytearray", bytes(value)),
    complex: lambda value: packed(b"complex", _float(value.real), _float(value.imag)),
    type(...): lambda _: b"ellipsis",
    type(NotImplemented): lambda _: b"not implemented",
}


# -- code ------------------------------------------------------------------------------


@attrs.frozen
class _Code:
    """Code as it was loaded, and the names that it and the code in it read."""

    text: bytes
    names: frozenset[str]


_CODES: Final[WeakKeyDictionary[CodeType, _Code]] = WeakKeyDictionary()


def _code(code: CodeType) -> _Code:
    """What *code* does: neither its file nor its lines."""
    seen = _CODES.get(code)
    if seen is None:
        inner = [_code(each) for each in code.co_consts if isinstance(each, CodeType)]
        names = frozenset(code.co_names).union(*(each.names for each in inner))
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
        words = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
        text = packed(
            b"code",
            code.co_code,
            code.co_exceptiontable,
            _constant((*counts, code.co_flags, *words)),
            *map(_constant, code.co_consts),
        )
        seen = _CODES[code] = _Code(text, names)
    return seen


def _constant(value: Any) -> bytes:
    """A constant of code."""
    if isinstance(value, CodeType):
        return _code(value).text
    if isinstance(value, tuple):
        return packed(b"tuple", *map(_constant, value))
    if isinstance(value, frozenset):
        return packed(b"frozenset", *sorted(map(_constant, value)))
    if isinstance(value, slice):
        return packed(b"slice", *map(_constant, (value.start, value.stop, value.step)))
    return _SIMPLE[type(value)](value)


# -- whose code it is ------------------------------------------------------------------

_LIBRARIES: Final = [
    PurePath(path).parts
    for path in (
        *(
            sysconfig.get_path(n)
            for n in ("stdlib", "platstdlib", "purelib", "platlib")
        ),
        str(Path(__file__).parents[1]),
    )
]
_PACKAGES: Final = frozenset({"site-packages", "dist-packages"})


@lru_cache(4_096)
def _is_in_library(file: str) -> bool:
    parts = PurePath(file).parts
    return (
        file.startswith("<frozen")
        or not _PACKAGES.isdisjoint(parts)
        or any(parts[: len(path)] == path for path in _LIBRARIES)
    )


def _is_own(scope: Mapping[str, Any], file: str | None = None) -> bool:
    """Whether the module with these variables is the user's, and of no library."""
    file = scope.get("__file__") or file
    if isinstance(file, str):
        return not _is_in_library(file)
    return getattr(scope.get("__spec__"), "origin", None) not in {"built-in", "frozen"}


def _module_of(thing: Any) -> Mapping[str, Any]:
    name = getattr(thing, "__module__", None)
    module = sys.modules.get(name) if isinstance(name, str) else None
    return {} if module is None else vars(module)


def _is_own_class(cls: type) -> bool:
    return _is_own(_module_of(cls))


def _path_of(thing: Any) -> str | None:
    """Where *thing* stands, `module:qualname`; None: it does not stand there."""
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    module = getattr(thing, "__module__", None)
    if not (isinstance(name, str) and isinstance(module, str)):
        return None
    place: Any = sys.modules.get(module)
    for part in name.split("."):
        try:
            place = vars(place)[part]
        except (TypeError, KeyError):
            return None
        if isinstance(place, staticmethod | classmethod):
            place = place.__func__
    return f"{module}:{name}" if place is thing else None


# -- values ----------------------------------------------------------------------------

#: What is followed how: as what is called; as a value, of which all counts; or as what
#: a module has, of which only what does not change in place counts.
_CALLED: Final = "called"
_VALUE: Final = "value"
_READ: Final = "read"
#: A class that is a value itself: its lists and objects count, too.
_EXACT: Final = "exact"

#: Classes of values of a module that never change in place.
_CONSTANTS: Final = frozenset(
    {
        *_SIMPLE,
        *(range, slice, date, datetime, time, timedelta, timezone),
        *(Decimal, Fraction, UUID, type(Path()), BuiltinFunctionType),
    }
) - {bytearray}
#: What Python itself puts into a class, or notes of it: where it stands, for one.
_PYTHONS: Final = frozenset(
    {
        *("__module__", "__qualname__", "__dict__", "__weakref__", "__doc__"),
        *("__annotations__", "__annotate__", "__annotate_func__"),
        *("__annotations_cache__", "__firstlineno__", "__static_attributes__"),
        *("__orig_bases__", "__parameters__", "__type_params__"),
        *("__dataclass_fields__", "__dataclass_params__", "__attrs_attrs__"),
        *("__attrs_own_setattr__", "__attrs_props__", "_abc_impl"),
        *(
            "__abstractmethods__",
            "__protocol_attrs__",
            "__non_callable_proto_members__",
        ),
    }
)
#: Classes of libraries that have no state of their own.
_STATELESS: Final = frozenset({"abc", "typing", "collections.abc", "_collections_abc"})
#: What makes an instance of a subclass one of the base.
_PLAIN: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (int, int.__index__),
    (float, float.__float__),
    (complex, complex.__complex__),
    (str, str.__str__),
    (bytes, lambda value: bytes.__getitem__(value, slice(None))),
    (bytearray, lambda value: bytearray.__getitem__(value, slice(None))),
)
_MANY: Final[tuple[Any, ...]] = (list, tuple, set, frozenset)
#: What a class says of how its instances are taken apart.
_REDUCERS: Final = (
    *("__reduce__", "__reduce_ex__", "__getstate__"),
    *("__getnewargs__", "__getnewargs_ex__"),
)
#: What numpy notes of a masked array, beside what is in it.
_MASKED: Final = frozenset(
    {
        *("_mask", "_fill_value", "_hardmask", "_sharedmask", "_isfield"),
        *("_baseclass", "_optinfo", "_basedict", "_dict"),
    }
)
#: What enums note of a member, beside its name and value.
_MEMBER: Final = frozenset(
    {"_name_", "_value_", "__objclass__", "_sort_order_", "_inverted_"}
)


class _Used:
    """A module of the user's, as code with these *names* reads it."""

    def __init__(self, module: ModuleType, names: frozenset[str]) -> None:
        self.module = module
        self.names = names
        self.__qualname__ = module.__name__


class _Describer:
    """Describes one value, with all that it leads to."""

    def __init__(self) -> None:
        #: By identity, what was described; with the value, which so lives as long.
        self._kept: dict[int, tuple[Any, bytes]] = {}
        #: Functions, classes and modules by their numbers, and how each is followed.
        self._numbers: dict[tuple[Any, str], int] = {}
        self._followed: list[tuple[Any, str]] = []

    def whole(self, first: bytes) -> bytes:
        """*first* with what all that it names by a number is made of."""
        parts = [first]
        for number, (thing, how) in enumerate(self._followed):
            try:
                parts.append(self._definition(thing, how))
            except UndescribedError as error:
                if not number:
                    raise
                msg = f"it uses {thing.__qualname__}: {error}"
                raise UndescribedError(msg) from None
        return first if len(parts) == 1 else packed(b"whole", *parts)

    def value(self, value: Any, depth: int = 0) -> bytes:
        """The description of a value, all of which counts."""
        simple = _SIMPLE.get(type(value))
        if simple is not None:
            return simple(value)
        if depth > _DEEPEST:
            msg = f"it is nested more than {_DEEPEST} deep, or contains itself"
            raise UndescribedError(msg)
        seen = self._kept.get(id(value))
        if seen is None:
            text = self._composite(value, type(value), depth + 1)
            seen = self._kept[id(value)] = value, text
        return seen[1]

    def _composite(self, value: Any, kind: type, depth: int) -> bytes:  # noqa: C901, PLR0911 - a case a kind
        if kind is list or kind is tuple:
            parts = [self.value(item, depth) for item in value]
            return packed(kind.__name__.encode(), *parts)
        if kind is dict or kind is MappingProxyType:
            return self._mapping(kind.__name__.encode(), value.items(), depth)
        if kind is OrderedDict:
            parts = [self.value(pair, depth) for pair in value.items()]
            return packed(b"ordered", *parts)
        if kind is set or kind is frozenset:
            parts = sorted(self.value(item, depth) for item in value)
            return packed(kind.__name__.encode(), *parts)
        if kind is FunctionType:
            return self.function(value, _VALUE)
        if kind is MethodType:
            own = self.function(value.__func__, _VALUE)
            return packed(b"method", own, self.value(value.__self__, depth))
        if kind is _CACHED:
            return packed(b"cached", self.value(value.__wrapped__, depth))
        if kind is ModuleType:
            if _is_own(vars(value)):
                msg = f"the module {value.__name__} has no description"
                raise UndescribedError(msg)
            return packed(b"module", _text(value.__name__))
        if isinstance(value, type):
            return self.cls(value, _EXACT)
        if isinstance(value, Enum):
            more = {n: v for n, v in vars(value).items() if n not in _MEMBER}
            parts = [self.value(part, depth) for part in (value._name_, value._value_)]
            return packed(
                b"enum", self.cls(kind, _VALUE), *parts, self.value(more, depth)
            )
        numpy: Any = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.ndarray):
            return self._array(value, kind, depth, numpy)
        return self._object(value, kind, depth)

    def _mapping(
        self, tag: bytes, pairs: Iterable[tuple[Any, Any]], depth: int
    ) -> bytes:
        """A mapping without order."""
        by_key = sorted(
            ((self.value(key, depth), item) for key, item in pairs),
            key=lambda pair: pair[0],
        )
        parts = [
            part for key, item in by_key for part in (key, self.value(item, depth))
        ]
        return packed(tag, *parts)

    def _array(self, value: Any, kind: type, depth: int, numpy: Any) -> bytes:
        """An array: its class, its type, its shape and what is in it, in one order."""
        plain = numpy.ndarray.view(value, numpy.ndarray)
        inside = plain.tolist() if plain.dtype.hasobject else plain.tobytes()
        parts = [plain.dtype, plain.shape, inside]
        if kind is not numpy.ndarray:
            more = dict(getattr(value, "__dict__", {}))
            if isinstance(value, numpy.ma.MaskedArray):
                parts += [more["_mask"], more["_fill_value"], more["_hardmask"]]
                more = {n: item for n, item in more.items() if n not in _MASKED}
            parts.append(more)
        of_kind = self.cls(kind, _VALUE)
        return packed(b"array", of_kind, *(self.value(part, depth) for part in parts))

    # -- other objects

    def _object(self, value: Any, kind: type, depth: int) -> bytes:
        if kind is object:
            msg = f"{show(value)} is like any other, and no other"
            raise UndescribedError(msg)
        parts = [self.cls(kind, _VALUE)]
        own = [cls for cls in kind.__mro__ if _is_own_class(cls)]
        if own:
            parts += self._contents(value, depth)
            parts.append(self.value(_state_of(value), depth))
        bases = [cls for cls in kind.__mro__ if cls not in own]
        if not own or not all(map(_is_covered, bases)):
            if any(name in vars(cls) for cls in own for name in _REDUCERS):
                msg = f"{show(value)} hides what is in its base, of a library"
                raise UndescribedError(msg)
            parts.append(self._reduced(value, kind, depth))
        return packed(b"object", *parts)

    def _contents(self, value: Any, depth: int) -> list[bytes]:
        """What an instance of a class of the user's has of a class of Python."""
        # By the methods of the base: what the class has in their place is not asked.
        for base, plain in _PLAIN:
            if issubclass(type(value), base):
                return [_SIMPLE[base](plain(value))]
        for many in _MANY:
            if isinstance(value, many):
                return [self.value(many(many.__iter__(value)), depth)]
        if isinstance(value, OrderedDict):
            return [self.value(OrderedDict(OrderedDict.items(value)), depth)]
        if isinstance(value, dict):
            return [self.value(dict(dict.items(value)), depth)]
        return []

    def _reduced(self, value: Any, kind: type, depth: int) -> bytes:
        """What a library says of an object of its own, for `pickle`."""
        try:
            reducer = copyreg.dispatch_table.get(kind)
            reduced: Any = value.__reduce_ex__(4) if reducer is None else reducer(value)
        except BaseException as error:
            if not is_values(error):
                raise
            msg = f"{show(value)} has no description"
            raise UndescribedError(msg) from error
        if isinstance(reduced, str):
            path = _path_of(value)
            if path is None:
                msg = f"{show(value)} has no description"
                raise UndescribedError(msg)
            return packed(b"path", _text(path))
        make, args, state, items, pairs, put = (*reduced, *[None] * 6)[:6]
        parts = [self.value(part, depth) for part in (make, args, state, put)]
        parts.append(self.value(None if items is None else list(items), depth))
        if pairs is None:
            parts.append(b"none")
        elif isinstance(value, OrderedDict):
            parts.append(self.value(list(pairs), depth))
        else:
            parts.append(self._mapping(b"dict", pairs, depth))
        return packed(b"reduced", *parts)

    # -- functions, classes and modules

    def function(self, fn: FunctionType, how: str) -> bytes:
        """A function; one of a library that stands where it says is not followed."""
        called = called_in(fn)
        if not _is_own(called.__globals__, called.__code__.co_filename):
            path = _path_of(fn)
            if path is not None:
                return packed(b"path", _text(path), _code(called.__code__).text)
        return self._number(called, how)

    def cls(self, cls: type, how: str) -> bytes:
        """A class; one of a library that stands where it says is not followed."""
        if not _is_own_class(cls):
            path = _path_of(cls)
            if path is not None:
                return packed(b"path", _text(path))
            if not cls.__flags__ & _HEAPTYPE:
                # Of Python itself, such as that of iterators.
                return packed(b"class", _text(name_of(cls)))
        return self._number(cls, how)

    def _number(self, thing: Any, how: str) -> bytes:
        key = (thing.module, thing.names) if isinstance(thing, _Used) else id(thing)
        number = self._numbers.get((key, how))
        if number is None:
            if len(self._followed) >= _MOST:
                msg = f"it leads to more than {_MOST:,} functions and classes"
                raise UndescribedError(msg)
            number = self._numbers[key, how] = len(self._followed)
            self._followed.append((thing, how))
        return b"number=%d" % number

    def _definition(self, thing: Any, how: str) -> bytes:
        if isinstance(thing, _Used):
            return packed(
                b"module",
                _text(thing.module.__name__),
                *self._read_all(vars(thing.module), thing.names),
            )
        if isinstance(thing, type):
            return self._class_definition(thing, how)
        return self._function_definition(thing, how)

    def _function_definition(self, fn: FunctionType, how: str) -> bytes:
        code = _code(fn.__code__)
        parts = [_text(name_of(fn)), code.text]
        values = fn.__defaults__, fn.__kwdefaults__
        if how == _READ:
            parts += [self._read(value, code.names) for value in values]
        elif how == _VALUE:
            parts += [self.value(value) for value in values]
        cells = zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
        for name, cell in cells:
            try:
                value = cell.cell_contents
            except ValueError:
                parts.append(b"empty")
                continue
            try:
                is_module = isinstance(value, ModuleType)
                parts.append(
                    self._read(value, code.names) if is_module else self.value(value)
                )
            except UndescribedError as error:
                msg = f"it closes over {name!r}, which has no document: {error}"
                raise UndescribedError(msg) from None
        if _is_own(fn.__globals__, fn.__code__.co_filename):
            parts += self._read_all(fn.__globals__, code.names)
        return packed(b"def", *parts)

    def _read_all(self, scope: Mapping[str, Any], names: frozenset[str]) -> list[bytes]:
        """What code with these *names* reads of a module with these variables."""
        return [
            packed(b"", _text(name), self._read(scope[name], names))
            for name in sorted(names)
            if name in scope
        ]

    def _read(  # noqa: C901, PLR0911, PLR0912 - a case a kind
        self, value: Any, names: frozenset[str], depth: int = 0
    ) -> bytes:
        """What a module has under a name: what does not change in place."""
        kind = type(value)
        if depth > _DEEPEST:
            return b"deep"
        depth += 1
        if kind is FunctionType:
            return self.function(value, _READ)
        if isinstance(value, type):
            return self.cls(value, _READ)
        if kind is ModuleType:
            if _is_own(vars(value)):
                return self._number(_Used(value, names), _READ)
            return packed(b"module", _text(value.__name__))
        if kind in (staticmethod, classmethod, MethodType):
            return packed(b"method", self._read(value.__func__, names, depth))
        if kind is _CACHED:
            return packed(b"cached", self._read(value.__wrapped__, names, depth))
        inside: Any = None
        if kind is property:
            inside = value.fget, value.fset, value.fdel
        elif kind is cached_property:
            inside = (value.func,)
        elif kind is partial:
            inside = value.func, value.args, *sorted(value.keywords.items())
        elif kind is tuple or kind is frozenset:
            inside = value
        if inside is not None:
            parts = [self._read(part, names, depth) for part in inside]
            parts = sorted(parts) if kind is frozenset else parts
            return packed(kind.__name__.encode(), *parts)
        if kind is BuiltinFunctionType and type(value.__self__) is not ModuleType:
            # A method of an object, which may change.
            return packed(b"method", _text(value.__name__))
        if kind in _CONSTANTS or isinstance(value, Enum):
            try:
                return self.value(value, depth)
            except UndescribedError:
                return b"unread"
        return b"unread"

    def _class_definition(self, cls: type, how: str) -> bytes:
        parts = [_text(name_of(cls)), self.cls(type(cls), how)]
        parts += [self.cls(base, how) for base in cls.__bases__]
        # One that was made inside a function may be one of many of its name.
        is_exact = how == _EXACT or _path_of(cls) is None
        is_exact = is_exact and not issubclass(cls, Enum)
        generated = _generated(cls)
        for name in sorted(vars(cls)):
            value = vars(cls)[name]
            kind = type(value)
            if name in _PYTHONS or kind in (GetSetDescriptorType, MemberDescriptorType):
                continue
            if kind is FunctionType and name in generated:
                text = _code(value.__code__).text
            elif is_exact and not _is_of_class(value):
                text = self._exact(name, value)
            else:
                text = self._read(value, frozenset())
            parts.append(packed(b"", _text(name), text))
        if issubclass(cls, Enum):
            for name, member in cls.__members__.items():
                text = self._read(member._value_, frozenset())
                parts.append(packed(b"", _text(name), text))
        for field in _fields_of(cls):
            parts.append(self._read(field, frozenset()))
        return packed(b"class", *parts)

    def _exact(self, name: str, value: Any) -> bytes:
        try:
            return self.value(value)
        except UndescribedError as error:
            if name.startswith("__") and name.endswith("__"):
                # Of whoever made the class.
                return b"unread"
            msg = f"its attribute {name!r} has no document: {error}"
            raise UndescribedError(msg) from None


def _is_of_class(value: Any) -> bool:
    """Whether a class has *value* to work, and not to keep something."""
    return isinstance(
        value,
        FunctionType | staticmethod | classmethod | property | cached_property,
    )


def _state_of(value: Any) -> dict[str, Any]:
    """All attributes of an instance, in its dict or in slots."""
    state: dict[str, Any] = {}
    for cls in type(value).__mro__:
        for name, member in vars(cls).items():
            if isinstance(member, MemberDescriptorType):
                try:
                    state[f"{cls.__qualname__}.{name}"] = member.__get__(value)
                except AttributeError:
                    continue
    with contextlib.suppress(AttributeError):
        state[""] = object.__getattribute__(value, "__dict__")
    return state


def _is_covered(cls: type) -> bool:
    """Whether all that a class of a library keeps is in contents and attributes."""
    return (
        cls is object
        or cls.__module__ in _STATELESS
        or cls
        in (
            *(int, float, complex, str, bytes, bytearray),
            *(list, tuple, set, frozenset, dict, OrderedDict),
        )
    )


def _generated(cls: type) -> frozenset[str]:
    """Names of methods that are made of the fields of a class."""
    is_made = (
        hasattr(cls, "__dataclass_fields__")
        or hasattr(cls, "__attrs_attrs__")
        or hasattr(cls, "_fields")
    )
    if not is_made:
        return frozenset()
    return frozenset(
        name
        for name, value in vars(cls).items()
        if isinstance(value, FunctionType)
        and value.__code__.co_filename.startswith(("<string>", "<attrs", "<namedtuple"))
    )


def _fields_of(cls: type) -> list[Any]:
    """What the fields of a dataclass, or of an attrs class, are filled with."""
    fields: list[Any] = []
    if dataclasses.is_dataclass(cls):
        fields += [
            (f.name, f.init, f.default, f.default_factory, f.kw_only)
            for f in dataclasses.fields(cls)
        ]
    if attrs.has(cls):
        for f in attrs.fields(cls):
            default: Any = f.default
            default = getattr(default, "factory", default)
            fields.append((f.name, f.init, default, f.converter, f.validator))
    return fields


# -- results that like tasks have: what a key is made of, and who has its result -------


#: Bytes of a key, and of the digest of an argument.
_KEY_BYTES: Final = 16
_PART_BYTES: Final = 8
#: Of how many tasks it is known what was said of their results.
_SAID: Final = 10_000
#: The name of the documents of results, by the keys of these.
_MEMO: Final = "memo"


# -- keys ------------------------------------------------------------------------------


@attrs.frozen
class Key:
    """What like tasks have in common."""

    kind: str
    text: str
    parts: tuple[tuple[str, bytes], ...]

    def digests(self) -> tuple[tuple[str, str], ...]:
        """The parts as they are kept."""
        return tuple((name, _digest(said)) for name, said in self.parts)


def _digest(said: bytes) -> str:
    return blake2b(said, digest_size=_PART_BYTES).hexdigest()


def key_of(
    kind: str, cache: Cache, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Key:
    """
    The key of a call.

    Raises:
        InvalidTaskError: Something in it has no description: it says what.
    """
    if cache.key:
        return _key_that_was_said(kind, cache, fn)
    fn = called_in(fn)
    parts = [("(function)", _function(fn, cache))]
    if hasattr(fn, "__wrapped__") or hasattr(fn, "__signature__"):
        # What it says that it takes is what another takes: it sees how it is called.
        parts.append(("(call)", described((len(args), {*kwargs}))))
    arguments = _arguments(fn, args, kwargs, cache.ignore)
    return _key(kind, [*parts, *_described(fn, arguments, cache.ignore)])


def _key_of_handler(kind: str, cache: Cache, handler: Any, payload: Any) -> Key:
    if cache.key:
        return _key_that_was_said(kind, cache, handler)
    # The names are those in a payload, or that of the payload itself.
    has_names = type(payload) is dict and all(type(name) is str for name in payload)
    parts = [("(function)", _function(handler, cache))]
    parts.append(("(payload)", b"by names" if has_names else b"whole"))
    named = payload if has_names else {"payload": payload}
    return _key(kind, [*parts, *_described(handler, named, cache.ignore)])


def _key_that_was_said(kind: str, cache: Cache, fn: Any) -> Key:
    key = cache.key.encode("utf-8", "surrogatepass")
    return _key(kind, [("(function)", _function(fn, cache)), ("(key)", key)])


def _function(fn: Any, cache: Cache) -> bytes:
    """Which function it is, and what is bound to it unless a key stands for that."""
    parts: list[bytes] = []
    inner = fn
    try:
        while isinstance(inner, partial | MethodType):
            if isinstance(inner, partial):
                bound: Any = inner.args, inner.keywords
                inner = inner.func
            else:
                bound = inner.__self__
                inner = inner.__func__
            if not cache.key:
                parts.append(described(bound))
        is_plain = isinstance(inner, FunctionType | type)
        if not cache.version:
            parts.append(described_function(inner))
        elif not is_plain and not cache.key:
            # A method of Python's, or an object that is called, has a state.
            parts.append(described(inner))
    except (UndescribedError, RecursionError) as error:
        msg = f"the result of {show(fn)} cannot be remembered: {error}"
        hint = 'Cache(version="1") says which function it is'
        if inner is not fn or not isinstance(fn, FunctionType | type):
            hint = 'Cache(version="1", key=…) says which function it is, and for what'
        raise InvalidTaskError(msg, hint=hint) from None
    plain = inner if isinstance(inner, FunctionType | type) else type(inner)
    name = name_of(plain).encode("utf-8", "surrogatepass")
    return packed(b"function", name, cache.version.encode("utf-8", "replace"), *parts)


#: Of functions, their parameters; None: nobody knows.
_SIGNATURES: Final[WeakKeyDictionary[FunctionType, inspect.Signature | None]] = (
    WeakKeyDictionary()
)


def _signature(fn: Any) -> inspect.Signature | None:
    if type(fn) is FunctionType and fn in _SIGNATURES:
        return _SIGNATURES[fn]
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        signature = None
    if type(fn) is FunctionType:
        _SIGNATURES[fn] = signature
    return signature


def _arguments(
    fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], ignore: frozenset[str]
) -> dict[str, Any]:
    """
    The arguments of a call by the names of parameters, with defaults.

    Those of `*args` are one, `*args`. Those of `**kwargs` have their own names, behind
    `**` where that is the name of another.

    Raises:
        InvalidTaskError: One that is ignored is no parameter.
    """
    signature = _signature(fn)
    try:
        bound = None if signature is None else signature.bind(*args, **kwargs)
    except TypeError:
        # It will fail.
        bound = None
    if signature is None or bound is None:
        return {"*": args, **{f"**{name}": item for name, item in kwargs.items()}}
    bound.apply_defaults()
    arguments: dict[str, Any] = {}
    more: Mapping[str, Any] = {}
    is_open = False
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            is_open, more = True, bound.arguments[name]
        else:
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
            arguments[f"{stars}{name}"] = bound.arguments[name]
    for name, item in more.items():
        is_free = name not in arguments and name[:1] not in ("*", "(")
        arguments[name if is_free else f"**{name}"] = item
    for name in sorted(ignore):
        if not is_open and name not in arguments and f"*{name}" not in arguments:
            names = [each.lstrip("*") for each in arguments]
            msg = f"cache: {show(fn)} has no argument {name!r} that could be ignored"
            hint = meant(name, names, f"it has {', '.join(names) or 'none'}")
            raise InvalidTaskError(msg, hint=hint)
    return arguments


def _described(
    fn: Any, arguments: Mapping[str, Any], ignore: frozenset[str]
) -> list[tuple[str, bytes]]:
    parts: list[tuple[str, bytes]] = []
    for name in sorted(arguments):
        if name in ignore or (name[:1] == "*" and name[1:] in ignore):
            continue
        try:
            parts.append((name, described(arguments[name])))
        except (UndescribedError, RecursionError) as error:
            msg = (
                f"the result of {show(fn)} cannot be remembered: its argument {name!r} "
                f"is {show(arguments[name])}, which has no document: {error}"
            )
            hint = (
                f"Cache(ignore={{{name!r}}}) if it makes no difference, or "
                "Cache(key=…): a text that stands for all arguments"
            )
            raise InvalidTaskError(msg, hint=hint) from None
    return parts


def _key(kind: str, parts: list[tuple[str, bytes]]) -> Key:
    pairs = (packed(b"", name.encode(), part) for name, part in parts)
    whole = packed(b"call", kind.encode(), *pairs)
    text = blake2b(whole, digest_size=_KEY_BYTES).hexdigest()
    return Key(kind, text, tuple(parts))


# -- who has the result ----------------------------------------------------------------


@attrs.frozen
class Found:
    """A task that has a result, or makes it."""

    work: Work
    is_running: bool


class _Remembered(NamedTuple):
    """
    What is remembered of a result, as its document says it.

    Attributes:
        kind: The type of its task.
        task_id: The task that makes it.
        at_ns: Since when, in ns since the epoch.
        parts: The names of its arguments, each with a digest of its value.
    """

    kind: str
    task_id: str
    at_ns: int
    parts: dict[str, str]


def _entry(kernel: Kernel, key: str) -> _Remembered | None:
    """What is remembered of the result of *key*."""
    return _read(kernel.kept.get(_MEMO, {}).get(key, ""))


def _read(text: str) -> _Remembered | None:
    """The result that a document is of; None: a program has written it there."""
    try:
        kind, task_id, at_ns, parts = json.loads(text)
        return _Remembered(kind, task_id, at_ns, dict(parts))
    except (TypeError, ValueError):
        return None


def _latest(kernel: Kernel, kind: str) -> Iterator[_Remembered]:
    """The results of a type, the latest first."""
    # How their documents begin: so others need not be read.
    beginning = f"[{json.dumps(kind)},"
    for text in reversed(kernel.kept.get(_MEMO, {}).values()):
        entry = _read(text) if text.startswith(beginning) else None
        if entry is not None:
            yield entry


def _remember(kernel: Kernel, task_id: str, key: Key, why: str, now: int) -> None:
    """Note that a task makes the result of *key*; of too many, the oldest goes."""
    parts = key.digests()
    kernel.note(ResultRemembered, now, task_id, key.kind, key.text, parts, why)
    entry = _Remembered(key.kind, task_id, now, dict(parts))
    kernel.keep_document(_MEMO, key.text, json.dumps(entry, separators=(",", ":")), now)
    results = kernel.kept[_MEMO]
    if len(results) > MAX_DOCUMENTS:
        kernel.keep_document(_MEMO, next(iter(results)), "", now)


class Finds(Protocol):
    """What finds tasks by their ids."""

    def known(self, task_id: str) -> Work:
        """The work of a task."""
        ...


class Remembers(Protocol):
    """What the cache asks of the runtime, or of a simulated life."""

    kernel: Kernel

    @property
    def directory(self) -> Finds:
        """Finds tasks."""
        ...


class ChangesKernel(Protocol):
    """Makes a change of the kernel."""

    def __call__(self, change: Callable[[Kernel, int], None], *, keep: bool) -> None:
        """Make *change*; with *keep*, return once it is kept."""
        ...


class Memo:
    """
    Looks for the results of like tasks, in one life of an orchestrator.

    Args:
        rt: A runtime, or a life in a simulation.
        recall: Looks in the journal for a task that has left memory.
        step: Makes a change of the kernel, which may be kept before it returns.
        waits: Whether an attempt may wait for one that makes its result.
    """

    def __init__(
        self,
        rt: Remembers,
        recall: Callable[[str], None] | None,
        step: ChangesKernel,
        *,
        waits: bool = True,
    ) -> None:
        self._rt = rt
        self._recall = recall
        self._step = step
        self._waits = waits
        #: What was said of the results of the latest tasks.
        self.said: dict[str, str] = {}

    def call(
        self,
        row: TaskRow,
        work: Work,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """
        The result of a like task, or what *fn* returns.

        Raises:
            Exception: What *fn* raises, or InvalidTaskError: see `key_of`.
        """
        key, number = self._key(row, work, fn, args, kwargs), row.attempt
        while True:
            found = self.look(row, work, key)
            if found is None:
                return fn(*args, **kwargs)
            # If it fails, or its result is gone by now, somebody makes it.
            with suppress(Exception):
                value = found.work.result()  # type: ignore[attr-defined]
                self._spend_nothing(row, number)
                return value
            if not found.is_running:
                return fn(*args, **kwargs)

    async def call_async(
        self,
        row: TaskRow,
        work: Work,
        fn: Callable[..., Coroutine[Any, Any, Any]],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """As `call`, on a loop."""
        key, number = self._key(row, work, fn, args, kwargs), row.attempt
        while True:
            found = self.look(row, work, key)
            if found is None:
                return await fn(*args, **kwargs)
            with suppress(Exception):
                value = await found.work  # type: ignore[misc]
                self._spend_nothing(row, number)
                return value
            if not found.is_running:
                return await fn(*args, **kwargs)

    def wrapped(
        self,
        row: TaskRow,
        work: Work,
        called: tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]],
        *,
        elsewhere: bool,
    ) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        """What an executor calls in the place of *called*."""
        fn, args, kwargs = called
        if elsewhere:
            key = self._key(row, work, fn, args, kwargs)
            found = self.look(row, work, key, joins=False)
            if found is None:
                return called
            self._spend_nothing(row, row.attempt)
            return _same, (found.work._value,), {}
        if is_coroutine_function(fn):
            return self.call_async, (row, work, fn, args, kwargs), {}
        return self.call, (row, work, fn, args, kwargs), {}

    def _key(
        self,
        row: TaskRow,
        work: Work,
        fn: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Key:
        task = work._task
        assert task is not None  # noqa: S101 - it has a cache
        assert task.cache is not None  # noqa: S101
        if work._executor is None:
            # A handler: of what it is given, the payload makes the difference.
            key = _key_of_handler(task.type, task.cache, fn, task.payload)
        else:
            key = key_of(row.bucket.spec.type, task.cache, fn, args, kwargs)
        if task.owner is None:
            return key
        # What one tenant has made, no other one gets.
        owner = task.owner.encode("utf-8", "surrogatepass")
        return _key(key.kind, [*key.parts, ("(tenant)", owner)])

    def _spend_nothing(self, row: TaskRow, attempt: int) -> None:
        """An attempt that has the result of another task has spent nothing."""
        if not row.bucket.spec.budget:
            return

        from taskorch.kernel import reserved_of  # noqa: PLC0415 - drawn on by few

        def change(kernel: Kernel, now: int) -> None:
            nothing = tuple([(name, 0) for name, _ in reserved_of(row) or ()])
            if nothing:
                kernel.spend(row, attempt, nothing, now)

        self._step(change, keep=False)

    def look(
        self, row: TaskRow, work: Work, key: Key, *, joins: bool = True
    ) -> Found | None:
        """Who has, or makes, the result; None: *row* makes it, and that is noted."""
        task = work._task
        cache = None if task is None else task.cache
        assert cache is not None  # noqa: S101 - as in `_key`
        if self._recall is not None:
            known = _entry(self._rt.kernel, key.text)
            if known is not None:
                self._recall(known.task_id)
        found: list[Found] = []

        def change(kernel: Kernel, now: int) -> None:
            why = self._find(kernel, row, key, cache, now, found, joins=joins)
            if found:
                source = found[0].work._row.id
                kernel.note(ResultReused, now, row.id, key.text, source, why)
                self._say(row.id, f"hit: {why}")
            else:
                entry = _entry(kernel, key.text)
                if entry is None or entry.task_id != row.id:
                    _remember(kernel, row.id, key, why, now)
                self._say(row.id, f"miss: {why}")

        self._step(change, keep=False)
        return found[0] if found else None

    def _find(
        self,
        kernel: Kernel,
        row: TaskRow,
        key: Key,
        cache: Cache,
        now: int,
        found: list[Found],
        *,
        joins: bool,
    ) -> str:
        """Under the lock: put who has the result into *found*, and say why, or not."""
        entry = _entry(kernel, key.text)
        if entry is None:
            return self._nearest(kernel, key)
        source_id, at_ns = entry.task_id, entry.at_ns
        if stem_of(source_id) == stem_of(row.id):
            return "it is run again"
        age = (now - at_ns) / NS
        if cache.expires is not None and age >= cache.expires:
            return f"the result of {source_id} has expired: it is {age:.3g} s old"
        try:
            source: Work = self._rt.directory.known(source_id)
        except UnknownTaskError:
            return f"the result of {source_id} is not there any more"
        state = source._row.state
        if state is TaskState.COMPLETED:
            if type(source._value) is Missing or source._error is not None:
                return f"the result of {source_id} is not there any more"
            found.append(Found(source, is_running=False))
            return f"the result of {source_id}, which is {age:.3g} s old"
        if state is TaskState.RUNNING and joins and self._waits:
            found.append(Found(source, is_running=True))
            return f"{source_id} was making it already"
        return f"{source_id}, which was to make it, is {state}"

    def _nearest(self, kernel: Kernel, key: Key) -> str:
        """Why there is no result: in what the latest of the type differs."""
        mine: dict[str, str] | None = None
        best: tuple[list[str], str] | None = None
        for looked, entry in enumerate(_latest(kernel, key.kind), 1):
            if mine is None:
                mine = dict(key.digests())
            theirs = entry.parts
            names = [
                name
                for name in {**mine, **theirs}
                if mine.get(name) != theirs.get(name)
            ]
            if best is None or len(names) < len(best[0]):
                best = names, entry.task_id
            if len(best[0]) <= 1 or looked >= 10:  # noqa: PLR2004 - the latest will do
                break
        if best is None:
            return f"nothing is remembered of the type {key.kind}"
        names, task_id = best
        shown = ", ".join(repr(name) for name in names if name[:1] != "(")
        if not shown:
            if "(function)" in names or not names:
                return f"the function, or its version, is not that of {task_id}"
            if "(key)" in names:
                return f"the key of its Cache is not that of {task_id}"
            return f"it is called in another way than {task_id}"
        many = "arguments" if shown.count(",") else "argument"
        verb = "differ" if shown.count(",") else "differs"
        also = ", and so does the function" if "(function)" in names else ""
        return f"{many} {shown} {verb} from that of {task_id}{also}"

    def _say(self, task_id: str, text: str) -> None:
        self.said[task_id] = text
        if len(self.said) > _SAID:
            del self.said[next(iter(self.said))]

    def count(self) -> int:
        """How many results are remembered."""
        return len(self._rt.kernel.kept.get(_MEMO, {}))

    def keys(self, kind: str | None = None, task_id: str | None = None) -> list[str]:
        """Keys of cached results: of all, of those of a type, or of that of a task."""
        keys: list[str] = []
        for key, text in self._rt.kernel.kept.get(_MEMO, {}).items():
            entry = _read(text)
            if entry is None or (
                kind in (None, entry.kind) and task_id in (None, entry.task_id)
            ):
                keys.append(key)
        return keys

    def clear(self, kind: str | None = None, task_id: str | None = None) -> int:
        """Forget results: all, those of a type, or that of a task; how many."""
        gone: list[str] = []

        def change(kernel: Kernel, now: int) -> None:
            gone.extend(self.keys(kind, task_id))
            if gone:
                kernel.note(ResultsForgotten, now, tuple(gone))
            for key in gone:
                kernel.keep_document(_MEMO, key, "", now)

        self._step(change, keep=True)
        return len(gone)


def _same(value: Any) -> Any:
    """The value: in another process, in the place of the function."""
    return value
