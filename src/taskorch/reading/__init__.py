"""
What a journal says to others than its owner, while that runs or when nobody does.

    from taskorch.reading import JournalReader

    for status in JournalReader("runs.db").tasks("failed"):
        print(status.task_id, status.error)

The facts are folded as a new incarnation would, in a runtime that is never started:
nothing is written, decided or begun. How a file or a table is read is in `journal`.

- `_reader`: what a journal says, by the code that answers an orchestrator, if there is
  one.
- `_past`: a journal as it was.
- `_runs`: what became of each run, folded from events.
- `_nights`: the grid of nights, the list of runs, one run: of an orchestrator, too.
- `_why`: why a run, or what a schedule makes, is as it is.
"""

from typing import TYPE_CHECKING

from taskorch.kit import load_late as _load_late

if TYPE_CHECKING:
    from taskorch.reading._reader import JournalOwner as JournalOwner
    from taskorch.reading._reader import JournalReader as JournalReader
    from taskorch.reading._reader import Outcomes as Outcomes

#: What is loaded when it is first asked for, and the module that has it.
_LATE = dict.fromkeys(("JournalOwner", "JournalReader", "Outcomes"), "_reader")

if not TYPE_CHECKING:
    # Checkers have the names from the imports above, and no others.

    def __getattr__(name: str) -> object:
        return _load_late(__name__, _LATE, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
