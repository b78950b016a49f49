"""
What failed is told in the same words in each incarnation: of a run, its page, a
difference.
"""

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.service.tools import shown

from taskorch import Workflow


class NoMoneyError(Exception):
    """Not one of ours."""


class OddError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one}: {two}\nand more")


def failing(kind):
    if kind == "plain":
        raise ValueError("task x raised ValueError: too")
    if kind == "own":
        raise NoMoneyError("7 are missing")
    if kind == "odd":
        raise OddError("a", "b")
    if kind == "silent":
        raise NoMoneyError
    raise OSError(28, "No space left on device", "/data")


KINDS = ("plain", "own", "odd", "silent", "system")


def flow(kind):
    workflow = Workflow("flow")
    workflow.task(failing, kind, id="x")
    return workflow


def told(service, kind):
    """What is said of the failure, wherever a run is looked at."""
    run = service.orch.workflows.get(kind)
    with pytest.raises(Exception) as raised:
        run.result(PATIENCE)
    words = str(raised.value).partition(" (in an earlier incarnation")[0]
    page = service.ask("GET", f"/api/v1/runs/{kind}").said
    difference = service.orch.compare("good", kind)
    cause = next(each for each in service.orch.failures() if kind in str(each.runs))
    return {
        "run": words.partition(" (orch.")[0],
        "page": [each["error"] for each in page["tasks"]],
        "difference": [str(each) for each in difference.differences][:1],
        "cause": (cause.error_type, cause.message),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_what_failed_is_told_alike_in_the_next_incarnation(tmp_path, kind):
    journal = tmp_path / "runs.db"
    with shown(journal=journal) as service:
        good = Workflow("flow")
        good.task(len, "", id="x")
        service.orch.workflows.start(good, id="good").result(PATIENCE)
        run = service.orch.workflows.start(flow(kind), id=kind)
        eventually(lambda: run.status().state == "failed")
        before = told(service, kind)
    with shown(journal=journal) as service:
        assert told(service, kind) == before
    assert "TaskFailedError" not in str(before)
