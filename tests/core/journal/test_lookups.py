"""What is looked up in a journal: tasks, their ends, keys; and whether it is whole."""

import sqlite3
from contextlib import closing

import pytest
from tests.core.journal.tools import ENTRIES, GROUPS, an_event, edit, filled

from taskorch.api.journal import SqliteJournal
from taskorch.core.journal import _reader
from taskorch.core.journal._sqlite_session import SqliteSession
from taskorch.errors import JournalError
from taskorch.events import (
    OrchestratorStarted,
    TaskCompleted,
    TaskFailed,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.model import Task


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path):
    filled(path)
    return SqliteJournal(path)


def submitted(seq, task_id, **options):
    return TaskSubmitted(seq, 1, task_id, "x", 0), Task("x", **options)


INCARNATIONS = [
    [submitted(1, "a", idempotency_key="k"), submitted(2, "b"), submitted(3, "c")],
    [(TaskStarted(4, 1, "a", 1, "local"), None)],
    [(TaskCompleted(5, 1, "a", 1, "local", 9), {"n": 1}), an_event(6, "b")],
    [(TaskFailed(7, 1, "c", 1, "local", "OSError", "no", "error"), None)],
    [submitted(8, "d", idempotency_key="é"), submitted(9, "e", idempotency_key="\ud800")],
]  # fmt: skip


@pytest.fixture
def lives(path):
    filled(path, INCARNATIONS)
    return SqliteJournal(path)


# -- select ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ids", [[], ["t"], ["u", "é"], ["t", "u", "é", "nobody"], ["nobody"]]
)
def test_select_gives_the_entries_of_the_tasks_up_to_a_number(journal, ids):
    theirs = [entry for entry in ENTRIES[1:] if entry[0][3] in ids]
    for until in (0, 2, 4, 8, 9, 10, 2**70):
        expected = [entry for entry in theirs if entry[0][1] <= until]
        assert list(journal.select(ids, until)) == expected


def test_select_takes_more_ids_than_one_statement_does(path):
    groups = [[an_event(seq, f"t{seq}")] for seq in range(1, 40)]
    filled(path, groups)
    ids = [f"t{seq}" for seq in range(2_000)]
    found = list(SqliteJournal(path).select(ids, 30))
    assert found == [entry for group in groups[:30] for entry in group]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE facts SET body = '[1]' WHERE seq = 4", "4 to 5 were changed"),
        ("DELETE FROM facts WHERE seq = 5", "5 to 5 are missing"),
        ("UPDATE groups SET crc = crc + 1 WHERE last = 5", "4 to 5 were changed"),
        ("UPDATE groups SET first = 3 WHERE last = 5", "4 to 5 were changed"),
        ("DELETE FROM groups WHERE last = 3", "3 to 3 are in no group"),
    ],
)
def test_select_checks_the_groups_that_it_reads(path, journal, statement, words):
    """Facts 4 and 5 are one group; facts 4 and 10 are about one task."""
    edit(path, statement)
    found = journal.select(["t"], 10)
    assert next(found) == ENTRIES[1]
    with pytest.raises(JournalError, match=words):
        next(found)


def test_select_notices_a_neighbour_that_was_changed(path, journal):
    edit(path, "UPDATE groups SET crc = crc + 1 WHERE last = 3")
    with pytest.raises(JournalError, match="4 to 5 were changed"):
        list(journal.select(["t"], 10))


def test_select_does_not_read_other_groups(path, journal):
    edit(path, "UPDATE facts SET body = '[1]' WHERE seq = 3")
    assert [entry[0][1] for entry in journal.select(["t"], 99)] == [2, 4, 5, 10]


def test_all_events_may_be_left_out(lives):
    with closing(lives):
        epoch = lives.claim()
        assert lives.forget(epoch, "abcde") == 9
        assert lives.verify() == 0
        lives.append(epoch, [an_event(10)])
        assert lives.verify() == 1


def test_an_event_in_no_group_is_damage(path, journal):
    edit(path, "INSERT INTO facts VALUES (11, 'TaskDue', 1, 't', '[1]', NULL)")
    with pytest.raises(JournalError, match="event 11 is in no group"):
        list(journal.select(["t"], 99))


# -- ends and keys -----------------------------------------------------------------


def test_the_ends_of_tasks(lives):
    assert lives.ends(["a", "b", "c", "d", "nobody"]) == {
        "a": "TaskCompleted",
        "b": "TaskCancelled",
        "c": "TaskFailed",
    }
    many = [*map(str, range(3_000)), "a"]
    assert lives.ends(many) == {"a": "TaskCompleted"}
    assert lives.ends([]) == {}


def test_a_key_leads_to_the_task_that_was_submitted_with_it(lives):
    assert lives.id_of_key("k") == "a"
    assert lives.id_of_key("é") == "d"
    # One that is no valid text is kept all the same.
    assert lives.id_of_key("\ud800") == "e"
    assert lives.id_of_key("?") is None
    assert lives.id_of_key("") is None


def test_a_key_of_a_document_is_kept_with_it(path):
    with closing(SqliteJournal(path, durability="process")) as journal:
        epoch = journal.claim()
        group = [submitted(seq, f"t{seq}", idempotency_key=f"k{seq}") for seq in (1, 2)]
        documents = [(event_, journal.document(task)) for event_, task in group]
        journal.append(epoch, documents)
        assert journal.id_of_key("k2") == "t2"
        # It was kept, and comes again.
        journal.append(epoch, documents)
        assert journal.verify() == 2


def test_a_key_is_kept_with_its_group_or_not_at_all(path):
    with closing(SqliteJournal(path, durability="process")) as journal:
        epoch = journal.claim()
        journal.append(epoch, INCARNATIONS[0])
        with pytest.raises(ValueError, match="after event 3"):
            journal.append(epoch, [submitted(3, "z", idempotency_key="z")])
        assert journal.id_of_key("z") is None


def test_the_latest_task_has_the_key(path):
    filled(path, [[submitted(n, f"t{n}", idempotency_key="k")] for n in (1, 2)])
    assert SqliteJournal(path).id_of_key("k") == "t2"
    assert SqliteJournal(path).verify() == 2


def test_where_there_is_no_journal_nothing_is_found(path):
    journal = SqliteJournal(path)
    assert list(journal.select(["t"], 9)) == []
    assert journal.ends(["t"]) == {}
    assert journal.id_of_key("k") is None
    assert journal.snapshot() is None
    assert journal.verify() == 0
    assert list(path.parent.iterdir()) == []


# -- verify ------------------------------------------------------------------------


def test_a_whole_journal_is_verified(lives, path):
    assert lives.verify() == 9
    with closing(SqliteJournal(path)) as owned:
        owned.save(owned.claim(), 4, {"n": 1})
        assert owned.verify() == 9


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE facts SET at_ns = 2 WHERE seq = 4", "4 to 4 were changed"),
        ("UPDATE facts SET body = '[1]' WHERE seq = 1", "1 to 3 were changed"),
        ("DELETE FROM keys WHERE key = 'k'", "keys are not those"),
        ("UPDATE keys SET task_id = 'b' WHERE key = 'k'", "keys are not those"),
        ("INSERT INTO keys VALUES ('z', 'a')", "keys are not those"),
        ("INSERT INTO snapshots VALUES (4, 1, '{}')", "snapshot at event 4"),
    ],
)
def test_verify_says_what_is_damaged(lives, path, statement, words):
    edit(path, statement)
    with pytest.raises(JournalError, match=words):
        lives.verify()


@pytest.mark.parametrize("column", ["first", "epoch", "crc", "form"])
def test_a_group_with_a_text_for_a_number_is_named(lives, path, column):
    """Where tables are not strict, it may have become one."""
    edit(
        path,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = replace(sql, 'STRICT', '')"
        " WHERE name = 'groups'",
    )
    edit(path, f"UPDATE groups SET {column} = 'many' WHERE last = 6")
    with pytest.raises(JournalError, match="the group up to event 6 cannot be read"):
        lives.verify()


def test_verify_reads_what_nothing_else_reads(lives, path):
    """An index that does not lead to all facts."""

    def declare(old, new):
        edit(
            path,
            "PRAGMA writable_schema = ON",
            f"UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}')"
            " WHERE name = 'facts_by_task'",
        )

    # Made while it is declared to be for facts without a task, it holds none of these.
    declare("IS NOT NULL", "IS NULL")
    edit(path, "REINDEX facts_by_task")
    declare("IS NULL", "IS NOT NULL")
    with pytest.raises(JournalError, match="facts_by_task"):
        lives.verify()


# -- for people --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("SELECT * FROM facts WHERE task_id = 'a'", "facts_by_task"),
        ("SELECT task_id FROM rare_facts WHERE kind = 'TaskFailed'", "facts_by_kind"),
        (
            "SELECT count(*) FROM rare_facts WHERE kind = 'TaskRetrying'",
            "facts_by_kind",
        ),
    ],
)
def test_plain_questions_use_an_index(lives, path, query, index):
    with closing(sqlite3.connect(path)) as db:
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}")]
    assert len(plan) == 1
    assert plan[0].startswith("SEARCH")
    assert index in plan[0]


@pytest.mark.parametrize("query", [_reader._NUMBERS, _reader._ENDS])
def test_our_own_questions_use_an_index(lives, path, query):
    values = {"names": '["a"]', "until": 9}
    text = SqliteSession.text(query)
    with closing(sqlite3.connect(path)) as db:
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    asked = [line for line in plan if " facts" in line]
    assert len(asked) == 1
    assert asked[0].startswith("SEARCH")
    assert "facts_by_task" in asked[0]


def test_the_tasks_that_failed_can_be_asked_for(lives, path):
    with closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT task_id FROM rare_facts WHERE kind = 'TaskFailed'")
        assert found.fetchall() == [("c",)]


def test_groups_of_every_size_are_kept(path):
    """Rows are inserted by hundreds, by tens, and one by one."""
    sizes, groups, seq = (1, 4, 5, 49, 50, 61, 499, 500, 1_106), [], 0
    for size in sizes:
        groups.append([submitted(seq + n, f"t{n}", idempotency_key=f"{seq + n}") for n in range(1, size + 1)])  # fmt: skip
        seq += size
    filled(path, groups)
    journal = SqliteJournal(path)
    assert journal.verify() == seq
    assert list(journal.read()) == [entry for group in groups for entry in group]


def test_the_bug_of_the_log_is_known_by_the_version(monkeypatch, path):
    journal = SqliteJournal(path)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))
    assert journal.wal_reset_bug
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    assert not journal.wal_reset_bug


def test_all_groups_are_as_they_were_written(path):
    filled(path)
    with closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT last, first FROM groups ORDER BY last").fetchall()
    assert found == [(group[-1][0][1], group[0][0][1]) for group in GROUPS]


# -- connections -------------------------------------------------------------------


def test_a_question_that_is_given_up_leaves_nothing_behind(path):
    with closing(SqliteJournal(path, durability="process")) as journal:
        epoch = journal.claim()
        for group in GROUPS:
            journal.append(epoch, group)
        reader = journal.read()
        next(reader)
        reader.close()
        assert journal._idle._readers == []
        assert journal.verify() == len(ENTRIES)
        # No transaction is left open: what comes next is seen.
        journal.append(epoch, [an_event(11)])
        assert journal.last == 11


@pytest.mark.parametrize(
    "prefix",
    [
        *("run/", "run", "r", "run/a", "run0", "s", "é", "", "z"),
        *("\ud7ff", "\ud800", "\U0010ffff", "s\U0010ffff", "\U0010ffff" * 2),
    ],
)
def test_the_ids_that_begin_alike_are_those_that_begin_so(path, prefix):
    names = ["run/b", "ru", "run/a", "run/a/x", "run", "run0", "run.", "s", "é/1"]
    names += ["\ud7ff", "\ue000", "\ud7ff\U0010ffff", "\U0010ffff" * 200]
    groups = [[submitted(n, name) for n, name in enumerate(names, 1)]]
    # A fact about no task has no id.
    filled(path, [*groups, [(OrchestratorStarted(len(names) + 1, 1), None)]])
    with closing(SqliteJournal(path)) as journal:
        found = journal.ids(prefix)
    assert found == [name for name in names if name.startswith(prefix)]


def test_where_there_is_no_journal_yet_there_are_no_ids(path):
    with closing(SqliteJournal(path)) as journal:
        assert journal.ids("run/") == []
