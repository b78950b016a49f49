"""Virtual time: a heap of what is to come."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, Final, TypeAlias

#: Where virtual time begins, in ns: the first of January 2026.
BEGINNING: Final = 1_767_225_600_000_000_000

#: `(when, number, act, subject, idle)`: *act* is called with *subject*.
Coming: TypeAlias = tuple[int, int, Callable[[Any], object], Any, bool]


class Agenda:
    """
    What is to come, in order of time, and of entry at one instant.

    What is *idle* (a heartbeat, say) comes again and again: a run ends in spite of it.
    """

    __slots__ = ("_cancelled", "_number", "heap", "now", "pressing")

    def __init__(self) -> None:
        #: The time in ns.
        self.now: int = BEGINNING
        self.heap: list[Coming] = []
        #: How much of what is to come is not idle.
        self.pressing: int = 0
        self._number: int = 0
        #: What is on the heap still, and will not happen.
        self._cancelled: dict[int, None] = {}

    def at(
        self,
        when: int,
        act: Callable[[Any], object],
        subject: Any = None,
        *,
        idle: bool = False,
    ) -> int:
        """Call *act* with *subject* at *when*; a number, to `cancel` it."""
        self._number += 1
        if not idle:
            self.pressing += 1
        heappush(self.heap, (when, self._number, act, subject, idle))
        return self._number

    def cancel(self, number: int) -> None:
        """What is not idle, has this number and is still to come will not happen."""
        self._cancelled[number] = None
        self.pressing -= 1

    def next_due(self) -> int | None:
        """Time of the next action, if there is one."""
        heap, cancelled = self.heap, self._cancelled
        while cancelled and heap and heap[0][1] in cancelled:
            del cancelled[heappop(heap)[1]]
        return heap[0][0] if heap else None

    def pop_due(self) -> Coming | None:
        """Remove and give what is due, if anything is."""
        due = self.next_due()
        if due is None or due > self.now:
            return None
        coming = heappop(self.heap)
        if not coming[4]:
            self.pressing -= 1
        return coming

    def forget(self, owner: object) -> None:
        """Remove what the methods of *owner* were to do."""
        self.heap = [
            coming
            for coming in self.heap
            if coming[1] not in self._cancelled
            and getattr(coming[2], "__self__", None) is not owner
        ]
        heapify(self.heap)
        self._cancelled.clear()
        self.pressing = sum(not coming[4] for coming in self.heap)
