"""What tests of the journal in a file begin with."""

import sqlite3
from contextlib import closing

from taskorch.api.journal import SqliteJournal
from taskorch.events import OrchestratorStarted, TaskCancelled, TaskCompleted


def an_event(seq, task_id="t"):
    return TaskCancelled(seq, seq * 10, task_id, f"for reason {seq}"), None


GROUPS = [
    [(OrchestratorStarted(1, 5, 1), None), an_event(2)],
    [an_event(3, "u")],
    [an_event(4), (TaskCompleted(5, 50, "t", 1, "a", 9), {"answer": [42, "x" * 3000]})],
    [an_event(8, "u"), an_event(9, "é"), an_event(10)],
]
ENTRIES = [entry for group in GROUPS for entry in group]


def filled(path, groups=GROUPS):
    """Write *groups* and close it."""
    with closing(SqliteJournal(path, durability="process")) as journal:
        epoch = journal.claim()
        for group in groups:
            journal.append(epoch, group)


def entries(path):
    return list(SqliteJournal(path).read())


def edit(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


class Flaky:
    """A connection whose *number*-th statement fails, before or after it was done."""

    def __init__(self, db, state):
        self.db, self.state = db, state

    def run(self, do, statement, *args):
        self.state["left"] -= 1
        failing = self.state["left"] == 0
        if failing and not self.state["after"]:
            self.fail()
        result = do(statement, *args)
        if failing:
            self.fail()
        return result

    def fail(self):
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
        raise error

    def execute(self, *args):
        return self.run(self.db.execute, *args)

    def close(self):
        self.db.close()
