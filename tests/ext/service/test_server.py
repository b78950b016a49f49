"""The server: clients that are slow, in either direction, and its end."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import Mock

import pytest
import uvicorn
from tests.api.tools import PATIENCE, Started
from tests.ext.service.tools import orchestrator, served

from taskorch import InvalidTaskError, Task, TaskOrchestrator
from taskorch.ext.service import (
    _artifacts,
    _bodies,
    _feed,
    _guard,
    _server,
    create_app,
    new_token,
    serve,
)
from taskorch.ext.service._bodies import RECEIPT_SECONDS
from taskorch.ext.service._server import (
    STALLED_SECONDS,
    Protocol,
    _JoiningTransport,
)

HEAD = b"POST /api/v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 40\r\n"


@pytest.fixture
def hurried(monkeypatch):
    """A server with little patience."""
    monkeypatch.setattr(Protocol, "receipt_seconds", 0.2)
    monkeypatch.setattr(Protocol, "stalled_seconds", 1.0)


def ended(found: socket.socket) -> bool:
    """Wait for the end of a connection."""
    try:
        while found.recv(65_536):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize("sent", [b"", b"GET /liv", HEAD, HEAD + b"X-A: 1\r\n"])
def test_a_head_that_does_not_come_to_its_end(hurried, service, sent):
    with service.socket() as found:
        found.sendall(sent)
        assert ended(found)
    assert service.get("/livez")


def test_a_head_that_comes_in_drops(hurried, service):
    with service.socket() as found:
        try:
            for _ in range(3_000):
                found.sendall(b"G")
                time.sleep(0.01)
        except ConnectionError:
            return
    pytest.fail("it was never cut off")


def test_a_body_that_does_not_come(monkeypatch, service):
    monkeypatch.setattr("taskorch.ext.service._bodies.RECEIPT_SECONDS", 0.1)
    head = HEAD + b"Content-Type: application/json\r\nAuthorization: Bearer "
    with service.socket() as found:
        found.sendall(head + service.token.encode() + b"\r\n\r\n{")
        assert b" 408 " in found.recv(65_536)


def test_a_head_that_is_too_long(service):
    with service.socket() as found:
        try:
            found.sendall(b"GET /livez HTTP/1.1\r\nX-A: " + b"a" * 70_000 + b"\r\n\r\n")
            assert b" 400 " in found.recv(65_536)
        except ConnectionError:
            pass
    assert service.get("/livez")


@pytest.mark.slow("eight thousand tasks")
def test_a_reader_that_stalls_is_dropped_and_harms_no_other(hurried, monkeypatch):
    monkeypatch.setattr("taskorch.ext.service._feed.KEPT", 100_000)
    dropped = threading.Event()
    end = Protocol._end
    monkeypatch.setattr(Protocol, "_end", lambda self: (end(self), dropped.set()))
    # Where less fits than one segment of the loopback has, the kernel may take minutes to
    # deliver what it keeps.
    with served(orchestrator()) as service, service.socket(2**17) as stalled:
        sent = "GET /api/v1/events/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        stalled.sendall(f"{sent}Authorization: Bearer {service.token}\r\n\r\n".encode())
        assert b" 200 " in stalled.recv(200)
        with service.follow("?names=task_completed") as stream:
            metadata = "x" * 200
            tasks = [Task("echo", id=f"{metadata[:150]}{n}") for n in range(8_000)]
            service.orch.submit_tasks(tasks)
            told = stream.take(len(tasks))
        assert len({data["task_id"] for _, data in told}) == len(tasks)
        # One that reads again before its time is up is no such reader.
        assert dropped.wait(PATIENCE)
        # What the system keeps of it can be read to its end; more does not come.
        assert ended(stalled)


def test_a_reader_that_stalls_has_its_time_and_no_more(monkeypatch):
    """What is documented: ten seconds for a request, fifteen for a reader."""
    assert (RECEIPT_SECONDS, STALLED_SECONDS) == (10, 15)
    assert Protocol.stalled_seconds == STALLED_SECONDS
    assert RECEIPT_SECONDS <= Protocol.receipt_seconds <= RECEIPT_SECONDS + 5
    later = []

    class Loop:
        def call_later(self, seconds, end):
            later.append(seconds)
            return Mock()

    server = uvicorn.Config(create_app(TaskOrchestrator(), token=None))
    server.load()
    protocol = Protocol(server, Mock(connections=set()), {}, Loop())
    protocol.connection_made(Mock(get_extra_info=lambda _: None))
    protocol.pause_writing()
    assert later == [Protocol.receipt_seconds, STALLED_SECONDS]


def test_limits_are_those_that_are_documented():
    """In the pages about the service, and about workers."""
    limits = [_artifacts.MAX_BYTES, _artifacts.MAX_FILES, _bodies.MAX_BODY]
    assert limits == [64 << 20, 1_000, 1 << 20]
    assert (_feed.KEPT, _server._CONNECTIONS) == (10_000, 200)
    assert (_guard._WITHOUT, _guard._WITH_TOKEN) == (20, 2_000)


def test_very_many_faults_of_a_request_are_counted_and_not_named(service):
    many = {f"k{number}": 1 for number in range(60_000)}
    for body in ({"type": "echo", **many}, {"tasks": [{"type": "echo", **many}]}):
        answer = service.post("/api/v1/tasks", body)
        assert answer.status == 422
        assert len(answer.body) < 100_000
    answer = service.post("/api/v1/tasks", {"type": "echo", **many})
    assert "59,900 more" in answer.said["detail"]


@pytest.mark.parametrize(("levels", "status"), [(59, 200), (60, 400)])
def test_a_body_has_sixty_levels(service, levels, status):
    payload = json.loads("[" * levels + "]" * levels)
    answer = service.post("/api/v1/events", {"name": "x", "payload": payload})
    assert answer.status == status


def test_silent_connections_do_not_shut_out_who_has_the_token(service):
    """Nor do they end those that follow events, however many there are."""
    with ExitStack() as open_ones, service.follow("?names=task_completed") as stream:
        for _ in range(260):
            silent = open_ones.enter_context(service.socket())
            silent.sendall(b"GET /livez HTTP/1.1\r\n")
        service.post("/api/v1/tasks", {"type": "echo", "id": "x"})
        assert service.result("x")["state"] == "completed"
        assert stream.take(1)[0][1]["task_id"] == "x"


FEW_DESCRIPTORS = """
import logging, os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
from taskorch import TaskOrchestrator
from taskorch.ext.service import create_app, serve
logging.basicConfig(level="DEBUG")
with TaskOrchestrator() as orch:
    with serve(create_app(orch, token=sys.argv[1]), port=0) as server:
        print(server.port, flush=True)
        sys.stdin.read()
"""


def test_strangers_take_neither_all_descriptors_nor_the_log(tmp_path):
    """Some hundreds of connections that say nothing, where there are 200 descriptors."""
    token = new_token()
    command = [sys.executable, "-c", FEW_DESCRIPTORS, token]
    head = f"GET /readyz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}"
    with (tmp_path / "log").open("w") as log, ExitStack() as silent:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
        with Started(command, **pipes) as process:
            where = ("127.0.0.1", int(process.stdout.readline()))
            for number in range(500):
                found = silent.enter_context(socket.socket())
                found.settimeout(PATIENCE)
                found.connect(where)
                if number % 100 == 99:
                    with socket.create_connection(where, PATIENCE) as asks:
                        asks.sendall(f"{head}\r\n\r\n".encode())
                        assert asks.recv(100).startswith(b"HTTP/1.1 200")
                    count = len([*Path(f"/proc/{process.pid}/fd").iterdir()])
                    assert count < 190
            process.stdin.close()
            assert process.wait(PATIENCE) == 0
    text = (tmp_path / "log").read_text()
    assert "Traceback" not in text
    assert len([line for line in text.splitlines() if "connections" in line]) == 1


def test_it_ends_although_somebody_follows(service):
    with service.follow() as stream:
        service.server.stop()
        assert list(stream.frames()) is not None
    assert service.server.wait(0)


def test_a_port_that_is_taken():
    app = create_app(TaskOrchestrator(), token=None)
    with served(orchestrator()) as service, pytest.raises(OSError, match="in use"):
        serve(app, port=service.server.port)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.1", "example.org", "", None]
)
def test_others_than_this_machine_do_not_reach_it(host):
    with pytest.raises(
        InvalidTaskError, match=r"asks nobody for a token|no address"
    ) as caught:
        serve(create_app(TaskOrchestrator(), token=None), host=host)
    assert "127.0.0.1" in caught.value.hint


@pytest.mark.parametrize("port", [-1, 65_536, "80", True, None])
def test_a_port_that_is_none(port):
    with pytest.raises(InvalidTaskError, match="a port is"):
        serve(create_app(TaskOrchestrator(), token=None), port=port)


def test_localhost_is_this_machine():
    app = create_app(TaskOrchestrator(), token=None)
    with serve(app, host="localhost", port=0) as server:
        assert server.url == f"http://127.0.0.1:{server.port}"


class Step:
    """A step of a loop, and a transport."""

    def __init__(self):
        self.later, self.sent, self.is_closed = [], [], False

    def call_soon(self, call):
        self.later.append(call)

    def write(self, data):
        self.sent.append(data)

    def close(self):
        self.is_closed = True

    def end(self):
        for call in self.later:
            call()


def test_what_is_long_is_sent_before_the_step_ends():
    step = Step()
    joined = _JoiningTransport(step, step)
    joined.write(b"head")
    joined.write(b"x" * 40_000)
    assert step.sent == [b"head" + b"x" * 40_000]
    joined.write(b"tail")
    step.end()
    assert step.sent[1:] == [b"tail"]


def test_an_answer_is_sent_at_once(service):
    """Its body would wait until the client has confirmed its head: 40 ms."""
    listener = service.server._listener
    assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
