"""A workflow that is run again with other data: to be killed at every point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taskorch import (
    SqliteJournal,
    Task,
    TaskOrchestrator,
    Workflow,
    current_context,
)
from taskorch.events import TaskCompleted
from taskorch.ext.views import JournalReader

#: What completes in each of the two runs.
ALL = {"source", "up", "up/0", "up/1", "gate", "ok", "load"}


def source() -> list[int]:
    """Other data in each run: ten times its number."""
    number = int(current_context().task_id.partition("~")[2] or 1)
    return [10 * number, 10 * number + 1]


def negative(n: int) -> int:
    return -n


def gate(items: list[int]) -> Any:
    run = current_context().workflow
    assert run is not None
    # Of the text, nothing says what it is about.
    details = {"items": items}
    answer = run.add(Task.question("load?", id="ok", details=details)).result()
    return answer.note


def build() -> Workflow:
    wf = Workflow("w")
    items = wf.task(source, id="source")
    up = wf.map(negative, items, id="up")
    passed = wf.task(gate, items, id="gate")
    wf.task(list, [up, passed], id="load")
    return wf


def workload(journal: Path) -> None:
    with TaskOrchestrator(journal=journal, durability="process") as orch:
        run = orch.workflows.start(build(), id="x")
        for number in (1, 2):
            if number == 2 and orch.handle("x/source").task_id == "x/source":
                orch.rerun_task("x/source")
            # A crash may have come between the re-run and what it takes along.
            orch.workflows.restart("x")
            while not orch.wait(0.01):
                for asked in orch.questions():
                    note = str(asked.details["items"][0])
                    asked.answer("approve", by="Ada", note=note)
        assert run.result(60)["load"] == [[-20, -21], "20"]
        assert not run.status().stale


def check(journal: Path) -> None:
    events = [event for event, _ in SqliteJournal(journal).read()]
    done = [f[3].removeprefix("x/") for f in events if f[0] is TaskCompleted]
    # A crash before all was taken along: one may have run on old data meanwhile.
    assert len(done) == len(set(done))
    assert {name.partition("~")[0] for name in done} == ALL
    reader = JournalReader(journal)
    assert reader.get_task_status("x/ok").result.note == "20"
    assert reader.get_task_status("x/ok~1").result.note == "10"
    assert reader.get_task_status("x/load").result == [[-20, -21], "20"]
    runs = {name: sum(d.partition("~")[0] == name for d in done) for name in ALL}
    assert set(runs.values()) == {2}, runs
