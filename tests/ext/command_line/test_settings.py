"""What the commands take from the configuration, and what `doctor` says of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from tests.ext.command_line.tools import forget, taskorch, told
from tests.ext.jobs.test_jobs import body

from taskorch import InvalidTaskError, TaskOrchestrator
from taskorch.api._settings.configuration import (
    SETTINGS,
    as_variable,
    read_configuration,
)
from taskorch.ext import service
from taskorch.ext.service import _suites

SECRET = "hunter2-of-the-vault"
FLOW = """
from taskorch import Task
tasks = [Task.call(int, "7", id="good"), Task.call(int, "x", id="bad")]
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    for name in os.environ:
        if name.startswith("TASKORCH_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("made_flow.py").write_text(FLOW, encoding="utf-8")
    yield tmp_path
    forget(tmp_path)


def run(capsys, *words, command="run"):
    forget(Path.cwd())
    return taskorch(capsys, command, "made_flow.py", *words)


def write(text):
    Path("taskorch.toml").write_text(text, encoding="utf-8")


def findings(capsys):
    code, out, _ = taskorch(capsys, "doctor", "--json")
    return code, {one["name"]: one for one in told(out)[0]}


def test_run_keeps_its_journal_where_the_settings_say(capsys, monkeypatch):
    write('journal = "runs.db"\n[profiles.memory]\njournal = "none"')
    monkeypatch.setenv("TASKORCH_PROFILE", "memory")
    assert run(capsys)[0] == 1
    assert not Path("runs.db").exists()
    monkeypatch.delenv("TASKORCH_PROFILE")
    assert "completed good" in run(capsys)[1]
    assert Path("runs.db").exists()
    # As with --journal: what failed is run again, and what was done is not.
    out = run(capsys)[1]
    assert "failed bad" in out
    assert "completed good" not in out
    monkeypatch.setenv("TASKORCH_RERUN_FAILED", "no")
    assert "failed bad" not in run(capsys)[1].partition("failed:")[0]
    # An option comes first.
    assert "completed good" in run(capsys, "--journal", "other.db")[1]


def test_simulate_takes_the_settings_too(capsys, monkeypatch):
    words = "--duration", "10", "--json"
    monkeypatch.setenv("TASKORCH_CONCURRENCY", "1")
    monkeypatch.setenv("TASKORCH_JOURNAL", "runs.db")
    (found,) = told(run(capsys, *words, command="simulate")[1])
    assert found["seconds"] == 20
    (found,) = told(run(capsys, *words, "--concurrency", "2", command="simulate")[1])
    assert found["seconds"] == 10
    assert not Path("runs.db").exists()


def test_doctor_says_what_holds_and_where_it_comes_from(capsys, monkeypatch, here):
    assert findings(capsys)[1]["configuration"]["detail"] == "there is no file"
    write("grace = 1\nrerun_failed = true\n[profiles.ci]\nresources.cpu = 2\ngrace = 3")
    monkeypatch.setenv("TASKORCH_PROFILE", "ci")
    monkeypatch.setenv("TASKORCH_MAX_QUEUED", "none")
    code, found = findings(capsys)
    assert code == 0
    assert found["configuration"]["detail"] == f"{here / 'taskorch.toml'}, profile ci"
    assert found["grace"]["detail"] == "3 (from taskorch.toml:5)"
    assert found["rerun_failed"]["detail"] == "true (from taskorch.toml:2)"
    assert found["resources"]["detail"] == "cpu 2 (from taskorch.toml:4)"
    assert found["max_queued"]["detail"] == "none (from TASKORCH_MAX_QUEUED)"
    rest = found["by default"]["detail"]
    assert "concurrency 10, keep_finished 10000" in rest
    assert "grace" not in rest


def test_doctor_says_what_is_wrong_and_shows_no_secret(capsys, monkeypatch):
    monkeypatch.setenv("TASKORCH_PASSWORD", SECRET)
    code, found = findings(capsys)
    assert code == 1
    assert "no setting TASKORCH_PASSWORD" in found["configuration"]["detail"]
    assert SECRET not in str(found)
    monkeypatch.delenv("TASKORCH_PASSWORD")
    monkeypatch.setenv("TASKORCH_CONFIG", "gone.toml")
    code, found = findings(capsys)
    assert code == 1
    assert "gone.toml: No such file" in found["configuration"]["detail"]


def test_doctor_says_of_a_setting_that_it_has_no_effect(capsys):
    write('durability = "process"')
    found = findings(capsys)[1]["durability"]
    assert found["status"] == "warning"
    assert "without a journal" in found["detail"]
    write('durability = "process"\njournal = "runs.db"')
    assert findings(capsys)[1]["durability"]["status"] == "ok"


# -- each setting, in each kind of service ---------------------------------------------

FILES = {
    "configured.py": "from taskorch import TaskOrchestrator as T\no = T.from_config()\n",
    "own.py": "from taskorch import TaskOrchestrator as T\no = T()\n",
    "counts.py": "def count(unit, job):\n    return 1\n",
    "job.json": json.dumps(body()),
    "s.yaml": """\
templates: {sh: {command: ["true"]}}
orchestrator: {task_definitions: {unit_tests: [{id: A, template: sh}]}}
""",
    "tasks/a/1.md": "---\noutputs: []\n---\n",
}
JOBS = Path(__file__).parents[2] / "ext/jobs/adaptive.yaml"
#: Policies have a law of their own: tests/ext/governance/test_front_ends.py.
EACH = SETTINGS.keys() - {"governance"}
OF_SUITES = {"durability", "monitor_interval", "seed", "stop_timeout"}
OF_JOBS = EACH - {"resources", "max_queued"}
RUN_JOBS = ["jobs", "run", JOBS, "job.json", "--objective", "count=counts:count"]
SERVE_SUITE = ["serve", "--config", "s.yaml", "--metrics-port", "0"]
#: For each kind of service, its command, and the settings that act there.
KINDS = {
    "serve": (["serve", "configured.py", "--port", "0"], EACH),
    "serve, of a program's own": (["serve", "own.py", "--port", "0"], {"stop_timeout"}),
    "mcp": (["mcp", "configured.py"], EACH),
    "mcp, of a program's own": (["mcp", "own.py"], {"stop_timeout"}),
    "jobs": (RUN_JOBS, OF_JOBS),
    "jobs, served": ([*RUN_JOBS, "--port", "0"], OF_JOBS),
    "suite": (["suite", "run", "s.yaml"], OF_SUITES),
    "suite, served": ([*SERVE_SUITE, "--port", "0"], OF_SUITES),
    "task files": (["workspace", "run", "--agent", "true"], set()),
}


@pytest.fixture
def made(here, monkeypatch):
    """The arguments of all orchestrators, and of runs of suites; no server stays."""
    for name, text in FILES.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    monkeypatch.delitem(sys.modules, "counts", raising=False)
    said = []

    class Runs(_suites.SuiteRuns):
        def __init__(self, suite, folder, tell, settings):
            said.append(settings)
            super().__init__(suite, folder, tell, settings)

    def making(self, _make=TaskOrchestrator.__init__, **settings):
        said.append(settings)
        _make(self, **settings)

    def ended(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(TaskOrchestrator, "__init__", making)
    monkeypatch.setattr(_suites, "SuiteRuns", Runs)
    monkeypatch.setattr(service, "serve", ended)
    return said


def set_all(names, monkeypatch):
    for name in names:
        variable, _, text = as_variable(name, SETTINGS[name][1]).partition("=")
        monkeypatch.setenv(variable, text)
    return {name: each.value for name, each in read_configuration().settings.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_each_setting_acts_in_each_kind_of_service(kind, made, capsys, monkeypatch):
    words, acting = KINDS[kind]
    values = set_all(acting, monkeypatch)
    code, _, err = taskorch(capsys, *words)
    assert code == (130 if "serve" in kind else 0), err
    if not kind.endswith("own"):
        together = {name: value for each in made for name, value in each.items()}
        assert {name: together[name] for name in values} == values


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind][1] != EACH])
def test_or_is_refused_there(kind, made, capsys, monkeypatch):
    words, acting = KINDS[kind]
    others = EACH - acting
    set_all(others, monkeypatch)
    code, out, err = taskorch(capsys, *words)
    assert (code, out) == (2, "")
    assert "without effect in " in err
    assert "leave it out" in err
    assert not Path(".taskorch").exists()
    for name in others:
        assert f"{name} (TASKORCH_{name.upper()})" in err


def test_who_looks_at_a_journal_asks_no_setting(made, capsys, monkeypatch):
    with TaskOrchestrator(journal="runs.db"):
        pass
    set_all(EACH, monkeypatch)
    assert taskorch(capsys, "serve", "--journal", "runs.db", "--port", "0")[0] == 130


@pytest.mark.parametrize("name", ["durability=process", "keep_logs_mb=3"])
def test_a_setting_of_a_journal_needs_one(name, monkeypatch):
    variable, _, value = name.partition("=")
    monkeypatch.setenv(f"TASKORCH_{variable.upper()}", value)
    with pytest.raises(InvalidTaskError, match=f"{variable}= is for a journal"):
        TaskOrchestrator.from_config()
    monkeypatch.setenv("TASKORCH_JOURNAL", "none")
    TaskOrchestrator.from_config()
