"""Who may ask, and who may not: every path with every method."""

from __future__ import annotations

import json
import re
from random import Random
from unittest.mock import Mock

import pytest
from tests.frontends.service import suites
from tests.frontends.service.tools import JSON, orchestrator, served

from taskorch import InvalidTaskError, TaskOrchestrator
from taskorch.frontends.service import create_app, new_token
from taskorch.frontends.service._agents import Agents
from taskorch.frontends.service._suites import suite_app

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


APPS = {
    "orchestrator": create_app(TaskOrchestrator(), token=None, agents=True, page=True),
    # What it runs is not asked for its paths, but for those of its agents.
    "suite": suite_app(Mock(agents=Agents(TaskOrchestrator(), None)), token=None),
}


@pytest.fixture(scope="module")
def service():
    with served(orchestrator(), agents=True, page=True) as found:
        yield found


@pytest.fixture(scope="module")
def services(service, tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    (folder / "suite.yaml").write_text(suites.SUITE)
    with suites.served(folder) as found:
        yield {"orchestrator": service, "suite": found}


def paths(app):
    found = {path_of(operation) for operation in app.state.operations}
    found |= {"/openapi.json", "/", "/nowhere", "/api/v1/tasks/", "//livez"}
    return sorted(found)


def path_of(operation):
    return re.sub(r"{\w+}", "x", operation.path)


EVERY = [(name, path) for name, app in APPS.items() for path in paths(app)]


def headers(service, fault):
    sent = {**service.headers(), "Content-Type": JSON}
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


@pytest.mark.parametrize(("name", "path"), EVERY)
def test_whoever_may_not_ask_is_refused(services, name, path, monkeypatch):
    service = services[name]
    monkeypatch.setattr(
        "taskorch.frontends.service._guard._Bucket.take", lambda _: True
    )
    for fault, method in wrong(path):
        body = b"" if method in ("GET", "HEAD") else TASK
        sent = headers(service, fault)
        if path in opened(APPS[name]) and fault in OF_TOKENS:
            if method == "GET":
                assert service.send(method, path, body, sent).status == 200, fault
            continue
        answer = service.send(method, path, body, sent)
        assert answer.status == FAULTS[fault], (fault, method, answer)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers
    if name == "suite":
        assert service.ask("GET", "/api/v1/tasks").said["code"] == "no_run"
    else:
        assert service.get("/api/v1/tasks?id=planted")["tasks"] == []


@pytest.mark.parametrize(("name", "path"), EVERY)
def test_a_method_that_is_not_of_a_path_does_nothing(services, name, path):
    service = services[name]
    known = {o.method for o in APPS[name].state.operations if path_of(o) == path}
    if path == "/openapi.json":
        known = {"GET"}
    known |= {"HEAD"} if "GET" in known else set()
    for method in METHODS:
        if method not in known:
            body = b"" if method in ("GET", "HEAD") else TASK
            sent = {**service.headers(), "Content-Type": JSON}
            answer = service.send(method, path, body, sent)
            assert answer.status in (404, 405), (method, answer)
            if answer.status == 405 and method != "TRACE":
                assert {*answer.headers["allow"].split(", ")} == known, answer


def test_a_body_changes_nothing_about_which_methods_there_are(service):
    sent = {**service.headers(), "Content-Type": JSON}
    for path in ("/api/v1/tasks/x/rerun", "/api/v1/tasks/x/cancel"):
        answer = service.send("GET", path, b"{}", sent)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert service.send("GET", "/nowhere", b"{}", sent).status == 404


def test_get_and_head_have_no_body(service):
    sent = {**service.headers(), "Content-Type": JSON}
    for method in ("GET", "HEAD"):
        for path in ("/api/v1/tasks", "/openapi.json", "/livez"):
            assert service.send(method, path, b"{}", sent).status == 400


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST:80", "[::1]:8080", "127.0.0.1:1"]
)
def test_names_of_this_machine(service, host):
    sent = {**service.headers(), "Host": host, "Origin": f"http://{host}"}
    assert service.send("GET", "/api/v1/health", b"", sent).status == 200
    assert service.send("GET", "/livez", b"", {"Host": host}).status == 200


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


def test_without_a_token_the_others_checks_hold():
    with served(orchestrator(), token=None) as service:
        assert service.get("/api/v1/tasks")["tasks"] == []
        evil = {"Origin": "http://evil.example", "Content-Type": JSON}
        assert service.send("POST", "/api/v1/tasks", TASK, evil).status == 403
        text = {"Content-Type": "text/plain"}
        assert service.send("POST", "/api/v1/tasks", TASK, text).status == 415


def test_the_refusal_of_a_token_gives_nothing_away(service):
    answer = service.send("GET", "/api/v1/tasks", b"", {"Authorization": "Bearer x"})

    assert answer.headers["www-authenticate"] == "Bearer"
    assert service.token not in answer.body.decode()


def test_tokens_are_not_tried_out_for_long():
    with served(orchestrator()) as service:
        statuses = {service.send("GET", "/api/v1/tasks").status for _ in range(60)}
        assert statuses == {401, 429}
        # Whoever has the token is not kept out by those who have not.
        assert service.get("/api/v1/tasks")["tasks"] == []


def test_so_many_requests_a_second_are_answered_and_no_more(monkeypatch):
    """In every second, and however long it was quiet."""
    now = [0.0]
    monkeypatch.setattr("taskorch.frontends.service._guard.monotonic", lambda: now[0])
    monkeypatch.setattr("taskorch.frontends.service._guard._WITH_TOKEN", 30.0)
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
    monkeypatch.setattr("taskorch.frontends.service._guard._WITH_TOKEN", 2.0)
    with served(orchestrator()) as service:
        answers = [service.ask("GET", "/api/v1/health") for _ in range(40)]
        refused = [answer for answer in answers if answer.status == 429]

        assert refused
        assert refused[0].said["code"] == "too_many_requests"
        assert int(refused[0].headers["retry-after"]) > 0


def test_addresses_are_forgotten_at_some_number(monkeypatch):
    monkeypatch.setattr("taskorch.frontends.service._guard._ADDRESSES", 2)
    from taskorch.frontends.service._guard import Doors, RequestGuard

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


def test_tokens_are_long_and_never_the_same():
    assert len({new_token() for _ in range(100)}) == 100
    assert len(new_token()) >= 43
