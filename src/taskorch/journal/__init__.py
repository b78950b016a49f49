"""Where events are kept. A journal stores facts and knows nothing of tasks."""

from importlib import import_module
from typing import TYPE_CHECKING

from taskorch.journal._memory import MemoryJournal as MemoryJournal

if TYPE_CHECKING:
    from taskorch.journal._sqlite import SqliteJournal as SqliteJournal


def __getattr__(name: str) -> object:
    # SQLite is loaded by those who use it.
    if name == "SqliteJournal":
        found = import_module("taskorch.journal._sqlite").SqliteJournal
        globals()[name] = found
        return found
    msg = f"module 'taskorch.journal' has no attribute {name!r}"
    raise AttributeError(msg)
