"""
Search for users' regular expressions in a time bounded by the text's length.

`re` backtracks, which takes minutes for nested repetitions such as `(a+)+$`. Such an
expression is searched here letter by letter, with the set of all places in it that the
text may have reached. Source: K. Thompson, *Regular Expression Search Algorithm*, CACM
11(6), 1968.

Decision: failures-and-recovery.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from math import prod
from re import _constants as sre, _parser  # type: ignore[attr-defined]
from typing import Any, Final, TypeAlias

from taskorch.errors import InvalidTaskError

#: A function that returns whether a text has a match.
Search: TypeAlias = Callable[[str], bool]
#: The count from which on a repetition counts as endless.
_MANY: Final = 10
#: The most endless repetitions, one after another, that `re` may search for.
_FEW: Final = 1
#: The most ways in which all bounded parts may match, for `re` to try each of them.
_MOST_WAYS: Final = 1_000
#: The most places of an expression here.
_MOST: Final = 2_000
_REPEATS: Final = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
_CATEGORIES: Final[dict[Any, str]] = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}
_ANCHORS: Final[dict[Any, str]] = {
    sre.AT_BEGINNING: "^",
    sre.AT_BEGINNING_STRING: r"\A",
    sre.AT_END: "$",
    sre.AT_END_STRING: r"\Z",
    sre.AT_BOUNDARY: r"\b",
    sre.AT_NON_BOUNDARY: r"\B",
}


@lru_cache
def searcher(pattern: str) -> Search:
    """
    Return a function that searches for *pattern*.

    Raises:
        InvalidTaskError: The search might take for ever, and no other way exists for
            the pattern.
        re.error: The pattern is no regular expression.
    """
    compiled = re.compile(pattern)
    tree = _parser.parse(pattern)
    nested, many = _repeats(tree)
    ways = _ways(tree)
    if not nested and many <= _FEW and ways <= _MOST_WAYS:
        return lambda text: compiled.search(text) is not None
    try:
        return _Linear(tree, compiled.flags).search
    except _UnfitError as why:
        if not nested and many <= _FEW + 1 and ways <= _MOST_WAYS:
            return lambda text: compiled.search(text) is not None
        has = "repetitions in others" if nested or many > _FEW + 1 else "many choices"
        msg = f"{pattern!r} could take for ever: it has {has}, and {why}"
        raise InvalidTaskError(
            msg, hint=r"say it without: 'a+$', not '(a+)+$'"
        ) from None


def _repeats(tree: Any) -> tuple[bool, int]:
    """Return whether endless repetitions are nested, and how many there are."""
    nested, many = False, 0
    for op, value in tree:
        for inner in _below(op, value):
            inside = _repeats(inner)
            nested = nested or inside[0]
            if op in _REPEATS and value[1] > _MANY:
                branches = any(each[0] is sre.BRANCH for each in _all(inner))
                nested = nested or branches or _varies(inner)
            many += inside[1]
        many += op in _REPEATS and value[1] > _MANY
    return nested, many


def _ways(tree: Any) -> int:
    """Return in how many ways an expression may match, without endless repetitions."""
    ways = 1
    for op, value in tree:
        inner = [_ways(each) for each in _below(op, value)]
        if op is sre.BRANCH:
            ways *= sum(inner)
        elif op not in _REPEATS:
            ways *= prod(inner)
        elif value[1] <= _MANY:
            ways *= sum(inner[0] ** times for times in range(value[0], value[1] + 1))
    return ways


def _varies(tree: Any) -> bool:
    return any(op in _REPEATS and value[0] != value[1] for op, value in _all(tree))


def _all(tree: Any) -> Iterator[tuple[Any, Any]]:
    for op, value in tree:
        yield op, value
        for inner in _below(op, value):
            yield from _all(inner)


def _below(op: Any, value: Any) -> list[Any]:
    """Return the expressions directly inside a part."""
    if op in _REPEATS:
        return [value[2]]
    if op is sre.SUBPATTERN:
        return [value[3]]
    if op is sre.BRANCH:
        return list(value[1])
    if op in (sre.ASSERT, sre.ASSERT_NOT):
        return [value[1]]
    if op is sre.ATOMIC_GROUP:
        return [value]
    if op is sre.GROUPREF_EXISTS:
        return [each for each in value[1:] if each is not None]
    return []


class _UnfitError(Exception):
    """Error: the expression needs more than a set of places."""


class _Linear:
    """An expression as places, each with a letter or an anchor, and the next ones."""

    def __init__(self, tree: Any, flags: int) -> None:
        #: For each place: the test of its letter, or None if it takes none; and the
        #: anchor that must hold there, or None.
        self._letters: list[re.Pattern[str] | None] = []
        self._anchors: list[re.Pattern[str] | None] = []
        self._next: list[list[int]] = []
        end = self._place(None, None, [])
        self._end = end
        self._start = self._sequence(tree, flags, end)

    def search(self, text: str) -> bool:
        """Return whether *text* has a match."""
        places: set[int] = set()
        for at in range(len(text) + 1):
            places.add(self._start)
            places = self._reached(places, text, at)
            if self._end in places:
                return True
            if at == len(text):
                break
            letter = text[at]
            places = {
                after
                for place in places
                if (test := self._letters[place]) is not None and test.match(letter)
                for after in self._next[place]
            }
        return False

    def _reached(self, places: set[int], text: str, at: int) -> set[int]:
        """Return *places*, and those that are reached without a letter."""
        reached, todo = set(places), list(places)
        while todo:
            place = todo.pop()
            anchor = self._anchors[place]
            if self._letters[place] is not None or (
                anchor is not None and anchor.match(text, at) is None
            ):
                continue
            for after in self._next[place]:
                if after not in reached:
                    reached.add(after)
                    todo.append(after)
        return reached

    def _place(
        self,
        letter: re.Pattern[str] | None,
        anchor: re.Pattern[str] | None,
        after: list[int],
    ) -> int:
        if len(self._next) >= _MOST:
            msg = "is too long"
            raise _UnfitError(msg)
        self._letters.append(letter)
        self._anchors.append(anchor)
        self._next.append(after)
        return len(self._next) - 1

    def _sequence(self, tree: Any, flags: int, after: int) -> int:
        for op, value in reversed(list(tree)):
            after = self._one(op, value, flags, after)
        return after

    def _one(self, op: Any, value: Any, flags: int, after: int) -> int:
        if op is sre.SUBPATTERN:
            _, add, without, inner = value
            return self._sequence(inner, (flags | add) & ~without, after)
        if op is sre.BRANCH:
            ways = [self._sequence(each, flags, after) for each in value[1]]
            return self._place(None, None, ways)
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            least, most, inner = value
            return self._repeat((least, most), inner, flags, after)
        if op is sre.AT and value in _ANCHORS:
            return self._place(None, re.compile(_ANCHORS[value], flags), [after])
        return self._place(_letter(op, value, flags), None, [after])

    def _repeat(
        self, times: tuple[int, int], inner: Any, flags: int, after: int
    ) -> int:
        least, most = times
        if most == sre.MAXREPEAT:
            loop = self._place(None, None, [after])
            self._next[loop].append(self._sequence(inner, flags, loop))
            after = loop
        else:
            last = after
            for _ in range(most - least):
                again = self._sequence(inner, flags, after)
                after = self._place(None, None, [again, last])
        for _ in range(least):
            after = self._sequence(inner, flags, after)
        return after


def _letter(op: Any, value: Any, flags: int) -> re.Pattern[str]:
    """Return the pattern for the one letter of a part of an expression."""
    if op is sre.ANY:
        return re.compile(".", flags)
    if op is sre.LITERAL:
        return re.compile(re.escape(chr(value)), flags)
    if op is sre.NOT_LITERAL:
        return re.compile(f"[^{re.escape(chr(value))}]", flags)
    if op is sre.IN:
        return re.compile(f"[{''.join(map(_member, value))}]", flags)
    msg = "looks around, or back at what it has matched"
    raise _UnfitError(msg)


def _member(part: tuple[Any, Any]) -> str:
    op, value = part
    if op is sre.NEGATE:
        return "^"
    if op is sre.LITERAL:
        return re.escape(chr(value))
    if op is sre.RANGE:
        return "-".join(re.escape(chr(end)) for end in value)
    return _CATEGORIES[value]
