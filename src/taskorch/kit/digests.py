"""
Digests of values and functions, equal only for equal ones.

    digest_of({"day": date(2026, 1, 2), "by": shorten})

A digest is the same in every process. That of a function covers its code, its closure,
and the values of its module that it reads. A value without a description, such as a
lock or a generator, raises an `UndescribedError`, which says why.

Decision: kept-values.
"""

from __future__ import annotations

import contextlib
import copyreg
import dataclasses
import sys
import sysconfig
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
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
from typing import Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

import attrs

from taskorch.kit.building import called_in
from taskorch.kit.fence import is_values
from taskorch.kit.plain import is_numpys, pythons
from taskorch.kit.visible import show

# Cached results and plans are found by these bytes. A journal must make its values
# anew, so it keeps them by a codec of its own; values that the codec tells apart, these
# bytes tell apart, too.
#
# Classes and functions are numbered as they come up, and their descriptions follow at
# the end: so they may refer to each other, and none is described twice.


#: The deepest nesting of a value.
_DEEPEST: Final = 100
#: The most functions and classes that are followed from one value.
_MOST: Final = 2_000
#: The length above which a description is replaced by a digest, and the bytes of that.
_LONG: Final = 64
_DIGEST: Final = 20
_HEAPTYPE: Final = 1 << 9
_CACHED: Final = type(lru_cache(lambda: None))


class UndescribedError(Exception):
    """Error: a value has no description; the text says why."""


def described(value: Any) -> bytes:
    """
    Return the description of *value*.

    Raises:
        UndescribedError: The value has none.
    """
    describer = _Describer()
    return describer.whole(describer.value(value))


def described_function(fn: Any) -> bytes:
    """
    Return the description of *fn*, independent of its arguments.

    It covers its name, its code as it was loaded, its closure, and the functions,
    classes and constants of its module that it reads, and that these read. Its defaults
    are part of the description of its arguments.

    Raises:
        UndescribedError: The function has none.
    """
    describer = _Describer()
    if isinstance(fn, FunctionType):
        return describer.whole(describer.function(fn, _CALLED))
    return describer.whole(describer.value(fn))


def digest_of(value: Any, *, by_name: bool = False) -> str:
    """
    Return a short digest that is the same for values with one description.

    With *by_name*, functions and classes count by their names, and by the values that
    are bound or closed over, but not by their code.

    Raises:
        UndescribedError: The value has no description.
    """
    describer = _Describer(by_name=by_name)
    text = describer.whole(describer.value(value))
    return blake2b(text, digest_size=_DIGEST).hexdigest()


def name_of(fn: Any) -> str:
    """Return the module and the qualified name of a function."""
    return f"{getattr(fn, '__module__', '')}.{getattr(fn, '__qualname__', fn)!s}"


# -- bytes -----------------------------------------------------------------------------


def packed(tag: bytes, *parts: bytes) -> bytes:
    """Return *tag* and *parts* as bytes, so that each can be told from the others."""
    body = b"".join([b"%d:%b" % (len(part), part) for part in parts])
    if len(body) > _LONG:
        return b"%b#%b" % (tag, blake2b(body, digest_size=_DIGEST).digest())
    return b"%b=%b" % (tag, body)


def _text(value: str) -> bytes:
    return packed(b"str", value.encode("utf-8", "surrogatepass"))


def _float(value: float) -> bytes:
    # All NaNs are alike; 0.0 and -0.0 are not.
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
    """Code as it was loaded, and the names that it and its inner code read."""

    text: bytes
    names: frozenset[str]


_CODES: Final[WeakKeyDictionary[CodeType, _Code]] = WeakKeyDictionary()


def _code(code: CodeType) -> _Code:
    """Return the description of *code*, without its file and lines."""
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
    """Describe a constant of code."""
    if isinstance(value, CodeType):
        return _code(value).text
    if isinstance(value, tuple):
        return packed(b"tuple", *map(_constant, value))
    if isinstance(value, frozenset):
        return packed(b"frozenset", *sorted(map(_constant, value)))
    if isinstance(value, slice):
        return packed(b"slice", *map(_constant, (value.start, value.stop, value.step)))
    return _SIMPLE[type(value)](value)


# -- own code and library code ---------------------------------------------------------

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
    """Return whether the module with these variables is the user's, not a library's."""
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
    """Return the path `module:qualname` where *thing* is found, or None."""
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


def _is_found(thing: Any) -> bool:
    """Return whether its module has *thing* by its name, maybe in a decorator's."""
    place: Any = sys.modules.get(thing.__module__)
    for part in thing.__qualname__.split("."):
        place = vars(place).get(part) if hasattr(place, "__dict__") else None
    while place is not None and place is not thing:
        place = getattr(place, "__wrapped__", getattr(place, "__func__", None))
    return place is thing


# -- values ----------------------------------------------------------------------------

#: The ways to follow an object: as a called function; as a value, of which all counts;
#: or as a variable of a module, of which only the immutable part counts.
_CALLED: Final = "called"
_VALUE: Final = "value"
_READ: Final = "read"
#: The way to follow a class that is itself a value: its mutable attributes count.
_EXACT: Final = "exact"

#: Classes of variables of a module that never change in place.
_CONSTANTS: Final = frozenset(
    {
        *_SIMPLE,
        *(range, slice, date, datetime, time, timedelta, timezone),
        *(Decimal, Fraction, UUID, type(Path()), BuiltinFunctionType),
    }
) - {bytearray}
#: Attributes that Python itself adds to a class, such as its place.
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
#: The functions that make an instance of the base from one of a subclass.
_PLAIN: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (int, int.__index__),
    (float, float.__float__),
    (complex, complex.__complex__),
    (str, str.__str__),
    (bytes, lambda value: bytes.__getitem__(value, slice(None))),
    (bytearray, lambda value: bytearray.__getitem__(value, slice(None))),
)
_MANY: Final[tuple[Any, ...]] = (list, tuple, set, frozenset)
#: Methods by which a class defines how its instances are pickled.
_REDUCERS: Final = (
    *("__reduce__", "__reduce_ex__", "__getstate__"),
    *("__getnewargs__", "__getnewargs_ex__"),
)
#: The attributes that numpy adds to a masked array, beside its content.
_MASKED: Final = frozenset(
    {
        *("_mask", "_fill_value", "_hardmask", "_sharedmask", "_isfield"),
        *("_baseclass", "_optinfo", "_basedict", "_dict"),
    }
)
#: The attributes that enums add to a member, beside its name and value.
_MEMBER: Final = frozenset(
    {"_name_", "_value_", "__objclass__", "_sort_order_", "_inverted_"}
)


class _Used:
    """A module of the user, as read by code with these *names*."""

    def __init__(self, module: ModuleType, names: frozenset[str]) -> None:
        self.module = module
        self.names = names
        self.__qualname__ = module.__name__


class _Describer:
    """Description of one value, with all values that it refers to."""

    def __init__(self, *, by_name: bool = False) -> None:
        self._by_name = by_name
        #: Descriptions by identity, with the value, which so stays alive.
        self._kept: dict[int, tuple[Any, bytes]] = {}
        #: Functions, classes and modules by their numbers, with the way to follow each.
        self._numbers: dict[tuple[Any, str], int] = {}
        self._followed: list[tuple[Any, str]] = []

    def whole(self, first: bytes) -> bytes:
        """Return *first* with the descriptions of all values that it numbers."""
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
        """Describe a value, all of which counts."""
        simple = _SIMPLE.get(type(value))
        if simple is not None:
            return simple(value)
        if depth > _DEEPEST:
            msg = f"it is nested more than {_DEEPEST} deep, or contains itself"
            raise UndescribedError(msg)
        if self._by_name and is_numpys(type(value)):
            # A journal gives it back as a number of Python.
            return self.value(pythons(value), depth + 1)
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
        """Describe a mapping without order."""
        by_key = sorted(
            ((self.value(key, depth), item) for key, item in pairs),
            key=lambda pair: pair[0],
        )
        parts = [
            part for key, item in by_key for part in (key, self.value(item, depth))
        ]
        return packed(tag, *parts)

    def _array(self, value: Any, kind: type, depth: int, numpy: Any) -> bytes:
        """Describe an array: its class, type, shape and items, in one order."""
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
        """Return the contents of an instance whose class extends one of Python's."""
        # The methods of the base are used: those of the class are not called.
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
        """Describe an object of a library by its reduced form for `pickle`."""
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
        """Describe a function; an importable one of a library is only named."""
        called = called_in(fn)
        if self._by_name:
            bound = called.__closure__, called.__defaults__, called.__kwdefaults__
            if not any(bound) or _is_found(called):
                return packed(b"def", _text(name_of(called)))
            return self._number(called, _VALUE)
        if not _is_own(called.__globals__, called.__code__.co_filename):
            path = _path_of(fn)
            if path is not None:
                return packed(b"path", _text(path), _code(called.__code__).text)
        return self._number(called, how)

    def cls(self, cls: type, how: str) -> bytes:
        """Describe a class; an importable one of a library is only named."""
        if not _is_own_class(cls) or (self._by_name and _is_found(cls)):
            path = _path_of(cls)
            if path is not None:
                return packed(b"path", _text(path))
            if not cls.__flags__ & _HEAPTYPE:
                # The class is of Python itself, such as that of iterators.
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
        parts = [_text(name_of(fn)), b"" if self._by_name else code.text]
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
        if not self._by_name and _is_own(fn.__globals__, fn.__code__.co_filename):
            parts += self._read_all(fn.__globals__, code.names)
        return packed(b"def", *parts)

    def _read_all(self, scope: Mapping[str, Any], names: frozenset[str]) -> list[bytes]:
        """Describe the variables of a module that code with these *names* reads."""
        return [
            packed(b"", _text(name), self._read(scope[name], names))
            for name in sorted(names)
            if name in scope
        ]

    def _read(  # noqa: C901, PLR0911, PLR0912 - a case a kind
        self, value: Any, names: frozenset[str], depth: int = 0
    ) -> bytes:
        """Describe a value of a module, as far as it does not change in place."""
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
            # The method belongs to an object, which may change.
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
        # A class that was made inside a function may be one of many with its name.
        is_exact = how == _EXACT or _path_of(cls) is None
        is_exact = is_exact and not issubclass(cls, Enum)
        generated = _generated(cls)
        for name in sorted(vars(cls)):
            value = vars(cls)[name]
            kind = type(value)
            if name in _PYTHONS or kind in (GetSetDescriptorType, MemberDescriptorType):
                continue
            if kind is FunctionType and name in generated:
                text = b"" if self._by_name else _code(value.__code__).text
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
                # The attribute comes from the metaclass.
                return b"unread"
            msg = f"its attribute {name!r} has no document: {error}"
            raise UndescribedError(msg) from None


def _is_of_class(value: Any) -> bool:
    """Return whether *value* is a method of a class, and no data."""
    return isinstance(
        value,
        FunctionType | staticmethod | classmethod | property | cached_property,
    )


def _state_of(value: Any) -> dict[str, Any]:
    """Return all attributes of an instance, in its dict or in slots."""
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
    """Return whether contents and attributes cover all data of a library's class."""
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
    """Return the names of methods that are generated from the fields of a class."""
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
    """Return the defaults and checks of the fields of a dataclass or attrs class."""
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
