"""
Schedules: tasks and workflows that are submitted again and again, at set times.

1. Cron is read by cronsim, which follows Debian's at the changes of clocks; zones are
   those of `zoneinfo`.
2. A tick is named by its time in UTC, and its task by the tick: so it cannot run twice.
3. The definition of a schedule and its times know no clock: `orch.schedules` asks, and
   submits the tasks.

- `_manager`, `_standing`: `orch.schedules`: its methods; the status of a schedule.
- `_controller`: asks by time, and as runs end, which ticks are due.
- `_backfills`: begins the runs of backfills.
- `_ticks`: submits the task or run of each tick, or says why not.
- `_book`: the schedules and backfills that there are, as the journal keeps them.
- `_entry`: a schedule with its times; the order to make the work of a tick.
- `_host`: the interface of schedules to an orchestrator, or to a simulation.
- `_backfill`: past ticks that are run, a few at a time, and their progress.
- `_definition`: the definition of a schedule, as a value and as a document.
- `_times`: the times of its ticks: by cron's rules, or at equal distances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskorch.ext.schedules._backfill import Backfilled as Backfilled
from taskorch.ext.schedules._definition import (
    Importable as Importable,
    read_definition as read_definition,
)
from taskorch.ext.schedules._times import TickTimes as TickTimes, tick_name as tick_name
from taskorch.kit import load_late as _load_late

if TYPE_CHECKING:
    from taskorch.ext.schedules._host import SimulationHost as SimulationHost
    from taskorch.ext.schedules._manager import (
        ScheduleManager as ScheduleManager,
        schedules_of as schedules_of,
        wait_for_backfills as wait_for_backfills,
    )
    from taskorch.ext.schedules._standing import ScheduleStatus as ScheduleStatus

#: The module of each name that is loaded once somebody asks for it.
_LATE = {
    "SimulationHost": "_host",
    "ScheduleManager": "_manager",
    "ScheduleStatus": "_standing",
    "schedules_of": "_manager",
    "wait_for_backfills": "_manager",
}

if not TYPE_CHECKING:
    __getattr__, __dir__ = _load_late(__name__, _LATE)
