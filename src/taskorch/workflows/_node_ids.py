"""The tasks that the nodes of a graph stand for, and their ids."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from enum import Enum
from typing import Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.model import Task, has_number, id_problem, show

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.]+")
#: Characters of what is made up: the whole id has room for more.
_MOST: Final = 100
_SIMPLE: Final = (str, int, float, complex, bytes, type(None))


def ids_of(
    nodes: Iterable[Hashable], own_ids: Mapping[Hashable, str | None]
) -> dict[Hashable, str]:
    """
    An id for each of *nodes*, and none twice.

    A text that is an id stands for itself, and a node whose task has one has that. Any
    other is put into words: of a number or an object with a text of its own, that; of
    an Enum its name; of a tuple or a set its parts, with "-" between them; of anything
    else its class. What no id may have becomes "-", and where two come to the same, the
    later one in the order of the graph gets "-2", "-3", ….
    """
    listed = list(nodes)
    ids: dict[Hashable, str] = {}
    for node in listed:
        if isinstance(node, str) and id_problem(node) is None and not has_number(node):
            ids[node] = node
        elif (own := own_ids[node]) is not None:
            ids[node] = own
    used = set(ids.values())
    for node in listed:
        if node not in ids:
            words = _UNSAFE.sub("-", _in_words(node))[:_MOST].strip("-.") or "node"
            number, name = 1, words
            while name in used or id_problem(name) is not None:
                number += 1
                name = f"{words}-{number}"
            used.add(name)
            ids[node] = name
    return {node: ids[node] for node in listed}


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


def tasks_of(graph: Any, attribute: str) -> tuple[list[Task], dict[Hashable, str]]:
    """
    The tasks of the nodes of a graph, each after its predecessors; and the nodes' ids.

    Raises:
        InvalidTaskError: It is no directed graph, or a node has no task.
    """
    if not (hasattr(graph, "is_directed") and graph.is_directed()):
        msg = f"a directed graph of networkx's is needed, not {show(graph)}"
        raise InvalidTaskError(msg, hint="networkx.DiGraph has edges with a direction")
    by_node: dict[Hashable, Task] = {}
    for node, data in graph.nodes(data=True):
        task = data.get(attribute)
        if callable(task):
            task = Task.call(task)
        if not isinstance(task, Task):
            msg = f"node {show(node)} has no task: its {attribute!r} is {show(task)}"
            hint = f"graph.add_node(name, {attribute}=Task(…)), or a function"
            raise InvalidTaskError(msg, hint=hint)
        if isinstance(node, str) and task.id not in (None, node):
            msg = f"node {show(node)} has a task with another id, {task.id!r}"
            raise InvalidTaskError(msg, hint="the name of a node is the id")
        by_node[node] = task
    ids = ids_of(by_node, {node: task.id for node, task in by_node.items()})
    tasks: list[Task] = []
    for node, task in by_node.items():
        above = dict.fromkeys(ids[parent] for parent in graph.predecessors(node))
        tasks.append(attrs.evolve(task, id=ids[node], after=(*task.after, *above)))
    return tasks, ids
