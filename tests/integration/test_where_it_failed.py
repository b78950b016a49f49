"""The line that failed, and what earlier attempts raised."""

import json

import pytest
from tests.integration.tools import PATIENCE

from taskorch import RetryPolicy, Task, TaskOrchestrator, Workflow, current_context
from taskorch.cli import main


def parse(text):
    attempt = current_context().attempt
    if attempt < 3:
        raise OSError(f"attempt {attempt}")
    return json.loads(text)


LINES = [f"{__file__}:{number} in parse" for number in (15, 16)]


def told(status):
    errors = status.earlier_errors
    return {
        number: (error.type, error.message, "attempt" in error.traceback)
        for number, error in errors.items()
    }


EARLIER = {
    number: ("OSError", f"task t raised OSError: attempt {number}", True)
    for number in (1, 2)
}


@pytest.mark.parametrize(
    ("journal", "executor"),
    [(None, "thread"), ("runs.db", "thread"), ("runs.db", "process")],
)
def test_errors_of_earlier_attempts_are_in_the_status(tmp_path, journal, executor):
    """With the line of each: in this life, and in the next, in the file as well."""
    policy = RetryPolicy(3, base=0)
    path = journal and tmp_path / journal
    with TaskOrchestrator(journal=path, executors={"process": 1}) as orch:
        call = Task.call(parse, "{", id="t", retry=policy, executor=executor)
        assert isinstance(orch.submit_task(call).exception(PATIENCE), ValueError)
        status = orch.get_task_status("t")
        assert (status.where, told(status)) == (LINES[1], EARLIER)
        assert f"The line that failed: {LINES[1]}." in str(orch.explain("t"))
    said = status.to_dict()
    assert said["error"]["where"] == LINES[1]
    assert [said["earlier_errors"][n]["where"] for n in "12"] == [LINES[0]] * 2
    if path:
        with TaskOrchestrator(journal=path, keep_finished=0) as orch:
            status = orch.get_task_status("t")
            assert (status.where, told(status)) == (LINES[1], EARLIER)


def test_a_call_without_lines_has_none(tmp_path):
    """What C code raises has no frame of the user's; frames of ours are not shown."""
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        orch.submit_task(Task.call(divmod, 1, 0, id="t")).exception(PATIENCE)
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        assert orch.get_task_status("t").where == ""


def test_commands_and_reports_name_the_line(tmp_path, capsys):
    path = tmp_path / "runs.db"
    flow = Workflow("w")
    flow.task(parse, "{", id="t", retry=RetryPolicy(3, base=0))
    with TaskOrchestrator(journal=path, durability="process") as orch:
        run = orch.workflows.start(flow, id="w")
        orch.wait(PATIENCE)
        assert f"(at {LINES[1]})" in str(run.report())
    trace = ["attempt 1:", "attempt 2:", "attempt 3:", "json.decoder.JSONDecodeError: "]
    for command in ("inspect", "explain"):
        main([command, str(path), "w/t"])
        said = capsys.readouterr().out
        assert LINES[1] in said
        assert "attempt 1:" not in said
        main([command, str(path), "w/t", "--traceback"])
        said = capsys.readouterr().out
        assert all(line in said for line in trace)
    main(["inspect", str(path), "w/t", "--traceback", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["error"]["where"] == LINES[1]
    assert "attempt 1:" in said["traceback"]


def test_a_run_names_the_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = "def bad():\n    raise OSError\n"
    flow = (
        "from taskorch import Workflow\n"
        + source
        + "wf = Workflow('w')\nwf.task(bad)\n"
    )
    (tmp_path / "flow.py").write_text(flow, encoding="utf-8")
    main(["run", "flow.py", "--traceback"])
    said = capsys.readouterr().out
    assert f"where   {tmp_path / 'flow.py'}:3 in bad" in said
    assert "Traceback (most recent call last):" in said
