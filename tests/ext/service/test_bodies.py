"""What may come in a body, and what may not."""

from __future__ import annotations

import math
import re

import pytest
from tests.ext.service.tools import JSON

from taskorch import InvalidTaskError
from taskorch.api.verbs.table import VERBS
from taskorch.ext.client import Client

TASKS = "/api/v1/tasks"


def post(service, body, **headers):
    sent = {**service.headers(), "Content-Type": JSON, **headers}
    return service.send("POST", TASKS, body, sent)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "bad_json"),
        (b"\xff\xfe", "bad_json"),
        (b'{"type": "echo", "payload": NaN}', "bad_json"),
        (b'{"type": "echo", "payload": -Infinity}', "bad_json"),
        (b"1" * 5_000, "bad_json"),
        (b"[" * 100 + b"]" * 100, "body_too_deep"),
        (b"[" * 500_000, "body_too_deep"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "body_too_deep"),
        (b'{"type": "echo", "type": "echo"}', "bad_json"),
    ],
)
def test_a_body_that_is_no_json(service, body, code):
    answer = post(service, body)

    assert (answer.status, answer.said["code"]) == (400, code)
    assert service.get(TASKS)["tasks"] == []


def test_a_body_that_is_longer_than_it_may_be(service):
    # In pieces, so that its length is not known before.
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = post(
        service, chunk * 20 + b"0\r\n\r\n", **{"Transfer-Encoding": "chunked"}
    )

    assert (answer.status, answer.said["code"]) == (413, "body_too_long")


def test_a_body_of_two_lengths_is_refused(service):
    with service.socket() as found:
        found.sendall(
            b"POST /api/v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Length: 6\r\n\r\n0\r\n\r\n"
        )
        assert b" 400 " in found.recv(1_000)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_length_and_a_transfer_encoding_end_the_connection(service, method):
    """A proxy may have taken what follows for a request of its own."""
    sent = f"{method} /api/v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    sent += f"Authorization: Bearer {service.token}\r\nContent-Type: {JSON}\r\n"
    sent += "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    smuggled = "GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with service.socket() as found:
        found.sendall((sent + smuggled).encode())
        said = b""
        while data := found.recv(65_536):
            said += data
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1") == 1


def test_a_client_that_leaves_in_the_middle_of_a_body_submits_nothing(service):
    sent = b"POST /api/v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 400\r\n"
    sent += b"Content-Type: application/json\r\n"
    sent += f"Authorization: Bearer {service.token}\r\n\r\n".encode()
    with service.socket() as found:
        found.sendall(sent + b'{"type": "echo"}')
    assert service.get(TASKS)["tasks"] == []


def test_each_route_names_what_it_does_not_know(service):
    """A key of a body or of a query that no route has is refused by its name."""
    description = service.get("/openapi.json")
    asked = 0
    for template, methods in description["paths"].items():
        path = re.sub(r"\{\w+\}", "x", template)
        if re.search("drain|stop|shutdown|livez|readyz|events", path):
            continue
        for method, said in methods.items():
            name = method.upper()
            answer = service.send(name, f"{path}?unheard_of=1")
            assert answer.status in range(400, 500), (name, path, answer)
            if "application/json" in said.get("requestBody", {}).get("content", {}):
                answer = service.ask(name, path, {"unheard_of": 1})
                assert answer.status in range(400, 500), (name, path, answer)
                assert "unheard_of" in str(answer.said), (name, path, answer)
                asked += 1
    assert asked > 15


#: What JSON has no word for, by itself and within what it has.
NO_NUMBERS = [math.nan, math.inf, -math.inf]
HELD = [lambda n: n, lambda n: [n], lambda n: {"cpu": n}, lambda n: [{"resources": n}]]
#: A value of another kind is refused where it is read.
REFUSALS = (InvalidTaskError, TypeError, AttributeError)
#: What each verb is given beside that.
PLAUSIBLE = {
    "verdict": "complete",
    "state": "queued",
    "action": "cancel",
    "expires": 60,
    "older_than": 60,
}


def test_numbers_that_json_has_not_reach_nothing_by_any_verb(service):
    """A client says that they cannot be said; none arrives as another value."""
    client = Client(service.server.url, token=service.token)
    asked = 0
    for verb in VERBS.values():
        if not verb.request or verb.method == "GET":
            continue
        words = {
            each.name: PLAUSIBLE.get(each.name, "x")
            for each in verb.arguments
            if each.is_needed
        }
        taking = [each for each in verb.fields if each.form.get("type") != "boolean"]
        for each in taking:
            for number in NO_NUMBERS:
                for held in HELD:
                    said = {**words, each.name: held(number)}
                    if each.name == "totals":
                        said["tokens"] = said.pop("totals")
                    with pytest.raises(REFUSALS) as found:
                        getattr(client, verb.operation)(**said)
                    text = str(found.value)
                    is_named = "JSON" in text or str(number) in text
                    assert is_named or found.type in REFUSALS[1:], (verb.name, said)
                    asked += 1
    assert asked > 100
