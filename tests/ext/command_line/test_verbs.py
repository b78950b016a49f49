"""Commands that are made of the table of verbs: on a journal, and on a service."""

from __future__ import annotations

import json

import pytest

from taskorch import Task, TaskOrchestrator
from taskorch.api.workflows import Workflow
from taskorch.ext.command_line import main
from taskorch.model import Cache

PATIENCE = 60


def add(a, b):
    return a + b


def fail():
    msg = "no"
    raise ValueError(msg)


@pytest.fixture(params=["journal", "service"])
def place(request, tmp_path, monkeypatch):
    """What is asked, with a run, a question, a task that waits and a result."""
    path = str(tmp_path / "runs.db")
    orch = TaskOrchestrator(journal=path)
    orch.start()
    workflow = Workflow("night")
    first = workflow.task(add, 1, 2, id="first")
    workflow.task(add, first, 3, id="second", cache=Cache())
    orch.workflows.start(workflow, id="n1").result(PATIENCE)
    wait = Workflow("long")
    wait.add(Task.wait_for("never", id="held"))
    orch.workflows.start(wait, id="n2")
    orch.submit_task(Task.wait_for("go", id="wait"))
    orch.submit_task(Task.call(add, 1, 2, id="sum")).result(PATIENCE)
    orch.budget("release", tokens=100, eur=2)
    needs = {"tokens": 30}
    task = Task.call(add, 1, 2, resources=needs, budget="release", id="paid")
    orch.submit_task(task).result(PATIENCE)
    if request.param == "journal":
        orch.stop(drain=False)
        yield path
        return
    pytest.importorskip("starlette")
    with orch.serve(port=0) as server:
        monkeypatch.setenv("TASKORCH_TOKEN", server.token)
        yield server.url
    orch.stop(drain=False)


def said(capsys, *words, code=0):
    assert main([*words]) == code, capsys.readouterr()
    return capsys.readouterr().out.splitlines()[0]


def test_tasks_are_changed(place, capsys):
    assert said(capsys, "priority", place, "wait", "5") == (
        "wait was moved: it is blocked"
    )
    assert said(capsys, "reward", place, "sum", "0.5") == (
        "sum was rewarded: it is completed"
    )
    assert said(capsys, "change", place, "suspend", "--ids", "w*") == "wait"
    assert said(capsys, "resume", place, "wait") == "wait is blocked"
    assert said(capsys, "change", place, "suspend", "--ids", "x*") == (
        "There is no such task."
    )
    assert said(capsys, "cancel", place, "wait", "--reason", "enough of it") == (
        "wait is cancelled"
    )
    main(["explain", place, "wait"])
    assert "enough of it" in capsys.readouterr().out
    assert said(capsys, "expire", place, "3600") == "There is no such task."
    assert said(capsys, "forget", place) == "1 result is forgotten"
    assert said(capsys, "emit", place, "go", "--payload", "3", "--keep", "5") == (
        "go: 0 tasks go on"
    )


def test_an_act_on_runs_has_one_name(place, capsys):
    assert main(["runs", place, "pause", "n2"]) == 0
    assert main(["runs", place, "resume", "n2"]) == 0
    assert main(["runs", place, "cancel", "n2", "--yes", "--reason", "late"]) == 0
    main(["explain", place, "n2/held"])
    assert "late" in capsys.readouterr().out
    for act in ("cancel", "pause", "resume"):
        with pytest.raises(SystemExit):
            main([f"{act}-run", place, "n2"])
        assert f"taskorch runs JOURNAL {act} RUN" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["licence=3", '{"licence": 3}', "licence = 3"])
def test_a_pool_is_resized_by_name_and_amount(place, capsys, words):
    assert main(["resize", place, f"{words}"]) == 0
    assert capsys.readouterr().out == "licence: 3\n"


def test_what_is_no_amount_is_refused_with_the_way_to_write_it(place, capsys):
    with pytest.raises(SystemExit):
        main(["resize", place, "licence"])
    assert "NAME=VALUE" in capsys.readouterr().err


def test_a_pool_is_resized(place, capsys):
    assert main(["resize", place, '{"licence": 3}']) == 0
    assert capsys.readouterr().out == "licence: 3\n"
    assert main(["inspect", place]) == 0
    assert "licence" in capsys.readouterr().out
    assert main(["resize", place, '{"licence": -3}']) == 2
    assert "licence" in capsys.readouterr().err


def test_budgets_are_shown_and_raised(place, capsys):
    assert main(["budgets", place]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "release: ok",
        "  eur: 0 of 2 spent, 0 reserved, 2 left",
        "  tokens: 30 of 100 spent, 0 reserved, 70 left",
    ]
    assert main(["raise-budget", place, "release", '{"tokens": 200}']) == 0
    assert "30 of 200 spent, 0 reserved, 170 left" in capsys.readouterr().out
    (budget,) = json.loads(said(capsys, "budgets", place, "--json"))["budgets"]
    assert budget["left"] == {"tokens": 170, "eur": 2}


def test_starts_are_held(place, capsys):
    assert said(capsys, "hold", place, "repair", "--by", "ada") == (
        f"nothing new starts, until: taskorch release {place} --by ada"
    )
    assert said(capsys, "release", place, code=1) == "user held nothing back"
    assert said(capsys, "release", place, "--by", "ada") == "tasks start again"
    assert said(capsys, "escalations", place) == "No failure waits for a person."


@pytest.mark.needs("service")
def test_answers_are_json_if_it_is_asked_for(place, capsys):
    asked = json.loads(said(capsys, "change", place, "suspend", "--ids=w*", "--json"))
    assert asked == {"task_ids": ["wait"]}
    asked = json.loads(said(capsys, "priority", place, "wait", "7", "--json"))
    assert asked == {"task": "wait", "changed": True, "state": "suspended"}
    assert json.loads(said(capsys, "escalations", place, "--json")) == {
        "escalations": []
    }
    assert json.loads(said(capsys, "hold", place, "why", "--json")) == {"held": True}


@pytest.mark.slow("an orchestrator, or a service, for each refusal")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["priority", "x", "1"], "no task has the id 'x'"),
        (["reward", "sum", "2"], "a number from -1 to 1"),
        (["change", "set_priority"], "priority= and 'set_priority' go together"),
        (["reject", "n1", "--by", "ada"], "'n1' names no phase of a run"),
        (["raise-budget", "relase", '{"tokens": 1}'], "there are release"),
        (["raise-budget", "release", '{"tokens": 0}'], "name amounts above 0"),
        (["raise-budget", "release", "{}"], "name amounts"),
    ],
)
def test_what_is_refused_is_told(place, capsys, words, message):
    command, *rest = words
    assert main([command, place, *rest]) == 2
    assert message in capsys.readouterr().err
