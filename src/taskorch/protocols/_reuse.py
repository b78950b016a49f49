"""
Whose word it is that an answer can be used again.

A class that overrides a method of another gives other answers. What the other class
says of its own answers (`reusable`, `watches`, `rigid`) is then nobody's word any more,
until the overriding class says it too.

Decisions: 0002, 0025.
"""

from __future__ import annotations

from typing import Any, TypeAlias

#: Whether an answer can be used again: True or False; or the class whose own method
#: gives it, where it can as long as that very method is asked, and not one that
#: overrides it or only hands on its answers.
Reuse: TypeAlias = bool | type


def trusted(part: object, method: str) -> frozenset[Reuse]:
    """The values of `reusable` that count in an answer of *method* of *part*."""
    asked = getattr(getattr(part, method, None), "__func__", None)
    owners = {
        cls
        for cls in type(part).__mro__
        if asked is not None and getattr(cls, method, None) is asked
    }
    return frozenset({True, *owners})


def said_of(part: object, method: str, attribute: str) -> Any:
    """
    What *part* says of its *method* by *attribute*, or None.

    It counts if it is said where the method is defined, or by a class derived from
    that.
    """
    places = [getattr(part, "__dict__", {}), *map(vars, type(part).__mro__)]
    for place in places:
        if attribute in place:
            break
        if method in place:
            return None
    return getattr(part, attribute, None)
