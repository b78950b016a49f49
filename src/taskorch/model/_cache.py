"""The cache of results, and the retention of ended tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import check_seconds
from taskorch.kit.frozen import frozen
from taskorch.kit.visible import is_text, show


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    return check_seconds("expires", value, zero=False, none=True)


def _names(value: Any) -> frozenset[str]:
    unchecked: object = value
    if isinstance(unchecked, str) or not isinstance(unchecked, Iterable):
        msg = f"ignore: names of arguments are needed, not {show(unchecked)}"
        raise InvalidTaskError(msg, hint="ignore={'verbose'}")
    names = list(unchecked)
    for name in names:
        if not is_text(name):
            msg = f"ignore: names of arguments are needed, not {show(name)}"
            raise InvalidTaskError(msg, hint="ignore={'verbose'}")
    return frozenset(names)


def _text(name: str, value: object) -> str:
    if not is_text(value):
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
    Settings of the cached result of a task, for like tasks: `Task(…, cache=Cache())`.

    Two tasks are alike if they have the same type, call the same function, and have
    arguments with the same document: `1`, `True` and `1.0` are three. A failure is not
    cached. All tasks that take a result get the same object: do not change it.

    Of a function count its name, its loaded code, its closure, the object of a method
    and the arguments of a partial; besides, your functions, classes and constants
    (numbers, texts, dates, enums, tuples) that these read from modules, two thousand at
    most. Arrays, matrices and masked arrays differ, too. Objects count with class and
    attributes, those of libraries as pickled. NaNs are equal, and only an `OrderedDict`
    has an order.

    Attributes:
        expires: Seconds, or a timedelta, for which the result is valid; None is for
            ever.
        version: The function's version, which counts instead of its code. Without it,
            its loaded code counts, with its closure and the functions, classes and
            constants of your own that it reads.
        ignore: Arguments that make no difference.
        key: A text that stands for all arguments, and for the values bound to the
            function, which then do not count.
    """

    expires: float | None = attrs.field(default=None, converter=_seconds)
    version: str = attrs.field(default="", converter=_version)
    ignore: frozenset[str] = attrs.field(default=frozenset(), converter=_names)
    key: str = attrs.field(default="", converter=_key)


def to_cache(value: Any) -> Any:
    """Return *value* as a Cache or None: True is a default Cache, False is None."""
    if value is True:
        return Cache()
    return None if value is False else value


@frozen
class Retention:
    """
    How long to keep ended tasks; a task that neither field limits is kept for ever.

    Attributes:
        age: Seconds after its end for which a task is kept.
        most: How many of the latest ended tasks are kept.
    """

    age: float | None = None
    most: int | None = None
