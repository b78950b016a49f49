"""
Conditions in CEL, the Common Expression Language: extra `policy`, imported late.

Decision: 0223.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

from taskorch.errors import InvalidTaskError
from taskorch.governance._operators import UnfitError, fenced
from taskorch.kit.fence import is_values
from taskorch.kit.visible import show

#: An operation as conditions see it: see `seen_of`.
Seen: TypeAlias = Any
#: Whether a condition is true of an operation.
Condition: TypeAlias = Callable[[Seen], bool]

#: The names that a condition knows; they mean the same.
_NAMES: Final = ("operation", "task")
#: Letters of one condition.
_MOST_LETTERS: Final = 10_000
#: Loops within loops over what an operation has: the time grows with their product.
_MOST_LOOPS: Final = 2
_LOOPS: Final = ("all", "exists", "exists_one", "filter", "map")


def seen_of(document: Callable[[], Mapping[str, Any]]) -> Seen:
    """
    What conditions see of an operation, of its *document*: it is converted once.

    Raises:
        UnfitError: A value of it cannot be read, or is none that CEL knows.
    """
    from cel import Context  # noqa: PLC0415 - there is a condition

    return fenced(lambda: Context(dict.fromkeys(_NAMES, document())))


def _compiled(text: str) -> Any:
    try:
        import cel  # noqa: PLC0415 - few have conditions
    except ImportError:
        msg = "conditions in CEL (`when`) need a library that is not installed"
        hint = "pip install 'taskorch[policy]'"
        raise InvalidTaskError(msg, hint=hint) from None
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
    What says whether the condition *text* is true of an operation.

    It raises an `UnfitError` where that cannot be said.

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

    def holds(seen: Seen) -> bool:
        try:
            answer = program.execute(seen)
        except BaseException as error:
            # The library panics with errors of its own.
            if not is_values(error):
                raise
            # What it says has the names of what is missing, and not the values.
            reason = str(error).partition(": the operation is not")[0]
            msg = f"{type(error).__name__}: {reason}"
            raise UnfitError(msg) from None
        if not isinstance(answer, bool):
            msg = f"the condition is {type(answer).__name__}, not true or false"
            raise UnfitError(msg)
        return answer

    return holds


def any_of(texts: Iterable[str]) -> Condition:
    """What says whether one of *texts*, conditions, may be true: all in one go."""
    # A comment ends with its line.
    program = _compiled(" || ".join(f"({text}\n)" for text in texts))

    def may_hold(seen: Seen) -> bool:
        try:
            return program.execute(seen) is not False
        except BaseException as error:
            if not is_values(error):
                raise
            # Each is asked by itself then.
            return True

    return may_hold


def checked_condition(text: str) -> str:
    """
    *text*, which is a condition.

    Raises:
        InvalidTaskError: It is none.
    """
    condition_of(text)
    return text
