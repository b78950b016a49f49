"""Why a task does not run: values, and sentences."""

import threading
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from tests.integration.tools import PATIENCE, Hold, Recorder, eventually, fail

from taskorch import (
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    TaskState,
    UnknownTaskError,
    current_context,
)
from taskorch.protocols import Permit


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


def test_a_failed_dependency() -> None:
    """It says that this one will not complete unless it is run again."""
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(fail, ValueError(), id="bad"))
        orch.submit_task(Task.call(int, id="child", after=["bad"]))
        orch.submit_task(Task.call(int, id="grandchild", after=["child"]))
        assert orch.wait(PATIENCE)
        blocker = only(orch.explain("child"))
        assert blocker.detail == (
            "It needs bad, which has failed, and will not complete unless it is run "
            "again."
        )
        assert "child, which is blocked" in str(orch.explain("grandchild"))


def test_a_capability_that_nobody_has() -> None:
    """With unknown_capability="wait" it waits for such an agent, and says for what."""
    with TaskOrchestrator(unknown_capability="wait") as orch:
        handle = orch.submit_task(Task("painting", id="x"))
        blocker = only(orch.explain("x"))
        assert (blocker.kind, blocker.name) == ("capability", "painting")
        assert "No worker can do it" in blocker.detail

        @orch.agent("painter", capabilities={"painting"})
        def paint(task, context) -> str:
            return "painted"

        assert handle.result(PATIENCE) == "painted"
        assert "because" in str(orch.explain("x"))


def test_a_busy_agent() -> None:
    """It names the agent and who holds its slots."""
    with TaskOrchestrator() as orch:
        hold = Hold()

        @orch.agent("one", capabilities={"work"}, max_concurrency=1)
        def work(task, context) -> None:
            hold()

        orch.submit_task(Task("work", id="running"))
        hold.wait()
        orch.submit_task(Task("work", id="waiting"))
        blocker = only(orch.explain("waiting"))
        assert (blocker.kind, blocker.name) == ("agent", "one")
        assert blocker.holders == ("running",)
        assert (blocker.need, blocker.have) == (1, 0)
        assert "Worker one runs 1 of 1 already." in str(orch.explain("waiting"))
        hold.release()


def test_an_agent_without_room() -> None:
    """The capacity of the agent is short, though the pools are not."""
    with TaskOrchestrator(resources=Resources(cpu=8)) as orch:
        hold = Hold()

        @orch.agent(
            "box", capabilities={"work"}, max_concurrency=9, capacity=Resources(gpu=1)
        )
        def work(task, context) -> None:
            hold()

        orch.submit_task(Task("work", id="running", resources=Resources(gpu=1)))
        hold.wait()
        orch.submit_task(Task("work", id="waiting", resources=Resources(gpu=1)))
        blocker = only(orch.explain("waiting"))
        assert (blocker.kind, blocker.name) == ("agent", "box")
        assert (blocker.need, blocker.have) == (1, 0)
        assert blocker.holders == ("running",)
        assert "1 gpu" in blocker.detail
        hold.release()


def test_no_slot() -> None:
    """All attempts that may run at once do, and they are named."""
    with TaskOrchestrator(concurrency=1) as orch:
        hold = Hold()
        orch.submit_task(Task.call(hold, id="running"))
        hold.wait()
        orch.submit_task(Task.call(int, id="waiting"))
        blocker = only(orch.explain("waiting"))
        assert (blocker.kind, blocker.name) == ("slot", "concurrency")
        assert blocker.holders == ("running",)
        assert "The one slot is taken (concurrency=1)." in str(orch.explain("waiting"))
        hold.release()


def test_a_short_resource() -> None:
    """How much it needs, how much is free, and who holds it."""
    with TaskOrchestrator(resources=Resources(memory_mb=100)) as orch:
        hold = Hold()
        orch.submit_task(Task.call(hold, id="big", resources=Resources(memory_mb=80)))
        hold.wait()
        orch.submit_task(Task.call(int, id="next", resources=Resources(memory_mb=30)))
        blocker = only(orch.explain("next"))
        assert (blocker.kind, blocker.name) == ("resource", "memory_mb")
        assert (blocker.need, blocker.have, blocker.holders) == (30, 20, ("big",))
        assert blocker.detail == "It needs 30 memory_mb, and 20 of 100 is free."
        hold.release()
        assert orch.handle("next").result(PATIENCE) == 0


def test_a_delay() -> None:
    """Before `not_before`, and before a retry: for how long."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_retrying")
        orch.submit_task(Task.call(int, id="later", not_before=60))
        blocker = only(orch.explain("later"))
        assert blocker.kind == "delay"
        assert blocker.until == pytest.approx(60, abs=5)
        policy = RetryPolicy(2, base=60, jitter=0)
        orch.submit_task(Task.call(fail, ValueError(), id="again", retry=policy))
        recorder.wait_for(1)
        blocker = only(orch.explain("again"))
        assert (blocker.kind, orch.explain("again").state) == ("delay", "retrying")
        assert "Its next attempt may not start for another" in blocker.detail
        orch.stop(drain=False)


def test_a_suspended_task() -> None:
    """It waits for resume_task."""
    with TaskOrchestrator() as orch:
        orch.submit_task(Task.call(int, id="x", not_before=60))
        orch.suspend_task("x")
        assert only(orch.explain("x")).kind == "suspended"
        text = str(orch.explain("x"))
        assert text.startswith(
            "x is suspended.\n"
            "It is suspended: it waits to be resumed.\n"
            "  → Call orch.resume_task('x').\n"
            "After that, as things stand:\n"
            "It may not start for another "
        )


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


def test_a_task_that_is_asked_to_stop() -> None:
    """A running task that has not stopped yet says why it should."""
    with TaskOrchestrator() as orch:
        began, go = threading.Event(), threading.Event()

        def work() -> None:
            began.set()
            assert go.wait(PATIENCE)
            eventually(lambda: current_context().checkpoint())

        orch.submit_task(Task.call(work, id="x"))
        assert began.wait(PATIENCE)
        orch.cancel_task("x")
        blocker = only(orch.explain("x"))
        assert blocker.kind == "stopping"
        assert "cancelled by the user" in blocker.detail
        go.set()


def test_a_task_that_runs() -> None:
    """Nothing keeps it, and its agent was chosen for a reason."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        orch.submit_task(Task.call(hold, id="x"))
        hold.wait()
        explanation = orch.explain("x")
        assert explanation.blockers == ()
        assert explanation.state is TaskState.RUNNING
        assert explanation.routed
        hold.release()


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


def test_a_veto_of_the_state_machine() -> None:
    """A StateMachine that holds a task back is named with its reason."""

    class NotYet:
        def __init__(self) -> None:
            self.open = False

        def check(self, transition, context) -> Permit:
            starts = transition.after is TaskState.RUNNING
            return Permit(self.open or not starts, "office hours")

        def label(self, state) -> str:
            return state.value

    machine = NotYet()
    with TaskOrchestrator(state_machine=machine) as orch:
        orch.submit_task(Task.call(int, id="x"))
        blocker = only(orch.explain("x"))
        assert blocker.kind == "veto"
        assert "office hours" in blocker.detail
        machine.open = True
        # Anything that happens is an occasion to ask again.
        orch.cancel_task(orch.submit_task(Task.call(int, not_before=60)).task_id)
        assert orch.handle("x").result(PATIENCE) == 0


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
