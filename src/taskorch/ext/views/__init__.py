"""
A journal read by others than its leader, whether an orchestrator runs or not.

    from taskorch.ext.views import JournalReader

    for status in JournalReader("runs.db").tasks("failed"):
        print(status.task_id, status.error)

The events are folded as a new incarnation would fold them, in a runtime that is never
started: nothing is written, decided or started. How a file or a table is read is in
`journal`.

- `_reader`: questions to a journal, answered by the code that answers an orchestrator.
- `_past`: a journal as of an earlier moment.
- `_runs`: the outcome of each run, folded from events.
- `_nights`: the grid of nights, the list of runs, one run: of an orchestrator, too.
- `_verdict`: the verdict on all schedules, and the entries that are late.
- `_why`: why a run, or the work of a schedule, is as it is.
"""

from typing import TYPE_CHECKING

from taskorch.kit import load_late as _load_late

if TYPE_CHECKING:
    from taskorch.ext.views._reader import (
        JournalOwner as JournalOwner,
        JournalReader as JournalReader,
        Outcomes as Outcomes,
    )

#: Names that are loaded at their first use, with their modules.
_LATE = dict.fromkeys(("JournalOwner", "JournalReader", "Outcomes"), "_reader")

if not TYPE_CHECKING:
    # Type checkers find the names in the imports above.
    __getattr__, __dir__ = _load_late(__name__, _LATE)
