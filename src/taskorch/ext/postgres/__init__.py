"""
The journal in a PostgreSQL database.

It is a `SqlJournal` as that in a file is; what differs is how it is claimed, and that
its server may be silent: each wait for it has a deadline.

- `_journal`: the journal: `taskorch.PostgresJournal`.
- `_reading`: its readers.
- `_session`, `_tables`: its server; its tables.
- `_silence`: deadlines of all waits for the server.

Decision: journal-in-postgresql.
"""
