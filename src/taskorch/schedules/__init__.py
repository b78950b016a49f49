"""
Schedules: when something is made again and again, and what.

1. Cron is read by cronsim, which follows Debian's at the changes of clocks; zones are
   those of `zoneinfo`.
2. A slot is named by its time in UTC, and its task by the slot: so it cannot run twice.
3. Here is no clock. What asks, and makes the tasks, is `orch.schedules`.

- `_backfill`: past ticks that are run, a few at a time, and how far that came.
- `_definition`: what a schedule is, as a value and as a document.
- `_times`: when its slots are: by cron's rules, or at equal distances.
"""

from taskorch.schedules._backfill import MOST_AT_ONCE as MOST_AT_ONCE
from taskorch.schedules._backfill import ORDERS as ORDERS
from taskorch.schedules._backfill import Backfill as Backfill
from taskorch.schedules._backfill import Backfilled as Backfilled
from taskorch.schedules._backfill import BackfillStatus as BackfillStatus
from taskorch.schedules._backfill import TickRun as TickRun
from taskorch.schedules._backfill import read_backfill as read_backfill
from taskorch.schedules._definition import ORIGIN as ORIGIN
from taskorch.schedules._definition import Definition as Definition
from taskorch.schedules._definition import Importable as Importable
from taskorch.schedules._definition import Work as Work
from taskorch.schedules._definition import define as define
from taskorch.schedules._definition import of_workflow as of_workflow
from taskorch.schedules._definition import read_definition as read_definition
from taskorch.schedules._times import SlotTimes as SlotTimes
from taskorch.schedules._times import moment_ns as moment_ns
from taskorch.schedules._times import slot_name as slot_name
