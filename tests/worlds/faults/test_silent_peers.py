"""A PostgreSQL server that lives and says nothing, says it slowly, or says half."""

import socket
import threading
from contextlib import closing

import pytest
from tests.api.tools import eventually
from tests.house.peers import Peer
from tests.house.postgres import SOCKET

from taskorch import PostgresJournal, Task, TaskOrchestrator
from taskorch.core.journal._points import install_fault
from taskorch.errors import JournalUnavailableError, TaskorchError
from taskorch.events import TaskSubmitted
from taskorch.ext.views import JournalReader

#: Seconds of the leases here: a connection may be silent for one of them.
LEASE = 2.0
#: Seconds in which a wait ends that has a deadline, on a busy machine.
PATIENCE = 90
KINDS = ("deaf", "silent", "slow", "half", "closed")


@pytest.fixture
def peer(postgres):
    def connect():
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(postgres.folder / SOCKET))
        return server

    with Peer(connect, SOCKET) as made:
        yield made


def address(peer, postgres, partition=None):
    """Of a journal of *postgres* that is reached through *peer*."""
    return postgres.address(partition).replace(str(postgres.folder), str(peer.folder))


def submissions(count):
    """A group of so many events, each with a task."""
    return [
        (TaskSubmitted(n, n, f"t{n}", "str", 0), Task.call(str, n, id=f"t{n}"))
        for n in range(1, count + 1)
    ]


def ends(call):
    """The answer or error of *call*, which ends although its peer may be silent."""
    told = []

    def run():
        try:
            told.append(call())
        except (TaskorchError, TimeoutError) as error:
            told.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert told, "it waits for a peer that says nothing"
    return told[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_leader_outlives_a_server_that_is_silent(peer, postgres, kind):
    where = address(peer, postgres)
    journal = PostgresJournal(where, lease=LEASE)
    with TaskOrchestrator(journal=journal, keep_finished=1) as orch:
        for number in range(3):
            assert (
                orch.submit_task(Task.call(abs, -number, id=f"t{number}")).result()
                == number
            )
        peer.become(kind)
        paths = {
            "commit": lambda: orch.submit_task(Task.call(abs, -5, id="new")).result(1),
            # It has left memory: its id is looked for in the journal.
            "look-up": lambda: orch.submit_task(Task.call(abs, 0, id="t0")).result(1),
            "status": lambda: orch.get_task_status("t1"),
            "list": lambda: list(orch.tasks()),
            "health": orch.health,
        }
        for call in paths.values():
            ends(call)
        peer.become("well")
        again = ends(
            lambda: orch.submit_task(Task.call(abs, -5, id="new")).result(PATIENCE)
        )
        assert again == 5
        assert (
            ends(lambda: orch.submit_task(Task.call(abs, 0, id="t0")).result(PATIENCE))
            == 0
        )
    assert (
        JournalReader(postgres.address(journal.partition))
        .get_task_status("new")
        .attempts
        == 1
    )


def test_a_leader_tells_that_its_connections_were_silent(peer, postgres, caplog):
    """New ones answer, and yet health says so, and a line in the log."""
    journal = PostgresJournal(address(peer, postgres), lease=LEASE)
    with TaskOrchestrator(journal=journal) as orch:
        orch.submit_task(Task.call(abs, -1, id="t")).result(PATIENCE)

        def told():
            return [c.detail for c in orch.health().checks if c.component == "journal"]

        peer.become("deaf")
        eventually(lambda: "was silent and given up" in told()[0])
        assert orch.health().status == "degraded"
        assert orch.submit_task(Task.call(abs, -2, id="u")).result(PATIENCE) == 2
        # It is over some leases later.
        eventually(lambda: orch.health().status == "ok")
    lines = [line for line in caplog.messages if "was silent and given up" in line]
    assert lines
    assert "password" not in str(lines)


def test_a_reader_tells_that_its_connection_was_silent(peer, postgres, caplog):
    where = f"{address(peer, postgres)}&lease={LEASE}"
    with TaskOrchestrator(journal=PostgresJournal(where)) as orch:
        orch.submit_task(Task.call(abs, -1, id="t")).result(PATIENCE)
    reader = JournalReader(where)
    assert reader.get_task_status("t").state == "completed"
    caplog.clear()
    peer.become("deaf")
    assert ends(lambda: reader.get_task_status("t")).state == "completed"
    assert "was silent and given up" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_who_starts_or_reads_is_told_that_the_server_is_silent(peer, postgres, kind):
    where = address(peer, postgres)
    with TaskOrchestrator(journal=PostgresJournal(where, lease=LEASE)) as orch:
        orch.submit_task(Task.call(abs, -1, id="t")).result()
    reader = JournalReader(f"{where}&lease={LEASE}")
    assert reader.get_task_status("t").state == "completed"
    peer.become("silent" if kind == "deaf" else kind)
    for call in (
        lambda: reader.get_task_status("t"),
        reader.get_stats,
        lambda: JournalReader(f"{where}&lease={LEASE}").get_task_status("t"),
        lambda: TaskOrchestrator(journal=PostgresJournal(where, lease=LEASE)).start(),
    ):
        assert isinstance(ends(call), TaskorchError)
    peer.become("well")
    assert reader.get_task_status("t").state == "completed"


@pytest.mark.parametrize("kind", KINDS)
def test_a_leader_can_be_stopped_while_the_server_is_silent(peer, postgres, kind):
    journal = PostgresJournal(address(peer, postgres), lease=LEASE)
    orch = TaskOrchestrator(journal=journal, stop_timeout=1)
    orch.start()
    orch.submit_task(Task.call(abs, -1, id="t")).result()
    peer.become(kind)
    ends(orch.stop)
    with TaskOrchestrator(
        journal=PostgresJournal(postgres.address(journal.partition), standby=True)
    ) as heir:
        assert heir.submit_task(Task.call(abs, -1, id="t")).result() == 1


def test_the_lock_of_a_silent_leader_goes_by_itself(peer, postgres, monkeypatch):
    """It was amid a transaction, which may idle for a while and no longer."""
    monkeypatch.setattr("taskorch.ext.postgres._journal._LARGE", 1)
    monkeypatch.setattr("taskorch.ext.postgres._journal._LEAST_IDLE", 1.0)
    partition = "silent-amid"
    old = PostgresJournal(address(peer, postgres, partition), lease=LEASE)
    heir = PostgresJournal(postgres.address(partition), lease=LEASE, standby=True)
    with closing(old), closing(heir):
        epoch = old.claim()

        def strike(point):
            if point == "commit":
                peer.become("silent")

        install_fault(strike)
        try:
            with pytest.raises(JournalUnavailableError):
                old.append(epoch, submissions(3))
        finally:
            install_fault(None)
        assert ends(heir.claim) == epoch + 1
        assert list(heir.read()) == []
