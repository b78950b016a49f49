"""
The controller of schedules, which asks by time which ticks are due.

Decision: schedules.
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
from taskorch.ext.schedules._backfill import NOT_YET
from taskorch.ext.schedules._host import CONTROLLER, ScheduleHost
from taskorch.kit.frozen import frozen
from taskorch.kit.limits import NS
from taskorch.model.ids import first_of, stem_of

if TYPE_CHECKING:
    from taskorch.ext.schedules._backfills import BackfillRuns
    from taskorch.ext.schedules._book import ScheduleBook
    from taskorch.ext.schedules._entry import LiveSchedule
    from taskorch.ext.schedules._ticks import Ticks
    from taskorch.protocols import DriverView

#: The system's clock counts as set back if it goes back so far, in ns.
_AHEAD: Final = NS
#: Events after which a run may have ended, be blocked, or go on. If some were lost, all
#: runs are looked at.
_CHANGES: Final = (
    *(TaskCompleted, TaskFailed, TaskCancelled, TaskBlocked, TaskUnblocked),
    EventsLost,
)


class AwaitedRuns:
    """
    The tasks and runs that are waited for; the controller wakes when one changes.

    It listens to events only while there are some.
    """

    def __init__(self, host: ScheduleHost) -> None:
        self._host = host
        self._ids: frozenset[str] = frozenset()
        #: The ids that have changed since the last look.
        self._changed: deque[str] = deque()

    def only(self, ids: Iterable[str]) -> set[str]:
        """
        Wait for *ids* alone from now on.

        Returns:
            The ids to look at, which have changed or are new here.
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
            self._host.orch.drivers.wake(CONTROLLER)


@frozen
class _CarryOut:
    """The command of the controller: make due ticks, and go on with backfills."""

    ticks: Ticks
    entries: list[LiveSchedule]
    backfills: BackfillRuns
    backfill_ids: list[str]
    wall_ns: int

    def apply(self, _orchestrator: Any, /) -> None:
        """Carry out the command."""
        if self.entries:
            self.ticks.make_due(self.entries, self.wall_ns)
        self.backfills.work_off(self.backfill_ids, self.wall_ns)


class ScheduleController:
    """The controller of schedules: see `taskorch.protocols.Driver`."""

    name: str = CONTROLLER
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
        #: The latest time of the system's clock, since it was set back.
        self._latest = 0

    def __deepcopy__(self, _memo: object) -> ScheduleController:
        _, _, book, *_ = self._parts
        book.reset()
        return ScheduleController(*self._parts)

    def tick(
        self, view: DriverView, now: float
    ) -> tuple[list[_CarryOut], float | None]:
        """Ask which ticks are due by the system's clock."""
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
        # The command plans the next ticks, so that the next time is asked after it.
        command = _CarryOut(ticks, entries, backfills, backfill_ids, wall_ns)
        return [command], now + 0.001

    def _due(self, now: int) -> tuple[list[LiveSchedule], list[str], list[int]]:
        """
        Return the due work by *now*, of the system's clock, and the next time of any.

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
