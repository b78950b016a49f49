"""
Schedules: when something is made again and again, and what.

1. Cron is read by cronsim, which follows Debian's at the changes of clocks; zones are
   those of `zoneinfo`.
2. A tick is named by its time in UTC, and its task by the tick: so it cannot run twice.
3. What a schedule is, and when, knows no clock: `orch.schedules` asks, and makes the
   tasks.

- `_manager`, `_standing`: `orch.schedules`: its verbs; how a schedule stands.
- `_driver`: what asks by time, and as runs end, which ticks are due.
- `_backfills`: begins the runs of backfills.
- `_ticks`: makes what ticks are for, or says why not.
- `_book`: the schedules and backfills that there are, as the journal keeps them.
- `_entry`: a schedule with its times; what is to be made for a tick.
- `_host`: what schedules ask of an orchestrator, or of a simulation.
- `_backfill`: past ticks that are run, a few at a time, and how far that came.
- `_definition`: what a schedule is, as a value and as a document.
- `_times`: when its ticks are: by cron's rules, or at equal distances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taskorch.kit import load_late as _load_late
from taskorch.schedules._backfill import Backfilled as Backfilled
from taskorch.schedules._definition import Importable as Importable
from taskorch.schedules._definition import read_definition as read_definition
from taskorch.schedules._times import SlotTimes as SlotTimes
from taskorch.schedules._times import slot_name as slot_name

if TYPE_CHECKING:
    from taskorch.schedules._host import SimulationHost as SimulationHost
    from taskorch.schedules._manager import ScheduleManager as ScheduleManager
    from taskorch.schedules._manager import schedules_of as schedules_of
    from taskorch.schedules._manager import wait_for_backfills as wait_for_backfills
    from taskorch.schedules._standing import ScheduleStatus as ScheduleStatus

#: Where each name is that is loaded once somebody asks for it.
_WHERE: Final = {
    "SimulationHost": "_host",
    "ScheduleManager": "_manager",
    "ScheduleStatus": "_standing",
    "schedules_of": "_manager",
    "wait_for_backfills": "_manager",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        return _load_late(__name__, _WHERE, name)
