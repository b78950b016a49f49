"""Checks of the arguments of a simulation, with clear errors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import check_seconds
from taskorch.kit.visible import show, with_article
from taskorch.model import Resources


def check_kind(name: str, value: object, kind: type[Any]) -> None:
    """
    Refuse a value that is not of *kind*.

    Raises:
        InvalidTaskError: It is not.
    """
    # A bool is an int, but stands for a flag.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        msg = f"{name} is {with_article(kind.__name__)}, not {show(value)}"
        raise InvalidTaskError(msg)


def check_resources(name: str, value: object) -> None:
    """
    Refuse a value that is neither Resources nor None.

    Raises:
        InvalidTaskError: It is neither.
    """
    if value is not None and not isinstance(value, Resources):
        msg = f"{name} is Resources(…) or None, not {show(value)}"
        raise InvalidTaskError(msg)


def check_names(name: str, value: object) -> None:
    """
    Refuse a value that is no collection of strings; a single string is none.

    Raises:
        InvalidTaskError: It is not.
    """
    if isinstance(value, str) or not isinstance(value, Iterable):
        msg = f"{name} is a collection of names, as in {{'a', 'b'}}, not {show(value)}"
        raise InvalidTaskError(msg)


def check_capabilities(value: Iterable[Any]) -> tuple[str, ...]:
    """
    Return the capabilities of a worker, each once and in order.

    Raises:
        InvalidTaskError: It is no collection of names.
    """
    check_names("capabilities", value)
    wanted: tuple[Any, ...] = tuple(value)
    for one in wanted:
        if not isinstance(one, str) or not one.isprintable() or not one:
            msg = f"a capability is a name that can be printed, not {show(one)}"
            raise InvalidTaskError(msg)
    return tuple(sorted(set(wanted)))


def check_speed(value: object) -> None:
    """
    Refuse a speed that is no number above 0.

    Raises:
        InvalidTaskError: It is no number above 0.
    """
    try:
        check_seconds("speed", value, zero=False)
    except InvalidTaskError:
        msg = f"speed is a number above 0 (2 is twice as fast), not {show(value)}"
        raise InvalidTaskError(msg) from None
