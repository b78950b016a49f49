"""A `@workflow` function holds all that a workflow has: calls are not all of it."""

from __future__ import annotations

import sys

import pytest
from tests.integration.tools import PATIENCE, eventually

from taskorch import (
    Approval,
    Program,
    Task,
    TaskOrchestrator,
    Workflow,
    task,
    workflow,
)
from taskorch.errors import UsageError
from taskorch.workflows import current_workflow


@task
def extract(day):
    return [3, 0, 5]


@task
def double(number):
    return 2 * number


@task
def load(rows):
    return sum(rows)


@workflow
def night(day: str = "monday", ask: bool = True):
    flow = current_workflow()
    rows = extract(day)
    listed = flow.add(Task("program", Program([sys.executable, "-V"]), id="list"))
    doubled = double.options(retries=2).map(rows)
    listed >> doubled
    if ask:
        asked = flow.add(Task.question("Load it?", id="ask"))
        told = flow.add(Task.wait_for(None, timeout=0.01, default=None, id="told"))
        doubled >> asked >> told
    with flow.phase("loading", gate=Approval()):
        load.options(id="load")(doubled)
        assert current_workflow() is flow


def test_calls_maps_programs_questions_waits_phases_and_parameters_in_one():
    with TaskOrchestrator() as orch:
        run = orch.workflows.start(night("tuesday"), id="tuesday")
        for _ in range(2):
            eventually(orch.questions)
            orch.answer(orch.questions()[0].id, "approve", by="ada")
        results = run.result(PATIENCE)
    assert results["load"] == 16
    assert {"list", "ask", "told", "loading/gate"} <= set(results)
    assert {"ask", "told"}.isdisjoint(night(ask=False))


def test_it_is_the_workflow_of_a_block_too():
    with Workflow("night") as flow:
        assert current_workflow() is flow
    with pytest.raises(UsageError, match="no workflow is being written down"):
        current_workflow()
