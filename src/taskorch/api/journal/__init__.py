"""
Journals of events: in memory, in a file, in the tables of a database.

All of this is given again from the room of the core that is named so. A program makes
one, and hands it to its orchestrator. For authors of a journal there are `encode`,
`decode` and `document`.

- `tables`: the parts of a journal in the tables of another database.
"""

from typing import TYPE_CHECKING

from taskorch.kit import give_again as _give_again

if TYPE_CHECKING:
    from taskorch.core.journal import *
else:
    __getattr__, __dir__ = _give_again(__name__, "taskorch.core.journal")
