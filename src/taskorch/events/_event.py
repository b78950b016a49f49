"""
Construction of event classes, whose objects are tuples that begin with the class.

Listeners get, and journals keep, the very objects that the kernel makes. One is made
for each start and end of a task, and a tuple is the cheapest immutable object. With the
class in front, events of two classes are never equal.

Decision: events-and-recovery.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any, Final, TypeVar, dataclass_transform

import attrs

T = TypeVar("T", bound=type)

#: The most fields of an event, including its class.
_MOST: Final = 64
_ITEMS: Final = tuple(f"item_{place}" for place in range(_MOST))
_Items: Final = namedtuple("_Items", _ITEMS)  # type: ignore[misc]  # noqa: PYI024 - its getters are all we need
#: The getters of the items at each index, from a named tuple, since those are written
#: in C.
_GETTERS: Final = tuple(vars(_Items)[name] for name in _ITEMS)


class _Beside(str):
    """Argument for a field that is no part of the event."""

    __slots__ = ()


class FieldsForAttrs:
    """Descriptor that lets functions of attrs read the fields of a class of events."""

    def __get__(self, _: object, cls: type) -> tuple[attrs.Attribute[Any], ...]:
        """Return the fields of *cls* as attrs would describe them."""
        kinds = {
            name: kind
            for base in reversed(cls.__mro__)
            for name, kind in vars(base).get("__annotations__", {}).items()
            if not str(kind).startswith("ClassVar")
        }
        usual, positional = defaults_of(cls), cls.__match_args__  # type: ignore[attr-defined]
        fields: dict[str, Any] = {
            name: attrs.field(type=kind, default=usual.get(name, attrs.NOTHING))
            if name in positional
            else attrs.field(
                type=kind, default=None, eq=False, repr=False, kw_only=True
            )
            for name, kind in kinds.items()
        }
        mirror = attrs.make_class(cls.__name__, fields)
        attributes: tuple[attrs.Attribute[Any], ...] = attrs.fields(mirror)
        return attributes


def beside(*, alias: str, default: None, kw_only: bool) -> Any:
    """Declare a field outside the event: it is not compared, shown or kept."""
    del default, kw_only
    return _Beside(alias)


@dataclass_transform(frozen_default=True, field_specifiers=(beside,))
def frozen(cls: T) -> T:
    """
    Make *cls* a class of events, with the fields of its base and its annotations.

    A field may have a default if all later ones have one. The class is made anew, so
    its methods cannot use an empty `super()`, which would find the old one.
    """
    base, body = cls.__mro__[1], dict(vars(cls))
    above: tuple[str, ...] = getattr(base, "__match_args__", ())
    named = [
        name
        for name, kind in cls.__annotations__.items()
        if not str(kind).startswith("ClassVar")
    ]
    values = {name: body.pop(name) for name in named if name in body}
    others = {name: str(v) for name, v in values.items() if isinstance(v, _Beside)}
    own = [name for name in named if name not in others]
    for name in ("__dict__", "__weakref__"):
        body.pop(name, None)
    if not others:
        body["__slots__"] = ()
    body["__match_args__"] = (*above, *own)
    body["__new__"] = _UnwrittenInit(
        (*above, *own),
        (
            *defaults_of(base).values(),
            *(values[name] for name in own if name in values),
        ),
        others,
    )
    body |= dict(zip(own, _GETTERS[1 + len(above) :], strict=False))
    body |= dict.fromkeys(others)
    new_class: Any = type(cls)(cls.__name__, cls.__bases__, body)
    return new_class  # type: ignore[no-any-return]


class _UnwrittenInit:
    """
    Placeholder for the `__new__` of a class, which makes it on first access.

    There are more than eighty classes, and most programs make objects of few. Two
    threads may make it at the same moment: both make the same.
    """

    def __init__(self, *parts: Any) -> None:
        self._parts = parts

    def __set_name__(self, owner: type, name: str) -> None:
        self._class = owner

    def __get__(self, _: object, cls: type) -> Any:
        """Return the `__new__`, which replaces this descriptor from now on."""
        constructor = _constructor(*self._parts)
        self._class.__new__ = staticmethod(constructor)  # type: ignore[method-assign]
        return constructor


def _constructor(
    fields: tuple[str, ...], defaults: tuple[Any, ...], others: dict[str, str]
) -> Any:
    """Make the `__new__` of events of *fields*, from text, since that is fastest."""
    keywords = ["*", *(f"{alias}=None" for alias in others.values())] if others else []
    parameters = ", ".join(["_cls", *fields, *keywords])
    lines = [
        f"def __new__({parameters}):",
        f"    made = new(_cls, (_cls, {', '.join(fields)}))",
    ]
    for name, alias in others.items():
        lines.append(f"    if {alias} is not None: made.__dict__[{name!r}] = {alias}")
    lines.append("    return made")
    names: dict[str, Any] = {"new": tuple.__new__}
    exec("\n".join(lines), names)  # noqa: S102 - of the names of our own fields
    constructor = names["__new__"]
    constructor.__defaults__ = defaults
    return constructor


def defaults_of(cls: type) -> dict[str, Any]:
    """Return the defaults of the fields of *cls*, a class of events."""
    values: tuple[Any, ...] = getattr(cls.__new__, "__defaults__", None) or ()
    if not values:
        return {}
    return dict(zip(cls.__match_args__[-len(values) :], values, strict=True))  # type: ignore[attr-defined]
