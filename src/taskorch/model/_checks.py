"""Whether an argument is what it says: refused at once, and in words."""

from __future__ import annotations

from taskorch.errors import InvalidTaskError
from taskorch.model._show import show


def check_count(name: str, value: object, *, least: int) -> None:
    """
    Refuse what is no whole number of *least* or more.

    Raises:
        InvalidTaskError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        msg = f"{name} is an integer of {least} or more, not {show(value)}"
        raise InvalidTaskError(msg)


def check_fraction(name: str, value: object) -> None:
    """
    Refuse what is no number from 0 to 1.

    Raises:
        InvalidTaskError: It is none.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= 1
    ):
        msg = f"{name} is a number from 0 to 1, not {show(value)}"
        raise InvalidTaskError(msg)
