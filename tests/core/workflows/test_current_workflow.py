"""A `@workflow` function holds all that a workflow has: calls are not all of it."""

from __future__ import annotations

import sys

import pytest

from taskorch import (
    Approval,
    Program,
    Task,
    Workflow,
    task,
    workflow,
)
from taskorch.api.workflows import current_workflow
from taskorch.errors import UsageError


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


def test_it_is_the_workflow_of_a_block_too():
    with Workflow("night") as flow:
        assert current_workflow() is flow
    with pytest.raises(UsageError, match="no workflow is being written down"):
        current_workflow()
