"""The lock of a journal: whose it is, and what stays open of it."""

import errno
import os
import signal
import socket
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tests.worlds.faults.tools import Process, say

from taskorch.core.journal import _lock
from taskorch.core.journal._lock import Lock
from taskorch.errors import JournalTakenError

FILES = Path("/proc/self/fd")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "j.db"


def opened(path) -> int:
    """How many descriptors of this process lead to the lock of a journal."""
    found = 0
    for file in FILES.iterdir():
        with suppress(FileNotFoundError):
            found += str(file.readlink()).startswith(f"{path}.lock")
    return found


needs_proc = pytest.mark.skipif(not FILES.is_dir(), reason="there is no /proc")


def test_nobody_else_may_read_or_inherit_it(path):
    """A program of ours that had it would hold the journal for as long as it lives."""
    for take_over in (False, True):
        lock = Lock.acquire(path, take_over)
        assert stat.S_IMODE(Path(f"{path}.lock").stat().st_mode) == 0o600
        assert not os.get_inheritable(lock._file)
        if take_over:
            lock.release()


@needs_proc
def test_nothing_stays_open_of_a_lock_that_is_refused_or_released(path):
    lock = Lock.acquire(path, take_over=False)
    for _ in range(3):
        with pytest.raises(JournalTakenError):
            Lock.acquire(path, take_over=False)
    assert opened(path) == 1
    lock.release()
    assert opened(path) == 0


@needs_proc
def test_nothing_stays_open_of_a_lock_that_there_is_no_room_for(path, monkeypatch):
    def none_left(_file, _how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(_lock.fcntl, "flock", none_left)
    with pytest.raises(OSError, match="No locks"):
        Lock.acquire(path, take_over=False)
    assert opened(path) == 0


@needs_proc
def test_nothing_stays_open_of_a_lock_that_was_replaced_meanwhile(path, monkeypatch):
    """Whoever finds that its file is not the one with the name looks again."""
    answers = [False, False, True]
    monkeypatch.setattr(Lock, "is_current", lambda _: answers.pop(0))
    lock = Lock.acquire(path, take_over=False)
    assert not answers
    assert opened(path) == 1
    lock.release()


def die_before_a_program_begins(path, go):
    """A process that was forked, and is to become a program, has the lock as well."""
    lock = Lock.acquire(path, take_over=False)
    lock.sign(os.getpid(), socket.gethostname(), "now", 1)
    if os.fork():
        os.kill(os.getpid(), signal.SIGKILL)
    say("ready")
    while not go.exists():
        time.sleep(0.01)
    os._exit(0)


@pytest.fixture
def left(path, tmp_path):
    """A lock whose owner has died, held until the file is there that this gives."""
    go = tmp_path / "go"
    with Process(die_before_a_program_begins, path, go) as process:
        assert process.line() == "ready"
        assert process.wait() == -signal.SIGKILL
        yield go
        go.touch()


def test_what_a_dead_owner_was_about_to_start_lets_go_of_it_soon(
    path, left, monkeypatch
):
    """Whoever starts again at once after a kill is not refused."""
    monkeypatch.setattr(_lock, "_PATIENCE", 60.0)
    waits = threading.Event()
    monkeypatch.setattr(_lock.time, "sleep", lambda _: waits.set())
    found = []
    other = threading.Thread(target=lambda: found.append(Lock.acquire(path, False)))
    other.start()
    assert waits.wait(60)
    left.touch()
    other.join(60)
    found[0].release()


def test_it_is_not_waited_for_any_longer_than_that(path, left, monkeypatch):
    """The process may be one of the user's, which lives on."""
    monkeypatch.setattr(_lock, "_PATIENCE", 0.05)
    with pytest.raises(JournalTakenError, match="belongs to process"):
        Lock.acquire(path, take_over=False)


@pytest.mark.parametrize(
    "owner",
    [
        {"pid": os.getpid(), "host": socket.gethostname()},
        {"pid": 2**22 + 1, "host": "elsewhere"},
        {"pid": "?", "host": socket.gethostname()},
        {"pid": 2**70, "host": socket.gethostname()},
    ],
)
def test_nor_for_one_who_lives_or_of_whom_that_is_not_known(path, owner, monkeypatch):
    monkeypatch.setattr(_lock.time, "sleep", lambda _: pytest.fail("it waits"))
    lock = Lock.acquire(path, take_over=False)
    lock.sign(owner["pid"], owner["host"], "now", 1)
    with pytest.raises(JournalTakenError):
        Lock.acquire(path, take_over=False)
    lock.release()


def test_a_lock_of_another_is_not_discarded(path):
    old = Lock.acquire(path, take_over=False)
    new = Lock.acquire(path, take_over=True)
    old.discard()
    assert new.is_current()
    new.discard()
    assert not Path(f"{path}.lock").exists()
    new.discard()
    old.release()
    new.release()
