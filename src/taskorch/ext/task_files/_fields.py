"""
The forms of values that only `workspace.yaml` and task files have.

And what is wrong with a file, and where: as compilers and editors say it.

Decision: documents.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from pathlib import PurePosixPath
from typing import Any, Final

import attrs

from taskorch.errors import UsageError
from taskorch.kit.forms import (
    WRONG,
    DocumentOf,
    Each,
    FaultList,
    Number,
    ReadMapping,
    Schema,
    Text,
    keys_of,
    shown,
)
from taskorch.kit.limits import MAX_PRIORITY, PRIORITIES
from taskorch.kit.located import Fault, Located
from taskorch.kit.visible import show
from taskorch.kit.vocabulary import guess, nearest
from taskorch.model.ids import has_segments, id_problem


@attrs.frozen(order=True)
class Problem:
    """
    A fault in a file; `str()` of it is `file:line:column: text`.

    Attributes:
        path: The file, as seen from the folder of the workspace.
        line: The line of the problem, from 1.
        column: The column, in characters, from 1.
        text: The problem, and what to do.
        stops: Whether the task, or whatever the file says, cannot be used so.
    """

    path: str
    line: int
    column: int
    text: str
    stops: bool = True

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.text}"


#: A line and a column, from 1.
Place = tuple[int, int]

_MAX_TEXT: Final = 4096
_HOUR: Final = 3600.0
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": _HOUR, "d": 24 * _HOUR}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd])")
#: A year: a larger number was meant in another unit.
_MAX_HOURS: Final = 366 * 24


# -- documents -------------------------------------------------------------------------


def read_fields(
    cls: type,
    text: str,
    path: str,
    problems: list[Problem],
    *,
    offset: int = 0,
    others: Callable[[Located, Located], None] | None = None,
) -> tuple[ReadMapping | None, Located]:
    """
    Read *text*, which is YAML, as a document of *cls* and as plain values.

    Args:
        cls: The class.
        text: The document.
        path: The name of the file in problems.
        problems: The list that gets the problems.
        offset: The line of the file at which the text begins, from 0.
        others: See `DocumentOf`.

    Returns:
        The document; None if nothing can be read.
    """
    try:
        from taskorch.kit import yaml_text  # noqa: PLC0415 - it needs an extra
    except ImportError as error:
        msg = "task files need PyYAML, which is not installed"
        hint = "pip install 'taskorch[cli]'"
        raise UsageError(msg, hint=hint) from error
    faults = FaultList()
    node, wrong = yaml_text.read_one("\n" * offset + text, path)
    entry = WRONG
    if not wrong:
        node.value = {} if node.value is None else node.value
        entry = DocumentOf(cls, nulls=True, others=others).read(node, "", faults)
    problems += problems_of(path, (*wrong, *faults.placed))
    return (entry if isinstance(entry, ReadMapping) else None), node


def problems_of(path: str, faults: Iterable[Fault]) -> Iterator[Problem]:
    """Yield *faults* as problems of the file *path*."""
    for place, text in faults:
        yield Problem(path, place.line, place.column, text)


# -- kinds of values -------------------------------------------------------------------


def _line_of(text: str) -> str:
    """Return *text* without spaces at its ends; refuse a text that is too long."""
    text = text.strip()
    if len(text) > _MAX_TEXT or "\0" in text:
        msg = "the text is too long, or has a NUL character"
        raise ValueError(msg)
    return text


def _word_of(text: str) -> str:
    if id_problem(text) is not None or has_segments(text):
        msg = f"one safe word is needed, not {show(text, 60)}"
        raise ValueError(msg)
    return text


LINE: Final = Text(check=_line_of)
#: The name of a folder.
WORD: Final = Text(check=_word_of)
LINES: Final = Each(LINE, needs="a list of texts", or_one=True)


COUNT: Final = Number(least=1, is_whole=True)


@attrs.frozen
class Paths:
    """A list of files, as seen from a folder: *base* says of which."""

    base: str
    needs: str = "a list of files"

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        """See `ValueForm`."""
        items = node.value if isinstance(node.value, list) else [node]
        values = _paths_in(self.base, self.needs).read(node, path, faults)
        if values is WRONG:
            return WRONG
        met: set[str] = set()
        for item in items:
            name = str(PurePosixPath(str(item.value).strip()))
            if name in met and name in values:
                text = f"{show(item.value.strip(), 80)} stands here twice"
                faults.add(item.place, text, path)
            met.add(name)
        return list(dict.fromkeys(values))

    def schema(self) -> Schema:
        """See `ValueForm`."""
        return LINES.schema()


@cache
def _paths_in(base: str, needs: str) -> Each:
    """The form of paths as seen from *base*."""

    def path_of(text: str) -> str:
        text, problem = _line_of(text), ""
        if text.startswith(("/", "~")):
            problem = "is no path inside its folder"
        elif ".." in text.split("/"):
            problem = "leads out of its folder"
        elif text.endswith("/") or str(PurePosixPath(text)) == ".":
            problem = "is a folder, and a file is needed"
        elif not text.isprintable():
            problem = "has characters that cannot be printed"
        if problem:
            msg = f"{show(text, 80)} {problem} ({base})"
            raise ValueError(msg)
        return str(PurePosixPath(text))

    return Each(Text(check=path_of), needs=needs, or_one=True)


@attrs.frozen
class CommandLine:
    """A list of words, or a text that is split as a shell does."""

    needs: str = "a command line, or a list of its words,"

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        """See `ValueForm`."""
        if isinstance(node.value, list):
            words = LINES.read(node, path, faults)
        else:
            words = LINE.read(node, path, faults)
            if words is WRONG:
                return WRONG
            try:
                words = shlex.split(words)
            except ValueError as error:
                text = f"this cannot be split as a shell does: {error}"
                faults.add(node.place, text, path)
                return WRONG
        if not words or not words[0]:
            faults.add(node.place, "the program to run is missing", path)
            return WRONG
        return tuple(words)

    def schema(self) -> Schema:
        """See `ValueForm`."""
        return LINES.schema()


@attrs.frozen
class Duration:
    """A duration, which is read as seconds; a number alone is hours."""

    needs: str = "hours, or a text such as '90s', '30m' or '2h', up to a year,"

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        """See `ValueForm`."""
        value = node.value
        hours: float | None = None
        if isinstance(value, int | float) and not isinstance(value, bool):
            hours = float(value)
        elif isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
            hours = float(match[1]) * _UNITS[match[2]] / _HOUR
        if hours is None or not 0 < hours <= _MAX_HOURS:
            return faults.wrong(node, path, self.needs)
        return hours * _HOUR

    def schema(self) -> Schema:
        """See `ValueForm`."""
        text = {"type": "string", "pattern": f"^\\s*{_DURATION.pattern}\\s*$"}
        number = {"type": "number", "exclusiveMinimum": 0, "maximum": _MAX_HOURS}
        return {"anyOf": [number, text]}


@attrs.frozen
class Priority:
    """A whole number, or a word."""

    needs: str = (
        f"a whole number within ±{MAX_PRIORITY:,}, or one of {', '.join(PRIORITIES)},"
    )

    def read(self, node: Located, path: str, faults: FaultList) -> Any:
        """See `ValueForm`."""
        value = node.value
        if isinstance(value, str) and value.lower() in PRIORITIES:
            return PRIORITIES[value.lower()]
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or abs(value) > MAX_PRIORITY
        ):
            near = guess(str(value).lower(), PRIORITIES)
            text = f"{self.needs} is needed, not {shown(node)}{near}"
            faults.add(node.place, text, path)
            return WRONG
        return value

    def schema(self) -> Schema:
        """See `ValueForm`."""
        return {"type": ["integer", "string"]}


# -- names that there are not ----------------------------------------------------------


def meant_by(cls: type, name: str, value: Located) -> tuple[str | None, bool]:
    """
    Which key of *cls* a name that there is not may mean; None: none.

    Returns:
        That, and whether the task cannot be used so: of a slip of the pen, and of
        another word for what a task waits for.
    """
    names = tuple(sorted(keys_of(cls)))
    near = _meant(name, names)
    if near is None:
        return _nearest(name.lower(), names), True
    if value.value in (None, "", [], {}):
        return None, True
    return near, near == "dependencies"


@lru_cache
def _nearest(name: str, names: tuple[str, ...]) -> str | None:
    """The one of *names* that is most like *name*; cached for repeated names."""
    return nearest(name, names, 0.8)


#: Names that other tools have for fields, in small letters, without "-" and "_".
_OTHER_WORDS: Final = {
    "dependencies": re.compile(
        r".*depend(?!ents?$)|deps?$|pre-?req|blocked|blockers?$|wait|needs?$|"
        r"requires?$|required(tasks?)?$|predecessor|upstream|"
        r"(runs?|starts?|begins?|comes|executes?)?after|follows"
    ),
    "retries": re.compile(r"(max)?(retry|retries|attempts|tries)(count)?$|reruns$"),
    "timeout": re.compile(
        r"(max)?(timeout|timelimit|(max|run)time|duration)"
        r"(in)?(s|ms|sec|secs|seconds|min|mins|minutes|h|hours)?$"
    ),
    "estimate": re.compile(r"estimated?|effort$|expected(time|duration)"),
    "command": re.compile(r"(cmd|run|script|exec|shell|program)$"),
    "outputs": re.compile(r"(artifacts?|produces|creates|writes|deliverables?)$"),
    "inputs": re.compile(r"(consumes|reads|inputfiles)$"),
    "resources": re.compile(r"(cpus?|cores|cpucores|memory(gb|mb)?|ram|gpus?)$"),
    "agent": re.compile(r"(agent(name|type|id)|executor|runner)$"),
    "capability": re.compile(r"(capabilit(y|ies)|skills)$"),
    "gate": re.compile(r"(gates|exitcriteria)$"),
}


@lru_cache
def _meant(name: str, names: tuple[str, ...]) -> str | None:
    """Return the one of *names* that other tools call *name*, or None."""
    word = re.sub("[-_ .]", "", name).lower()
    fit = (ours for ours, others in _OTHER_WORDS.items() if others.match(word))
    return next((ours for ours in fit if ours in names), None)


def texts_in(node: Located) -> Iterator[str]:
    """All texts in a value, however deep."""
    if isinstance(node.value, str):
        yield node.value
    elif isinstance(node.value, list | dict):
        for each in node.value if isinstance(node.value, list) else node.value.values():
            yield from texts_in(each if isinstance(each, Located) else each[1])
