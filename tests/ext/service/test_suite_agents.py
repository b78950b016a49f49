"""A served suite, and workers of other processes that do its tasks."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.api.tools import eventually
from tests.ext.remote_workers.tools import at_work, free_port, worker_process
from tests.ext.service.suites import EXECUTE, SUITE, served
from tests.ext.service.test_agents import Wire
from tests.house.pids import is_alive

from taskorch.ext.remote_workers import Abilities, Agent
from taskorch.ext.suites._elsewhere import OthersFirst
from taskorch.model import Task
from taskorch.testing import make_agent, make_context

SLOW = pytest.mark.slow("pytest, and a worker in a process")

#: Several waits may follow each other, on a machine that is slow.
pytestmark = pytest.mark.timeout(300)

TESTS = """
import pytest
from shop import price

@pytest.mark.parametrize("n", range(9))
def test_price(n):
    assert price(n) == 2 * n

def test_bad():
    assert price(1) == 3
"""
PYTEST = """
templates:
  pytest: {pytest: [-q, -p, "no:cacheprovider"], coverage: [shop]}
orchestrator:
  name: shop
  task_definitions:
    unit_tests:
      - id: A
        template: pytest
        arguments: [test_shop.py]
        resources: {memory_mb: 512}
        success_criteria: {pass_rate: 0.9, coverage: 0.5}
"""


@pytest.fixture
def here(tmp_path):
    (tmp_path / "suite.yaml").write_text(SUITE)
    return tmp_path


@contextmanager
def elsewhere(service, name, *can, **options):
    """A worker, on threads of this process; the service knows it."""
    # A machine that is slow takes none for lost.
    options.setdefault("lease", 60.0)
    worker = Agent(
        name,
        service.server.url,
        token=service.token,
        abilities=Abilities(can),
        **options,
    )
    with at_work(worker):
        eventually(lambda: name in service.get("/api/v1/status")["agents"])
        yield worker


def end(service, within=60):
    eventually(lambda: service.get("/api/v1/status")["status"] != "running")
    return service.get("/api/v1/status")["status"]


def doers(service):
    return service.get("/api/v1/progress")["agents"]


def ran(here):
    path = here / "ran"
    return path.read_text().split() if path.exists() else []


def begun(path):
    """The number that a task has written; nothing else is in the file."""
    eventually(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


def waits(here, name):
    """A task that says who it is, and waits until there is a file `go`."""
    text = f"echo $$ > {name}.pid; until [ -e go ]; do sleep 0.05; done"
    (here / f"{name}.sh").write_text(text)
    return here / f"{name}.pid"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# -- work ------------------------------------------------------------------------------


def test_workers_wait_for_a_run_and_do_its_tasks(here):
    with served(here) as service, elsewhere(service, "one"), elsewhere(service, "two"):
        assert service.get("/api/v1/status")["agents"] == ["one", "two"]
        for fresh in (False, True):
            service.post(EXECUTE, {"fresh": fresh})
            assert end(service) == "completed"
            assert {*doers(service)} == {"A", "B", "C"}
            assert {*doers(service).values()} <= {"one", "two"}
            assert service.get("/api/v1/status")["agents"] == ["one", "two"]
        report = service.get("/api/v1/final-report")
    assert ran(here) in (["A", "B", "C"] * 2, ["A", "B", "C", "A", "B", "C"])
    assert {task["agent"] for task in report["tasks"]} <= {"one", "two"}
    told = lines(here / "out" / "logs" / "messages.jsonl")
    given = {m["target_agent"] for m in told if m["message_type"] == "task_assignment"}
    ended = {m["agent_id"] for m in told if m["message_type"] == "task_completion"}
    assert given == ended <= {"one", "two"}
    assert not (here / "out" / "attempts").exists()


def test_a_worker_takes_the_largest_task_whatever_its_machine_has(here):
    """As the machine of the service does."""
    small = {"memory_mb": 64, "cpu": 0.5}
    with served(here) as service, elsewhere(service, "one", capacity=small):
        service.post(EXECUTE, {})
        assert end(service) == "completed"
        assert doers(service) == dict.fromkeys("ABC", "one")


@SLOW
def test_tests_are_run_elsewhere_and_judged_as_here(here):
    (here / "suite.yaml").write_text(PYTEST)
    (here / "test_shop.py").write_text(TESTS)
    shop = here / "shop.py"
    shop.write_text("def price(n):\n    return 2 * n\n\ndef never():\n    return 1\n")
    with served(here) as service, elsewhere(service, "far"):
        service.post(EXECUTE)
        assert end(service) == "completed"
        (task,) = service.get("/api/v1/final-report")["tasks"]
    assert task["agent"] == "far"
    assert (task["counts"]["passed"], task["counts"]["failed"]) == (9, 1)
    assert task["coverage"] == 0.75
    artifacts = here / "out" / "artifacts"
    found = json.loads((artifacts / "A_results.json").read_text())
    bad = [test for test in found["tests"] if test["outcome"] == "failed"]
    assert [test["id"] for test in bad] == ["test_shop.py::test_bad"]
    assert (found["agent_id"], found["exit_code"], found["granted_mb"]) == (
        *("far", 1),
        512,
    )
    assert found["memory_mb"] > 0
    about = json.loads((artifacts / "A_agent_report.json").read_text())
    assert (about["agent_id"], about["host"]) == ("far", os.uname().nodename)
    assert "1 failed, 9 passed" in (here / "out" / "logs" / "A.1.log").read_text()


@SLOW
def test_it_is_told_how_far_a_task_elsewhere_is(here):
    (here / "suite.yaml").write_text(PYTEST)
    (here / "shop.py").write_text("def price(n):\n    return 2 * n\n")
    (here / "test_shop.py").write_text("""
import os, time, shop

def test_first():
    time.sleep(0.3)  # Reports come at a pace.

def test_second():
    while not os.path.exists("go"):
        time.sleep(0.05)
""")
    with served(here) as service, elsewhere(service, "far", lease=6.0):
        service.post(EXECUTE)
        eventually(lambda: "A" in doers(service))

        def said():
            return service.get("/api/v1/tasks/suite%2FA")["progress"] or {}

        eventually(lambda: said().get("tests_completed") == 1)
        assert (said()["percentage"], said()["tests_remaining"]) == (50, 1)
        assert said()["current_test"].startswith("test_shop.py::test_")
        (here / "go").touch()
        assert end(service) == "completed"
    told = lines(here / "out" / "logs" / "messages.jsonl")
    assert "far" in [
        m["agent_id"] for m in told if m["message_type"] == "progress_update"
    ]


# -- who does it -----------------------------------------------------------------------


def test_a_worker_that_comes_during_a_run_does_what_begins_from_then_on(here):
    pid = waits(here, "A")
    with served(here) as service:
        service.post(EXECUTE)
        begun(pid)
        with elsewhere(service, "late"):
            (here / "go").touch()
            assert end(service) == "completed"
            found = doers(service)
    assert found["A"].startswith("local_")
    assert (found["B"], found["C"]) == ("late", "late")


def test_the_services_own_workers_count_while_they_have_something_to_do(here):
    """While others are there for all classes of tests, they stand by."""

    def active(service):
        return service.get("/api/v1/metrics")["active_agents_count"]

    pid = waits(here, "A")
    with served(here) as service:
        workers = [Wire(service, "one"), Wire(service, "two")]
        workers[0].hello(lease=60)
        workers[1].hello("integration_tests", lease=60)
        workers[0].say("heartbeat", {"round_trip": 0.5})
        service.post(EXECUTE)
        workers[0].order()
        assert active(service) == 2
        said = service.get("/api/v1/metrics")["agent_communication_latency"]
        assert said == {"one": 0.5, "two": None}
        text = service.ask("GET", "/metrics").body.decode()
        assert "active_agents_count 2.0" in text
        # Nobody else does unit tests now.
        workers[0].say("leave", {})
        begun(pid)
        assert active(service) > 2
        workers[1].say("leave", {})
        (here / "go").touch()
        assert end(service) == "completed"


def test_a_worker_that_names_a_class_of_tests_does_only_that(here):
    with served(here) as service, elsewhere(service, "c", "integration_tests", "gpu"):
        service.post(EXECUTE)
        assert end(service) == "completed"
        found = doers(service)
    assert found.pop("C") == "c"
    assert all(name.startswith("local_") for name in found.values())


def test_the_names_of_the_services_own_workers_are_not_taken(here):
    with served(here) as service:
        said = Wire(service, "local_001").hello(status=422)
        assert "begin with 'local_'" in said["detail"]
        service.post(EXECUTE)
        Wire(service, "local_9").hello(status=422)
        assert end(service) == "completed"


def test_others_are_first():
    task = Task("build")
    own, far, gone = (
        make_agent("own", ["build", "wash"]),
        make_agent("far", ["build"]),
        make_agent("gone", ["build"], is_lost=True),
    )
    registry = OthersFirst(["own"])
    context = make_context()
    for workers, who in (
        ([own, far, gone], ("far",)),
        ([own, gone], ("own",)),
        ([own], ("own",)),
        ([far], ("far",)),
        ([], ()),
    ):
        assert registry.matches(task, workers, context).agents == who
    assert registry.matches(Task("wash"), [own, far], context).agents == ("own",)


# -- trouble ---------------------------------------------------------------------------


def test_what_a_killed_worker_did_is_done_by_another(here, tmp_path):
    pid = waits(here, "A")
    with (
        served(here) as service,
        worker_process(service, tmp_path / "1", "--lease", "5", name="one") as one,
        worker_process(service, tmp_path / "2", "--lease", "5", name="two") as two,
    ):
        eventually(lambda: service.get("/api/v1/status")["agents"] == ["one", "two"])
        service.post(EXECUTE)
        first, who = begun(pid), doers(service)["A"]
        pid.unlink()
        {"one": one, "two": two}[who].kill()
        eventually(lambda: not is_alive(first))
        begun(pid)
        assert doers(service)["A"] != who
        (here / "go").touch()
        assert end(service) == "completed"
        assert service.get("/api/v1/status")["agents"] != [who]
    attempts = lines(here / "out" / "logs" / "attempts.jsonl")
    (lost, *_, last) = [a for a in attempts if a["task"] == "A" and a["outcome"]]
    assert (lost["agent"], lost["outcome"]) == (who, "retrying")
    assert (last["agent"] != who, last["outcome"]) == (True, "completed")


def test_a_task_that_is_cancelled_ends_elsewhere(here):
    pid = waits(here, "A")
    with served(here) as service, elsewhere(service, "far"):
        service.post(EXECUTE)
        number = begun(pid)
        assert service.post("/api/v1/tasks/suite%2FA/cancel").status == 200
        assert end(service) == "failed"
        eventually(lambda: not is_alive(number))
        (report, *_) = service.get("/api/v1/final-report")["tasks"]
    assert report["status"] == "cancelled"


@SLOW
def test_where_a_task_was_stopped_elsewhere_is_said(tmp_path):
    text = """
import os, pathlib, time
def test_quick(): pass
def test_slow():
    pathlib.Path("pid").write_text(f"{os.getpid()}\\n")
    time.sleep(600)
"""
    (tmp_path / "test_shop.py").write_text(text)
    (tmp_path / "shop.py").write_text("")
    (tmp_path / "suite.yaml").write_text(PYTEST)
    with served(tmp_path) as service, elsewhere(service, "far"):
        service.post(EXECUTE)
        begun(tmp_path / "pid")
        assert service.post("/api/v1/tasks/suite%2FA/cancel").status == 200
        assert end(service) == "failed"
        (report,) = service.get("/api/v1/final-report")["tasks"]
    assert "under way: test_shop.py::test_slow (for " in report["error"]
    assert report["error"].endswith("; before that: 1 passed")


def test_a_run_goes_on_with_its_workers_when_the_service_is_started_anew(here):
    pid, port = waits(here, "A"), free_port()
    with served(here, port=port) as service, elsewhere(service, "far") as worker:
        service.post(EXECUTE)
        first = begun(pid)
        pid.unlink()
        service.orch.stop(drain=False)
        service.server.stop()
        assert worker is not None
        with served(here, token=service.token, port=port) as again:
            eventually(lambda: again.get("/api/v1/status")["agents"] == ["far"])
            again.post(EXECUTE)
            assert begun(pid) != first
            eventually(lambda: not is_alive(first))
            assert doers(again) == {"A": "far"}
            (here / "go").touch()
            assert end(again) == "completed"


#: What the program prints at its end, but for the mark that it has read.
ENDED = {
    "event": "ended",
    "host": "far",
    **dict.fromkeys(("seconds", "memory_mb", "cpu_seconds", "disk_mb"), 1),
    "exit_code": 0,
}
#: What a worker may say of the end of a task that it could not run, or says it did.
ENDS = {
    "no such file": {"program": {"exit_code": 2, "stderr_tail": "can't open file"}},
    "all is well": {"program": {"exit_code": 0, "stdout_tail": "{}"}},
    "some number": {"program": {"exit_code": 0, "stdout_tail": "7"}},
    "half an end": {
        "program": {"exit_code": 0, "stdout_tail": '{"event": "ended", "exit_code": 0}'}
    },
    "another's end": {"program": {"exit_code": 0, "stdout_tail": json.dumps(ENDED)}},
    "nothing": {"result": None},
    "a result": {"result": {"exit_code": 0}},
    "no such program": {"outcome": "failed", "error": {"type": "ProgramFailedError"}},
}


@pytest.mark.slow("a suite for each false end")
@pytest.mark.parametrize("said", ENDS.values(), ids=ENDS)
def test_who_does_not_see_the_folder_is_not_believed(here, said):
    with served(here) as service:
        worker = Wire(service)
        worker.hello()
        service.post(EXECUTE)
        order = worker.order()
        assert order["task_id"] == "suite/A"
        end_of_it = {"attempt": order["attempt"], "outcome": "completed", **said}
        assert worker.complete(end_of_it) == ["counted"]
        assert end(service) == "failed"
        (task, *_) = service.get("/api/v1/final-report")["tasks"]
        error = service.get("/api/v1/tasks/suite%2FA")["error"]
    assert (task["id"], task["status"]) == ("A", "completed_failure")
    assert "worker far cannot run tasks of this suite" in task["error"]
    assert error["type"] == "NotSharedError"
    assert str(here / "out") in error["message"]
    assert ran(here) == []


def test_tests_that_fail_on_a_worker_make_none_wait_for_another(here):
    """What did not pass is a result; the worker has done its work."""
    tasks = ", ".join(f"{{id: T{n}, template: sh}}" for n in range(14))
    head = SUITE.partition("    unit_tests:")[0]
    (here / "suite.yaml").write_text(f"{head}    unit_tests: [{tasks}]\n")
    with served(here) as service:
        good, bad = Wire(service, "good"), Wire(service, "bad")
        for worker in (good, bad):
            worker.hello(lease=60)
        service.post(EXECUTE)
        # Another one is busy all the time, and has done well until now.
        assert good.complete(with_mark(good.order())) == ["counted"]
        good.order()
        for _ in range(12):
            # Long before the other counts as lost.
            (order,) = bad.claim(wait=20)["orders"]
            assert bad.complete(with_mark(order, exit_code=1)) == ["counted"]
        history = service.get("/api/v1/metrics")["agent_task_history"]
        assert history["bad"] == {"completed": 0, "failed": 12}
        for worker in (good, bad):
            worker.say("leave", {})
        assert end(service) == "failed"


def test_what_was_killed_is_no_verdict_of_the_tests(here):
    with served(here) as service:
        worker = Wire(service)
        worker.hello()
        service.post(EXECUTE)
        order = worker.order()
        killed = {"program": {"exit_code": -9}}
        said = {"attempt": order["attempt"], "outcome": "completed", **killed}
        assert worker.complete(said) == ["counted"]
        assert end(service) == "failed"
        (task, *_) = service.get("/api/v1/final-report")["tasks"]
    assert "was ended by signal 9" in task["error"]


def test_a_worker_that_does_not_say_its_lease_has_that_of_the_suite(here):
    with (here / "suite.yaml").open("a") as file:
        file.write("agent_pool: {agent_timeout: 77}\n")
    with served(here) as service:
        assert Wire(service).hello()["lease"] == 77
        assert Wire(service, "other").hello(lease=9)["lease"] == 9


def test_what_comes_late_changes_nothing(here):
    """Not even what is found of the task: another has done it by then."""
    with served(here) as service:
        worker = Wire(service)
        worker.hello(lease=4.0)
        service.post(EXECUTE)
        said = with_mark(worker.order())
        # It says nothing until it counts as lost, and the service does the task itself.
        assert end(service) == "completed"
        found = (here / "out" / "artifacts" / "A_results.json").read_bytes()
        # The run has ended, too: whose attempt it was, nobody knows by now.
        worker.hello()
        assert worker.complete(said) == ["unknown"]
        assert doers(service)["A"].startswith("local_")
    assert (here / "out" / "artifacts" / "A_results.json").read_bytes() == found


def test_what_comes_late_in_its_run_changes_nothing(here):
    pid = waits(here, "A")
    with served(here) as service:
        worker = Wire(service)
        worker.hello(lease=4.0)
        service.post(EXECUTE)
        said = with_mark(worker.order())
        begun(pid)  # by the service itself, since it says nothing
        assert worker.complete(said) == ["late"]
        assert not (here / "out" / "artifacts" / "A_results.json").exists()
        worker.say("leave", {})
        (here / "go").touch()
        assert end(service) == "completed"


def test_progress_that_makes_no_sense_is_left_out(here):
    with served(here) as service:
        worker = Wire(service)
        worker.hello()
        service.post(EXECUTE)
        order = worker.order()
        name = order["attempt"]
        numbers = dict.fromkeys(
            ("done", "total", "memory_mb", "cpu_seconds", "disk_mb"), 1
        )
        for value in (
            *(7, [], {}, {"event": "test"}, {"event": "test", **numbers}),
            {"event": "test", "current": "x", **numbers, "done": "many"},
        ):
            said = {"running": [name], "progress": {name: value}}
            assert worker.say("heartbeat", said) == {"stop": []}
        assert service.get("/api/v1/tasks/suite%2FA")["progress"] is None
        value = {"event": "test", "current": "x", **numbers}
        worker.say("heartbeat", {"running": [name], "progress": {name: value}})
        said = service.get("/api/v1/tasks/suite%2FA")["progress"]
        assert (said["percentage"], said["current_test"]) == (100, "x")
        worker.say("leave", {})
        assert end(service) == "completed"


def test_the_order_is_a_program_of_the_interpreter_that_the_template_names(here):
    with served(here) as service:
        far = Wire(service)
        far.hello()
        service.post(EXECUTE)
        order = far.order()
        python, worker, job = order["program"]
        assert (python, order["check"]) == (sys.executable, False)
        assert worker.endswith("suites/_worker.py")
        asked = json.loads(Path(job).read_text())
        assert asked["args"][-1] == "A"
        assert far.complete(with_mark(order)) == ["counted"]
        far.say("leave", {})
        assert end(service) == "completed"
        assert doers(service)["A"] == "far"


def with_mark(order, exit_code=0):
    """What a worker says that has read the request, and would be believed."""
    mark = json.loads(Path(order["program"][-1]).read_text())["mark"]
    return ended(order, {**ENDED, "mark": mark, "exit_code": exit_code})


def ended(order, event):
    program = {"exit_code": 0, "stdout_tail": json.dumps(event)}
    return {"attempt": order["attempt"], "outcome": "completed", "program": program}
