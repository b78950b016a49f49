"""What the commands take from the configuration, and what `doctor` says of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.cli.tools import forget, taskorch, told

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


@pytest.mark.parametrize("command", ["run", "simulate"])
def test_what_is_wrong_ends_a_command_before_anything_is_run(command, capsys):
    write(f"concurrency = '{SECRET}'")
    code, out, err = run(capsys, command=command)
    assert (code, out) == (2, "")
    assert err.startswith("taskorch: taskorch.toml:1: concurrency is a whole number")
    assert SECRET not in err


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
