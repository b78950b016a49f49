"""Members of a protocol, and a check whether an object has them."""

from __future__ import annotations

from functools import cache
from inspect import isfunction, signature
from typing import Any, TypeGuard, get_type_hints


@cache
def members_of(protocol: type) -> tuple[str, ...]:
    """Return the names of the methods and attributes of *protocol*, in order."""
    names = (name for cls in reversed(protocol.__mro__) for name in vars(cls))
    return tuple(dict.fromkeys(name for name in names if not name.startswith("_")))


@cache
def methods_of(protocol: type) -> tuple[str, ...]:
    """Return the names of the methods of *protocol*, in order."""
    return tuple(
        name
        for name in members_of(protocol)
        if isfunction(getattr(protocol, name, None))
    )


def arguments_of(protocol: type, method: str) -> tuple[str, ...]:
    """Return the names of the arguments of *method* of *protocol*, in order."""
    return tuple(signature(getattr(protocol, method)).parameters)[1:]


def answer_of(protocol: type, method: str) -> Any:
    """Return the class that *method* of *protocol* returns."""
    return get_type_hints(getattr(protocol, method))["return"]


def has(part: object, protocol: type) -> TypeGuard[Any]:
    """
    Return whether *part* has the members of *protocol*; None counts as missing.

    Unlike `isinstance`, it sees members that a part delegates to another object.
    """
    return all(getattr(part, name, None) is not None for name in members_of(protocol))
