"""Who holds what is short: found by a search with a bound."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Final, TypeAlias

from taskorch.kernel._application import is_under_way
from taskorch.kernel._rows import AgentRow, TaskRow
from taskorch.kernel._state import KernelState
from taskorch.model import TaskState

#: Tasks that are looked at, from the oldest on and from the youngest on: what runs is
#: mostly among the oldest that have not ended, and 10,000 that have ended are kept.
REACH: Final = 20_000
#: Holders that are named.
NAMED: Final = 100
_HOLDING: Final = (TaskState.RUNNING, TaskState.SUSPENDED)

#: Names, and what each holds: slots, or units of a resource.
Held: TypeAlias = list[tuple[str, int]]


class Holders:
    """
    The attempts that hold something, looked for as far as a question needs it.

    The kernel keeps no list of them, since that would cost every start. Where more
    than twice `REACH` tasks are in memory, some may be missing.
    """

    def __init__(self, kernel: KernelState) -> None:
        self._kernel = kernel
        #: By agent; None is all.
        self._found: dict[AgentRow | None, list[TaskRow]] = {None: []}
        self._search = self._find_next()

    def rows(self, agent: AgentRow | None = None) -> Iterator[TaskRow]:
        """The tasks with an attempt under way, of *agent* or of all."""
        found = self._found.setdefault(agent, [])
        number = 0
        while True:
            while number == len(found):
                if not next(self._search, False):
                    return
            yield found[number]
            number += 1

    def _find_next(self) -> Iterator[bool]:
        """Find one more; whether there was one."""
        kernel = self._kernel
        tasks = kernel.tasks.values()
        seen: dict[TaskRow, None] = {}
        # What has not been found yet: tasks that run, and slots of those that do not.
        running = kernel.active
        slots = kernel.running - sum(leak.slots for leak in kernel.leaked.values())
        for rows in (islice(tasks, REACH), islice(reversed(tasks), REACH)):
            for row in rows:
                if not running and not slots:
                    return
                if row.state not in _HOLDING or row in seen or not is_under_way(row):
                    continue
                seen[row] = None
                running -= row.state is TaskState.RUNNING
                slots -= row.extra is None or not row.extra.yielded
                self._found[None].append(row)
                self._found.setdefault(row.agent, []).append(row)
                yield True

    def of_slots(self, need: int, agent: AgentRow | None = None) -> Held:
        """Who has slots, of *agent* or of all: enough for *need*, and some more."""
        held = (
            (row.id, 1)
            for row in self.rows(agent)
            if not (row.extra is not None and row.extra.yielded)
        )
        leaked = (
            (_leaked(*key), leak.slots)
            for key, leak in self._kernel.leaked.items()
            if leak.slots and (agent is None or leak.agent is agent)
        )
        return _some(chain(held, leaked), need)

    def of(self, name: str, need: int, agent: AgentRow | None = None) -> Held:
        """Who holds the resource *name*, of *agent* or of all: as `of_slots`."""
        held = (
            (row.id, units)
            for row in self.rows(agent)
            for key, units in row.alloc
            if key == name
        )
        leaked = (
            (_leaked(*at), units)
            for at, leak in self._kernel.leaked.items()
            if agent is None or leak.agent is agent
            for key, units in leak.alloc
            if key == name
        )
        return _some(chain(held, leaked), need)


def _some(held: Iterator[tuple[str, int]], need: int) -> Held:
    """So many that there are enough to be named, and that together hold *need*."""
    found: Held = []
    for pair in held:
        found.append(pair)
        need -= pair[1]
        if need <= 0 and len(found) >= NAMED:
            break
    return found


def _leaked(task_id: str, attempt: int) -> str:
    return f"{task_id} (attempt {attempt}, which would not stop)"


def enough(held: Held, need: int) -> tuple[str, ...]:
    """Of those who hold something, some whose end frees *need*; few, if possible."""
    chosen: list[str] = []
    # The largest first; of equals, the first.
    for name, units in sorted(held, key=lambda pair: -pair[1]):
        if need <= 0:
            break
        chosen.append(name)
        need -= units
    return tuple(chosen)
