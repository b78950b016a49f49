"""Looking at files that may be damaged, and writing a log anew."""

import fcntl
import os
from pathlib import Path

import pytest
from tests.core.journal.tools import filled

from taskorch.core.journal import _repair


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_who_looks_leaves_nothing_open(tmp_path):
    path = tmp_path / "journal.db"
    filled(path)
    before = descriptors()
    _repair.check_readable(path)
    said = _repair.refusal(path)
    assert "does no more" in str(said)
    assert descriptors() == before


@pytest.mark.parametrize("goes_further", [True, False])
def test_a_log_that_was_written_anew_is_on_the_disk(
    tmp_path, monkeypatch, goes_further
):
    """Where a plain fsync stops at the cache of the disk, another call is made."""
    log = tmp_path / "log"
    log.write_bytes(b"x" * 5000)
    synced = []

    def sync(file, *call):
        synced.append((os.fstat(file).st_ino, *call))

    monkeypatch.setattr(_repair, "_FULL_SYNC", 51 if goes_further else None)
    monkeypatch.setattr(fcntl, "fcntl", sync)
    monkeypatch.setattr(os, "fsync", sync)
    _repair.rewrite_log(log)
    inode = log.stat().st_ino
    assert synced == [(inode, 51) if goes_further else (inode,)]
    assert log.read_bytes() == b"x" * 5000
