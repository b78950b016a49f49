"""What a module declares before its block opens nothing, and acts once it is entered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, threads_since

from taskorch import (
    InvalidTaskError,
    NotRunningError,
    Task,
    TaskOrchestrator,
    Workflow,
)
from taskorch.model import Quota


def nightly() -> str:
    return "done"


def flow() -> Workflow:
    workflow = Workflow("flow")
    workflow.task(nightly, id="one")
    return workflow


def recovers(task: Any, failure: Any, context: Any) -> None:
    """A strategy."""


def handles(task: Any, context: Any) -> Any:
    return task.payload


#: What a program declares; and what is there once the block was entered.
DECLARATIONS: dict[
    str, tuple[Callable[[Any], object], Callable[[TaskOrchestrator], object]]
] = {
    "a schedule of a function": (
        lambda orch: orch.schedules.add("nightly", "0 3 * * *", nightly),
        lambda orch: orch.schedules.status("nightly").makes,
    ),
    "a decorated schedule": (
        lambda orch: orch.schedule("0 3 * * *")(nightly),
        lambda orch: orch.schedules.status("nightly").next,
    ),
    "a schedule of a workflow": (
        lambda orch: orch.schedules.add("nightly", "every 15m", flow()),
        lambda orch: orch.schedules.status("nightly").makes == "flow",
    ),
    "a schedule of a document": (
        lambda orch: orch.schedules.add_document(
            "nightly", {"when": "@daily", "task": {"type": "x", "payload": 1}}
        ),
        lambda orch: orch.schedules.status("nightly").makes == "x",
    ),
    "a budget": (
        lambda orch: orch.budget("release", tokens=200),
        lambda orch: [each.name for each in orch.resources.budgets()] == ["release"],
    ),
    "a pool": (
        lambda orch: orch.resources.resize({"licences": 2}),
        lambda orch: orch.resources.usage()["licences"].total == 2,
    ),
    "a quota": (
        lambda orch: orch.resources.set_quotas(Quota(type="x", resources={"cpu": 1})),
        lambda orch: len(orch.resources.quotas()) == 1,
    ),
    "a share": (
        lambda orch: orch.resources.set_saturation(0.5),
        lambda orch: orch._rt.saturation.threshold == 0.5,
    ),
    "a worker": (
        lambda orch: orch.agent("a", capabilities={"x"})(handles),
        lambda orch: orch.submit_task(Task("x", 7)).result(PATIENCE) == 7,
    ),
    "a strategy": (
        lambda orch: orch.recover("network_error")(recovers),
        lambda orch: True,
    ),
    "a listener": (
        lambda orch: orch.signals.task_completed.connect(recovers),
        lambda orch: True,
    ),
    "a receiver of messages": (
        lambda orch: orch.notify("https://example.org/hook"),
        lambda orch: True,
    ),
    "a task": (lambda orch: orch.task(nightly), lambda orch: True),
    "alerts": (lambda orch: orch.alerts, lambda orch: True),
    "its parts": (
        lambda orch: [
            orch.schedules,
            orch.workflows,
            orch.agents,
            orch.drivers,
            orch.memo,
            orch.planner,
            orch.steps,
            orch.resources,
            orch.extensions,
            orch.kept("mine"),
            orch.options(retry=3),
        ],
        lambda orch: True,
    ),
    "its health": (
        lambda orch: (
            orch.schedules.add("nightly", "@daily", nightly),
            orch.health(),
            repr(orch),
        ),
        lambda orch: orch.schedules.status("nightly").makes,
    ),
}


@pytest.mark.parametrize("what", DECLARATIONS)
def test_a_declaration_opens_nothing_and_acts_in_the_block(
    what: str, tmp_path: Path
) -> None:
    """It makes no file and no thread of ours, also beside a service with the journal."""
    declare, is_there = DECLARATIONS[what]
    before = set(threading.enumerate())
    orch = TaskOrchestrator(journal=tmp_path / "runs.db")
    declare(orch)
    assert [*tmp_path.iterdir()] == []
    assert threads_since(before) == []
    with TaskOrchestrator(journal=tmp_path / "runs.db") as service:
        declare(TaskOrchestrator(journal=tmp_path / "runs.db"))
        assert service.submit(nightly).result(PATIENCE) == "done"
    with orch:
        assert is_there(orch)


def test_a_program_that_never_starts_is_told_of_what_it_declared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    orch = TaskOrchestrator(journal=tmp_path / "runs.db")
    orch.schedules.add("nightly", "0 3 * * *", nightly)
    orch.stop()
    assert "1 declaration, such as a schedule or a budget, had no effect" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_declaration_that_is_refused_at_the_opening_ends_the_start(
    tmp_path: Path,
) -> None:
    """Whatever can be seen without the journal is refused at once."""
    orch = TaskOrchestrator(journal=tmp_path / "runs.db")
    with pytest.raises(InvalidTaskError):
        orch.schedules.add("nightly", "no times", nightly)
    orch.budget("part", parent="nobody", tokens=1)
    with pytest.raises(InvalidTaskError, match="nobody"), orch:
        pytest.fail("it was entered")
    with TaskOrchestrator(journal=tmp_path / "runs.db") as following:
        assert following.resources.budgets() == []
    with pytest.raises(NotRunningError):
        orch.resources.resize({"cpu": 1})


def test_an_import_beside_a_service_declares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module with schedules is imported by a worker process, a test, a command."""
    monkeypatch.chdir(tmp_path)
    program = (
        "from taskorch import TaskOrchestrator\n"
        "orch = TaskOrchestrator(journal='runs.db')\n"
        "@orch.schedule('0 3 * * *')\n"
        "def nightly(): pass\n"
        "orch.budget('release', tokens=5)\n"
    )
    load = partial(exec, program)
    with TaskOrchestrator(journal="runs.db") as service:
        load({"__name__": "app"})
        assert service.health().status == "ok"
