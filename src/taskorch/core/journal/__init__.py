"""
Journals of events. A journal stores events and knows nothing of tasks.

For a journal of your own (`taskorch.protocols.DurableJournal`): `encode` makes of an
entry `(seq, kind, at_ns, task_id, body, doc)`, numbers and text for a file or a table,
`decode` makes the entry of that again, and `document` keeps a value as it is now. What
events mean, and what a new incarnation makes of them, is in `kernel` and `engine`.

- `_opened`: the journal at a path or an address: a file, or a server.
- `_memory`: the journal in memory.
- `_sql`, `_session`: the journal in the tables of any database.
- `tables`: the parts of a journal in the tables of another database.
- `_reader`: reading with checks.
- `_sieve`: texts that the rows of a task contain if it may pass a filter.
- `_stretches`: contents of thousands of events, noted once: lists skip the others.
- `_lines`: outcomes of settled tasks, noted once by their runs.
- `_sqlite`, `_sqlite_session`, `_layout`: the tables in a file, written and read.
- `_chain`: the hashes that prove a journal.
- `_file`, `_lock`: opening the file; the lock of its leader.
- `_descriptors`: its descriptors in this process, and its other names.
- `_repair`: recovery from a disk that has failed.
- `_codec`, `_encoding`: entries and values as text, and back.
- `_values`, `_classes`: values in terms of JSON; instances of the user's classes.
- `_scripts`: the main module, under a name that contains the script.
- `_beside`: values that users have it keep in their own way; files of large values.
- `_logs`: files of logs and output of tasks.
- `_copying`: copies of a journal.
- `_points`: points where a test may strike while a journal is written.
"""

from typing import TYPE_CHECKING

from taskorch.core.journal._memory import MemoryJournal as MemoryJournal
from taskorch.kit import load_late as _load_late

if TYPE_CHECKING:
    from taskorch.core.journal._beside import (
        register as register,
        register_file as register_file,
    )
    from taskorch.core.journal._codec import (
        Row as Row,
        decode as decode,
        document as document,
        encode as encode,
    )
    from taskorch.core.journal._opened import open_journal as open_journal
    from taskorch.core.journal._sql import (
        SqlJournal as SqlJournal,
        SqlReading as SqlReading,
    )
    from taskorch.core.journal._sqlite import SqliteJournal as SqliteJournal

#: Names that are loaded when they are first asked for, and their modules.
_LATE = {
    "Row": "_codec",
    "SqlJournal": "_sql",
    "SqlReading": "_sql",
    "SqliteJournal": "_sqlite",
    "decode": "_codec",
    "document": "_codec",
    "open_journal": "_opened",
    "encode": "_codec",
    "register": "_beside",
    "register_file": "_beside",
}

if not TYPE_CHECKING:
    # Type checkers have the names from the imports above, and no others.
    __getattr__, __dir__ = _load_late(__name__, _LATE)
