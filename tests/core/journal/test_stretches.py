"""Lists find the same with notes of stretches and without, whatever was forgotten."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import count

import pytest
from tests.core.journal.tools import edit

from taskorch.api.journal import SqliteJournal, document
from taskorch.core.journal import _stretches
from taskorch.events import TaskCompleted, TaskFailed, TaskSubmitted
from taskorch.ext.views import JournalReader
from taskorch.model import Task, TaskFilter

MANY = 400
EVERY = 3
#: Of each field, what is common, what few have, and what none has.
ASKED = [
    {"type": "usual"},
    {"type": "rare"},
    {"type": "none"},
    {"owner": "acme"},
    {"owner": "tiny"},
    {"owner": "nobody"},
    {"id": "*/17*"},
    {"id": "*39*"},
    {"id": "a/3*"},
    {"id": "*nothing*"},
    {"id": "*é*"},
    {"metadata": {"batch": 7}},
    {"metadata": {"odd": "yes"}},
    {"metadata": {"odd": "no"}},
    {"metadata": {"odd": "yes", "batch": 2}},
    {"type": "rare", "owner": "acme", "metadata": {"batch": 2}},
    {"agent": "w"},
    {"agent": "v"},
    {"agent": "v", "owner": "tiny"},
    {"agent": "x"},
]


def name_of(n):
    return f"{'é' if n == 250 else 'ab'[n % 2]}/{n}"


def task(n):
    metadata = {"batch": n // 50} | ({"odd": "yes"} if n % 111 == 5 else {})
    return Task(
        "rare" if n % 97 == 11 else "usual",
        {"metadata": "none"} if n % 7 else n,
        id=name_of(n),
        owner="tiny" if n % 150 == 20 else "acme",
        metadata=metadata,
    )


def submission(seq, n):
    each = task(n)
    event = TaskSubmitted(
        seq,
        seq * 10,
        name_of(n),
        each.type,
        0,
        key=seq,
        named=True,
        owner=each.owner,
    )
    return event, document(each)


def end(seq, n):
    name, worker = name_of(n), "v" if 90 < n < 95 else "w"
    if n % EVERY == 0:
        cause = "ValueError", "no", "error"
        return TaskFailed(seq, seq * 10, name, 1, worker, *cause), None
    return TaskCompleted(seq, seq * 10, name, 1, worker, 5), None


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A journal with a stretch for each fifty events, and some that are in none."""
    monkeypatch.setattr(_stretches, "LENGTH", 50)
    path, numbers = tmp_path / "runs.db", count(1)
    with closing(SqliteJournal(path, durability="process")) as journal:
        epoch = journal.claim()
        for first in range(0, MANY, 40):
            group = [submission(next(numbers), n) for n in range(first, first + 40)]
            group += [end(next(numbers), n) for n in range(first, first + 40)]
            journal.append(epoch, group)
        journal.save(epoch, journal.last, {"tasks": []})
    return path


def noted(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT first, last FROM stretches ORDER BY last").fetchall()


def found(path, asked, most, *, newest):
    """All candidates, page by page."""
    journal, which = SqliteJournal(path), TaskFilter(**asked)
    after, until, pages = 0, 2**63 - 1, []
    while page := journal.candidates(which, after, until, most, newest=newest):
        assert len(page) <= most
        pages += page
        if newest:
            until = page[-1][0] - 1
        else:
            after = page[-1][0]
    return pages


def answers(path, asked=ASKED):
    """What is found and counted; a page ends within a stretch."""
    reader = JournalReader(path)
    lists = [
        found(path, each, most, newest=newest)
        for each in asked
        for most, newest in ((19, False), (1_000, True))
    ]
    ends = [SqliteJournal(path).ends_by_time(every) for every in (7, 900, 10**9)]
    return lists, ends, reader.count()


def test_it_is_found_as_without(path):
    assert noted(path) == [(n + 1, n + 50) for n in range(0, 2 * MANY, 50)]
    with_notes = answers(path)
    assert with_notes[-1] == MANY
    edit(path, "DELETE FROM stretches WHERE last IN (100, 150, 400, 800)")
    assert answers(path) == with_notes
    edit(path, "DROP TABLE stretches")
    assert answers(path) == with_notes


def test_what_is_forgotten_leaves_the_notes_and_what_stays_is_noted_again(path):
    with closing(SqliteJournal(path, durability="process")) as journal:
        epoch = journal.claim()
        assert journal.forget(epoch, ["a/38", "b/39", "é/250"])
        assert (1, 50) not in noted(path)
        assert len(noted(path)) < 16
        journal.save(epoch, journal.last, {"tasks": []})
    assert noted(path) == [(n + 1, n + 50) for n in range(0, 2 * MANY, 50)]
    with_notes = answers(path)
    assert with_notes[-1] == MANY - 3
    edit(path, "DROP TABLE stretches")
    assert answers(path) == with_notes


def test_an_earlier_journal_is_noted_little_by_little(path, monkeypatch):
    edit(path, "DROP TABLE stretches")
    monkeypatch.setattr(
        "taskorch.core.journal._sqlite_session.MOST_NOTED", _stretches.MOST_NOTED // 16
    )
    with closing(SqliteJournal(path, durability="process")) as journal:
        epoch = journal.claim()
        before = answers(path, ASKED[::4])
        for many in (4, 8, 12, 16):
            journal.save(epoch, journal.last, {"tasks": []})
            assert len(noted(path)) == many
            assert answers(path, ASKED[::4]) == before
