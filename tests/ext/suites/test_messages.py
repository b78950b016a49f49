"""The messages of a run: exactly the fields that were agreed on, and kept as long."""

import json
import os
import re
from pathlib import Path

import pytest

from taskorch import TaskState, ValidationFailedError
from taskorch.ext.suites import _messages, _words, load
from taskorch.ext.suites._folder import JsonLines, RunFolder
from taskorch.ext.suites._running import run

#: The messages as the team that uses them has written them down.
EXAMPLES = json.loads((Path(__file__).parent / "data/messages.json").read_text())


def paths(value, path=()):
    """All places in a message where something could be missing."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield (*path, name)
            yield from paths(item, (*path, name))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from paths(value[0], (*path, 0))


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: m["message_type"])
def test_without_any_of_its_fields_a_message_is_none(message):
    """But a criterion that is not asked for."""
    for path in paths(message):
        if "success_criteria" in path[:-1]:
            continue
        copy = json.loads(json.dumps(message))
        inner = copy
        for name in path[:-1]:
            inner = inner[name]
        del inner[path[-1]]
        with pytest.raises(ValidationFailedError):
            _messages.check_message(copy)
        inner["something_else"] = 1
        with pytest.raises(ValidationFailedError):
            _messages.check_message(copy)


@pytest.mark.parametrize(
    ("message", "part"),
    [
        (None, "message_type is none of task_assignment, progress_update"),
        ({"message_type": "hello"}, "message_type is none of"),
        ({"message_type": ["task_assignment"]}, "message_type is none of"),
        ({**EXAMPLES[1], "status": "sleeping"}, "status: 'sleeping'"),
        ({**EXAMPLES[3], "recommended_actions": []}, "recommended_actions"),
        ({**EXAMPLES[1], "task_id": "../../etc"}, "task_id"),
        ({**EXAMPLES[1], "timestamp": "yesterday"}, "timestamp"),
    ],
)
def test_what_is_no_message(message, part):
    with pytest.raises(ValidationFailedError, match=part):
        _messages.check_message(message)


def test_all_that_is_wrong_is_named():
    message = {**EXAMPLES[1], "status": "sleeping", "agent_id": 7}
    with pytest.raises(ValidationFailedError) as caught:
        _messages.check_message(message)
    assert [path for path, _ in caught.value.findings] == ["agent_id", "status"]


# -- what a run tells --------------------------------------------------------------

SUITE = """\
templates:
  good: {pytest: [-q], coverage: [pkg], arguments: {A1: [test_a.py], A2: [test_b.py]}}
  sh:
    command: [sh, -c, "{arguments}"]
    # B ends once it was told that it can begin: what is told is how things stand then.
    arguments: {B: ["until grep -q can.proceed */logs/messages.jsonl; do sleep 0.02; done"],
                C: [exit 3], D: [""]}
failure_handling: {max_retries: 1, escalation_threshold: 2}
agent_limits: {max_agents: 1}
orchestrator:
  name: told
  task_definitions:
    unit_tests:
      - {id: A1, template: good, priority: high, success_criteria: {pass_rate: 0.5},
         resources: {memory_mb: 10, cpu_cores: 0.1, disk_mb: 3, timeout: 60}}
      - {id: A2, template: good}
      - {id: B, template: sh, dependencies: [A1]}
      - {id: C, template: sh, dependencies: [A1, B]}
      - {id: D, template: sh, dependencies: [C]}
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    here = tmp_path_factory.mktemp("told")
    (here / "suite.yaml").write_text(SUITE)
    (here / "pytest.ini").write_text("[pytest]\n")
    (here / "pkg.py").write_text("x = 1\n")
    text = "import pkg\ndef test_one(): pass\ndef test_two():\n    raise ValueError('no')\n"
    (here / "test_a.py").write_text(text)
    (here / "test_b.py").write_text("def test_three(): pass\n")
    folder = RunFolder(here / "out")
    seen = []
    done = run(load(here / "suite.yaml"), folder.path, tell=seen.append)
    log = JsonLines(folder.messages, 1 << 30, 1)
    return done, folder, list(log.read()), seen


def of(told, kind, task):
    return [
        message
        for message in told[2]
        if message["message_type"] == kind
        and (message.get("task_id") or message["task_details"]["task_id"]) == task
    ]


def test_all_that_a_run_tells_is_valid(told):
    for message in told[2]:
        _messages.check_message(message)
    numbers = [message["message_id"] for message in told[2]]
    assert numbers == [f"msg_{n:03}" for n in range(1, len(numbers) + 1)]
    assert len(of(told, "task_assignment", "C")) == 2


def test_an_assignment(told):
    (message,) = of(told, "task_assignment", "A1")
    assert message["orchestrator_id"] == "told"
    assert message["target_agent"].startswith("agent_00")
    assert message["task_details"] == {
        "task_id": "A1",
        "task_type": "unit_test",
        "role": "Unit Test Specialist",
        "priority": "high",
        "timeout_seconds": 60,
        "resources": {"memory_mb": 10, "cpu_cores": 0.1, "disk_mb": 3},
        "execution_template": "good",
        "dependencies": [],
        "success_criteria": {"min_pass_rate": 0.5},
    }


def test_progress(told):
    last = of(told, "progress_update", "A1")[-1]
    assert last["progress"]["percentage"] == 100
    assert last["progress"]["tests_completed"] == 2
    assert last["progress"]["current_test"] == "test_a.py::test_two"
    assert last["resources"]["memory_usage_mb"] > 1


def test_a_completion_with_what_can_go_on(told):
    (message,) = of(told, "task_completion", "A1")
    assert message["final_status"] == "success"
    assert message["execution_summary"]["exit_code"] == 1
    assert message["test_results"] == {
        "total_tests": 2,
        "passed": 1,
        "failed": 1,
        "pass_rate": 0.5,
        "coverage_percentage": 100.0,
    }
    assert message["artifacts"] == [
        "A1_results.json",
        "A1_coverage.json",
        "A1_agent_report.json",
    ]
    for name in message["artifacts"]:
        assert (told[1].artifacts / name).exists()
    # At that moment.
    assert message["next_actions"] == [
        "Task B can proceed",
        "Task C can proceed when B complete",
    ]


def test_a_failure_is_told_with_each_attempt_and_what_to_do(told):
    first, last = of(told, "failure_notification", "C")
    assert first["failure_details"]["error_type"] == "unknown"
    assert not first["escalation_required"]
    assert first["recommended_actions"] == ["Wait for the next attempt, in 0 s"]
    assert last["escalation_required"]
    assert [a["attempt"] for a in last["recovery_attempts"]] == [2]
    assert last["recommended_actions"]
    (message,) = of(told, "task_completion", "C")
    assert message["final_status"] == "failed"
    assert message["next_actions"] == ["Task D cannot proceed: C did not succeed"]


def test_the_lines_of_the_log_have_the_agreed_names(told):
    lines = [json.loads(line) for line in told[1].events.read_text().splitlines()]
    began = next(line for line in lines if line["event"] == "phase_started")
    assert list(began) == ["event", "phase", "tasks", "timestamp"]
    assigned = next(line for line in lines if line.get("task_id") == "A1")
    assert list(assigned) == [
        *("event", "task_id", "agent_id", "memory_mb", "cpu_cores", "timestamp")
    ]
    assert assigned["event"] == "task_assigned"
    completed = next(line for line in lines if line["event"] == "task_completed")
    assert list(completed) == [
        *("event", "task_id", "agent_id", "duration_seconds", "status"),
        *("test_pass_rate", "coverage", "timestamp"),
    ]


def test_the_run_itself_says_what_ended(told):
    done, _, _, seen = told
    assert not done.passed
    assert {(e.name, e.state) for e in seen} == {
        *(("A1", "completed"), ("A2", "completed"), ("B", "completed")),
        *(("C", "retrying"), ("C", "failed")),
    }
    assert done.suite == "told"


# -- the log -----------------------------------------------------------------------


def test_a_log_is_put_aside_when_it_is_large(tmp_path):
    log = JsonLines(tmp_path / "log.jsonl", 100, 7)
    for n in range(30):
        log.write({"number": n, "text": "xxxxx"})
    assert [line["number"] for line in log.read()] == list(range(30))
    assert len(log.put_aside()) == 9
    assert all(path.stat().st_size <= 100 for path in log.put_aside())


def test_a_line_that_is_too_large_stands_alone(tmp_path):
    log = JsonLines(tmp_path / "log.jsonl", 10, 7)
    for n in range(3):
        log.write({"number": n, "text": "x" * 100})
    assert [line["number"] for line in log.read()] == [0, 1, 2]


def test_what_was_put_aside_long_ago_is_forgotten(tmp_path):
    log = JsonLines(tmp_path / "log.jsonl", 10, 7)
    log.write({"number": 0})
    log.write({"number": 1})
    (old,) = log.put_aside()
    eight_days_ago = old.stat().st_mtime - 8 * 86_400
    os.utime(old, (eight_days_ago, eight_days_ago))
    log.write({"number": 2})
    assert [line["number"] for line in log.read()] == [1, 2]


def test_a_line_that_a_crash_cut_off_harms_no_other(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"number": 0}\n{"numb')
    log = JsonLines(path, 1000, 7)
    log.write({"number": 1})
    log.write({"number": 2})
    assert [line["number"] for line in log.read()] == [0, 1, 2]


def test_the_table_of_words_is_that_of_the_reports():
    """Of states: those of the API beside those of reports, and of messages."""
    page = Path(__file__).parents[3] / "docs" / "words" / "test-suites.md"
    rows = [
        [re.findall(r"`(\w+)`", cell) for cell in line.split("|")[1:4]]
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.match(r"\| `\w+`", line) and line.count("|") == 4
    ]
    told = {
        TaskState(state): (report[0], final[0] if final else None)
        for states, report, final in rows
        if report and set(states) <= {*TaskState}
        for state in states
    }
    assert told == {
        state: (_words.STATUS[state], _words.FINAL_STATUS.get(state))
        for state in TaskState
    }
