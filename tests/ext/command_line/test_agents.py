"""`taskorch agents` and the like, and the client: the workers of a service."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from taskorch import Task, TaskOrchestrator
from taskorch.errors import InvalidTaskError, UnknownAgentError
from taskorch.ext.client import Client
from taskorch.ext.command_line import main

service = pytest.importorskip("taskorch.ext.service")


def do(task, _context):
    return task.payload


@pytest.fixture
def there(monkeypatch):
    token = service.new_token()
    monkeypatch.setenv("TASKORCH_TOKEN", token)
    with TaskOrchestrator(unknown_capability="wait") as orch:
        orch.agents.template("tester", capabilities={"test": 2}, handler=do)
        with service.serve(service.create_app(orch, token=token), port=0) as api:
            yield orch, api.url, token


def said(capsys, *words):
    code = main([*words])
    out, err = capsys.readouterr()
    return code, out + err


def test_workers_are_shown_and_changed(there, capsys):
    orch, url, _ = there

    def workers(*words):
        return said(capsys, "agents", url, *words)

    assert workers("spawn", "tester", "--id", "one") == (0, "one is idle\n")
    config = ("--config", '{"max_concurrency": 3}')
    assert workers("spawn", "tester", *config) == (0, "tester-1 is idle\n")
    assert "one       idle    0/1   tester  test:2" in workers()[1]
    heads, *_, last = workers()[1].splitlines()
    assert heads.index("machine") == last.index(
        orch.agents.get("one").labels["machine"]
    )
    cores = f"{orch.agents.get('one').capacity['cpu']:g} cpu"
    assert heads.index("capacity") == last.index(cores)
    assert workers("match", "test:3")[0] == 1
    assert (
        "no   one: its test is of level 2, and 3 is needed"
        in workers(*("match", "test:3"))[1]
    )
    assert workers("match", "test:2")[0] == 0
    assert workers("drain", "one", "--reason", "no disk")[0] == 0
    assert workers("drain", "one") == (1, "one gets no new work, as before\n")
    shown = json.loads(workers("show", "one", "--json")[1])
    assert (shown["status"], shown["health"]["healthy"]) == ("draining", False)
    assert workers("undrain", "one")[0] == 0
    assert workers("terminate", "one")[0] == 0
    assert "did you mean" not in workers("show", "one")[1]
    assert workers("scaling")[1] == "No pool has decided anything.\n"
    orch.agents.pool("tester", max_agents=2, interval=0.02)
    assert orch.submit_task(Task("t", 7, requires=["test"])).result(60) == 7


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["spawn", "testr"], "did you mean 'tester'?"),
        (["spawn", "tester", "--config", "{"], "is no JSON"),
        (["spawn", "tester", "--config", "[]"], "is no object"),
        (["spawn", "tester", "--config", '{"idd": 1}'], "did you mean 'id'?"),
        (["show"], "agents show: AGENT must be said"),
        (["spawn"], "agents spawn: TEMPLATE must be said"),
        (["match"], "agents match: CAPABILITY must be said"),
        (["show", "local", "--grace", "3"], "agents show takes no --grace SECONDS"),
        (["drain", "a", "b"], "'b' is one name too many"),
        (["terminate", "nobody"], "there is no worker 'nobody'"),
        (["terminate", "local", "--grace", "-1"], "grace"),
        (["scaling", "tester"], "there is no pool of workers"),
    ],
)
def test_what_cannot_be_is_said(there, capsys, words, error):
    code, text = said(capsys, "agents", there[1], *words)
    assert code == 2
    assert error in text


def test_a_journal_has_no_workers(capsys):
    code, text = said(capsys, "agents", "runs.db")
    assert code == 2
    assert "no address of a service" in text


def test_starts_are_held_and_alerts_shown(there, capsys):
    orch, url, _ = there
    assert said(capsys, "alerts", url) == (0, "No alert is watched.\n")
    assert orch.alerts
    assert "high_failure_rate: no data" in said(capsys, "alerts", url)[1]
    assert (
        "nothing new starts" in said(capsys, "hold", url, "no disk", "--by", "ada")[1]
    )
    handle = orch.submit(int)
    assert "no disk" in str(orch.explain(handle.task_id))
    assert said(capsys, "release", url)[0] == 1
    assert said(capsys, "release", url, "--by", "ada") == (0, "tasks start again\n")
    assert handle.result(60) == 0


def test_the_client_has_the_names_of_the_manager(there):
    orch, url, token = there
    client = Client(url, token=token)
    assert client.spawn_agent("tester")["id"] == "tester-1"
    assert [one["id"] for one in client.agents()] == ["local", "tester-1"]
    assert client.agent("tester-1")["capabilities"] == {"test": 2}
    (found,) = client.match_agents(["test"], type="t")
    assert found["matches"]
    assert client.drain_agent("tester-1", "why not")
    assert client.drain_agent("tester-1", on=False)
    client.terminate_agent("tester-1")
    with pytest.raises(UnknownAgentError):
        client.agent("tester-1")
    orch.agents.pool("tester", min_agents=1, max_agents=1, interval=0.02)
    assert orch.agents
    with pytest.raises(InvalidTaskError):
        client.explain_scaling("none")
    assert client.alerts() == []
    client.hold_starts("why not", most=3)
    assert client.release_starts()
    assert not client.release_starts()


def test_who_has_which_unit_is_shown(there, capsys):
    orch, url, _ = there
    capacity = {"gpu": {"named": ["a", "b"]}}
    orch.agents.spawn("tester", {"id": "one", "capacity": capacity})
    begun, may_end = threading.Event(), threading.Event()

    def hold(_task, _context):
        begun.set()
        may_end.wait(60)

    orch.agent("two", capabilities={"x"}, capacity=capacity)(hold)
    task = Task("t", id="t", requires={"x"}, resources={"gpu": 0.5})
    handle = orch.submit_task(task)
    begun.wait(60)
    table = said(capsys, "agents", url)[1]
    assert "2 gpu (in use: 0.5 of a, 0 of b)" in table
    assert "2 gpu (in use: 0 of a, 0 of b)" in table
    assert "holds      0.5 gpu (a)\n" in said(capsys, "inspect", url, "t")[1]
    may_end.set()
    handle.result(60)
    assert "holds" not in said(capsys, "inspect", url, "t")[1]


def test_a_service_of_before_says_of_no_units(there, capsys):
    orch, _, _ = there
    handle = orch.submit_task(Task("t", 1, id="t", requires={"test"}))
    orch.agents.spawn("tester")
    handle.result(60)
    told = handle.status.to_dict()
    del told["units"]

    class Before(BaseHTTPRequestHandler):
        def do_GET(self):
            # It knew of no steps either.
            is_known = not self.path.endswith("/steps")
            answer = told if is_known else {"code": "unknown_path", "title": "no path"}
            body = json.dumps(answer).encode()
            self.send_response(200 if is_known else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Before) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        code, text = said(capsys, "inspect", url, "t")
        server.shutdown()
    assert code == 0, text
    assert "t is completed" in text
