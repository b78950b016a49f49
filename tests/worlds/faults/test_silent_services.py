"""A service that lives and says nothing, says it slowly, says half, or is away."""

import asyncio
import json
import socket
import threading
from contextlib import contextmanager, suppress
from time import monotonic

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.service.tools import orchestrator, served
from tests.house.peers import Peer

from taskorch import Task
from taskorch.errors import TaskorchError
from taskorch.ext.client import Client, ServiceError

KINDS = ("deaf", "silent", "slow", "half", "closed")
#: Seconds that a client of these waits for an answer.
PATIENT = 1.0


@contextmanager
def reached(**options):
    """A service, the way to it, and what makes a client that takes this way."""
    with served(orchestrator(**options)) as service:

        def connect():
            return socket.create_connection(("127.0.0.1", service.server.port))

        with Peer(connect) as peer:
            url = f"http://127.0.0.1:{peer.port}"

            def make(patience=PATIENT):
                client = Client(url, token=service.token, patience=patience)
                heard(client.get_stats)
                return client

            yield service, peer, make


def heard(ask):
    """What *ask* returns, of a service that is well and may be slow."""
    answers = []

    def is_answered():
        with suppress(OSError):
            answers.append(ask())
        return answers

    eventually(is_answered)
    return answers[0]


def answers(peer, calls):
    """What came of each of *calls*, which all end although their peer is silent."""
    told = {}

    def run(name, call):
        try:
            told[name] = call()
        except (TaskorchError, OSError) as error:
            told[name] = error

    threads = [
        threading.Thread(target=run, args=item, daemon=True) for item in calls.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert told.keys() == calls.keys(), "these wait for a peer that says nothing"
    return told


@pytest.mark.parametrize("kind", KINDS[1:])
def test_no_wait_for_a_service_outlasts_its_deadline(kind):
    with reached() as (_, peer, make):
        client, patient = make(), make(PATIENCE)
        patient.submit_task(Task("echo", 1, id="there")).result(PATIENCE)
        patient.submit_task(Task.wait_for("go", id="waits"))
        peer.become(kind)
        calls = {
            "result": lambda: client.result("waits", timeout=1),
            "result for ever": lambda: client.result("waits"),
            "status": lambda: client.get_task_status("there"),
            "list": lambda: list(client.tasks()),
            "events": client.events,
            "verb": lambda: client.suspend_task("waits"),
            "submit": lambda: client.submit_task(Task("echo", 2, id="new")),
            "submit unnamed": lambda: client.submit_task(Task("echo", 2)),
            "command": lambda: client.command("list_jobs"),
        }
        told = answers(peer, calls)
        wrong = {n: t for n, t in told.items() if not isinstance(t, OSError)}
        assert not wrong
        for error in told.values():
            named = [str(error), *getattr(error, "__notes__", ())]
            assert any(str(peer.port) in text for text in named)
        peer.become("well")
        assert patient.submit_task(Task("echo", 2, id="new")).result(PATIENCE) == 2
        assert patient.result("there", timeout=PATIENCE) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_comes_once_the_service_is_back(kind):
    with reached() as (service, peer, make):
        make(PATIENCE).submit_task(Task.wait_for("go", id="waits"))
        client = make()
        handle = heard(lambda: client.handle("waits"))
        again = threading.Event()

        def restart():
            assert again.wait(PATIENCE)
            peer.become("well")
            service.orch.emit("go", 7)

        async def ask():
            awaited = await client.aio.handle("waits")
            peer.become(kind)
            waiting = asyncio.create_task(awaited.result(PATIENCE))
            # The loop is free meanwhile.
            await asyncio.sleep(2 * PATIENT)
            again.set()
            return await waiting

        calls = {
            "result": lambda: handle.result(PATIENCE),
            "coroutine": lambda: asyncio.run(ask()),
            "restart": restart,
        }
        told = answers(peer, calls)
        assert (told["result"], told["coroutine"]) == (7, 7)


class Cuts:
    """A service whose first answers to requests are lost, and what it heard."""

    def __init__(self, lost, answer=None):
        self._lost = lost
        self._answer = answer or {"task_id": "t", "task_ids": [], "workflow_id": "w"}
        self.heard = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _serve(self):
        try:
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self.heard.append(connection.recv(65_536).split(b" HTTP")[0])
                    if len(self.heard) == 1 or len(self.heard) > 1 + self._lost:
                        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
                        connection.sendall(json.dumps(self._answer).encode())
        except OSError:
            pass


NAMED = {"type": "echo", "id": "t"}
REPEATED = {
    "status": lambda c: c.get_task_status("t"),
    "submit with an id": lambda c: c.submit_task(Task("echo", id="t")),
    "submit under a key": lambda c: c.submit_task(Task("echo", idempotency_key="k")),
    "batch with ids": lambda c: c.submit_tasks([Task("echo", id="t")]),
    "documents with ids": lambda c: c.submit_documents([NAMED]),
    "documents under a key": lambda c: c.submit_documents([{"type": "e"}], key="k"),
    "run with an id": lambda c: c.start_workflow({}, "r"),
    "simulation": lambda c: c.simulate([]),
}
ONCE = {
    "submit": lambda c: c.submit_task(Task("echo")),
    "batch": lambda c: c.submit_tasks([Task("echo", id="t"), Task("echo")]),
    "documents": lambda c: c.submit_documents([NAMED, {"type": "echo"}]),
    "run": lambda c: c.start_workflow({}),
    "verb": lambda c: c.trigger_schedule("nightly"),
    "command": lambda c: c.command("list_jobs"),
}


@pytest.mark.parametrize("name", [*REPEATED, *ONCE])
def test_what_is_safe_to_repeat_is_asked_again_and_nothing_else(name):
    with Cuts(lost=2) as service:
        client = Client(service.url)
        client.get_stats()
        if name in REPEATED:
            REPEATED[name](client)
            assert len(service.heard) == 4
            assert len({*service.heard[1:]}) == 1
        else:
            with pytest.raises(ConnectionError) as caught:
                ONCE[name](client)
            assert "look before you ask again" in caught.value.__notes__[0]
            assert len(service.heard) == 2


def test_nobody_waits_for_an_address_that_never_answered():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = Client(f"http://127.0.0.1:{port}", patience=PATIENCE)
    began = monotonic()
    for ask in (
        client.get_stats,
        lambda: client.result("t"),
        lambda: client.result("t", timeout=10 * PATIENCE),
        lambda: client.submit_task(Task("echo")),
        lambda: asyncio.run(client.aio.submit_documents([NAMED])),
    ):
        with pytest.raises(ConnectionRefusedError) as caught:
            ask()
        (note,) = caught.value.__notes__
        assert f"127.0.0.1:{port}; none has answered there yet: check" in note
    assert monotonic() - began < PATIENCE


def test_who_is_silent_from_the_beginning_may_still_come():
    """It takes the connection, so it is something: that is waited for."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", patience=0.1)
        with pytest.raises(TimeoutError, match="does not answer"):
            client.result("t", timeout=0.2)


def test_what_stands_before_a_service_that_is_away(monkeypatch):
    answers = [(200, b"{}"), (502, b"<html>"), (503, b""), (200, b'{"state": "x"}')]
    client = Client("http://127.0.0.1:1")
    monkeypatch.setattr(client._connections, "ask", lambda *_: answers.pop(0))
    client.get_stats()
    assert client.get_task_status("t") == {"state": "x"}
    answers.append((200, b"["))
    with pytest.raises(ServiceError, match="no service of taskorch"):
        client.get_stats()


def test_an_answer_that_is_too_long_is_refused_by_its_length(monkeypatch):
    monkeypatch.setattr("taskorch.kit.connections._MOST_ANSWER", 100)
    with Cuts(lost=0, answer={"a": "x" * 1_000}) as service:
        with pytest.raises(ServiceError, match="more than 100 bytes"):
            Client(service.url).get_stats()
        assert len(service.heard) == 1


def test_many_coroutines_that_wait_keep_none_from_asking(monkeypatch):
    # None of their requests ends by itself before the test has.
    monkeypatch.setattr("taskorch.ext.client._WAIT", PATIENCE)
    with served(orchestrator()) as service:
        url, token = service.server.url, service.token
        client = Client(url, token=token, patience=2 * PATIENCE)

        async def main():
            handle = await client.aio.submit_task(Task.wait_for("go", id="waits"))
            waiting = [asyncio.ensure_future(handle.result()) for _ in range(60)]
            await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE / 2):
                await client.aio.emit("go", 3)
            assert await asyncio.gather(*waiting) == [3] * 60
            assert await handle == 3
            assert await handle.done()
            assert not await handle.cancel()
            follows = Task("echo", 4, id="then", after=[handle])
            (after,) = await client.aio.submit_tasks([follows])
            assert await after == 4
            assert (await client.aio.rerun_task("then")).task_id == "then~2"

        asyncio.run(main())
