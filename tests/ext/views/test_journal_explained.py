"""What is said of a journal that nobody has open is true: of no worker and no slot."""

from __future__ import annotations

import re
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.command_line.tools import taskorch
from tests.worlds.faults.tools import Process, say

from taskorch import Task, TaskOrchestrator
from taskorch.ext.views import JournalReader

NOBODY = "No orchestrator has its journal open"
#: Words of what only an orchestrator that is there can say.
OF_OWNERS = re.compile(
    r"slots?\b|concurrency|worker \w+ (is lost|runs|gets)|No worker|sign of life|"
    r"must complete; it runs|is running on|It holds|of \d+ is free|resize|its turn"
)


def wait_long() -> None:
    time.sleep(PATIENCE)


def fill(orch: TaskOrchestrator) -> None:
    """Tasks that wait for all that tasks wait for, behind one that runs."""
    later = datetime.now(UTC) + timedelta(hours=1)

    @orch.agent("far", capabilities=["far"], max_concurrency=1)
    def far(task: Any, context: Any) -> None:
        wait_long()

    add = orch.submit_task
    add(Task.call(wait_long, id="runs", resources={"gpu": 1}))
    eventually(lambda: orch.get_task_status("runs").state == "running")
    add(Task.call(int, id="queued"))
    add(Task.call(int, id="short", resources={"gpu": 1}))
    add(Task("far", requires=["far"], id="far"))
    add(Task("none", requires=["none"], id="none"))
    add(Task.call(int, id="after", after=["runs"]))
    add(Task.call(int, id="delayed", not_before=later))
    add(Task.call(int, id="aside"))
    orch.suspend_task("aside")
    add(Task.wait_for("come", id="event"))
    add(Task.wait_for("never", id="timed", timeout=1_800))
    # Its time is over once nobody has the journal any more.
    add(Task.wait_for("soon", id="over", timeout=5))
    add(Task.question("Ship?", id="asked"))


#: What else is said of each: what holds whoever opens the journal.
SAID = {
    "runs": r"^runs is running\.\n.*so it was when the last one ended",
    "queued": r"^queued is queued",
    "short": r"^short is queued",
    "far": r"^far is queued",
    "none": r"^none is queued",
    "after": r"It needs runs, which was running when the last orchestrator ended",
    "delayed": r"It may not start for another 60 min",
    "aside": r"It is suspended.*Call orch.resume_task",
    "event": r"It waits for the event 'come'.*orch.emit\('come'",
    "timed": r"It waits for the event 'never', for another .*: then it fails",
    "over": r"its time is over: it is about to fail",
    "asked": r"It asks: Ship\?.*orch.answer\('asked', CHOICE, by=…\)",
}
#: What people can end without an orchestrator.
BY_HAND = ("aside", "event", "asked")
#: What a command that opens the journal notes of them: their end came meanwhile.
NOTED = {
    "runs": r"^runs is queued",
    "after": r"It needs runs, which is queued",
    "over": r"^over is failed",
}


def leave(path: Path, how: Path) -> None:
    """In a process of its own, which is killed, or stops."""
    options: dict[str, Any] = {"concurrency": 1, "resources": {"gpu": 1}}
    with TaskOrchestrator(journal=path, unknown_capability="wait", **options) as orch:
        fill(orch)
        say("ready")
        if how.name == "stopped":
            orch.stop(drain=False, timeout=0)
        else:
            time.sleep(PATIENCE)


@pytest.mark.slow("a process for each end")
@pytest.mark.parametrize("how", ["killed", "stopped", "opened by a command"])
def test_of_a_journal_that_nobody_has_open_all_that_is_said_is_so(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "runs.db"
    with Process(leave, path, how) as process:
        assert process.line() == "ready", process.errors()
        if how == "stopped":
            eventually(lambda: JournalReader(path).owner.lives is False)
    over = "its time is over"
    eventually(lambda: over in str(JournalReader(path).explain("over")))
    said = SAID
    if how == "opened by a command":
        assert taskorch(capsys, "suspend", path, "queued")[0] == 0
        assert taskorch(capsys, "resume", path, "queued")[0] == 0
        said = SAID | NOTED
    reader = JournalReader(path)
    assert reader.owner.lives is False
    for name, words in said.items():
        text = str(reader.explain(name))
        assert re.search(words, text, re.DOTALL), text
        assert not OF_OWNERS.search(text), text
        if name not in BY_HAND and "is failed" not in text:
            # It is the first that is said of it: the rest matters only then.
            assert text.splitlines()[1].startswith(NOBODY), text
    _, text, _ = taskorch(capsys, "explain", path)
    assert NOBODY in text
    assert f"taskorch answer {path} asked CHOICE" in text
    assert not OF_OWNERS.search(text), text
    stuck = {name for group in reader.stuck() for name in group.tasks}
    assert stuck == set(BY_HAND)


def test_an_owner_that_has_stopped_has_it_open_no_more_though_somebody_reads(
    tmp_path: Path,
) -> None:
    """The process goes on, and the log beside the journal stays while it is read."""
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.question("Ship?", id="asked"))
        reading = sqlite3.connect(path)
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sqlite_master").fetchall()
        assert JournalReader(path).owner.lives
        orch.stop(drain=False)
    try:
        assert Path(f"{path}-wal").exists()
        assert JournalReader(path).owner.lives is False
    finally:
        reading.close()
    with TaskOrchestrator(journal=path):
        assert JournalReader(path).owner.lives
