"""Snapshots, the points at which a test may strike, and documents."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from tests.core.journal.tools import ENTRIES, GROUPS, an_event, entries

from taskorch.api.journal import SqliteJournal
from taskorch.core.journal import _points, _values

STATE = {"tasks": [{"id": "t", "n": 1.5}], "é": None, "name": "\ud800"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db"


@pytest.fixture
def opened(path):
    made = []

    def make(**options):
        made.append(SqliteJournal(path, durability="process", **options))
        return made[-1]

    yield make
    for journal in made:
        journal.close()


@pytest.fixture
def owned(opened):
    """A journal with facts in it, and its epoch."""
    journal = opened()
    epoch = journal.claim()
    for group in GROUPS:
        journal.append(epoch, group)
    return journal, epoch


def kept(path):
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT seq FROM snapshots ORDER BY seq").fetchall()
        return [seq for (seq,) in rows]


def test_a_snapshot_is_read_back_by_whoever_opens_the_journal_next(owned, path):
    journal, epoch = owned
    assert journal.snapshot() is None
    journal.save(epoch, 5, STATE)
    assert journal.snapshot() == (5, STATE)
    journal.close()
    assert SqliteJournal(path).snapshot() == (5, STATE)
    assert entries(path) == ENTRIES


@pytest.mark.parametrize("seq", [0, -1, 11])
def test_a_snapshot_of_what_was_not_kept_is_refused(owned, seq):
    journal, epoch = owned
    with pytest.raises(ValueError, match="was not kept"):
        journal.save(epoch, seq, {})
    assert journal.snapshot() is None
    journal.append(epoch, [an_event(11)])


def test_text_that_does_not_decode_is_a_damaged_snapshot(owned, path):
    journal, epoch = owned
    journal.save(epoch, 3, {"at": 3})
    journal.save(epoch, 8, {"at": "once upon a time"})
    journal.close()
    path.write_bytes(path.read_bytes().replace(b"once upon", b"once \xffpon"))
    assert SqliteJournal(path).snapshot() == (3, {"at": 3})


def test_pages_that_do_not_read_are_a_damaged_snapshot(owned, path):
    """A state that is long is kept in pages of its own."""
    journal, epoch = owned
    journal.save(epoch, 3, {"at": 3})
    journal.save(epoch, 8, {"at": ["x" * 3_000] * 20})
    journal.close()
    data = bytearray(path.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        ((size,),) = db.execute("PRAGMA page_size")
    # Every page that holds nothing but a part of it leads on to no page.
    for start in range(0, len(data), size):
        if data[start + 4 : start + size].count(b"x") > size - 20:
            data[start : start + 4] = b"\x7f\xff\xff\xff"
    path.write_bytes(data)
    assert SqliteJournal(path).snapshot() == (3, {"at": 3})
    assert entries(path) == ENTRIES


def test_a_long_state_is_written_in_parts_and_is_the_same_text():
    state = {
        "some": list(range(2_500)),
        "exactly": [None] * 2_000,
        "few": [1],
        "none": [],
        "é": {"a": [1, "\ud800"]},
    }
    assert _values.state_text(state) == _values.dumps(state)
    assert _values.state_text({}) == "{}"


# -- points ------------------------------------------------------------------------


@pytest.fixture
def points():
    """The points that are reached, in order."""
    seen = []
    _points.install_fault(seen.append)
    yield seen
    _points.install_fault(None)


# -- documents ---------------------------------------------------------------------


def test_threads_that_write_at_the_same_time_take_turns(owned):
    journal, epoch = owned

    def save(seq):
        journal.save(epoch, seq, {"at": seq})

    with ThreadPoolExecutor(4) as threads:
        saved = [threads.submit(save, 1 + n % 10) for n in range(20)]
        for seq in range(11, 31):
            journal.append(epoch, [an_event(seq)])
        for one in saved:
            one.result()
    assert journal.snapshot() == (10, {"at": 10})
    assert journal.verify() == len(ENTRIES) + 20
