"""Where events are kept. A journal stores facts and knows nothing of tasks."""

from importlib import import_module
from typing import TYPE_CHECKING

from taskorch.journal._memory import MemoryJournal as MemoryJournal

if TYPE_CHECKING:
    from taskorch.journal._registered import register as register
    from taskorch.journal._sqlite import SqliteJournal as SqliteJournal

#: What is loaded by those who use it, and where it is.
_LATE = {"SqliteJournal": "_sqlite", "register": "_registered"}


def __getattr__(name: str) -> object:
    if name in _LATE:
        found = getattr(import_module(f"taskorch.journal.{_LATE[name]}"), name)
        globals()[name] = found
        return found
    msg = f"module 'taskorch.journal' has no attribute {name!r}"
    raise AttributeError(msg)
