"""
Frozen attrs classes whose methods are written when the class is first used.

attrs writes and compiles the methods of each class: 0.2 to 0.3 ms, and an import brings
a hundred classes, of which a program uses few. Here a class gets its slots at once, and
all else of `attrs.frozen` when any of it is first looked at: the class, its methods and
its objects are the same then.

Decision: 0045.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from taskorch.kit.visible import show

if TYPE_CHECKING:
    # Checkers know what attrs makes of a class.
    from attrs import frozen as frozen  # noqa: PLC0414

#: Characters of a field that the repr of a value shows: it stays on one line.
_MAX_FIELD: Final = 72
#: What attrs gives a frozen class, if the class does not say it itself.
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
    """Stands in a class for what is not written yet: looked at, it writes the class."""

    __slots__ = ("_class", "_name")

    def __init__(self, name: str, unwritten: _Class) -> None:
        self._name = name
        self._class = unwritten

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        self._class.write()
        try:
            attribute = vars(self._class.made)[self._name]
        except KeyError:
            # It has none of its own: its base has, or nobody.
            return getattr(owner if instance is None else instance, self._name)
        # `inspect` asks for it with the class in place of an object.
        get = getattr(type(attribute), "__get__", None)
        return attribute if get is None else get(attribute, instance, owner)


class _Class:
    """
    A class whose methods are written later.

    Two threads may write it at the same moment: what they put there is equal.
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
        # What another version of attrs writes besides is there from now on.
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
        """The body with slots in place of the fields, and what is to be written."""
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
        `attrs.frozen`, with methods that are written when they are needed.

        Of its options, not `slots` and `cache_hash`; and a method of such a class
        names the class that it means: an empty `super()` would find another.
        """
        if plain is None:
            return partial(frozen, **options)
        return _Class(plain, options).made


def draft_of(cls: type) -> Any:
    """
    The class of drafts of *cls*, a frozen class: its objects in a quarter of the time.

    A frozen class lets no field be set plainly, not even by its own `__init__`: each
    costs a call. A draft is of a subclass that adds nothing and forbids nothing. Who
    makes one sets every field, converts what a converter would, and then its
    `__class__` to *cls*, before anybody else has it.
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
    """The text of an attrs object: fields that differ from their defaults, one line."""
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


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_FIELD else f"{text[:_MAX_FIELD]}…"


def _is_usual(field: attrs.Attribute[Any], value: Any) -> bool:
    usual: Any = field.default
    if isinstance(usual, attrs.Factory):  # type: ignore[arg-type]  # it is a class
        usual = usual.factory()
    return value is usual or (type(value) is type(usual) and bool(value == usual))
