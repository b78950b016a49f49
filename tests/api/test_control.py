"""Control: cancel, suspend, resume, status; priorities, expiry, decisions, re-runs."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Hold, Recorder, eventually, fail

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


@pytest.fixture
def orch() -> Iterator[TaskOrchestrator]:
    """One whose tasks run at once."""
    with TaskOrchestrator() as orch:
        yield orch


@pytest.fixture
def slot() -> Iterator[TaskOrchestrator]:
    """One that has room for one task."""
    with TaskOrchestrator(concurrency=1) as orch:
        yield orch


def held(orch: TaskOrchestrator, *args: Any) -> tuple[Hold, Any]:
    """What runs until it is let go, and its handle."""
    hold = Hold()
    handle = orch.submit(hold, *args)
    hold.wait()
    return hold, handle


def blocked(orch: TaskOrchestrator) -> Any:
    """A task whose parent has failed."""
    child = orch.submit(abs, orch.submit(fail, ValueError()))
    with pytest.raises(DependencyFailedError):
        child.result(PATIENCE)
    return child


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


def test_what_does_not_run_is_cancelled_at_once(slot: TaskOrchestrator) -> None:
    """Whatever it waits for: it is done, never runs, and the next in line starts."""
    ran: list[int] = []
    recorder = Recorder(slot, "task_retrying")
    tasks = {
        "blocked": blocked(slot),
        "retrying": slot.submit_task(Task.call(fail, ValueError(), retry=LONG)),
    }
    recorder.wait_for(1)
    hold, first = held(slot)
    tasks["pending"] = slot.submit_task(Task.call(ran.append, 1, after=[first]))
    tasks["queued"], third = slot.submit(ran.append, 2), slot.submit(ran.append, 3)
    tasks["suspended"] = slot.submit_task(Task.call(int, not_before=60))
    slot.suspend_task(tasks["suspended"].task_id)
    for number, (state, handle) in enumerate(tasks.items()):
        assert not handle.done()
        by_id = partial(slot.cancel_task, handle.task_id)
        assert (by_id if number % 2 else handle.cancel)() is True
        assert handle.done()
        assert handle.cancelled()
        with pytest.raises(TaskCancelledError) as caught:
            handle.result(PATIENCE)
        assert caught.value.reason == "cancelled by the user"
        assert states(slot, handle.task_id)[-2:] == [state, "cancelled"]
    hold.release()
    third.result(PATIENCE)
    assert slot.wait(PATIENCE)
    assert ran == [3]


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


TIDIED = threading.Event()


async def tidy_up(began: threading.Event) -> None:
    """A coroutine that is cancelled where it awaits."""
    try:
        began.set()
        await asyncio.sleep(PATIENCE)
    finally:
        TIDIED.set()


async def go_on(began: threading.Event) -> str:
    """A coroutine that finishes in spite of its cancellation."""
    began.set()
    try:
        await asyncio.sleep(PATIENCE)
    except asyncio.CancelledError:
        return "no"
    return "never"


@pytest.mark.parametrize(
    "work", [poll_for_cancellation, reach_checkpoints, tidy_up, go_on]
)
def test_what_runs_is_cancelled_whatever_it_returns(
    orch: TaskOrchestrator, work: Any
) -> None:
    """Where a thread asks or comes to a checkpoint, and where a coroutine awaits."""
    TIDIED.clear()
    began = threading.Event()
    handle = orch.submit(work, began)
    assert began.wait(PATIENCE)
    assert orch.cancel_task(handle.task_id) is True
    # Asking again changes nothing.
    assert handle.cancel() in {True, False}
    with pytest.raises(TaskCancelledError):
        handle.result(PATIENCE)
    status = orch.get_task_status(handle.task_id)
    assert (status.state, status.is_terminal) == (TaskState.CANCELLED, True)
    assert status.result is None
    assert states(orch, handle.task_id) == ["queued", "running", "cancelled"]
    assert TIDIED.is_set() == (work is tidy_up)


def test_a_cancellation_that_meets_the_very_beginning_is_not_lost(
    orch: TaskOrchestrator,
) -> None:
    """Of a coroutine, and of a thread."""
    handles = []
    for _ in range(100):
        for work in (
            partial(asyncio.sleep, 2 * PATIENCE),
            partial(poll_for_cancellation, threading.Event()),
        ):
            handles.append(orch.submit(work))
            handles[-1].cancel()
    for handle in handles:
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)


# -- what cannot be controlled any more, or is not known ---------------------------


@pytest.mark.parametrize("keep_finished", [0, 10])
def test_finished_tasks_are_beyond_control(keep_finished: int) -> None:
    """Every method returns False and changes nothing, also once it has left memory."""
    with TaskOrchestrator(keep_finished=keep_finished) as orch:
        handle = orch.submit(int, "5")
        handle.result(PATIENCE)
        task_id = handle.task_id
        before = orch.get_task_status(task_id)
        assert (before.state, before.is_terminal) == (TaskState.COMPLETED, True)
        assert orch.cancel_task(task_id) is False
        if keep_finished:
            assert orch.suspend_task(task_id) is False
            assert orch.resume_task(task_id) is False
            assert orch.set_priority(task_id, 5) is False
            assert orch.decide(task_id, "retry") is False
            assert orch.decide(task_id, "complete", 7) is False
        assert handle.cancel() is False
        assert orch.get_task_status(task_id) == before
        assert handle.result() == 5


# -- suspend and resume ------------------------------------------------------------


def test_suspending_a_pending_task(orch: TaskOrchestrator) -> None:
    """It does not start when its dependency ends, but when it is resumed."""
    hold, first = held(orch, 1)
    assert orch.resume_task(first.task_id) is False
    second, third = orch.submit(abs, first), orch.submit(abs, first)
    for handle in (second, third):
        assert orch.suspend_task(handle.task_id) is True
        assert orch.suspend_task(handle.task_id) is False
    # Resumed before the dependency has ended, it waits on where it stood.
    assert orch.resume_task(third.task_id) is True
    assert orch.get_task_status(third.task_id).state == "pending"
    hold.release()
    assert third.result(PATIENCE) == 1
    assert orch.wait(PATIENCE)
    assert orch.get_task_status(second.task_id).state == "suspended"
    assert orch.resume_task(second.task_id) is True
    assert second.result(PATIENCE) == 1
    way = "pending suspended queued running completed"
    assert states(orch, second.task_id) == way.split()


def test_suspending_a_queued_task(slot: TaskOrchestrator) -> None:
    """It leaves the queue, others pass it, and it comes back at its old place."""
    hold, _ = held(slot)
    order: list[str] = []
    a, b = slot.submit(order.append, "a"), slot.submit(order.append, "b")
    assert slot.suspend_task(a.task_id)
    hold.release()
    b.result(PATIENCE)
    assert slot.wait(PATIENCE)
    assert order == ["b"]
    assert slot.resume_task(a.task_id)
    a.result(PATIENCE)
    assert order == ["b", "a"]


@pytest.mark.parametrize("kind", ["thread", "coroutine"])
def test_suspending_an_attempt_at_its_checkpoint(
    orch: TaskOrchestrator, kind: str
) -> None:
    """It ends uncharged, and is not cancelled for it; the next one finds its state."""
    recorder = Recorder(orch, "task_suspended", "task_resumed")
    began = threading.Event()
    seen: list[Any] = []

    def work() -> str:
        context = current_context()
        seen.append((context.attempt, context.restored))
        if context.restored is None:
            reach_checkpoints(began, {"page": 7})
        return "done"

    async def work_async() -> str:
        context = current_context()
        seen.append((context.attempt, context.restored))
        if context.attempt == 1:
            began.set()
            while True:
                await context.aio.checkpoint({"page": 7})
                await asyncio.sleep(0.001)
        return "done"

    handle = orch.submit(work if kind == "thread" else work_async)
    assert began.wait(PATIENCE)
    assert orch.suspend_task(handle.task_id) is True
    recorder.wait_for(1)
    assert orch.get_task_status(handle.task_id).state == "suspended"
    assert orch.get_stats().queue.processing == 0
    assert orch.resume_task(handle.task_id)
    assert handle.result(PATIENCE) == "done"
    assert seen == [(1, None), (2, {"page": 7})]
    assert orch.get_stats().retries.scheduled == 0


def test_a_request_to_suspend_is_taken_back(orch: TaskOrchestrator) -> None:
    """Resumed before it reached a checkpoint, a thread goes on in the same attempt."""
    hold = Hold()

    def work() -> int:
        hold()
        current_context().checkpoint()
        return current_context().attempt

    handle = orch.submit(work)
    hold.wait()
    assert orch.suspend_task(handle.task_id)
    assert orch.get_task_status(handle.task_id).state == "running"
    assert orch.resume_task(handle.task_id) is True
    hold.release()
    assert handle.result(PATIENCE) == 1


def test_a_blocked_task_cannot_be_suspended(orch: TaskOrchestrator) -> None:
    """Nothing of it runs or will: suspending it is an error that says so."""
    with pytest.raises(InvalidTransitionError, match="blocked"):
        orch.suspend_task(blocked(orch).task_id)


# -- status ------------------------------------------------------------------------


def test_the_status_of_a_task_that_runs_and_completes(orch: TaskOrchestrator) -> None:
    """State, type, worker, attempts, history and result are what happened."""
    hold, handle = held(orch, "value")
    status = orch.get_task_status(handle.task_id)
    assert status.task_id == handle.task_id
    assert (status.state, status.label) == (TaskState.RUNNING, "running")
    assert not status.is_terminal
    assert (status.agent_id, status.attempts) == ("local", 1)
    assert (status.result, status.error) == (None, None)
    hold.release()
    handle.result(PATIENCE)
    status = orch.get_task_status(handle.task_id)
    assert (status.state, status.is_terminal) == (TaskState.COMPLETED, True)
    assert status.result == "value"
    assert states(orch, handle.task_id) == ["queued", "running", "completed"]
    times = [entry.at for entry in status.history]
    assert times == sorted(times)


def test_the_status_of_a_task_that_fails_and_of_those_that_need_it(
    orch: TaskOrchestrator,
) -> None:
    """The error is the exception itself; what it blocks carries what `result` raises."""
    error = ValueError("no")
    task = Task.call(fail, error, retry=RetryPolicy(2, base=0), id="bad")
    bad = orch.submit_task(task)
    child = orch.submit_task(Task.call(abs, bad, id="child"))
    grandchild = orch.submit_task(Task.call(abs, child, id="grandchild"))
    assert bad.exception(PATIENCE) is error
    status = orch.get_task_status("bad")
    assert (status.state, status.error) == (TaskState.FAILED, error)
    assert status.attempts == 2
    way = "queued running retrying queued running failed"
    assert states(orch, "bad") == way.split()
    assert status.history[-1].detail == "no"
    with pytest.raises(DependencyFailedError):
        grandchild.result(PATIENCE)
    status = orch.get_task_status("grandchild")
    assert (status.state, status.blocked_by) == (TaskState.BLOCKED, ("child",))
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


def test_set_priority_moves_a_task(slot: TaskOrchestrator) -> None:
    """One that is queued overtakes the others, and one that is not yet will do so."""
    recorder = Recorder(slot, "task_reprioritised")
    hold, first = held(slot)
    order: list[str] = []
    for name in "abc":
        slot.submit_task(Task.call(order.append, name, id=name))
    for name in "xy":
        slot.submit_task(Task.call(order.append, name, id=name, after=[first]))
    moved = [("c", 5), ("a", -5), ("x", -7), ("y", 7)]
    for name, priority in moved:
        assert slot.set_priority(name, priority) is True
        assert slot.get_task_status(name).priority == priority
    hold.release()
    assert slot.wait(PATIENCE)
    assert order == ["y", "c", "b", "a", "x"]
    assert [(e.task_id, e.priority) for e in recorder.events] == moved


def test_expire_tasks_fails_the_stale_ones(slot: TaskOrchestrator) -> None:
    """What has been queued for too long fails with TaskExpiredError, and is named."""
    recorder = Recorder(slot, "task_failed")
    hold, running = held(slot)
    stale = [slot.submit(int) for _ in range(2)]
    assert slot.expire_tasks(3600) == []
    assert slot.expire_tasks(0) == [h.task_id for h in stale]
    for handle in stale:
        with pytest.raises(TaskExpiredError):
            handle.result(PATIENCE)
    hold.release()
    running.result(PATIENCE)
    assert slot.get_stats().failures == {"expired": 2}
    assert {e.cause for e in recorder.wait_for(2)} == {"expired"}


def test_tasks_lists_by_state_and_age(slot: TaskOrchestrator) -> None:
    """The oldest come first; state and age can be asked for."""
    done = slot.submit(int)
    done.result(PATIENCE)
    hold, running = held(slot)
    queued = [slot.submit(int) for _ in range(5)]

    def ids(*states: Any, **options: Any) -> list[str]:
        return [status.task_id for status in slot.tasks(*states, **options)]

    assert ids() == [h.task_id for h in (done, running, *queued)]
    assert ids("running") == [running.task_id]
    assert ids(TaskState.COMPLETED) == [done.task_id]
    first = islice(slot.tasks("queued"), 2)
    assert [s.task_id for s in first] == [h.task_id for h in queued[:2]]
    assert len(ids("queued", older_than=0)) == 5
    assert ids("queued", older_than=3600) == []
    hold.release()


# -- decisions ---------------------------------------------------------------------


def test_a_held_task_is_decided(orch: TaskOrchestrator) -> None:
    """To run again, to be complete with a result, or to fail, with what depends on it."""
    again, good, bad = (
        held_for_decision(orch, name) for name in ("again", "good", "bad")
    )
    status = orch.get_task_status("again")
    assert (status.state, status.blocked_by) == (TaskState.BLOCKED, ("decision",))
    assert not again.done()
    with pytest.raises(TimeoutError):
        again.result(0.02)
    assert orch.decide("again", "retry") is True
    eventually(lambda: orch.get_task_status("again").attempts == 2)
    assert orch.wait(PATIENCE)

    future, child, orphan = good.future(), orch.submit(abs, good), orch.submit(abs, bad)
    assert orch.get_task_status(child.task_id).state == "pending"
    assert not future.done()
    assert orch.decide("good", "complete", -4) is True
    assert good.result(PATIENCE) == -4
    assert child.result(PATIENCE) == 4
    assert future.result(PATIENCE) == -4

    for name in ("bad", "again"):
        assert orch.decide(name, "fail") is True
        assert orch.handle(name).exception(PATIENCE) is not None
    with pytest.raises(DependencyFailedError):
        orphan.result(PATIENCE)
    assert orch.get_stats().failures == {"decision": 2}


def test_only_what_is_held_can_be_decided(orch: TaskOrchestrator) -> None:
    """Deciding a task that runs, or one that a dependency blocks, is an error."""
    hold, handle = held(orch)
    with pytest.raises(InvalidTransitionError, match="nothing to decide"):
        orch.decide(handle.task_id, "retry")
    with pytest.raises(InvalidTaskError, match="verdict"):
        orch.decide(handle.task_id, "maybe")  # type: ignore[arg-type]
    hold.release()
    with pytest.raises(InvalidTransitionError, match="blocked by"):
        orch.decide(blocked(orch).task_id, "retry")


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


def test_a_rerun_that_fails_blocks_again_and_the_third_mends(
    orch: TaskOrchestrator,
) -> None:
    """Each re-run has the next number, whichever of them is named."""
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


def test_only_what_has_ended_is_run_again() -> None:
    """A running task and a task out of memory cannot be run again."""
    with TaskOrchestrator(keep_finished=0) as orch:
        hold, handle = held(orch)
        with pytest.raises(InvalidTransitionError, match="running"):
            orch.rerun_task(handle.task_id)
        hold.release()
        handle.result(PATIENCE)
        with pytest.raises(UnknownTaskError, match="memory"):
            orch.rerun_task(handle.task_id)


def test_a_rerun_keeps_dependencies_and_limits(orch: TaskOrchestrator) -> None:
    """Of good work it is new work; parents' results and the deadline hold for it, too."""
    parent = orch.submit_task(Task.call(int, "3", id="parent"))
    flaky = Flaky()
    retry = RetryPolicy(1, base=0)
    orch.submit_task(Task.call(flaky, parent, id="task", deadline=60, retry=retry))
    assert orch.handle("task").exception(PATIENCE) is not None
    flaky.broken = False
    for number in (2, 3):
        again = orch.rerun_task("task")
        assert again.task_id == f"task~{number}"
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
