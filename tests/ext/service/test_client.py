"""The client: the facade's names, over the wire."""

from __future__ import annotations

import socket
import threading

import pytest
from tests.api.tools import PATIENCE
from tests.ext.service.tools import orchestrator, served

import taskorch.ext.client as module
from taskorch import (
    AtLeast,
    InvalidTaskError,
    NotRunningError,
    RetryPolicy,
    Task,
    TaskCancelledError,
    TaskFailedError,
    ValidationFailedError,
    errors,
)
from taskorch.errors import AnswerRefusedError
from taskorch.ext.client import Client, RemoteHandle, ServiceError


def double(n):
    return 2 * n


@pytest.fixture
def client():
    functions = {"double": double, "total": sum}
    with served(orchestrator(), functions=functions) as service:
        yield Client(service.server.url, token=service.token, functions=functions)


def test_a_task_is_submitted_and_its_result_comes_back(client):
    handle = client.submit_task(Task("echo", {"a": 1}, id="nightly/x"))

    assert handle == RemoteHandle("nightly/x", client)
    assert handle.result(timeout=30) == {"a": 1}
    assert handle.done()
    assert not handle.cancel()
    assert client.handle("nightly/x").status()["state"] == "completed"


def test_handles_are_dependencies_and_arguments(client):
    first = client.submit_task(Task.call(double, 4))
    second = client.submit_task(Task.call(double, kwargs={"n": first}, after=[first]))
    third = client.submit_task(Task.call(sum, [first, second], after=[second.task_id]))
    named = Task("echo", "end", id="named")
    last = client.submit_tasks([named, Task("echo", after=[named, third])])

    assert third.result(60) == 24
    assert [handle.result(60) for handle in last] == ["end", None]


def test_options_of_a_task_go_over_the_wire(client):
    task = Task(
        *("echo", 1),
        id="x",
        priority=3,
        retry=RetryPolicy(2),
        owner="ada",
        timeout=30,
        metadata={"a": [1]},
        idempotency_key="k",
    )

    assert client.submit_task(task) == client.submit_task(task)
    status = client.get_task_status("x")
    assert (status["priority"], status["owner"], status["metadata"]) == (
        3,
        "ada",
        {"a": [1]},
    )
    waits = Task.wait_for("e", id="w", join=AtLeast(1), after=["x"])
    assert client.submit_task(waits).status()["type"] == "wait"
    client.cancel_task("w")


@pytest.mark.parametrize(
    "task",
    [
        Task("echo", object()),
        Task("echo", float("nan")),
        Task.call(print),
        Task("echo", after=[Task("echo")]),
        Task("echo", after=[3]),
        Task.call(double, lambda: 1),
        "echo",
        {"type": "echo"},
    ],
)
def test_what_cannot_be_said_is_not_sent(client, task):
    with pytest.raises(InvalidTaskError):
        client.submit_task(task)
    assert list(client.tasks()) == []


def test_what_is_refused_is_the_error_that_it_is_there(client):
    with pytest.raises(errors.UnknownCapabilityError) as caught:
        client.submit_task(Task("paint"))
    assert caught.value.hint
    with pytest.raises(ValidationFailedError) as caught:
        client.submit_task(Task("echo", id="../x"))
    assert caught.value.findings[0][0] == "tasks[0].id"
    client.submit_task(Task("echo", 1, id="x"))
    with pytest.raises(errors.DuplicateTaskError) as caught:
        client.submit_task(Task("echo", 2, id="x"))
    assert caught.value.differences[0][:2] == ("x", "payload")
    with pytest.raises(errors.UnknownTaskError) as caught:
        client.explain("none")
    assert caught.value.task_id == "none"
    with pytest.raises(InvalidTaskError, match="no state"):
        list(client.tasks(state="lost"))


def test_failures_are_raised(client):
    failed = client.submit_task(Task("echo", {"raise": "no"}))
    with pytest.raises(TaskFailedError, match="ValueError: no") as caught:
        failed.result(60)
    assert (caught.value.type, caught.value.task_id) == ("ValueError", failed.task_id)
    waits = client.submit_task(Task.wait_for("never"))
    with pytest.raises(TimeoutError, match="has not ended in 0"):
        waits.result(0)
    assert waits.cancel()
    with pytest.raises(TaskCancelledError):
        waits.result(60)


def test_a_result_is_waited_for_again_and_again(client, monkeypatch):
    monkeypatch.setattr(module, "_WAIT", 0.01)
    handle = client.submit_task(Task.wait_for("go"))
    with pytest.raises(TimeoutError):
        handle.result(timeout=0.1)
    threading.Timer(0.1, client.emit, ("go", 7)).start()
    assert handle.result() == 7


def test_remedies_of_errors_are_requests_or_calls():
    with served(orchestrator()) as service:
        hints = {}
        for how in ("requests", "calls"):
            client = Client(service.server.url, token=service.token, remedies=how)
            client.submit_task(Task.question("Ship it?", options=["yes"], id=how))
            client.answer(how, "yes", by="Ada")
            client.rerun_task(how)
            with pytest.raises(AnswerRefusedError) as caught:
                client.answer(how, "yes", by="Ada")
            hints[how] = str(caught.value)
        assert "POST /api/v1/tasks/requests~2/answer" in hints["requests"]
        assert "orch.answer('calls~2', CHOICE, by=…)" in hints["calls"]


def test_why_a_task_was_called_off_is_said_by_who_does_it(client):
    for name, words, said in [
        ("a", {"reason": "not needed any more"}, "not needed any more"),
        ("b", {}, "over HTTP"),
    ]:
        client.submit_task(Task.wait_for("go", id=name))
        assert client.cancel_task(name, **words)
        with pytest.raises(TaskCancelledError, match=said):
            client.result(name)


def test_what_is_stale_is_said_and_run_again_when_it_is_asked_for(client):
    client.submit_task(Task.wait_for("go", id="w"))
    client.submit_task(Task("echo", 1, id="then", after=["w"]))
    client.decide("w", "complete", result=1)
    client.handle("then").result(60)

    client.rerun_task("w")
    client.decide("w", "complete", result=2)
    assert client.get_task_status("then")["stale"] is True
    assert "It is stale: it had w" in client.explain("then")["text"]
    client.rerun_task("w", downstream=True)
    client.decide("w", "complete", result=3)
    assert client.handle("then").result(60) == 1
    assert client.get_task_status("then")["task_id"] == "then~2"
    assert client.get_task_status("then")["stale"] is False


def test_tasks_are_listed_a_page_at_a_time(client, monkeypatch):
    monkeypatch.setattr(module, "_PAGE", 2)
    ids = [f"t{n}" for n in range(5)]
    for handle in client.submit_tasks([Task("echo", id=name) for name in ids]):
        handle.result(60)

    assert [task["task_id"] for task in client.tasks()] == ids
    assert [
        t["task_id"] for t in client.tasks("completed", type="echo", id="t[12]")
    ] == ids[1:3]
    assert list(client.tasks(owner="ada", agent="echo", older_than=0)) == []
    assert client.get_stats()["state_machine"]["completed"] == 5
    assert client.health()["status"] == "ok"


def test_a_service_that_has_stopped():
    with served(orchestrator()) as service:
        client = Client(service.server.url, token=service.token, patience=1)
        service.orch.stop()
        with pytest.raises(NotRunningError):
            client.submit_task(Task("echo"))
    with pytest.raises(ConnectionError):
        client.get_stats()


def test_a_token_that_is_wrong(client):
    url = f"http://{client._place}/"
    with pytest.raises(ServiceError) as caught:
        Client(url, token="wrong").get_stats()
    assert (caught.value.status, caught.value.problem["code"]) == (401, "no_token")
    assert "Authorization" in caught.value.hint
    assert "wrong" not in repr(Client(url, token="wrong"))


def test_somebody_else_who_answers():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1_000)
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n<html>")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ServiceError, match="no service of taskorch"):
            Client(f"http://127.0.0.1:{listener.getsockname()[1]}").health()
        thread.join()


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://x", "http://"])
def test_an_address_that_is_none(url):
    with pytest.raises(InvalidTaskError, match="no address"):
        Client(url)


def test_every_error_that_can_come_can_be_made():
    for code, cls in module._ERRORS.items():
        problem = {"detail": "d", "code": code, "findings": [], "differences": []}
        assert type(module._refusal(400, problem)) is cls
        made = module._failure({"type": "T", "message": "m", "code": code}, "x")
        assert made.task_id == "x"


def test_a_service_that_is_not_there_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectionRefusedError) as caught:
        Client(f"http://127.0.0.1:{port}").get_stats()
    assert f"127.0.0.1:{port}" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "said",
    [b"\x00\xff garbage\n\n", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"],
)
def test_what_is_no_answer_of_http_is_an_oserror(said):
    """As what cannot be reached is: a caller has to know of no other."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            with server.accept()[0] as connection:
                connection.recv(65_536)
                connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        client = Client(f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(ConnectionError, match="no answer of HTTP"):
            client.get_stats()
        thread.join(PATIENCE)
