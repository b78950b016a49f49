"""`taskorch serve`: an orchestrator of a module, and a journal, to look at."""

from __future__ import annotations

import json
import signal
import sys
import urllib.request

import pytest
from tests.cli.tools import started
from tests.integration.tools import PATIENCE, eventually

from taskorch import Task, TaskOrchestrator, cli

APP = """\
from taskorch import Task, TaskOrchestrator

def make():
    orch = TaskOrchestrator()
    orch.submit_task(Task.call(int, id="there"))
    return orch

orch = make()
number = 3
"""


def ask(page, path):
    address, token = page
    request = urllib.request.Request(address + path)
    request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


def page_of(process):
    """The address of the page, and the token."""
    lines = iter(process.stdout.readline, "")
    page = next(x for x in lines if x.startswith("page: ")).removeprefix("page: ")
    token = next(x for x in lines if x.startswith("token: "))
    return page.partition("/#code=")[0], token.removeprefix("token: ").strip()


@pytest.mark.parametrize("name", ["app", "app:orch", "app:make"])
def test_the_orchestrator_of_a_module_is_served(tmp_path, name):
    (tmp_path / "app.py").write_text(APP)
    with started("serve", "-m", name, "--port", "0", cwd=tmp_path) as process:
        try:
            page = page_of(process)
            eventually(lambda: ask(page, "/api/v1/tasks/there")["state"] == "completed")
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "gone_for_good:orch"], "no module 'gone_for_good'"),
        (["-m", "app_for_faults:number"], "is no orchestrator, and no function"),
        (["-m", "app_for_faults:nothing"], "is no orchestrator, and no function"),
        (["-m", ":orch"], "MODULE:NAME"),
        (["-m", "app_for_faults", "--output", "x"], "--output is for a suite"),
        (["-m", "app_for_faults", "--journal", "runs.db"], "serve one of these"),
        ([], "serve one of these"),
    ],
)
def test_what_cannot_be_served_is_refused(tmp_path, monkeypatch, capsys, words, said):
    (tmp_path / "app_for_faults.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    assert cli.main(["serve", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_journal_is_served_while_its_owner_runs(tmp_path):
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        orch.submit_task(Task.call(int, id="before")).result(PATIENCE)
        with started(
            "serve", "--journal", "runs.db", "--port", "0", cwd=tmp_path
        ) as process:
            try:
                page = page_of(process)
                assert ask(page, "/api/v1/board")["journal"] == "runs.db"
                orch.submit_task(Task.call(int, id="after")).result(PATIENCE)

                def completed():
                    said = ask(page, "/api/v1/board")["statistics"]
                    return said["state_machine"]["completed"]

                eventually(lambda: completed() == 2)
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()
