"""Starts that are held: kept, told everywhere, by the command line too."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys

import pytest
from tests.ext.command_line.tools import taskorch, told
from tests.ext.service.tools import Service

from taskorch import Task, TaskOrchestrator, Workflow
from taskorch.events import StartsHeld, StartsReleased
from taskorch.ext.views import JournalReader

FREEZE = "Starts are held by user: deploy freeze."
KILLED = """
import os, sys
from taskorch import Task, TaskOrchestrator

orch = TaskOrchestrator(journal=sys.argv[1])
orch.start()
orch.hold_starts("alert slow: 3 > 2", by="alert slow", lasts=False)
orch.submit_task(Task.call(len, "abc", id="a"))
# Once this returns, it is kept.
orch.hold_starts("deploy freeze")
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def killed(tmp_path):
    """A journal whose owner was killed while starts were held."""
    path = tmp_path / "runs.db"
    command = [sys.executable, "-c", KILLED, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert "Starts are held by user: deploy freeze." in done.stderr
    return path


def queue_of(orch):
    return next(each for each in orch.health().checks if each.component == "queue")


def test_a_hold_outlives_kill_9_and_is_told_everywhere(
    killed, capsys, caplog, monkeypatch
):
    said = taskorch(capsys, "explain", killed, "a")[1]
    assert "No orchestrator has its journal open" in said
    assert "deploy freeze" in said
    assert "alert slow" not in said

    with (
        caplog.at_level(logging.INFO, "taskorch"),
        TaskOrchestrator(journal=killed) as orch,
    ):
        assert f"{FREEZE} It was so in an earlier incarnation." in caplog.text
        assert orch.get_task_status("a").state == "queued"
        check = queue_of(orch)
        assert check.status == orch.health().status == "degraded"
        assert check.detail == f"1 queued, 0 running. {FREEZE}"
        assert orch.health().ready
        assert orch.get_stats().holds == (FREEZE,)

        # The journal, by somebody else: he says the same, and what ends it.
        said = taskorch(capsys, "explain", killed, "a")[1]
        assert FREEZE in said
        assert f"taskorch release {killed} --by user" in said
        assert FREEZE in taskorch(capsys, "inspect", killed)[1]
        with orch.serve(port=0) as server:
            service = Service(orch, server, server.token)
            monkeypatch.setenv("TASKORCH_TOKEN", service.token)
            url = service.server.url
            said = taskorch(capsys, "explain", url, "a")[1]
            assert FREEZE in said
            assert f"taskorch release {url} --by user" in said
            said = taskorch(capsys, "inspect", url)[1]
            assert f"{url}: a service, degraded" in said
            assert FREEZE in said
            page = service.get("/api/v1/board")
            assert page["statistics"]["holds"] == [FREEZE]
            assert service.get("/api/v1/metrics")["orchestrator_status"] == "degraded"
            assert taskorch(capsys, "release", url) == (0, "tasks start again\n", "")
            assert taskorch(capsys, "release", url)[0] == 1
        assert orch.handle("a").result(60) == 3
        assert queue_of(orch).status == "ok"

    events = [
        event
        for event in JournalReader(killed).happened()
        if isinstance(event, StartsHeld | StartsReleased)
    ]
    assert [(type(e).__name__, e.by) for e in events] == [
        ("StartsHeld", "alert slow"),
        ("StartsHeld", "user"),
        ("StartsReleased", "alert slow"),
        ("StartsReleased", "user"),
    ]
    assert events[2].reason == "the orchestrator has started anew"


def test_a_journal_that_nobody_uses_can_be_held_and_released(tmp_path, capsys):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path):
        pass
    code, said, _ = taskorch(capsys, "hold", path, "moving house", "--by", "Ann B")
    assert code == 0
    assert said == (
        f"nothing new starts, until: taskorch release {path} --by 'Ann B'\n"
    )
    with TaskOrchestrator(journal=path) as orch:
        assert orch.get_stats().holds == ("Starts are held by Ann B: moving house.",)
    assert taskorch(capsys, "release", path, "--by", "Ann B")[0] == 0
    with TaskOrchestrator(journal=path) as orch:
        assert orch.get_stats().holds == ()
        assert orch.submit(len, "abc").result(60) == 3


def test_a_snapshot_keeps_what_is_held(tmp_path):
    """
    The orderly end of an incarnation takes one, and the events before it are not read.
    """
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.hold_starts("no disk", by="ben", most=2)
        for _ in range(3):
            orch.submit(len, "abc").result(60)
    for _ in range(2):
        with TaskOrchestrator(journal=path) as orch:
            told_by = orch.get_stats().holds
            assert told_by == ("No more than 2 run at once, held by ben: no disk.",)


def test_what_bounds_starts_is_told_by_who_reads_the_journal(tmp_path, capsys):
    with TaskOrchestrator(journal=tmp_path / "j.db", concurrency=8) as orch:
        orch.hold_starts("memory is short", by="ann", most=1)
        blocker = tmp_path / "go"
        wait = ["sh", "-c", f"until test -e {blocker}; do sleep 0.05; done"]
        first = orch.submit_task(Task.program(wait, id="first"))
        second = orch.submit_task(Task.call(len, "abc", id="second"))
        while orch.get_task_status("first").state != "running":
            orch.wait(0.01)
        said = taskorch(capsys, "explain", tmp_path / "j.db", "second")[1]
        assert "No more than 1 run at once, held by ann: memory is short." in said
        blocker.touch()
        first.result(60)
        assert second.result(60) == 3


def test_a_service_is_asked_as_its_journal_is(tmp_path, capsys, monkeypatch):
    """`inspect` and `explain`: the same words of a journal, and of who has it."""

    path = tmp_path / "j.db"
    with TaskOrchestrator(journal=path) as orch, orch.serve(port=0) as server:
        monkeypatch.setenv("TASKORCH_TOKEN", server.token)
        url = server.url
        for n in range(3):
            task = Task.call(len, "abc", id=f"good/{n}", metadata={"n": n})
            orch.submit_task(task).result(60)
        with pytest.raises(ValueError, match="no way"):
            orch.submit_task(Task.call(broken, id="bad")).result(60)
        orch.submit_task(Task.call(len, "x", id="after", after=["bad"]))
        for words in (
            ["explain", "bad"],
            ["explain", "after"],
            ["explain"],
            ["inspect", "good/1"],
            ["inspect", "bad"],
            ["inspect", "--state", "failed"],
            ["inspect", "--state", "blocked"],
            ["inspect", "--tasks", "--limit", "2"],
            ["inspect", "--id", "good/*", "--json"],
        ):
            verb, *rest = words
            mine = taskorch(capsys, verb, path, *rest)
            theirs = taskorch(capsys, verb, url, *rest)
            expected = mine[1].replace(str(path), url)
            assert (theirs[0], theirs[1]) == (mine[0], expected), words
        said = taskorch(capsys, "inspect", url, "--state", "blocked")[1]
        assert said.endswith("  bad did not complete\n")
        said = taskorch(capsys, "inspect", url, "bad", "--traceback")[1]
        assert '    raise ValueError("no way")\nValueError: no way\n' in said
        assert "  error      ValueError: no way\n" in said
        (mine,) = told(taskorch(capsys, "inspect", path, "bad", "--json")[1])
        (theirs,) = told(taskorch(capsys, "inspect", url, "bad", "--json")[1])
        names = [event["event"] for event in mine["events"]]
        assert [event["event"] for event in theirs["events"]] == names
        code, _, said = taskorch(capsys, "inspect", url, "--over-time", "1h")
        assert code == 2
        assert "--over-time reads a journal" in said
        said = taskorch(capsys, "inspect", url, "bad", "--follow")[1]
        assert said.startswith("bad is failed")
        assert taskorch(capsys, "inspect", url, "nobody")[0] == 2
        monkeypatch.setenv("TASKORCH_TOKEN", "another one, of 24 letters")
        said = taskorch(capsys, "inspect", url)[2]
        assert f"export TASKORCH_TOKEN=…, with the token of {url}" in said
    assert "cannot be reached" in taskorch(capsys, "inspect", url)[2]
    assert taskorch(capsys, "explain", url, "bad")[0] != 0


def test_a_list_after_a_restart_has_the_cause_alone(tmp_path, capsys, monkeypatch):
    """
    Not the earlier incarnation, which stands beside it, nor what a program could call.
    """
    path = tmp_path / "j.db"
    parts = Workflow("parts")
    parts.map(broken_part, [1, 2], id="map")
    with TaskOrchestrator(journal=path) as orch:
        orch.workflows.start(parts, id="run")
        orch.wait(60)
    with TaskOrchestrator(journal=path) as orch, orch.serve(port=0) as server:
        monkeypatch.setenv("TASKORCH_TOKEN", server.token)
        for place in (path, server.url):
            said = taskorch(capsys, "inspect", place, "--state", "failed")[1]
            # What lies between two columns is as wide as the longest time is.
            causes = {
                row.split("  ")[0]: row.split("  ")[-1].strip()
                for row in said.splitlines()
            }
            assert causes["run/map/0"] == "ValueError: no part 1"
            assert "2 of its 2 calls did not: " in causes["run/map"]
            assert "orch." not in said
            assert "earlier incarnation" not in said


def broken_part(number):
    msg = f"no part {number}"
    raise ValueError(msg)


def broken():
    raise ValueError("no way")
