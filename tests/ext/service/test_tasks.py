"""Tasks over HTTP."""

from __future__ import annotations

import threading

import pytest
from opentelemetry.sdk.trace import TracerProvider
from tests.ext.service.tools import orchestrator, served

from taskorch import RetryPolicy, Task, TaskOrchestrator
from taskorch.api._aio import is_prompt
from taskorch.errors import ResultGoneError
from taskorch.ext.client import Client
from taskorch.model import Quota
from taskorch.policies import PriorityQueue, StructuralValidator

BATCH = "/api/v1/tasks/batch"
TASKS = "/api/v1/tasks"


@pytest.mark.parametrize("is_durable", [True, False])
def test_a_validator_of_a_user_and_a_disk_hold_up_nobody_else(tmp_path, is_durable):
    """They are waited for on a thread; the probes are answered meanwhile."""
    reached, go_on = threading.Event(), threading.Event()

    class Slow(StructuralValidator):
        def validate(self, task, context):
            reached.set()
            assert go_on.wait(60)
            return super().validate(task, context)

    journal = tmp_path / "runs.db" if is_durable else None
    with served(orchestrator(validator=Slow(), journal=journal)) as service:
        asking = threading.Thread(
            target=service.post, args=(TASKS, {"type": "echo", "id": "a"})
        )
        asking.start()
        try:
            assert reached.wait(60)
            assert service.get("/livez") == {"status": "ok"}
        finally:
            go_on.set()
            asking.join()
        assert service.result("a")["state"] == "completed"


def test_who_waits_for_nobody_is_asked_without_a_thread(tmp_path):
    class Queue(PriorityQueue):
        pass

    assert is_prompt(TaskOrchestrator())
    assert not is_prompt(TaskOrchestrator(journal=tmp_path / "runs.db"))
    assert not is_prompt(TaskOrchestrator(queue=Queue()))
    with TaskOrchestrator(tracer_provider=TracerProvider()) as orch:
        assert not is_prompt(orch)


def test_results_of_tasks_that_come_earlier_in_a_batch(service):
    many = [
        {"call": "double", "args": [1], "id": "one"},
        {
            "call": "double",
            "args": [{"$result": "one"}],
            "id": "two",
            "after": ["three"],
        },
        {"type": "echo", "id": "three"},
    ]

    assert service.post(BATCH, {"tasks": many}).said == {
        "task_ids": ["one", "two", "three"]
    }
    assert service.result("two")["result"] == 4


@pytest.mark.parametrize(
    ("document", "path", "text"),
    [
        ({"type": "echo", "id": "../x"}, "tasks[0].id", "no safe id"),
        ({"type": "echo", "prioritty": 1}, "tasks[0]", "did you mean 'priority'"),
        ({"type": "echo", "timeout": -1}, "tasks[0].timeout", "0"),
        ({"type": "echo", "idempotency_key": 3}, "tasks[0].idempotency_key", "text"),
        ({"program": ["true"]}, "tasks[0].program", "programs are not allowed here"),
        ({"map": "double", "over": [1]}, "tasks[0].map", "belongs into a workflow"),
        ({"gather": []}, "tasks[0].gather", "belongs into a workflow"),
        ({"call": "double", "args": [{"$result": "no"}]}, "$result", "no task has"),
        (
            {"call": "double", "args": [{"$result": "/"}]},
            "tasks[0].args[0].$result",
            "id",
        ),
        ({"payload": 1}, "tasks[0]", "no type"),
        ([], "tasks[0]", "names and values"),
        (None, "tasks[0]", "names and values"),
        ("echo", "tasks[0]", "names and values"),
    ],
)
def test_what_is_wrong_with_a_task_is_said_with_its_place(
    service, document, path, text
):
    answer = service.post(TASKS, document)

    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.said["code"] == "validation_failed"
    found = answer.said["findings"]
    assert any(f["path"].startswith(path) and text in f["message"] for f in found), (
        found
    )
    assert service.get(TASKS)["tasks"] == []


def test_a_batch_is_submitted_as_a_whole_or_not_at_all(service):
    answer = service.post(
        BATCH, {"tasks": [{"type": "echo"}, {"type": "echo", "after": ["nobody"]}]}
    )

    assert (answer.status, answer.said["code"]) == (422, "unknown_task")
    assert answer.said["task_id"] == "nobody"
    assert service.get(TASKS)["tasks"] == []


# -- again -----------------------------------------------------------------------------


def test_a_request_that_comes_again_under_its_key_is_the_same_task(service):
    said = {"type": "echo", "payload": 1}
    first = service.post(TASKS, said, Idempotency_Key="k")
    again = service.post(TASKS, said, Idempotency_Key="k")
    other = service.post(TASKS, {"type": "echo", "payload": 2}, Idempotency_Key="k")

    assert first.said == again.said
    assert (other.status, other.said["code"]) == (409, "duplicate_task")
    assert other.said["differences"][0]["field"] == "payload"
    assert len(service.get(TASKS)["tasks"]) == 1


def test_a_key_of_the_header_and_another_in_the_body_are_one_too_many(service):
    said = {"type": "echo", "idempotency_key": "a"}

    assert service.post(TASKS, said, Idempotency_Key="b").status == 422
    assert service.post(TASKS, said, Idempotency_Key="a").status == 202


def test_a_key_has_a_fair_length(service):
    assert (
        service.post(TASKS, {"type": "echo"}, Idempotency_Key="k" * 201).status == 400
    )


# -- lists -----------------------------------------------------------------------------


def pages(service, query):
    """All tasks, a page at a time."""
    found, cursor = [], ""
    while cursor is not None:
        page = service.get(f"{TASKS}?{query}{cursor and f'&cursor={cursor}'}")
        found.append([task["task_id"] for task in page["tasks"]])
        cursor = page["next"]
    return found


def test_a_list_is_of_what_was_asked_for(service):
    service.orch.submit_tasks(
        [
            Task("echo", id="a", owner="ada"),
            Task("echo", id="b"),
            Task.wait_for("e", id="c"),
        ]
    )
    service.orch.wait()

    assert pages(service, "owner=ada") == [["a"]]
    assert pages(service, "id=[bc]") == [["b", "c"]]
    assert pages(service, "type=wait") == [["c"]]
    assert pages(service, "state=completed&agent=echo") == [["a", "b"]]
    assert pages(service, "older_than=1000") == [[]]


def test_a_page_has_a_hundred_tasks_unless_it_is_said(service):
    handles = service.orch.submit_tasks([Task("echo") for _ in range(101)])
    for handle in handles:
        handle.result(60)
    page = service.get(TASKS)
    assert len(page["tasks"]) == 100
    rest = service.get(f"{TASKS}?cursor={page['next']}")
    assert [task["task_id"] for task in rest["tasks"]] == [handles[-1].task_id]
    assert rest["next"] is None


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=1001", "limit=x", "limit=1&limit=2", "nope=1"),
        "limit=0000000000011001",
        *("older_than=-1", "older_than=nan", "older_than=1e99"),
        *("cursor=x", "cursor=YWJj", "cursor=%ff", "cursor=OTk5OS0xMi0zMSAx"),
        *("cursor=%C3%A9", "cursor=LTEgeA==", "cursor=OTk5OTk5OTk5OTk5OTk5OTkgeA=="),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(service, query):
    answer = service.ask("GET", f"{TASKS}?{query}")

    assert (answer.status, answer.said["code"]) == (400, "invalid_query")
    assert answer.said["findings"]


# -- changes ---------------------------------------------------------------------------


def test_a_task_that_waits_is_explained(service):
    service.post(TASKS, {"wait_for": "go", "id": "w"})
    service.orch.wait()

    said = service.get(f"{TASKS}/w/explanation")
    assert "go" in said["text"]
    assert service.get("/api/v1/stuck")["stuck"][0]["text"]
    service.post(f"{TASKS}/w/cancel")


@pytest.mark.parametrize("name", ["%ff", "no%00", "%2e%2e%2fetc", "a%0d%0ab", "none"])
def test_an_id_that_nobody_has(service, name):
    for path in ("", "/result", "/explanation"):
        answer = service.ask("GET", f"{TASKS}/{name}{path}")
        assert (answer.status, answer.said["code"]) == (404, "unknown_task")


# -- the whole -------------------------------------------------------------------------


def test_numbers_of_the_whole(service):
    service.post(TASKS, {"type": "echo", "id": "a"})
    service.result("a")
    service.orch.resources.set_quotas(Quota(owner="ada", max_parallel=1))

    stats = service.get("/api/v1/statistics")
    assert stats["state_machine"]["completed"] == 1
    assert stats["agents"]["echo"]["completed"] == 1
    assert service.get("/api/v1/health")["status"] == "ok"
    resources = service.get("/api/v1/resources")
    assert resources["pools"]["cpu"]["total"] > 0
    assert len(resources["quotas"]) == 1


def test_metrics_have_the_names_that_opentelemetry_gives_them(service):
    service.orch.submit_task(
        Task("echo", {"raise": "x"}, retry=RetryPolicy())
    ).exception()

    text = service.ask("GET", "/metrics").body.decode()
    assert 'taskorch_tasks_ended_total{taskorch_state="failed"} 1.0' in text
    assert 'taskorch_failures_total{taskorch_cause="error"} 1.0' in text
    assert 'taskorch_health{status="ok"} 1.0' in text
    assert "taskorch_ready 1.0" in text
    assert "taskorch_queue_age_seconds 0.0" in text


def test_names_beyond_the_first_hundred_are_other_in_the_metrics():
    pools = {f"pool_{n:03}": 1 for n in range(103)}
    with served(TaskOrchestrator(resources=pools)) as service:
        text = service.ask("GET", "/metrics").body.decode()

    lines = [
        line for line in text.splitlines() if line.startswith("taskorch_pool_limit{")
    ]
    assert len(lines) == 101
    assert 'taskorch_pool_limit{taskorch_resource="other"} 3.0' in lines


def test_probes_say_when_it_is_not_ready(service):
    assert service.get("/livez") == {"status": "ok"}
    assert service.get("/readyz") == {"status": "ok"}
    service.orch.stop()

    answer = service.ask("GET", "/readyz")
    assert (answer.status, answer.said) == (503, {"status": "failed"})
    refused = service.post(TASKS, {"type": "echo"})
    assert (refused.status, refused.said["code"]) == (503, "not_running")
    assert int(refused.headers["retry-after"]) > 0


def test_a_result_that_has_left_memory_is_gone_and_not_null():
    orch = orchestrator(keep_finished=1)
    with served(orch) as service:
        client = Client(service.server.url, token=service.token)
        for name in ("well", "ill", *map(str, range(3))):
            payload = {"raise": "no"} if name == "ill" else 1
            service.post(TASKS, {"type": "echo", "payload": payload, "id": name})
            service.result(name)
        for name, state in (("well", "completed"), ("ill", "failed")):
            answer = service.ask("GET", f"{TASKS}/{name}/result")
            assert (answer.status, answer.said["code"]) == (410, "result_gone")
            with pytest.raises(ResultGoneError, match=f"{name} is {state}, and fin"):
                client.result(name)


def test_what_was_not_said_is_told_to_have_come_over_http(service):
    """A reason that was said is the reason; and an answer says what it is of."""
    for task_id in ("x", "y"):
        service.post(TASKS, {"wait_for": "never", "id": task_id})
    service.post(f"{TASKS}/x/cancel")
    service.post(f"{TASKS}/y/cancel", {"reason": "enough"})
    reasons = [service.get(f"{TASKS}/{name}")["history"][-1]["detail"] for name in "xy"]
    assert reasons == ["cancelled over HTTP", "enough"]
    assert service.post(f"{TASKS}/x/rerun").status == 202
    hold = {"reason": "repair", "by": "ada"}
    assert service.post("/api/v1/starts/hold", hold).said == {"by": "ada"}
    assert service.post("/api/v1/starts/hold", {"reason": "no"}).said == {"by": "user"}
