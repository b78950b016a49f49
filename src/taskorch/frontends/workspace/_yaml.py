"""
YAML with the place of everything in it, so that each fault can be told with its own.

The language is that of workflow documents: the core schema of YAML 1.2, without
aliases, tags and repeated names. What differs is that reading goes on after a fault,
and that libyaml is used where PyYAML has it: ten thousand files are read in a second
or two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from taskorch.errors import UsageError
from taskorch.model._show import show

#: What a fault is: its line and its column, from 0, and a text.
Fault = tuple[int, int, str]


@attrs.define(eq=False)
class Node:
    """A value, and where it begins: line and column from 0, in the text."""

    #: A text, a number, a bool, None, a list of nodes, or a dict of names to nodes.
    value: Any
    line: int
    column: int
    #: Of a dict: where each name stands.
    names: dict[str, tuple[int, int]] = attrs.field(
        factory=dict[str, tuple[int, int]], repr=False
    )


class FaultsError(Exception):
    """The text cannot be read; `faults` has all that was found."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(faults)
        self.faults = faults


def read(text: str) -> Node:
    """
    What *text*, one document, says.

    Raises:
        FaultsError: It is no YAML, or has what is not allowed here.
        UsageError: PyYAML is not installed.
    """
    try:
        import yaml  # noqa: PLC0415 - an extra

        from taskorch.workflows import _yaml as core  # noqa: PLC0415 - it needs that
    except ImportError as error:
        msg = "task files need PyYAML, which is not installed"
        hint = "pip install 'taskorch[cli]'"
        raise UsageError(msg, hint=hint) from error

    reader = _Reader(yaml, core, text)
    node = Node(None, 0, 0)
    try:
        node = reader.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(str(part) for part in (error.context, error.problem) if part)
        line, column = (mark.line, mark.column) if mark else (0, 0)
        reader.faults.append((line, column, f"this is no YAML: {said}"))
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        reader.faults.append((0, 0, f"this is no YAML: {problem}"))
    if reader.faults:
        raise FaultsError(sorted(reader.faults))
    return node


class _Reader:
    """Makes nodes of the events of the parser."""

    def __init__(self, yaml: Any, core: Any, text: str) -> None:
        self._yaml = yaml
        self._core = core
        loader = getattr(yaml, "CSafeLoader", core.Loader)
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=loader))
        self.faults: list[Fault] = []

    def document(self) -> Node:
        """The only document there is."""
        node = Node(None, 0, 0)
        documents = 0
        for event in self._events:
            if isinstance(event, self._yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._fault(event, "a second document begins here")
                    break
                node = self._node(next(self._events), 0)
        return node

    def _node(self, event: Any, depth: int) -> Node:
        mark = event.start_mark
        if isinstance(event, self._yaml.AliasEvent):
            text = f"an alias (*{event.anchor}) stands for other text: write that out"
            self._fault(event, text)
            return Node(None, mark.line, mark.column)
        if event.tag is not None and event.tag != "!":
            self._fault(event, f"there is no tag {show(event.tag, 60)} here")
        if depth >= self._core.MAX_DEPTH:
            # The rest is not read: it could be as deep as it likes.
            text = f"this is nested more than {self._core.MAX_DEPTH} levels"
            self._fault(event, text)
            raise FaultsError(sorted(self.faults))
        if isinstance(event, self._yaml.ScalarEvent):
            return Node(self._scalar(event), mark.line, mark.column)
        if isinstance(event, self._yaml.SequenceStartEvent):
            items: list[Node] = []
            for item in self._events:
                if isinstance(item, self._yaml.SequenceEndEvent):
                    break
                items.append(self._node(item, depth + 1))
            return Node(items, mark.line, mark.column)
        return self._mapping(mark, depth)

    def _mapping(self, mark: Any, depth: int) -> Node:
        node = Node({}, mark.line, mark.column)
        for event in self._events:
            if isinstance(event, self._yaml.MappingEndEvent):
                break
            name = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if not isinstance(event, self._yaml.ScalarEvent):
                self._fault(event, "a name is text")
                continue
            # A name is text, whatever else it looks like.
            text = event.value
            if text in node.value:
                self._fault(event, f"{show(text, 60)} stands here twice")
                continue
            node.value[text] = value
            node.names[text] = (name.line, name.column)
        return node

    def _scalar(self, event: Any) -> object:
        text: str = event.value
        if not event.implicit[0]:
            return text
        for kind, pattern in self._core.SCALARS.items():
            if pattern.match(text) is not None:
                return self._value(event, kind, text)
        return text

    def _value(self, event: Any, kind: str, text: str) -> object:
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        try:
            return self._core.number(kind, text)
        except ValueError:
            self._fault(event, "this number has too many digits")
            return 0

    def _fault(self, event: Any, text: str) -> None:
        mark = event.start_mark
        self.faults.append((mark.line, mark.column, text))
