"""
When work that waits or runs will end: `TaskOrchestrator.when`.

All that is open is put into a kernel in virtual time, as it stands, and carried out
again and again with durations that are drawn from what was measured.

- `_work`: all that has not ended, and what there is to do it with.
- `_draws`: how long attempts take, as far as the measured ones say.
- `_course`: one draw: what is open, carried out in virtual time.
- `_ends`: when what is asked for ends, in each of many draws.
- `_promise`: when a task or a run ends: the question, and its answer.
- `_changes`: what changes would do to it.
- `_record`: how many of the promises that were made have held.

Decisions: 0306, 0307.
"""

from taskorch.simulation._open._changes import in_time as in_time
from taskorch.simulation._open._changes import what_if as what_if
from taskorch.simulation._open._promise import promise as promise
