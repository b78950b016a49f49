"""
Workflows as documents: plain lists and dicts, which JSON and YAML can say.

A document is data. It names functions, and whoever reads it says which functions these
are; it can start programs only where that was allowed.

Decision: 0014.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, TypeAlias

import attrs

from taskorch._base.limits import MAX_SECONDS
from taskorch._documents.forms import (
    Anything,
    Each,
    Maybe,
    Number,
    Text,
    field,
    one_of,
)
from taskorch.model import show

#: What stands in the place of the result of another task.
RESULT: Final = "$result"
#: What may stand beside a program.
PROGRAM: Final = (
    "env",
    "inherit_env",
    "cwd",
    "stdin",
    "check",
    "log",
    "pid_file",
)
#: What is said of resources that may be granted in part; the first must be.
ELASTIC: Final = ("elastic", "min", "weight", "fallback")
#: What a retry policy is made of, as far as a document can say it.
RETRY: Final = (
    *("max_attempts", "wait", "base", "max_delay", "jitter", "stop_after"),
    "delays",
)
#: What may be said of remembering results.
CACHE: Final = ("expires", "version", "ignore", "key")
#: What follows for slots that were missed, and for one while the one before runs.
CATCH_UP: Final = ("last", "all", "none")
OVERLAP: Final = ("skip", "queue", "cancel")
#: Options of a task that say when it goes on.
JOINING: Final = ("join", "on_parent_failure")
#: How a join says that so many must have completed.
AT_LEAST: Final = "at_least"
#: Characters of a value that a message shows.
MAX_SHOWN: Final = 80
#: How deep a value may be nested.
_MAX_DEPTH: Final = 50

_COUNT: Final = Number(least=1, is_whole=True)
_SECONDS: Final = Maybe(Number(most=MAX_SECONDS, is_above=True))
_NAMES: Final = Each(Text(), needs="a list of texts", or_one=True)
_MOMENT: Final = Anything(
    "a date, or seconds since 1970", {"type": ["string", "number"]}
)

Functions: TypeAlias = Mapping[str, Callable[..., Any]]


@attrs.frozen
class Timing:
    """
    When something is made again and again.

    Attributes:
        when: Fields of cron, a word such as @daily, every 15m, or seconds.
        zone: Where cron's fields are read.
        catch_up: Which of the slots that were missed are made.
        overlap: What follows if the one before has not ended.
        jitter: Seconds within which a slot is put off by chance.
        start: No slot is before.
        end: No slot is after.
    """

    when: Any = field(
        Anything("a text, or seconds", {"type": ["string", "number"]}), is_needed=True
    )
    zone: str = field(Text(), default="UTC")
    catch_up: str = field(one_of(*CATCH_UP), default="last")
    overlap: str = field(one_of(*OVERLAP), default="skip")
    jitter: Any = field(
        Anything("seconds", {"type": "number", "minimum": 0}), default=0.0
    )
    start: Any = field(_MOMENT)
    end: Any = field(_MOMENT)


@attrs.frozen
class WaitEntry:
    """
    A wait for an event.

    Attributes:
        wait_for: The name of the event; null waits for the time only.
        timeout: Seconds that it waits at the most.
        default: Its result if the time is over; if none is said, it fails then.
    """

    wait_for: str | None = field(Maybe(Text()), is_needed=True)
    timeout: float | None = field(_SECONDS)
    default: Any = field(Anything())


@attrs.frozen
class QuestionEntry:
    """
    A question to people.

    Attributes:
        question: What is asked, in a line.
        options: The choices.
        no: Those of them by which the task fails.
        who: Who may answer; null is anybody.
        quorum: How many must choose the same.
        not_by: Who may not.
        asked_by: Who asks.
        due: Seconds to answer it.
        default: The choice if nobody has answered in time.
        remind: Seconds between two reminders.
        details: What helps to decide.
    """

    question: str = field(Text(), is_needed=True)
    options: list[str] = field(_NAMES, default=("approve", "reject"))
    no: list[str] | None = field(Maybe(_NAMES))
    who: list[str] | None = field(Maybe(_NAMES))
    quorum: int = field(_COUNT, default=1)
    not_by: list[str] = field(_NAMES, default=())
    asked_by: str | None = field(Maybe(Text()))
    due: float | None = field(_SECONDS)
    default: str | None = field(Maybe(Text()))
    remind: float | None = field(_SECONDS)
    details: Any = field(Anything())


def object_of(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """
    For a decoder of JSON: an object. What is there twice is read differently by others.

    Raises:
        ValueError: A name is.
    """
    by_name = dict(members)
    if len(by_name) < len(members):
        ((twice, _),) = Counter(name for name, _ in members).most_common(1)
        msg = f"the name {show(twice)} stands twice in an object"
        raise ValueError(msg)
    return by_name


def refuse_constant(name: str) -> NoReturn:
    """For a decoder of JSON: refuse what Python's own takes for a number."""
    msg = f"{name} is no number of JSON"
    raise ValueError(msg)


def plain(
    path: str,
    value: Any,
    findings: list[tuple[str, str]],
    depth: int,
    *,
    exact: bool,
) -> Any:
    """
    A copy of *value* as JSON has it.

    What is no JSON is added to *findings*, with its place; that is, if *exact*, all
    that would not come back as it went.
    """
    kind = type(value)
    if value is None or kind in (str, bool, int):
        return value
    if kind is float:
        if not math.isfinite(value):
            findings.append((path, f"a finite number is needed, not {value}"))
        return value
    if depth >= _MAX_DEPTH:
        findings.append((path, f"it is nested more than {_MAX_DEPTH} levels deep"))
        return None
    if kind is dict or (isinstance(value, Mapping) and not exact):
        copy: dict[str, Any] = {}
        for name, item in value.items():
            if type(name) is str:
                copy[name] = plain(
                    f"{path}.{name}", item, findings, depth + 1, exact=exact
                )
            else:
                text = f"a name is text, not {show(name, MAX_SHOWN)}"
                findings.append((path, text))
        return copy
    if kind is list or (isinstance(value, list) and not exact):
        return [
            plain(f"{path}[{i}]", item, findings, depth + 1, exact=exact)
            for i, item in enumerate(value)
        ]
    findings.append((path, f"what JSON can say is needed, not {kind.__name__}"))
    return None
