"""The ids of the tasks that the nodes of a graph stand for."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from enum import Enum
from typing import Final

from taskorch.model import id_problem

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.]+")
#: Characters of what is made up: the whole id has room for more.
_MOST: Final = 100
_SIMPLE: Final = (str, int, float, complex, bytes, type(None))


def ids_of(
    nodes: Iterable[Hashable], given: Mapping[Hashable, str | None]
) -> dict[Hashable, str]:
    """
    An id for each of *nodes*, and none twice.

    A text that is an id stands for itself, and a node whose task has one has that. Any
    other is put into words: of a number or an object with a text of its own, that; of
    an Enum its name; of a tuple or a set its parts, with "-" between them; of anything
    else its class. What no id may have becomes "-", and where two come to the same, the
    later one in the order of the graph gets "-2", "-3", ….

    Args:
        nodes: In the order of the graph.
        given: The ids that their tasks have.
    """
    listed = list(nodes)
    found: dict[Hashable, str] = {}
    for node in listed:
        if isinstance(node, str) and id_problem(node) is None and "~" not in node:
            found[node] = node
        elif (own := given[node]) is not None:
            found[node] = own
    taken = set(found.values())
    for node in listed:
        if node not in found:
            words = _UNSAFE.sub("-", _in_words(node))[:_MOST].strip("-.") or "node"
            number, name = 1, words
            while name in taken or id_problem(name) is not None:
                number += 1
                name = f"{words}-{number}"
            taken.add(name)
            found[node] = name
    return {node: found[node] for node in listed}


def _in_words(node: object) -> str:
    """*node* as a text that is the same in every run."""
    if isinstance(node, Enum):
        return node.name
    if isinstance(node, _SIMPLE):
        return str(node)
    if isinstance(node, frozenset):
        # The order of a set differs from run to run.
        return "-".join(sorted(map(_in_words, node)))
    if isinstance(node, tuple):
        return "-".join(map(_in_words, node))
    cls = type(node)
    if cls.__str__ is object.__str__ and cls.__repr__ is object.__repr__:
        # Its default text contains a memory address, which differs from run to run.
        return cls.__name__
    return str(node)
