"""An orchestration layer over HTTP: its calls, and its documents beside our names."""

from __future__ import annotations

import re
import threading
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import given, strategies as st
from tests.api.tools import eventually
from tests.ext.service.tools import served

from taskorch import Resources, Task, TaskOrchestrator, Workflow
from taskorch.api.workflows import WorkflowStatus
from taskorch.core.workflows._status import PhaseStatus, state_of
from taskorch.errors import (
    AllocationError,
    InvalidTaskError,
    ResourcesTakenError,
    TaskorchError,
    UnsatisfiableError,
)
from taskorch.ext.client import Client, ServiceError
from taskorch.ext.planner import agent_schema, workflow_schema
from taskorch.model import (
    AgentHealth,
    AgentInstance,
    AgentState,
    Quota,
    TaskState,
)


@pytest.fixture
def goes():
    """Set: what runs may end."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def layer(goes):
    orch = TaskOrchestrator(resources={"gpu": 2, "cpu": 4}, unknown_capability="wait")
    orch.agents.template(
        "tester",
        kind="test",
        capabilities={"test": 2},
        capacity={"gpu": 1},
        handler=lambda task, _: goes.wait(60) and task.payload,
    )
    with served(orch, functions={"double": double}) as service:
        yield service
        goes.set()


@pytest.fixture
def client(layer):
    return Client(layer.server.url, token=layer.token)


def double(n):
    return 2 * n


def is_worker(document: Any) -> bool:
    return jsonschema.Draft202012Validator(agent_schema()).is_valid(document)


def is_run(document: Any) -> bool:
    return jsonschema.Draft202012Validator(workflow_schema()).is_valid(document)


def run_of(client, run_id):
    return client.workflow_status(run_id)["instance"]


# -- workers ---------------------------------------------------------------------------


def test_a_worker_is_a_document_beside_our_names_wherever_it_is_told(
    layer, client, goes
):
    spawned = client.spawn_agent("tester", {"id": "t1"})
    task = Task("t", requires=["test:2"], id="works", resources={"gpu": 1})
    client.submit_task(task)
    eventually(lambda: client.agent("t1")["tasks"] == ["works"])

    (listed,) = (each for each in client.agents() if each["id"] == "t1")
    (match,) = client.match_agents(["test:2"])
    for each in (spawned, client.agent("t1"), listed, match["agent"]):
        assert is_worker(each["instance"])
        # Ours are as they were.
        assert each["capabilities"] == {"test": 2}
        assert each["slots"] == 1
        assert {"heartbeat_age", "success_rate"} < each["health"].keys()
    assert listed["instance"].pop("labels") == client.agent("local")["labels"]
    assert listed["instance"].pop("capacity")["gpu"] == 1
    assert listed["instance"].pop("units") == listed["units"] == {}
    assert listed["instance"] == {
        "id": "t1",
        "type": "tester",
        "kind": "test",
        "capabilities": [{"name": "test", "level": 2}],
        "status": "busy",
        "health": {
            "status": "busy",
            "healthy": True,
            "reasons": [],
            "heartbeatAge": None,
            "successRate": None,
            "latency": None,
            "breakers": {},
        },
        "allocation": {"gpu": 1.0},
        "workload": [{"id": "works"}],
        "maxConcurrency": 1,
        "pid": None,
    }
    assert [each["instance"] for each in client.agents()] == client.agent_instances()
    assert spawned["instance"]["status"] == "idle"
    client.drain_agent("t1")
    assert client.agent("t1")["instance"]["status"] == "draining"
    goes.set()
    client.terminate_agent("t1")
    eventually(lambda: [each["id"] for each in client.agents()] == ["local"])


_COUNTS = st.integers(0, 5)
_AMOUNT = st.floats(0, 1e6)
_HEALTH = st.builds(
    AgentHealth,
    id=st.just("a"),
    status=st.sampled_from(get_args(AgentState)),
    healthy=st.booleans(),
    reasons=st.lists(st.text(), max_size=3).map(tuple),
    heartbeat_age=st.none() | _AMOUNT,
    success_rate=st.none() | st.floats(0, 1),
    latency=st.none() | _AMOUNT,
    breakers=st.dictionaries(st.text(), st.sampled_from(["open", "closed"])),
)


@given(
    _HEALTH,
    st.dictionaries(st.sampled_from(["test", "code"]), st.integers(1, 100)),
    st.lists(st.sampled_from("abc"), max_size=3),
    st.none() | st.integers(1, 9),
)
def test_each_state_of_a_worker_is_one_word_of_its_document(
    health, levels, tasks, slots
):
    worker = AgentInstance(
        *("a", None, "code", levels, health.status, health),
        *(Resources(cpu=1), len(tasks), slots, None, tuple(tasks)),
    )
    document = worker.to_dict()
    assert is_worker(document)
    assert document["status"] == document["health"]["status"] == health.status
    assert [each["id"] for each in document["workload"]] == tasks
    assert {each["name"]: each["level"] for each in document["capabilities"]} == levels


def test_a_document_has_a_word_for_each_state_and_no_other():
    said = agent_schema()["properties"]["status"]["enum"]
    assert sorted(said) == sorted(get_args(AgentState))


# -- runs ------------------------------------------------------------------------------


def test_a_run_is_a_document_from_its_start_to_its_end(layer, client, goes):
    layer.orch.agents.spawn("tester", {"id": "t1"})
    first = {"type": "t", "payload": 1, "requires": ["test"]}
    last = {"call": "double", "args": [{"$result": "first"}], "after": ["first"]}
    client.start_workflow({"tasks": {"first": first, "last": last}}, "night")
    eventually(lambda: run_of(client, "night")["running"] == 1)
    begun = run_of(client, "night")
    assert is_run(begun)
    assert (begun["id"], begun["status"], begun["percent"]) == ("night", "running", 0)
    assert begun["tasks"] == [
        {"id": "first", "status": "running"},
        {"id": "last", "status": "pending"},
    ]
    assert begun["remainingPath"] == ["first", "last"]

    client.pause_workflow("night")
    pausing = run_of(client, "night")
    assert is_run(pausing)
    assert pausing["status"] in ("pausing", "paused")
    goes.set()
    eventually(lambda: run_of(client, "night")["status"] == "paused")
    client.resume_workflow("night")
    eventually(lambda: run_of(client, "night")["status"] == "completed")
    ended = run_of(client, "night")
    assert is_run(ended)
    assert (ended["percent"], ended["remainingPath"]) == (100, [])


def test_the_start_of_a_plan_says_the_run(layer):
    @layer.orch.planner.template("pair")
    def pair(n):
        wf = Workflow("pair")
        wf.task(double, wf.task(double, n, id="one"), id="two")
        return wf

    request = {"id": "r", "type": "pair", "context": {"n": 1}}
    plan = layer.post("/api/v1/plans", {"request": request}).said
    said = layer.post("/api/v1/plans/start", {"plan": plan, "id": "night"}).said
    assert said["workflow_id"] == said["instance"]["id"] == "night"
    assert is_run(said["instance"])
    assert [each["id"] for each in said["instance"]["tasks"]] == ["one", "two"]


@given(
    st.dictionaries(st.sampled_from([*TaskState]), st.integers(1, 5), min_size=1),
    _COUNTS,
    _COUNTS,
    st.sampled_from(["", "pausing", "paused"]),
    st.none() | _AMOUNT,
)
def test_each_state_of_a_run_is_one_word_of_its_document(
    counts, stuck, skipped, pause, eta
):
    state = state_of(counts, stuck, skipped)
    tasks = {f"{each}{n}": each for each, many in counts.items() for n in range(many)}
    phase = PhaseStatus("p", state, counts.get(TaskState.COMPLETED, 0), len(tasks), 0)
    status = WorkflowStatus(
        *("r", state, tasks, counts, tuple(tasks)),
        pause=pause,
        asks=tuple(tasks)[:1],
        eta=eta,
        phases={"p": phase},
        parameters={"day": "2026-11-26"},
    )
    document = status.to_dict()
    assert is_run(document)
    assert document["status"] == (pause or state)
    assert document["phases"][0]["status"] == state
    assert {each["id"]: each["status"] for each in document["tasks"]} == tasks
    assert document["waitsFor"] == [*tasks][:1]
    assert document["remainingPath"] == [*tasks]
    assert document["estimatedRemaining"] == eta
    assert document["parameters"] == {"day": "2026-11-26"}
    assert document["percent"] == document["phases"][0]["percent"] == status.percent


def test_the_schemas_are_served_and_described(layer):
    schemas = layer.get("/api/v1/plans/schemas")
    assert (schemas["agent"], schemas["workflow"]) == (
        agent_schema(),
        workflow_schema(),
    )
    described = layer.get("/openapi.json")["components"]["schemas"]
    for title, schema in (
        ("AgentInstance", agent_schema()),
        ("WorkflowInstance", workflow_schema()),
    ):
        assert described[title]["properties"] == schema["properties"]
        assert described[title]["required"] == schema["required"]


# -- resources -------------------------------------------------------------------------


def test_resources_are_allocated_used_and_released(layer, client):
    held = client.allocate_resources({"gpu": 1.5}, owner="ann", id="lab")
    assert (held["id"], held["owner"]) == ("lab", "ann")
    assert held["resources"] == {"gpu": 1.5}
    assert layer.get("/api/v1/resources")["pools"]["gpu"]["used"] == 1.5
    # An answer that was lost is asked for again.
    assert client.allocate_resources({"gpu": 1.5}, owner="ann", id="lab") == held
    assert client.allocations() == client.allocations(owner="ann") == [held]
    assert client.allocations(owner="bob") == client.allocations(older_than=3600) == []

    client.release_resources("lab", owner="ann")
    assert client.allocations() == []
    assert layer.get("/api/v1/resources")["pools"]["gpu"]["used"] == 0
    named = client.allocate_resources({"cpu": 1}, owner="ann")["id"]
    path = f"/api/v1/resources/allocations/{named}/release"
    assert layer.post(path, {"owner": "ann"}).said == {"allocation_id": named}


def test_what_is_taken_over_http_is_not_waited_for(client):
    client.allocate_resources({"gpu": 2}, owner="ann", id="lab")
    with pytest.raises(ResourcesTakenError, match="ask again later") as taken:
        client.allocate_resources({"gpu": 1}, owner="bob")
    assert (taken.value.resource, taken.value.need, taken.value.free) == ("gpu", 1, 0)
    assert taken.value.holders == ("allocation lab (of ann)",)
    assert "timeout" not in str(taken.value)
    with pytest.raises(InvalidTaskError, match="timeout is not for a service"):
        client.allocate_resources({"gpu": 1}, owner="bob", timeout=5)
    assert [each["id"] for each in client.allocations()] == ["lab"]


@pytest.mark.parametrize(
    ("ask", "error", "said"),
    [
        (
            lambda c: c.allocate_resources({"gpu": 9}, owner="bob"),
            UnsatisfiableError,
            r'POST /api/v1/resources/resize \{"resources": \{"gpu": 9\}\}',
        ),
        (lambda c: c.allocate_resources({}, owner="b"), InvalidTaskError, "something"),
        (
            lambda c: c.allocate_resources({"gpu": 1}, owner=""),
            InvalidTaskError,
            "owner",
        ),
        (
            lambda c: c.allocate_resources({"gpu": 1}, owner="b", id="a b"),
            InvalidTaskError,
            "no safe id",
        ),
        (
            lambda c: c.allocate_resources({"gpu": 2}, owner="ann", id="lab"),
            AllocationError,
            "there is an allocation 'lab' already",
        ),
        (lambda c: c.release_resources("lab"), InvalidTaskError, "owner"),
        (
            lambda c: c.release_resources("lab", owner="bob"),
            AllocationError,
            "of 'ann', not of 'bob'",
        ),
        (
            lambda c: c.release_resources("gone", owner="ann"),
            AllocationError,
            "GET /api/v1/resources/allocations lists",
        ),
        (
            lambda c: c.set_quotas({"tpye": "x"}),
            TaskorchError,
            r"quotas\[0\].tpye: .* did you mean 'type'",
        ),
        (
            lambda c: c.set_quotas(Quota(type="t"), {"type": "x", "owner": "y"}),
            InvalidTaskError,
            "one of the three",
        ),
        (lambda c: c.set_quotas({"type": "x", "burst": 2}), InvalidTaskError, "both"),
    ],
)
def test_what_cannot_be_is_refused_as_beside_the_orchestrator(client, ask, error, said):
    client.allocate_resources({"gpu": 1}, owner="ann", id="lab")
    with pytest.raises(error, match=said):
        ask(client)
    assert [each["id"] for each in client.allocations()] == ["lab"]


def test_a_request_to_make_a_pool_larger_can_be_sent_as_it_is_told(layer, client):
    """The remedy of a task that waits for more than there is names the amounts."""
    client.resize_resources({"gpu": 4})
    client.allocate_resources({"gpu": 4}, owner="ann", id="lab")
    client.submit_task(Task("t", id="large", resources={"gpu": 3}, requires=["test"]))
    client.resize_resources({"gpu": 2})
    text = client.explain("large")["text"]
    path, body = re.search(
        r"POST (/api/v1/resources/resize) (\{.*?\}\})", text
    ).groups()
    answer = layer.send(
        "POST",
        path,
        body.encode(),
        {**layer.headers(), "Content-Type": "application/json"},
    )
    assert answer.status == 200
    assert layer.get("/api/v1/resources")["pools"]["gpu"]["total"] == 3


# -- quotas ----------------------------------------------------------------------------


def test_quotas_that_are_told_can_be_set(layer, client):
    """What one service says of its quotas makes them those of another; 0 stays 0."""
    client.set_quotas(
        Quota(type="render", resources={"gpu": 0, "cpu": 2}, max_parallel=0),
        {"owner": "ann", "max_parallel": 2, "soft": True},
        Quota(workflow="night", starts_per_second=4, burst=2),
    )
    told = [each["quota"] for each in layer.get("/api/v1/resources")["quotas"]]
    assert [(each["type"], each["owner"], each["workflow"]) for each in told] == [
        ("render", "", ""),
        ("", "ann", ""),
        ("", "", "night"),
    ]
    assert told[0]["resources"] == {"cpu": 2, "gpu": 0}
    with served(TaskOrchestrator()) as other:
        elsewhere = Client(other.server.url, token=other.token)
        elsewhere.set_quotas(*told)
        assert elsewhere.set_quotas() is None
        assert [each.quota for each in other.orch.resources.quotas()] == [
            each.quota for each in layer.orch.resources.quotas()
        ]
        limits = [each.quota.limits for each in other.orch.resources.quotas()]
    assert limits == [each.quota.limits for each in layer.orch.resources.quotas()]


@pytest.mark.parametrize("wrong", [3, {"tpye": "x"}, {"type": "x", "burst": 0}, {}])
def test_of_quotas_one_of_which_is_none_no_one_is_set(wrong):
    with TaskOrchestrator() as orch:
        with pytest.raises(InvalidTaskError):
            orch.resources.set_quotas(Quota(type="t", max_parallel=1), wrong)
        assert orch.resources.quotas() == []
        orch.resources.set_quotas({"type": "t", "max_parallel": 1})
        assert orch.resources.quotas()[0].quota == Quota(type="t", max_parallel=1)


# -- who may, and where it is said -----------------------------------------------------


def _status(ask):
    try:
        ask()
    except ServiceError as error:
        return error.status
    return 200
