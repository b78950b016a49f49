"""Snapshots, the points at which a test may strike, and documents."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from tests.unit.journal.tools import ENTRIES, GROUPS, edit, entries, fact

from taskorch.errors import (
    InvalidTaskError,
    JournalTakenError,
    JournalUnavailableError,
)
from taskorch.events import TaskCompleted
from taskorch.journal import SqliteJournal, _points, _values
from taskorch.model import Task

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


def test_the_latest_two_are_kept(owned, path):
    journal, epoch = owned
    for seq in (2, 3, 5, 8):
        journal.save(epoch, seq, {"at": seq})
        assert journal.snapshot() == (seq, {"at": seq})
    assert kept(path) == [5, 8]


def test_another_at_the_same_fact_takes_its_place(owned, path):
    journal, epoch = owned
    journal.save(epoch, 3, {"n": 1})
    journal.save(epoch, 3, {"n": 2})
    assert journal.snapshot() == (3, {"n": 2})
    assert kept(path) == [3]


def test_a_snapshot_may_stand_in_the_middle_of_a_group(owned):
    journal, epoch = owned
    journal.save(epoch, 9, {"at": 9})
    assert journal.snapshot() == (9, {"at": 9})


@pytest.mark.parametrize("seq", [0, -1, 11])
def test_a_snapshot_of_what_was_not_kept_is_refused(owned, seq):
    journal, epoch = owned
    with pytest.raises(ValueError, match="was not kept"):
        journal.save(epoch, seq, {})
    assert journal.snapshot() is None
    journal.append(epoch, [fact(11)])


@pytest.mark.parametrize(
    "state", [{"x": object()}, {"x": float("nan")}, {1: 2}, {"x": [[{1, 2}]]}]
)
def test_a_state_that_is_no_json_is_refused(owned, state):
    journal, epoch = owned
    with pytest.raises((TypeError, ValueError)):
        journal.save(epoch, 5, state)
    assert journal.snapshot() is None


def test_only_the_owner_saves(opened, owned):
    journal, epoch = owned
    with pytest.raises(JournalTakenError):
        journal.save(epoch + 1, 5, {})
    opened(take_over=True).claim()
    with pytest.raises(JournalTakenError, match="taken over"):
        journal.save(epoch, 5, {})
    assert opened().snapshot() is None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE snapshots SET state = '{\"at\":9}' WHERE seq = 8",
        "UPDATE snapshots SET state = substr(state, 1, 3) WHERE seq = 8",
        "UPDATE snapshots SET crc = crc + 1 WHERE seq = 8",
        "UPDATE snapshots SET seq = 9 WHERE seq = 8",
        "DELETE FROM snapshots WHERE seq = 8",
        # The history is another one by then.
        "UPDATE groups SET crc = crc + 1 WHERE last = 10",
        "DELETE FROM groups WHERE last = 10",
    ],
)
def test_the_older_one_is_used_when_the_latest_is_damaged(owned, path, statement):
    journal, epoch = owned
    journal.save(epoch, 3, {"at": 3})
    journal.save(epoch, 8, {"at": 8})
    journal.close()
    edit(path, statement)
    assert SqliteJournal(path).snapshot() == (3, {"at": 3})
    edit(path, "UPDATE snapshots SET crc = crc + 1")
    assert SqliteJournal(path).snapshot() is None


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


def test_a_full_disk_costs_no_snapshot_and_no_fact(owned, path):
    journal, epoch = owned
    journal.save(epoch, 3, {"at": 3})
    journal._db.execute("PRAGMA max_page_count = 1")
    with pytest.raises(JournalUnavailableError, match="full"):
        journal.save(epoch, 8, {"at": "x" * 500_000})
    assert journal.snapshot() == (3, {"at": 3})
    journal.append(epoch, [fact(11)])
    journal.save(epoch, 8, {"at": 8})
    assert journal.snapshot() == (8, {"at": 8})
    assert journal.verify() == len(ENTRIES) + 1


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


def test_the_points_are_reached_in_order(points, opened):
    journal = opened()
    epoch = journal.claim()
    assert points == ["claim", "claimed"]
    points.clear()
    journal.append(epoch, GROUPS[0])
    assert points == ["begin", "rows", "commit", "kept"]
    points.clear()
    journal.save(epoch, 2, {})
    assert points == ["save", "saved"]


@pytest.mark.parametrize(
    ("point", "is_kept"),
    [("begin", False), ("rows", False), ("commit", False), ("kept", True)],
)
def test_a_strike_leaves_all_or_nothing(opened, point, is_kept):
    def strike(reached):
        if reached == point:
            raise InterruptedError(reached)

    journal = opened()
    epoch = journal.claim()
    journal.append(epoch, GROUPS[0])
    _points.install_fault(strike)
    try:
        with pytest.raises(JournalUnavailableError) as caught:
            journal.append(epoch, GROUPS[1])
    finally:
        _points.install_fault(None)
    assert caught.value.outcome == ("unknown" if is_kept else "refused")
    known = [*GROUPS[0], *(GROUPS[1] if is_kept else [])]
    assert list(journal.read()) == known
    journal.append(epoch, GROUPS[1])
    assert list(journal.read()) == [*GROUPS[0], *GROUPS[1]]


# -- documents ---------------------------------------------------------------------


def test_a_document_is_what_the_value_was(opened):
    journal = opened()
    epoch = journal.claim()
    payload = {"items": [1, (2,)]}
    task = Task("x", payload, id="t", metadata=payload)
    documents = [journal.document(task), journal.document(payload)]
    payload["items"].append("later")
    facts = [TaskCompleted(seq, 1, "t", 1, "a", 2) for seq in (1, 2, 3)]
    assert journal.document(None) is None
    journal.append(epoch, list(zip(facts, [*documents, None], strict=True)))
    was = {"items": [1, (2,)]}
    assert [value for _, value in journal.read()] == [
        Task("x", was, id="t", metadata=was),
        was,
        None,
    ]


def test_a_document_is_as_good_as_its_value(opened):
    """The same group, once with values and once with documents, is one group."""
    journal = opened()
    epoch = journal.claim()
    group = [(TaskCompleted(1, 1, "t", 1, "a", 2), {"n": [1]})]
    journal.append(epoch, group)
    journal.append(epoch, [(group[0][0], journal.document({"n": [1]}))])
    assert list(journal.read()) == group


def test_what_cannot_be_kept_is_refused_when_it_is_handed_over(path):
    journal = SqliteJournal(path)
    with pytest.raises(InvalidTaskError, match=r"^payload\[1\]: ") as caught:
        journal.document(Task("x", [1, object()]))
    assert caught.value.hint
    assert not path.exists()


def test_documents_and_readers_do_not_wait_for_the_writer(owned):
    """They come from other threads, in the middle of an append."""
    journal, epoch = owned
    seen = []

    def ask(point):
        if point == "rows":
            with ThreadPoolExecutor(1) as other:
                seen.append(other.submit(journal.document, [1]).result())
                seen.append(other.submit(journal.ends, ["t"]).result())
                seen.append(other.submit(lambda: journal.last).result())

    _points.install_fault(ask)
    try:
        journal.append(epoch, [(TaskCompleted(11, 1, "z", 1, "a", 2), None)])
    finally:
        _points.install_fault(None)
    assert seen == ["[1]", {"t": "TaskCancelled"}, 10]


def test_what_is_closed_in_the_middle_of_an_append_is_not_opened_again(owned, path):
    """Another thread closes it while the values are read."""
    journal, epoch = owned

    class Closing(list):
        def __iter__(self):
            journal.close()
            return super().__iter__()

    with pytest.raises(JournalUnavailableError, match="was closed"):
        journal.append(epoch, Closing([fact(11)]))
    assert journal._db is None
    assert entries(path) == ENTRIES


def test_threads_that_write_at_the_same_time_take_turns(owned):
    journal, epoch = owned

    def save(seq):
        journal.save(epoch, seq, {"at": seq})

    with ThreadPoolExecutor(4) as threads:
        saved = [threads.submit(save, 1 + n % 10) for n in range(20)]
        for seq in range(11, 31):
            journal.append(epoch, [fact(seq)])
        for one in saved:
            one.result()
    assert journal.snapshot() == (10, {"at": 10})
    assert journal.verify() == len(ENTRIES) + 20
