"""
Instances of the user's classes: dataclasses, attrs classes, named tuples, enums.

Of an enum the name of the member is kept, of the others the fields, by their names.
They are set as they were: no constructor runs, no converter and no validator, as if
they were copied or pickled. Classes are found by their import paths, as functions are;
nothing else that stands at such a path is used. Registered classes come first.

Decision: kept-values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from enum import Enum, Flag
from functools import cached_property, reduce
from operator import or_
from types import MemberDescriptorType
from typing import Any, Final
from weakref import WeakKeyDictionary

import attrs

from taskorch.core.journal._beside import BY_CLASS, BY_NAME, Pair, keep, load
from taskorch.core.journal._scripts import OtherScriptError, main_named, named_module
from taskorch.core.journal._values import (
    OWN,
    TOGETHER,
    GoneError,
    RefusedError,
    ValueKind,
    imported,
)
from taskorch.kit.plain import is_numpys, pythons

#: The hint for a class.
_REGISTER: Final = "taskorch.api.journal.register({name}, encode, decode)"
_REGISTER_FILE: Final = (
    "taskorch.api.journal.register_file({name}, save, load, suffix=…), which keeps it "
    "in a file beside the journal"
)
#: Packages whose values are large.
_LARGE: Final = frozenset(
    {"numpy", "pandas", "polars", "pyarrow", "scipy", "torch", "xarray"}
)
#: Differs from the value of every field.
_UNSET: Final = object()
#: Attributes that Python itself puts beside the fields of an instance.
_PYTHONS: Final = frozenset({"__dict__", "__weakref__", "__orig_class__"})
#: Types into which an instance of their subclass can be converted, for the hint.
_BASES: Final = (str, int, float, bytes, list, tuple, dict, set, frozenset)

#: By class, how its instances are taken apart; None if they are not.
_shapes: WeakKeyDictionary[type, _Shape | None] = WeakKeyDictionary()


def kind_of(cls: type) -> ValueKind:
    """
    Return how instances of *cls*, which JSON and taskorch do not have, are kept.

    Raises:
        RefusedError: They cannot be restored exactly.
    """
    pair = BY_CLASS.get(cls)
    if pair is not None:
        return _registered(pair)
    if issubclass(cls, Enum):
        return _ENUM
    if is_numpys(cls):
        return _NUMBER
    shape = _shape_of(cls)
    if shape is not None:
        return shape.kind
    for base in _BASES:
        if issubclass(cls, base):
            remedy = f"use {base.__name__}(…), or {_register(cls)}"
            why = f"{_a(cls)} would come back as a {base.__name__}"
            raise RefusedError(why, remedy)
    if issubclass(cls, Mapping):
        why = f"{_a(cls)} would come back as a dict"
        raise RefusedError(why, f"use dict(…), or {_register(cls)}")
    other = "keep it in a file" if cls.__module__ == "builtins" else _register(cls)
    if _package(cls) in _LARGE:
        other = _REGISTER_FILE.format(name=f"{_package(cls)}.{cls.__name__}")
    remedy = "use JSON values, tuples, sets, dates, dataclasses, enums and the like"
    why = f"{_a(cls)} cannot be restored exactly"
    raise RefusedError(why, f"{remedy}, or {other}")


def _package(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def _number(value: Any, _array: type) -> Any:
    number = pythons(value)
    if type(number) is type(value):
        why = f"{_a(type(value))} is more exact than a float"
        raise RefusedError(why, "use float(…)")
    return number


#: Numbers of NumPy are kept as those of Python.
_NUMBER: Final = ValueKind("", _number, lambda number: number)


def _a(cls: type) -> str:
    return f"a {cls.__module__}.{cls.__qualname__}"


def _register(cls: type) -> str:
    return _REGISTER.format(name=cls.__qualname__.rpartition(".")[2])


def _path(cls: type) -> str:
    """
    Return the import path of *cls*, `module:qualname`.

    Raises:
        RefusedError: The class is not there.
    """
    path = f"{named_module(cls.__module__)}:{cls.__qualname__}"
    if "<locals>" in path:
        why = f"the class {path} is made inside a function, and cannot be imported"
        raise RefusedError(
            why, f"move it to the top level of its module, or {_register(cls)}"
        )
    try:
        at_path = imported(path)
    except (ImportError, AttributeError):
        at_path = None
    if at_path is not cls:
        why = f"importing {path} does not give the class of this value"
        raise RefusedError(
            why, f"make it anew from the class that is there, or {_register(cls)}"
        )
    return path


def _class_at(path: str) -> Any:
    """
    Return the object at the import path *path*.

    Raises:
        GoneError: There is none.
    """
    try:
        return imported(path)
    except OtherScriptError as error:
        raise GoneError(path, str(error)) from error
    except Exception as error:
        why = f"{path} cannot be imported any more ({type(error).__name__}: {error})"
        raise GoneError(path, why) from error


# -- registered classes ------------------------------------------------------------


def _registered(pair: Pair) -> ValueKind:
    def apart(value: Any, array: type) -> Any:
        name = pair.name
        if name == f"__main__:{pair.cls.__qualname__}":
            # The name has the script, which tells it from others of the same name.
            name = f"{named_module('__main__')}:{pair.cls.__qualname__}"
        if pair.suffix is not None:
            return array([name, keep(pair.encode, value, pair.suffix)])
        try:
            return array([name, pair.encode(value)])
        except Exception as error:
            why = f"encode of {pair.name} raised {type(error).__name__}: {error}"
            raise RefusedError(why, "mend what was registered for it") from error

    if pair.suffix is None:
        return ValueKind(OWN, apart, _to_registered)
    return ValueKind("file", apart, _to_filed)


def _pair_named(name: str) -> Pair:
    """
    Return the pair that is registered under *name*, as a journal has it.

    Raises:
        GoneError: There is none.
    """
    module, _, qualname = name.rpartition(":")
    try:
        main = main_named(module, qualname)
    except OtherScriptError as error:
        raise GoneError(name, str(error)) from error
    pair = BY_NAME.get(name if main is None else f"{main.__name__}:{qualname}")
    if pair is None:
        why = (
            f"nothing is registered under the name {name!r}: call taskorch.api.journal."
            "register before the journal is opened"
        )
        raise GoneError(name, why)
    return pair


def _to_filed(kept: list[Any]) -> Any:
    name, file = kept
    try:
        pair = _pair_named(name)
    except GoneError as gone:
        raise GoneError(name, f"it is in the file {file}, and {gone.why}") from None
    if pair.suffix is None:
        why = f"it is in the file {file}: register {name} by register_file"
        raise GoneError(name, why)
    return _checked(pair, load(pair.decode, name, file))


def _to_registered(kept: list[Any]) -> Any:
    name, encoded = kept
    pair = _pair_named(name)
    if pair.suffix is not None:
        why = f"it is in the journal itself: register {name} by register"
        raise GoneError(name, why)
    try:
        value = pair.decode(encoded)
    except Exception as error:
        why = f"decode of {name} raised {type(error).__name__}: {error}"
        raise GoneError(name, why) from error
    return _checked(pair, value)


def _checked(pair: Pair, value: Any) -> Any:
    if type(value) is not pair.cls:
        function = "decode" if pair.suffix is None else "load"
        why = (
            f"{function} of {pair.name} returned {_a(type(value))}, not {_a(pair.cls)}"
        )
        raise GoneError(pair.name, why)
    return value


# -- enums -------------------------------------------------------------------------


def _enum(value: Enum, array: type) -> Any:
    cls = type(value)
    path = _path(cls)
    name = value._name_
    if cls.__members__.get(name) is value:
        return array([path, name])
    # A combination of flags has no name of its own.
    names = [each._name_ for each in value] if isinstance(value, Flag) else []
    if isinstance(value, Flag) and _flags(cls, names) == value:
        return array([path, *names])
    why = f"{value!r} is no member of {path}"
    raise RefusedError(why, "use members that have names")


def _flags(cls: Any, names: list[Any]) -> Any:
    return reduce(or_, [cls.__members__[name] for name in names], cls(0))


def _to_enum(kept: list[Any]) -> Any:
    path, *names = kept
    cls = _class_at(path)
    if not (isinstance(cls, type) and issubclass(cls, Enum)):
        raise GoneError(path, f"{path} is no enum any more")
    members = cls.__members__
    for name in names:
        if name not in members:
            raise GoneError(path, f"{path} has no member {name} any more")
    if len(names) == 1:
        return members[names[0]]
    if not issubclass(cls, Flag):
        raise GoneError(path, f"{path} is no flag any more")
    return _flags(cls, names)


_ENUM: Final = ValueKind("enum", _enum, _to_enum)


# -- fields ------------------------------------------------------------------------


class _Shape:
    """
    The way to take instances of a class apart, and to put them together by *make*.

    For each field, *defaults* has the function that makes its default; `_UNSET` if
    there is none, or None if it may be left out. The *tag* names the kind of class.
    """

    __slots__ = ("_defaults", "_make", "_others", "_slots", "kind")

    def __init__(
        self,
        cls: type,
        tag: str,
        defaults: Mapping[str, Any],
        make: Callable[[type, dict[str, Any]], Any],
    ) -> None:
        self.kind = ValueKind(tag, self._apart, _together[tag])
        self._defaults = defaults
        self._make = make
        expected = {*defaults, *_PYTHONS}
        bases = cls.__mro__
        #: Slots that are no fields, and may hold state.
        self._slots = [
            member
            for base in bases
            for name, member in vars(base).items()
            if isinstance(member, MemberDescriptorType) and name not in expected
        ]
        #: Attributes beside the fields that may be in the dict of an instance.
        self._others = expected | {
            name
            for base in bases
            for name, member in vars(base).items()
            if isinstance(member, cached_property)
        }

    def _apart(self, value: Any, array: type) -> Any:
        # The parts are its class and its fields.
        cls = type(value)
        path = _path(cls)
        self._refuse_more(value, cls)
        tuple_items: tuple[Any, ...] | None = None
        if isinstance(value, tuple):
            tuple_items = tuple(tuple.__iter__(value))
            if len(tuple_items) != len(self._defaults):
                why = f"{_a(cls)} has not as many items as fields"
                raise RefusedError(why, _register(cls))
        fields: dict[str, Any] = {}
        for number, (name, default) in enumerate(self._defaults.items()):
            item = _item(value, name) if tuple_items is None else tuple_items[number]
            if item is _UNSET:
                if default is not None:
                    why = f"the field {name} of {_a(cls)} has no value"
                    raise RefusedError(why, "set it, or do not hand it over")
                continue
            fields[name] = item
        return array([path, fields])

    def _refuse_more(self, value: Any, cls: type) -> None:
        extra = set(getattr(value, "__dict__", ())) - self._others
        extra |= {slot.__name__ for slot in self._slots if _is_set(slot, value)}
        if extra:
            names = ", ".join(sorted(extra))
            why = f"{_a(cls)} has attributes that are no fields: {names}"
            raise RefusedError(why, f"make them fields, or {_register(cls)}")

    def read(self, path: str, cls: type, kept: dict[str, Any]) -> Any:
        """
        Return the instance of *cls* with these fields.

        Raises:
            GoneError: The fields of the class have changed.
        """
        defaults = self._defaults
        for name in kept:
            if name not in defaults:
                raise GoneError(path, f"{path} has no field {name!r} any more")
        fields: dict[str, Any] = {}
        for name, default in defaults.items():
            if name in kept:
                fields[name] = kept[name]
            elif default is _UNSET:
                why = f"{path} has a field {name!r} since, which has no default"
                raise GoneError(path, why)
            elif default is not None:
                fields[name] = default()
        return self._make(cls, fields)


def _item(value: Any, name: str) -> Any:
    # A property or a `__getattr__` of the user's is not called.
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return _UNSET


def _is_set(slot: MemberDescriptorType, value: Any) -> bool:
    try:
        slot.__get__(value)
    except AttributeError:
        return False
    return True


def _shape_of(cls: type) -> _Shape | None:
    """Return the shape of *cls*; None if it has none that can be relied on."""
    if cls not in _shapes:
        _shapes[cls] = _shape(cls)
    return _shapes[cls]


def _shape(cls: type) -> _Shape | None:
    if issubclass(cls, tuple):
        names = getattr(cls, "_fields", None)
        if not isinstance(names, tuple):
            return None
        field_defaults: dict[str, Any] = getattr(cls, "_field_defaults", {})
        defaults = {
            n: _giving(field_defaults[n]) if n in field_defaults else _UNSET
            for n in names
        }
        return _Shape(cls, "namedtuple", defaults, _named_tuple)
    if attrs.has(cls):
        tag, defaults = "attrs", {f.name: _of_attrs(f) for f in attrs.fields(cls)}
    elif dataclasses.is_dataclass(cls):
        tag = "dataclass"
        defaults = {f.name: _of_dataclass(f) for f in dataclasses.fields(cls)}
    else:
        return None
    try:
        object.__new__(cls)
    except TypeError:
        # Its instances have more than their fields, like those of a subclass of dict.
        return None
    for name in defaults:
        member = _member(cls, name)
        if hasattr(type(member), "__set__") and type(member) is not (
            MemberDescriptorType
        ):
            # A property stands in the place of a field, so the value is somewhere else.
            return None
    return _Shape(cls, tag, defaults, _with_fields)


def _member(cls: type, name: str) -> Any:
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def _giving(value: Any) -> Callable[[], Any]:
    return lambda: value


def _of_dataclass(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return _giving(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    return _UNSET if field.init else None


_FACTORY: Final[Any] = attrs.Factory  # to mypy, a function


def _of_attrs(field: attrs.Attribute[Any]) -> Any:
    default: Any = field.default
    if default is attrs.NOTHING:
        return _UNSET if field.init else None
    if not isinstance(default, _FACTORY):
        return _giving(default)
    # A default that takes the instance cannot be made before there is one.
    return _UNSET if default.takes_self else default.factory


def _with_fields(cls: type, fields: dict[str, Any]) -> Any:
    instance: Any = object.__new__(cls)
    for name, item in fields.items():
        object.__setattr__(instance, name, item)
    return instance


def _named_tuple(cls: type, fields: dict[str, Any]) -> Any:
    return tuple.__new__(cls, fields.values())


def _to_instance(tag: str) -> Callable[[Any], Any]:
    def together(kept: list[Any]) -> Any:
        path, fields = kept
        cls = _class_at(path)
        shape = _shape_of(cls) if isinstance(cls, type) else None
        if shape is None or shape.kind.tag != tag:
            raise GoneError(path, f"{path} is no {_KINDS[tag]} any more")
        return shape.read(path, cls, fields)

    return together


_KINDS: Final = {
    "attrs": "attrs class",
    "dataclass": "dataclass",
    "namedtuple": "named tuple",
}
_together: Final = {tag: _to_instance(tag) for tag in _KINDS}
TOGETHER.update({"enum": _to_enum, "file": _to_filed, OWN: _to_registered, **_together})
