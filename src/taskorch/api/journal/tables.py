"""The parts of a journal in the tables of another database, for its authors."""

from typing import TYPE_CHECKING

from taskorch.kit import give_again as _give_again

if TYPE_CHECKING:
    from taskorch.core.journal.tables import *
else:
    __getattr__, __dir__ = _give_again(__name__, "taskorch.core.journal.tables")
