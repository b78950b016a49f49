"""
What values a configuration may have: small readers, put together in `_keys`.

Decision: 0102.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import attrs

from taskorch._base._limits import MAX_AMOUNT
from taskorch.frontends.suite._faults import FaultList, shown
from taskorch.model import id_problem
from taskorch.model._checks import is_number
from taskorch.model._ids import has_segments
from taskorch.workflows._located import FilePlace, Located, plain
from taskorch.workflows._names import guess

_SIZES: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?B|[KMGT]IB)?", re.IGNORECASE)
#: What messages call all of a configuration.
WHOLE: Final = "the file"
#: From here on the most that a number may be goes without saying.
_MANY: Final = 1e9
#: What no amount of a configuration is above.
_MOST: Final = MAX_AMOUNT


class ValueReader(Protocol):
    """Protocol: reads values of one kind."""

    def read(self, node: Located, name: str, faults: FaultList) -> Any:
        """What *node* says, or None; what is wrong is noted, under its *name*."""
        ...


@attrs.frozen
class ReadMapping:
    """
    A mapping that was read.

    Attributes:
        values: What its names say, of those that are well formed.
        nodes: The names and the values as they stand in the file.
        place: Where it begins.
    """

    values: Mapping[str, Any]
    nodes: Mapping[str, tuple[Located, Located]]
    place: FilePlace

    def get(self, name: str, default: Any = None) -> Any:
        """What *name* says, or *default*."""
        return self.values.get(name, default)

    def at(self, name: str) -> FilePlace:
        """Place of the value of *name*, or of the mapping if there is none."""
        return self.nodes[name][1].place if name in self.nodes else self.place

    def node(self, name: str) -> Located:
        """The value of *name* as it stands in the file."""
        return self.nodes[name][1]


@attrs.frozen
class Text:
    """A text; *is_id*: one that can be the id of a task; *is_any*: "" as well."""

    is_id: bool = False
    is_any: bool = False

    def read(self, node: Located, name: str, faults: FaultList) -> str | None:
        value = node.value
        if not isinstance(value, str) or not (self.is_any or value.strip()):
            faults.wrong(node, name, "a text")
            return None
        problem = id_problem(value) if self.is_id else None
        if problem is None and self.is_id and has_segments(value):
            problem = f"{value!r} has a slash"
        if problem is not None:
            faults.add(node.place, f"{name}: {problem}")
            return None
        return value


@attrs.frozen
class Number:
    """A number from *least* to *most*; *is_whole*: without a fraction."""

    least: float = 0
    most: float = _MOST
    is_whole: bool = False
    is_above: bool = False

    def read(self, node: Located, name: str, faults: FaultList) -> float | None:
        value = node.value
        fits = (
            is_number(value, self.least, self.most)
            and not (self.is_above and value == self.least)
            and (not self.is_whole or value == int(value))
        )
        if not fits:
            faults.wrong(node, name, self._needed(value))
            return None
        return int(value) if self.is_whole else float(value)

    def _needed(self, value: object) -> str:
        text = "a whole number" if self.is_whole else "a number"
        text += f" {'above' if self.is_above else 'from'} {self.least:g}"
        # Where there is hardly a limit, only what is above it needs to hear of it.
        too_much = isinstance(value, int | float) and value > self.most
        return f"{text} to {self.most:g}" if self.most < _MANY or too_much else text


class Size:
    """A number of bytes: `100MB`, `1.5 GB`, `4096`."""

    def read(self, node: Located, name: str, faults: FaultList) -> int | None:
        """What *node* says."""
        match = _SIZE.fullmatch(str(node.value).strip())
        if isinstance(node.value, bool) or match is None:
            faults.wrong(node, name, "a size, such as 100MB,")
            return None
        unit = (match[2] or "").upper()
        factor = _SIZES.get(unit)
        if factor is None:
            factor = 2 ** (10 * " KMGT".index(unit[0]))
        size = int(float(match[1]) * factor)
        if not 0 < size <= _MOST:
            faults.wrong(node, name, "a size, such as 100MB,")
            return None
        return size


@attrs.frozen
class OneOf:
    """The value is one of some words, or of the keys of *meanings*."""

    meanings: Mapping[str, Any]

    def read(self, node: Located, name: str, faults: FaultList) -> Any:
        if not isinstance(node.value, str) or node.value not in self.meanings:
            message = f"{name}: one of {', '.join(self.meanings)} is needed, "
            message += f"not {shown(node)}{guess(str(node.value), self.meanings)}"
            faults.add(node.place, message)
            return None
        return self.meanings[node.value]


@attrs.frozen
class Each:
    """A list of values of one kind; *least* of them."""

    kind: ValueReader
    least: int = 0
    hint: str = "a list"

    def read(self, node: Located, name: str, faults: FaultList) -> list[Any] | None:
        if not isinstance(node.value, list) or len(node.value) < self.least:
            faults.wrong(node, name, self.hint)
            return None
        parsed = [self.kind.read(item, name, faults) for item in node.value]
        return [item for item in parsed if item is not None]


@attrs.frozen
class NamedItems:
    """
    A mapping.

    Attributes:
        keys: The names that there are, and their kinds.
        others: The kind of all other names; None: there are none.
        needed: Names that must be there.
        synonyms: Names that mean another one: both may stand there if they agree.
    """

    keys: Mapping[str, ValueReader] = attrs.field(factory=dict[str, Any])
    others: ValueReader | None = None
    needed: Iterable[str] = ()
    synonyms: Mapping[str, str] = attrs.field(factory=dict[str, str])

    def read(self, node: Located, name: str, faults: FaultList) -> ReadMapping | None:
        if node.value is None and not self.needed:
            return ReadMapping({}, {}, node.place)
        if not isinstance(node.value, dict):
            faults.wrong(node, name, "a mapping")
            return None
        values: dict[str, Any] = {}
        nodes: dict[str, tuple[Located, Located]] = {}
        for key, value in node.value.values():
            meant = self.synonyms.get(key.value, key.value)
            kind = self.keys.get(meant, self.others)
            if kind is None:
                faults.unknown(key, name, (*self.keys, *self.synonyms))
                continue
            inner = key.value if name == WHOLE else f"{name}.{key.value}"
            parsed = kind.read(value, inner, faults)
            if meant in nodes and values.get(meant) != parsed:
                other, before = nodes[meant]
                faults.disagree(f"{inner} ({other.value})", before, value)
            nodes.setdefault(meant, (key, value))
            if parsed is not None:
                values.setdefault(meant, parsed)
        for key in self.needed:
            if key not in nodes:
                faults.add(node.place, f"{name} has no {key!r}, and needs one")
        return ReadMapping(values, nodes, node.place)


class Flag:
    """`true` or `false`."""

    def read(self, node: Located, name: str, faults: FaultList) -> bool | None:
        """What *node* says."""
        if not isinstance(node.value, bool):
            faults.wrong(node, name, "true or false")
            return None
        return node.value


class Anything:
    """What is read elsewhere: as plain values."""

    def read(self, node: Located, name: str, faults: FaultList) -> Any:
        """What *node* says."""
        del name, faults
        return plain(node)


@attrs.frozen
class Either:
    """What one of two kinds says: *second* of a mapping, *first* of all else."""

    first: ValueReader
    second: ValueReader

    def read(self, node: Located, name: str, faults: FaultList) -> Any:
        kind = self.second if isinstance(node.value, dict) else self.first
        return kind.read(node, name, faults)
