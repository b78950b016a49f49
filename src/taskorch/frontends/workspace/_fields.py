"""
Takes typed fields out of a mapping that YAML has made, and notes what is wrong.

Decision: 0102.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, Final

from taskorch._base._limits import MAX_PRIORITY, PRIORITIES
from taskorch._base._vocabulary import OTHER_RESOURCES, nearest
from taskorch.errors import InvalidTaskError, UsageError
from taskorch.frontends.workspace._problems import Problem
from taskorch.model import to_units
from taskorch.model._show import show
from taskorch.workflows._located import Fault, Located, plain
from taskorch.workflows._names import guess

#: A line and a column, from 1.
Place = tuple[int, int]

_MAX_TEXT: Final = 4096
_HOUR: Final = 3600.0
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": _HOUR, "d": 24 * _HOUR}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd])")
#: A year: a larger number was meant in another unit.
_MAX_HOURS: Final = 366 * 24


class Fields:
    """
    The fields of one mapping.

    *offset* is the line of the file at which the text of the mapping begins, from 0.
    """

    def __init__(
        self, path: str, node: Located, offset: int, problems: list[Problem]
    ) -> None:
        self._path = path
        self._offset = offset
        self._problems = problems
        self._node = node
        self._names: set[str] = set()
        #: Where each item of a list stands, by the name of the list, "/" and the item.
        self.items: dict[str, Place] = {}

    @classmethod
    def of_text(
        cls, path: str, text: str, offset: int, problems: list[Problem]
    ) -> Fields | None:
        """The fields of *text*, YAML; None if it cannot be read."""
        node, faults = _read(text, path)
        if faults:
            problems += [
                Problem(path, offset + place.line, place.column, message)
                for place, message in faults
            ]
            return None
        if node.value is None:
            node.value = {}
        fields = cls(path, node, offset, problems)
        if not isinstance(node.value, dict):
            fields._note(node, f"`name: value` is needed here, not {_said(node)}")
            return None
        return fields

    def place(self, name: str) -> Place:
        """Place of the value of the field *name*."""
        node = self._value(name)
        return (self._offset + 1, 1) if node is None else self._place(node)

    def _value(self, name: str) -> Located | None:
        entry: tuple[Located, Located] | None = self._node.value.get(name)
        return None if entry is None else entry[1]

    def _place(self, node: Located) -> Place:
        return self._offset + node.place.line, node.place.column

    # -- kinds of values -----------------------------------------------------------

    def text(self, name: str) -> str | None:
        """A text, or None."""
        node = self._get(name)
        return None if node is None else self._text(node, name)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; one text alone is such a list, too."""
        return tuple(text for text, _ in self._texts(name))

    def paths(self, name: str, base: str) -> tuple[str, ...]:
        """A list of files, as seen from *base*."""
        paths: list[str] = []
        for text, node in self._texts(name):
            problem = path_problem(text)
            path = str(PurePosixPath(text))
            if problem is not None:
                self._note(node, f"{name}: {show(text, 80)} {problem} ({base})")
            elif path in paths:
                self._note(node, f"{name}: {show(text, 80)} stands here twice")
            else:
                paths.append(path)
                self.items[f"{name}/{path}"] = self._place(node)
        return tuple(paths)

    def command(self, name: str) -> tuple[str, ...] | None:
        """A command line: a list of words, or a text that is split as a shell does."""
        node = self._get(name)
        if node is None:
            return None
        if isinstance(node.value, list):
            words = list(self.texts(name))
        else:
            text = self._text(node, name)
            if text is None:
                return None
            try:
                words = shlex.split(text)
            except ValueError as error:
                self._note(
                    node, f"{name}: this cannot be split as a shell does: {error}"
                )
                return None
        if not words or not words[0]:
            self._note(node, f"{name}: the program to run is missing")
            return None
        return tuple(words)

    def seconds(self, name: str) -> float | None:
        """A duration: `90s`, `30m`, `2h` or `1d`; a number alone is hours."""
        node = self._get(name)
        if node is None:
            return None
        value = node.value
        hours: float | None = None
        if isinstance(value, int | float) and not isinstance(value, bool):
            hours = float(value)
        elif isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
            hours = float(match[1]) * _UNITS[match[2]] / _HOUR
        if hours is None or not 0 < hours <= _MAX_HOURS:
            needed = "a duration is hours, or a text such as '90s', '30m' or '2h'"
            self._note(node, f"{name}: {needed}, up to a year, not {_said(node)}")
            return None
        return hours * _HOUR

    def count(self, name: str, least: int = 1) -> int | None:
        """A whole number from *least*."""
        node = self._get(name)
        if node is None:
            return None
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            needed = f"a whole number from {least} is needed"
            self._note(node, f"{name}: {needed}, not {_said(node)}")
            return None
        return value

    def amount(self, name: str, usual: float = 0.0) -> float:
        """A number from 0; *usual* if it is not there."""
        node = self._get(name)
        if node is None:
            return usual
        try:
            to_units(name, node.value)
        except InvalidTaskError as error:
            self._note(node, error.message)
            return usual
        return float(node.value)

    def amounts(self, *names: str) -> list[float]:
        """Numbers from 0, one for each of *names*, in any of the words for it."""
        amounts = dict.fromkeys(names, 0.0)
        self._names.update(names)
        words = {**{name: (name, 1.0) for name in names}, **OTHER_RESOURCES}
        for word, (name, factor) in words.items():
            if name not in amounts or word not in self._node.value:
                continue
            if amounts[name]:
                note = f"{word}: {name} is said in another word, too"
                self._note(self._node.value[word][1], note)
            amounts[name] += self.amount(word) * factor
        return [amounts[name] for name in names]

    def flag(self, name: str, *, usual: bool = False) -> bool:
        """The boolean *name*; *usual* if it is not there."""
        node = self._get(name)
        if node is None:
            return usual
        if not isinstance(node.value, bool):
            self._note(node, f"{name}: true or false is needed, not {_said(node)}")
            return False
        return node.value

    def priority(self, name: str) -> int:
        """A whole number, or a word."""
        node = self._get(name)
        if node is None:
            return 0
        value = node.value
        if isinstance(value, str) and value.lower() in PRIORITIES:
            return PRIORITIES[value.lower()]
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or abs(value) > MAX_PRIORITY
        ):
            words = ", ".join(PRIORITIES)
            needed = (
                f"a whole number within ±{MAX_PRIORITY:,}, or one of {words}, is needed"
            )
            near = guess(str(value).lower(), PRIORITIES)
            self._note(node, f"{name}: {needed}, not {_said(node)}{near}")
            return 0
        return value

    def mapping(self, name: str) -> Fields | None:
        """The fields of a mapping in this one."""
        node = self._get(name)
        if node is None:
            return None
        if not isinstance(node.value, dict):
            self._note(node, f"{name}: `name: value` is needed here, not {_said(node)}")
            return None
        return Fields(self._path, node, self._offset, self._problems)

    def names(self) -> Iterator[str]:
        """All names in the mapping, which may be any."""
        self._names.update(self._node.value)
        return iter(self._node.value)

    def plain(self) -> dict[str, Any]:
        """The mapping as a dict, without places."""
        mapping: dict[str, Any] = plain(self._node)
        return mapping

    # -- what is wrong -------------------------------------------------------------

    def note(self, name: str, text: str) -> None:
        """Note what is wrong with the field *name*."""
        self._problems.append(Problem(self._path, *self.place(name), text))

    def note_unknown(self, *, all_of_them: bool) -> dict[str, frozenset[str]]:
        """
        Note names that nobody has asked for.

        Args:
            all_of_them: False notes only those that look like a slip of the pen, or
                like another word for one of ours.

        Returns:
            The names that were not noted, each with all texts that stand under it;
            `items` says where each name stands.
        """
        names = tuple(sorted(self._names))
        rest: dict[str, frozenset[str]] = {}
        for name, (key, value) in self._node.value.items():
            if name in self._names:
                continue
            here = self._place(key)
            near, stops = _meant(name, names), True
            if near is None:
                near = _nearest(name.lower(), names)
            elif value.value in (None, "", [], {}):
                near = None
            else:
                stops = all_of_them or near == "dependencies"
            if near is None and not all_of_them:
                rest[name] = frozenset(_texts_in(value))
                self.items[name] = here
                continue
            text = f"there is no {show(name, 60)} here; "
            text += f"did you mean {near!r}?" if near else f"known: {', '.join(names)}"
            self._problems.append(Problem(self._path, *here, text, stops))
        return rest

    def _get(self, name: str) -> Located | None:
        self._names.add(name)
        node = self._value(name)
        return None if node is None or node.value is None else node

    def _texts(self, name: str) -> list[tuple[str, Located]]:
        node = self._get(name)
        if node is None:
            return []
        if isinstance(node.value, dict):
            self._note(node, f"{name}: a list of texts is needed, not {_said(node)}")
            return []
        items = node.value if isinstance(node.value, list) else [node]
        texts: list[tuple[str, Located]] = []
        for item in items:
            text = self._text(item, name)
            if text is not None:
                texts.append((text, item))
                self.items[f"{name}/{text}"] = self._place(item)
        return texts

    def _text(self, node: Located, name: str) -> str | None:
        value = node.value
        if not isinstance(value, str):
            problem = (
                "put it in quotes"
                if isinstance(value, int | float)
                else "a text is needed"
            )
            self._note(node, f"{name}: {_said(node)} is no text: {problem}")
            return None
        text = value.strip()
        if not text or len(text) > _MAX_TEXT or "\0" in text:
            problem = "is empty" if not text else "is too long, or has a NUL character"
            self._note(node, f"{name}: the text {problem}")
            return None
        return text

    def _note(self, node: Located, text: str) -> None:
        self._problems.append(Problem(self._path, *self._place(node), text))


@lru_cache
def _nearest(name: str, names: tuple[str, ...]) -> str | None:
    """The one of *names* that is most like *name*; cached for repeated names."""
    return nearest(name, names, 0.8)


#: What others call fields of a task file, in small letters and without "-" and "_".
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


def _meant(name: str, names: Iterable[str]) -> str | None:
    """For which of *names* others say *name*."""
    word = re.sub("[-_ .]", "", name).lower()
    fit = (ours for ours, others in _OTHER_WORDS.items() if others.match(word))
    return next((ours for ours in fit if ours in names), None)


def _texts_in(node: Located) -> Iterator[str]:
    """All texts in a value, however deep."""
    if isinstance(node.value, str):
        yield node.value
    elif isinstance(node.value, list | dict):
        for each in node.value if isinstance(node.value, list) else node.value.values():
            yield from _texts_in(each if isinstance(each, Located) else each[1])


def _read(text: str, path: str) -> tuple[Located, list[Fault]]:
    """What *text*, one document, says, and all that is wrong with it."""
    try:
        from taskorch.workflows import _yaml  # noqa: PLC0415 - it needs an extra
    except ImportError as error:
        msg = "task files need PyYAML, which is not installed"
        hint = "pip install 'taskorch[cli]'"
        raise UsageError(msg, hint=hint) from error
    return _yaml.read_one(text, path)


def path_problem(text: str) -> str | None:
    """What is wrong with *text* as the path of a file in a folder, or None."""
    if text.startswith(("/", "~")):
        return "is no path inside its folder"
    if ".." in text.split("/"):
        return "leads out of its folder"
    if text.endswith("/") or str(PurePosixPath(text)) == ".":
        return "is a folder, and a file is needed"
    if not text.isprintable():
        return "has characters that cannot be printed"
    return None


def _said(node: Located) -> str:
    """What stands there, for a message."""
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list"
    return show(node.value, 60)
