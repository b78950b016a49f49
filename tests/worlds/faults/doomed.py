"""Workloads for the tests of the crash tests: small, and wrong in one way each."""

import os
import signal
import threading
from pathlib import Path

from taskorch import SqliteJournal
from taskorch.events import TaskCancelled
from taskorch.testing import crash_at


def kept(path: Path) -> int:
    return sum(1 for _ in SqliteJournal(path).read())


def two_groups(path: Path) -> None:
    """
    Six events in two groups; the next incarnation goes on where the last one ended.
    """
    journal = SqliteJournal(path, durability="process")
    epoch = journal.claim()
    while journal.last < 6:
        first = journal.last + 1
        journal.append(
            epoch,
            [(TaskCancelled(n, n, "t", ""), None) for n in range(first, first + 3)],
        )
    journal.close()


def forgetful(path: Path) -> None:
    """Half of it is enough, the second time."""
    if not path.exists() or kept(path) != 3:
        two_groups(path)


def impatient(path: Path) -> None:
    """It cannot stand that somebody has been there."""
    if path.exists() and kept(path) == 3:
        print("what a mess")
        raise LookupError("three events, and I want six")
    two_groups(path)


def endless(path: Path) -> None:
    two_groups(path)
    threading.Event().wait()


def suicidal(path: Path) -> None:
    two_groups(path)
    os.kill(os.getpid(), signal.SIGKILL)


def terminated(path: Path) -> None:
    two_groups(path)
    os.kill(os.getpid(), signal.SIGTERM)


def interrupted(path: Path) -> None:
    """It asks for what an interrupt does: the parent may have ignored it."""
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait()


def journalless(path: Path) -> None:
    path.with_name("note").write_text("no journal here")


def with_a_child(path: Path) -> None:
    """What a child of the process writes to a journal of its own is none of its points."""
    if not (pid := os.fork()):
        two_groups(path.with_name("child.db"))
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    two_groups(path)


def crash_third(path: Path) -> None:
    """Kills itself, in the block and not before or after it."""
    two_groups(path.with_name("before.db"))
    try:
        with crash_at(100):
            two_groups(path.with_name("in.db"))
        two_groups(path.with_name("after.db"))
        with crash_at(3):
            two_groups(path)
    finally:
        path.with_name("survived").touch()
