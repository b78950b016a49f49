"""
The basic workflow patterns of van der Aalst and others: those that hold, each as a test.

docs/howto/workflows.md has the table, also of those that do not apply.
"""

import pytest
from tests.api.tools import PATIENCE, Hold
from tests.core.workflows.functions import add, step, total

from taskorch import (
    TaskState,
    Workflow,
)


def test_14_multiple_instances_known_at_run_time(orch):
    wf = Workflow("w")
    items = wf.task(lambda: list(range(5)), id="items")
    wf.task(total, wf.map(add, items, id="each"), id="sum")
    assert orch.workflows.start(wf).result(PATIENCE)["sum"] == 10


@pytest.mark.parametrize("first", ["a", "closed"])
def test_18_milestone(orch, first):
    """A task may run while something has not come yet, and is skipped afterwards."""
    holds = {"a": Hold(), "closed": Hold()}

    def still_open(states) -> bool:
        done = {i for i, state in states.items() if state is TaskState.COMPLETED}
        return done == {"x/a"}

    wf = Workflow("w")
    parents = [wf.task(hold, id=name) for name, hold in holds.items()]
    wf.task(step, "b", id="b", after=parents, join=still_open, on_parent_failure="skip")
    run = orch.workflows.start(wf, id="x")
    holds.pop(first).release()
    assert run.handles[first].exception(PATIENCE) is None
    if first == "a":
        assert run.handles["b"].result(PATIENCE) == "b()"
    for hold in holds.values():
        hold.release()
    assert ("b" in run.result(PATIENCE)) is (first == "a")
