"""
Frozen attrs classes whose methods are made when the class is first used.

attrs generates and compiles the methods of each class in 0.2 to 0.3 ms, and an import
brings a hundred classes, of which a program uses few. Here a class gets its slots at
once, and the rest of `attrs.frozen` on first access; the class, its methods and its
objects are the same afterwards. `shown` and `document_of` write objects for people and
for JSON.

Decision: rooms-and-loading.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from taskorch.kit.visible import show

if TYPE_CHECKING:
    # Type checkers know what attrs makes of a class.
    from attrs import frozen as frozen  # noqa: PLC0414

#: The most characters of a field that the repr shows, so that it stays on one line.
_MAX_FIELD: Final = 72
#: The attributes that attrs gives a frozen class, if the class does not define them.
_WRITTEN: Final = (
    "__attrs_attrs__",
    "__attrs_init__",
    "__attrs_props__",
    "__delattr__",
    "__eq__",
    "__getstate__",
    "__hash__",
    "__init__",
    "__match_args__",
    "__ne__",
    "__replace__",
    "__repr__",
    "__setattr__",
    "__setstate__",
)


class _Unwritten:
    """Placeholder that makes the methods of a class when one of them is first used."""

    __slots__ = ("_class", "_name")

    def __init__(self, name: str, unwritten: _Class) -> None:
        self._name = name
        self._class = unwritten

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        self._class.write()
        try:
            attribute = vars(self._class.made)[self._name]
        except KeyError:
            # The class has none of its own: its base may have one.
            return getattr(owner if instance is None else instance, self._name)
        # `inspect` asks for it with the class in place of an object.
        get = getattr(type(attribute), "__get__", None)
        return attribute if get is None else get(attribute, instance, owner)


class _Class:
    """
    A class whose methods are made later.

    Two threads may make them at the same moment: the methods are equal.
    """

    __slots__ = ("_body", "_options", "made")

    def __init__(self, plain: type, options: dict[str, Any]) -> None:
        self._options = options
        self._body = {
            name: value
            for name, value in vars(plain).items()
            if name not in {"__dict__", "__weakref__"}
        }
        self._body["__qualname__"] = plain.__qualname__
        self.made: type = type(plain)(
            plain.__name__, plain.__bases__, self._slotted(plain)
        )

    def write(self) -> None:
        """Give the class all that attrs gives."""
        cls = self.made
        plain = type(cls)(cls.__name__, cls.__bases__, dict(self._body))
        written = vars(attrs.frozen(plain, **self._options))
        # Further attributes of another version of attrs are set at once.
        others = written.keys() - vars(cls).keys()
        for name in (*_WRITTEN, *others):
            if name in self._body:
                continue
            if name in written:
                setattr(cls, name, written[name])
            else:
                with contextlib.suppress(AttributeError):
                    delattr(cls, name)

    def _slotted(self, plain: type) -> dict[str, Any]:
        """Return the body with slots for the fields, and the parts to make later."""
        inherited = {
            slot
            for base in plain.__mro__[1:]
            for slot in getattr(base, "__slots__", ())
        }
        fields = [
            name
            for name, kind in plain.__annotations__.items()
            if not str(kind).startswith(("ClassVar", "typing.ClassVar"))
        ]
        weak = self._options.get("weakref_slot", True)
        if weak and "__weakref__" not in inherited:
            fields.append("__weakref__")
        body = {name: value for name, value in self._body.items() if name not in fields}
        body["__slots__"] = tuple(name for name in fields if name not in inherited)
        for name in _WRITTEN:
            body.setdefault(name, _Unwritten(name, self))
        return body


if not TYPE_CHECKING:

    def frozen(plain: type | None = None, /, **options: Any) -> Any:
        """
        Decorate a class as `attrs.frozen` does, with methods made on first use.

        The options `slots` and `cache_hash` do not work, and a method of such a class
        cannot use an empty `super()`, which would find another class.
        """
        if plain is None:
            return partial(frozen, **options)
        return _Class(plain, options).made


def draft_of(cls: type) -> Any:
    """
    Return the draft class of a frozen class: its objects take a quarter of the time.

    A frozen class cannot set a field by assignment, not even in its own `__init__`:
    each costs a call. A draft is of a subclass without that restriction. Its maker sets
    every field, applies the converters, and then sets its `__class__` to *cls*, before
    other code gets it.
    """
    body = {
        "__slots__": (),
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__init__": object.__init__,
        # Fields are set without a call only if both are Python's own.
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
    }
    return type(cls)(cls.__name__, (cls,), body)


def shown(self: Any) -> str:
    """Return the text of an attrs object: fields that are not defaults, in one line."""
    parts: list[str] = []
    for field in attrs.fields(type(self)):
        value = getattr(self, field.name)
        if not field.repr or _is_usual(field, value):
            continue
        if callable(field.repr):
            text = _cut(str(field.repr(value)))
        else:
            text = show(value, _MAX_FIELD)
        parts.append(f"{field.name}={' '.join(text.splitlines())}")
    return f"{type(self).__name__}({', '.join(parts)})"


def document_of(
    value: Any, *names: str, moment: Callable[[datetime], str] = datetime.isoformat
) -> dict[str, Any]:
    """
    Return the attributes *names* of *value* as JSON has them, or all its fields.

    Objects among them are what their own `to_dict` returns, and *moment* writes times.
    """
    if not names:
        fields = attrs.fields(type(value))
        names = tuple(each.name for each in fields if each.name[0] != "_")

    def written(part: Any) -> Any:
        if isinstance(part, datetime):
            return moment(part)
        if isinstance(part, Mapping):
            return dict(part)
        if isinstance(part, list | tuple):
            return [*map(written, part)]
        return part.to_dict() if hasattr(part, "to_dict") else part

    return {name: written(getattr(value, name)) for name in names}


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_FIELD else f"{text[:_MAX_FIELD]}…"


def _is_usual(field: attrs.Attribute[Any], value: Any) -> bool:
    usual: Any = field.default
    if isinstance(usual, attrs.Factory):  # type: ignore[arg-type]  # it is a class
        usual = usual.factory()
    return value is usual or (type(value) is type(usual) and bool(value == usual))


# -- mappings ------------------------------------------------------------------------

_K = TypeVar("_K")
_V = TypeVar("_V")


class ReadOnly(Mapping[_K, _V]):
    """A copy of a mapping that cannot be changed and, unlike a view, can be pickled."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[_K, _V]) -> None:
        self._items: dict[_K, _V] = dict(items)

    def __getitem__(self, key: _K) -> _V:
        return self._items[key]

    def __iter__(self) -> Iterator[_K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(self._items)
