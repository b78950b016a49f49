"""
Names say what a thing holds; those that do not say it become fewer, and never more.

Two things are counted: functions with a local whose name would do for anything, and
classes that share their name with another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from inspect import CO_OPTIMIZED, CO_VARARGS, CO_VARKEYWORDS
from pathlib import Path
from types import CodeType

import taskorch

SOURCE = Path(taskorch.__file__).parent

#: How many there may be. Whoever makes them fewer lowers the number here.
MOST_FUNCTIONS = 226
MOST_CLASSES = 36
#: How far below its number a count may be before the number has to follow.
SLACK = 5
#: How many are named if there are too many.
NAMED = 10

#: Names that would do for anything.
EMPTY = frozenset(
    (
        "found",
        "said",
        "made",
        "given",
        "known",
        "told",
        "there",
        "left",
        "taken",
        "what",
    )
)
RENAME_LOCALS = (
    "functions have a local that says nothing: name it after what it holds (handles, "
    "status, row, message)"
)
RENAME_CLASSES = (
    "classes share their name: give the private one a name of its own, which says what "
    "it is in its room"
)


def within(code: CodeType) -> Iterator[CodeType]:
    """The code of a file, of a class or of a function, and all that stands in it."""
    yield code
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from within(part)


def locals_of(code: CodeType) -> set[str]:
    """The names that a function sets, its inner ones included, without arguments."""
    names: set[str] = set()
    for part in within(code):
        flags = part.co_flags
        count = part.co_argcount + part.co_kwonlyargcount
        count += bool(flags & CO_VARARGS) + bool(flags & CO_VARKEYWORDS)
        names |= {*part.co_varnames[count:]}
        names |= {*part.co_cellvars} - {*part.co_varnames[:count]}
    return names


def names_in(place: str, code: CodeType) -> tuple[list[str], list[tuple[str, str]]]:
    """The functions of a file that have such a local; and its classes, with places."""
    faults: list[str] = []
    classes: list[tuple[str, str]] = []
    # What the interpreter has compiled says it sooner than a walk over the syntax.
    for part in within(code):
        line = f"{place}:{part.co_firstlineno}"
        if part.co_name.startswith("<"):
            continue
        if not part.co_flags & CO_OPTIMIZED:
            classes.append((part.co_name, line))
        elif names := sorted(EMPTY & locals_of(part)):
            faults.append(f"{line} {part.co_name}: {', '.join(names)}")
    return faults, classes


def shared_in(classes: list[tuple[str, str]]) -> list[str]:
    """Each of *classes* that shares its name, and with which."""
    places_of: dict[str, list[str]] = defaultdict(list)
    for name, place in classes:
        places_of[name].append(place)
    return [
        f"{place} {name}: as {', '.join(other for other in places if other != place)}"
        for name, places in places_of.items()
        for place in places
        if len(places) > 1
    ]


def judge(faults: list[str], most: int, number: str, advice: str) -> str:
    """Why there are too many *faults*, or fewer than the *number* says; or ""."""
    count = len(faults)
    if count > most:
        shown = "\n  ".join(faults[:NAMED])
        return (
            f"{count} {advice}; {number} is {most}. Some, those in the files that were "
            f"changed last before others:\n  {shown}"
        )
    if count < most - SLACK:
        return f"there are fewer now: let {Path(__file__).name} say {number} = {count}"
    return ""


def test_names_that_say_nothing_do_not_become_more():
    files = sorted(SOURCE.rglob("*.py"))
    files.sort(key=lambda file: file.stat().st_mtime, reverse=True)
    functions: list[str] = []
    classes: list[tuple[str, str]] = []
    for file in files:
        place = str(file.relative_to(SOURCE.parents[1]))
        code = SourceFileLoader(place, str(file)).get_code(place)
        of_file = names_in(place, code)
        functions += of_file[0]
        classes += of_file[1]
    faults = (
        judge(functions, MOST_FUNCTIONS, "MOST_FUNCTIONS", RENAME_LOCALS),
        judge(shared_in(classes), MOST_CLASSES, "MOST_CLASSES", RENAME_CLASSES),
    )
    fault = "\n".join(filter(None, faults))
    assert not fault, fault


def test_what_is_counted_and_how_it_is_judged():
    text = (
        "def one(found):\n    self.said, rows = found\n"
        "async def two():\n    for said, n in ():\n        class Three: ...\n"
        "    def inner(): what = 1\n"
    )
    functions, classes = names_in("a.py", compile(text, "a.py", "exec"))
    assert functions == ["a.py:3 two: said, what", "a.py:6 inner: what"]
    assert classes == [("Three", "a.py:5")]
    shared = shared_in([*classes, ("Four", "b.py:1"), ("Three", "b.py:9")])
    assert shared == ["a.py:5 Three: as b.py:9", "b.py:9 Three: as a.py:5"]
    assert "a.py:3 two" in judge(functions, 1, "MOST", "are too many")
    assert judge(functions, 2, "MOST", "") == judge(functions, 2 + SLACK, "MOST", "")
    assert "MOST = 2" in judge(functions, 2 + SLACK + 1, "MOST", "")
