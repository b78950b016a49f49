"""Why a task does not run: values, and sentences."""

from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from tests.integration.tools import PATIENCE, Hold, fail

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


def test_a_task_held_for_a_decision() -> None:
    """A person must decide, and how is said."""
    with TaskOrchestrator() as orch:
        task = Task.call(fail, BrokenProcessPool("gone"), id="x", idempotent=False)
        orch.submit_task(task)
        assert orch.wait(PATIENCE)
        blocker = only(orch.explain("x"))
        assert blocker.kind == "decision"
        assert blocker.detail == (
            "A person must decide: its worker died, and it is not safe to run twice."
        )
        words = "Call orch.decide('x', 'retry' | 'fail' | 'complete')."
        assert [str(remedy) for remedy in blocker.remedies] == [words]


def test_a_task_that_has_ended() -> None:
    """How it ended, with cause and message."""
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(int, id="good"))
        orch.submit_task(Task.call(fail, ValueError("no"), id="bad"))
        assert orch.wait(PATIENCE)
        assert only(orch.explain("good")).kind == "terminal"
        assert "completed" in str(orch.explain("good"))
        assert "It failed (error): ValueError: no." in str(orch.explain("bad"))


def test_before_the_start() -> None:
    """Nothing starts before `start`."""
    orch = TaskOrchestrator()
    orch.submit_task(Task.call(int, id="x"))
    assert only(orch.explain("x")).kind == "not_started"
    orch.stop()


def test_after_the_end(tmp_path: Path) -> None:
    """What a stop has left: nothing starts any more, and a start would not help."""
    orch = TaskOrchestrator(journal=tmp_path / "runs.db")
    orch.submit_task(Task.call(int, id="x"))
    orch.stop(drain=False)
    blocker = only(orch.explain("x"))
    assert "has stopped" in blocker.detail
    assert not blocker.remedies


def test_the_position_in_the_queue() -> None:
    """Its place among the queued tasks with the same requirements, from 1."""
    with TaskOrchestrator(concurrency=1) as orch:
        hold = Hold()
        orch.submit(hold)
        hold.wait()
        for name in "abc":
            orch.submit_task(Task.call(int, id=name))
        assert [orch.explain(name).position for name in "abc"] == [1, 2, 3]
        orch.set_priority("c", 1)
        assert [orch.explain(name).position for name in "abc"] == [2, 3, 1]
        orch.cancel_task("c")
        assert [orch.explain(name).position for name in "ab"] == [1, 2]
        assert "number 2 among the queued tasks" in str(orch.explain("b"))
        hold.release()


def test_unknown_and_forgotten_tasks() -> None:
    """What is not in memory cannot be explained."""
    with TaskOrchestrator(keep_finished=0) as orch:
        orch.submit_task(Task.call(int, id="x")).result(PATIENCE)
        orch.submit(int).result(PATIENCE)
        for name in ("x", "nobody"):
            with pytest.raises(UnknownTaskError, match="in memory"):
                orch.explain(name)
