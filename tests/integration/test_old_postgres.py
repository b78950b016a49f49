"""Journals in PostgreSQL of before there were sums over groups."""

import gzip
import threading
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from tests.integration.tools import PATIENCE

from taskorch import PostgresJournal, Task, TaskOrchestrator
from taskorch.errors import JournalError
from taskorch.events import TaskSubmitted
from taskorch.reading import JournalReader

KEPT = Path(__file__).parent / "data" / "postgres-layout-1.sql.gz"
NUMBERS = count()
#: The facts of its two partitions.
FACTS = {"old": 39, "other": 8}


@pytest.fixture
def database(postgres):
    """The name of a database that has them."""
    name = f"old_{next(NUMBERS)}"
    postgres.run(f"CREATE DATABASE {name}")
    postgres.run(gzip.decompress(KEPT.read_bytes()).decode(), database=name)
    return name


@pytest.fixture
def run(postgres, database):
    return lambda statement: postgres.run(statement, database=database)


def in_use(run):
    """As of an owner on another machine, which lives."""
    run(
        "UPDATE taskorch.partitions SET lease_until = now() + interval '1 day',"
        " machine = 'another' WHERE name = 'other'"
    )


def test_they_go_on_and_are_checked_from_then_on(postgres, database, run):
    address = postgres.address("old", database)
    with TaskOrchestrator(journal=address) as orch:
        assert orch.handle("square/8").result(PATIENCE) == 64
        assert orch.get_task_status("square/8").attempts == 1
        again = Task.call(pow, 8, 2, idempotency_key="key 8")
        assert orch.submit_task(again).task_id == "square/8"
        assert orch.submit(abs, -5).result(PATIENCE) == 5
    journal = PostgresJournal(address)
    assert journal.verify() > FACTS["old"]
    other = postgres.address("other", database)
    assert PostgresJournal(other).verify() == FACTS["other"]
    assert JournalReader(other).get_task_status("sum").result == 3
    with TaskOrchestrator(journal=postgres.address("old", database)) as orch:
        assert orch.handle("square/8").result(PATIENCE) == 64
    assert journal.verify() > FACTS["old"]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM {} WHERE kind = 'TaskSubmitted' AND task_id = 'square/8'",
        "DELETE FROM {} WHERE kind = 'TaskCompleted' AND task_id = 'square/8'",
        "UPDATE {} SET body = '[2]' WHERE kind = 'OrchestratorStopped'",
        "UPDATE {} SET doc = '7' WHERE doc = '64'",
    ],
)
def test_what_is_changed_afterwards_is_damage(postgres, database, run, statement):
    journal = PostgresJournal(postgres.address("old", database))
    journal.migrate()
    assert journal.verify() == FACTS["old"]
    run(statement.format("taskorch.facts"))
    with pytest.raises(
        JournalError, match=r"is damaged: events \d+ to \d+ (?:were|are)"
    ):
        list(journal.read())


def test_a_group_that_is_gone_afterwards_is_missed(postgres, database, run):
    journal = PostgresJournal(postgres.address("other", database))
    journal.migrate()
    ((first, last),) = run(
        "SELECT first, last FROM taskorch.groups WHERE partition ="
        " (SELECT id FROM taskorch.partitions WHERE name = 'other')"
        " ORDER BY last LIMIT 1 OFFSET 1"
    )
    run(f"DELETE FROM taskorch.facts WHERE seq BETWEEN {first} AND {last}")
    run(f"DELETE FROM taskorch.groups WHERE last = {last}")
    with pytest.raises(JournalError, match=f"events {first} to {last} are missing"):
        list(journal.read())


def test_what_was_missing_before_is_said(postgres, database, run):
    """The sum of what is there would hide it."""
    run("DELETE FROM taskorch.facts WHERE seq = 21")
    journal = PostgresJournal(postgres.address("old", database))
    journal.migrate()
    with pytest.raises(JournalError, match=r"is damaged: events 1 to \d+ were changed"):
        list(journal.read())
    assert PostgresJournal(postgres.address("other", database)).verify()


def test_what_was_left_out_before_is_missing_to_nobody(postgres, database):
    journal = PostgresJournal(postgres.address("old", database))
    journal.migrate()
    ids = [fact.task_id for fact, _ in journal.read() if type(fact) is TaskSubmitted]
    assert "square/0" not in ids
    with closing(journal):
        assert journal.forget(journal.claim(), ["square/8"])
        assert list(journal.select(["square/8"], 1 << 60)) == []
        assert journal.verify() == FACTS["old"] - 3


def test_tables_that_somebody_may_write_to_stay_as_they_are(postgres, database, run):
    in_use(run)
    address = postgres.address("old", database)
    with pytest.raises(JournalError, match="has layout 1, and 3 is known") as error:
        PostgresJournal(address).claim()
    assert "stop all that use it, then run: taskorch migrate" in error.value.hint
    with pytest.raises(JournalError, match="has layout 1, and 3 is known"):
        JournalReader(address)
    assert run("SELECT version FROM taskorch.layout") == [(1,)]
    assert PostgresJournal(address).migrate() == 3
    with closing(PostgresJournal(address)) as journal:
        assert journal.claim() == 4


def test_an_owner_of_an_earlier_version_writes_nothing_any_more(
    postgres, database, run
):
    """The statement with which it keeps a group, as far as it matters."""
    import psycopg

    PostgresJournal(postgres.address("old", database)).migrate()
    with pytest.raises(psycopg.errors.UndefinedColumn):
        run(
            "UPDATE taskorch.partitions SET last = last + 1, facts = facts + 1"
            " WHERE name = 'old'"
        )


def test_several_that_come_first_at_once(postgres, database):
    errors = []

    def claim(partition):
        try:
            with closing(PostgresJournal(postgres.address(partition, database))) as one:
                one.claim()
                assert one.verify() == FACTS.get(partition, 0)
        except Exception as error:
            errors.append(error)

    names = ("old", "other", "new")
    threads = [threading.Thread(target=claim, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
