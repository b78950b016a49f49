"""Workflows that are deep, wide, large or out of hand."""

import json
import sys

import pytest
from tests.api.tools import PATIENCE
from tests.core.workflows.functions import add, echo
from tests.core.workflows.tools import failures

from taskorch import (
    TaskOrchestrator,
    TaskState,
    ValidationFailedError,
    Workflow,
    WorkflowFailedError,
    current_context,
)
from taskorch.core.workflows import _graph


def fails() -> None:
    raise ValueError


def large(size: int) -> str:
    return "x" * size


def chain(length: int) -> Workflow:
    wf = Workflow("deep")
    last = wf.task(fails, id="t0")
    for n in range(1, length):
        last = wf.task(add, last, 1, id=f"t{n}")
    return wf


def control(length: int) -> None:
    """Start a chain that fails at its head, ask all about it, and cancel it."""
    with TaskOrchestrator() as orch:
        run = orch.workflows.start(chain(length), id="x")
        with pytest.raises(WorkflowFailedError, match=f"by that: {length - 1}"):
            run.result(PATIENCE * 2)
        status = run.status()
        assert len(status.remaining_path) == length
        assert len(str(status)) < 300
        report = run.report()
        assert len(report.held_up) == length - 1
        assert len(str(report)) < 5_000
        assert json.dumps(report.to_dict())
        assert orch.workflows.cancel("x")
        assert run.status().counts == {
            TaskState.FAILED: 1,
            TaskState.CANCELLED: length - 1,
        }


def test_a_chain_that_is_deeper_than_the_stack():
    assert sys.getrecursionlimit() < 2_500
    control(2_500)


@pytest.mark.slow("100,000 tasks")
def test_a_chain_of_a_hundred_thousand():
    """It is sorted, shown, written down and drawn without recursion."""
    wf = chain(100_000)
    assert _graph.order(wf.dependencies)[-1] == "t99999"
    assert len(repr(wf)) < 100
    assert len(wf._repr_html_()) < 500_000
    assert wf.to_mermaid().count("-->") == 99_999
    document = wf.to_dict({"add": add, "fails": fails})
    assert len(json.loads(json.dumps(document))["tasks"]) == 100_000


@pytest.mark.slow("10,000 tasks")
def test_a_long_chain_is_run_and_called_off():
    control(10_000)


def test_a_wide_phase():
    wf = Workflow("wide")
    one = wf.phase("one", max_parallel=4)
    for n in range(500):
        one.task(echo, n)
    wf.phase("two").reduce(add, wf.gather([wf[i] for i in one.tasks]), id="sum")
    with TaskOrchestrator() as orch:
        assert orch.workflows.start(wf).result(PATIENCE)["sum"] == sum(range(500))


def test_recursion_by_names_comes_to_an_end():
    """Each adds one below itself: an id may be only so long."""

    def below() -> None:
        current_context().workflow.task(below)

    wf = Workflow("w")
    wf.task(below, id="a")
    with TaskOrchestrator() as orch:
        run = orch.workflows.start(wf, id="x")
        (error,) = failures(run).values()
    assert isinstance(error, ValidationFailedError)
    assert "at most 200 characters" in str(error)
