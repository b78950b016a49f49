"""What is said of remembering the results of a task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.model._retry_policy import check_seconds
from taskorch.model._show import show


def _seconds(value: Any) -> float | None:
    return None if value is None else check_seconds("expires", value, zero=False)


def _names(value: Any) -> frozenset[str]:
    given: object = value
    if isinstance(given, str) or not isinstance(given, Iterable):
        msg = f"ignore: names of arguments are needed, not {show(given)}"
        raise InvalidTaskError(msg, hint="ignore={'verbose'}")
    names = list(given)
    for name in names:
        if not isinstance(name, str):
            msg = f"ignore: names of arguments are needed, not {show(name)}"
            raise InvalidTaskError(msg, hint="ignore={'verbose'}")
    return frozenset(names)


def _text(value: Any) -> str:
    given: object = value
    if not isinstance(given, str):
        msg = f"version: a text is needed, not {show(given)}"
        raise InvalidTaskError(msg, hint='version="2"')
    return given


@attrs.frozen
class Cache:
    """
    How the result of a task is remembered, for like tasks: `Task(…, cache=Cache())`.

    Two tasks are alike if they have the same type, call the same function, and have
    arguments of the same document: `1`, `True` and `1.0` are three. What fails is not
    remembered. All who ask for a result get the same object: do not change it.

    Attributes:
        expires: Seconds, or a timedelta, for which it is good; None is for ever.
        version: Of the function: with one, its source is not looked at. Without, its
            source without comments, its defaults and what it closes over count, and
            what it calls does not: then change this.
        ignore: Arguments that make no difference.
    """

    expires: float | None = attrs.field(default=None, converter=_seconds)
    version: str = attrs.field(default="", converter=_text)
    ignore: frozenset[str] = attrs.field(default=frozenset(), converter=_names)


def to_cache(value: Any) -> Any:
    """*value* as it is; True is a Cache that says nothing else, and False none."""
    if value is True:
        return Cache()
    return None if value is False else value
