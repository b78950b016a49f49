"""Dependencies between the tasks of a workflow: they grow, and never get a ring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, TypeAlias

from taskorch.core.workflows import _graph

#: The parents of each task: ordered sets. Most are tuples, as at first; one that has
#: grown since is a dict.
After: TypeAlias = dict[str, tuple[str, ...] | dict[str, None]]


class Dependencies:
    """
    The parents of each task of a workflow.

    Attributes:
        after: The parents by task; read only.
        awaited: Names that no task has yet, and the tasks that wait for them.
    """

    __slots__ = ("_graph", "_is_shared", "_needed", "after", "awaited")

    def __init__(self) -> None:
        self.after: After = {}
        self.awaited: dict[str, list[str]] = {}
        #: Tasks that others wait for, or have waited for; None: not computed yet.
        self._needed: set[str] | None = None
        #: Whether a run shares `after`: it is copied before it changes.
        self._is_shared = False
        #: The same graph for networkx, once a ring had to be looked for.
        self._graph: Any = None

    def copy(self) -> Dependencies:
        """Return a copy that can be changed on its own."""
        copy = Dependencies()
        copy.after = dict(self.shared())
        copy._is_shared = True
        copy.awaited = {name: [*waits] for name, waits in self.awaited.items()}
        return copy

    def shared(self) -> Mapping[str, tuple[str, ...] | dict[str, None]]:
        """Return the parents of each task, frozen: later changes go into a copy."""
        self._is_shared = True
        return self.after

    def _own(self) -> None:
        """Copy shared data before the parents of tasks are changed."""
        if self._is_shared:
            self._is_shared = False
            self.after = {
                name: dict(above) if isinstance(above, dict) else above
                for name, above in self.after.items()
            }

    def add(self, name: str, parents: Iterable[str], *, check: bool = True) -> None:
        """
        Add a task, which waits for *parents*; others may wait for it already.

        A caller that sets *check* to False looks for rings when all tasks are added.

        Raises:
            CycleError: One of *parents* waits for it; nothing has changed.
        """
        if name in self.awaited:
            if check:
                self._refuse_ring(name, parents)
            del self.awaited[name]
        if self._is_shared:
            self._own()
        self.after[name] = above = tuple(parents)
        for parent in above:
            if parent not in self.after:
                self.awaited.setdefault(parent, []).append(name)
        if self._needed is not None:
            self._needed.update(above)
        if self._graph is not None:
            self._graph.add_node(name)
            self._graph.add_edges_from((parent, name) for parent in above)

    def _refuse_ring(self, name: str, parents: Iterable[str]) -> None:
        """
        Refuse the task *name*, for which others wait, if one of *parents* does.

        Raises:
            CycleError: It does, however indirectly.
        """
        for parent in parents:
            if self.after.get(parent):
                ring = _graph.path(self._digraph(), name, parent)
                if ring:
                    raise _graph.ring_error(ring[::-1])

    def _digraph(self) -> Any:
        if self._graph is None:
            self._graph = _graph.digraph(self.after)
        return self._graph

    def connect(self, parent: str, child: str, *, check: bool = True) -> bool:
        """
        Make *child* come after *parent*; False if it does already.

        Raises:
            CycleError: It comes before *parent*, however indirectly.
        """
        if parent == child:
            raise _graph.ring_error((child,))
        above = self._growing(child)
        if parent in above:
            return False
        if check:
            if self._needed is None:
                self._needed = set(chain.from_iterable(self.after.values()))
            # No ring is possible if nobody waits for the one, or the other waits for
            # nobody.
            if child in self._needed and self.after[parent]:
                ring = _graph.path(self._digraph(), child, parent)
                if ring:
                    raise _graph.ring_error(ring[::-1])
        above[parent] = None
        if self._needed is not None:
            self._needed.add(parent)
        if self._graph is not None:
            self._graph.add_edge(parent, child)
        return True

    def disconnect(self, edges: Iterable[tuple[str, str]]) -> None:
        """Take back edges of `connect`: pairs of a parent and a child."""
        for parent, child in edges:
            del self._growing(child)[parent]
            if self._graph is not None:
                self._graph.remove_edge(parent, child)

    def _growing(self, name: str) -> dict[str, None]:
        """Return the parents of a task, to be added to."""
        self._own()
        above = self.after[name]
        if isinstance(above, tuple):
            above = self.after[name] = dict.fromkeys(above)
        return above

    def put_last(self, name: str) -> None:
        """Move a task behind all others in their order."""
        self._own()
        self.after[name] = self.after.pop(name)
