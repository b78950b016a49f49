"""
The part of YAML 1.2 that corresponds to JSON: each value with its place.

PyYAML reads 1.1, where `no` is false, `1:30` is ninety and a date is a date; and its
safe loader follows aliases, so that a small text can mean a huge one, and takes the
last of two equal keys. This reader does none of that. It goes on after a fault, and
uses libyaml if PyYAML has it: ten thousand files are read in a second or two.

Decision: documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

try:
    import yaml
except ImportError as _error:
    _MSG = "YAML is read by PyYAML: pip install 'taskorch[yaml]'"
    raise ImportError(_MSG, name="yaml") from _error

from taskorch.errors import InvalidTaskError, ValidationFailedError
from taskorch.kit.located import (
    MAX_DEPTH,
    Fault,
    FilePlace,
    Located,
    with_names_once,
)
from taskorch.kit.visible import show

#: The most bytes, or characters, of a document: PyYAML takes up to ten seconds for it.
_MAX_SIZE: Final = 1 << 20
#: The words that are no text, by their value.
_SCALARS: Final = {
    "null": re.compile(r"(?:~|null|Null|NULL|)\Z"),
    "bool": re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"),
    "int": re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"),
    "float": re.compile(
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
    ),
}
#: The first characters of a scalar that may be no text, unless it is empty.
_FIRST: Final = frozenset("~nNtTfF+-.0123456789")


def _number(kind: str, text: str) -> float:
    if kind == "float":
        # `.inf` and `.nan` are Python's without the point.
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    base = {"0o": 8, "0x": 16}.get(text[:2])
    return int(text) if base is None else int(text[2:], base)


def read(text: str | bytes, file: str) -> tuple[list[Located], list[Fault]]:
    """
    Return the documents in *text*, and all its faults.

    A mapping is a tuple of pairs here, so that a name may be repeated: the caller
    decides what that means.

    Args:
        text: Documents with `---` between them; an empty one is left out.
        file: The name of the file in places.
    """
    start = FilePlace(file, 1, 1)
    if len(text) > _MAX_SIZE:
        fault = f"it has {len(text):,} characters, and {_MAX_SIZE:,} are allowed"
        return [], [(start, fault)]
    reader = _YamlReader(file)
    documents: list[Located] = []
    try:
        loader = getattr(yaml, "CSafeLoader", _Loader)
        documents = [*reader.documents(iter(yaml.parse(text, loader)))]
    except _TooDeepError:
        pass
    except yaml.MarkedYAMLError as error:
        reader.faults.append(_parse_fault(error, text, start))
    except yaml.YAMLError as error:
        # The text has a forbidden character.
        detail = " ".join(str(error).split())
        reader.faults.append((start, f"this is no YAML: {detail}"))
    except (RecursionError, ValueError) as error:
        # The cause may be a version of YAML with ten thousand digits, or a deep call
        # stack.
        reader.faults.append((start, f"it cannot be read: {error}"))
    return documents, sorted(reader.faults)


def _parse_fault(error: Any, text: str | bytes, start: FilePlace) -> Fault:
    """Return the parser's error about *text*, with its place."""
    if "nesting depth" in str(error.problem):
        # libyaml looks ahead for so long that it reaches its own limit first.
        sentence = f"this is nested more than {MAX_DEPTH} levels deep"
    else:
        parts = (error.context, error.problem)
        sentence = f"this is no YAML: {' '.join(str(part) for part in parts if part)}"
    lines = text.splitlines() or [text]
    for mark in (error.problem_mark, error.context_mark):
        # The beginning of an open part is a better place than the line after the last
        # one.
        if mark is not None and mark.line < len(lines):
            return start._replace(line=mark.line + 1, column=mark.column + 1), sentence
    return start._replace(line=len(lines), column=len(lines[-1]) + 1), sentence


def read_one(text: str | bytes, file: str) -> tuple[Located, list[Fault]]:
    """Return the value of *text*, one document `with_names_once`, and all faults."""
    documents, faults = read(text, file)
    nodes = [with_names_once(node, faults) for node in documents]
    faults += [(node.place, "a second document begins here") for node in nodes[1:]]
    return (nodes[0] if nodes else Located(None, FilePlace(file, 1, 1))), sorted(faults)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # it has no annotations
    """PyYAML's own parser, which raises various errors at an invalid escape."""

    def scan_flow_scalar_non_spaces(self, double: bool, start_mark: Any) -> Any:
        try:
            return super().scan_flow_scalar_non_spaces(double, start_mark)
        except (ValueError, OverflowError):
            text = "this escape stands for a character that there is not"
            mark = self.get_mark()
            raise yaml.MarkedYAMLError(None, None, text, mark) from None


class _TooDeepError(Exception):
    """Error: the text is too deeply nested, so the rest is not read."""


class _YamlReader:
    """Reader that makes values of parser events, and notes their faults."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.faults: list[Fault] = []

    def documents(self, events: Iterator[Any]) -> Iterator[Located]:
        """Yield the documents that are not empty."""
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                node = self._node(next(events), events, 0)
                if node.value is not None:
                    yield node

    def _place(self, event: Any) -> FilePlace:
        mark = event.start_mark
        return FilePlace(self._file, mark.line + 1, mark.column + 1)

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Located:
        place = self._place(event)
        if isinstance(event, yaml.AliasEvent):
            fault = f"an alias (*{event.anchor}) stands for other text: write that out"
            self.faults.append((place, fault))
            return Located(None, place)
        if event.tag not in (None, "!"):
            fault = f"there is no tag {show(event.tag, 60)} here"
            self.faults.append((place, fault))
        if depth >= MAX_DEPTH:
            fault = f"this is nested more than {MAX_DEPTH} levels deep"
            self.faults.append((place, fault))
            raise _TooDeepError
        if isinstance(event, yaml.ScalarEvent):
            return Located(self._scalar(event, place), place)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Located] = []
            for item in events:
                if isinstance(item, yaml.SequenceEndEvent):
                    break
                items.append(self._node(item, events, depth + 1))
            return Located(items, place)
        return Located(tuple(self._pairs(events, depth + 1)), place)

    def _pairs(
        self, events: Iterator[Any], depth: int
    ) -> Iterator[tuple[Located, Located]]:
        for name in events:
            if isinstance(name, yaml.MappingEndEvent):
                break
            is_text = isinstance(name, yaml.ScalarEvent)
            if is_text and name.tag is None and depth < MAX_DEPTH:
                # A name is text, whatever else it looks like.
                yield (
                    Located(name.value, self._place(name)),
                    self._node(next(events), events, depth),
                )
                continue
            key = self._node(name, events, depth)
            value = self._node(next(events), events, depth)
            if is_text:
                yield Located(name.value, key.place), value
            elif not isinstance(name, yaml.AliasEvent):
                self.faults.append((key.place, "a name is text"))

    def _scalar(self, event: Any, place: FilePlace) -> object:
        text: str = event.value
        if not event.implicit[0] or (text and text[0] not in _FIRST):
            return text
        kind = next((k for k, words in _SCALARS.items() if words.match(text)), None)
        if kind is None:
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        try:
            return _number(kind, text)
        except ValueError:
            self.faults.append((place, "this number has too many digits"))
            return 0


def load(text: str | bytes, subject: str, *, file: str = "", hint: str = "") -> Located:
    """
    Return the value of *text*, one document, after `with_names_once`.

    Args:
        text: The document.
        subject: Its name in messages.
        file: The name of the file in places; "" for lines alone.
        hint: Advice for a text that is too long.

    Raises:
        InvalidTaskError: *text* is no text.
        ValidationFailedError: It is no YAML, or has forbidden parts; the findings are
            all faults, each with its place.
    """
    unchecked: object = text
    if not isinstance(unchecked, str | bytes):
        msg = f"the text of {subject} is needed, not {show(unchecked)}"
        raise InvalidTaskError(msg, hint="Path(…).read_text() reads a file")
    node, faults = read_one(text, file)
    if faults:
        findings = tuple((str(place), fault) for place, fault in faults)
        lines = "; ".join(f"{place}: {fault}" for place, fault in findings)
        msg = f"the YAML of {subject} was refused: {lines}"
        hint = hint if len(text) > _MAX_SIZE else ""
        raise ValidationFailedError(msg, findings=findings, hint=hint)
    return node
