"""Tasks over HTTP."""

from __future__ import annotations

import threading

import pytest
from opentelemetry.sdk.trace import TracerProvider
from tests.frontends.service.tools import orchestrator, served

from taskorch import RetryPolicy, SqliteJournal, Task, TaskOrchestrator
from taskorch._aio import is_prompt
from taskorch.client import Client
from taskorch.errors import ResultGoneError
from taskorch.model import Quota
from taskorch.policies import PriorityQueue, StructuralValidator

BATCH = "/api/v1/tasks/batch"
TASKS = "/api/v1/tasks"


def test_a_task_is_submitted_and_its_result_comes_back(service):
    answer = service.post(
        TASKS, {"type": "echo", "payload": {"a": [1, None]}, "id": "x"}
    )

    assert (answer.status, answer.said) == (202, {"task_id": "x"})
    assert answer.headers["location"] == "/api/v1/tasks/x"
    assert service.result("x") == {
        "task_id": "x",
        "state": "completed",
        "result": {"a": [1, None]},
        "error": None,
    }
    assert service.get(f"{TASKS}/x")["agent_id"] == "echo"


def test_ids_with_slashes_stand_in_a_path_escaped(service):
    answer = service.post(TASKS, {"type": "echo", "id": "nightly/a/result"})

    assert service.get(answer.headers["location"])["task_id"] == "nightly/a/result"
    assert service.ask("GET", f"{TASKS}/nightly/a/result").status == 404


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


def test_what_a_task_calls_is_what_the_owner_has_named(service):
    service.post(TASKS, {"call": "double", "args": [21], "id": "a"})
    service.post(TASKS, {"call": "double", "args": [{"$result": "a"}], "id": "b"})
    refused = service.post(TASKS, {"call": "os.system", "args": ["true"]})

    assert service.result("b")["result"] == 84
    assert refused.status == 422
    assert "there is no function 'os.system'" in refused.said["detail"]


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


@pytest.mark.parametrize(
    "said", [[], {}, {"tasks": {}}, {"tasks": [], "more": 1}, 5, "x", None]
)
def test_a_batch_is_an_object_with_a_list(service, said):
    assert service.post(BATCH, said).status == 422


def test_a_type_that_nobody_does_is_refused(service):
    answer = service.post(TASKS, {"type": "paint"})

    assert (answer.status, answer.said["code"]) == (422, "unknown_capability")
    assert answer.said["hint"]


def test_programs_run_where_the_owner_allows_them():
    with served(orchestrator(), programs=True) as service:
        service.post(TASKS, {"program": ["echo", "hello"], "id": "p"})

        assert service.result("p")["state"] == "completed"


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


def test_a_batch_that_comes_again_under_its_key_is_the_same_tasks(service):
    said = {"tasks": [{"type": "echo"}, {"type": "echo"}]}
    first = service.post(BATCH, said, Idempotency_Key="k")

    assert service.post(BATCH, said, Idempotency_Key="k").said == first.said
    assert len(set(first.said["task_ids"])) == 2


def test_a_key_of_the_header_and_another_in_the_body_are_one_too_many(service):
    said = {"type": "echo", "idempotency_key": "a"}

    assert service.post(TASKS, said, Idempotency_Key="b").status == 422
    assert service.post(TASKS, said, Idempotency_Key="a").status == 202


def test_a_key_has_a_fair_length(service):
    assert (
        service.post(TASKS, {"type": "echo"}, Idempotency_Key="k" * 201).status == 400
    )


def test_a_key_holds_in_a_later_life(tmp_path):
    ids = []
    for _ in range(2):
        with served(orchestrator(journal=tmp_path / "runs.db")) as service:
            answer = service.post(TASKS, {"type": "echo"}, Idempotency_Key="k")
            ids.append(answer.said["task_id"])

    assert ids[0] == ids[1]


# -- results ---------------------------------------------------------------------------


def test_the_result_of_a_task_that_has_not_ended_is_202(service):
    service.post(TASKS, {"wait_for": "go", "id": "w"})

    for path in (f"{TASKS}/w/result", f"{TASKS}/w/result?wait=0.01"):
        answer = service.ask("GET", path)
        assert (answer.status, answer.said["result"]) == (202, None)
        assert answer.said["state"] in ("blocked", "pending")


def test_whoever_waits_for_a_result_has_it_when_it_comes(service):
    service.post(TASKS, {"wait_for": "go", "id": "w"})
    found = []
    waiting = [
        threading.Thread(target=lambda: found.append(service.result("w")))
        for _ in range(3)
    ]
    for thread in waiting:
        thread.start()
    # Those who come too late for the event find the result.
    assert service.post("/api/v1/events", {"name": "go", "payload": 5}).status == 200
    for thread in waiting:
        thread.join()

    assert [one["result"] for one in found] == [5, 5, 5]


def test_a_failure_is_a_result_too(service):
    service.post(TASKS, {"type": "echo", "payload": {"raise": "no"}, "id": "f"})

    found = service.result("f")
    assert (found["state"], found["result"]) == ("failed", None)
    assert found["error"]["message"] == "no"
    assert found["error"]["type"] == "ValueError"
    where = service.get(f"{TASKS}/f")["error"]["where"]
    assert where == found["error"]["where"]
    assert found["error"]["traceback"].startswith("Traceback")
    assert f'File "{where.rpartition(":")[0]}"' in found["error"]["traceback"]


def test_a_result_that_json_cannot_say_is_shown():
    with served(
        orchestrator(), functions={"odd": lambda: {1: float("nan")}}
    ) as service:
        service.post(TASKS, {"call": "odd", "id": "o"})

        assert service.result("o")["result"] == {"1": "nan"}


# -- lists -----------------------------------------------------------------------------


def pages(service, query):
    """All tasks, a page at a time."""
    found, cursor = [], ""
    while cursor is not None:
        page = service.get(f"{TASKS}?{query}{cursor and f'&cursor={cursor}'}")
        found.append([task["task_id"] for task in page["tasks"]])
        cursor = page["next"]
    return found


def test_a_number_of_thousands_of_digits_is_shown_too(service):
    """Python writes none of these down, and no page is to end by that."""
    many = 10**5_000
    for n, value in enumerate((many, {"a": [-many]}, {many: 1}, [[{many}]])):
        service.orch.submit_task(Task("echo", value, id=f"n{n}", metadata={"of": many}))
    service.orch.wait()

    assert len(service.get("/api/v1/tasks")["tasks"]) == 4
    assert int(service.result("n0")["result"], 16) == many
    assert int(service.result("n1")["result"]["a"][0], 16) == -many
    for n in range(4):
        assert service.get(f"/api/v1/tasks/n{n}")["task_id"] == f"n{n}"
        assert service.result(f"n{n}")["state"] == "completed"


def test_a_list_comes_in_pages_and_each_task_once(service):
    ids = [f"t{n}" for n in range(7)]
    service.orch.submit_tasks([Task("echo", id=name) for name in ids[:5]])
    for name in ids[5:]:
        service.orch.submit_task(Task("echo", id=name))
    service.orch.wait()

    assert pages(service, "limit=3") == [ids[:3], ids[3:6], ids[6:]]
    assert pages(service, "limit=7") == [ids]
    assert pages(service, "limit=1") == [[name] for name in ids]


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


def test_nothing_is_left_out_if_the_task_before_a_page_is_gone_from_the_list(service):
    waits = [Task.wait_for("never", id=f"w{n}") for n in range(4)]
    service.orch.submit_tasks(waits)
    first = service.get(f"{TASKS}?state=blocked&limit=2")
    service.orch.cancel_task("w1")
    second = service.get(f"{TASKS}?state=blocked&limit=5&cursor={first['next']}")
    service.orch.submit_task(Task("echo", id="later")).result()
    third = service.get(f"{TASKS}?limit=2&state=completed&cursor={first['next']}")

    assert [task["task_id"] for task in first["tasks"]] == ["w0", "w1"]
    assert {"w2", "w3"} <= {task["task_id"] for task in second["tasks"]}
    assert [task["task_id"] for task in third["tasks"]] == ["later"]
    for name in ("w0", "w2", "w3"):
        service.orch.cancel_task(name)


def test_those_submitted_together_come_though_others_follow(service):
    """The last task of a page has left the list, and there are later ones."""
    service.orch.submit_tasks([Task.wait_for("never", id=f"w{n}") for n in range(3)])
    first = service.get(f"{TASKS}?state=blocked&limit=2")
    service.orch.submit_task(Task.wait_for("never", id="later"))
    service.orch.cancel_task("w1")
    second = service.get(f"{TASKS}?state=blocked&cursor={first['next']}")
    assert {"w2", "later"} <= {task["task_id"] for task in second["tasks"]}
    for name in ("w0", "w2", "later"):
        service.orch.cancel_task(name)


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


def test_a_state_that_there_is_not(service):
    assert service.ask("GET", f"{TASKS}?state=lost").status == 422


# -- changes ---------------------------------------------------------------------------


def test_a_task_is_suspended_resumed_moved_and_cancelled(service):
    service.post(TASKS, {"wait_for": "go", "id": "w"})
    service.orch.wait()

    def change(verb, said=None):
        return service.post(f"{TASKS}/w/{verb}", said).said

    assert change("suspend") == {"changed": True}
    assert change("suspend") == {"changed": False}
    assert change("resume") == {"changed": True}
    assert change("priority", {"priority": 3}) == {"changed": True}
    assert service.get(f"{TASKS}/w")["priority"] == 3
    assert change("cancel") == {"changed": True}
    assert change("cancel", {}) == {"changed": False}
    assert change("rerun") == {"task_id": "w~2"}
    assert change("decision", {"verdict": "complete", "result": 9}) == {"changed": True}
    assert service.result("w")["result"] == 9


@pytest.mark.parametrize("verb", ["cancel", "suspend", "resume", "rerun"])
def test_what_is_not_there_cannot_be_changed(service, verb):
    assert service.post(f"{TASKS}/none/{verb}").said["code"] == "unknown_task"
    assert service.post(f"{TASKS}/none/{verb}", {"force": True}).status == 422
    assert service.post(f"{TASKS}/none/{verb}?force=1").status == 400


@pytest.mark.parametrize(
    ("verb", "said", "status"),
    [
        ("priority", {"priority": "high"}, 422),
        ("priority", {"priority": 10**7}, 422),
        ("priority", {}, 422),
        ("decision", {"verdict": "maybe"}, 422),
        ("decision", {"verdict": "fail", "reason": 3}, 422),
        ("decision", {"verdict": "fail"}, 409),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(service, verb, said, status):
    service.post(TASKS, {"type": "echo", "id": "x", "not_before": 900})

    assert service.post(f"{TASKS}/x/{verb}", said).status == status
    service.post(f"{TASKS}/x/cancel")


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


def test_a_durable_orchestrator_has_kept_what_it_has_acknowledged(tmp_path):
    journal = tmp_path / "runs.db"
    with served(orchestrator(journal=SqliteJournal(journal))) as service:
        task_id = service.post(TASKS, {"type": "echo", "payload": 1}).said["task_id"]
        service.result(task_id)
    with served(
        orchestrator(journal=SqliteJournal(journal), keep_finished=0)
    ) as service:
        assert service.result(task_id)["result"] == 1
        assert pages(service, "limit=1") == [[task_id]]


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


def test_people_are_asked_and_answer_over_http(service):
    ask = Task.question("deploy?", id="night/ask", who="ada", details={"v": 1})
    service.orch.submit_task(ask)

    (asked,) = service.get("/api/v1/questions")["questions"]
    assert (asked["id"], asked["text"]) == ("night/ask", "deploy?")
    where = f"{TASKS}/night%2Fask/answer"
    refused = service.post(where, {"choice": "approve", "by": "bob"})
    assert (refused.status, refused.said["code"]) == (409, "answer_refused")
    answer = service.post(where, {"choice": "approve", "by": "ada", "note": "go"})
    assert answer.said == {"decided": True}
    result = service.get(f"{TASKS}/night%2Fask/result")["result"]
    assert (result["choice"], result["by"]) == ("approve", ["ada"])
    assert service.get("/api/v1/escalations") == {"escalations": []}


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
