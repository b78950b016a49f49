"""Checks of arguments: a wrong one is refused at once, in words."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, timedelta, tzinfo
from importlib import import_module
from typing import Any, SupportsFloat, TypeGuard, TypeVar, cast

from taskorch.errors import InvalidTaskError, TaskorchError
from taskorch.kit.limits import MAX_NAME, MAX_SECONDS, MAX_TEXT
from taskorch.kit.visible import is_text, show
from taskorch.kit.vocabulary import in_our_words, meant, remedy_of

F = TypeVar("F", bound=Callable[..., Any])


def is_number(value: object, least: float, most: float) -> TypeGuard[float]:
    """Return whether *value* is a number from *least* to *most*, and no bool."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return least <= value <= most


def is_name(value: object) -> TypeGuard[str]:
    """Return whether *value* is a printable text without a space at either end."""
    return (
        (type(value) is str or is_text(value))
        and value != ""
        and value.isprintable()
        and value == value.strip()
    )


def check_text(subject: str, value: object) -> str:
    """
    Return *value* if it is a text that can be shown: half of a surrogate pair cannot.

    Raises:
        InvalidTaskError: It is not, or has more characters than `MAX_TEXT`.
    """
    if not is_text(value):
        msg = f"{subject} is a text, not {show(value)}"
        raise InvalidTaskError(msg)
    try:
        value.encode()
    except UnicodeEncodeError:
        msg = f"{subject} has half of a character, which nothing shows: {show(value)}"
        raise InvalidTaskError(msg) from None
    if len(value) > MAX_TEXT:
        msg = f"{subject} has at most {MAX_TEXT:,} characters, not {len(value):,}"
        raise InvalidTaskError(msg, hint="say where the rest is to be read")
    return value


def check_exact(subject: str, name: str, hint: str) -> None:
    """
    Refuse a name that looks like a pattern where names count as they are written.

    Raises:
        InvalidTaskError: It has a `*` or a `?`.
    """
    if "*" in name or "?" in name:
        msg = f"{subject}: {show(name)} is a pattern, and this is for one exact name"
        raise InvalidTaskError(msg, hint=hint)


def check_count(name: str, value: object, *, least: int) -> None:
    """
    Refuse a value that is no whole number of *least* or more.

    Raises:
        InvalidTaskError: It is no such number.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        msg = f"{name} is an integer of {least} or more, not {show(value)}"
        raise InvalidTaskError(msg)


def check_fraction(name: str, value: object) -> None:
    """
    Refuse a value that is no number from 0 to 1.

    Raises:
        InvalidTaskError: It is no such number.
    """
    if not is_number(value, 0, 1):
        msg = f"{name} is a number from 0 to 1, not {show(value)}"
        raise InvalidTaskError(msg)


def check_reward(value: object, source: object) -> None:
    """
    Refuse an invalid reward, or one without a source.

    Raises:
        InvalidTaskError: *value* is no number from -1 to 1, or *source* is no text.
    """
    if not is_number(value, -1, 1):
        msg = f"a reward is a number from -1 to 1, not {show(value)}"
        raise InvalidTaskError(msg, hint="divide it by the largest that there is")
    if not check_text("the source of a reward", source):
        msg = "the source of a reward is a text, and not empty"
        raise InvalidTaskError(msg)


def to_seconds(value: Any) -> Any:
    """Return *value* in seconds if it is a timedelta, or as it is."""
    # A request for the class of a user's value may raise.
    is_delta = issubclass(type(value), timedelta)
    return timedelta.total_seconds(value) if is_delta else value


def to_limit(value: float | timedelta | None) -> float | None:
    """Return a limit in seconds (see `to_seconds`), or None for no limit."""
    seconds: float | None = to_seconds(value)
    return seconds


def to_patience(timeout: Any) -> float | None:
    """
    Return a timeout in seconds; None is for ever.

    Raises:
        InvalidTaskError: It is neither a number nor a timedelta.
    """
    seconds = to_seconds(timeout)
    if seconds is None:
        return None
    if not isinstance(seconds, SupportsFloat):
        msg = _no_duration("timeout", seconds)
        raise InvalidTaskError(msg)
    return float(seconds)


def check_seconds(
    name: str, value: object, *, zero: bool = True, none: bool = False
) -> float:
    """
    Return *value* in seconds if it is a duration: a number of them, or a timedelta.

    *none* says that None is no limit there, which the caller sees to.

    Raises:
        InvalidTaskError: It is not a finite number, is negative (or zero, where
            that has no meaning), or is longer than a hundred years.
    """
    value = to_seconds(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = _no_duration(name, value)
        raise InvalidTaskError(msg)
    if not 0 <= value <= MAX_SECONDS:
        msg = f"{name}: {show(value)} is not between 0 and {MAX_SECONDS:g} seconds"
        raise InvalidTaskError(msg)
    if value == 0 and not zero:
        remedy = "use None for no limit" if none else "give more than 0"
        msg = f"{name}: 0 seconds leaves no time at all; {remedy}"
        raise InvalidTaskError(msg)
    return value


def _no_duration(name: str, value: object) -> str:
    return (
        f"{name}: a duration is a number of seconds or a timedelta, not {show(value)}"
    )


def called_as(example: str, name: str = "") -> Callable[[F], F]:
    """
    Decorate a method: a call with wrong arguments raises an error with an *example*.

    The *name* is that of the method for users, if it is another, as of `__call__`.
    Without it, a user who guesses a name from another library gets Python's own error.
    """

    def decorate(method: F) -> F:
        code = method.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

        @functools.wraps(method)
        def called(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return method(self, *args, **kwargs)
            except TypeError as error:
                trace = error.__traceback__
                if trace is not None and trace.tb_next is None:
                    # The error comes from the call, not from inside the method.
                    ours = in_our_words(name or method.__name__, kwargs, names)
                    if ours.keys() != kwargs.keys():
                        return called(self, *args, **ours)
                    msg = str(error).partition(".")[2]
                    if name:
                        msg = msg.replace(method.__name__, name, 1)
                    unknown = next((each for each in kwargs if each not in names), "")
                    if unknown:
                        msg += f": {remedy_of(unknown, names[1:])}"
                    raise InvalidTaskError(msg, hint=example) from None
                raise

        return cast("F", called)

    return decorate


def check_word(name: str, value: object, words: Iterable[str]) -> None:
    """
    Refuse a value that is none of *words*.

    Raises:
        InvalidTaskError: It is none of them; the hint is the nearest one.
    """
    choices = tuple(words)
    if not is_text(value) or value not in choices:
        listed = ", ".join(map(repr, choices[:-1])) + f" or {choices[-1]!r}"
        msg = f"{name} is {listed}, not {show(value)}"
        raise InvalidTaskError(msg, hint=meant(value, choices) or None)


def zone_of(name: object) -> tzinfo:
    """
    Return the time zone of a name.

    Raises:
        InvalidTaskError: There is no such zone.
    """
    if not is_text(name):
        msg = f"a zone is named by a text, not {show(name)}"
        raise InvalidTaskError(msg, hint="such as 'Europe/Berlin'")
    if name == "UTC":
        return UTC
    # These are read from files, and only by users who name a zone.
    from zoneinfo import ZoneInfo, available_timezones  # noqa: PLC0415

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        hint = meant(name, sorted(available_timezones()), "such as 'Europe/Berlin'")
        msg = f"there is no zone {show(name)}"
        raise InvalidTaskError(msg, hint=hint) from None


def check_answerer(field: str, name: object) -> str:
    """
    Return *name*, an argument *field*, if it is a valid name of a person.

    Raises:
        InvalidTaskError: It is no valid name.
    """
    if not is_text(name) or not name.isprintable():
        msg = f"{field}: a text that can be printed is needed, not {show(name)}"
        raise InvalidTaskError(msg)
    if not name or ":" in name:
        msg = f"{field}: the name of somebody is needed, without a colon, not "
        raise InvalidTaskError(msg + show(name))
    if len(name) > MAX_NAME:
        msg = f"{field}: a name has at most {MAX_NAME} characters, not {len(name):,}"
        raise InvalidTaskError(msg)
    return name


def find_ring(parents: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """
    Return names that wait for each other in a cycle; empty if there is no cycle.

    Args:
        parents: For each name, those that it waits for; a name that is no key waits for
            nothing.
    """
    waiting = {name: sum(p in parents for p in of) for name, of in parents.items()}
    children: dict[str, list[str]] = {}
    for name, of in parents.items():
        for parent in of:
            if parent in parents:
                children.setdefault(parent, []).append(name)
    # This is Kahn's algorithm: the names that are never free depend on a cycle.
    free = [name for name, count in waiting.items() if not count]
    while free:
        name = free.pop()
        del waiting[name]
        for child in children.get(name, ()):
            waiting[child] -= 1
            if not waiting[child]:
                free.append(child)
    if not waiting:
        return ()
    path: dict[str, int] = {}
    name = next(iter(waiting))
    while name not in path:
        path[name] = len(path)
        name = next(parent for parent in parents[name] if parent in waiting)
    return tuple(path)[path[name] :]


def needed(
    module: str, who: str, extra: str, kind: type[TaskorchError] = InvalidTaskError
) -> Any:
    """
    Return *module* of another library, which *who* needs, and which *extra* installs.

    Raises:
        TaskorchError: It is not installed: an error of the class *kind*.
    """
    try:
        return import_module(module)
    except ImportError as error:
        msg = f"{who} needs {module.partition('.')[0]}: {error}"
        raise kind(msg, hint=f"pip install 'taskorch[{extra}]'") from error


def built_in(name: str, call: str = "") -> Any:
    """
    Return the module *name* of a built-in extension (`memo`), or None: it was deleted.

    So the core finds what it states as a protocol, and imports no extension. One that
    needs another, which was deleted, is as if it was deleted, too.

    Raises:
        InvalidTaskError: It was deleted, and *call* needs it.
    """
    try:
        # Where another thread imports it now, this waits until it is whole.
        return import_module(f"taskorch.ext.{name}")
    except ModuleNotFoundError as error:
        module = f"{error.name}"
        if not module.startswith("taskorch.ext."):
            raise
        if call:
            msg = f"{call} needs {module}, and its file was deleted"
            hint = f"install taskorch whole, or omit {call}"
            raise InvalidTaskError(msg, hint=hint) from None
        return None
