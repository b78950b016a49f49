"""
Owners of a journal in PostgreSQL that die, sleep or are cut off, and who comes after.

Among these are the seven ways in which others' queues in a database strand or double
what they were given: one owner a task, found again by a sweep, is what they have in
common; here one row says who owns all, and each write is fenced by it.
"""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from tests.ext.postgres.test_postgres import (
    append_when_possible,
    facts,
    numbers_in,
)
from tests.house.postgres import SOCKET, Cutter, Server, find_binaries, new_server
from tests.worlds.faults import ledger, postgres_lives
from tests.worlds.faults.tools import Process

from taskorch import PostgresJournal, Task, TaskOrchestrator
from taskorch.errors import JournalError, JournalTakenError, JournalUnavailableError
from taskorch.events import (
    OrchestratorStarted,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.ext.views import JournalReader

#: Of those that are killed at random.
TASKS = 100
HAS_LOOKED = """
    SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waits'
    AND state = 'idle' AND query LIKE '%%lease_until%%'
"""
WAITS_TO_WRITE = """
    SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
    AND query LIKE '%%INSERT INTO taskorch.facts%%'
"""
ENDS = (TaskCompleted, TaskFailed, TaskCancelled)


@pytest.fixture
def folder(postgres, tmp_path):
    """One with the address of a new journal."""
    (tmp_path / "address").write_text(postgres.address())
    return tmp_path


@pytest.fixture
def cutter(postgres):
    with closing(Cutter(postgres)) as made:
        yield made


def wait_until(is_so):
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def address_in(folder):
    return (folder / "address").read_text()


@contextmanager
def orchestrator(address, **options):
    """One that takes over, and runs what is there to its end."""
    journal = PostgresJournal(address, standby=True, lease=600)
    with TaskOrchestrator(journal=journal, **options) as orch:
        yield orch


# -- the owner -------------------------------------------------------------------------


def test_another_takes_over_from_a_killed_owner_and_runs_what_ran(folder):
    """
    A task that somebody "is doing" who is dead runs, with no sweep to wait for; and what
    comes between two steps, the second of which was not begun, too.
    """
    with Process(postgres_lives.hold, folder) as owner:
        assert owner.line() == "ready"
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
    (folder / "go").touch()
    postgres_lives.use(folder)
    with orchestrator(address_in(folder)) as orch:
        assert orch.handle("second").result(60) == 2
        assert orch.get_task_status("first").attempts == 2


@pytest.mark.slow("an owner sleeps past its lease")
@pytest.mark.parametrize("standbys", [1, 2])
def test_an_owner_that_slept_past_its_lease_does_nothing_more(folder, standbys):
    """What it ran goes on to its end, but nothing begins after that."""
    with Process(postgres_lives.hold, folder) as owner:
        assert owner.line() == "ready"
        os.kill(owner.pid, signal.SIGSTOP)
        nodes = [Process(postgres_lives.node, folder, 5) for _ in range(standbys)]
        try:
            # One of them owns it while the other waits.
            reader = JournalReader(address_in(folder))
            wait_until(lambda: reader.owner.epoch == 2)
            before = reader.last
            (folder / "go").touch()
            os.kill(owner.pid, signal.SIGCONT)
            assert owner.line() == "raised JournalTakenError"
            for node in nodes:
                assert [node.line() for _ in range(3)] == ["ready", "owner", "done"]
        finally:
            for node in nodes:
                node.__exit__()
    check_history(folder)
    assert JournalReader(address_in(folder)).last > before
    effects = [words[:2] for words in ledger.of(folder / "journal", "effect")]
    slept = effects.index(["first", "2"])
    assert all(epoch != "1" for _, epoch in effects[slept:])
    assert ["second", "1"] not in effects


def test_an_owner_from_whom_it_is_taken_stops_what_runs_without_a_commit(postgres):
    address = postgres.address()
    with TaskOrchestrator(journal=PostgresJournal(address, lease=0.5)) as orch:
        handle = orch.submit_task(Task.call(postgres_lives.until_stopped, id="t"))
        wait_until(lambda: orch.get_task_status("t").state == "running")
        with closing(PostgresJournal(address, take_over=True)) as taker:
            taker.claim()
            with pytest.raises(
                JournalTakenError, match="was taken over by incarnation 2"
            ):
                handle.result(60)
            # It was asked to stop, and has.
            assert orch.stop().leaked == ()


def test_nothing_begins_while_nobody_knows_whose_it_is(postgres, tmp_path):
    """Its lease has run out, and the server is silent; then it is its own after all."""
    address = postgres.address()
    go, heard = tmp_path / "go", tmp_path / "heard"
    with TaskOrchestrator(journal=PostgresJournal(address, lease=0.5)) as orch:
        orch.submit_task(Task.call(postgres_lives.until_there, go, id="first"))
        after = Task.call(os.path.exists, str(heard), id="second", after=["first"])
        second = orch.submit_task(after)
        with postgres.connect() as db:
            with db.transaction():
                name = PostgresJournal(address).partition
                db.execute(
                    "SELECT FROM taskorch.partitions WHERE name = %s FOR UPDATE", [name]
                )
                wait_until(lambda: "lease has run out" in str(orch.health().to_dict()))
                go.touch()
                # The end of the first is on its way: what it lets go has been chosen.
                wait_until(lambda: postgres.run(WAITS_TO_WRITE)[0][0])
                heard.touch()
            assert second.result(60) is True
        wait_until(lambda: orch.health().status == "ok")


def test_wrong_clocks_of_clients_end_no_lease_and_turn_no_time_back(postgres, tmp_path):
    postgres.run("CREATE DATABASE clocks")
    address = postgres.address("p", "clocks")
    (tmp_path / "address").write_text(f"{address}&application_name=waits")
    PostgresJournal(address).migrate()
    for statement in (
        """CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'taken before the lease was over'; END $$""",
        """CREATE TRIGGER fail BEFORE UPDATE ON taskorch.partitions FOR EACH ROW
        WHEN (NEW.epoch <> OLD.epoch AND OLD.lease_until > clock_timestamp())
        EXECUTE FUNCTION fail()""",
    ):
        postgres.run(statement, database="clocks")
    years = 10 * 365 * 86_400
    with Process(postgres_lives.elsewhen, tmp_path, years, "hold") as owner:
        assert owner.line() == "ready"
        with Process(postgres_lives.elsewhen, tmp_path, -years, "node", 3) as node:
            assert node.line() == "ready"
            wait_until(lambda: postgres.run(HAS_LOOKED)[0][0])
            owner.hold()
            (tmp_path / "go").touch()
            assert [node.line(), node.line()] == ["owner", "done"]
            assert "s behind that of postgresql://" in node.errors()
        assert "s ahead of that of postgresql://" in owner.errors()
    check_history(tmp_path)
    journal = PostgresJournal(address)
    times = [event.at_ns for event, _ in journal.read()]
    assert times == sorted(times)
    # When an incarnation has begun is by the clock of the server.
    since = datetime.fromisoformat(journal.owner()["since"])
    assert abs(since.timestamp() - time.time()) < 86_400


@pytest.mark.slow("restarts the server")
def test_a_standby_outlives_a_restart_of_the_server(spare_postgres, tmp_path):
    """An error in passing, while it looks, strands nothing."""
    address = spare_postgres.address()
    (tmp_path / "address").write_text(address)
    with Process(postgres_lives.hold, tmp_path) as owner:
        assert owner.line() == "ready"
        (tmp_path / "address").write_text(f"{address}&application_name=waits")
        with Process(postgres_lives.node, tmp_path, 5) as node:
            assert node.line() == "ready"
            wait_until(lambda: spare_postgres.run(HAS_LOOKED)[0][0])
            spare_postgres.end()
            spare_postgres.start()
            os.kill(owner.pid, signal.SIGKILL)
            assert [node.line(), node.line()] == ["owner", "done"]


def test_a_standby_waits_for_a_server_from_the_beginning(spare_postgres, caplog):
    """It says what it waits for; who is no standby is told at once."""
    address = spare_postgres.address()
    spare_postgres.end()
    try:
        with pytest.raises(JournalUnavailableError, match="cannot be claimed now"):
            PostgresJournal(address).claim()
        standby = PostgresJournal(address, standby=True)
        orch = TaskOrchestrator(journal=standby)
        thread = threading.Thread(target=orch.start)
        thread.start()
        wait_until(lambda: "waits until it can have it" in caplog.text)
    finally:
        spare_postgres.start()
    thread.join()
    assert orch.submit_task(Task.call(str, 1, id="t")).result(60) == "1"
    orch.stop()


def test_a_restarted_program_of_the_same_name_is_another_owner(postgres):
    """The name of a host and a process say nothing: a pod may have them again."""
    address = postgres.address()
    with closing(PostgresJournal(address, lease=600)) as first:
        epoch = first.claim()
        # The process of the journal before, as it seems, and on the same machine.
        with closing(PostgresJournal(address, take_over=True)) as second:
            second.append(second.claim(), facts(1))
        for use in (
            lambda: first.append(epoch, facts(2)),
            lambda: first.save(epoch, 1, {}),
            lambda: first.forget(epoch, ["t"]),
        ):
            with pytest.raises(JournalTakenError):
                use()
    # To close it takes nothing from the other, nor gives anything back.
    assert numbers_in(address) == [1]


def test_an_owner_that_drains_takes_nothing_back(postgres):
    """What was taken from it stays with the one who took it."""
    address = postgres.address()
    orch = TaskOrchestrator(journal=PostgresJournal(address, lease=600))
    orch.start()
    orch.submit_task(Task.call(str, 1, id="a", not_before=3600))
    taker = PostgresJournal(address, take_over=True)
    with closing(taker):
        epoch = taker.claim()
        last = taker.last
        with pytest.raises(JournalTakenError):
            orch.submit_task(Task.call(str, 2, id="b"))
        orch.stop(drain=False)
        assert (taker.last, taker.owner()["epoch"]) == (last, epoch)
        assert taker.owner()["lives"]
        taker.append(epoch, facts(last + 1))


def test_a_reader_of_the_owner_before_runs_nothing_of_what_it_saw(postgres):
    """A list that is out of date does no harm: to act on it takes a write."""
    address = postgres.address()
    with closing(PostgresJournal(address)) as old:
        old_epoch = old.claim()
        submitted = TaskSubmitted(1, 1, "t", "str", 0), Task.call(str, 1, id="t")
        old.append(old_epoch, [submitted])
        seen = list(old.read())
        with closing(PostgresJournal(address, take_over=True)) as new:
            ended = TaskCancelled(2, 2, "t", "no longer needed")
            new.append(new.claim(), [(ended, None)])
        begun = TaskStarted(seen[-1][0].seq + 2, 3, "t", 1, "local", (), "")
        with pytest.raises(JournalTakenError):
            old.append(old_epoch, [(begun, None)])
    assert JournalReader(address).get_task_status("t").state == "cancelled"


def test_a_partition_that_is_held_up_holds_up_no_other(postgres):
    """Each is taken over by itself, whatever is with the others."""
    held, free = postgres.address(), postgres.address()
    for address in (held, free):
        with closing(PostgresJournal(address)) as journal:
            journal.claim()
    with postgres.connect() as db, db.transaction():
        name = PostgresJournal(held).partition
        db.execute("SELECT FROM taskorch.partitions WHERE name = %s FOR UPDATE", [name])
        with TaskOrchestrator(journal=free) as orch:
            assert orch.submit_task(Task.call(str, 1, id="t")).result(60) == "1"


# -- the server ------------------------------------------------------------------------


def test_a_group_whose_answer_was_lost_is_kept_once(cutter, postgres):
    """It was kept, and nobody knew: the same group is recognised."""
    address = cutter.address("lost-answer")
    with closing(PostgresJournal(address)) as journal:
        epoch = journal.claim()
        cutter.lose = b"INSERT INTO taskorch.facts"
        with pytest.raises(JournalUnavailableError) as told:
            journal.append(epoch, facts(1, 2))
        assert told.value.outcome == "unknown"
        journal.append(epoch, facts(1, 2))
        journal.append(epoch, facts(3))
        # Another group in its place is not the same.
        cutter.lose = b"INSERT INTO taskorch.facts"
        with pytest.raises(JournalUnavailableError):
            journal.append(epoch, facts(4))
        with pytest.raises(ValueError, match="comes after event 4 was kept"):
            journal.append(epoch, [(OrchestratorStarted(4, 5), None)])
    assert numbers_in(postgres.address("lost-answer")) == [1, 2, 3, 4]


def test_tasks_go_on_where_an_answer_was_lost(cutter):
    with TaskOrchestrator(journal=cutter.address("goes-on")) as orch:
        for number in range(3):
            cutter.lose = b"INSERT INTO taskorch.facts"
            handle = orch.submit_task(Task.call(abs, -number, id=f"t/{number}"))
            assert handle.result(60) == number
        assert cutter.lose is None
        assert orch.get_stats().state_machine.completed == 3


@pytest.mark.slow("crashes the server five times")
def test_the_server_crashes_in_the_middle_and_nothing_is_lost(spare_postgres):
    address = spare_postgres.address()
    with closing(PostgresJournal(address)) as journal:
        epoch = journal.claim()
        for number in range(1, 6):
            journal.append(epoch, facts(number))
            spare_postgres.end()
            with pytest.raises(JournalUnavailableError):
                journal.append(epoch, facts(number + 100))
            spare_postgres.start()
        # What was not kept may come with another number, once that is known.
        append_when_possible(journal, epoch, facts(200))
    assert numbers_in(address) == [1, 2, 3, 4, 5, 200]


def test_a_full_disk_degrades_it_until_there_is_room(postgres):
    postgres.run("CREATE DATABASE full_disk")
    address = postgres.address("p", "full_disk")
    with TaskOrchestrator(journal=address) as orch:
        orch.submit_task(Task.call(str, 1, id="a")).result(60)
        # What a server says that cannot extend a file.
        for statement in (
            """CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE disk_full USING MESSAGE = 'could not extend file'; END $$""",
            "CREATE TRIGGER fail BEFORE INSERT ON taskorch.facts EXECUTE FUNCTION fail()",
        ):
            postgres.run(statement, database="full_disk")
        with pytest.raises(JournalUnavailableError, match="could not extend file"):
            orch.submit_task(Task.call(str, 2, id="waits"))
        postgres.run("DROP TRIGGER fail ON taskorch.facts", database="full_disk")
        wait_until(lambda: orch.health().status == "ok")
        assert orch.handle("waits").result(60) == "2"


@contextmanager
def bouncer_of(postgres, mode):
    """The folder of the socket of a pgbouncer that leads to a server."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("no pgbouncer here")
    with tempfile.TemporaryDirectory(prefix="taskorch-pgb-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "ini").write_text(
            f"[databases]\n* = host={postgres.folder} user=postgres\n[pgbouncer]\n"
            f"unix_socket_dir = {folder}\nlisten_port = 5432\nauth_type = any\n"
            f"pool_mode = {mode}\ndefault_pool_size = 3\nmin_pool_size = 3\n"
            "server_round_robin = 1\n"
        )
        bouncer = subprocess.Popen(
            [program, "-q", folder / "ini"], user=postgres.user, cwd="/"
        )
        try:
            wait_until((folder / SOCKET).exists)
            yield name
        finally:
            bouncer.terminate()
            bouncer.wait()


def test_behind_a_pgbouncer_each_transaction_may_have_another_session(postgres):
    with bouncer_of(postgres, "transaction") as folder:
        address = postgres.address().replace(str(postgres.folder), folder)
        for _ in range(2):
            with TaskOrchestrator(journal=address) as orch:
                tasks = [Task.call(abs, -n, id=f"t/{n}") for n in range(50)]
                handles = orch.submit_tasks(tasks)
                assert [handle.result(60) for handle in handles] == [*range(50)]
                assert [orch.submit(abs, -n).result(60) for n in range(9)]
        with closing(PostgresJournal(address, durability="process")) as journal:
            epoch = journal.claim()
            journal.append(epoch, facts(journal.last + 1))


@pytest.mark.parametrize("standby", [False, True])
def test_a_pgbouncer_without_transactions_is_refused(postgres, standby):
    with bouncer_of(postgres, "statement") as folder:
        address = postgres.address().replace(str(postgres.folder), folder)
        journal = PostgresJournal(address, standby=standby)
        with closing(journal), pytest.raises(JournalError, match="statement pooling"):
            journal.claim()


def test_a_replica_that_lagged_is_refused(postgres):
    """It became the primary: what was kept is not there, and the owner is told."""
    assert postgres, "there are servers here"
    primary = new_server()
    replica = Server(find_binaries())
    try:
        partition = "lags"
        address = primary.address(partition).replace(
            f"host={primary.folder}", f"host={primary.folder},{replica.folder}"
        )
        address += "&target_session_attrs=read-write"
        with closing(PostgresJournal(address)) as journal:
            epoch = journal.claim()
            journal.append(epoch, facts(1))
            replica.copy_of(primary)
            replica.start()
            # It reads, and cannot be written.
            assert numbers_in(replica.address(partition)) == [1]
            with pytest.raises(JournalUnavailableError, match="replica, which only"):
                PostgresJournal(replica.address(partition)).claim()
            replica.end("INT")
            journal.append(epoch, facts(2))
            primary.end()
            replica.start()
            replica.run("SELECT pg_promote()")
            with pytest.raises(JournalError, match="has gone back"):
                append_when_possible(journal, epoch, facts(3))
        # Whoever starts anew goes on from what is there.
        with closing(
            PostgresJournal(replica.address(partition), take_over=True)
        ) as new:
            new.append(new.claim(), facts(2))
        with pytest.raises(JournalUnavailableError):
            journal.append(epoch, facts(3))
    finally:
        replica.close()
        primary.close()


# -- killed at random ------------------------------------------------------------------


def check_history(folder, count=None):
    """Each accepted task has one end; nothing of an owner is behind that of the next."""
    address = address_in(folder)
    journal = PostgresJournal(address)
    kept = list(journal.read())
    journal.verify()
    accepted = {
        words[1] for words in ledger.lines(folder / "journal") if words[0] == "accepted"
    }
    born = [event.task_id for event, _ in kept if type(event) is TaskSubmitted]
    ends = [event.task_id for event, _ in kept if isinstance(event, ENDS)]
    assert len(born) == len(set(born))
    assert accepted <= set(born)
    assert sorted(ends) == sorted(born)
    if count is not None:
        assert len(accepted) == count
    assert [event.seq for event, _ in kept] == sorted({event.seq for event, _ in kept})
    effects = {}
    for kind, task_id, *fence in ledger.lines(folder / "journal"):
        if kind == "effect":
            effects.setdefault(task_id, []).append(tuple(map(int, fence)))
    for task_id, fences in effects.items():
        # No two starts have one fence, and what must not run twice did not: what wakes
        # after another owner's attempt has a lower fence, which a resource refuses.
        assert len(set(fences)) == len(fences), (task_id, fences)
        number = task_id.partition("/")[2]
        if number and int(number) % 3 == 2:
            taken = [f for n, f in enumerate(fences) if f == max(fences[: n + 1])]
            assert len(taken) == 1, (task_id, fences)


def check_epochs(server, folder):
    """What was written, in its order: by the incarnations in theirs."""
    rows = server.run(
        "SELECT seq, f.epoch FROM taskorch.facts f JOIN taskorch.partitions p"
        " ON p.id = partition WHERE name = %s ORDER BY seq",
        [PostgresJournal(address_in(folder)).partition],
    )
    epochs = [epoch for _, epoch in rows]
    assert epochs == sorted(epochs)
    return len(set(epochs))


@pytest.mark.slow("fifteen deaths at random")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_each_task_ends_once(spare_postgres, tmp_path, seed):
    """Owners, standbys and the server: killed, stopped and woken, in any order."""
    dice = random.Random(seed)
    (tmp_path / "address").write_text(spare_postgres.address())
    nodes = [Process(postgres_lives.node, tmp_path, TASKS) for _ in range(3)]
    deaths, end = 0, time.monotonic() + 400
    try:
        while deaths < 15 and all(node.poll() is None for node in nodes):
            assert time.monotonic() < end
            time.sleep(dice.uniform(0.1, 1.0))
            what = dice.choice(("kill", "kill", "kill", "sleep", "server"))
            place = dice.randrange(3)
            node = nodes[place]
            if what == "server":
                spare_postgres.end(dice.choice(("QUIT", "INT", "KILL")))
                spare_postgres.start()
            elif what == "sleep":
                os.kill(node.pid, signal.SIGSTOP)
                time.sleep(dice.uniform(0.5, 2.5))
                os.kill(node.pid, signal.SIGCONT)
            elif node.poll() is None:
                node.__exit__()
                nodes[place] = Process(postgres_lives.node, tmp_path, TASKS)
            deaths += 1
        # One is done, or has found that it was taken over while it slept.
        with orchestrator(address_in(tmp_path)) as orch:
            for node in nodes:
                node.__exit__()
            postgres_lives.use(tmp_path)
            handles = postgres_lives.submit_all(orch, TASKS)
            postgres_lives.settle(orch, handles, tmp_path)
    finally:
        for node in nodes:
            node.__exit__()
    check_history(tmp_path, TASKS)
    assert check_epochs(spare_postgres, tmp_path) > 1
