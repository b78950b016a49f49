"""Budgets over HTTP: who may see and raise them; metrics; and who is told."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.service.tools import orchestrator, served

from taskorch import InvalidTaskError, Task, current_context
from taskorch.ext.client import Client
from taskorch.ext.command_line import main

BUDGETS = "/api/v1/budgets"


def spend(**amounts):
    current_context().spent(**amounts)


@pytest.fixture
def service():
    with served(orchestrator()) as service:
        yield service


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("nobody", {"totals": {"tokens": 1}}, 422),
        ("release", {"totals": {"tokens": 0}}, 422),
        ("release", {"totals": {"tokens": -1}}, 422),
        ("release", {"totals": {"tokens": "many"}}, 422),
        ("release", {"totals": {}}, 422),
        ("release", {}, 422),
        ("release", {"totals": {"tokens": 1}, "by": "me"}, 422),
    ],
)
def test_what_is_no_amount_changes_nothing(service, name, body, status):
    budget = service.orch.budget("release", tokens=100)
    answer = service.post(f"{BUDGETS}/{name}", body)
    assert answer.status == status, answer.said
    assert budget.usage.total == {"tokens": 100}


def test_the_client_has_them(service):
    client = Client(service.server.url, token=service.token)
    service.orch.budget("release", tokens=100)
    assert client.budgets()[0]["left"] == {"tokens": 100}
    assert client.raise_budget("release", {"tokens": 200})["total"] == {"tokens": 200}
    with pytest.raises(InvalidTaskError, match="there are release"):
        client.raise_budget("relase", {"tokens": 200})


def test_metrics_say_what_is_spent_and_left(service):
    with service.orch.budget("release", tokens=100):
        service.orch.submit(spend, tokens=30).result(PATIENCE)
    text = service.ask("GET", "/metrics").body.decode()
    which = '{taskorch_budget="release",taskorch_resource="tokens"}'
    assert f"taskorch_budget_spent{which} 30.0" in text
    assert f"taskorch_budget_left{which} 70.0" in text
    # It is no pool of the machine's.
    assert 'taskorch_pool_usage{taskorch_resource="budget' not in text


@pytest.mark.parametrize("face", ["request", "command"])
def test_what_explain_says_to_do_can_be_done_as_it_is_said(
    service, face, capsys, monkeypatch
):
    """The remedy names the amounts, in requests and in commands."""
    task = Task.call(int, resources={"tokens": 25}, id="large", budget="release")
    service.orch.budget("release", tokens=10)
    handle = service.orch.submit_task(task)
    eventually(service.orch.questions)
    if face == "request":
        text = service.get("/api/v1/tasks/large/explanation")["text"]
        path, body = re.search(r"POST (\S+) (\{.*\}\})", text).groups()
        service.post(path, json.loads(body))
    else:
        monkeypatch.setenv("TASKORCH_TOKEN", service.token)
        assert main(["explain", service.server.url, "large"]) == 0
        # To answer the question is another way.
        words = re.search("taskorch (raise-budget .*)", capsys.readouterr().out)[1]
        assert main(shlex.split(words)) == 0
    handle.result(PATIENCE)
    (budget,) = service.get(BUDGETS)["budgets"]
    assert (budget["total"], budget["question"]) == ({"tokens": 25}, None)
