"""Who may ask, and who may not: every path with every method."""

from __future__ import annotations

import json
import re
from random import Random
from unittest.mock import Mock

import pytest
from tests.ext.service.test_people import ask_bare
from tests.ext.service.tools import JSON, orchestrator, served

from taskorch import InvalidTaskError, TaskOrchestrator
from taskorch.ext.service import create_app, new_token
from taskorch.ext.service._suites import suite_app
from taskorch.ext.service._workers import Workers

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
TASK = json.dumps({"type": "echo", "id": "planted"}).encode()
#: What is wrong, and what is answered.
FAULTS = {
    "no token": 401,
    "a wrong token": 401,
    "half a token": 401,
    "no bearer": 401,
    "a foreign host": 421,
    "no host": 421,
    "a host behind a name": 421,
    "a foreign origin": 403,
    "no origin's origin": 403,
    "a foreign site": 403,
    "a sister's site": 403,
    "text": 415,
    "a form": 415,
    "no content type": 415,
    "another charset": 415,
    "compressed": 415,
    "too long": 413,
}
OF_TOKENS = [name for name, status in FAULTS.items() if status == 401]
OF_BODIES = [name for name, status in FAULTS.items() if status in (413, 415)]


APPS = ("orchestrator", "suite")


@pytest.fixture(scope="module")
def service():
    with served(orchestrator(), agents=True, page=True) as found:
        yield found


def paths(app):
    found = {path_of(operation) for operation in app.state.operations}
    found |= {"/openapi.json", "/", "/nowhere", "/api/v1/tasks/", "//livez"}
    return sorted(found)


def path_of(operation):
    return re.sub(r"{\w+}", "x", operation.path)


def headers(service, fault):
    """What somebody with the token of the service sends, but for this fault."""
    sent = {"Host": "127.0.0.1", **service.headers(), "Content-Type": JSON}
    changes = {
        "no token": {"Authorization": None},
        "a wrong token": {"Authorization": f"Bearer {new_token()}"},
        "half a token": {"Authorization": f"Bearer {service.token[:20]}"},
        "no bearer": {"Authorization": f"Basic {service.token}"},
        "a foreign host": {"Host": "evil.example"},
        "no host": {"Host": ""},
        "a host behind a name": {"Host": "127.0.0.1@evil.example"},
        "a foreign origin": {"Origin": "http://evil.example"},
        "no origin's origin": {"Origin": "null"},
        "a foreign site": {"Sec-Fetch-Site": "cross-site"},
        "a sister's site": {"Sec-Fetch-Site": "same-site"},
        "text": {"Content-Type": "text/plain"},
        "a form": {"Content-Type": "application/x-www-form-urlencoded"},
        "no content type": {"Content-Type": None},
        "another charset": {"Content-Type": "application/json; charset=utf-16"},
        "compressed": {"Content-Encoding": "gzip"},
        "too long": {"Content-Length": str(2 << 20)},
    }
    sent |= changes[fault]
    return {name: value for name, value in sent.items() if value is not None}


def opened(app):
    """The paths that need no token."""
    return {each.path for each in app.state.operations if each.is_open}


def wrong(path):
    """Every fault, by another method on each path; and every method without a token."""
    dice = Random(path)
    for fault in FAULTS:
        yield fault, dice.choice(METHODS[2:] if fault in OF_BODIES else METHODS)
    for method in METHODS:
        yield "no token", method


def body_of(method):
    return b"" if method in ("GET", "HEAD") else TASK


def is_refused(answer, fault):
    """Whether nothing is said but that, and why."""
    assert answer.status == FAULTS[fault], answer
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers
    return True


class Direct:
    """An app that is asked in the process, and knows one token."""

    def __init__(self, app, token):
        self.app, self.token = app, token

    def headers(self):
        return {"Authorization": f"Bearer {self.token}"}

    def send(self, method, path, body, sent):
        if body:
            sent = {"Content-Length": str(len(body)), **sent}
        named = [(name.lower(), value) for name, value in sent.items()]
        return ask_bare(self.app, method, path, body, named)


@pytest.fixture(params=APPS)
def direct(request, monkeypatch):
    """Each kind of app; nobody asks it too often."""
    monkeypatch.setattr("taskorch.ext.service._guard._Bucket.take", lambda _: True)
    orch, token = orchestrator(), new_token()
    app = {
        "orchestrator": lambda: create_app(orch, token=token, agents=True, page=True),
        # What it runs is not asked for its paths, but for those of its workers.
        "suite": lambda: suite_app(Mock(workers=Workers(orch, None)), token=token),
    }[request.param]()
    with orch:
        yield Direct(app, token)
        # What was to be planted is not there.
        assert list(orch.tasks()) == []


def test_whoever_may_not_ask_is_refused(direct):
    for path in paths(direct.app):
        for fault, method in wrong(path):
            sent = headers(direct, fault)
            is_open = path in opened(direct.app) and fault in OF_TOKENS
            if not is_open:
                where = path, fault, method
                answer = direct.send(method, path, body_of(method), sent)
                assert is_refused(answer, fault), where
            elif method == "GET":
                # One of them is asked by POST alone.
                assert direct.send(method, path, b"", sent).status in (200, 405), path


@pytest.mark.parametrize("fault", FAULTS)
def test_whoever_may_not_ask_is_refused_on_the_wire(service, fault):
    path = "/api/v1/tasks"
    answer = service.send("POST", path, TASK, headers(service, fault))
    assert is_refused(answer, fault)
    assert service.get("/api/v1/tasks?id=planted")["tasks"] == []


def test_get_and_head_have_no_body(service):
    sent = {**service.headers(), "Content-Type": JSON}
    for method in ("GET", "HEAD"):
        for path in ("/api/v1/tasks", "/openapi.json", "/livez"):
            assert service.send(method, path, b"{}", sent).status == 400


@pytest.mark.parametrize(
    "host", ["localhost.evil.example", "127.0.0.1.nip.io", "[::", "0"]
)
def test_names_that_look_like_ours(service, host):
    answer = service.send("GET", "/livez", b"", {"Host": host})
    assert (answer.status, answer.said["code"]) == (421, "unknown_host")


@pytest.mark.parametrize("host", ["10.0.0.7:8080", "192.0.2.1", "[2001:db8::7]:8080"])
def test_an_address_is_no_name_that_anybody_could_rebind(service, host):
    """So probes of Kubernetes and Prometheus reach a pod by its address."""
    assert service.send("GET", "/livez", b"", {"Host": host}).status == 200
    sent = {**service.headers(), "Host": host}
    assert service.send("GET", "/metrics", b"", sent).status == 200
    assert service.send("GET", "/metrics", b"", {"Host": host}).status == 401
    evil = {**sent, "Origin": "http://evil.example"}
    assert service.send("GET", "/metrics", b"", evil).status == 403


def test_names_that_the_owner_allows():
    with served(orchestrator(), hosts=["Orders.example.org"]) as service:
        sent = {**service.headers(), "Host": "orders.example.org"}
        assert service.send("GET", "/api/v1/health", b"", sent).status == 200
        # Behind a proxy that has taken the TLS off.
        sent |= {
            "Origin": "https://orders.example.org",
            "Sec-Fetch-Site": "same-origin",
        }
        assert service.send("GET", "/api/v1/health", b"", sent).status == 200
        assert service.send("GET", "/livez", b"", {"Host": "localhost"}).status == 421


def test_the_refusal_of_a_token_gives_nothing_away(service):
    answer = service.send("GET", "/api/v1/tasks", b"", {"Authorization": "Bearer x"})

    assert answer.headers["www-authenticate"] == "Bearer"
    assert service.token not in answer.body.decode()


def test_tokens_are_not_tried_out_for_long(monkeypatch):
    monkeypatch.setattr("taskorch.ext.service._guard.monotonic", lambda: 0.0)
    with served(orchestrator()) as service:
        statuses = {service.send("GET", "/api/v1/tasks").status for _ in range(60)}
        assert statuses == {401, 429}
        # Whoever has the token is not kept out by those who have not.
        assert service.get("/api/v1/tasks")["tasks"] == []


def test_so_many_requests_a_second_are_answered_and_no_more(monkeypatch):
    """In every second, and however long it was quiet."""
    now = [0.0]
    monkeypatch.setattr("taskorch.ext.service._guard.monotonic", lambda: now[0])
    monkeypatch.setattr("taskorch.ext.service._guard._WITH_TOKEN", 30.0)
    with served(orchestrator()) as service:
        for seconds, share in ((0, 1), (1, 1), (1, 1), (0.5, 0.5), (1_000, 1)):
            now[0] += seconds
            for headers, status, most in (({}, 401, 20), (service.headers(), 200, 30)):
                told = [
                    service.send("GET", "/api/v1/health", b"", headers).status
                    for _ in range(40)
                ]
                answered = int(share * most)
                assert told == [status] * answered + [429] * (40 - answered)


def test_requests_with_the_token_are_bounded_too(monkeypatch):
    monkeypatch.setattr("taskorch.ext.service._guard._WITH_TOKEN", 2.0)
    with served(orchestrator()) as service:
        answers = [service.ask("GET", "/api/v1/health") for _ in range(40)]
        refused = [answer for answer in answers if answer.status == 429]

        assert refused
        assert refused[0].said["code"] == "too_many_requests"
        assert int(refused[0].headers["retry-after"]) > 0


def test_addresses_are_forgotten_at_some_number(monkeypatch):
    monkeypatch.setattr("taskorch.ext.service._guard._ADDRESSES", 2)
    from taskorch.ext.service._guard import Doors, RequestGuard

    guard = RequestGuard(None, doors=Doors(new_token()), hosts=(), opened=())
    for name in ("a", "b", "c"):
        guard._bucket_of({"client": (name, 1)})
    guard._bucket_of({})
    assert list(guard._unknown) == ["c", ""]


@pytest.mark.parametrize(
    "token", ["", "short", "with a space in the middle", "ü" * 20, 5]
)
def test_a_token_that_is_none(token):
    with pytest.raises(InvalidTaskError, match="a token is") as caught:
        create_app(TaskOrchestrator(), token=token)
    assert "short" not in str(caught.value)


def test_hosts_are_a_collection():
    with pytest.raises(InvalidTaskError, match="collection of names"):
        create_app(TaskOrchestrator(), token=None, hosts="localhost")
