"""Values of users that are looked at: they may raise anything."""

from __future__ import annotations

from threading import current_thread, main_thread
from types import WrapperDescriptorType
from typing import Any, Final, TypeGuard

#: What finds a text among others, and takes it apart.
_METHODS: Final = (
    *("__eq__", "__hash__", "__lt__", "__len__"),
    *("__iter__", "__getitem__", "__contains__"),
)


def is_values(error: BaseException) -> bool:
    """
    Whether a value that was looked at has raised *error*, whatever the error is.

    On the main thread, an interrupt may be that of a signal instead.
    """
    return (
        not isinstance(error, KeyboardInterrupt | SystemExit)
        or current_thread() is not main_thread()
    )


def is_text(value: Any) -> TypeGuard[str]:
    """
    Whether *value* is a text that does what Python's do, as one of an enum does.

    Nobody knows what methods do that somebody has written for a class of texts.
    """
    cls = type(value)
    return cls is str or (
        issubclass(cls, str)
        and all(type(getattr(cls, name)) is WrapperDescriptorType for name in _METHODS)
    )
