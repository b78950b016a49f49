"""Workers over HTTP, by the wire: what they are told, and what comes of what they say."""

from __future__ import annotations

import base64
import json
import threading
import time
from contextlib import contextmanager
from importlib.resources import files

import jsonschema
import pytest
from tests.api.tools import PATIENCE
from tests.ext.service.tools import orchestrator, served

from taskorch import (
    Program,
    ProgramFailedError,
    RetryPolicy,
    Task,
    TaskFailedError,
    TaskState,
)
from taskorch.ext.recovery import RecoveryHandler
from taskorch.ext.service._workers import SESSION

SECRET = "a-secret-of-the-first-agent"
SCHEMA = json.loads(
    files("taskorch.ext.service").joinpath("agents.schema.json").read_text()
)
TOLD = {
    "hello": "AgentWelcome",
    "claim": "AgentOrders",
    "heartbeat": "AgentStops",
    "complete": "AgentCompleted",
    "artifact": "AgentArtifactSize",
    "leave": "AgentLeft",
}


def check(name, value):
    """By the schema that is published."""
    part = {"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]}
    jsonschema.Draft202012Validator(part).validate(value)


class Wire:
    """A worker that says what it is told to say, and whose every word is checked."""

    def __init__(self, service, name="far", secret=SECRET):
        self.service, self.name, self.secret = service, name, secret

    def say(self, verb, said, status=200):
        sent = {} if verb == "hello" else {SESSION.replace("-", "_"): self.secret}
        path = f"/api/v1/agents/{self.name.replace('/', '%2F')}/{verb}"
        answer = self.service.post(path, said, **sent)
        assert answer.status == status, answer
        if status == 200:
            check(f"Agent{verb.capitalize()}", said)
            check(TOLD[verb], answer.said)
        return answer.said

    def hello(self, *capabilities, status=200, **more):
        said = {"protocol": 1, "session": self.secret}
        return self.say(
            "hello", {**said, "capabilities": [*capabilities], **more}, status
        )

    def claim(self, *running, most=1, wait=5, **more):
        return self.say(
            "claim", {"running": [*running], "most": most, "wait": wait, **more}
        )

    def order(self, *running):
        """The next one, when it comes."""
        for _ in range(100):
            if orders := self.claim(*running)["orders"]:
                (order,) = orders
                return order
        pytest.fail("no work has come")

    def complete(self, *results, **more):
        found = self.say("complete", {"results": [*results], **more})
        return [one["fate"] for one in found["results"]]

    def end(self, order, value=None):
        return self.complete(done(order, value))[0]


def status(service, handle):
    return service.orch.get_task_status(handle.task_id)


def done(order, value=None):
    return {"attempt": order["attempt"], "outcome": "completed", "result": value}


@contextmanager
def fleet(*capabilities, orch=None, **hello):
    """A service with one worker."""
    orch = orchestrator() if orch is None else orch
    with served(orch, agents=True) as service:
        worker = Wire(service)
        worker.hello(*capabilities, **hello)
        yield service, worker
        # What it has not ended by now it never will.
        orch.stop(drain=False, timeout=0)


# -- work ------------------------------------------------------------------------------


def test_work_comes_in_batches_and_ends_bring_more():
    with fleet("x", max_concurrency=3) as (service, worker):
        handles = service.orch.submit_tasks([Task("x", n) for n in range(7)])
        orders = worker.claim(most=2)["orders"]
        assert len(orders) == 2
        names = [order["attempt"] for order in orders]
        orders += worker.claim(*names, most=9)["orders"]
        assert len(orders) == 3

        while orders:
            said = {"results": [done(o, o["payload"]) for o in orders], "most": 9}
            orders = worker.say("complete", said)["orders"]
        assert [handle.result(PATIENCE) for handle in handles] == [*range(7)]


def test_a_worker_is_told_of_its_own_units_and_of_no_other():
    """A number of the orchestrator's machine means another GPU elsewhere."""
    orch = orchestrator(resources={"cpu": 4, "gpu": {"named": ["7", "8"]}})
    capacity = {"gpu": {"named": ["0", "1"]}}
    with fleet("x", orch=orch, capacity=capacity) as (service, worker):
        program = Program(["train"])
        task = Task("program", program, requires=["x"], resources={"gpu": 2})
        service.orch.submit_task(task)
        order = worker.order()
        assert order["variables"] == {"CUDA_VISIBLE_DEVICES": "0,1"}
        assert order["env"] == order["variables"]
        assert order["units"] == {"gpu": ["0", "1"]}
        other = Wire(service, "other", "a-secret-of-another-agent")
        other.hello("y")
        service.orch.submit_task(Task("y", requires=["y"], resources={"gpu": 0}))
        service.orch.resources.resize({"gpu": {"named": ["7", "8", "9"]}})
        service.orch.submit_task(Task("y", requires=["y"], resources={"gpu": 1}))
        for _ in range(2):
            order = other.order()
            assert not {"variables", "units"} & order.keys()
            other.end(order)


def test_a_task_fails_by_what_its_worker_raised():
    with fleet("x") as (service, worker):
        handle = service.orch.submit_task(Task("x", retry=RetryPolicy(2, base=0)))
        for message in ("once", "twice"):
            order = worker.order()
            error = {"type": "KeyError", "message": message}
            end = {"attempt": order["attempt"], "outcome": "failed", "error": error}
            assert worker.complete(end) == ["counted"]

        with pytest.raises(TaskFailedError, match="raised KeyError: twice") as caught:
            handle.result(PATIENCE)
        assert caught.value.type == "KeyError"
        assert status(service, handle).attempts == 2


@pytest.mark.parametrize("code", [0, 3])
def test_a_program_of_a_capability_runs_where_that_is(code):
    with fleet("gpu") as (service, worker):
        program = Program(["train", "-v"], env={"A": "b"}, cwd="/data")
        handle = service.orch.submit_task(Task("program", program, requires=["gpu"]))
        order = worker.order()

        assert order["program"] == ["train", "-v"]
        assert (order["env"], order["cwd"]) == ({"A": "b"}, "/data")
        end = {"exit_code": code, "stdout_tail": "hi\n", "duration": 0.5}
        said = {"attempt": order["attempt"], "outcome": "completed", "program": end}
        assert worker.complete(said) == ["counted"]
        if code:
            with pytest.raises(ProgramFailedError, match="exited with code 3: hi"):
                handle.result(PATIENCE)
        else:
            result = handle.result(PATIENCE)
            assert (result.exit_code, result.stdout_tail) == (0, "hi\n")
            assert (result.args, result.duration) == (("train", "-v"), 0.5)


def test_what_cannot_be_said_in_json_fails_its_task_and_no_other():
    with fleet("x") as (service, worker):
        bad = service.orch.submit_task(Task("x", {1, 2}))
        good = service.orch.submit_task(Task("x", 3))
        with pytest.raises(Exception, match="cannot be sent"):
            bad.result(PATIENCE)
        worker.end(worker.order(), 4)
        assert good.result(PATIENCE) == 4


# -- what is lost on the way -----------------------------------------------------------


def test_what_is_said_twice_counts_once():
    with fleet("x") as (service, worker):
        handle = service.orch.submit_task(Task("x"))
        order = worker.order()
        assert worker.end(order, 1) == "counted"
        assert worker.end(order, 2) == "counted"
        assert handle.result(PATIENCE) == 1
        assert worker.hello("x")["agent_id"] == "far"


# -- stopping --------------------------------------------------------------------------


def test_what_was_cancelled_before_it_was_sent_is_never_sent():
    with fleet("x") as (service, worker):
        handle = service.orch.submit_task(Task("x"))
        handle.cancel()
        assert worker.claim(wait=0)["orders"] == []
        assert status(service, handle).state.value == "cancelled"


# -- leases ----------------------------------------------------------------------------


@contextmanager
def lost():
    """A worker that counts as lost while it runs a task, and that order."""
    with fleet("x") as (service, worker):
        handle = service.orch.submit_task(Task("x", id="t"))
        order = worker.order()
        service.orch.agents.leave("far")
        yield service, worker, handle, order


def test_a_late_result_is_fenced_off_kept_and_said():
    told = []
    with lost() as (service, worker, handle, order):
        service.orch.signals.late_result_ignored.connect(told.append)
        assert worker.end(order, "late") == "late"
        again = worker.order()
        assert (again["task_id"], again["number"]) == ("t", 2)
        assert worker.end(again, "right") == "counted"

        assert handle.result(PATIENCE) == "right"
        assert status(service, handle).late_results == {1: "late"}
    assert [(event.task_id, event.attempt) for event in told] == [("t", 1)]


def test_who_waits_for_work_in_vain_is_answered_in_time_for_his_lease():
    """However long he would wait: a third of it, so that two answers may be lost."""
    with fleet("x", lease=4.5) as (service, worker):
        told = worker.hello("x", lease=4.5)
        assert told["heartbeat"] == pytest.approx(told["lease"] / 3)
        assert worker.claim(wait=3_000) == {"orders": [], "stop": []}
        assert not service.orch.agents.is_lost("far")


def test_a_request_that_waits_is_no_sign_of_life_at_its_end():
    """Who froze once he had asked is lost a lease after that, and no later."""
    with fleet("x", lease=1.5) as (service, worker):
        began = time.monotonic()
        assert worker.claim(wait=60)["orders"] == []
        waited = time.monotonic() - began
        age = service.orch.agents.health("far").heartbeat_age
        assert waited >= 0.4
        assert age is not None
        assert age >= 0.4


def latency(orch):
    return orch.metrics()["agent_communication_latency"]


def test_a_name_is_free_once_its_worker_is_lost():
    with lost() as (service, worker, handle, order):
        other = Wire(service, secret="the-secret-of-another-one")
        other.hello("x")
        assert other.end(other.order(), "right") == "counted"
        assert handle.result(PATIENCE) == "right"
        problem = worker.say("complete", {"results": [done(order, "late")]}, 409)
        assert problem["code"] == "not_your_session"


# -- another incarnation ---------------------------------------------------------------


@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize("other", ["far", "near", None])
def test_what_was_done_while_the_service_was_away_counts(tmp_path, idempotent, other):
    """Also if it comes when its task is begun again, by this worker or another."""

    def incarnation():
        return orchestrator(journal=tmp_path / "runs.db", unknown_capability="wait")

    with fleet("x", orch=incarnation()) as (service, worker):
        service.orch.submit_task(Task("x", id="t", idempotent=idempotent))
        order = worker.order()
    with served(incarnation(), agents=True) as service:
        workers = {name: Wire(service, name) for name in ("far", "near")}
        if other is not None:
            workers[other].hello("x")
            again = workers[other].order() if idempotent else None
        worker = workers["far"]
        if other != "far":
            worker.hello("x")
        handle = service.orch.handle("t")
        assert worker.end(order, "done") == "counted"
        assert worker.end(order, "done") == "counted"
        assert handle.result(PATIENCE) == "done"
        if other is not None and idempotent:
            told = workers[other].claim(again["attempt"])
            assert told["stop"] == [again["attempt"]]
            assert workers[other].end(again, "again") == "late"
            assert status(service, handle).late_results == {2: "again"}
        assert service.result("t")["result"] == "done"
    with incarnation() as orch:
        assert orch.handle("t").result() == "done"


def test_after_a_restart_what_was_not_done_or_comes_too_late_changes_nothing(tmp_path):
    def incarnation():
        return orchestrator(journal=tmp_path / "runs.db", unknown_capability="wait")

    with fleet("x", orch=incarnation()) as (service, worker):
        service.orch.submit_task(Task("x", id="t"))
        order = worker.order()
    with served(incarnation(), agents=True) as service:
        worker.service = service
        assert worker.say("claim", {}, 404)["code"] == "unknown_agent"
        worker.hello("x")
        again = worker.order()
        assert again["attempt"] != order["attempt"]
        assert worker.claim(again["attempt"], order["attempt"])["stop"] == [
            order["attempt"]
        ]
        failed = {"type": "ValueError", "message": "oh"}
        failed = {"attempt": order["attempt"], "outcome": "failed", "error": failed}
        assert worker.complete(failed) == ["late"]
        assert worker.complete(failed) == ["late"]
        assert worker.end(again, "right") == "counted"
        handle = service.orch.handle("t")
        assert handle.result(PATIENCE) == "right"
        (late,) = status(service, handle).late_results.values()
        assert str(late) == "task t raised ValueError: oh"
    with served(incarnation(), agents=True) as service:
        worker.service = service
        worker.hello("x")
        assert worker.end(order, "old") == "late"
        late = status(service, handle).late_results
        assert late == {order["number"]: "old"}
    with incarnation() as orch:
        assert orch.get_task_status("t").late_results == {order["number"]: "old"}


# -- whose is it -----------------------------------------------------------------------


def test_no_worker_speaks_for_another():
    with fleet("x") as (service, worker):
        service.orch.submit_task(Task("x", id="t"))
        order = worker.order()
        thief = Wire(service, "far", "the-secret-of-another-one")
        other = Wire(service, "other", "the-secret-of-another-one")
        other.hello()

        assert thief.hello("x", status=409)["code"] == "agent_taken"
        for verb, said in (
            ("claim", {}),
            ("heartbeat", {"running": [order["attempt"]]}),
            ("complete", {"results": [done(order)]}),
            ("artifact", {"attempt": "", "name": "a", "offset": 0, "data": ""}),
            ("leave", {}),
        ):
            assert thief.say(verb, said, 409)["code"] == "not_your_session"
        assert other.end(order, "stolen") == "unknown"
        assert other.claim(order["attempt"], wait=0)["stop"] == [order["attempt"]]
        said = {"running": [order["attempt"]], "progress": {order["attempt"]: 1}}
        assert other.say("heartbeat", said)["stop"] == [order["attempt"]]
        assert service.orch.get_task_status("t").state.value == "running"
        assert service.orch.get_task_status("t").progress is None
        assert worker.end(order, "own") == "counted"


@pytest.mark.parametrize(
    "name",
    [
        *("", "x", "1:t", "1.1:t", "1.1.m.m:t", "1.x.m:t", "-1.1.m:t"),
        *("0.1.m:t", "1.9.m:t", "1.1.m:nobody", "9.1.m:t"),
    ],
)
def test_no_worker_has_what_it_was_never_given(name):
    with fleet("x") as (service, worker):
        service.orch.submit_task(Task("echo", 1, id="t")).result(PATIENCE)
        assert worker.end({"attempt": name}) == "unknown"
        assert service.orch.get_task_status("t").late_results == {}


def test_a_worker_of_ours_is_no_worker_elsewhere():
    with served(orchestrator(), agents=True) as service:
        for name in ("echo", "local"):
            Wire(service, name).hello("x", status=422)
        for name in ("../x", "a%20b", "%ff", "x%00", "-x"):
            answer = service.post(
                f"/api/v1/agents/{name}/hello", {"protocol": 1, "session": SECRET}
            )
            assert answer.status in (404, 422), name


# -- files -----------------------------------------------------------------------------


def part(order, name="a.txt", offset=0, data=b"0123"):
    text = base64.b64encode(data).decode()
    return {"attempt": order["attempt"], "name": name, "offset": offset, "data": text}


@pytest.fixture
def files_of(tmp_path):
    with served(orchestrator(), agents=True, artifacts=tmp_path) as service:
        worker = Wire(service)
        assert worker.hello("x")["artifacts"]
        service.orch.submit_task(Task("x", id="a/b"))
        yield worker, worker.order(), tmp_path / "a" / "b" / "-1.1"
        service.orch.stop(drain=False, timeout=0)


def test_files_come_in_parts_which_may_come_twice(files_of):
    worker, order, folder = files_of
    assert worker.say("artifact", part(order, "d/a.txt"))["size"] == 4
    assert worker.say("artifact", part(order, "d/a.txt"))["size"] == 4
    assert worker.say("artifact", part(order, "d/a.txt", 4, b"45"))["size"] == 6
    problem = worker.say("artifact", part(order, "d/a.txt", 7), 409)
    assert (problem["code"], problem["size"]) == ("part_missing", 6)
    assert (folder / "d" / "a.txt").read_bytes() == b"012345"
    assert worker.say("artifact", part(order, "d"), 422)
    assert worker.say("artifact", part(order, "d/a.txt/x"), 422)


def test_the_files_of_a_task_are_listed_and_sent(files_of):
    worker, order, folder = files_of
    service, there = worker.service, "/api/v1/tasks/a%2Fb/artifacts"
    assert service.get(there) == {"artifacts": []}
    worker.say("artifact", part(order, "d/a.txt"))
    later = folder.with_name("-1.10")
    (later / "e").mkdir(parents=True)
    (later / "e" / "x").touch()
    second = folder.with_name("-1.2")
    second.mkdir()
    (second / "y").touch()
    (folder.parent / "-no attempt").mkdir()
    assert service.get(there)["artifacts"] == [
        {"attempt": "1.1", "name": "d/a.txt", "bytes": 4},
        {"attempt": "1.2", "name": "y", "bytes": 0},
        {"attempt": "1.10", "name": "e/x", "bytes": 0},
    ]
    answer = service.ask("GET", f"{there}/1.1/d%2Fa.txt")
    assert (answer.status, answer.body) == (200, b"0123")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "attachment" in answer.headers["content-disposition"]
    for path in ("1.1/d", "1.1/none", "1.3/y", "x/y", "1.1/..%2F-1.2%2Fy", "1.1/%00"):
        refused = service.ask("GET", f"{there}/{path}")
        assert (refused.status, refused.said["code"]) == (404, "no_artifact"), path
    for path in ("", "/1.1/a.txt"):
        refused = service.ask("GET", f"/api/v1/tasks/nobody/artifacts{path}")
        assert (refused.status, refused.said["code"]) == (404, "unknown_task")


@pytest.mark.parametrize("name", ["", "../x", "/x", "a/../b", ".x", "-x", "a\0", "é"])
def test_files_stay_in_their_folder(files_of, name):
    worker, order, folder = files_of
    worker.say("artifact", part(order, name), 422)
    assert not folder.exists()


def test_files_have_a_limit(files_of, monkeypatch):
    module = "taskorch.ext.service._artifacts"
    monkeypatch.setattr(f"{module}.MAX_BYTES", 6)
    monkeypatch.setattr(f"{module}.MAX_FILES", 2)
    worker, order, folder = files_of
    worker.say("artifact", part(order))
    assert worker.say("artifact", part(order, "b"), 413)["code"] == "too_many_artifacts"
    worker.say("artifact", part(order, "b", data=b""))
    worker.say("artifact", part(order, "c", data=b""), 413)
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b"]


def test_files_are_of_attempts_that_the_worker_has(files_of):
    worker, order, _ = files_of
    worker.end(order)
    assert worker.say("artifact", part(order), 409)["code"] == "not_yours"


def test_where_no_files_are_taken_that_is_said():
    with fleet("x") as (service, worker):
        assert not worker.hello("x")["artifacts"]
        service.orch.submit_task(Task("x"))
        said = part(worker.order())
        assert worker.say("artifact", said, 409)["code"] == "no_artifacts"


# -- what makes no sense ---------------------------------------------------------------

BAD = {
    "hello": [
        {},
        {"protocol": 2, "session": SECRET},
        {"protocol": True, "session": SECRET},
        {"protocol": 1, "session": "short"},
        {"protocol": 1, "session": "with spaces in between"},
        {"protocol": 1, "session": SECRET, "capabilities": "x"},
        {"protocol": 1, "session": SECRET, "capabilities": [" x"]},
        {"protocol": 1, "session": SECRET, "capabilities": [1]},
        {"protocol": 1, "session": SECRET, "max_concurrency": 0},
        {"protocol": 1, "session": SECRET, "lease": 0},
        {"protocol": 1, "session": SECRET, "lease": 1e9},
        {"protocol": 1, "session": SECRET, "capacity": 3},
        {"protocol": 1, "session": SECRET, "capacity": {"cpu": -1}},
        {"protocol": 1, "session": SECRET, "at": "2099-01-01T00:00:00Z"},
    ],
    "claim": [
        {"most": -1},
        {"most": True},
        {"wait": -1},
        {"wait": "5"},
        {"running": "x"},
        {"running": [3]},
        {"running": ["x" * 2_000]},
        {"running": ["x"] * 20_000},
    ],
    "heartbeat": [{"progress": [1]}, {"running": {}}, {"at": 4_102_444_800}],
    "complete": [
        {},
        {"results": 3},
        {"results": [3]},
        {"results": [{"attempt": "x"}]},
        {"results": [{"attempt": "x", "outcome": "great"}]},
        {"results": [{"attempt": 1, "outcome": "completed"}]},
        {"results": [{"attempt": "x", "outcome": "failed", "error": "no"}]},
        {"results": [{"attempt": "x", "outcome": "failed", "error": {}}]},
        {"results": [{"attempt": "x", "outcome": "completed", "at": 5}]},
        {"results": [{"attempt": "x", "outcome": "completed", "program": {}}]},
        {
            "results": [
                {"attempt": "x", "outcome": "completed", "program": {"exit_code": "0"}}
            ]
        },
    ],
    "leave": [{"unbegun": 1}, {"why": "tired"}],
}


@pytest.fixture(scope="module")
def there():
    with fleet("x") as found:
        yield found


@pytest.mark.parametrize(
    ("verb", "said"), [(verb, said) for verb, all_ in BAD.items() for said in all_]
)
def test_what_makes_no_sense_is_refused_and_by_the_schema_too(there, verb, said):
    _, worker = there
    problem = worker.say(verb, said, 422)
    assert problem["code"] in ("invalid_request", "invalid_task")
    if said.get("capabilities") != [" x"]:
        with pytest.raises(jsonschema.ValidationError):
            check(f"Agent{verb.capitalize()}", said)


def test_a_hundred_megabytes_of_progress(there):
    service, worker = there
    head = {
        **service.headers(),
        SESSION: SECRET,
        "Content-Type": "application/json",
        "Content-Length": str(100 << 20),
    }
    answer = service.send("POST", "/api/v1/agents/far/heartbeat", b"{", head)
    assert answer.status == 413
    assert worker.say("heartbeat", {})["stop"] == []


def test_no_room_is_left_for_more_workers_than_there_can_be(monkeypatch):
    monkeypatch.setattr("taskorch.ext.service._workers._MAX_WORKERS", 1)
    with fleet("x") as (service, worker):
        other = Wire(service, "other", "the-secret-of-another-one")
        assert other.hello(status=409)["code"] == "too_many_agents"
        worker.say("leave", {})
        other.hello()
        assert worker.say("claim", {}, 404)["code"] == "unknown_agent"


# -- all that is wrong with a message --------------------------------------------------


def findings(told):
    return {one["path"]: one["message"] for one in told["findings"]}


def test_all_that_is_wrong_with_a_message_is_told_at_once():
    """Each with its path and the nearest right word."""
    said = {"session": 3, "leese": 1, "lease": 0, "capabilities": ["a", True, ""]}
    with fleet() as (_, worker):
        told = worker.say("hello", said, 422)

    assert findings(told) == {
        "leese": "it is not known here: did you mean 'lease'?",
        "protocol": "it is missing",
        "session": "a text of 16 to 200 characters is needed, not 3",
        "lease": "seconds are needed, from 0.5 to 3,600, not 0",
        "capabilities[1]": "a text of 1 to 1,000 characters is needed, not true",
        "capabilities[2]": "a text of 1 to 1,000 characters is needed, not one of 0",
    }


def test_what_is_deep_in_a_message_is_told_by_its_path():
    ended = {"attempt": "x", "outcome": "failed"}
    results = [
        {"attempt": 1, "outcome": "done"},
        {**ended, "error": {"type": "E", "massage": ""}},
        {**ended, "program": {"exit_code": True}},
        {**ended, "program": []},
    ]
    with fleet() as (_, worker):
        told = worker.say("complete", {"results": results, "most": 1.5}, 422)

    assert findings(told) == {
        "results[0].attempt": "a text of at most 1,000 characters is needed, not 1",
        "results[0].outcome": "completed, failed or stopped is needed, not 'done'",
        "results[1].error.massage": "it is not known here: did you mean 'message'?",
        "results[2].program.exit_code": "a whole number is needed, not true",
        "results[3].program": "null or an object is needed, not []",
        "most": "a whole number from 0 to 10,000 is needed, not 1.5",
    }


# -- attempts that are begun again -----------------------------------------------------


def mending(answer="retry"):
    """An orchestrator that tries to mend imports, and what it has tried."""
    orch = orchestrator(retry_handler=RecoveryHandler(max_retries=0, escalate=False))
    tried = []

    @orch.recover("import_error")
    def mend(task, failure, context):
        tried.append(task.id)
        return answer() if callable(answer) else answer

    return orch, tried


def mending_later():
    """As `mending`, and the event that its answer waits for."""
    go_on = threading.Event()

    def answer():
        assert go_on.wait(60)
        return "retry"

    orch, _ = mending(answer)
    return orch, go_on


def failed(order):
    error = {"type": "ImportError", "message": "no module x"}
    return {"attempt": order["attempt"], "outcome": "failed", "error": error}


@pytest.mark.parametrize("again", ["well", "badly"])
def test_an_attempt_that_is_mended_is_another_order_for_its_worker(again):
    orch, tried = mending()
    with fleet("x", orch=orch) as (service, worker):
        handle = service.orch.submit_task(Task("x", id="t"))
        first = worker.order()
        assert worker.complete(failed(first)) == ["counted"]
        second = worker.order()
        assert (second["number"], second["task_id"]) == (1, "t")
        assert second["attempt"] != first["attempt"]
        # What was ended is ended: the answer to the one is none to the other.
        assert worker.end(first, "wrong") == "counted"
        assert not handle.done()
        if again == "well":
            assert worker.end(second, "right") == "counted"
            assert handle.result(PATIENCE) == "right"
        else:
            assert worker.complete(failed(second)) == ["counted"]
            with pytest.raises(TaskFailedError, match="no module x"):
                handle.result(PATIENCE)
        assert tried == ["t"]
        assert status(service, handle).attempts == 1


def test_what_is_mended_is_not_missed_meanwhile():
    """It runs nowhere, and the worker that names it no more is no liar."""
    orch, go_on = mending_later()
    with fleet("x", orch=orch, lease=2) as (service, worker):
        handle = service.orch.submit_task(Task("x", id="t"))
        worker.complete(failed(worker.order()))
        began = time.monotonic()
        while time.monotonic() < began + 5:
            assert worker.claim(wait=0.1)["orders"] == []
        go_on.set()
        order = worker.order()
        assert order["number"] == 1
        assert worker.end(order, "right") == "counted"
        assert handle.result(PATIENCE) == "right"


def test_what_was_mended_too_late_is_not_begun_twice():
    orch, go_on = mending_later()
    with fleet("x", orch=orch) as (service, worker):
        handle = service.orch.submit_task(Task("x", id="t"))
        worker.complete(failed(worker.order()))
        worker.say("leave", {})
        worker.hello("x")
        second = worker.order()
        assert second["number"] == 2
        go_on.set()
        assert worker.claim(second["attempt"], wait=0.5) == {"orders": [], "stop": []}
        assert worker.end(second, "right") == "counted"
        assert handle.result(PATIENCE) == "right"


@pytest.mark.parametrize("idempotent", [True, False])
def test_what_a_worker_gives_up_without_a_word_is_made_again(idempotent):
    """It is sent the order again, does not name it, and lives: nothing else would end."""
    with fleet("x", lease=2) as (service, worker):
        handle = service.orch.submit_task(Task("x", id="t", idempotent=idempotent))
        first = order = worker.order()
        end = time.monotonic() + 60
        while order["attempt"] == first["attempt"] and time.monotonic() < end:
            state = status(service, handle).state
            if state is TaskState.BLOCKED:
                break
            (order,) = worker.claim(wait=0.1)["orders"] or (order,)
        if idempotent:
            assert order["number"] == 2
            assert worker.end(order, "right") == "counted"
            assert handle.result(PATIENCE) == "right"
        else:
            assert status(service, handle).state is TaskState.BLOCKED
            service.orch.decide(handle.task_id, "fail")


# -- what its machine is, and has ------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        "platform:linux",
        ["zone:eu"],
        ["platform:"],
        ["platform:macos"],
        ["python:3"],
        ["platform:linux", "platform:windows"],
        [7],
        ["platform:" + "x" * 101],
        ["platform:linux"] * 101,
        {"platform": "linux"},
    ],
)
def test_labels_that_no_machine_has_are_refused(labels):
    with fleet("x") as (service, _):
        Wire(service, "odd").hello("x", labels=labels, status=422)
        assert "odd" not in service.orch.agents.health()
