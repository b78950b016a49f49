"""
What there is where a rule does not hold, in words that people may see.

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

#: Names of values that are secret, whether a rule says so or not.
_SECRETS: Final = re.compile(
    r"pass(word|wd|phrase)|secret|token|api_?key|private_?key|credential|authorization",
    re.IGNORECASE,
)
#: Letters of a value that evidence shows.
_MOST_SHOWN: Final = 200
#: Values of one condition that evidence shows.
_MOST_VALUES: Final = 10
#: Values that a text shows whole.
_PLAIN: Final = (str, int, float, bool, type(None))
#: Texts in a condition of CEL; and the paths in it, with the parenthesis of a call.
_TEXTS: Final = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'")
_PATHS: Final = re.compile(
    r"(?<![\w.])((?:task|operation)(?:\.[A-Za-z_]\w*|\[\d+\])+)(\s*\()?"
)


def hides(steps: Steps, masked: Iterable[Steps]) -> bool:
    """
    Whether evidence must not show the value at *steps*.

    Args:
        steps: The steps of its path.
        masked: The paths of values that policies change.
    """
    # A value shows what is in it, and is a part of what it is in.
    return any(isinstance(step, str) and _SECRETS.search(step) for step in steps) or (
        any(steps[: len(one)] == one[: len(steps)] for one in masked)
    )


def shown(value: Any) -> Any:
    """*value* as evidence shows it: of what has others in it, how many there are."""
    try:
        return None if value is NOWHERE else fenced(_shown, value)
    except UnfitError:
        return f"a value of the type {type(value).__name__}"


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # One that has too many digits cannot be written.
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
    What there is where *rule* does not hold, and whether that is the whole of it.

    Two operations with the same evidence, if it is whole, are alike in what the rule
    looks at.

    Args:
        rule: The rule, or the condition of its policy.
        actual: The value that the rule has looked at; of a history rule, the words.
        operation: What was judged.
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
    """What *operation* has at each of *paths*, and whether that is all of it."""
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
            # Of a number with too many digits there is no text.
            return f"{name} is {text}", text == repr(value)
    return f"{name} is {seen if isinstance(seen, str) else show(seen)}", False


def _path_of(steps: Steps) -> str:
    """The path with *steps*: `payload.args[1]`."""
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
        # Of `task.type.startsWith('a')` the value is `task.type`.
        text = path.rpartition(".")[0] if call else path
        if text not in ("task", "operation"):
            paths[text] = None
    return [*paths]
