"""A suite as a service."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager
from urllib.request import Request, urlopen

import pytest
from tests.api.tools import PATIENCE, Started, eventually
from tests.ext.service.suites import EXECUTE, SUITE, served
from tests.ext.service.tools import Service

from taskorch import ValidationFailedError
from taskorch.errors import NotRunningError
from taskorch.ext.client import Client
from taskorch.ext.service import new_token, serve
from taskorch.ext.service._suites import SuiteRuns, metrics_app
from taskorch.ext.suites import load, run

SLOW = pytest.mark.slow("a service in a process of its own")

#: What the script of a team sends.
REQUEST = {
    "suite_name": "shop_full_suite",
    "phases": ["PHASE_1_UNIT", "PHASE_2_INTEGRATION"],
    "timeout_seconds": 7200,
    "resource_limits": {"max_memory_gb": 8, "max_cpu_cores": 8},
}
#: It goes on once there is a file of this name; nobody waits for it for ever.
WAITS = "i=0; while [ ! -e go ] && [ $i -lt 600 ]; do sleep 0.05; i=$((i+1)); done"


@pytest.fixture
def here(tmp_path):
    (tmp_path / "suite.yaml").write_text(SUITE)
    return tmp_path


def status(service):
    return service.get("/api/v1/status")["status"]


def end(service):
    """The status once the run has ended."""
    eventually(lambda: status(service) != "running")
    return status(service)


def ran(here):
    path = here / "ran"
    return path.read_text().split() if path.exists() else []


def test_a_suite_runs_when_it_is_asked_to(here):
    (here / "C.sh").write_text(WAITS)
    with served(here) as service:
        assert status(service) == "idle"
        assert service.get("/api/v1/progress")["overall_progress"] == 0
        assert service.ask("GET", "/api/v1/final-report").said["code"] == "no_report"

        answer = service.post(EXECUTE, REQUEST)
        assert (answer.status, answer.said["status"]) == (202, "running")
        assert answer.said["suite_name"] == "shop_full_suite"
        eventually(lambda: service.get("/api/v1/progress")["active_tasks"] == ["C"])
        progress = service.get("/api/v1/progress")
        doers = progress.pop("agents")
        assert [*doers] == ["A", "B", "C"]
        assert all(name.startswith("local_") for name in doers.values())
        assert progress == {
            "overall_progress": 66,
            "active_tasks": ["C"],
            "completed_tasks": ["A", "B"],
            "failed_tasks": [],
            "never_began": [],
            "total_tasks": 3,
        }
        again = service.post(EXECUTE, REQUEST)
        assert (again.status, again.said["code"]) == (409, "suite_running")
        text = service.ask("GET", "/metrics").body.decode()
        assert 'taskorch_suite{status="running"} 1.0' in text
        assert 'taskorch_tasks_ended_total{taskorch_state="completed"}' in text

        (here / "go").touch()
        assert end(service) == "completed"
        assert service.get("/api/v1/progress")["overall_progress"] == 100
        report = service.get("/api/v1/final-report")
        assert (report["status"], len(report["tasks"])) == ("completed", 3)
        text = service.ask("GET", "/metrics").body.decode()
        assert 'taskorch_suite{status="completed"} 1.0' in text
    assert ran(here) == ["A", "B", "C"]


def test_a_run_for_which_there_is_no_thread_can_be_asked_for_again(here, monkeypatch):
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "taskorch-suite":
            raise RuntimeError("can't start new thread")
        start(thread)

    with served(here) as service:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            answer = service.post(EXECUTE)
        assert (answer.status, answer.said["code"]) == (503, "no_room")
        assert status(service) == "failed"
        assert service.post(EXECUTE).status == 202
        assert end(service) == "completed"


@pytest.mark.slow("three runs of a suite")
def test_a_suite_that_fails_and_what_failed_run_again(here):
    (here / "A.sh").write_text("exit 3")
    with served(here) as service:
        service.post(EXECUTE)
        assert end(service) == "failed"
        assert service.get("/api/v1/final-report")["status"] == "failed"
        progress = service.get("/api/v1/progress")
        assert progress["failed_tasks"] == ["A"]
        # What never began has not failed, and is not done.
        assert progress["never_began"] == ["B", "C"]
        assert progress["overall_progress"] == 33

        (here / "A.sh").unlink()
        assert service.post(EXECUTE, {"failed": True}).status == 202
        assert end(service) == "completed"
        assert service.post(EXECUTE, {"fresh": True}).status == 202
        assert end(service) == "completed"
    assert ran(here) == ["A", "A", "B", "C", "A", "B", "C"]


def test_some_of_the_phases(here):
    with served(here) as service:
        service.post(EXECUTE, {"phases": ["PHASE_1_UNIT"]})
        assert end(service) == "completed"
    assert ran(here) == ["A", "B"]


def test_a_run_that_takes_too_long_is_cancelled(here):
    (here / "A.sh").write_text(WAITS)
    with served(here) as service:
        service.post(EXECUTE, {"timeout_seconds": 0.2})
        assert end(service) == "failed"
        found = service.get("/api/v1/final-report")
        why = "the run took longer than its timeout_seconds, 0.2"
        assert why in found["tasks"][0]["error"]
        assert service.get("/api/v1/status")["error"]["message"] == why


def test_what_is_there_of_another_run_is_said(here):
    with served(here) as service:
        service.post(EXECUTE, {"failed": True})
        assert end(service) == "failed"
        error = service.get("/api/v1/status")["error"]
        assert "no run" in error["message"]
        assert error["hint"]


def test_a_run_that_cannot_go_on_for_another_reason(here, monkeypatch, caplog):
    def broken(*_args, **_options):
        raise OSError("no room")

    monkeypatch.setattr("taskorch.ext.service._suites.run", broken)
    with served(here) as service:
        service.post(EXECUTE)
        assert end(service) == "failed"
        assert "no room" in service.get("/api/v1/status")["error"]["message"]
    assert "could not go on" in caplog.text


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({"phases": []}, "phases"),
        ({"phases": "PHASE_1_UNIT"}, "phases"),
        ({"phases": ["PHASE_1_UNIT", "PHASE_9"]}, "phases[1]"),
        ({"phases": [["PHASE_1_UNIT"]]}, "phases[0]"),
        ({"phases": ["PHASE_2_INTEGRATION"]}, "phases"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": "long"}, "timeout_seconds"),
        ({"suite_name": 5}, "suite_name"),
        ({"suite_name": "shop_nightly"}, "suite_name"),
        ({"failed": 1}, "failed"),
        ({"resource_limits": []}, "resource_limits"),
        ({"resource_limits": {"max_gpus": 1}}, "resource_limits.max_gpus"),
        ({"resource_limits": {"max_memory_gb": -1}}, "resource_limits.max_memory_gb"),
        ({"resource_limits": {"max_memory_gb": 0.1}}, "resource_limits.max_memory_gb"),
        ({"suite": "x"}, "suite"),
    ],
)
def test_a_request_that_makes_no_sense_starts_nothing(here, said, path):
    with served(here) as service:
        answer = service.post(EXECUTE, said)

        assert (answer.status, answer.said["findings"][0]["path"]) == (422, path)
        # Whoever looks at the status alone is told, too.
        assert answer.said["status"] == status(service) == "failed"
        error = service.get("/api/v1/status")["error"]
        assert error["message"] == answer.said["detail"]
        report = service.ask("GET", "/api/v1/final-report")
        assert answer.said["detail"] in report.said["detail"]
    assert ran(here) == []


def test_a_request_that_is_not_even_read_is_told_of_in_the_status_too(here):
    with served(here) as service:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = service.send("POST", EXECUTE, b"{}", service.headers() | kind)
        assert (answer.status, status(service)) == (415, "failed")
        # A stranger changes nothing.
        assert service.post(EXECUTE).status == 202
        assert end(service) == "completed"
        assert service.send("POST", EXECUTE).said["status"] == "failed"
        assert status(service) == "completed"


def test_a_run_that_is_interrupted_goes_on_in_the_next_incarnation(here):
    (here / "B.sh").write_text(f"echo began >> began; {WAITS}")
    with served(here) as service:
        service.post(EXECUTE)
        eventually((here / "began").exists)
        service.orch.stop(drain=False)
        assert status(service) == "interrupted"
        assert service.ask("GET", "/readyz").status == 503
        assert service.get("/livez")
        assert service.post(EXECUTE).status == 503
    with served(here) as service:
        assert status(service) == "idle"
        service.post(EXECUTE)
        assert end(service) == "completed"
    assert ran(here) == ["A", "B", "B", "C"]


def test_a_service_that_drains_runs_its_queue_too(here):
    """C, in the phase after B, begins once the service is ending."""
    (here / "B.sh").write_text(f"echo began >> began; {WAITS}")
    with served(here) as service:
        service.post(EXECUTE)
        eventually((here / "began").exists)
        ending = threading.Thread(target=service.orch.stop, kwargs={"drain": True})
        ending.start()
        eventually(lambda: service.ask("GET", "/readyz").status == 503)
        (here / "go").touch()
        ending.join(PATIENCE)
    assert ran(here) == ["A", "B", "C"]


def test_a_suite_that_is_not_complete_is_not_served(here):
    (here / "suite.yaml").write_text(SUITE.replace("  sh:", "  zsh:"))
    with pytest.raises(ValidationFailedError, match="sh"):
        SuiteRuns(load(here / "suite.yaml"), here / "out")


def test_metrics_have_a_port_of_their_own_and_nothing_else_has(here):
    runs = SuiteRuns(load(here / "suite.yaml"), here / "out")
    with serve(metrics_app(runs, token=None), port=0) as server:
        service = Service(runs, server, None)
        text = service.ask("GET", "/metrics").body.decode()
        assert 'taskorch_suite{status="idle"} 1.0' in text
        assert service.post(EXECUTE).status == 404


def test_gates_are_no_tests_in_the_numbers_of_a_suite(here):
    """Nor is what keeps an order: two have completed, and one has failed."""
    (here / "C.sh").write_text("exit 3")
    with served(here) as service:
        service.post(EXECUTE)
        eventually(lambda: service.get("/api/v1/status")["status"] == "failed")
        said = service.get("/api/v1/metrics")
        numbers = said["completed_tasks_count"], said["failed_tasks_count"]
        assert numbers == (2, 1)
        text = service.ask("GET", "/metrics").body.decode()
        assert "completed_tasks_count 2.0" in text
        assert "failed_tasks_count 1.0" in text
        stats = service.get("/api/v1/statistics")
        assert stats["state_machine"]["completed"] > 2
        assert "gate" in stats["glue"]


# -- what the run has ------------------------------------------------------------------

#: What there is of a run, and is not changed by asking.
ASKED = (
    *(
        "tasks",
        "tasks/suite%2FA",
        "tasks/suite%2FA/result",
        "tasks/suite%2FC/explanation",
    ),
    *("workflows", "workflows/suite", "workflows/suite/report"),
    *("statistics", "health", "stuck", "resources", "events"),
)
ENDS = "names=task_completed"


def ended(service, after="0"):
    """All that has ended after a cursor, page by page, and the last cursor."""
    found = []
    while True:
        page = service.get(f"/api/v1/events?{ENDS}&after={after}")
        found += [event["task_id"] for event in page["events"]]
        if page["next"] == after:
            return found, after
        after = page["next"]


def test_the_tasks_of_a_run_are_asked_for_while_it_runs_and_when_it_has_ended(here):
    (here / "C.sh").write_text(WAITS)
    with served(here) as service:
        service.post(EXECUTE)
        eventually(lambda: service.get("/api/v1/progress")["active_tasks"] == ["C"])
        for path in ASKED:
            assert service.ask("GET", f"/api/v1/{path}").status in (200, 202), path
        states = {
            task["task_id"]: task["state"]
            for task in service.get("/api/v1/tasks")["tasks"]
        }
        assert (states["suite/A"], states["suite/C"]) == ("completed", "running")
        text = service.get("/api/v1/tasks/suite%2FC/explanation")["text"]
        assert "is running on local_00" in text
        assert service.get("/api/v1/workflows") == {"workflow_ids": ["suite"]}

        client = Client(service.server.url, token=service.token)
        assert client.get_task_status("suite/C")["state"] == "running"
        (here / "go").touch()
        client.result("suite/C", timeout=PATIENCE)
        assert end(service) == "completed"
        for path in ASKED:
            assert service.ask("GET", f"/api/v1/{path}").status == 200, path
        assert service.get("/api/v1/workflows/suite")["state"] == "completed"
        with pytest.raises(NotRunningError, match="the run has ended"):
            client.emit("late")
        for path in ("tasks/suite%2FC/cancel", "workflows/suite/restart"):
            refused = service.post(f"/api/v1/{path}")
            assert (refused.status, refused.said["code"]) == (409, "not_running")
            assert "execute-suite" in refused.said["hint"]


def test_before_a_run_there_is_nothing_to_ask_for(here):
    with served(here) as service:
        for path in (*ASKED, "events/stream"):
            answer = service.ask("GET", f"/api/v1/{path}")
            assert (answer.status, answer.said["code"]) == (409, "no_run"), path
            assert "execute-suite" in answer.said["hint"]


def test_while_a_run_is_prepared_its_tasks_are_asked_for_again(here, monkeypatch):
    prepared = threading.Event()

    def slow(*args, **options):
        prepared.wait(PATIENCE)
        return run(*args, **options)

    monkeypatch.setattr("taskorch.ext.service._suites.run", slow)
    with served(here) as service:
        service.post(EXECUTE)
        assert status(service) == "running"
        for path in ASKED:
            answer = service.ask("GET", f"/api/v1/{path}")
            assert (answer.status, answer.said["code"]) == (503, "run_begins"), path
            assert answer.headers["retry-after"] == "1"
        prepared.set()
        assert end(service) == "completed"
        assert service.ask("GET", "/api/v1/tasks").status == 200


def test_no_work_comes_in_but_that_of_the_suite(here):
    """What its tasks do is said by commands: whoever sent one could do anything."""
    with served(here) as service:
        service.post(EXECUTE)
        task = {"type": "test", "payload": {"command": ["touch", "planted"]}}
        work = {"workflow": {"workflow": "w", "tasks": {"x": task}}}
        for path, said in (
            ("tasks", task),
            ("tasks/batch", {"tasks": [task]}),
            ("workflows", work),
        ):
            assert service.post(f"/api/v1/{path}", said).status in (404, 405)
        assert end(service) == "completed"


def test_a_task_of_a_run_is_called_off(here):
    (here / "C.sh").write_text(WAITS)
    with served(here) as service:
        service.post(EXECUTE)
        eventually(lambda: "C" in ran(here))
        assert service.post("/api/v1/tasks/suite%2FC/cancel").said == {"changed": True}
        assert end(service) == "failed"
        tasks = service.get("/api/v1/final-report")["tasks"]
        assert "cancelled over HTTP" in tasks[2]["error"]
        assert service.get("/api/v1/progress")["failed_tasks"] == ["C"]


@pytest.mark.slow("two runs of a suite")
def test_events_of_a_run_are_followed_to_its_end_and_from_where_one_was(here):
    (here / "B.sh").write_text(WAITS)
    with served(here) as service:
        service.post(EXECUTE)
        eventually(lambda: "B" in ran(here))
        with service.follow(f"?{ENDS}&after=0") as stream:
            told = stream.take(1)
        with service.follow(f"?{ENDS}", Last_Event_ID=stream.last) as stream:
            (here / "go").touch()
            # The stream ends with the run.
            told += stream.frames()
        found = [data["task_id"] for _, data in told]
        assert {"suite/A", "suite/B", "suite/C"} <= {*found}
        assert len(found) == len({*found})
        assert end(service) == "completed"
        again, after = ended(service)
        assert again == found

        # The numbers of one run mean nothing in the next one.
        assert service.post(EXECUTE).status == 202
        assert end(service) == "completed"
        assert service.ask("GET", f"/api/v1/events?after={after}").status == 400
        assert {*found} == {*ended(service)[0]}


def test_events_of_a_run_that_goes_on_in_another_incarnation_are_one_sequence(here):
    (here / "B.sh").write_text(f"echo began >> began; {WAITS}")
    with served(here) as service:
        service.post(EXECUTE)
        eventually((here / "began").exists)
        eventually(lambda: ended(service)[0] == ["suite/A"])
        _, after = ended(service)
        service.orch.stop(drain=False)
    with served(here) as service:
        service.post(EXECUTE)
        assert end(service) == "completed"
        rest, _ = ended(service, after)
        assert "suite/A" not in rest
        assert {"suite/B", "suite/C"} <= {*rest}


# -- the command -----------------------------------------------------------------------


@contextmanager
def command(here, *options, **variables):
    """`taskorch serve`, once it has said where it is."""
    environ = {k: v for k, v in os.environ.items() if k != "TASKORCH_TOKEN"} | variables
    words = [sys.executable, "-m", "taskorch", "serve", "--config", "suite.yaml"]
    words += ["--port", "0", "--metrics-port", "0"]
    with Started(
        [*words, *options],
        cwd=here,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process, process.stdout.readline()
        finally:
            (here / "go").touch()
            process.kill()


@SLOW
def test_the_command_serves_runs_and_ends_at_sigterm(here):
    (here / "C.sh").write_text(WAITS)
    with command(here, "--no-token") as (process, line):
        api, metrics = re.findall(r"http://127\.0\.0\.1:\d+", line)
        # As the script of a team has it, curl and all but for the port.
        call = json.dumps(REQUEST)
        asked = subprocess.run(
            [sys.executable, "-c", ASK, api, EXECUTE, call],
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        assert json.loads(asked.stdout)["status"] == "running"
        eventually(lambda: "C" in ran(here))
        assert "running" in get(metrics, "/metrics")
        process.send_signal(signal.SIGTERM)
        # It ends, and gives what runs the time for that.
        eventually(lambda: '"failed"' in get(api, "/readyz"))
        (here / "go").touch()
        assert process.wait(PATIENCE) == 0
        said = process.stderr.read()
    for words in ("run of shop_full_suite begins", "[2/3] B", "has ended: completed"):
        assert words in said
    assert ".taskorch/suite/report.html" in said
    report = json.loads((here / ".taskorch/suite/report.json").read_text())
    assert report["status"] == "completed"


ASK = """
import sys, urllib.error, urllib.request
api, path, *body = sys.argv[1:]
request = urllib.request.Request(api + path, *(b.encode() for b in body))
if body:
    request.add_header("Content-Type", "application/json")
try:
    print(urllib.request.urlopen(request, timeout=30).read().decode())
except urllib.error.HTTPError as error:
    print(error.read().decode())
"""


def get(server, path):
    words = [sys.executable, "-c", ASK, server, path]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@SLOW
def test_a_token_is_made_and_printed_once_unless_it_is_given(here):
    with command(here) as (process, line):
        api = re.findall(r"http://127\.0\.0\.1:\d+", line)[0]
        token = process.stdout.readline().removeprefix("token: ").strip()
        assert len(token) >= 43
        assert "no_token" in get(api, "/api/v1/status")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        said = process.stderr.read()
        assert "GET /api/v1/status from 127.0.0.1: 401, a token is needed" in said
        assert "curlrc" in said
        assert token not in said
    given = new_token()
    with command(here, TASKORCH_TOKEN=given) as (process, line):
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert given not in line + process.stdout.read() + process.stderr.read()


@SLOW
def test_what_a_served_suite_prints_is_for_its_owner_and_its_token_is_not_for_tests(
    here,
):
    given = new_token()
    (here / "A.sh").write_text("env")
    before = os.umask(0)
    try:
        with command(here, TASKORCH_TOKEN=given) as (process, line):
            client = WithToken(re.findall(r"http://127\.0\.0\.1:\d+", line)[0], given)
            client.post(EXECUTE)
            eventually(lambda: client.get("/api/v1/status")["status"] == "completed")
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
    finally:
        os.umask(before)
    folder = here / ".taskorch/suite"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [*folder.glob("report.*"), *(folder / "logs").iterdir()]
    assert "PATH=" in (folder / "logs" / "A.1.log").read_text()
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert given not in path.read_text(), path


class WithToken:
    """It has the token."""

    def __init__(self, url, token):
        self.url, self.token = url, token

    def post(self, path):
        return self.get(path, b"{}")

    def get(self, path, body=None):
        headers = {"Authorization": f"Bearer {self.token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        with urlopen(Request(self.url + path, body, headers), timeout=30) as answer:
            return json.load(answer)


@SLOW
@pytest.mark.parametrize(
    ("options", "variables", "said"),
    [
        ("--port x", {}, "is no port"),
        ("--port 99999", {}, "is no port"),
        ("--no-token", {"TASKORCH_TOKEN": "t" * 20}, "which of them"),
        ("", {"TASKORCH_TOKEN": "short"}, "a token is"),
    ],
)
def test_a_command_that_makes_no_sense(here, options, variables, said):
    with command(here, *shlex.split(options), **variables) as (process, _):
        assert process.wait(PATIENCE) == 2
        assert said in process.stderr.read()


@SLOW
def test_ctrl_c_ends_it_at_once_and_the_run_goes_on_later(here):
    (here / "A.sh").write_text(WAITS)
    with command(here, "--no-token") as (process, line):
        api = re.findall(r"http://127\.0\.0\.1:\d+", line)[0]
        subprocess.run([sys.executable, "-c", ASK, api, EXECUTE, "{}"], check=True)
        eventually(lambda: ran(here) == ["A"])
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130


def test_progress_in_the_end_is_about_the_same_tasks_as_before(here):
    parts = "{id: W, template: sh, subtasks: [W1, W2], dependencies: [A]}"
    (here / "suite.yaml").write_text(f"{SUITE}    more_tests: [{parts}]\n")
    (here / "B.sh").write_text("until [ -e on ]; do sleep 0.05; done; exit 3")
    with served(here) as service:
        service.post(EXECUTE)
        eventually(lambda: service.get("/api/v1/progress")["active_tasks"] == ["B"])
        assert service.get("/api/v1/progress")["total_tasks"] == 5
        (here / "on").touch()
        assert end(service) == "failed"
        progress = service.get("/api/v1/progress")
    assert progress["total_tasks"] == 5
    assert progress["never_began"] == ["C", "W1", "W2"]
    assert sorted(progress["agents"]) == ["A", "B"]
