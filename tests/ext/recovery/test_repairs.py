"""Programs that mend what a task runs in, as suites and task files name them."""

import json
import re
import threading

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.house.pids import is_alive

from taskorch import TaskOrchestrator, Workflow
from taskorch.errors import ValidationFailedError
from taskorch.ext.command_line import main
from taskorch.ext.suites import load, run
from taskorch.ext.task_files import Workspace

#: A test is one of pytest, or a command that does as pytest does, and starts at once.
PYTEST = '{pytest: [-q, -p, "no:cacheprovider", "test_{id}.py"]}'
COMMAND = '{command: [sh, "test_{id}.sh"]}'
SUITE = """\
templates:
  p: {how}
recovery: {{max_retries: 0, repairs: {repairs}}}
orchestrator: {{task_definitions: {{unit: [{tasks}]}}}}
"""


def suite_in(here, repairs, *names, how=COMMAND):
    for name in names:
        (here / f"test_{name}.py").write_text(f"def test_it(): import made_{name}\n")
        said = f"ModuleNotFoundError: No module named 'made_{name}'"
        (here / f"test_{name}.sh").write_text(
            f'test -e made_{name}.py || {{ echo "{said}" >&2; exit 1; }}\n'
        )
    tasks = ", ".join(f"{{id: {name}, template: p}}" for name in names)
    (here / "pytest.ini").write_text("[pytest]\n")
    (here / "suite.yaml").write_text(
        SUITE.format(how=how, repairs=repairs, tasks=tasks)
    )
    return load(here / "suite.yaml")


def test_a_suite_mends_what_its_tests_run_in_inside_the_attempt(tmp_path):
    """What is not mended fails as before, and messages say what was tried."""
    install = "'echo x >> installs; touch made_one.py made_two.py'"
    suite = suite_in(
        tmp_path, f"{{import: [sh, -c, {install}]}}", "one", "two", "three"
    )
    report = run(suite, tmp_path / "out")
    tasks = {task.id: task for task in report.tasks}
    passed = {name: task.has_passed for name, task in tasks.items()}
    assert passed == {"one": True, "two": True, "three": False}
    assert all(task.attempts == 1 for task in report.tasks)
    # Once in each attempt that fails so, in the folder of the tests.
    installs = len((tmp_path / "installs").read_text().split())
    assert 2 <= installs <= 3
    lines = (tmp_path / "out/logs/messages.jsonl").read_text().splitlines()
    (told,) = [
        message["recovery_attempts"]
        for message in map(json.loads, lines)
        if message["message_type"] == "failure_notification"
    ]
    assert [(each["attempt"], each["result"]) for each in told] == [(1, "failed")]
    assert told[0]["action"].startswith("sh -c echo x >> installs")


def test_a_repair_that_helps_is_told_everywhere_and_the_first_log_is_kept(
    tmp_path, caplog, capsys
):
    """The screen is that of the command; the rest are files, and names of Python."""
    repairs = "{import_error: [sh, -c, 'echo installing; touch made_one.py']}"
    suite_in(tmp_path, repairs, "one", how=PYTEST)
    config, out = str(tmp_path / "suite.yaml"), tmp_path / "out"
    assert main(["suite", "run", config, "--output", str(out)]) == 0
    said = r"one: attempt 1 failed \(import_error\), and ran again after sh -c echo"
    assert re.search(f"repaired:\n  {said}", capsys.readouterr().out)
    assert re.search("taskorch: task suite/" + said, caplog.text)
    report = json.loads((out / "report.json").read_text())
    (text,) = report["tasks"][0]["repairs"]
    assert "No module named 'made_one'" in text
    for kind in ("md", "html"):
        assert "ran again after" in (out / f"report.{kind}").read_text()
    logs = out / "logs"
    messages = map(json.loads, (logs / "messages.jsonl").read_text().splitlines())
    (told,) = [m for m in messages if m["message_type"] == "task_completion"]
    (attempt,) = told["recovery_attempts"]
    assert (attempt["attempt"], attempt["result"]) == (1, "success")
    assert attempt["action"].startswith("sh -c echo installing")
    events = map(json.loads, (logs / "events.jsonl").read_text().splitlines())
    (event,) = [e for e in events if e["event"] == "recovery_attempted"]
    assert (event["task_id"], event["kind"]) == ("one", "import_error")
    assert (event["result"], "made_one" in event["message"]) == ("retry", True)
    # What failed first, and then what mended it.
    kept = (logs / "one.1.log.repair").read_text()
    assert kept.index("No module named 'made_one'") < kept.index("\ninstalling\n")
    assert "1 passed" in (logs / "one.1.log").read_text()


def test_a_repair_is_counted_and_stands_in_the_report_of_its_run():
    mended = []

    def work():
        if not mended:
            raise ModuleNotFoundError("x")

    flow = Workflow("w")
    flow.task(work, id="a")
    with TaskOrchestrator() as orch:
        orch.recover("import")(lambda *_: mended.append(1) or "retry")
        run_of_it = orch.workflows.start(flow)
        run_of_it.result(PATIENCE)
        assert orch.get_stats().retries.repaired == 1
        assert orch.metrics()["repaired_attempts_count"] == 1
        report = run_of_it.report()
        (tried,) = orch.get_task_status(report.tasks[0].task_id).recovery_attempts
        assert report.tasks[0].repairs == (str(tried),)
        assert "What was repaired:\n  a: attempt 1 failed (import_error)" in str(report)
        assert "## What was repaired" in report.to_markdown()
        assert tried.message == "ModuleNotFoundError: x"


@pytest.mark.parametrize(("says", "told"), [("no network", ": no network"), ("", "")])
def test_a_repair_that_fails_or_is_not_there_changes_nothing(tmp_path, says, told):
    """The attempt fails with its own error; who looks is told why it was not mended."""
    made = f"[sh, -c, 'echo {says} >&2; exit 3']"
    suite = suite_in(tmp_path, f"{{import_error: {made}}}", "one")
    attempts = []

    def begun(orch, _suite):
        orch.signals.recovery_attempted.connect(attempts.append)

    (task,) = run(suite, tmp_path / "out", begun=begun).tasks
    assert not task.has_passed
    assert "made_one" in task.error
    (event,) = attempts
    assert event.result == "failed"
    assert event.message.endswith(f"exited with 3{told}")


def test_a_repair_before_the_next_attempt_that_fails_is_not_told_as_its_success(
    tmp_path,
):
    """The next attempt passes by itself."""
    suite_in(tmp_path, "{}", "one")
    text = (tmp_path / "suite.yaml").read_text().replace("retries: 0", "retries: 1")
    (tmp_path / "suite.yaml").write_text(text)

    def begun(orch, _suite):
        @orch.recover("import", level=2)
        def reset(*_):
            (tmp_path / "made_one.py").touch()
            raise OSError

    suite = load(tmp_path / "suite.yaml")
    (task,) = run(suite, tmp_path / "out", begun=begun).tasks
    assert (task.has_passed, task.attempts) == (True, 2)
    lines = (tmp_path / "out/logs/messages.jsonl").read_text().splitlines()
    (told,) = [
        [(each["action"], each["result"]) for each in message["recovery_attempts"]]
        for message in map(json.loads, lines)
        if message["message_type"] == "task_completion"
    ]
    assert told == [("reset", "failed"), ("automatic_retry", "success")]


def test_a_repair_ends_with_its_attempt(tmp_path):
    """With all that it has started: one that hangs is ended when its task is."""
    hangs = "[sh, -c, 'sleep 600 & echo $! > pid.new; mv pid.new pid; wait']"
    suite = suite_in(tmp_path, f"{{import_error: {hangs}}}", "one")
    orchestrators = []
    thread = threading.Thread(
        target=run,
        args=(suite, tmp_path / "out"),
        kwargs={"begun": lambda orch, _: orchestrators.append(orch)},
    )
    thread.start()
    eventually((tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    assert "recovers it from import_error" in str(orchestrators[0].explain("suite/one"))
    orchestrators[0].cancel_task("suite/one")
    thread.join()
    eventually(lambda: not is_alive(pid))


@pytest.mark.parametrize(
    ("repairs", "said"),
    [
        ("{import_eror: [x]}", "import_eror"),
        ("{import_error: make}", "a list, a program and its arguments, is needed"),
        ("{import_error: []}", "a list, a program and its arguments, is needed"),
    ],
)
def test_what_is_no_repair_is_refused(tmp_path, repairs, said):
    with pytest.raises(ValidationFailedError, match=said):
        suite_in(tmp_path, repairs, "one")
    (tmp_path / "workspace.yaml").write_text(f"recovery: {{repairs: {repairs}}}\n")
    faults = "\n".join(map(str, Workspace(tmp_path, tell=None).lint()))
    assert said in faults


def test_a_task_file_is_mended_too(tmp_path):
    """Inside its run, which counts as one; another exit code stays what it is."""
    (tmp_path / "tasks").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"tasks/{name}.md").write_text("---\noutputs: []\n---\nDo it.\n")
    (tmp_path / "workspace.yaml").write_text(
        "recovery: {repairs: {import_error: [sh, -c, 'echo x >> installs']}}\n"
    )
    (tmp_path / "agent.sh").write_text(
        "echo $TASK_ID >> ran\n"
        'test "$TASK_ID" = a && test -e installs && exit 0\n'
        'test "$TASK_ID" = b && exit 3\n'
        "echo \"ModuleNotFoundError: No module named 'x'\" >&2; exit 1\n"
    )
    told = []
    with Workspace(tmp_path, agent="sh agent.sh", tell=told.append) as workspace:
        report = workspace.main_loop()
    assert report.completed == ("a",)
    status = json.loads((tmp_path / "workspace/status/a.json").read_text())
    (repair,) = status["repairs"]
    assert "(import_error), and ran again after sh -c echo" in repair
    assert f"Repair: a: {repair}" in told
    log = tmp_path / "workspace/logs/a.log"
    assert f"Repair: a: {repair}\n" in log.read_text()
    assert "No module named 'x'" in (log.parent / "a.log.repair").read_text()
    assert sorted((tmp_path / "ran").read_text().split()) == ["a", "a", "b"]
    assert (tmp_path / "installs").read_text().split() == ["x"]
    status = json.loads((tmp_path / "workspace/status/b.json").read_text())
    assert (status["error"], status["exit_code"]) == ("Exit code 3", 3)


def test_the_logs_and_repairs_of_all_tries_of_a_task_file_are_kept(tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/a.md").write_text("---\noutputs: []\nretries: 1\n---\nDo it.\n")
    (tmp_path / "workspace.yaml").write_text(
        "recovery: {repairs: {import_error: [touch, mended]}}\n"
    )
    (tmp_path / "agent.sh").write_text(
        "echo $$; test -e x && exit 0; test -e mended && touch x && exit 3\n"
        "echo \"ModuleNotFoundError: No module named 'x'\" >&2; exit 1\n"
    )
    with Workspace(tmp_path, agent="sh agent.sh", tell=None) as workspace:
        assert workspace.main_loop().completed == ("a",)
    logs = tmp_path / "workspace/logs"
    texts = [(logs / name).read_text().split()[0] for name in ("a.log.1", "a.log")]
    assert len({*texts}) == 2
    status = json.loads((tmp_path / "workspace/status/a.json").read_text())
    assert [each.partition(":")[0] for each in status["repairs"]] == [
        "attempt 1 failed (import_error), and ran again after touch mended"
    ]
