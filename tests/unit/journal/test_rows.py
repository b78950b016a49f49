"""Groups on their way into the journal: an attempt that is over soon is one row."""

import json
import sqlite3
from contextlib import closing

import attrs
import pytest
from hypothesis import given, strategies as st

from taskorch.errors import InvalidTaskError
from taskorch.events import (
    OrchestratorStarted,
    TaskCompleted,
    TaskFailed,
    TaskProgressed,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.journal import SqliteJournal, _codec
from taskorch.journal._codec import (
    Rows,
    call_texts,
    column,
    document,
    encode,
    entries,
    text_of,
)
from taskorch.model import Call, Resources, RetryPolicy, Task

TASK = Task("x", Call(len))
CALL = document(TASK)


def submitted(seq, task_id="t"):
    middle = ((), None, (), None, None, True)
    fact = TaskSubmitted(seq, 5, task_id, "x", 0, *middle, 7, None, None, None, False)
    return fact, CALL


def started(seq, task_id="t", attempt=1, agent="local", allocation=()):
    fact = TaskStarted(seq, seq + 5, task_id, attempt, agent, allocation, "because")
    return fact, None


def completed(seq, task_id="t", attempt=1, agent="local", value=None):
    return TaskCompleted(seq, seq + 5, task_id, attempt, agent, 9), value


def failed(seq, task_id="t"):
    return TaskFailed(seq, 5, task_id, 1, "local", "OSError", "", "error"), None


def read(group):
    """*group* as it comes back."""
    return [(fact, TASK if value is CALL else value) for fact, value in group]


def kinds(rows):
    return [row[1] for row in rows]


def test_an_attempt_within_a_group_is_one_row():
    group = [submitted(1), started(2), completed(3, value={"n": 1})]
    rows = Rows(group)
    assert kinds(rows) == ["TaskSubmitted", "TaskCompleted"]
    assert [len(json.loads(row[4])) for row in rows] == [5, 6]
    assert entries(rows) == read(group)
    assert len(Rows([started(2)])) == 1
    assert rows.numbers == [1, 3]


@pytest.mark.parametrize(
    "end",
    [
        failed(3),
        completed(3, attempt=2),
        completed(3, agent="other"),
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
    for agent, task_id in (("\ud800", "t"), ("local", "é"), ("local", "\udc00")):
        group = [started(2, task_id, agent=agent), completed(3, task_id, agent=agent)]
        assert len(list(Rows(group))) == 2
        assert entries(Rows(group)) == read(group)


def test_what_an_attempt_holds_comes_back():
    group = [started(2, allocation=(("cpu", 1_000_000),)), completed(3)]
    assert kinds(Rows(group)) == ["TaskCompleted"]
    assert entries(Rows(group)) == read(group)


def test_starts_that_are_left_stand_at_their_place():
    group = [started(1, "a"), submitted(2), started(3, "b"), started(4, "c")]
    group += [completed(5, "b"), (OrchestratorStarted(6, 9), None)]
    rows = Rows(group)
    assert len(rows) == 5
    assert rows.numbers == [1, 2, 4, 5, 6]
    assert entries(rows) == read(group)
    # What comes after they were looked at is in order too.
    rows.keep(*completed(7, "c"))
    assert entries(rows) == [*read(group), completed(7, "c")]


steps = st.lists(
    st.tuples(
        st.sampled_from([submitted, started, completed, failed]),
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=12,
)


@given(steps, st.integers(0, 14))
def test_any_facts_come_back_in_order(steps, after):
    group = [make(seq, task_id) for seq, (make, task_id) in enumerate(steps, 1)]
    rows = Rows(group)
    assert len(rows) >= len(list(rows)) == len(rows.numbers)
    assert rows.numbers == sorted(set(rows.numbers))
    assert entries(rows) == read(group)
    assert entries(rows, after) == read(group[after:])
    assert Rows(list(rows)).values == rows.values


@pytest.mark.parametrize(
    "value", [7, "text", [1, (2,)], 2**70, TASK, Task("x", id="i")]
)
def test_texts_are_kept_as_documents_are(value):
    text = text_of(value)
    assert type(text) is str
    assert text == document(value)
    facts = [submitted(1)[0], completed(2)[0]]
    texts, documents = Rows(), Rows()
    for fact in facts:
        texts.keep(fact, text)
        documents.keep(fact, document(value))
    assert list(texts) == list(documents) == list(Rows([(f, value) for f in facts]))
    # A subclass would be no better than any object to sqlite3.
    assert {type(item) for item in documents.values} == {int, str}


@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize("after", [(), ("p",), ("p", "é", 'a"b'), ("\ud83d", "\ude00")])
def test_a_submission_is_written_as_with_care(after, is_named):
    (fact, cargo) = submitted(1)
    fact = (*fact[:6], after, *fact[7:-1], is_named)
    (row,) = Rows([(fact, cargo)])
    if after or is_named:
        assert row == encode((fact, cargo))
    assert entries([row]) == read([(fact, cargo)])


def test_the_key_of_a_task_goes_with_its_text():
    rows = Rows()
    rows.keep(submitted(1)[0], text_of(Task("x", idempotency_key="k")))
    assert rows.keys == ["k", "t"]
    assert entries(rows)[0][1].idempotency_key == "k"


@pytest.mark.parametrize("key", ["k", "é", "\ud800", None])
def test_the_key_of_a_task_is_found_in_its_row(key):
    """As a journal gives it that wraps this one; the word may be another's too."""
    task = Task("x", idempotency_key=key, metadata={"idempotency_key": "another"})
    rows = Rows([(submitted(1)[0], document(task))])
    again = Rows(list(rows))
    assert again.keys == rows.keys == ([] if key is None else [column(key), "t"])
    assert entries(again)[0][1].idempotency_key == key


def test_what_is_no_task_has_no_key_though_it_says_the_word():
    group = [started(1), completed(2, value={"idempotency_key": "k"})]
    again = Rows(list(Rows(group)))
    assert again.keys == []
    assert entries(again) == group


@pytest.mark.parametrize("task_id", ["t", "é", "\udcff", "a\ud800"])
def test_the_id_of_a_task_can_be_written_whatever_it_is(task_id):
    row = encode(failed(1, task_id))
    assert row[3] == column(task_id)
    assert row[3].encode()
    assert entries([row]) == [failed(1, task_id)]


def test_the_journal_gives_both_facts_of_such_a_row(tmp_path):
    path = tmp_path / "journal.db"
    group = [submitted(1), started(2), submitted(3, "u"), completed(4)]
    journal = SqliteJournal(path)
    journal.append(journal.claim(), group)
    assert list(journal.read()) == read(group)
    assert list(journal.read(2)) == read(group[2:])
    mine = [entry for entry in group if entry[0][3] == "t"]
    assert list(journal.task_facts("t")) == read(mine)
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


def test_a_call_that_cannot_be_kept_is_refused_as_the_task_is():
    write = call_texts("x", len)
    with pytest.raises(InvalidTaskError, match=r"^payload\.args\[1\]: "):
        write((1, object()))


def test_of_what_is_no_plain_function_each_call_is_looked_at():
    assert call_texts("x", [].append) is None
    assert call_texts("\ud800", len) is None


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


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (2, 0),
        (3, "é"),
        (4, "y"),
        (5, 7),
        (6, ("parent",)),
        (7, ("x",)),
        (8, (("cpu", 1_000_000),)),
        (9, "t~1"),
        (10, 5),
        (11, False),
        (12, (0, 1.5)),
        (13, 11),
        (14, 12),
        (15, 13),
        (16, True),
    ],
)
def test_each_field_of_a_submission_comes_back_alone(place, value):
    """However usual all the others are: the most usual ones are written shortly."""
    (fact, cargo) = submitted(1)
    changed = (*fact[:place], value, *fact[place + 1 :])
    assert changed != fact
    group = [submitted(1), ((changed[0], 2, *changed[2:]), cargo), submitted(3)]
    assert entries(Rows(group)) == read(group)


@pytest.mark.parametrize(
    "option",
    [
        {"id": "t"},
        {"after": ("parent",)},
        {"join": "any"},
        {"on_parent_failure": "skip"},
        {"requires": ("x",)},
        {"resources": Resources(cpu=1)},
        {"timeout": 1.0},
        {"retry": RetryPolicy(2)},
        {"deadline": 5.0},
        {"not_before": 5.0},
        {"idempotency_key": "k"},
        {"idempotent": False},
        {"metadata": {"a": 1}},
        {"priority": 1},
        {"priority": False},
    ],
    ids=lambda option: next(iter(option)),
)
def test_each_option_of_a_task_comes_back_alone(option):
    task = attrs.evolve(TASK, **option)
    group = [(submitted(1)[0], document(task))]
    assert document(task) == _codec.dumps(_codec.plain(task, list, 0))
    assert entries(Rows(group)) == [(group[0][0], task)]
