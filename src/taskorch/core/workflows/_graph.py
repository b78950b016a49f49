"""
Questions about dependencies; the tasks that the nodes of a graph stand for.

A graph is a mapping here: the parents of each task. Questions that need more than one
walk along it are left to networkx, which takes 0.2 s to import.
"""

from __future__ import annotations

import graphlib
import re
from collections import deque
from collections.abc import Collection, Container, Hashable, Iterable, Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from taskorch.errors import CycleError, InvalidTaskError
from taskorch.kit.checks import find_ring
from taskorch.kit.visible import show
from taskorch.model import Task
from taskorch.model.ids import has_number, id_problem

if TYPE_CHECKING:
    import networkx as nx


#: The parents of each task.
Parents: TypeAlias = Mapping[str, Collection[str]]
#: A ring of tasks, each of which needs the next, and the last the first.
Ring: TypeAlias = tuple[str, ...]

#: The most names of a ring that a message shows.
_SHOWN: Final = 10
#: Dependencies that the search for the shortest ring looks at.
_BUDGET: Final = 1_000_000


class ParentsView(Mapping[str, tuple[str, ...]]):
    """A view of the parents of each task."""

    __slots__ = ("_after",)

    def __init__(self, after: Parents) -> None:
        self._after = after

    def __getitem__(self, task_id: str) -> tuple[str, ...]:
        return tuple(self._after[task_id])

    def __iter__(self) -> Iterator[str]:
        return iter(self._after)

    def __len__(self) -> int:
        return len(self._after)


def order(parents: Parents) -> list[str]:
    """Return the tasks, each after its parents; the same graph, the same order."""
    return list(graphlib.TopologicalSorter(parents).static_order())


def layers(parents: Parents) -> list[list[str]]:
    """Return the tasks by the number of tasks on the longest way to them."""
    depth: dict[str, int] = {}
    by_depth: list[list[str]] = []
    for name in order(parents):
        level = 1 + max((depth[parent] for parent in parents[name]), default=-1)
        depth[name] = level
        if level == len(by_depth):
            by_depth.append([])
        by_depth[level].append(name)
    return by_depth


def longest_path(parents: Parents, among: Container[str]) -> tuple[str, ...]:
    """Return the longest chain *among* some tasks; the first of several."""
    length: dict[str, int] = {}
    before: dict[str, str | None] = {}
    best: str | None = None
    for name in order(parents):
        if name not in among:
            continue
        above = [parent for parent in parents[name] if parent in length]
        last = max(above, key=length.__getitem__, default=None)
        before[name] = last
        length[name] = 1 + (0 if last is None else length[last])
        if best is None or length[name] > length[best]:
            best = name
    chain: list[str] = []
    while best is not None:
        chain.append(best)
        best = before[best]
    return tuple(reversed(chain))


def digraph(parents: Parents) -> nx.DiGraph:
    """Return the same graph for networkx: edges lead from parents to children."""
    import networkx as nx  # noqa: PLC0415 - 0.2 s, for those only who need it

    graph = nx.DiGraph()
    graph.add_nodes_from(parents)
    graph.add_edges_from((p, name) for name, above in parents.items() for p in above)
    return graph


def path(graph: nx.DiGraph, start: str, goal: str) -> tuple[str, ...]:
    """Return the shortest way along the edges of *graph*, or nothing."""
    import networkx as nx  # noqa: PLC0415 - as above

    try:
        return tuple(nx.bidirectional_shortest_path(graph, start, goal))
    except nx.NetworkXNoPath:
        return ()


def refuse_rings(parents: Parents) -> None:
    """
    Refuse a graph in which tasks wait for each other.

    Raises:
        CycleError: They do; the shortest ring is named.
    """
    if find_ring(parents):
        raise ring_error(_shortest_ring(parents))


def ring_error(ring: Ring) -> CycleError:
    """Return the error about *ring*."""
    if len(ring) == 1:
        return CycleError(
            f"task {ring[0]!r} waits for itself",
            cycle=ring,
            hint="leave it out of its own `after` and arguments",
        )
    shown = list(ring[:_SHOWN])
    if len(ring) > _SHOWN:
        shown.append(f"… ({len(ring) - _SHOWN:,} more)")
    msg = f"tasks wait for each other in a ring: {' → '.join((*shown, ring[0]))}"
    return CycleError(msg, cycle=ring)


def _shortest_ring(parents: Parents) -> Ring:
    """
    Return the shortest ring of a graph that has one.

    In a huge knot of rings it is the shortest that was found within bounds.
    """
    import networkx as nx  # noqa: PLC0415 - as above

    for name, above in parents.items():
        if name in above:
            return (name,)
    best: Ring = ()
    budget = _BUDGET
    place = {name: number for number, name in enumerate(parents)}
    knots: Any = nx.strongly_connected_components(digraph(parents))
    for knot in sorted((k for k in knots if len(k) > 1), key=len):
        names = sorted(knot, key=place.__getitem__)
        if sum(p in knot for name in names for p in parents[name]) == len(names):
            # The graph is nothing but a ring, which goes through any of them.
            del names[1:]
        for name in names:
            ring, looks = _ring_through(parents, knot, name, len(best))
            budget -= looks
            best = ring or best
            if len(best) == 2 or (best and budget < 0):  # noqa: PLR2004 - none is shorter
                return best
    return best


def _ring_through(
    parents: Parents, knot: Container[str], name: str, below: int
) -> tuple[Ring, int]:
    """
    Return the shortest ring through *name*, if it is shorter than *below* (0: any).

    Returns:
        The ring, and the number of dependencies that were looked at.
    """
    came: dict[str, str] = {}
    length = {name: 1}
    todo = deque([name])
    looks = 0
    while todo:
        at = todo.popleft()
        if below and length[at] >= below:
            break
        for parent in parents[at]:
            looks += 1
            if parent == name:
                ring = [at]
                while ring[-1] != name:
                    ring.append(came[ring[-1]])
                return tuple(reversed(ring)), looks
            if parent in knot and parent not in length:
                length[parent] = length[at] + 1
                came[parent] = at
                todo.append(parent)
    return (), looks


_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.]+")
#: The most characters of a generated part: the whole id has room for more.
_MOST: Final = 100
_SIMPLE: Final = (str, int, float, complex, bytes, type(None))


def ids_of(
    nodes: Iterable[Hashable], own_ids: Mapping[Hashable, str | None]
) -> dict[Hashable, str]:
    """
    Return an id for each of *nodes*, and none twice.

    A text that is an id stands for itself, and a node whose task has an id has that
    one. Any other node is put into words: a number or an object with a text of its own
    as that text; an Enum as its name; a tuple or a set as its parts, with "-" between
    them; anything else as its class. Other characters become "-", and where two come to
    the same, the later one in the order of the graph gets "-2", "-3", ….
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
    """Return *node* as a text that is the same in every run."""
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
    Return the tasks of a graph, each after its predecessors; and the nodes' ids.

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
