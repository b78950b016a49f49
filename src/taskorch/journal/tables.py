"""
What a journal in the tables of another database is made of.

`taskorch.journal.SqlJournal` does what does not depend on the database; `SqlReading` is
the half of it for who only looks. Who writes one gives them a `Session`, in which the
database says its dialect, and uses the names of this module. They may change with any
version, as the tables may: `taskorch.testing.laws.check_durable_journal` tells.

1. Rows are kept in groups, one for each commit. A `GroupRow` has the checksum of its
   rows, which goes on from that of the group before it.
2. A `Reader` asks a session, and checks what comes.
3. `reach` says where a write has come to, so that tests can kill it there.

Decisions: 0194, 0293.
"""

from taskorch.journal._chain import ChainStart
from taskorch.journal._codec import Rows
from taskorch.journal._points import reach
from taskorch.journal._reader import KEEP_GROUP, GroupRow, Reader
from taskorch.journal._session import IS_RARE, Durability, Session

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
