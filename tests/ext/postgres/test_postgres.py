"""The journal in PostgreSQL: its laws, its owner, and what it refuses."""

import os
import threading
import time
import traceback
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import pytest

from taskorch import PostgresJournal, Task, TaskOrchestrator
from taskorch.api.journal import register_file
from taskorch.errors import (
    InvalidTaskError,
    JournalError,
    JournalTakenError,
    JournalUnavailableError,
    TaskorchError,
)
from taskorch.events import OrchestratorStarted, TaskCompleted, TaskSubmitted
from taskorch.ext.views import JournalReader
from taskorch.kit.address import without_password
from taskorch.kit.visible import visible
from taskorch.testing.laws import check_durable_journal


@pytest.fixture
def address(postgres):
    return postgres.address()


def facts(*numbers):
    return [(OrchestratorStarted(number, number), None) for number in numbers]


def append_when_possible(journal, epoch, group):
    """As an orchestrator does: the same group again, until it is kept or refused."""
    end = time.monotonic() + 120
    while True:
        try:
            return journal.append(epoch, group)
        except JournalUnavailableError:
            assert time.monotonic() < end
            time.sleep(0.05)


def numbers_in(address):
    return [event.seq for event, _ in PostgresJournal(address).read()]


@pytest.mark.slow("the laws, on a server")
def test_the_laws_hold(postgres):
    numbers, latest = count(), []

    def make():
        latest[:] = [postgres.address(f"laws-{os.getpid()}-{next(numbers)}")]
        return reopen()

    def reopen():
        return PostgresJournal(latest[0], lease=0.5)

    check_durable_journal(make, reopen=reopen, examples=3)


def test_what_was_done_is_not_done_again_by_another_program(address):
    for _ in range(2):
        with TaskOrchestrator(journal=address) as orch:
            tasks = [Task.call(pow, n, 2, id=f"square/{n}") for n in range(5)]
            total = Task.call(sum, orch.submit_tasks(tasks), id="total")
            assert orch.submit_task(total).result() == 30
    reader = JournalReader(address)
    assert reader.get_stats().types["pow"].completed == 5
    assert reader.get_task_status("total").attempts == 1
    assert reader.owner.lives is False
    assert len(reader.uid) == 32


def test_partitions_are_journals_of_their_own(postgres):
    one, other = postgres.address("one"), postgres.address("other")
    with TaskOrchestrator(journal=one) as a, TaskOrchestrator(journal=other) as b:
        a.submit_task(Task.call(str, 1, id="t")).result()
        assert b.submit_task(Task.call(str, 2, id="t")).result() == "2"
    assert JournalReader(one).get_task_status("t").result == "1"


def test_who_comes_while_the_owner_lives_is_told_who_that_is(address):
    with closing(PostgresJournal(address, lease=30)) as first:
        epoch = first.claim()
        with pytest.raises(JournalTakenError, match=f"process {os.getpid()} on"):
            PostgresJournal(address, lease=30).claim()
        # It needs no commit to stay the owner.
        first.append(epoch, facts(1))
    assert PostgresJournal(address).claim() == epoch + 1


def test_of_two_that_take_it_over_the_later_one_has_it(address):
    first, second = (PostgresJournal(address, take_over=True) for _ in range(2))
    with closing(first), closing(second):
        old, new = first.claim(), second.claim()
        with pytest.raises(JournalTakenError, match=f"by incarnation {new}"):
            first.append(old, facts(1))
        second.append(new, facts(1))
    assert numbers_in(address) == [1]


def test_standbys_wait_and_one_of_them_takes_over(address):
    first = PostgresJournal(address)
    epoch = first.claim()
    first.append(epoch, facts(1))
    claimed, names = [], threading.Semaphore(0)

    def stand_by():
        with closing(PostgresJournal(address, standby=True)) as journal:
            claimed.append(journal.claim())
            names.release()
            # The other waits for this to close it.
            journal.append(claimed[-1], facts(claimed[-1]))

    threads = [threading.Thread(target=stand_by) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert not claimed
    first.close()
    for thread in threads:
        thread.join()
    assert claimed == [epoch + 1, epoch + 2]
    assert numbers_in(address) == [1, *claimed]


def test_an_orchestrator_that_stands_by_can_be_stopped(address):
    with closing(PostgresJournal(address)) as owner:
        owner.claim()
        orch = TaskOrchestrator(journal=PostgresJournal(address, standby=True))
        errors = []

        def start():
            try:
                orch.start()
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=start)
        thread.start()
        orch.stop()
        thread.join()
        assert [type(error).__name__ for error in errors] == ["NotRunningError"]


@pytest.mark.slow("a group of 36 MB")
def test_a_large_group_and_a_large_value_are_kept_whole(address):
    entries = [
        (TaskCompleted(number, 1, f"t{number}", 1, "a", 1), "é" * 6_000_000)
        for number in range(1, 4)
    ]
    with closing(PostgresJournal(address)) as journal:
        journal.append(journal.claim(), entries)
    assert list(PostgresJournal(address).read()) == entries


def test_a_task_is_found_by_its_key(address):
    key = "é's key \\" * 20
    with TaskOrchestrator(journal=address) as orch:
        task = Task.call(str, 1, idempotency_key=key)
        first = orch.submit_task(task)
    with TaskOrchestrator(journal=address) as orch:
        assert orch.submit_task(task).task_id == first.task_id


@pytest.mark.parametrize(
    "prefix", ["", "run/", "run", "\ud7ff", "\U0010ffff", "\ud800"]
)
def test_the_ids_that_begin_alike_are_those_that_begin_so(address, prefix):
    names = ["run/b", "run/a/x", "run", "run0", "s", "\ud7ffa", "\ue000", "\U0010ffff"]
    group = [
        (TaskSubmitted(n, 1, name, "x", 0), Task("x"))
        for n, name in enumerate(names, 1)
    ]
    with closing(PostgresJournal(address)) as journal:
        journal.append(journal.claim(), [*group, *facts(len(names) + 1)])
        ids = journal.ids(prefix)
    assert ids == [name for name in names if name.startswith(prefix)]


# -- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"partition": "a b"}, "partition: 'a b' is no safe id"),
        ({"lease": 0.01}, "at least 0.1"),
        ({"lease": "x"}, "lease"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(InvalidTaskError, match=words):
        PostgresJournal("postgresql:///x", **options)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("postgresql://h/d?colour=red", "colour"),
        ("postgresql://h/d?lease=soon", "lease='soon' of the address is no number"),
        ("postgresql://h/d?standby=perhaps", "neither true nor false"),
        ("postgresql://h/d?=1", "not well formed"),
        ("postgresql://h/d?port=none", "a port is no number"),
    ],
)
def test_a_bad_address_is_refused(address, words):
    with pytest.raises(InvalidTaskError, match=words):
        TaskOrchestrator(journal=address).start()


def test_an_address_that_became_a_path_is_refused():
    with pytest.raises(InvalidTaskError, match="looks like the address of a") as told:
        TaskOrchestrator(journal=Path("postgresql://ann:hunter2@h/d"))
    assert "hunter2" not in str(told.value)


#: Addresses as people write them, each with a password that begins with hunter2.
WITH_PASSWORD = [
    "postgresql://ann:hunter2@h:1/d",
    "Postgresql://ann:hunter2@h:1/d",
    "POSTGRES://ann:hunter2@h:1/d",
    "  postgresql://ann:hunter2@h:1/d\n",
    "postgresql:/ann:hunter2@h:1/d",
    "postgresql:ann:hunter2@h:1/d",
    "postgresql://ann:hunter2/more@h:1/d",
    "postgresql://ann:1/hunter2@h:1/d",
    "postgresql://ann:hunter2?more@h:1/d",
    "postgresql://ann:1?hunter2@h:1/d",
    "postgresql://ann:hunter2#more@h:1/d",
    "postgresql://ann:hunter2@more@h:1/d",
    "postgresql://ann:hunter2:more@h:1/d",
    "postgresql://ann:hunter2%zz@h:1/d",
    "postgresql://ann:hunter2%@h:1/d",
    "postgresql://ann:hunter2 more@h:1/d",
    "postgresql://ann@h:1/d?password=hunter2",
    "postgresql://ann@h:1/d?passwd=hunter2",
    "postgresql://ann@h:1/d?sslpassword=hunter2",
    "postgresql://h:hunter2/d",
    "host=h port=1 user=ann password=hunter2 dbname=d",
    "host=h port=1 user=ann password='hunter2 more' dbname=d",
    "host=h port=1 user=ann password=hunter2 more dbname=d",
    "host=h port=1 user=ann password='hunter2 more dbname=d",
    "  dbname=d password = hunter2",
    "password=hunter2 host=h",
]


def test_a_password_is_in_no_text_for_people(tmp_path, monkeypatch):
    """Nor is an address taken for the name of a file, however it is misspelt."""
    monkeypatch.chdir(tmp_path)
    makers = PostgresJournal, JournalReader, lambda d: TaskOrchestrator(journal=d)
    for dsn in WITH_PASSWORD:
        shown = [without_password(dsn)]
        shown += [visible(dsn)] if ":" in dsn else []
        for make in makers:
            try:
                made = make(dsn)
            except TaskorchError as error:
                shown += [*traceback.format_exception(error), str(error.hint)]
            else:
                shown.append(repr(made))
        # What the test itself says is no text of ours.
        shown = [text for text in shown if __file__ not in text]
        assert [
            text for text in shown if "hunter2" in text and text.strip() != dsn
        ] == []
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("dsn", "name"),
    [
        ("Postgresql://ann:x@h:1/d", "postgresql://ann@h:1/d?partition=default"),
        (" host=h user=ann dbname=d", "postgresql://ann@h/d?partition=default"),
        (
            "postgresql://a,b:2,[::1]:3/d",
            "postgresql://a,b,::1:,2,3/d?partition=default",
        ),
        ("postgresql:///d?host=/tmp/x", "postgresql:///tmp/x/d?partition=default"),
        ("postgresql://a%40b:%2F%3F@h/d", "postgresql://a@b@h/d?partition=default"),
    ],
)
def test_an_address_is_shown_by_its_parts(dsn, name):
    assert PostgresJournal(dsn).name == name


@pytest.mark.parametrize("place", ["mysql://ann:hunter2@h/d", "sqlite:///x.db"])
def test_the_address_of_another_server_is_no_file(place):
    with pytest.raises(InvalidTaskError, match="no journal of this kind") as told:
        TaskOrchestrator(journal=place)
    assert "hunter2" not in str(told.value)


def test_a_server_that_is_not_there_is_said_without_a_password(tmp_path):
    address = f"postgresql://ann:secret@/d?host={tmp_path}&connect_timeout=1"
    journal = PostgresJournal(address)
    with pytest.raises(JournalUnavailableError, match="cannot be claimed now") as told:
        journal.claim()
    assert "secret" not in f"{told.value} {told.value.hint} {journal.name} {journal!r}"
    with pytest.raises(JournalUnavailableError):
        JournalReader(address)


class InAFile:
    """What is kept in files beside a journal that is in a file."""


def test_what_is_kept_in_files_is_refused_with_what_does_instead():
    register_file(InAFile, str, str)
    with pytest.raises(InvalidTaskError, match="beside the journal") as told:
        PostgresJournal("postgresql:///x").document(InAFile())
    assert "register() it in the place of that" in told.value.hint


@pytest.mark.parametrize(
    ("is_said", "becomes", "words"),
    [
        ("user=postgres", "user=nobody-here", 'role "nobody-here" does not exist'),
        ("/postgres?", "/no-such-one?", 'database "no-such-one" does not exist'),
        ("/postgres?", "/postgres?sslmode=no&", "invalid sslmode value"),
        ("user=postgres", "user=ann&password=wrong", "password authentication failed"),
    ],
)
def test_a_standby_does_not_wait_for_what_never_comes(
    postgres, address, is_said, becomes, words
):
    if "ann" in becomes:
        has_a_password(postgres, "ann")
    journal = PostgresJournal(address.replace(is_said, becomes), standby=True)
    with pytest.raises(JournalUnavailableError, match=words) as told:
        journal.claim()
    assert "mend the address" in told.value.hint


def has_a_password(postgres, name):
    """Make a user whom the server asks for a password."""
    import psycopg

    postgres.run(f"CREATE ROLE {name} LOGIN PASSWORD 'right'")
    lines = f"local all {name} scram-sha-256", "local all all trust"
    ((file,),) = postgres.run("SHOW hba_file")
    with postgres.connect() as db:
        db.execute(f"COPY (SELECT unnest(ARRAY{[*lines]})) TO '{file}'")
        db.execute("SELECT pg_reload_conf()")
    end = time.monotonic() + 60
    with suppress(psycopg.OperationalError):
        while time.monotonic() < end:
            psycopg.connect(
                f"host={postgres.folder} user={name} dbname=postgres"
            ).close()


def test_a_reader_names_the_partitions_that_there_are(postgres):
    with closing(PostgresJournal(postgres.address("is-there"))) as journal:
        journal.claim()
    with pytest.raises(JournalError, match="no such partition") as told:
        JournalReader(postgres.address("is-not"))
    assert "is-there" in told.value.hint


@pytest.mark.parametrize("layout", [99, 0])
def test_another_layout_is_refused(postgres, layout):
    name = f"layout{layout}"
    postgres.run(f"CREATE DATABASE {name}")
    address = postgres.address("p", name)
    with closing(PostgresJournal(address)) as journal:
        journal.claim()
    postgres.run("UPDATE taskorch.layout SET version = %s", [layout], name)
    for use in (PostgresJournal(address).claim, lambda: JournalReader(address)):
        with pytest.raises(JournalError, match=f"has layout {layout}") as told:
            use()
        assert "pip install --upgrade taskorch" in told.value.hint


def test_commits_that_do_not_wait_for_the_disk_are_refused(postgres):
    postgres.run("CREATE DATABASE fast")
    postgres.run("ALTER DATABASE fast SET synchronous_commit = off")
    address = postgres.address("p", "fast")
    with pytest.raises(JournalError, match="synchronous_commit is off there"):
        PostgresJournal(address).claim()
    with closing(PostgresJournal(address, durability="process")) as journal:
        journal.append(journal.claim(), facts(1))
    # It may be set under way.
    postgres.run("ALTER DATABASE fast RESET synchronous_commit")
    with closing(PostgresJournal(address)) as journal:
        epoch = journal.claim()
        journal.append(epoch, facts(2))
        postgres.run("ALTER DATABASE fast SET synchronous_commit = off")
        postgres.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = 'fast' AND pid <> pg_backend_pid()"
        )
        with pytest.raises(JournalError, match="synchronous_commit is off there"):
            append_when_possible(journal, epoch, facts(3))
    assert numbers_in(address) == [1, 2]


def test_a_database_of_another_encoding_is_refused(postgres):
    postgres.run(
        "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
        " TEMPLATE template0"
    )
    with pytest.raises(JournalError, match="the encoding LATIN1, not UTF8"):
        PostgresJournal(postgres.address("p", "latin")).claim()


def test_without_rights_it_is_said_what_to_grant(postgres, address):
    postgres.run("CREATE ROLE guest LOGIN")
    with closing(PostgresJournal(address)) as journal:
        journal.claim()
    with pytest.raises(JournalError, match="permission denied") as told:
        PostgresJournal(address.replace("user=postgres", "user=guest")).claim()
    assert "grant this role the schema taskorch" in told.value.hint


# -- what others do to the server ------------------------------------------------------


def end_connections(server):
    server.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND application_name = 'taskorch'"
    )


def test_connections_that_were_ended_are_no_error_for_who_reads_or_writes(
    postgres, address
):
    """As a pgbouncer or a server does that is restarted: another one is made."""
    with TaskOrchestrator(journal=address, concurrency=2) as orch:
        for number in range(20):
            end_connections(postgres)
            # An id is looked for among those that have left memory.
            handle = orch.submit_task(Task.call(abs, -number, id=f"t/{number}"))
            assert handle.result(60) == number
        journal = PostgresJournal(address)
        for ask in (
            lambda: journal.ends(["t/1"]),
            lambda: journal.last,
            lambda: journal.owner()["lives"],
            lambda: [*journal.read()],
            lambda: [*journal.select(["t/1"], 1 << 60)],
        ):
            end_connections(postgres)
            assert ask()
