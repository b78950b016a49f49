"""
A workload that is killed before each of its statements, and what is left of it.

As a program, with a folder: it forks one child a death, and prints what each had said
was kept, and what the next owner found. With a journal, too: each child opens a copy of
that, and no more.
"""

import json
import os
import signal
import sqlite3
import sys
from contextlib import closing
from itertools import count
from pathlib import Path

from taskorch.api.journal import SqliteJournal
from taskorch.core.journal import _file
from taskorch.events import TaskCancelled

GROUPS = ((1, 2), (3,), (4, 5, 6))
connect = _file.connect


class Mortal:
    """A connection that dies with its process, before a statement."""

    def __init__(self, db: sqlite3.Connection, lives: list[int]):
        self.db, self.lives = db, lives

    def live(self):
        self.lives[0] -= 1
        if self.lives[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def execute(self, *args):
        self.live()
        result = self.db.execute(*args)
        if args == ("COMMIT",):
            self.live()
        return result

    def close(self):
        self.live()
        self.db.close()


def work(path: Path, tell: int, lives: list[int]):
    _file.connect = lambda *args: Mortal(connect(*args), lives)
    with closing(SqliteJournal(path, durability="process")) as journal:
        epoch = journal.claim()
        for group in GROUPS:
            journal.append(epoch, [(TaskCancelled(n, n, "t", ""), None) for n in group])
            os.write(tell, bytes([group[-1]]))
            journal.save(epoch, group[-1], {"at": group[-1]})
            journal.empty_log(epoch)


def death(path: Path, number: int):
    told, tell = os.pipe()
    if not (pid := os.fork()):
        work(path, tell, [number])
        os._exit(0)
    os.close(tell)
    said = os.read(told, 100)
    while more := os.read(told, 100):
        said += more
    os.close(told)
    status = os.waitpid(pid, 0)[1]
    with closing(SqliteJournal(path, durability="process")) as journal:
        epoch = journal.claim()
        kept = journal.last
        snapshot = journal.snapshot()
        numbers = [entry[0][1] for entry in journal.read()]
        journal.verify()
        # Whatever was left, the next incarnation goes on from there.
        journal.append(epoch, [(TaskCancelled(kept + 1, 1, "t", ""), None)])
    return {
        "signal": os.WTERMSIG(status),
        "said": max(said, default=0),
        "kept": kept,
        "numbers": numbers,
        "snapshot": snapshot,
    }


def death_in_opening(path: Path, number: int):
    if not (pid := os.fork()):
        _file.connect = lambda *args: Mortal(connect(*args), [number])
        with closing(SqliteJournal(path, durability="process")) as journal:
            journal.claim()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    left = journal_as_it_is(path)
    with closing(SqliteJournal(path, durability="process")) as journal:
        epoch = journal.claim()
        verified = journal.verify()
    return {
        "signal": os.WTERMSIG(status),
        "left": left,
        "epoch": epoch,
        "verified": verified,
    }


def journal_as_it_is(path: Path):
    """Its layout, before anybody opens it for writing; the log is read too."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def main(folder: str, journal: str | None = None):
    deaths = []
    for number in count(1):
        path = Path(folder, f"{number}.db")
        if journal is None:
            deaths.append(death(path, number))
        else:
            path.write_bytes(Path(journal).read_bytes())
            deaths.append(death_in_opening(path, number))
        if not deaths[-1]["signal"]:
            break
    print(json.dumps(deaths))


if __name__ == "__main__":
    main(*sys.argv[1:])
