"""Budgets over HTTP: who may see and raise them; metrics; and who is told."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from tests.frontends.service.tools import orchestrator, served
from tests.integration.tools import PATIENCE, Hold, eventually

from taskorch import InvalidTaskError, Task, current_context
from taskorch.cli import main
from taskorch.client import Client, ServiceError
from taskorch.frontends.people import Tokens

BUDGETS = "/api/v1/budgets"


def spend(**amounts):
    current_context().spent(**amounts)


@pytest.fixture
def service():
    with served(orchestrator()) as service:
        yield service


def raised(service, name, **totals):
    return service.post(f"{BUDGETS}/{name}", {"totals": totals})


def test_what_is_spent_reserved_and_left_is_told(service):
    assert service.get(BUDGETS) == {"budgets": []}
    hold = Hold()
    with service.orch.budget("release", tokens=100, eur=0.3):
        service.orch.submit(spend, tokens=30).result(PATIENCE)
        service.orch.submit_task(Task.call(hold, resources={"tokens": 20}))
        hold.wait()
        service.orch.budget("part", tokens=10)
    whole, part = service.get(BUDGETS)["budgets"]
    assert whole == {
        "name": "release",
        "state": "ok",
        "total": {"tokens": 100, "eur": 0.3},
        "spent": {"tokens": 30, "eur": 0},
        "reserved": {"tokens": 20, "eur": 0},
        "left": {"tokens": 50, "eur": 0.3},
        "parent": None,
        "question": None,
    }
    assert (part["parent"], part["left"]) == ("release", {"tokens": 10})
    hold.release()


def test_states_follow_what_is_spent_and_answered(service):
    def state():
        (budget,) = service.get(BUDGETS)["budgets"]
        return budget["state"], budget["question"]

    with service.orch.budget("release", tokens=10):
        service.orch.submit(spend, tokens=7).result(PATIENCE)
        assert state() == ("ok", None)
        service.orch.submit(spend, tokens=1).result(PATIENCE)
        assert state() == ("low", None)
        waiting = service.orch.submit_task(
            Task.call(spend, kwargs={"tokens": 3}, resources={"tokens": 3})
        )
    eventually(lambda: state() == ("exhausted", "budget-release/1"))
    answer = raised(service, "release", tokens=100)
    assert answer.status == 200
    assert answer.said["budget"]["total"] == {"tokens": 100}
    waiting.result(PATIENCE)
    assert state() == ("ok", None)
    raised(service, "release", tokens=11)
    # All that there is.
    assert state() == ("exhausted", None)


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


def test_who_looks_raises_nothing_and_who_is_bound_sees_none(tmp_path):
    tokens = Tokens(tmp_path / "tokens.json")
    made = {
        "looks": tokens.add("looks", ["look"]),
        "operates": tokens.add("operates", ["operate"]),
        "bound": tokens.add("bound", ["operate"], tenants=["t"]),
    }
    orch = orchestrator()
    with orch, orch.serve(port=0, tokens=tokens.path) as server:
        orch.budget("release", tokens=100)
        looks, operates, bound = (Client(server.url, token=made[n]) for n in made)
        assert len(looks.budgets()) == 1
        assert operates.raise_budget("release", {"tokens": 7})["total"]["tokens"] == 7
        for refused in (
            lambda: looks.raise_budget("release", {"tokens": 9}),
            bound.budgets,
            lambda: bound.raise_budget("release", {"tokens": 9}),
        ):
            with pytest.raises(ServiceError) as error:
                refused()
            assert error.value.status == 403
        assert looks.budgets()[0]["total"] == {"tokens": 7}


def test_metrics_say_what_is_spent_and_left(service):
    with service.orch.budget("release", tokens=100):
        service.orch.submit(spend, tokens=30).result(PATIENCE)
    text = service.ask("GET", "/metrics").body.decode()
    which = '{taskorch_budget="release",taskorch_resource="tokens"}'
    assert f"taskorch_budget_spent{which} 30.0" in text
    assert f"taskorch_budget_left{which} 70.0" in text
    # It is no pool of the machine's.
    assert 'taskorch_pool_usage{taskorch_resource="budget' not in text


def test_a_budget_that_is_low_is_a_trouble_of_whoever_looks(service):
    def part():
        health = service.get("/api/v1/health")
        return {each["component"]: each for each in health["checks"]}["budgets"]

    with service.orch.budget("release", tokens=10) as budget:
        assert part()["status"] == "ok"
        service.orch.submit(spend, tokens=8).result(PATIENCE)
        assert part()["detail"] == "release: 8 of 10 tokens spent"
        service.orch.submit_task(Task.call(len, "x", resources={"tokens": 5}))
        eventually(lambda: "tasks wait for more" in part()["detail"])
        budget.raise_to(tokens=100)
        assert part()["status"] == "ok"


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
