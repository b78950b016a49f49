"""How long results are remembered, and what has ended is kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import check_seconds
from taskorch.kit.frozen import frozen
from taskorch.kit.visible import show


def _seconds(value: Any) -> float | None:
    return None if value is None else check_seconds("expires", value, zero=False)


def _names(value: Any) -> frozenset[str]:
    unchecked: object = value
    if isinstance(unchecked, str) or not isinstance(unchecked, Iterable):
        msg = f"ignore: names of arguments are needed, not {show(unchecked)}"
        raise InvalidTaskError(msg, hint="ignore={'verbose'}")
    names = list(unchecked)
    for name in names:
        if not isinstance(name, str):
            msg = f"ignore: names of arguments are needed, not {show(name)}"
            raise InvalidTaskError(msg, hint="ignore={'verbose'}")
    return frozenset(names)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        msg = f"{name}: a text is needed, not {show(value)}"
        raise InvalidTaskError(msg, hint=f'{name}="2"')
    return value


def _version(value: Any) -> str:
    return _text("version", value)


def _key(value: Any) -> str:
    return _text("key", value)


@attrs.frozen
class Cache:
    """
    How the result of a task is remembered, for like tasks: `Task(…, cache=Cache())`.

    Two tasks are alike if they have the same type, call the same function, and have
    arguments of the same document: `1`, `True` and `1.0` are three. What fails is not
    remembered. All who ask for a result get the same object: do not change it.

    Attributes:
        expires: Seconds, or a timedelta, for which it is good; None is for ever.
        version: The function's version, which counts instead of its code. Without, its
            code as it was loaded counts, what it closes over, and the functions,
            classes and constants of your own that it reads.
        ignore: Arguments that make no difference.
        key: A text that stands for all arguments, and for what is bound to the
            function: with one, these are not looked at.
    """

    expires: float | None = attrs.field(default=None, converter=_seconds)
    version: str = attrs.field(default="", converter=_version)
    ignore: frozenset[str] = attrs.field(default=frozenset(), converter=_names)
    key: str = attrs.field(default="", converter=_key)


def to_cache(value: Any) -> Any:
    """*value* as it is; True is a Cache that says nothing else, and False none."""
    if value is True:
        return Cache()
    return None if value is False else value


@frozen
class Retention:
    """
    How long to keep what has ended; what neither says is kept for ever.

    Attributes:
        age: Seconds after its end for which a task is kept.
        most: How many tasks that have ended are kept, the latest.
    """

    age: float | None = None
    most: int | None = None
