"""
Parts of a journal in the tables of another database.

`taskorch.api.journal.SqlJournal` does all that does not depend on the database;
`SqlReading` is the half of it that only reads. To write one, give them a `Session` with
the dialect of the database, and use the names of this module. They may change with any
version, as the tables may: `taskorch.testing.laws.check_durable_journal` finds that.

1. Rows are kept in groups, one for each commit. A `GroupRow` has the checksum of its
   rows, which continues that of the group before it.
2. A `Reader` asks a session, and checks the answers.
3. `reach` says where a write has come to, so that tests can kill it there.

Decisions: executors, journal-in-postgresql.
"""

from taskorch.core.journal._chain import ChainStart
from taskorch.core.journal._codec import Rows
from taskorch.core.journal._points import reach
from taskorch.core.journal._reader import KEEP_GROUP, GroupRow, Reader
from taskorch.core.journal._session import IS_RARE, Durability, Session

__all__ = (
    "IS_RARE",
    "KEEP_GROUP",
    "ChainStart",
    "Durability",
    "GroupRow",
    "Reader",
    "Rows",
    "Session",
    "reach",
)
