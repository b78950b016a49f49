"""
Forecasts of the end of tasks that wait or run: `TaskOrchestrator.when`.

All unfinished tasks are put into a kernel in virtual time, as they stand, and carried
out again and again with durations that are drawn from measured ones.

- `_work`: all unfinished tasks, and the means to do them.
- `_unforeseen`: the parts of the present state that no draw simulates.
- `_draws`: random durations and failures of attempts, from the measured ones.
- `_course`: one draw: the open tasks, carried out in virtual time.
- `_ends`: the end of some tasks, in each of many draws.
- `_promise`: the forecast for a task or a run.
- `_changes`: forecasts with changed priorities, pools or order.
- `_record`: the record of how many promises have held.

Decision: forecasts.
"""

from taskorch.ext.simulation._open._changes import (
    in_time as in_time,
    what_if as what_if,
)
from taskorch.ext.simulation._open._promise import (
    at_risk as at_risk,
    promise as promise,
)
