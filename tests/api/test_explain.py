"""Why a task does not run: values, and sentences."""

import pytest
from tests.api.tools import PATIENCE, Hold

from taskorch import (
    Task,
    TaskOrchestrator,
    TaskState,
    UnknownTaskError,
)


def only(explanation):
    assert len(explanation.blockers) == 1, explanation
    return explanation.blockers[0]


def test_a_dependency() -> None:
    """It names each task that has not completed, and its state."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        orch.submit_task(Task.call(hold, id="first"))
        hold.wait()
        orch.submit_task(Task.call(int, id="second", after=["first"]))
        explanation = orch.explain("second")
        blocker = only(explanation)
        assert (blocker.kind, blocker.name) == ("dependency", "first")
        assert explanation.state is TaskState.PENDING
        assert explanation.position is None
        assert not explanation.runnable
        assert str(explanation) == (
            "second is pending.\n"
            "It needs first, which is running.\n"
            "  → first must complete; it runs.\n"
            "Nobody can say when it starts: no task of type Hold has completed yet."
        )
        hold.release()


def test_unknown_and_forgotten_tasks() -> None:
    """Of what has left memory, without a journal, only the end is known."""
    with TaskOrchestrator(keep_finished=0) as orch:
        orch.submit_task(Task.call(int, id="x")).result(PATIENCE)
        orch.submit(int).result(PATIENCE)
        assert str(orch.explain("x")) == "x is completed."
        with pytest.raises(UnknownTaskError):
            orch.explain("nobody")
