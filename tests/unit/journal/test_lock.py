"""The lock of a journal: whose it is, and what stays open of it."""

import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from taskorch.errors import JournalTakenError
from taskorch.journal._lock import Lock

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
def test_nothing_stays_open_of_a_lock_that_was_replaced_meanwhile(path, monkeypatch):
    """Whoever finds that its file is not the one with the name looks again."""
    answers = [False, False, True]
    monkeypatch.setattr(Lock, "is_current", lambda _: answers.pop(0))
    lock = Lock.acquire(path, take_over=False)
    assert not answers
    assert opened(path) == 1
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
