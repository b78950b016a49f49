"""Control: cancel, suspend, resume, status; priorities, expiry, decisions, re-runs."""

import asyncio
import threading
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

import pytest
from tests.integration.tools import PATIENCE, Hold, Recorder, eventually, fail

from taskorch import (
    DependencyFailedError,
    InvalidTaskError,
    Permanent,
    RetryPolicy,
    Task,
    TaskCancelledError,
    TaskOrchestrator,
    TaskState,
    UnknownTaskError,
    current_context,
)
from taskorch.errors import (
    InvalidTransitionError,
    OutcomeUnknownError,
    TaskExpiredError,
)

LONG = RetryPolicy(3, base=60, jitter=0)


def states(orch: TaskOrchestrator, task_id: str) -> list[str]:
    return [entry.state.value for entry in orch.get_task_status(task_id).history]


def poll_for_cancellation(began: threading.Event) -> str:
    """A thread that asks whether it is to stop."""
    context = current_context()
    began.set()
    eventually(lambda: context.cancelled)
    return "stopped by itself"


def reach_checkpoints(began: threading.Event, state: Any = None) -> None:
    """A thread that stops at its next checkpoint."""
    context = current_context()
    began.set()
    eventually(lambda: context.checkpoint(state))


class Broken(BaseException):
    """A worker that dies, as seen from outside."""


def held_for_decision(orch: TaskOrchestrator, task_id: str) -> Any:
    """A task whose worker died under it, and which is not safe to run twice."""

    def die() -> None:
        msg = "the worker died"
        raise BrokenProcessPool(msg)

    task = Task.call(die, id=task_id, idempotent=False)
    recorder = Recorder(orch, "task_blocked")
    handle = orch.submit_task(task)
    recorder.wait_for(1)
    return handle


def test_a_function_may_say_that_nobody_knows_what_it_has_done() -> None:
    """What must not run twice is left to a person, with its words; else it runs again."""
    calls: list[str] = []

    def charge(name: str) -> str:
        context = current_context()
        calls.append(name)
        if context.attempt == 1:
            msg = "the bank does not answer"
            raise OutcomeUnknownError(msg, task_id=context.task_id)
        return "paid"

    with TaskOrchestrator() as orch:
        twice = orch.submit_task(Task.call(charge, "twice"))
        assert twice.result(PATIENCE) == "paid"
        once = orch.submit_task(Task.call(charge, "once", id="once", idempotent=False))
        eventually(lambda: orch.get_task_status("once").state is TaskState.BLOCKED)
        why = "the bank does not answer, and it is not safe to run twice"
        assert why in str(orch.explain("once"))
        orch.decide("once", "retry")
        assert once.result(PATIENCE) == "paid"
    assert sorted(calls) == ["once", "once", "twice", "twice"]


# -- cancel ------------------------------------------------------------------------


def test_cancelling_a_pending_task() -> None:
    """What waits for others is cancelled at once, and never runs."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        first = orch.submit(hold)
        ran: list[int] = []
        second = orch.submit_task(Task.call(ran.append, 1, after=[first]))
        assert orch.cancel_task(second.task_id) is True
        assert second.done()
        assert second.cancelled()
        with pytest.raises(TaskCancelledError) as caught:
            second.result(PATIENCE)
        assert caught.value.reason == "cancelled by the user"
        hold.release()
        first.result(PATIENCE)
        assert ran == []
        assert states(orch, second.task_id) == ["pending", "cancelled"]


def test_why_a_task_was_cancelled_is_said_by_whoever_does_it() -> None:
    with TaskOrchestrator() as orch:
        hold = Hold()
        task = orch.submit_task(Task.call(print, id="t", after=[orch.submit(hold)]))
        with pytest.raises(InvalidTaskError, match="a reason is a text, not 5"):
            orch.cancel_task("t", reason=5)  # type: ignore[arg-type]
        assert orch.cancel_task("t", reason="the shop is closed")
        with pytest.raises(TaskCancelledError, match="the shop is closed"):
            task.result(PATIENCE)
        hold.release()


def test_cancelling_a_queued_task() -> None:
    """What waits for a slot is cancelled at once, and the next in line starts."""
    with TaskOrchestrator(concurrency=1) as orch:
        hold = Hold()
        orch.submit(hold)
        hold.wait()
        ran: list[int] = []
        second, third = orch.submit(ran.append, 2), orch.submit(ran.append, 3)
        assert second.cancel() is True
        assert second.cancelled()
        hold.release()
        third.result(PATIENCE)
        assert ran == [3]
        assert states(orch, second.task_id) == ["queued", "cancelled"]


def test_cancelling_a_thread_that_asks() -> None:
    """`context.cancelled` tells a running thread; what it returns then is dropped."""
    with TaskOrchestrator() as orch:
        began = threading.Event()
        handle = orch.submit(poll_for_cancellation, began)
        assert began.wait(PATIENCE)
        assert orch.cancel_task(handle.task_id) is True
        # Asking again changes nothing.
        assert orch.cancel_task(handle.task_id) in {True, False}
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
        status = orch.get_task_status(handle.task_id)
        assert status.state is TaskState.CANCELLED
        assert status.is_terminal
        assert status.result is None
        assert states(orch, handle.task_id) == ["queued", "running", "cancelled"]


def test_cancelling_a_thread_at_its_checkpoint() -> None:
    """`checkpoint` raises in a thread that is being cancelled."""
    with TaskOrchestrator() as orch:
        began = threading.Event()
        handle = orch.submit(reach_checkpoints, began)
        assert began.wait(PATIENCE)
        assert handle.cancel()
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)


def test_cancelling_a_coroutine() -> None:
    """A running coroutine is cancelled where it awaits, and may tidy up."""
    with TaskOrchestrator() as orch:
        began, tidied = threading.Event(), threading.Event()

        async def work() -> None:
            try:
                began.set()
                await asyncio.sleep(PATIENCE)
            finally:
                tidied.set()

        handle = orch.submit(work)
        assert began.wait(PATIENCE)
        assert handle.cancel()
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
        assert tidied.is_set()


def test_a_coroutine_may_finish_in_spite_of_its_cancellation() -> None:
    """Once asked to stop it is CANCELLED, whatever it returns."""
    with TaskOrchestrator() as orch:
        began = threading.Event()

        async def stubborn() -> str:
            began.set()
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                return "no"
            return "never"

        handle = orch.submit(stubborn)
        assert began.wait(PATIENCE)
        handle.cancel()
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)


def test_cancelling_coroutines_just_as_they_begin() -> None:
    """A cancellation that meets the very beginning of a coroutine is not lost."""
    with TaskOrchestrator() as orch:
        handles = []
        for _ in range(100):
            handles.append(orch.submit(asyncio.sleep, 2 * PATIENCE))
            handles[-1].cancel()
        for handle in handles:
            with pytest.raises(TaskCancelledError):
                handle.result(PATIENCE)


def test_cancelling_threads_just_as_they_begin() -> None:
    """A cancellation that meets the very beginning of a thread is not lost."""
    with TaskOrchestrator() as orch:
        handles = []
        for _ in range(100):
            handles.append(orch.submit(poll_for_cancellation, threading.Event()))
            handles[-1].cancel()
        for handle in handles:
            with pytest.raises(TaskCancelledError):
                handle.result(PATIENCE)


def test_cancelling_a_retrying_task() -> None:
    """Between two attempts a task is cancelled at once, and there is no third."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_retrying")
        handle = orch.submit_task(Task.call(fail, ValueError(), retry=LONG))
        recorder.wait_for(1)
        assert orch.get_task_status(handle.task_id).state == "retrying"
        assert orch.cancel_task(handle.task_id)
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
        assert states(orch, handle.task_id)[-2:] == ["retrying", "cancelled"]


def test_cancelling_a_blocked_task() -> None:
    """A blocked task can be called off, and is then done."""
    with TaskOrchestrator() as orch:
        bad = orch.submit(fail, ValueError())
        child = orch.submit(abs, bad)
        with pytest.raises(DependencyFailedError):
            child.result(PATIENCE)
        assert not child.done()
        assert orch.cancel_task(child.task_id)
        assert child.done()
        with pytest.raises(TaskCancelledError):
            child.result(PATIENCE)


def test_cancelling_a_suspended_task() -> None:
    """A task that was put aside can be called off."""
    with TaskOrchestrator() as orch:
        task = orch.submit_task(Task.call(int, not_before=60))
        orch.suspend_task(task.task_id)
        assert task.cancel()
        assert task.cancelled()


def test_a_cancelled_dependency_blocks_what_needs_it() -> None:
    """CANCELLED is not COMPLETED: dependents are blocked by it."""
    with TaskOrchestrator() as orch:
        parent = orch.submit_task(Task.call(int, not_before=60))
        child = orch.submit(abs, parent)
        parent.cancel()
        with pytest.raises(DependencyFailedError) as caught:
            child.result(PATIENCE)
        assert caught.value.root_causes == (parent.task_id,)


# -- what cannot be controlled any more, or is not known ---------------------------


def test_finished_tasks_are_beyond_control() -> None:
    """On a terminal task every control method returns False, and changes nothing."""
    with TaskOrchestrator() as orch:
        handle = orch.submit(int, "5")
        handle.result(PATIENCE)
        task_id = handle.task_id
        before = orch.get_task_status(task_id)
        assert orch.cancel_task(task_id) is False
        assert orch.suspend_task(task_id) is False
        assert orch.resume_task(task_id) is False
        assert orch.set_priority(task_id, 5) is False
        assert orch.decide(task_id, "retry") is False
        assert orch.decide(task_id, "complete", 7) is False
        assert handle.cancel() is False
        assert orch.get_task_status(task_id) == before
        assert handle.result() == 5


def test_tasks_out_of_memory_are_beyond_control_too() -> None:
    """A finished task that has left memory is known to have ended."""
    with TaskOrchestrator(keep_finished=0) as orch:
        handle = orch.submit(int)
        handle.result(PATIENCE)
        assert orch.cancel_task(handle.task_id) is False
        status = orch.get_task_status(handle.task_id)
        assert (status.state, status.is_terminal) == (TaskState.COMPLETED, True)
        assert handle.cancel() is False


def test_unknown_ids_raise() -> None:
    """No method takes an id that nobody has."""
    with TaskOrchestrator() as orch:
        for ask in (
            orch.cancel_task,
            orch.suspend_task,
            orch.resume_task,
            orch.rerun_task,
            orch.get_task_status,
            orch.handle,
            orch.explain,
            lambda i: orch.set_priority(i, 1),
            lambda i: orch.decide(i, "retry"),
        ):
            with pytest.raises(UnknownTaskError) as caught:
                ask("nobody")
            assert caught.value.task_id == "nobody"


def test_resuming_what_is_not_suspended_is_no() -> None:
    """`resume_task` of a live task that is not suspended returns False."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        handle = orch.submit(hold)
        hold.wait()
        assert orch.resume_task(handle.task_id) is False
        hold.release()


# -- suspend and resume ------------------------------------------------------------


def test_suspending_a_pending_task() -> None:
    """It does not start when its dependency ends, but when it is resumed."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        first = orch.submit(hold, 1)
        second = orch.submit(abs, first)
        assert orch.suspend_task(second.task_id) is True
        assert orch.suspend_task(second.task_id) is False
        hold.release()
        first.result(PATIENCE)
        assert orch.wait(PATIENCE)
        assert orch.get_task_status(second.task_id).state == "suspended"
        assert orch.resume_task(second.task_id) is True
        assert second.result(PATIENCE) == 1
        assert states(orch, second.task_id) == [
            "pending",
            "suspended",
            "queued",
            "running",
            "completed",
        ]


def test_resuming_before_the_dependency_has_ended() -> None:
    """A resumed task waits on where it stood."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        first = orch.submit(hold, 1)
        second = orch.submit(abs, first)
        orch.suspend_task(second.task_id)
        assert orch.resume_task(second.task_id) is True
        assert orch.get_task_status(second.task_id).state == "pending"
        hold.release()
        assert second.result(PATIENCE) == 1


def test_suspending_a_queued_task() -> None:
    """It leaves the queue, others pass it, and it comes back at its old place."""
    with TaskOrchestrator(concurrency=1) as orch:
        hold = Hold()
        orch.submit(hold)
        hold.wait()
        order: list[str] = []
        a = orch.submit(order.append, "a")
        b = orch.submit(order.append, "b")
        assert orch.suspend_task(a.task_id)
        hold.release()
        b.result(PATIENCE)
        assert orch.wait(PATIENCE)
        assert order == ["b"]
        assert orch.resume_task(a.task_id)
        a.result(PATIENCE)
        assert order == ["b", "a"]


def test_suspending_a_thread_at_its_checkpoint() -> None:
    """The attempt ends uncharged at a checkpoint; the next one finds its state."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_suspended", "task_resumed")
        began = threading.Event()
        seen: list[Any] = []

        def work() -> str:
            context = current_context()
            seen.append((context.attempt, context.restored))
            if context.restored is None:
                reach_checkpoints(began, {"page": 7})
            return "done"

        handle = orch.submit(work)
        assert began.wait(PATIENCE)
        assert orch.suspend_task(handle.task_id) is True
        recorder.wait_for(1)
        assert orch.get_task_status(handle.task_id).state == "suspended"
        assert orch.get_stats().queue.processing == 0
        assert orch.resume_task(handle.task_id)
        assert handle.result(PATIENCE) == "done"
        assert seen == [(1, None), (2, {"page": 7})]
        assert orch.get_stats().retries.scheduled == 0


def test_suspending_a_coroutine_at_its_checkpoint() -> None:
    """A coroutine stops at a checkpoint as well, and is not cancelled for it."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_suspended")
        began = threading.Event()

        async def work() -> int:
            context = current_context()
            if context.attempt == 1:
                began.set()
                while True:
                    await context.aio.checkpoint("half")
                    await asyncio.sleep(0.001)
            assert context.restored == "half"
            return context.attempt

        handle = orch.submit(work)
        assert began.wait(PATIENCE)
        assert orch.suspend_task(handle.task_id)
        recorder.wait_for(1)
        assert orch.resume_task(handle.task_id)
        assert handle.result(PATIENCE) == 2


def test_a_request_to_suspend_is_taken_back() -> None:
    """Resumed before it reached a checkpoint, a thread goes on in the same attempt."""
    with TaskOrchestrator() as orch:
        began, go = threading.Event(), threading.Event()

        def work() -> int:
            began.set()
            assert go.wait(PATIENCE)
            current_context().checkpoint()
            return current_context().attempt

        handle = orch.submit(work)
        assert began.wait(PATIENCE)
        assert orch.suspend_task(handle.task_id)
        assert orch.get_task_status(handle.task_id).state == "running"
        assert orch.resume_task(handle.task_id) is True
        go.set()
        assert handle.result(PATIENCE) == 1


def test_a_thread_without_checkpoints_completes_though_suspended() -> None:
    """Work that ends before it reaches a checkpoint is complete."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        handle = orch.submit(hold, "done")
        hold.wait()
        assert orch.suspend_task(handle.task_id)
        hold.release()
        assert handle.result(PATIENCE) == "done"


def test_suspending_a_retrying_task() -> None:
    """The wait before a retry can be put aside, and goes on as a time of day."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_retrying")
        attempts: list[int] = []

        def work() -> str:
            attempts.append(1)
            if len(attempts) == 1:
                fail(ValueError())
            return "good"

        policy = RetryPolicy(2, base=0.05, jitter=0)
        handle = orch.submit_task(Task.call(work, retry=policy))
        recorder.wait_for(1)
        if orch.suspend_task(handle.task_id):
            assert orch.resume_task(handle.task_id)
        assert handle.result(PATIENCE) == "good"


def test_a_blocked_task_cannot_be_suspended() -> None:
    """Nothing of it runs or will: suspending it is an error that says so."""
    with TaskOrchestrator() as orch:
        child = orch.submit(abs, orch.submit(fail, ValueError()))
        with pytest.raises(DependencyFailedError):
            child.result(PATIENCE)
        with pytest.raises(InvalidTransitionError, match="blocked"):
            orch.suspend_task(child.task_id)


def test_a_suspended_program_stops_where_it_stands(tmp_path) -> None:
    """A program is held by the system, goes on in the same attempt, and completes."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_started", "task_suspended", "task_resumed")
        task = Task.program(["sh", "-c", "read line; echo $line"], stdin="hello\n")
        go = tmp_path / "go"
        script = f"while [ ! -e {go} ]; do sleep 0.01; done"
        handle = orch.submit_task(Task.program(["sh", "-c", script]))
        recorder.wait_for(1)
        eventually(lambda: orch._rt.attempts.holdable(handle._row))
        assert orch.suspend_task(handle.task_id)
        assert recorder.wait_for(2)[1].held is True
        assert orch.get_task_status(handle.task_id).state == "suspended"
        assert orch.resume_task(handle.task_id)
        go.touch()
        assert handle.result(PATIENCE).exit_code == 0
        assert orch.get_task_status(handle.task_id).attempts == 1
        assert orch.submit_task(task).result(PATIENCE).stdout_tail == "hello\n"


# -- status ------------------------------------------------------------------------


def test_the_status_of_a_task_that_runs_and_completes() -> None:
    """State, type, agent, attempts, history and result are what happened."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        handle = orch.submit(hold, "value")
        hold.wait()
        status = orch.get_task_status(handle.task_id)
        assert status.task_id == handle.task_id
        assert status.state is TaskState.RUNNING
        assert status.label == "running"
        assert not status.is_terminal
        assert (status.agent_id, status.attempts) == ("local", 1)
        assert (status.result, status.error) == (None, None)
        hold.release()
        handle.result(PATIENCE)
        status = orch.get_task_status(handle.task_id)
        assert status.state is TaskState.COMPLETED
        assert status.is_terminal
        assert status.result == "value"
        assert [entry.state.value for entry in status.history] == [
            "queued",
            "running",
            "completed",
        ]
        times = [entry.at for entry in status.history]
        assert times == sorted(times)


def test_the_status_of_a_task_that_fails() -> None:
    """The error is the exception itself, and the history says how it went."""
    with TaskOrchestrator() as orch:
        error = ValueError("no")
        policy = RetryPolicy(2, base=0)
        handle = orch.submit_task(Task.call(fail, error, retry=policy))
        assert handle.exception(PATIENCE) is error
        status = orch.get_task_status(handle.task_id)
        assert (status.state, status.error) == (TaskState.FAILED, error)
        assert status.attempts == 2
        assert [entry.state.value for entry in status.history] == [
            "queued",
            "running",
            "retrying",
            "queued",
            "running",
            "failed",
        ]
        assert status.history[-1].detail == "no"


def test_the_status_of_a_blocked_task() -> None:
    """It names what blocks it, and carries the error that `result` raises."""
    with TaskOrchestrator() as orch:
        bad = orch.submit_task(Task.call(fail, ValueError(), id="bad"))
        child = orch.submit_task(Task.call(abs, bad, id="child"))
        grandchild = orch.submit_task(Task.call(abs, child, id="grandchild"))
        with pytest.raises(DependencyFailedError):
            grandchild.result(PATIENCE)
        status = orch.get_task_status("grandchild")
        assert status.state is TaskState.BLOCKED
        assert status.blocked_by == ("child",)
        assert isinstance(status.error, DependencyFailedError)
        assert status.error.root_causes == ("bad",)


def test_progress_stands_in_the_status() -> None:
    """The latest report of a running task can be read from outside."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_progressed")
        hold = Hold()

        def work() -> None:
            current_context().progress(0.25)
            current_context().progress({"done": 3})
            hold()

        handle = orch.submit(work)
        hold.wait()
        assert orch.get_task_status(handle.task_id).progress == {"done": 3}
        assert [e.value for e in recorder.wait_for(2)] == [0.25, {"done": 3}]
        hold.release()


# -- priority, expiry, lists -------------------------------------------------------


def test_set_priority_moves_a_queued_task() -> None:
    """A queued task overtakes the others, and its status says so."""
    with TaskOrchestrator(concurrency=1) as orch:
        recorder = Recorder(orch, "task_reprioritised")
        hold = Hold()
        orch.submit(hold)
        hold.wait()
        order: list[str] = []
        for name in "abc":
            orch.submit_task(Task.call(order.append, name, id=name))
        assert orch.set_priority("c", 5) is True
        assert orch.set_priority("a", -5) is True
        assert orch.get_task_status("c").priority == 5
        hold.release()
        assert orch.wait(PATIENCE)
        assert order == ["c", "b", "a"]
        assert [(e.task_id, e.priority) for e in recorder.events] == [
            ("c", 5),
            ("a", -5),
        ]


def test_set_priority_of_a_task_that_is_not_queued_yet() -> None:
    """A pending task takes its new priority into the queue."""
    with TaskOrchestrator(concurrency=1) as orch:
        hold = Hold()
        first = orch.submit(hold)
        order: list[str] = []
        orch.submit_task(Task.call(order.append, "a", id="a", after=[first]))
        orch.submit_task(Task.call(order.append, "b", id="b", after=[first]))
        assert orch.set_priority("b", 3)
        hold.release()
        assert orch.wait(PATIENCE)
        assert order == ["b", "a"]


@pytest.mark.parametrize("wrong", [1.5, "high", None, True, 10**7])
def test_a_priority_is_an_integer(wrong) -> None:
    """Anything else is refused before the task is looked for."""
    with TaskOrchestrator() as orch, pytest.raises(InvalidTaskError):
        orch.set_priority("whatever", wrong)


def test_expire_tasks_fails_the_stale_ones() -> None:
    """What has been queued for too long fails with TaskExpiredError, and is named."""
    with TaskOrchestrator(concurrency=1) as orch:
        recorder = Recorder(orch, "task_failed")
        hold = Hold()
        running = orch.submit(hold)
        hold.wait()
        stale = [orch.submit(int) for _ in range(2)]
        assert orch.expire_tasks(3600) == []
        assert orch.expire_tasks(0) == [h.task_id for h in stale]
        for handle in stale:
            with pytest.raises(TaskExpiredError):
                handle.result(PATIENCE)
        hold.release()
        running.result(PATIENCE)
        assert orch.get_stats().failures == {"expired": 2}
        assert {e.cause for e in recorder.wait_for(2)} == {"expired"}


def test_tasks_lists_by_state_and_age() -> None:
    """The oldest come first; state and age can be asked for."""
    with TaskOrchestrator(concurrency=1) as orch:
        hold = Hold()
        done = orch.submit(int)
        done.result(PATIENCE)
        running = orch.submit(hold)
        hold.wait()
        queued = [orch.submit(int) for _ in range(5)]
        ids = [s.task_id for s in orch.tasks()]
        assert ids == [h.task_id for h in (done, running, *queued)]
        assert [s.task_id for s in orch.tasks("running")] == [running.task_id]
        assert [s.task_id for s in orch.tasks(TaskState.COMPLETED)] == [done.task_id]
        first = islice(orch.tasks("queued"), 2)
        assert [s.task_id for s in first] == [h.task_id for h in queued[:2]]
        assert len(list(orch.tasks("queued", older_than=0))) == 5
        assert list(orch.tasks("queued", older_than=3600)) == []
        with pytest.raises(InvalidTaskError, match="there are"):
            orch.tasks("sleeping")
        hold.release()


# -- decisions ---------------------------------------------------------------------


def test_a_held_task_is_retried_by_decision() -> None:
    """`decide(id, "retry")` runs it again."""
    with TaskOrchestrator() as orch:
        handle = held_for_decision(orch, "held")
        status = orch.get_task_status("held")
        assert (status.state, status.blocked_by) == (TaskState.BLOCKED, ("decision",))
        assert not handle.done()
        with pytest.raises(TimeoutError):
            handle.result(0.02)
        assert orch.decide("held", "retry") is True
        eventually(lambda: orch.get_task_status("held").attempts == 2)
        assert orch.wait(PATIENCE)
        assert orch.decide("held", "fail") is True


def test_a_held_task_is_completed_by_decision() -> None:
    """`decide(id, "complete", result)` is its result, and dependents go on."""
    with TaskOrchestrator() as orch:
        handle = held_for_decision(orch, "held")
        future = handle.future()
        child = orch.submit(abs, handle)
        assert orch.get_task_status(child.task_id).state == "pending"
        assert not future.done()
        assert orch.decide("held", "complete", -4) is True
        assert handle.result(PATIENCE) == -4
        assert child.result(PATIENCE) == 4
        assert future.result(PATIENCE) == -4


def test_a_held_task_is_failed_by_decision() -> None:
    """`decide(id, "fail")` ends it, and its dependents are blocked."""
    with TaskOrchestrator() as orch:
        handle = held_for_decision(orch, "held")
        child = orch.submit(abs, handle)
        assert orch.decide("held", "fail") is True
        assert handle.exception(PATIENCE) is not None
        with pytest.raises(DependencyFailedError):
            child.result(PATIENCE)
        assert orch.get_stats().failures == {"decision": 1}


def test_only_what_is_held_can_be_decided() -> None:
    """Deciding a task that runs, or one that a dependency blocks, is an error."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        handle = orch.submit(hold)
        hold.wait()
        with pytest.raises(InvalidTransitionError, match="nothing to decide"):
            orch.decide(handle.task_id, "retry")
        with pytest.raises(InvalidTaskError, match="verdict"):
            orch.decide(handle.task_id, "maybe")  # type: ignore[arg-type]
        hold.release()
        child = orch.submit(abs, orch.submit(fail, ValueError()))
        with pytest.raises(DependencyFailedError):
            child.result(PATIENCE)
        with pytest.raises(InvalidTransitionError, match="blocked by"):
            orch.decide(child.task_id, "retry")


# -- running again -----------------------------------------------------------------


class Flaky:
    """Fails until it is mended."""

    def __init__(self) -> None:
        self.broken = True

    def __call__(self, value: int = 1) -> int:
        if self.broken:
            msg = "broken"
            raise Permanent(msg)
        return value


def test_a_rerun_is_a_new_task_and_dependents_follow_it() -> None:
    """`id~2` runs, and what the failure had blocked goes on with its result."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_repointed", "task_unblocked")
        flaky = Flaky()
        a = orch.submit_task(Task.call(flaky, 5, id="a"))
        b = orch.submit_task(Task.call(lambda x, xs: (x, xs), a, [a, 1], id="b"))

        def look() -> dict:
            return dict(current_context().results)

        c = orch.submit_task(Task.call(look, id="c", after=["b", "a"]))
        with pytest.raises(DependencyFailedError) as caught:
            c.result(PATIENCE)
        assert caught.value.root_causes == ("a",)
        flaky.broken = False
        again = orch.rerun_task("a")
        assert again.task_id == "a~2"
        assert again.result(PATIENCE) == 5
        # The old handle keeps its failure, the dependents' handles follow.
        assert isinstance(a.exception(PATIENCE), Permanent)
        assert b.result(PATIENCE) == (5, [5, 1])
        assert c.result(PATIENCE) == {"a": 5, "b": (5, [5, 1])}
        assert orch.wait(PATIENCE)
        assert recorder.events[0].rerun_id == "a~2"
        assert set(recorder.events[0].dependents) == {"b", "c"}


def test_a_rerun_that_fails_blocks_again_and_the_third_mends() -> None:
    """Each re-run has the next number, whichever of them is named."""
    with TaskOrchestrator() as orch:
        flaky = Flaky()
        orch.submit_task(Task.call(flaky, 5, id="a"))
        b = orch.submit_task(Task.call(abs, orch.handle("a"), id="b"))
        with pytest.raises(DependencyFailedError):
            b.result(PATIENCE)
        second = orch.rerun_task("a")
        assert second.exception(PATIENCE) is not None
        with pytest.raises(DependencyFailedError) as caught:
            b.result(PATIENCE)
        assert caught.value.root_causes == ("a~2",)
        flaky.broken = False
        third = orch.rerun_task("a~2")
        assert third.task_id == "a~3"
        assert b.result(PATIENCE) == 5


def test_a_completed_task_can_be_run_again() -> None:
    """A re-run of good work is new work with the same arguments and options."""
    with TaskOrchestrator() as orch:
        calls: list[int] = []
        plain = orch.submit(calls.append, 1)
        plain.result(PATIENCE)
        again = orch.rerun_task(plain.task_id)
        again.result(PATIENCE)
        assert calls == [1, 1]
        assert again.task_id == f"{plain.task_id}~2"


def test_only_what_has_ended_is_run_again() -> None:
    """A running task and a task out of memory cannot be run again."""
    with TaskOrchestrator(keep_finished=0) as orch:
        hold = Hold()
        handle = orch.submit(hold)
        hold.wait()
        with pytest.raises(InvalidTransitionError, match="running"):
            orch.rerun_task(handle.task_id)
        hold.release()
        handle.result(PATIENCE)
        with pytest.raises(UnknownTaskError, match="memory"):
            orch.rerun_task(handle.task_id)


def test_a_rerun_keeps_dependencies_and_limits() -> None:
    """Parents' results, timeout, retry policy and deadline hold for the re-run, too."""
    with TaskOrchestrator() as orch:
        parent = orch.submit_task(Task.call(int, "3", id="parent"))
        flaky = Flaky()
        task = Task.call(
            flaky, parent, id="task", deadline=60, retry=RetryPolicy(1, base=0)
        )
        orch.submit_task(task)
        assert orch.handle("task").exception(PATIENCE) is not None
        flaky.broken = False
        again = orch.rerun_task("task")
        assert again.result(PATIENCE) == 3
        assert again._row.extra is not None
        assert again._row.extra.deadline_ns is not None


def test_a_function_without_checkpoints_cannot_be_suspended_and_says_so() -> None:
    """The state, the event and the history do; so it is not taken for suspended."""
    hold = Hold()
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "attempt_stopping")
        orch.submit_task(Task.call(hold, id="a"))
        hold.wait()
        assert orch.suspend_task("a")
        status = orch.get_task_status("a")
        assert status.state is TaskState.RUNNING
        assert "without one it runs to its end" in status.stopping
        assert "without one it runs to its end" in str(orch.explain("a"))
        (event,) = recorder.wait_for(1)
        assert event.reason == status.stopping
        hold.release()
        orch.wait(PATIENCE)
        status = orch.get_task_status("a")
        assert (status.state, status.stopping) == (TaskState.COMPLETED, "")
        assert "it ended before it came to a checkpoint" in status.history[-1].detail
