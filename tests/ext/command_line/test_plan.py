"""`taskorch plan`: a request, a plan, and what is wrong with them."""

from __future__ import annotations

import json
import sys

import pytest

from taskorch.ext import command_line as cli
from taskorch.ext.planner import plan_schema

DOMAIN = """
from taskorch.ext.planner import Domain

release = Domain("release")


def do(what):
    return what


@release.operator(duration=30, run=do)
def build(state, part):
    return state.set(("built", part), True)


@release.operator(duration=5, run=do)
def publish(state, parts):
    return state.set("out", True) if all(state.get(("built", p)) for p in parts) else None


@release.method("ship")
def ship(state, parts):
    return [*(("build", part) for part in parts), ("publish", parts)]


@release.method("test run")
def test_run(state):
    return [("build", "all")]
"""


def main(words):
    # Each command is a process of its own, in which nothing was imported yet.
    sys.modules.pop("planned", None)
    try:
        return cli.main(words)
    finally:
        sys.modules.pop("planned", None)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "planned.py").write_text(DOMAIN)
    request = {"id": "r1", "type": "ship", "context": {"args": [["a", "b"]]}}
    (tmp_path / "request.json").write_text(json.dumps(request))
    return tmp_path


def test_a_request_is_planned_and_the_plan_is_read_again(folder, capsys):
    words = "plan planned.py request.json --optimize 0.1s --aim makespan --aim peak=0.1"
    words += " --validate --output p.json"
    assert main(words.split()) == 0
    said = capsys.readouterr().out
    assert "Plan r1: 3 tasks, 35 s" in said
    assert "The plan holds." in said

    assert (
        main(["plan", "p.json", "--functions", "planned", "--validate", "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["validation"]["ok"]
    assert found["plan"]["estimatedDuration"] == 35
    assert [d["needs"] for d in found["plan"]["dependencies"]] == ["build-a", "build-b"]


def test_words_are_planned(folder, capsys):
    assert main(["plan", "planned.py", "do a test run within 2 hours"]) == 0
    assert "deadline" not in capsys.readouterr().err
    assert main(["plan", "planned.py", "a test run within 2 seconds"]) == 2
    assert "the deadline of 2 s cannot hold" in capsys.readouterr().err


def test_a_plan_that_does_not_hold_is_told_by_the_exit_code(folder, capsys):
    request = {
        "id": "r",
        "type": "ship",
        "context": {"args": [["a"]]},
        "requirements": ["x"],
    }
    (folder / "request.json").write_text(json.dumps(request))
    assert main(["plan", "planned.py", "request.json", "--validate"]) == 0
    assert "its requirements do nothing" in capsys.readouterr().out
    request = {
        "id": "r",
        "type": "ship",
        "deadline": 34.9,
        "context": {"args": [["a", "b"]]},
    }
    (folder / "request.json").write_text(json.dumps(request))
    assert main(["plan", "planned.py", "request.json"]) == 2
    capsys.readouterr()
    del request["deadline"]
    request["constraints"] = [{"kind": "deadline", "seconds": 36}]
    (folder / "request.json").write_text(json.dumps(request))
    assert main(["plan", "planned.py", "request.json", "--concurrency", "1"]) == 2
    assert "the earliest end that was found is 65 s" in capsys.readouterr().err
    assert main(["plan", "planned.py", "request.json", "--output", "plan.json"]) == 0
    words = "plan plan.json --functions planned --validate --concurrency 1"
    assert main(words.split()) == 1
    assert "it takes 65 s, and misses the deadline of 36 s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan", "planned.py"], "defines 0 requests"),
        (["plan", "planned.py", "nothing"], "names none of the types"),
        (["plan", "request.json", "x"], "name one file"),
        (["plan", "none.json"], "No such file"),
        (["plan", "planned.py", "ship", "--aim", "cost"], "--optimize 1s"),
        (["plan", "request.json"], "nobody knows how to do 'ship'"),
    ],
)
def test_what_cannot_be_planned_is_said(folder, capsys, words, said):
    assert main(words) == 2
    assert said.lower() in capsys.readouterr().err.lower()


def test_the_formats_are_published(capsys):
    assert main(["plan", "schema:plan"]) == 0
    assert json.loads(capsys.readouterr().out) == plan_schema()
    assert main(["plan", "schema:agent"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "AgentInstance"
    assert main(["plan", "schema:workflow"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "WorkflowInstance"
