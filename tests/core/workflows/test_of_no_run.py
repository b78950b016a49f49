"""A slash in the id of a task makes no run of a workflow, nor a part of one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.api.tools import PATIENCE
from tests.core.workflows.functions import echo

from taskorch import (
    DuplicateTaskError,
    Task,
    TaskOrchestrator,
    UnknownTaskError,
    Workflow,
    current_context,
)
from taskorch.model import Quota


def of_run() -> str | None:
    """The run that the caller is part of, as its context says."""
    run = current_context().workflow
    return None if run is None else run.workflow_id


def asking() -> Workflow:
    wf = Workflow("w")
    wf.task(of_run, id="x")
    return wf


def test_a_task_with_a_slash_in_its_id_is_part_of_no_workflow(
    orch: TaskOrchestrator,
) -> None:
    handle = orch.submit_task(Task.call(of_run, id="etl/load"))
    assert handle.result(PATIENCE) is None
    assert orch.rerun_task("etl/load").result(PATIENCE) is None
    assert orch.workflows.find() == []
    with pytest.raises(UnknownTaskError, match="no workflow has been started"):
        orch.workflows.get("etl")
    with pytest.raises(UnknownTaskError):
        orch.workflows.pause("etl")


def test_a_run_may_have_the_id_that_ids_of_tasks_begin_with(
    orch: TaskOrchestrator,
) -> None:
    orch.submit_task(Task.call(echo, 2, id="etl/load")).result(PATIENCE)
    run = orch.workflows.start(asking(), id="etl")
    assert run.result(PATIENCE) == {"x": "etl"}


def test_a_task_of_a_later_incarnation_is_part_of_none(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with TaskOrchestrator(journal=path) as orch:
        assert orch.submit_task(Task.call(of_run, id="etl/a")).result(PATIENCE) is None
        assert orch.workflows.start(asking(), id="day").result(PATIENCE)
    with TaskOrchestrator(journal=path) as orch:
        assert orch.submit_task(Task.call(of_run, id="etl/b")).result(PATIENCE) is None
        # What earlier incarnations have run is known by its tasks.
        assert orch.workflows.get("day").result(PATIENCE) == {"x": "day"}
        assert orch.rerun_task("day/x").result(PATIENCE) == "day"


def test_a_durable_run_is_not_mixed_with_tasks_of_none(tmp_path: Path) -> None:
    """A later incarnation could not tell them apart."""
    with TaskOrchestrator(journal=tmp_path / "journal.db") as orch:
        orch.submit_task(Task.call(echo, 2, id="etl/load")).result(PATIENCE)
        with pytest.raises(DuplicateTaskError, match="of no workflow") as caught:
            orch.workflows.start(asking(), id="etl")
        assert "'load'" in str(caught.value)


def test_what_is_submitted_beside_a_run_is_no_part_of_it(tmp_path: Path) -> None:
    """Nor in a later incarnation, and whatever its id is."""
    path = tmp_path / "journal.db"
    with TaskOrchestrator(journal=path) as orch:
        run = orch.workflows.start(asking(), id="night")
        assert run.result(PATIENCE) == {"x": "night"}
        alone = orch.submit_task(Task.call(of_run, id="night/alone"))
        assert alone.result(PATIENCE) is None
        assert orch.rerun_task("night/alone").result(PATIENCE) is None
        assert [*orch.workflows.get("night").handles] == ["x"]
    with TaskOrchestrator(journal=path) as orch:
        assert [*orch.workflows.get("night").handles] == ["x"]
        assert orch.rerun_task("night/alone").result(PATIENCE) is None
        assert orch.rerun_task("night/x").result(PATIENCE) == "night"
        # It is the same run, and goes on.
        assert orch.workflows.start(asking(), id="night").result(PATIENCE)


def test_what_earlier_incarnations_have_submitted_alone_is_part_of_no_run(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.wait_for("go", id="etl/wait"))
        orch.submit_task(Task.call(of_run, id="etl/load", after=["etl/wait"]))
    with TaskOrchestrator(journal=path) as orch:
        assert orch.workflows.find() == []
        with pytest.raises(UnknownTaskError, match="no workflow has been started"):
            orch.workflows.get("etl")
        orch.emit("go")
        assert orch.handle("etl/load").result(PATIENCE) is None


def test_a_run_takes_over_no_task_that_is_of_none(orch: TaskOrchestrator) -> None:
    orch.submit_task(Task.call(of_run, id="etl/x")).result(PATIENCE)
    with pytest.raises(DuplicateTaskError, match="of no workflow"):
        orch.workflows.start(asking(), id="etl")


def reaching() -> list[str]:
    run = current_context().workflow
    assert run is not None
    with pytest.raises(UnknownTaskError):
        run.handle("alone")
    with pytest.raises(UnknownTaskError):
        run.task(of_run, id="later", after=["alone"])
    with pytest.raises(DuplicateTaskError, match="of no workflow"):
        run.task(of_run, id="alone")
    return ["nothing"]


def test_a_task_of_a_run_reaches_none_that_is_of_none(orch: TaskOrchestrator) -> None:
    orch.submit_task(Task.call(of_run, id="night/alone")).result(PATIENCE)
    wf = Workflow("w")
    wf.task(reaching, id="x")
    assert orch.workflows.start(wf, id="night").result(PATIENCE) == {"x": ["nothing"]}


def test_a_quota_of_a_run_holds_for_nothing_beside_it(orch: TaskOrchestrator) -> None:
    orch.resources.set_quotas(Quota(workflow="night", max_parallel=0))
    orch.workflows.start(asking(), id="night")
    alone = Task.call(of_run, id="night/alone")
    assert orch.submit_task(alone).result(PATIENCE) is None
    assert not orch.handle("night/x").done()
    orch.workflows.cancel("night")
