"""Runs of workflows over HTTP."""

from __future__ import annotations

import pytest

from taskorch import Task
from taskorch.api.workflows import Workflow
from taskorch.ext.client import Client

RUNS = "/api/v1/workflows"
DOCUMENT = {
    "workflow": "release",
    "tasks": {
        "a": {"call": "double", "args": [2]},
        "b": {"call": "double", "args": [{"$result": "a"}]},
    },
}


def start(service, run_id="r", document=DOCUMENT, **headers):
    said = {"workflow": document}
    if run_id is not None:
        said["id"] = run_id
    return service.post(RUNS, said, **headers)


def test_a_workflow_is_started_and_its_results_come_back(service):
    answer = start(service)

    assert (answer.status, answer.said) == (202, {"workflow_id": "r"})
    assert answer.headers["location"] == f"{RUNS}/r"
    assert service.result("r/b")["result"] == 8
    service.orch.wait()
    said = service.get(f"{RUNS}/r")
    assert (said["state"], said["percent"]) == ("completed", 100.0)
    assert said["tasks"] == {"a": "completed", "b": "completed"}
    assert service.get(f"{RUNS}/r/report")["totals"]["completed"] == 2
    assert service.get(f"{RUNS}?id=r*") == {"workflow_ids": ["r"]}
    assert service.get(f"{RUNS}?id=x*") == {"workflow_ids": []}


def test_a_workflow_that_comes_again_is_the_same_run(service):
    assert start(service).said == start(service).said
    other = {**DOCUMENT, "tasks": {"c": {"type": "echo"}}}
    assert start(service, document=other).status == 409


def test_a_workflow_that_comes_again_under_its_key_is_the_same_run(service):
    first = start(service, None, Idempotency_Key="k")

    assert start(service, None, Idempotency_Key="k").said == first.said
    assert start(service, None, Idempotency_Key="l").said != first.said
    assert start(service, None).said != start(service, None).said


@pytest.mark.parametrize(
    ("verb", "verdict"), [("approve", "passed"), ("reject", "failed")]
)
def test_a_gate_is_approved_or_rejected(service, verb, verdict):
    document = {
        "phases": {"check": {"gate": [{"approval": None}]}},
        "tasks": {"a": {"call": "double", "args": [1], "phase": "check"}},
    }
    start(service, document=document)
    service.orch.wait()
    said = {"gate": "check", "by": "Ada", "note": "seen"}

    assert service.post(f"{RUNS}/r/{verb}", said).said == {"changed": True}
    service.orch.wait()
    assert service.get(f"{RUNS}/r")["phases"]["check"]["verdict"] == verdict
    assert service.post(f"{RUNS}/r/{verb}", {**said, "by": 5}).status == 422


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"tasks": []},
        {"tasks": {"a": {"call": "nothing"}}},
        {"tasks": {"a": {"program": ["true"]}}},
        {"tasks": {"a": {"type": "echo", "after": ["a"]}}},
        {"tasks": {}, "phases": {"p": {"gate": [{"file": "/etc/passwd"}]}}},
    ],
)
def test_what_is_no_workflow_is_refused(service, document):
    assert start(service, document=document).status == 422
    assert service.get(RUNS) == {"workflow_ids": []}


def test_a_run_that_there_is_not(service):
    for path in ("", "/report"):
        assert service.ask("GET", f"{RUNS}/none{path}").status == 404
    for verb in ("cancel", "pause", "resume", "restart"):
        assert service.post(f"{RUNS}/none/{verb}").status == 404


def test_a_run_that_is_asked_for_has_no_schedule(service):
    document = {"workflow": "f", "tasks": {"a": {"type": "echo"}}}
    document["schedule"] = {"when": "@daily"}
    answer = service.post("/api/v1/workflows", {"workflow": document})
    assert answer.status == 422
    assert "begins at once" in answer.said["detail"]


def test_what_would_be_is_told_over_http(service):
    """The numbers and the words of `orch.simulate`, and nothing is run."""
    names = {"double": abs}
    client = Client(service.server.url, token=service.token, functions=names)
    first = Task.call(abs, 1, id="a")
    tasks = [first, Task.call(abs, 2, id="b", after=[first])]
    report = client.simulate(tasks, {"a": 2.0, "b": 3.0})
    assert report["seconds"] == 5.0
    assert report["critical_path"] == ["a", "b"]
    assert "5 s" in report["text"]
    assert client.simulate(DOCUMENT, 4)["seconds"] == 8.0
    workflow = Workflow("two")
    workflow.task(abs, 3, id="one")
    assert client.simulate(workflow, 4)["tasks"] == 1
    assert not list(client.tasks())


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({}, "one of the two"),
        ({"tasks": [], "workflow": DOCUMENT}, "one of the two"),
        ({"workflow": DOCUMENT, "draws": 1_000}, "draws"),
        ({"workflow": DOCUMENT, "durations": -1}, "durations"),
        ({"workflow": DOCUMENT, "seed": "x"}, "seed"),
        ({"workflow": {"workflow": "x"}}, "tasks"),
        ({"workflow": DOCUMENT, "failures": 2}, "failures"),
    ],
)
def test_what_cannot_be_simulated_is_refused(service, said, fault):
    answer = service.post("/api/v1/simulations", {"durations": 1, **said})
    assert answer.status == 422, answer
    assert fault in answer.said["detail"]
