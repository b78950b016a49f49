"""Groups on their way into the journal: an attempt that is over soon is one row."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, strategies as st

from taskorch.api.journal import SqliteJournal
from taskorch.core.journal import _codec
from taskorch.core.journal._codec import (
    Rows,
    call_texts,
    column,
    document,
    encode,
    entries,
)
from taskorch.errors import InvalidTaskError
from taskorch.events import (
    TaskCompleted,
    TaskFailed,
    TaskProgressed,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.model import Call, Task

TASK = Task("x", Call(len))
CALL = document(TASK)


def submitted(seq, task_id="t"):
    middle = ((), None, (), None, None, True)
    event = TaskSubmitted(seq, 5, task_id, "x", 0, *middle, 7, None, None, None, False)
    return event, CALL


def started(seq, task_id="t", attempt=1, agent="local", allocation=()):
    event = TaskStarted(seq, seq + 5, task_id, attempt, agent, allocation, "because")
    return event, None


def completed(seq, task_id="t", attempt=1, worker="local", value=None):
    return TaskCompleted(seq, seq + 5, task_id, attempt, worker, 9), value


def failed(seq, task_id="t"):
    return TaskFailed(seq, 5, task_id, 1, "local", "OSError", "", "error"), None


def read(group):
    """*group* as it comes back."""
    return [(event, TASK if value is CALL else value) for event, value in group]


def kinds(rows):
    return [row[1] for row in rows]


@pytest.mark.parametrize(
    "end",
    [
        failed(3),
        completed(3, attempt=2),
        completed(3, worker="other"),
        completed(3, attempt=True),
        (TaskCompleted(3, 4, "t", 1, "local", 1.5), None),
        (TaskCompleted(3, 8, "t", 1, "\udc00", 9), None),
        (TaskProgressed(3, 8, "t", 1, "half"), None),
    ],
)
def test_what_does_not_belong_together_stays_apart(end):
    group = [submitted(1), started(2), end, started(4, "u"), completed(5, "u")]
    rows = Rows(group)
    kind = end[0][0].__name__
    assert kinds(rows) == ["TaskSubmitted", "TaskStarted", kind, "TaskCompleted"]
    assert entries(rows) == read(group)


def test_a_start_with_odd_characters_is_written_with_care():
    for worker, task_id in (("\ud800", "t"), ("local", "é"), ("local", "\udc00")):
        group = [
            started(2, task_id, agent=worker),
            completed(3, task_id, worker=worker),
        ]
        assert len(list(Rows(group))) == 2
        assert entries(Rows(group)) == read(group)


@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize("after", [(), ("p",), ("p", "é", 'a"b'), ("\ud83d", "\ude00")])
def test_a_submission_is_written_as_with_care(after, is_named):
    (event, cargo) = submitted(1)
    event = (*event[:6], after, *event[7:-1], is_named)
    (row,) = Rows([(event, cargo)])
    if after or is_named:
        assert row == encode((event, cargo))
    assert entries([row]) == read([(event, cargo)])


@pytest.mark.parametrize("key", ["k", "é", "\ud800", None])
def test_the_key_of_a_task_is_found_in_its_row(key):
    """As a journal gives it that wraps this one; the word may be another's too."""
    task = Task("x", idempotency_key=key, metadata={"idempotency_key": "another"})
    rows = Rows([(submitted(1)[0], document(task))])
    again = Rows(list(rows))
    assert again.keys == rows.keys == ([] if key is None else [column(key), "t"])
    assert entries(again)[0][1].idempotency_key == key


def test_the_journal_gives_both_events_of_such_a_row(tmp_path):
    path = tmp_path / "journal.db"
    group = [submitted(1), started(2), submitted(3, "u"), completed(4)]
    journal = SqliteJournal(path)
    journal.append(journal.claim(), group)
    assert list(journal.read()) == read(group)
    assert list(journal.read(2)) == read(group[2:])
    mine = [entry for entry in group if entry[0][3] == "t"]
    assert list(journal.task_events("t")) == read(mine)
    assert list(journal.select(["t"], 4)) == read(mine)
    assert journal.ends(["t", "u"]) == {"t": "TaskCompleted"}
    assert journal.verify() == 4
    assert journal.last == 4
    journal.close()
    with closing(sqlite3.connect(path)) as db:
        ((count,),) = db.execute("SELECT count(*) FROM facts").fetchall()
    assert count == 3


# -- documents of calls ------------------------------------------------------------

arguments = st.lists(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(2**70)
    | st.floats(allow_nan=False)
    | st.text()
    | st.lists(st.integers()),
    max_size=4,
).map(tuple)


@given(arguments)
def test_documents_of_calls_are_those_of_tasks(args):
    write = call_texts("x", len)
    made = write(args)
    assert type(made) is str
    assert made == _codec.dumps(_codec.plain(Task("x", Call(len, args)), list, 0))


def test_what_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(_codec, "MAX_TEXT", 1_000)
    large = "x" * 1_000
    write = call_texts("x", len)
    for make, where in (
        (lambda: document(large), "result"),
        (lambda: document([large]), "result"),
        (lambda: document(Task("x", large)), "payload"),
        (lambda: document(Task("x", Call(len, (large,)))), "payload"),
        (lambda: write((large,)), "payload"),
        (lambda: write((1, large)), "payload"),
    ):
        with pytest.raises(InvalidTaskError, match=f"^{where}: it takes") as caught:
            make()
        assert "keep it in a file" in caught.value.hint
    assert document("x" * 900) == f'"{"x" * 900}"'
