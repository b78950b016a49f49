"""Policies that documents and settings name: they hold in every front end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.api.tools import eventually
from tests.ext.command_line.tools import forget, taskorch
from tests.ext.jobs.test_jobs import body
from tests.ext.task_files.tools import write

from taskorch import Task
from taskorch.errors import ValidationFailedError
from taskorch.ext import suites as suite
from taskorch.ext.governance import ConstitutionalRuntime, Policy, Rule
from taskorch.ext.service._suites import RunRequest, SuiteRuns
from taskorch.ext.task_files import Workspace

ADAPTIVE = Path(__file__).parents[2] / "ext/jobs/adaptive.yaml"
DENIES = """\
policies:
  - id: named
    principle: order
    severity: critical
    rules: [{id: r, condition: metadata.ok, operator: exists, message: say ok}]
"""
SUITE = """\
templates: {sh: {command: [touch, ran]}}
orchestrator: {task_definitions: {unit_tests: [{id: A, template: sh}]}}
"""
FLOW = """\
from pathlib import Path
from taskorch import TaskOrchestrator, Workflow

def f(*_):
    Path("ran").touch()

flow = Workflow("flow")
flow.task(f, id="a")
"""
#: What each front end is asked to run, from files that are there.
FRONT_ENDS = {
    "suite": ["suite", "run", "--fresh", "s.yaml"],
    "task files": ["workspace", "run", "--agent", "touch ran"],
    "workflow": ["run", "flow.py"],
    "settings": ["run", "from_config.py"],
    "program": ["run", "own.py"],
    "simulation": ["simulate", "own.py", "--duration", "1s"],
    "service": ["serve", "own.py"],
    "tools": ["mcp", "own.py"],
    "jobs": ["jobs", "run", ADAPTIVE, "job.json", "--objective", "count=flow:f"],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module in ("flow", "own", "from_config"):
        # Tests elsewhere have modules of the same names.
        monkeypatch.delitem(sys.modules, module, raising=False)
    write(
        tmp_path,
        {
            "p.yaml": DENIES,
            "s.yaml": SUITE,
            "flow.py": FLOW,
            "own.py": FLOW + "orch = TaskOrchestrator()\n",
            "from_config.py": FLOW + "orch = TaskOrchestrator.from_config()\n",
            "job.json": json.dumps(body()),
            "tasks/a/1.md": "outputs: []",
        },
    )
    yield tmp_path
    forget(tmp_path)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_policies_that_the_environment_names_hold_in_every_front_end(
    name, folder, monkeypatch, capsys
):
    monkeypatch.setenv("TASKORCH_GOVERNANCE", "p.yaml")
    code, out, err = taskorch(capsys, *FRONT_ENDS[name])
    assert code != 0
    assert not (folder / "ran").exists()
    assert "say ok" in out + err or "does not ask the policies" in err


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        *(("suite", "critical"), ("suite", "high"), ("task files", "critical")),
        *(("workflow", "high"), ("jobs", "critical")),
    ],
)
def test_a_run_ends_if_nobody_can_be_asked_whether_its_tasks_may_start(
    name, severity, folder, monkeypatch, capsys
):
    """Policies deny the start, or ask people: no other process can answer here."""
    at_start = DENIES.replace(
        "severity: critical", f"at: start\n    severity: {severity}"
    )
    (folder / "p.yaml").write_text(at_start)
    monkeypatch.setenv("TASKORCH_GOVERNANCE", "p.yaml")
    code, out, err = taskorch(capsys, *FRONT_ENDS[name])
    assert code == 1
    assert not (folder / "ran").exists()
    assert "say ok" in out + err or "decision" in out or name == "jobs"


COSTLY = """\
policies:
  - id: small
    principle: order
    severity: critical
    at: start
    rules: [{id: r, condition: task.resources.cpu, operator: less_than, value: 4}]
"""
DENIED_SUITE = """\
policies: p.yaml
templates: {sh: {command: ["true"]}}
orchestrator:
  task_definitions:
    unit_tests:
      - {id: A, template: sh, resources: {cpu_cores: 1}}
      - {id: B, template: sh, resources: {cpu_cores: 4}}
      - {id: C, template: sh, resources: {cpu_cores: 1}, dependencies: [B]}
"""


def test_a_denied_test_and_what_waits_for_it_are_in_the_report(folder, capsys):
    (folder / "s.yaml").write_text(DENIED_SUITE)
    (folder / "p.yaml").write_text(COSTLY)
    code, out, _ = taskorch(capsys, "suite", "run", "s.yaml")
    assert code == 1
    assert "FAILED: 1 of 3 tasks succeeded" in out
    _, text, _ = taskorch(capsys, "suite", "report", "s.yaml")
    assert "Nobody can be asked in this run" in text
    assert "task.resources.cpu less than 4" in text
    assert "because of B" in text
    (folder / "p.yaml").write_text(COSTLY.replace("value: 4", "value: 5"))
    code, out, _ = taskorch(capsys, "suite", "run", "--failed", "s.yaml")
    assert (code, "passed: 3 of 3 tasks succeeded" in out) == (0, True)


def test_a_program_that_asks_the_same_policies_runs(folder, monkeypatch, capsys):
    monkeypatch.setenv("TASKORCH_GOVERNANCE", "p.yaml")
    other = DENIES.replace("exists", "not_exists")
    (folder / "p.yaml").write_text(other)
    own = FLOW + 'orch = TaskOrchestrator(governance="p.yaml")\n'
    (folder / "own.py").write_text(own)
    assert taskorch(capsys, "run", "own.py")[0] == 0
    assert (folder / "ran").exists()


@pytest.mark.parametrize("name", ["suite", "task files", "program"])
def test_a_setting_that_does_not_act_in_a_front_end_is_refused(
    name, folder, monkeypatch, capsys
):
    (folder / "taskorch.toml").write_text("max_queued = 5\n")
    code, _, err = taskorch(capsys, *FRONT_ENDS[name])
    assert code == 2
    assert "without effect in" in err
    assert "max_queued (taskorch.toml:1)" in err
    assert not (folder / "ran").exists()
    monkeypatch.setenv("TASKORCH_CONFIG", "/dev/null")
    forget(folder)
    assert taskorch(capsys, *FRONT_ENDS[name])[0] == 0
    assert (folder / "ran").exists()


def test_a_file_of_settings_names_policies_beside_it(folder, monkeypatch, capsys):
    (folder / "taskorch.toml").write_text('governance = "p.yaml"\n')
    (folder / "deeper").mkdir()
    monkeypatch.chdir(folder / "deeper")
    code, _, err = taskorch(capsys, "run", "../flow.py")
    assert (code, "say ok" in err) == (2, True)


# -- in suites -------------------------------------------------------------------------


def test_a_suite_says_policies_and_files_of_them(folder, capsys):
    low = "{id: low, principle: x, severity: low, when: task.priority >= 0}"
    (folder / "s.yaml").write_text(f"{SUITE}policies: [p.yaml, {low}]\n")
    read = suite.load("s.yaml")
    assert [one.id for one in read.policies] == ["named", "low"]
    code, out, err = taskorch(capsys, *FRONT_ENDS["suite"])
    assert (code, "say ok" in err) == (2, True)
    assert not (folder / "ran").exists()
    code, out, err = taskorch(capsys, "suite", "plan", "s.yaml")
    assert "Policies would deny unit_tests (A): policy named (r): say ok" in out
    assert "policy low (when)" in out


def test_policies_judge_the_tests_and_not_what_holds_them_together(folder):
    # Nobody could give metadata to the gates of a suite.
    named = DENIES.replace("metadata.ok", "metadata.criteria")
    (folder / "p.yaml").write_text(named)
    two = SUITE.replace("[{id: A, template: sh}]", "[{id: A, template: sh, shards: 1}]")
    (folder / "s.yaml").write_text(f"{two}policies: p.yaml\n")
    assert suite.run(suite.load("s.yaml"), "out").passed
    receipt = json.loads((folder / "out/report.json").read_text())
    assert receipt["tasks"][0]["status"] == "completed_success"


@pytest.mark.parametrize("name", ["gate", "approval", "order", "gather", "shards"])
def test_no_class_of_tests_has_the_name_of_what_is_not_judged(name, folder):
    (folder / "s.yaml").write_text(SUITE.replace("unit_tests", name))
    with pytest.raises(ValidationFailedError, match=f"{name} is a type of tasks"):
        suite.load("s.yaml")


def test_policies_of_a_suite_come_to_those_of_its_caller(folder):
    (folder / "s.yaml").write_text(f"{SUITE}policies: p.yaml\n")
    (folder / "more.yaml").write_text(DENIES.replace("named", "more"))
    runtime = ConstitutionalRuntime.from_yaml("p.yaml", "more.yaml")
    (folder / "s.yaml").write_text(f"{SUITE}policies: [p.yaml, other.yaml]\n")
    (folder / "other.yaml").write_text(DENIES.replace("named", "other"))
    seen = []

    def begun(orch, _):
        seen.extend(one.id for one in orch.governance.policies)
        for name in seen:
            waiver = runtime.request_waiver(
                name, "suite/*", reason="window", requested_by="ada", expires=60
            )
            runtime.approve_waiver(waiver.id, by="bob")

    read = suite.load("s.yaml")
    report = suite.run(read, "out", governance=runtime, begun=begun)
    assert seen == ["named", "other", "more"]
    assert report.passed


def test_all_faults_of_policies_are_named_where_they_stand(folder):
    (folder / "bad.yaml").write_text("policies:\n  - {id: b, principle: x}\n")
    text = (
        "policies:\n  - nowhere.yaml\n  - bad.yaml\n  - p.yaml\n"
        "  - {id: named, principle: x, severity: low, when: task.priority >= 0}\n"
        "  - {id: c, principle: x, severity: lo}\n"
    )
    (folder / "s.yaml").write_text(SUITE + text)
    with pytest.raises(ValidationFailedError) as caught:
        suite.load("s.yaml")
    found = [
        place.rpartition("/")[2] + " " + what for place, what in caught.value.findings
    ]
    for start, part in [
        ("s.yaml:4:", "nowhere.yaml cannot be read"),
        ("s.yaml:5:", "bad.yaml:2:5: policies[0].severity: it is missing"),
        ("s.yaml:7:", "two have the id 'named'"),
        ("s.yaml:8:", "one of low, medium, high, critical is needed, not 'lo'"),
    ]:
        assert any(one.startswith(start) and part in one for one in found), (
            start,
            found,
        )


# -- in folders of task files ----------------------------------------------------------


def workspace(folder, **options):
    told = []
    return Workspace(folder, agent="touch ran", tell=told.append, **options), told


def test_a_folder_of_task_files_says_policies(folder):
    write(
        folder,
        {
            "workspace.yaml": "policies: [p.yaml]\n",
            "tasks/a/2.md": "outputs: []\nok: by ada",
        },
    )
    ws, told = workspace(folder)
    report = ws.run()
    assert report.completed == ("a/2",)
    assert "policies deny it: policy named (r): say ok" in report.left["a/1"]
    assert any(line.startswith("ALERT: a/1: policies deny it") for line in told)
    assert "policies deny it" in ws.why("a/1")
    assert not ws.can_launch("a/1")
    (folder / "p.yaml").write_text(DENIES.replace("critical", "low"))
    ws, told = workspace(folder)
    assert ws.run().is_complete
    assert any(
        line.startswith("POLICY: a/1: policy named (r): say ok") for line in told
    )


def test_a_dry_run_says_what_policies_would_do(folder):
    write(folder, {"workspace.yaml": "policies: [p.yaml]\n"})
    assert "say ok" in workspace(folder)[0].dry_run().not_run["a/1"]
    (folder / "p.yaml").write_text(DENIES.replace("critical", "low"))
    dry = workspace(folder)[0].dry_run()
    assert [step.task_id for step in dry.steps] == ["a/1"]
    assert "Policies say of what would be run:\n  a/1: policy named" in str(dry)


def test_policies_see_what_a_task_file_says(folder):
    conditions = [
        ("task.id", "a/1"),
        ("task.type", "task file"),
        ("task.payload.phase", "a"),
        ("task.payload.agent", "agent"),
        ("task.payload.command[0]", "touch"),
        ("task.payload.retries", 2),
        ("task.budget", "release"),
        ("task.writes[0]", "src/**"),
        ("task.payload.spends.tokens", 5),
        ("task.resources.cpu", 1),
        ("task.priority", 0),
        ("task.timeout", 60),
        ("task.metadata.ticket[0]", "T-1"),
    ]
    differs = {"id": "r", "operator": "not_equals"}
    policies = [
        {
            "id": condition.strip("0[]"),
            "principle": "x",
            "severity": "critical",
            "rules": [{**differs, "condition": condition, "value": value}],
        }
        for condition, value in conditions
    ]
    budgets = {"release": {"total": {"tokens": 9}}}
    write(
        folder,
        {
            "workspace.yaml": json.dumps({"policies": policies, "budgets": budgets}),
            "tasks/a/1.md": "agent: agent\ncommand: [touch, ran]\nretries: 2\ntimeout: 60s\n"
            "writes: src/**\n"
            "budget: release\nresources: {tokens: 5, cpu: 1}\nticket: T-1",
        },
    )
    text = workspace(folder)[0].dry_run().not_run["a/1"]
    for policy in policies:
        assert f"policy {policy['id']} (r)" in text


def test_a_task_file_is_judged_as_it_is_when_it_starts(folder):
    # The first one takes away what the second was allowed for.
    change = "sed -i 's/^ok.*//' tasks/a/2.md"
    write(
        folder,
        {
            "workspace.yaml": "policies: [p.yaml]\n",
            "tasks/a/1.md": f'ok: x\ncommand: [sh, -c, "{change}"]',
            "tasks/a/2.md": "ok: x\ndependencies: [a/1]",
        },
    )
    report = workspace(folder)[0].run()
    assert report.completed == ("a/1",)
    assert "policies deny it" in report.left["a/2"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("at: [submit, result]", "at: result"),
        ("at: progress", "at: progress"),
        ("at: verb, verbs: cancel_task", "at: verb"),
        ("history: [{id: h, formerly: {event: started}}]", "history"),
        ("change: {metadata.x: 1}", "change"),
        ("revoked: stop", "revoked"),
    ],
)
def test_what_policies_cannot_do_with_task_files_is_refused(
    more, why, folder, monkeypatch, capsys
):
    policy = f"{{id: p, principle: x, severity: low, when: task.priority >= 0, {more}}}"
    (folder / "p.yaml").write_text(f"policies: [{policy}]\n")
    monkeypatch.setenv("TASKORCH_GOVERNANCE", "p.yaml")
    code, _, err = taskorch(capsys, *FRONT_ENDS["task files"])
    assert (code, f"policy p: {why}" in err) == (2, True)
    monkeypatch.delenv("TASKORCH_GOVERNANCE")
    (folder / "workspace.yaml").write_text(f"title: x\npolicies: [{policy}]\n")
    [problem] = workspace(folder)[0].lint()
    assert (problem.line, f"policy p: {why}" in problem.text) == (2, True)
    assert taskorch(capsys, *FRONT_ENDS["task files"])[0] == 2
    assert not (folder / "ran").exists()


def test_policies_hold_in_runs_that_a_service_begins(folder):
    settings = {"governance": str(folder / "p.yaml")}
    read = suite.load("s.yaml")
    runs = SuiteRuns(read, folder / "out", settings=settings)
    try:
        runs.start(RunRequest(read, "nightly"))
        eventually(lambda: runs.status()["status"] == "failed")
    finally:
        runs.stop(drain=False)
    assert "say ok" in runs.status()["error"]["message"]
    assert not (folder / "ran").exists()


def test_a_forecast_says_the_strictest_that_policies_say_before_a_start():
    rules = [Rule("r", "task.type", "equals", "x")]
    asks = Policy("asks", "x", "high", rules=rules, at="start")
    notes = Policy("notes", "x", "low", rules=rules, at="submit")
    denies = Policy("denies", "x", "critical", rules=rules, at="submit")
    task = Task.call(len, "abc")
    for policies, decision in [
        ([notes], "allow"),
        ([notes, asks], "ask"),
        ([asks, denies], "deny"),
    ]:
        verdict = ConstitutionalRuntime(policies).before_start(task)
        assert verdict is not None
        assert verdict.decision == decision
    late = Policy("late", "x", "critical", rules=rules, at="result")
    assert ConstitutionalRuntime([late]).before_start(task) is None
