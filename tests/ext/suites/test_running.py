"""Runs of suites: to the end, interrupted, and again what failed."""

import json
import signal
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, time

import pytest
from tests.api.tools import PATIENCE, Started, eventually
from tests.ext.notices.test_notifying import Hook
from tests.house.pids import is_alive

from taskorch import (
    InvalidTaskError,
    NotRunningError,
    ValidationFailedError,
)
from taskorch.ext.suites import _running, load
from taskorch.ext.suites._folder import RunFolder

#: Some run a suite several times, on a machine that may be slow.
pytestmark = pytest.mark.timeout(300)

#: Each task notes that it ran; what it does beside that, a file says.
SUITE = """\
templates:
  sh:
    command: [sh, -c, 'echo $0 >> ran; if [ -e "$0.sh" ]; then . "./$0.sh"; fi', "{id}"]
orchestrator:
  task_definitions:
    unit_tests: [{id: A, template: sh}, {id: B, template: sh}]
    slow_tests: [{id: C, template: sh, dependencies: [A]}, {id: D, template: sh}]
"""


@pytest.fixture
def hook():
    made = Hook()
    yield made
    made.close()


@pytest.fixture
def here(tmp_path):
    (tmp_path / "suite.yaml").write_text(SUITE)
    return tmp_path


def go(here, **options):
    return _running.run(load(here / "suite.yaml"), here / "out", **options)


def ran(here):
    path = here / "ran"
    return sorted(path.read_text().split()) if path.exists() else []


def states(done):
    return {
        task.id: task.status.removesuffix("_success").replace(
            "completed_failure", "failed"
        )
        for task in done.tasks
    }


#: More fail than a rate needs to count; one waits until that is an alert.
FAILING = """\
templates:
  bad: {command: ["false"]}
  waits: {command: [sh, -c, "until [ -e raised ]; do sleep 0.05; done"]}
  good: {command: ["true"]}
agent_limits: {max_agents: 2}
failure_handling: {max_retries: 0}
monitoring: {metrics_interval: 0.05}
alerts: {memory_exhaustion: "off"}
orchestrator:
  task_definitions:
    unit_tests:
      - {id: W, template: waits}
      - {id: L, template: good, dependencies: [W]}
"""


def test_tests_that_fail_hold_no_starts(tmp_path, hook):
    """The usual alerts are raised all the same, and the webhook is told."""
    bad = "".join(f"      - {{id: F{n}, template: bad}}\n" for n in range(12))
    told = f"human_notification_webhook: '{hook.url}', webhook_may_be_private: true"
    (tmp_path / "suite.yaml").write_text(f"recovery: {{{told}}}\n{FAILING}{bad}")
    raised, held = [], []

    def begun(orch, _suite):
        def note(event):
            raised.append((event.name, event.action))
            (tmp_path / "raised").touch()

        def end(event):
            held.append(event.reason)
            threading.Thread(target=orch.stop, kwargs={"drain": False}).start()

        orch.signals.alert_raised.connect(note)
        orch.signals.starts_held.connect(end)

    try:
        done = go(tmp_path, begun=begun, timeout=120)
    finally:
        assert held == []
    assert ("high_failure_rate", "") in raised
    messages = [json.loads(body) for _, body in hook.got]
    alerts = [each for each in messages if each["message_type"] == "alert"]
    assert "high_failure_rate" in [each["name"] for each in alerts]
    assert {each["run"] for each in alerts} == {str((tmp_path / "out").resolve())}
    assert len([each for each in messages if each["message_type"] == "failure"]) == 1
    assert states(done) == {f"F{n}": "failed" for n in range(12)} | {
        "W": "completed",
        "L": "completed",
    }


@pytest.mark.slow("four runs of a suite")
def test_what_failed_is_run_again_and_nothing_else(here):
    (here / "B.sh").write_text("exit 3")
    done = go(here)
    assert states(done) == {
        "A": "completed",
        "B": "failed",
        "C": "blocked",
        "D": "blocked",
    }
    again = go(here, failed=True)
    assert states(again)["B"] == "failed"
    (here / "B.sh").unlink()
    last = go(here, failed=True)
    assert last.passed
    assert ran(here) == list("ABBBCD")
    kept = json.loads((here / "out/artifacts/B_results.json").read_text())
    assert kept["exit_code"] == 0
    # Once more, there is nothing to do.
    assert go(here, failed=True).passed
    assert ran(here) == list("ABBBCD")


def process(here):
    code = (
        "from taskorch.ext.suites import _running, load\n"
        "_running.run(load('suite.yaml'), 'out')\n"
    )
    return Started([sys.executable, "-c", code], cwd=here)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        pytest.param(
            signal.SIGTERM, marks=pytest.mark.slow("the same, with another signal")
        ),
        pytest.param(
            signal.SIGINT, marks=pytest.mark.slow("the same, with another signal")
        ),
    ],
)
def test_an_interrupted_run_goes_on_where_it_was(number, here):
    (here / "B.sh").write_text("echo $$ > pid; sleep 600")
    first = process(here)
    try:
        done = here / "out/artifacts/A_results.json"
        pid = here / "pid"
        eventually(lambda: done.exists() and pid.exists() and pid.read_text())
        told = here / "out/logs/events.jsonl"
        eventually(lambda: told.exists() and "task_completed" in told.read_text())
    finally:
        first.send_signal(number)
        first.wait(PATIENCE)
    pid = int((here / "pid").read_text())
    eventually(lambda: not is_alive(pid))
    (here / "B.sh").unlink()
    assert go(here).passed
    assert ran(here) == list("ABBCD")
    messages = (here / "out/logs/messages.jsonl").read_text().splitlines()
    numbers = [json.loads(line)["message_id"] for line in messages]
    assert len(set(numbers)) == len(numbers)


def test_after_a_kill_messages_durations_and_the_timeline_go_on(here):
    (here / "B.sh").write_text("touch began; sleep 600")
    first = process(here)
    try:
        eventually((here / "began").exists)
    finally:
        first.kill()
        first.wait(PATIENCE)
    killed = time()
    eventually(lambda: time() - killed > 0.5)
    (here / "B.sh").unlink()
    done = go(here)
    # It ended with its process, and not when the next one found that out.
    assert min(bar.end for bar in done.slices if bar.task == "B") <= killed
    bars = [(bar.attempt, bar.outcome) for bar in done.slices if bar.task == "B"]
    assert bars == [(1, "retrying"), (2, "completed")]
    path = here / "out/logs/messages.jsonl"
    told = [json.loads(line) for line in path.read_text().splitlines()]
    given = [m["task_details"]["task_id"] for m in told if "task_details" in m]
    assert given.count("B") == 2
    (end,) = [
        m for m in told if m["message_type"] == "task_completion" if m["task_id"] == "B"
    ]
    before = min(bar.start for bar in done.slices if bar.task == "B")
    after = max(bar.end for bar in done.slices if bar.task == "B")
    assert end["execution_summary"]["duration_seconds"] == round(after - before, 3)


@pytest.mark.slow("waits for most of five seconds")
def test_after_a_kill_the_time_of_a_phase_goes_on(here):
    limit = 5
    (here / "B.sh").write_text("sleep 600")
    phases = f"phases: {{one: {{tests: unit_tests, timeout: {limit}}}, two: {{tests: slow_tests}}}}\n"
    (here / "suite.yaml").write_text(phases + SUITE)
    spent = here / "out/phases.json"

    def nearly_all():
        return json.loads(spent.read_text())["spent"]["one"] > limit - 1

    first = process(here)
    try:
        eventually(lambda: spent.exists() and nearly_all())
    finally:
        first.kill()
        first.wait(PATIENCE)
    done = go(here)
    assert done.over_time == ("one",)
    last = done.slices[-1]
    assert (last.task, last.attempt, last.outcome) == ("B", 2, "cancelled")
    assert last.end - last.start < limit
    assert not spent.exists()


def test_when_a_run_is_stopped_the_time_of_its_phase_is_noted(here):
    (here / "B.sh").write_text("sleep 600")
    phases = "phases: {one: {tests: unit_tests, timeout: 60}, two: {tests: slow_tests}}"
    (here / "suite.yaml").write_text(f"{phases}\n{SUITE}")
    path = here / "out/phases.json"

    def noted():
        return json.loads(path.read_text())["spent"]["one"] if path.exists() else 0.0

    begun = []
    with ThreadPoolExecutor() as threads:
        run = threads.submit(go, here, begun=lambda orch, _: begun.append(orch))
        # That is noted each second: until the next time, nobody knows of more.
        eventually(lambda: noted() > 0.9)
        before, since = noted(), monotonic()
        eventually(lambda: monotonic() - since > 0.5)
        begun[0].stop(drain=False)
        with pytest.raises(NotRunningError):
            run.result()
    assert noted() > before + 0.4


@pytest.mark.slow("waits for five seconds")
def test_a_phase_that_was_over_has_all_its_time_when_a_task_is_run_again(here):
    phases = "phases: {one: {tests: unit_tests, timeout: 8}, two: {tests: slow_tests}}"
    (here / "suite.yaml").write_text(f"{phases}\n{SUITE}")
    (here / "D.sh").write_text("touch second; until [ -e go ]; do sleep 0.05; done")
    begun = []
    with ThreadPoolExecutor() as threads:
        run = threads.submit(go, here, begun=lambda orch, _: begun.append(orch))
        since = monotonic()
        eventually((here / "second").exists)
        (here / "A.sh").write_text("sleep 4")
        eventually(lambda: monotonic() - since > 5)
        again = begun[0].rerun_task("suite/A")
        again.result()
        (here / "go").touch()
        assert run.result().over_time == ()


def test_a_task_ends_once_more_when_one_of_its_subtasks_is_run_again(here):
    parts = "{id: W, template: sh, subtasks: [P, Q]}, {id: D, template: sh}"
    text = SUITE.replace("{id: A, template: sh}, {id: B, template: sh}", parts)
    head = "failure_handling: {max_retries: 0}\n"
    (here / "suite.yaml").write_text(head + text.partition("    slow_tests:")[0])
    (here / "P.sh").write_text("[ -e tried ] || { touch tried; exit 3; }")
    (here / "D.sh").write_text("until [ -e go ]; do sleep 0.05; done")
    messages = RunFolder(here / "out").messages

    def ends():
        lines = messages.read_text().splitlines() if messages.exists() else []
        said = [json.loads(line) for line in lines]
        kinds = "task_completion", "W"
        return [
            each["final_status"]
            for each in said
            if (each["message_type"], each.get("task_id")) == kinds
        ]

    begun = []
    with ThreadPoolExecutor() as threads:
        run = threads.submit(go, here, begun=lambda orch, _: begun.append(orch))
        try:
            eventually(lambda: len(ends()) == 1)
            begun[0].rerun_task("suite/P").result(PATIENCE)
            eventually(lambda: len(ends()) == 2)
        finally:
            (here / "go").touch()
        assert run.result().passed
    assert ends() == ["failed", "success"]


def test_the_time_of_a_run_may_be_over_before_it_has_begun(here):
    (here / "B.sh").write_text("sleep 600")
    late = []
    done = go(here, timeout=0.001, late=late.append)
    assert late == ["the run took longer than its timeout_seconds, 0.001"]
    assert states(done)["B"] == "cancelled"


@pytest.mark.slow("kills a run")
def test_a_run_of_another_configuration_is_not_gone_on_with(here):
    (here / "B.sh").write_text("echo $$ > pid; sleep 600")
    first = process(here)
    try:
        eventually((here / "pid").exists)
    finally:
        first.kill()
        first.wait(PATIENCE)
    (here / "suite.yaml").write_text(SUITE.replace("echo $0", "echo -- $0"))
    with pytest.raises(InvalidTaskError, match=r"another configuration.*--fresh"):
        go(here)
    (here / "B.sh").unlink()
    assert go(here, fresh=True).passed


@pytest.mark.slow("three runs of a suite")
def test_what_all_runs_have_taught_stays_and_what_is_asked_anew_does_not(here):
    assert go(here).passed
    folder = RunFolder(here / "out")
    before = folder.history.read_bytes()
    folder.collected.write_text("{}")

    go(here)
    assert folder.collected.exists()
    go(here, fresh=True)
    assert not folder.collected.exists()
    assert json.loads(before).keys() == json.loads(folder.history.read_bytes()).keys()


def test_what_is_not_complete_is_not_run(here):
    (here / "suite.yaml").write_text(SUITE.replace("template: sh", "template: ssh"))
    with pytest.raises(ValidationFailedError, match="template 'ssh', of A, B, C, D"):
        go(here)
    (here / "suite.yaml").write_text("")
    with pytest.raises(ValidationFailedError, match="nothing to do"):
        go(here)
    assert not (here / "out").exists()


def test_when_the_time_of_a_phase_is_over_what_is_left_of_it_is_cancelled(here):
    (here / "B.sh").write_text("sleep 600")
    text = SUITE.replace("{id: A, template: sh}, ", "").replace("[A]", "[B]")
    phases = (
        "phases: {one: {tests: unit_tests, timeout: 1}, two: {tests: slow_tests}}\n"
    )
    (here / "suite.yaml").write_text(phases + text)
    done = go(here)
    assert done.over_time == ("one",)
    assert states(done) == {"B": "cancelled", "C": "blocked", "D": "blocked"}
    assert done.phases == {"one": False, "two": False}
    assert {task.because for task in done.tasks} == {(), ("B",)}
    assert "phase one took longer than its timeout of 1 s" in done.tasks[0].error
    # Its bar stands with those of its worker.
    (bar,) = done.slices
    assert (bar.task, bar.agent, bar.outcome) == ("B", done.tasks[0].agent, "cancelled")


def test_the_time_of_a_phase_is_that_of_tasks_that_are_run_again_too(here):
    phases = "phases: {one: {tests: unit_tests}, two: {tests: slow_tests}}\n"
    (here / "suite.yaml").write_text(phases + SUITE)
    (here / "B.sh").write_text("exit 3")
    assert not go(here).passed
    (here / "B.sh").write_text("sleep 600")
    limited = phases.replace("unit_tests", "unit_tests, timeout: 1")
    (here / "suite.yaml").write_text(limited + SUITE)
    done = go(here, failed=True)
    assert done.over_time == ("one",)
    assert states(done)["B"] == "cancelled"
    # What waits for it names it as the suite does.
    assert {task.because for task in done.tasks} == {(), ("B",)}


def test_whoever_waits_is_told_why_nothing_new_begins(here, caplog, monkeypatch):
    """The journal cannot be written: it waits until it can, and says both."""
    monkeypatch.setattr("taskorch.core.journal._file._PATIENCE", 0.02)
    (here / "B.sh").write_text("while ! [ -e go ]; do sleep 0.01; done")
    others = []

    def lock(event):
        if event.name == "A":
            other = sqlite3.connect(
                here / "out/journal.db", isolation_level=None, check_same_thread=False
            )
            other.execute("BEGIN IMMEDIATE")
            others.append(other)
            (here / "go").touch()

    def let_go():
        eventually(lambda: "nothing new begins until this is mended" in caplog.text)
        others[0].close()

    helper = threading.Thread(target=let_go)
    helper.start()
    done = go(here, tell=lock)
    helper.join()
    assert done.passed
    assert "journal.db cannot be written now: database is locked" in caplog.text
    assert "the journal can be written again: it goes on" in caplog.text
