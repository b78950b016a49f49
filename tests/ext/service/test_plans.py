"""Plans over HTTP."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed

import jsonschema
import pytest
from tests.ext.service.tools import JSON, orchestrator, served

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


def test_functions_without_a_name_and_many_searches():
    orch = orchestrator()
    domain = orch.planner.domain("d")
    entered, go = threading.Semaphore(0), threading.Event()
    domain.operator(lambda state: state, name="ok", run=double, duration=1)

    @domain.method("think")
    def think(state):
        entered.release()
        assert go.wait(60)
        return []

    def plan(kind):
        return post(service, PLANS, {"request": {"id": "r", "type": kind}})

    with served(orch) as service, ThreadPoolExecutor(60) as pool:
        refused = plan("ok")
        assert refused.status == 422
        assert 'create_app(orch, functions={"NAME": function})' in refused.said["hint"]
        plans = [pool.submit(plan, "think") for _ in range(50)]
        try:
            for _ in range(2):
                assert entered.acquire(timeout=60)
            # All others are served meanwhile, and those that are too many refused.
            assert service.get("/livez") is not None
            assert service.get("/api/v1/tasks") is not None
            for _, one in zip(range(16), as_completed(plans), strict=False):
                assert one.result().status == 429
        finally:
            go.set()
        statuses = sorted(one.result().status for one in plans)
        assert statuses == [200] * 34 + [429] * 16


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
    assert (run.status, run.said["workflow_id"]) == (202, "night")
    assert planned.get("/api/v1/workflows/night")["workflow_id"] == "night"


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("", {"request": {"id": "r", "type": "pier"}}, "did you mean 'pair'"),
        ("", {"request": {"id": "r", "type": "pair"}}, "takes n"),
        ("", {"request": 7}, "an object or a text"),
        ("", {"request": "pair", "seconds": 61}, "seconds"),
        ("", {"request": {"idd": "r"}}, "did you mean 'id'"),
        ("/start", {"plan": {"id": "x"}}, "workflow: it is missing"),
        ("/validate", {"plan": []}, "an object is needed"),
    ],
)
def test_what_is_no_request_and_no_plan_is_refused(planned, path, body, said):
    answer = post(planned, PLANS + path, body)

    assert answer.status == 422
    assert said in json.dumps(answer.said)


def test_workers_are_documents_in_the_form_of_plans(planned):
    """As their schema says."""
    schema = planned.get(f"{PLANS}/schemas")["agent"]
    jsonschema.Draft202012Validator.check_schema(schema)
    for each in planned.get("/api/v1/agent-instances")["agents"]:
        jsonschema.validate(each, schema)
