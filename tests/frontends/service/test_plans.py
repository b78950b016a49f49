"""Plans over HTTP."""

from __future__ import annotations

import json

import jsonschema
import pytest
from tests.frontends.service.tools import JSON, orchestrator, served

from taskorch import Workflow

PLANS = "/api/v1/plans"


def double(n):
    return 2 * n


@pytest.fixture
def planned():
    orch = orchestrator()

    @orch.planner.template("pair")
    def pair(n):
        wf = Workflow("pair")
        wf.task(double, wf.task(double, n, id="one", expected=3), id="two", expected=4)
        return wf

    with served(orch, functions={"double": double}) as found:
        yield found


def post(service, path, body):
    sent = {**service.headers(), "Content-Type": JSON}
    return service.send("POST", path, json.dumps(body).encode(), sent)


def test_a_request_is_planned_improved_checked_and_run(planned):
    request = {"id": "r", "type": "pair", "context": {"n": 3}}
    made = post(planned, PLANS, {"request": request, "seconds": 0.1})
    assert made.status == 200, made.said
    plan = made.said
    jsonschema.validate(plan, planned.get(f"{PLANS}/schemas")["plan"])
    assert plan["estimatedDuration"] == 7

    assert post(planned, f"{PLANS}/validate", {"plan": plan}).said["ok"]
    asked = {"plan": plan, "seconds": 0.1, "aims": {"makespan": 1, "peak": 0.1}}
    better = post(planned, f"{PLANS}/optimize", asked)
    asked["aims"] = {"pek": 1}
    assert "did you mean 'peak'" in str(post(planned, f"{PLANS}/optimize", asked).said)
    assert better.said["estimatedDuration"] == 7
    assert (
        post(planned, f"{PLANS}/estimate", {"plan": plan}).said["estimatedDuration"]
        == 7
    )
    run = post(planned, f"{PLANS}/start", {"plan": plan, "id": "night"})
    assert (run.status, run.said) == (202, {"workflow_id": "night"})
    assert planned.get("/api/v1/workflows/night")["workflow_id"] == "night"


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("", {"request": {"id": "r", "type": "pier"}}, "did you mean 'pair'"),
        ("", {"request": {"id": "r", "type": "pair"}}, "takes n"),
        ("", {"request": 7}, "an object or a text"),
        ("", {"request": "pair", "seconds": 61}, "seconds"),
        ("", {"request": {"idd": "r"}}, "did you mean 'id'"),
        ("/start", {"plan": {"id": "x"}}, "workflow: is missing"),
        ("/validate", {"plan": []}, "an object is needed"),
    ],
)
def test_what_is_no_request_and_no_plan_is_refused(planned, path, body, said):
    answer = post(planned, PLANS + path, body)

    assert answer.status == 422
    assert said in json.dumps(answer.said)
