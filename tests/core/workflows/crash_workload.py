"""A workflow that grows, in phases, with an approval: to be killed at every point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taskorch import (
    Approval,
    SqliteJournal,
    TaskOrchestrator,
    Workflow,
    current_context,
)
from taskorch.errors import InvalidTransitionError
from taskorch.events import TaskCompleted

#: What completes, each once.
ALL = {
    "adder",
    "adder/square",
    "one/gate",
    "one/approval",
    "before",
    "squares",
    "squares/0",
    "squares/1",
    "last",
    "two/gate",
}


def square(n: int) -> int:
    return n * n


def adder() -> int:
    run = current_context().workflow
    assert run is not None
    run.task(square, 5, id="before", before=["last"])
    result: int = run.task(square, 3).result()
    return result


def nine(results: dict[str, Any]) -> bool:
    return results["adder"] == 9


def build() -> Workflow:
    wf = Workflow("w")
    one = wf.phase("one", max_parallel=2, gate=[nine, Approval()])
    one.task(adder, id="adder")
    two = wf.phase("two", max_parallel=1)
    two.gather([two.map(square, [1, 2], id="squares")], id="last")
    return wf


def workload(journal: Path) -> None:
    with TaskOrchestrator(journal=journal, durability="process") as orch:
        run = orch.workflows.start(build(), id="x")
        while run.status().tasks["last"] != "completed":
            orch.wait(1)
            try:
                orch.workflows.approve("x", "one", by="Ada")
            except InvalidTransitionError:
                continue
        assert run.result(60)["last"] == [[1, 4]]
        assert set(run.handles) == ALL
        assert {phase.verdict for phase in run.status().phases.values()} == {"passed"}


def check(journal: Path) -> None:
    events = [event for event, _ in SqliteJournal(journal).read()]
    done = [
        event[3].removeprefix("x/") for event in events if event[0] is TaskCompleted
    ]
    assert sorted(done) == sorted(ALL)
