"""Numbers of NumPy's, which are Python's wherever they are kept or shown."""

from __future__ import annotations

from typing import Any, Final

#: The bases of numbers, and its bool, as NumPy calls them; and what is a duration.
_NUMBERS: Final = frozenset({"number", "bool", "bool_"})
_DURATION: Final = "timedelta64"


def is_numpys(cls: type) -> bool:
    """Whether *cls* is a class of numbers of NumPy's, which need not be loaded."""
    if cls.__module__ != "numpy":
        return False
    names = {each.__name__ for each in cls.__mro__}
    return bool(names & _NUMBERS) and _DURATION not in names


def pythons(value: Any) -> Any:
    """The number of Python's that *value* is, if it is one of NumPy's; or *value*."""
    return value.item() if is_numpys(type(value)) else value
