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

from taskorch.governance._operators import NOWHERE, UnfitError, fenced, getter
from taskorch.governance._policies import (
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

#: Names of secret values, whether a rule says so or not.
_SECRETS: Final = re.compile(
    r"pass(word|wd|phrase)|secret|token|api_?key|private_?key|credential|authorization",
    re.IGNORECASE,
)
#: The number of letters of a value in evidence.
_MOST_SHOWN: Final = 200
#: The number of values of one condition in evidence.
_MOST_VALUES: Final = 10
#: Types of values that are shown whole.
_PLAIN: Final = (str, int, float, bool, type(None))
#: Patterns for texts in a condition of CEL; and for its paths, with the parenthesis of
#: a call.
_TEXTS: Final = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'")
_PATHS: Final = re.compile(
    r"(?<![\w.])((?:task|operation)(?:\.[A-Za-z_]\w*|\[\d+\])+)(\s*\()?"
)


def hides(steps: Steps, masked: Iterable[Steps]) -> bool:
    """
    Return whether evidence must not show the value at *steps*.

    Args:
        steps: The steps of its path.
        masked: The paths of values that policies change.
    """
    # A container shows its members, and a member is a part of its container.
    return any(isinstance(step, str) and _SECRETS.search(step) for step in steps) or (
        any(steps[: len(one)] == one[: len(steps)] for one in masked)
    )


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
        steps = steps_of(rule.condition)
        return _said(steps, lambda: actual, rule.secret or hides(steps, masked))
    values = _values(_paths_in(rule), operation, masked)
    words = "; ".join(text for text, _ in values[:_MOST_VALUES])
    are_whole = len(values) <= _MOST_VALUES and all(whole for _, whole in values)
    return words, are_whole


def _values(
    paths: Iterable[str], operation: Operation, masked: Iterable[Steps]
) -> list[tuple[str, bool]]:
    """Return the value at each of *paths*, and whether it is whole."""
    return [
        _said(steps, partial(getter(steps), operation), hides(steps, masked))
        for steps in map(steps_of, paths)
    ]


def _said(steps: Steps, get: Callable[[], Any], is_hidden: bool) -> tuple[str, bool]:
    name = _path_of(steps)
    try:
        value = fenced(get)
    except UnfitError:
        return f"{name} cannot be read", False
    if value is NOWHERE:
        return f"there is no {name}", True
    if is_hidden:
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


def _paths_in(condition: str) -> list[str]:
    """The paths that a *condition* in CEL names, each once."""
    paths: dict[str, None] = {}
    for path, call in _PATHS.findall(_TEXTS.sub("''", condition)):
        # The value of `task.type.startsWith('a')` is that of `task.type`.
        text = path.rpartition(".")[0] if call else path
        if text not in ("task", "operation"):
            paths[text] = None
    return [*paths]
