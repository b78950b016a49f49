"""A client of the service that takes nothing for granted."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

from taskorch import TaskOrchestrator
from taskorch.ext.service import create_app, new_token, recorded_app, serve
from taskorch.ext.views import JournalReader

JSON = "application/json"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> Any:
        return json.loads(self.body)


class Service:
    """A served orchestrator."""

    def __init__(self, orch, server, token):
        self.orch, self.server, self.token = orch, server, token

    def headers(self) -> dict[str, str]:
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}

    def send(self, method, path, body=b"", headers=()) -> Answer:
        """Send exactly this."""
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True)
            sent = dict(headers)
            sent.setdefault("Host", f"127.0.0.1:{self.server.port}")
            for name, value in sent.items():
                connection.putheader(name, value)
            if (
                body
                and "Transfer-Encoding" not in sent
                and "Content-Length" not in sent
            ):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def ask(self, method, path, said=None, **headers) -> Answer:
        sent = self.headers() | {n.replace("_", "-"): v for n, v in headers.items()}
        body = b""
        if said is not None:
            body = json.dumps(said).encode()
            sent["Content-Type"] = JSON
        return self.send(method, path, body, sent)

    def get(self, path, **headers) -> Any:
        answer = self.ask("GET", path, **headers)
        assert answer.status == 200, answer
        return answer.said

    def post(self, path, said=None, **headers) -> Answer:
        return self.ask("POST", path, said, **headers)

    def result(self, task_id) -> Any:
        return self.get(f"/api/v1/tasks/{task_id.replace('/', '%2F')}/result?wait=30")

    @contextmanager
    def follow(self, query="", **headers):
        """The lines of a stream of events, as they come."""
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        sent = self.headers() | {n.replace("_", "-"): v for n, v in headers.items()}
        connection.request("GET", f"/api/v1/events/stream{query}", headers=sent)
        try:
            yield Stream(connection.getresponse())
        finally:
            connection.close()

    def socket(self, receive_buffer=None) -> socket.socket:
        found = socket.socket()
        if receive_buffer:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        found.settimeout(30)
        found.connect(("127.0.0.1", self.server.port))
        return found


class Stream:
    """Server-Sent Events, as a browser reads them."""

    def __init__(self, response):
        self.status, self.response, self.last = response.status, response, None

    def frames(self):
        name, data = None, None
        while line := self.response.readline():
            text = line.decode().rstrip("\n")
            field, _, value = text.partition(": ")
            if not text:
                if data is not None:
                    yield name, data
                name, data = None, None
            elif field == "id":
                self.last = value
            elif field == "event":
                name = value
            elif field == "data":
                data = json.loads(value)

    def take(self, count):
        """So many events; the stream is read no further."""
        frames = self.frames()
        return [next(frames) for _ in range(count)]


@contextmanager
def served(
    orch: TaskOrchestrator, *, token: str | None = "new", port: int = 0, **options
):
    """*orch*, served on a free port, or on this one."""
    given = new_token() if token == "new" else token
    with orch, serve(create_app(orch, token=given, **options), port=port) as server:
        yield Service(orch, server, given)


def orchestrator(**options) -> TaskOrchestrator:
    """One with a worker that hands its payload back, or raises what it says."""
    orch = TaskOrchestrator(**options)

    @orch.agent("echo", capabilities={"echo"}, max_concurrency=None)
    def echo(task, context):
        if isinstance(task.payload, dict) and "raise" in task.payload:
            raise ValueError(task.payload["raise"])
        return task.payload

    return orch


@contextmanager
def shown(token=None, port=0, tokens=None, **options):
    """An orchestrator that is served, its page too."""
    with (
        TaskOrchestrator(**options) as orch,
        orch.serve(port=port, token=token, tokens=tokens) as server,
    ):
        yield Service(orch, server, server.token)


@contextmanager
def recorded(path):
    """The journal at *path*, served to be looked at."""
    token = new_token()
    app = recorded_app(JournalReader(path), token=token, journal=path.name)
    with serve(app, port=0) as server:
        server.token = token
        yield Service(None, server, token)
