"""The line that failed, and what earlier attempts raised."""

import json

from tests.api.tools import PATIENCE

from taskorch import RetryPolicy, TaskOrchestrator, Workflow, current_context
from taskorch.ext.command_line import main


def parse(text):
    attempt = current_context().attempt
    if attempt < 3:
        raise OSError(f"attempt {attempt}")
    return json.loads(text)


LINES = [f"{__file__}:{number} in parse" for number in (14, 15)]


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
