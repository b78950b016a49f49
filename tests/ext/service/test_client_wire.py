"""What the client says on the wire, as a service that writes it down hears it."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from taskorch import Task
from taskorch.ext.client import Client

#: Enough for every method.
ANSWER = {
    "changed": True,
    "released": 1,
    "task_id": "a~2",
    "task_ids": [],
    "state": "pending",
    "tasks": [],
    "next": None,
    "stuck": [],
}


@pytest.fixture
def heard():
    """A client, and what was heard of it: method, path, query, and body."""
    found = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            parts = urlsplit(self.path)
            query = {name: v for name, (v,) in parse_qs(parts.query).items()}
            found.append((self.command, parts.path, query, body))
            data = json.dumps(ANSWER).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield Client(f"http://127.0.0.1:{server.server_port}/below/"), found
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def test_nothing_of_what_is_said_is_lost(heard):
    """The path that the service lies below, escaped ids, and all that may be said."""
    client, found = heard
    client.decide("a/b", "fail", reason="no use")
    client.decide("a", "complete", [1])
    client.rerun_task("a", downstream=True)
    client.rerun_task("a")
    client.approve("r", "tests", by="Ada", note="fine")
    client.emit("go", 3, keep=timedelta(minutes=1.5))
    client.emit("go")
    client.set_priority("a", -5)
    one = "/below/api/v1/tasks/a"
    decided = {"verdict": "fail", "reason": "no use"}
    assert found == [
        ("POST", "/below/api/v1/tasks/a%2Fb/decision", {}, decided),
        (
            *("POST", f"{one}/decision", {}),
            {"verdict": "complete", "result": [1]},
        ),
        ("POST", f"{one}/rerun", {}, {"downstream": True}),
        ("POST", f"{one}/rerun", {}, None),
        (
            *("POST", "/below/api/v1/workflows/r/approve", {}),
            {"gate": "tests", "by": "Ada", "note": "fine"},
        ),
        (
            *("POST", "/below/api/v1/events", {}),
            {"name": "go", "payload": 3, "keep": 90.0},
        ),
        ("POST", "/below/api/v1/events", {}, {"name": "go"}),
        ("POST", f"{one}/priority", {}, {"priority": -5}),
    ]


def test_the_service_waits_no_longer_than_the_caller(heard):
    client, found = heard
    with pytest.raises(TimeoutError, match=r"has not ended in 0\.05 s"):
        client.result("a", timeout=0.05)
    waits = [float(query["wait"]) for _, _, query, _ in found]
    assert waits[0] <= 0.05
    assert waits == sorted(waits, reverse=True)


def test_the_handle_of_a_run_is_that_of_its_latest(heard):
    client, _ = heard
    assert client.handle("a").task_id == "a~2"
    assert client.submit_task(Task("echo")).cancel()
