"""
What asks by time which ticks are due: the driver of schedules.

Decisions: 0084, 0276.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from taskorch.events import (
    EventsLost,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskUnblocked,
    signal_name,
)
from taskorch.kit.frozen import frozen
from taskorch.kit.limits import NS
from taskorch.model.ids import first_of, stem_of
from taskorch.schedules._backfill import NOT_YET
from taskorch.schedules._host import DRIVER, ScheduleHost

if TYPE_CHECKING:
    from taskorch.protocols import DriverView
    from taskorch.schedules._backfills import BackfillRuns
    from taskorch.schedules._book import ScheduleBook
    from taskorch.schedules._entry import LiveSchedule
    from taskorch.schedules._ticks import Ticks

#: How far back the system's clock must go to be set back, in ns.
_AHEAD: Final = NS
#: With the last event of these, a run ends, is blocked, or goes on. Who has lost some
#: looks at all.
_CHANGES: Final = (
    *(TaskCompleted, TaskFailed, TaskCancelled, TaskBlocked, TaskUnblocked),
    EventsLost,
)


class AwaitedRuns:
    """
    The tasks and runs that something waits for: the driver wakes when one changes.

    Events are heard only while there are some.
    """

    def __init__(self, host: ScheduleHost) -> None:
        self._host = host
        self._ids: frozenset[str] = frozenset()
        #: Those that have changed, and were not looked at since.
        self._changed: deque[str] = deque()

    def only(self, ids: Iterable[str]) -> set[str]:
        """
        Wait for *ids* alone from now on.

        Returns:
            Those to look at: they have changed, or are new here.
        """
        before, self._ids = self._ids, frozenset(ids)
        changed = {*(self._ids - before)}
        while self._changed:
            changed.add(self._changed.popleft())
        if bool(before) != bool(self._ids):
            signals = self._host.orch.signals
            for cls in _CHANGES:
                signal = getattr(signals, signal_name(cls))
                (signal.connect if self._ids else signal.disconnect)(self._hear)
        return changed

    def _hear(self, event: Any) -> None:
        if isinstance(event, EventsLost):
            changed = [*self._ids]
        else:
            stem = stem_of(event.task_id)
            changed = [each for each in (stem, first_of(stem)) if each in self._ids]
        if changed:
            self._changed += changed
            self._host.orch.drivers.wake(DRIVER)


@frozen
class _CarryOut:
    """The command of the driver: make what is due, and go on with backfills."""

    ticks: Ticks
    entries: list[LiveSchedule]
    backfills: BackfillRuns
    backfill_ids: list[str]
    wall_ns: int

    def apply(self, _orchestrator: Any, /) -> None:
        """Do it."""
        if self.entries:
            self.ticks.make_due(self.entries, self.wall_ns)
        self.backfills.work_off(self.backfill_ids, self.wall_ns)


class ScheduleDriver:
    """Looks what is due: see `taskorch.protocols.Driver`."""

    name: str = DRIVER
    watches: tuple[Any, ...] = ()

    def __init__(
        self,
        rests: Callable[[], bool],
        host: ScheduleHost,
        book: ScheduleBook,
        ticks: Ticks,
        backfills: BackfillRuns,
    ) -> None:
        self._parts = rests, host, book, ticks, backfills
        self._awaited = AwaitedRuns(host)
        #: The latest that the system's clock has shown, since it was set back.
        self._latest = 0

    def __deepcopy__(self, _memo: object) -> ScheduleDriver:
        _, _, book, *_ = self._parts
        book.reset()
        return ScheduleDriver(*self._parts)

    def tick(
        self, view: DriverView, now: float
    ) -> tuple[list[_CarryOut], float | None]:
        """Look what is due by the system's clock."""
        rests, _, book, ticks, backfills = self._parts
        if rests():
            return [], None
        wall_ns = round(view.wall * 1_000_000) * 1_000
        if not self._latest or wall_ns < self._latest - _AHEAD:
            book.set_back(wall_ns)
            self._latest = 0
        self._latest = max(self._latest, wall_ns)
        gone = book.say_what_is_gone(wall_ns)
        entries, backfill_ids, coming = self._due(wall_ns)
        if gone is not None:
            coming.append(gone)
        if not (entries or backfill_ids):
            return [], now + (min(coming) - wall_ns) / NS if coming else None
        # What is planned by the command is asked for after it.
        command = _CarryOut(ticks, entries, backfills, backfill_ids, wall_ns)
        return [command], now + 0.001

    def _due(self, now: int) -> tuple[list[LiveSchedule], list[str], list[int]]:
        """
        Look what is due by *now*, of the system's clock, and when something is next.

        Returns:
            The schedules, the ids of backfills, and times in ns.
        """
        _, _, book, *_ = self._parts
        with book.lock:
            due, coming = book.come_due(now), book.next_due()
            waiting = [
                entry
                for entry in book.schedules().values()
                if entry.waiting and not (entry.definition.paused or entry.renamed)
            ]
            backfills = [each for each in book.backfills().values() if each.is_open]
            awaited = {made_id for entry in waiting for made_id in entry.made}
            awaited.update(*(each.runs for each in backfills))
            changed = self._awaited.only(awaited)
            for entry in waiting:
                if not changed.isdisjoint(entry.made):
                    book.forget_ended(entry)
                if not entry.made and now >= entry.again_ns:
                    due[entry.definition.name] = entry
                elif not entry.made:
                    coming.append(entry.again_ns)
            for backfill in backfills:
                if not changed.isdisjoint(backfill.runs):
                    backfill.look_ns = 0
                if now < backfill.look_ns < NOT_YET:
                    coming.append(backfill.look_ns)
            ids = [each.backfill_id for each in backfills if each.look_ns <= now]
            return [*due.values()], ids, coming
