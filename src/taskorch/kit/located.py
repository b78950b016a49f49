"""
Values with their places in a file.

Decision: documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import attrs

from taskorch.errors import ValidationFailedError


class FilePlace(NamedTuple):
    """A place in a file; lines and columns count from 1, and 0 is in no file."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        if not self.line:
            return ""
        where = f"{self.file}:" if self.file else "line "
        return f"{where}{self.line}:{self.column}"


#: A fault of a document, with its place.
Fault = tuple[FilePlace, str]


@attrs.define(unsafe_hash=True)
class Located:
    """
    A value, and the place where it begins.

    Attributes:
        value: A scalar; a list of `Located`; or, for a mapping, the pairs, a tuple of
            two `Located` each, in which a name may be repeated. After
            `with_names_once`, or a front end, a mapping is a dict of names to such
            pairs.
        place: The place where it begins.
    """

    value: Any
    place: FilePlace


def with_names_once(node: Located, faults: list[Fault]) -> Located:
    """Return *node* with dicts for mappings; repeated names go to *faults*."""
    if isinstance(node.value, list):
        return Located([with_names_once(one, faults) for one in node.value], node.place)
    if not isinstance(node.value, tuple):
        return node
    members: dict[str, tuple[Located, Located]] = {}
    for name, value in node.value:
        if name.value in members:
            faults.append((name.place, f"{name.value!r} stands here twice"))
        else:
            members[name.value] = name, with_names_once(value, faults)
    return Located(members, node.place)


#: The deepest nesting of a document: a value of its own may be 50 levels deep.
MAX_DEPTH: Final = 100
#: The place of a value without a file.
NOWHERE: Final = FilePlace("", 0, 0)


def located(value: Any, depth: int = 0) -> Located:
    """
    Return *value*, plain lists and mappings, as `Located` without a file.

    Raises:
        ValidationFailedError: It is nested more than a hundred levels deep.
    """
    if depth > MAX_DEPTH:
        text = f"this is nested more than {MAX_DEPTH} levels deep"
        raise ValidationFailedError(text, findings=(("", text),), hint="")
    if isinstance(value, Mapping):
        members = {
            str(name): (Located(name, NOWHERE), located(one, depth + 1))
            for name, one in value.items()
        }
        return Located(members, NOWHERE)
    if isinstance(value, list | tuple):
        return Located([located(one, depth + 1) for one in value], NOWHERE)
    return Located(value, NOWHERE)


def plain(node: Located) -> Any:
    """Return the value of *node*, after `with_names_once`, without places."""
    if isinstance(node.value, dict):
        return {name: plain(value) for name, (_, value) in node.value.items()}
    if isinstance(node.value, list):
        return [plain(one) for one in node.value]
    return node.value


def places(node: Located, path: str = "") -> Iterator[tuple[str, FilePlace]]:
    """Yield the places of all values in *node*, by paths such as `tasks.a.args[0]`."""
    yield path, node.place
    if isinstance(node.value, dict):
        for name, (_, value) in node.value.items():
            yield from places(value, f"{path}.{name}" if path else name)
    elif isinstance(node.value, list):
        for index, value in enumerate(node.value):
            yield from places(value, f"{path}[{index}]")


def with_place(path: str, text: str, places: Mapping[str, FilePlace]) -> str:
    """Return *text* about *path* with its place, or that of an outer value."""
    near = path
    while places and near not in places:
        near = near[: max(near.rfind("."), near.rfind("["), 0)]
    place = f"{places[near]}: " if places else ""
    return place + f"{path}: {text}".lstrip(": ")
