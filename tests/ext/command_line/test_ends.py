"""How long running tasks have at the end of each kind of service, and what answers meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, Started, eventually
from tests.ext.command_line.tools import forget, taskorch
from tests.ext.jobs.test_jobs import body
from tests.ext.remote_workers.tools import free_port
from tests.ext.service.suites import SUITE, served

from taskorch import TaskOrchestrator
from taskorch.ext.service import create_app, recorded_app, serve
from taskorch.ext.service._suites import metrics_app
from taskorch.ext.views import JournalReader

WORK = """\
import signal
import time
from pathlib import Path
from taskorch import Task, TaskOrchestrator, current_context

def work(*_):
    Path("began").touch()
    while not Path("go").exists():
        if current_context().cancelled:
            Path("cut").touch()
        time.sleep(0.01)
    Path("ended").touch()

"""
APP = f"""\
{WORK}orch = {{made}}
orch.submit_task(Task.call(work, id="at-work"))
"""
#: A signal comes when what was kept has begun, and nothing is served yet.
EARLY = f"""\
{WORK}class Early(TaskOrchestrator):
    def start(self):
        super().start()
        while not Path("began").exists():
            time.sleep(0.01)
        signal.raise_signal(signal.SIGTERM)

orch = Early(journal="runs.db", stop_timeout=0)
orch.submit_task(Task.call(work, id="at-work"))
"""
JOBS = Path(__file__).parents[2] / "ext/jobs/adaptive.yaml"
SUITE_AT_WORK = """\
templates:
  sh:
    command:
      - sh
      - -c
      - touch $HERE/began; until [ -e $HERE/go ]; do sleep 0.05; done; touch $HERE/ended
orchestrator: {task_definitions: {unit_tests: [{id: at-work, template: sh}]}}
"""
RUNS = {
    "jobs": ["jobs", "run", JOBS, "job.json", "--objective", "count=app:work"],
    "suite": ["suite", "run", "s.yaml"],
}
MADE = {
    "a program's own": APP.format(made="TaskOrchestrator(journal='runs.db')"),
    "by a configuration": APP.format(
        made="TaskOrchestrator.from_config(journal='runs.db')"
    ),
}


@contextmanager
def at_work(folder, text, *words, before=(), **variables):
    """A command of which one task runs, until there is a file named `go`."""
    (folder / "app.py").write_text(text)
    environment = {**os.environ, "TASKORCH_TOKEN": "t" * 40, **variables}
    with (
        (folder / "said").open("w") as said,
        Started(
            [
                *before,
                sys.executable,
                "-W",
                "ignore",
                "-m",
                "taskorch",
                *map(str, words),
            ],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            cwd=folder,
            env=environment,
        ) as process,
    ):
        try:
            began = folder / "began"
            eventually(lambda: began.exists() or process.poll() is not None)
            yield process
        finally:
            process.kill()


def code_of(port, path):
    try:
        url = f"http://127.0.0.1:{port}{path}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def test_what_runs_may_end_and_workers_and_probes_are_answered_meanwhile(tmp_path):
    port = free_port()
    made, words = MADE["by a configuration"], ["serve", "app.py", "--port", str(port)]
    with at_work(tmp_path, made, *words, TASKORCH_STOP_TIMEOUT="600") as process:
        eventually(lambda: code_of(port, "/readyz") == 200)
        process.send_signal(signal.SIGTERM)
        eventually(lambda: code_of(port, "/readyz") == 503)
        assert code_of(port, "/livez") == 200
        (tmp_path / "go").touch()
        assert process.wait(PATIENCE) == 0
    assert (tmp_path / "ended").exists()
    assert not (tmp_path / "cut").exists()
    said = (tmp_path / "said").read_text()
    assert "without effect" not in said
    assert "the service ended" not in said


@pytest.mark.parametrize(
    ("kind", "made"),
    [("serve", "a program's own"), ("mcp", "by a configuration")],
)
def test_what_does_not_end_in_time_is_cut_and_told(tmp_path, kind, made):
    port = free_port()
    words = [kind, "app.py", *(["--port", port] if kind == "serve" else [])]
    with at_work(tmp_path, MADE[made], *words, TASKORCH_STOP_TIMEOUT="0") as process:
        if kind == "serve":
            eventually(lambda: code_of(port, "/livez") == 200)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) in (0, 130)
    said = (tmp_path / "said").read_text()
    assert "the service ended; 1 task was left, and is kept for the next" in said
    assert "at-work (running)" in said


def test_what_a_program_has_said_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKORCH_STOP_TIMEOUT", "none")
    made = APP.format(made="TaskOrchestrator(stop_timeout=0)")
    (tmp_path / "app.py").write_text(made)
    code, _, said = taskorch(capsys, "serve", "app.py", "--port", "0")
    forget(tmp_path)
    assert code == 2
    assert not (tmp_path / "began").exists()
    assert "without effect in app.py" in said
    assert "stop_timeout (TASKORCH_STOP_TIMEOUT)" in said


@pytest.mark.slow("waits for a limit of seconds")
def test_by_default_it_has_a_limit_and_a_second_signal_ends_it_at_once(tmp_path):
    made, words = MADE["a program's own"], ["serve", "app.py", "--port", "0"]
    with at_work(tmp_path, made, *words) as process:
        process.send_signal(signal.SIGTERM)
        # What runs has begun; that anything is served by then is not said.
        assert process.wait(PATIENCE) in (0, 130)
    (tmp_path / "began").unlink()
    with at_work(tmp_path, made, *words, TASKORCH_STOP_TIMEOUT="none") as process:
        process.send_signal(signal.SIGTERM)
        eventually(lambda: "waits for 1 task" in (tmp_path / "said").read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) in (0, 130)


def test_what_began_before_anything_is_served_is_told_when_it_is_cut(tmp_path):
    with at_work(tmp_path, EARLY, "serve", "app.py", "--port", "0") as process:
        assert process.wait(PATIENCE) == 0
    said = (tmp_path / "said").read_text()
    assert "the service ended; 1 task was left, and is kept for the next" in said
    assert "at-work (running)" in said
    assert "page: " not in said


@pytest.mark.parametrize(("kind", "limit"), [("suite", "600"), ("jobs", "0")])
def test_a_run_lets_running_tasks_end_at_sigterm_and_tells_what_it_cuts(
    tmp_path, kind, limit
):
    (tmp_path / "s.yaml").write_text(SUITE_AT_WORK.replace("$HERE", str(tmp_path)))
    (tmp_path / "job.json").write_text(json.dumps(body(tadpole_count=1)))
    # A shell without a terminal has its background commands ignore Ctrl-C.
    before = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"] if limit == "0" else []
    variables = {"TASKORCH_STOP_TIMEOUT": limit}
    with at_work(tmp_path, WORK, *RUNS[kind], before=before, **variables) as process:
        process.send_signal(signal.SIGTERM)
        if limit == "600":
            (tmp_path / "go").touch()
        assert process.wait(PATIENCE) == (143 if kind == "suite" else 130)
    said = (tmp_path / "said").read_text()
    assert (tmp_path / "ended").exists() == (limit == "600")
    assert ("It was still running." in said) == (limit == "0")
    assert "Traceback" not in said
    if kind == "suite":
        report = (tmp_path / ".taskorch" / "s" / "report.md").read_text()
        assert "(interrupted: the same command goes on)" in report
        assert ("1 of 1 task" in report) == (limit == "600")
        assert said.endswith("stopped: the same command goes on from here\n")
    else:
        assert "j1: " in said


def test_a_second_signal_cuts_a_run_off_at_once(tmp_path):
    (tmp_path / "s.yaml").write_text(SUITE_AT_WORK.replace("$HERE", str(tmp_path)))
    limit = {"TASKORCH_STOP_TIMEOUT": "none"}
    with at_work(tmp_path, WORK, *RUNS["suite"], **limit) as process:
        process.send_signal(signal.SIGTERM)
        # A report is there before the drain, in which the process may be killed.
        eventually((tmp_path / ".taskorch" / "s" / "report.md").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 143
    assert not (tmp_path / "ended").exists()
    said = (tmp_path / "said").read_text()
    assert said.endswith("stopped: the same command goes on from here\n")


def test_probes_need_no_token_in_each_kind_of_service(tmp_path):
    token = "t" * 40
    (tmp_path / "suite.yaml").write_text(SUITE)
    with (
        TaskOrchestrator(journal=tmp_path / "runs.db") as orch,
        served(tmp_path, token=token) as suite,
        serve(create_app(orch, token=token), port=0) as own,
        serve(metrics_app(suite.orch, token=token), port=0) as numbers,
        serve(
            recorded_app(JournalReader(tmp_path / "runs.db"), token=token), port=0
        ) as recorded,
    ):
        for server in (suite.server, own, numbers, recorded):
            assert code_of(server.port, "/livez") == 200
            assert code_of(server.port, "/readyz") == 200
            assert code_of(server.port, "/metrics") in (401, 404)
            assert code_of(server.port, "/api/v1/tasks") in (401, 404)
