"""
The values behind a violation, in words that people may see.

It stands in events, log lines, questions and messages. A value that is secret, or that
a policy changes, is hidden.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias

from taskorch.ext.governance._cel import paths_in
from taskorch.ext.governance._operators import NOWHERE, UnfitError, fenced, getter
from taskorch.ext.governance._policies import (
    SECRET,
    HistoryRule,
    Operation,
    Rule,
    steps_of,
)
from taskorch.kit.plain import plain
from taskorch.kit.visible import show

#: The steps of a dotted path.
Steps: TypeAlias = tuple[str | int, ...]

#: Words, or their ends, that name secret values, and those of numbers, too.
_SECRETS: Final = re.compile(
    r"(secret|token|(api|private)[_-]?key|credential|authorization)s?(?![a-z])"
    r"|(?P<number>pass(word|wd|phrase))"
)
#: Where a word of a name begins: `accessToken`.
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
#: The number of letters of a value in evidence.
_MOST_SHOWN: Final = 200
#: The number of values of one condition in evidence.
_MOST_VALUES: Final = 10
#: Types of values that are shown whole.
_PLAIN: Final = (str, int, float, bool, type(None))


def hides(
    steps: Steps,
    masked: Iterable[Steps],
    value: Any = None,
    secret: bool | None = None,
) -> bool:
    """
    Return whether evidence must not show the value at *steps*.

    Args:
        steps: The steps of its path.
        masked: The paths of values that policies change.
        value: The value: a number is an amount, as of `tokens`.
        secret: The word of the rule; None: names decide.
    """
    # A container shows its members, and a member is a part of its container.
    if any(steps[: len(one)] == one[: len(steps)] for one in masked):
        return True
    if secret is not None:
        return secret
    names = (_HUMP.sub("_", step).lower() for step in steps if isinstance(step, str))
    words = [word for name in names for word in _SECRETS.finditer(name)]
    is_amount = type(value) in (int, float)
    return any(word["number"] or not is_amount for word in words)


def shown(value: Any) -> Any:
    """Return *value* as evidence; a container only by its size."""
    try:
        return None if value is NOWHERE else fenced(_shown, value)
    except UnfitError:
        return f"a value of the type {type(value).__name__}"


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # A number with too many digits cannot be written.
        return plain(int(value))
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        many: Any = value
        kind = "mapping" if isinstance(value, Mapping) else "list"
        return f"a {kind} of {len(many)}"
    return show(value, _MOST_SHOWN)


def evidence_of(
    rule: Rule | HistoryRule | str,
    actual: Any,
    operation: Operation,
    masked: Iterable[Steps],
) -> tuple[str, bool]:
    """
    Return the values behind a violation of *rule*, and whether they are whole.

    Two operations with the same whole evidence have the same values for the rule.

    Args:
        rule: The rule, or the condition of its policy.
        actual: The value that the rule has tested; for a history rule, the words.
        operation: The judged operation.
        masked: The paths of values that policies change.
    """
    if isinstance(rule, HistoryRule):
        values = [(str(actual), True), *_values(rule.same, operation, masked)]
        words = "; ".join(text for text, _ in values)
        return words, all(is_whole for _, is_whole in values)
    if isinstance(rule, Rule):
        return _said(steps_of(rule.condition), lambda: actual, masked, rule.secret)
    values = _values(paths_in(rule), operation, masked)
    words = "; ".join(text for text, _ in values[:_MOST_VALUES])
    are_whole = len(values) <= _MOST_VALUES and all(whole for _, whole in values)
    return words, are_whole


def _values(
    paths: Iterable[str], operation: Operation, masked: Iterable[Steps]
) -> list[tuple[str, bool]]:
    """Return the value at each of *paths*, and whether it is whole."""
    return [
        _said(steps, partial(getter(steps), operation), masked)
        for steps in map(steps_of, paths)
    ]


def _said(
    steps: Steps,
    get: Callable[[], Any],
    masked: Iterable[Steps],
    secret: bool | None = None,
) -> tuple[str, bool]:
    name = _path_of(steps)
    try:
        value = fenced(get)
    except UnfitError:
        return f"{name} cannot be read", False
    if value is NOWHERE:
        return f"there is no {name}", True
    if hides(steps, masked, value, secret):
        return f"{name} is {SECRET}", False
    seen = shown(value)
    if type(value) in _PLAIN:
        text = show(value, _MOST_SHOWN)
        with suppress(ValueError):
            # A number with too many digits has no text.
            return f"{name} is {text}", text == repr(value)
    return f"{name} is {seen if isinstance(seen, str) else show(seen)}", False


def _path_of(steps: Steps) -> str:
    """Return the path with *steps*: `payload.args[1]`."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text
