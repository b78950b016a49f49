"""
Conditions in CEL, the Common Expression Language: extra `policy`, imported late.

Decision: policies-as-data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

from taskorch.errors import InvalidTaskError
from taskorch.ext.governance._operators import UnfitError, fenced
from taskorch.kit.checks import needed
from taskorch.kit.fence import is_values
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import remedy_of_key

#: An operation in the form for conditions: see `seen_of`.
Seen: TypeAlias = Any
#: A test whether a condition is true of an operation.
Condition: TypeAlias = Callable[[Seen], bool]

#: The names in a condition, which mean the same.
_NAMES: Final = ("operation", "task")
#: The largest number of letters of one condition.
_MOST_LETTERS: Final = 10_000
#: The largest number of nested loops over an operation: the time grows with their
#: product.
_MOST_LOOPS: Final = 2
_LOOPS: Final = ("all", "exists", "exists_one", "filter", "map")
#: The functions that conditions may call: those of the library.
FUNCTIONS: Final = (
    *("size", "contains", "startsWith", "endsWith", "matches", "type", "dyn"),
    *("int", "uint", "double", "string", "bytes", "timestamp", "duration"),
    *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek"),
    *("getDayOfYear", "getHours", "getMinutes", "getSeconds", "getMilliseconds"),
    *("of", "none", "ofNonZeroValue", "hasValue", "value", "or", "orValue"),
)

#: Patterns for texts and comments in a condition; and for its paths, with the
#: parenthesis of a call.
_TEXTS: Final = re.compile(
    r"\"{3}[\s\S]*?\"{3}|'{3}[\s\S]*?'{3}"
    r"|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|//[^\n]*"
)
_PATHS: Final = re.compile(
    r"(?<![\w.])((?:task|operation)(?:\.[A-Za-z_]\w*|\[\d+\])+)(\s*\()?"
)


class NoConditionError(UnfitError):
    """A condition gives another value than true and false."""


def seen_of(document: Callable[[], Mapping[str, Any]]) -> Seen:
    """
    Return the *document* of an operation in the form for conditions, converted once.

    Raises:
        UnfitError: A value of it cannot be read, or has no type of CEL.
    """
    from cel import Context  # noqa: PLC0415 - there is a condition

    return fenced(lambda: Context(dict.fromkeys(_NAMES, document())))


def _compiled(text: str) -> Any:
    cel = needed("cel", "a condition in CEL (`when`)", "policy")
    try:
        return cel.compile(text)
    except ValueError as error:
        reason = str(error).partition("ERROR: ")[2].partition("\n")[0]
        reason = reason.removeprefix("<input>:") or str(error)
        msg = f"when: {show(text)} is no condition of CEL: {reason}"
        raise InvalidTaskError(msg) from None


@lru_cache(maxsize=20_000)
def condition_of(text: str) -> Condition:
    """
    Return a test whether the condition *text* is true of an operation.

    It raises an `UnfitError` if there is no answer.

    Raises:
        InvalidTaskError: It is no such condition, or the library is not installed.
    """
    if len(text) > _MOST_LETTERS:
        msg = f"when: it has {len(text):,} letters, and {_MOST_LETTERS:,} are the most"
        raise InvalidTaskError(msg)
    if sum(text.count(f".{name}(") for name in _LOOPS) > _MOST_LOOPS:
        msg = f"when: it has more than {_MOST_LOOPS} loops: {', '.join(_LOOPS)}"
        raise InvalidTaskError(msg, hint="say it in two policies")
    program = _compiled(text)
    if not {*program.variables()} & {*_NAMES}:
        msg = f"when: {show(text)} says nothing of an operation"
        raise InvalidTaskError(msg, hint="operation.type == 'deploy'")
    for name in program.functions():
        if name.isidentifier() and name not in FUNCTIONS:
            msg = f"when: {show(text)}: conditions have no function {name}"
            raise InvalidTaskError(msg, hint=remedy_of_key(name, FUNCTIONS))

    def holds(seen: Seen) -> bool:
        try:
            answer = program.execute(seen)
        except BaseException as error:
            # The library raises errors of its own when it panics.
            if not is_values(error):
                raise
            # Its messages have the names of missing members, and not the values.
            reason = str(error).partition(": the operation is not")[0]
            msg = f"{type(error).__name__}: {reason}"
            raise UnfitError(msg) from None
        if not isinstance(answer, bool):
            msg = f"the condition is {type(answer).__name__}, not true or false"
            raise NoConditionError(msg)
        return answer

    return holds


def any_of(texts: Iterable[str]) -> Condition:
    """Return a test whether one of the conditions *texts* may be true."""
    # A newline ends a comment in a condition.
    program = _compiled(" || ".join(f"({text}\n)" for text in texts))

    def may_hold(seen: Seen) -> bool:
        try:
            return program.execute(seen) is not False
        except BaseException as error:
            if not is_values(error):
                raise
            # Each condition is then tested by itself.
            return True

    return may_hold


def paths_in(condition: str) -> list[str]:
    """Return the paths that a *condition* names, each once."""
    paths: dict[str, None] = {}
    for path, call in _PATHS.findall(_TEXTS.sub("''", condition)):
        # The value of `task.type.startsWith('a')` is that of `task.type`.
        text = path.rpartition(".")[0] if call else path
        if text not in ("task", "operation"):
            paths[text] = None
    return [*paths]
