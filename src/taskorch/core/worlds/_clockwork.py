"""
Virtual time: the agenda of coming actions, and the one driver of a simulated kernel.

Decision: simulation.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import repeat
from typing import Any, Final, TypeAlias

from taskorch.core.kernel import Effect, Kernel, TaskRow, is_alive

#: The beginning of virtual time, in ns: the first of January 2026.
BEGINNING: Final = 1_767_225_600_000_000_000

#: `(when, number, act, subject, idle)`: *act* is called with *subject*.
Coming: TypeAlias = tuple[int, int, Callable[[Any], object], Any, bool]


class Agenda:
    """
    The agenda of coming actions, in order of time, and of entry at one instant.

    An *idle* action (a heartbeat, say) comes again and again; a run may end before it.
    """

    __slots__ = ("_cancelled", "_number", "heap", "now", "pressing")

    def __init__(self, now: int = BEGINNING) -> None:
        #: The time in ns.
        self.now: int = now
        self.heap: list[Coming] = []
        #: The number of coming actions that are not idle.
        self.pressing: int = 0
        self._number: int = 0
        #: Actions on the heap that are cancelled.
        self._cancelled: dict[int, None] = {}

    def at(
        self,
        when: int,
        act: Callable[[Any], object],
        subject: Any = None,
        *,
        idle: bool = False,
    ) -> int:
        """Plan to call *act* with *subject* at *when*; return a number for `cancel`."""
        self._number += 1
        if not idle:
            self.pressing += 1
        heappush(self.heap, (when, self._number, act, subject, idle))
        return self._number

    def cancel(self, number: int) -> None:
        """Cancel the coming action of this number, which is not idle."""
        self._cancelled[number] = None
        self.pressing -= 1

    def next_due(self) -> int | None:
        """Return the time of the next action, if there is one."""
        heap, cancelled = self.heap, self._cancelled
        while cancelled and heap and heap[0][1] in cancelled:
            del cancelled[heappop(heap)[1]]
        return heap[0][0] if heap else None

    def carry_out(self, most: int = sys.maxsize) -> bool:
        """Carry out what is due; return False if that were more than *most* actions."""
        now, cancelled = self.now, self._cancelled
        for _ in repeat(None, most):
            # An action may add others.
            heap = self.heap
            if not heap or heap[0][0] > now:
                return True
            _, number, act, subject, idle = heappop(heap)
            if number in cancelled:
                del cancelled[number]
                continue
            if not idle:
                self.pressing -= 1
            act(subject)
        return False

    def forget(self, owner: object) -> None:
        """Remove the coming actions that are methods of *owner*."""
        self.heap = [
            coming
            for coming in self.heap
            if coming[1] not in self._cancelled
            and getattr(coming[2], "__self__", None) is not owner
        ]
        heapify(self.heap)
        self._cancelled.clear()
        self.pressing = sum(not coming[4] for coming in self.heap)


class Clockwork(ABC):
    """
    A kernel in virtual time, which is driven as the runtime drives it.

    A step is all that is due at an instant: the timers of the kernel, then the actions
    of the agenda, then what the kernel decides. A subclass carries decisions out: an
    incarnation with workers and a journal, a forecast with durations alone.
    """

    kernel: Kernel
    timeline: Agenda
    #: The clock of the process is so many ns ahead of the truth.
    shift_ns: int = 0

    def now(self) -> int:
        """Return the time in ns by the clock of the process."""
        return self.timeline.now + self.shift_ns

    def next_due(self) -> int | None:
        """Return the time of the next timer or action, if there is one."""
        coming, timers = self.timeline.next_due(), self.kernel.timers
        while timers:
            if is_alive(timers[0]):
                due = timers[0][0] - self.shift_ns
                return due if coming is None else min(due, coming)
            heappop(timers)
        return coming

    def begin(self) -> None:
        """Begin a step: let the kernel do what is due by now."""
        if self.kernel.timers:
            self.kernel.tick(self.now())

    def settle(self) -> None:
        """End a step: let the kernel choose, and carry out what it decides."""
        kernel = self.kernel
        if kernel.open or kernel.returning or kernel.growing or kernel.spent:
            kernel.dispatch(self.timeline.now + self.shift_ns)
        self.tidy()
        if kernel.effects:
            effects, kernel.effects = kernel.effects, []
            for effect in effects:
                self.see_to(effect)
        if kernel.starts:
            starts, kernel.starts = kernel.starts, []
            self.launch(starts)

    @abstractmethod
    def tidy(self) -> None:
        """Take note of the tasks that the step has touched, and of its events."""

    @abstractmethod
    def see_to(self, effect: Effect) -> None:
        """Carry out an effect that is no start, now or later."""

    @abstractmethod
    def launch(self, starts: list[TaskRow]) -> None:
        """Begin the attempts of the tasks that the kernel has started."""
