"""Waiting inside tasks: slots are given back, resources are not."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Hold, Recorder, eventually, fail, in_loop

from taskorch import (
    DependencyFailedError,
    Resources,
    Task,
    TaskCancelledError,
    TaskOrchestrator,
    TaskTimeoutError,
    as_completed,
    current_context,
)
from taskorch.errors import WouldBlockError, WouldDeadlockError


@pytest.fixture
def orch() -> Iterator[TaskOrchestrator]:
    with TaskOrchestrator() as orch:
        yield orch


@pytest.fixture
def slot() -> Iterator[TaskOrchestrator]:
    """One with a single slot, which is free in the end."""
    with TaskOrchestrator(concurrency=1) as orch:
        yield orch
        assert orch.wait(PATIENCE)
        assert orch._rt.kernel.running == 0


@pytest.mark.parametrize("how", ["map", "as_completed", "exception", "gather"])
def test_every_way_of_waiting_gives_the_slot_back(how) -> None:
    """With one slot, whoever waits inside a task lets its children run."""
    with TaskOrchestrator(concurrency=1) as orch:

        def wait() -> list[int]:
            if how == "map":
                return list(orch.map(int, "123"))
            handles = [orch.submit(int, n) for n in "123"]
            if how == "as_completed":
                return sorted(h.result() for h in as_completed(handles, PATIENCE))
            for handle in handles:
                assert handle.exception(PATIENCE) is None
            return [h.result() for h in handles]

        async def gather() -> Any:
            return await asyncio.gather(*(orch.submit(int, n) for n in "123"))

        handle = orch.submit(gather if how == "gather" else wait)
        assert handle.result(PATIENCE) == [1, 2, 3]
        assert orch.get_stats().queue.processing == 0


def test_how_a_child_ends_is_told_in_its_parent(slot: TaskOrchestrator) -> None:
    """One that fails, one that is blocked, and one that takes too long."""
    hold = Hold()

    def parent() -> str:
        bad = slot.submit(fail, ValueError("child"))
        with pytest.raises(ValueError, match="child"):
            bad.result(PATIENCE)
        with pytest.raises(DependencyFailedError):
            slot.submit(abs, bad).result(PATIENCE)
        late = slot.submit(hold)
        with pytest.raises(TimeoutError):
            late.result(0.02)
        return "told"

    handle = slot.submit(parent)
    hold.wait()
    # With the slot taken again, or still waited for.
    eventually(lambda: slot._rt.waiting._returns)
    hold.release()
    assert handle.result(PATIENCE) == "told"


# -- being stopped while waiting ---------------------------------------------------


@pytest.mark.parametrize("how", ["result", "as_completed", "await", "timeout"])
def test_a_task_that_waits_inside_is_stopped(slot: TaskOrchestrator, how: str) -> None:
    """A cancellation or a timeout ends the wait at once; the child is work of its own."""
    hold = Hold()
    child: list[Any] = []

    def parent() -> None:
        child.append(slot.submit(hold))
        if how == "as_completed":
            list(as_completed([child[0], slot.submit(hold)]))
        child[0].result(PATIENCE)

    async def parent_async() -> None:
        child.append(slot.submit(hold))
        await child[0]

    fn = parent_async if how == "await" else parent
    timeout = 0.05 if how == "timeout" else None
    handle = slot.submit_task(Task.call(fn, timeout=timeout))
    if how != "timeout":
        hold.wait()
        assert handle.cancel()
    error = TaskTimeoutError if how == "timeout" else TaskCancelledError
    with pytest.raises(error):
        handle.result(PATIENCE)
    assert not any(each.done() for each in child)
    hold.release()
    for each in child:
        each.result(PATIENCE)


# -- deadlocks ---------------------------------------------------------------------


def needs(cpu: float) -> Resources:
    return Resources(cpu=cpu)


def test_a_task_that_waits_for_itself(orch) -> None:
    """Nobody can wait for the end of himself."""

    def selfish() -> None:
        with pytest.raises(WouldDeadlockError, match="itself") as caught:
            orch.handle("me").result(PATIENCE)
        assert caught.value.hint.startswith("return what it has; ")

    async def selfish_async() -> None:
        with pytest.raises(WouldDeadlockError, match="itself"):
            await orch.handle("me-too")

    orch.submit_task(Task.call(selfish, id="me")).result(PATIENCE)
    orch.submit_task(Task.call(selfish_async, id="me-too")).result(PATIENCE)


def test_a_task_that_waits_for_what_depends_on_it(orch) -> None:
    """What needs the waiter's own result can never end first."""

    def parent() -> str:
        child = orch.submit_task(Task.call(int, after=["parent"]))
        with pytest.raises(WouldDeadlockError):
            child.result(PATIENCE)
        with pytest.raises(WouldDeadlockError):
            next(as_completed([child]))
        return "told"

    assert orch.submit_task(Task.call(parent, id="parent")).result(PATIENCE)


def test_a_wait_that_others_will_make_room_for() -> None:
    """Resources that a working task holds will be free: that is no deadlock."""
    with TaskOrchestrator(resources=needs(2)) as orch:
        hold = Hold()
        orch.submit_task(Task.call(hold, resources=needs(1)))
        hold.wait()

        def parent() -> int:
            child = orch.submit_task(Task.call(int, "3", resources=needs(1)))
            return child.result(PATIENCE)

        recorder = Recorder(orch, "attempt_waiting")
        handle = orch.submit_task(Task.call(parent, resources=needs(1)))
        recorder.wait_for(1)
        hold.release()
        assert handle.result(PATIENCE) == 3


@pytest.mark.parametrize(
    ("ours", "theirs", "is_served"),
    [(60, 60, False), (100, None, False), (40, 60, True), (None, 100, True)],
)
@pytest.mark.parametrize("part", [None, "part"])
def test_a_child_that_draws_on_the_same_budget(
    ours: float | None, theirs: float | None, is_served: bool, part: str | None
) -> None:
    """What is reserved of a budget is kept in a wait, as resources are."""
    with TaskOrchestrator() as orch:
        orch.budget("whole", tokens=100)
        if part is not None:
            orch.budget(part, parent="whole", tokens=1_000)

        def reserving(tokens: float | None) -> dict[str, float]:
            return {} if tokens is None else {"tokens": tokens}

        def parent() -> str:
            task = Task.call(
                int, resources=reserving(theirs), id="child", budget=part or "whole"
            )
            child = orch.submit_task(task)
            if is_served:
                return f"served {child.result(PATIENCE)}"
            with pytest.raises(WouldDeadlockError, match="no resources") as caught:
                child.result(PATIENCE)
            assert caught.value.holders == ("parent",)
            current_context().spent(tokens=1)
            return "told"

        task = Task.call(parent, id="parent", budget="whole", resources=reserving(ours))
        said = orch.submit_task(task).result(PATIENCE)
        assert said == ("served 0" if is_served else "told")
        # As soon as the other has ended, there is enough for it.
        assert orch.wait(PATIENCE)
        assert orch.get_task_status("child").state == "completed"


@pytest.mark.parametrize(
    ("tokens", "child", "answer", "changes"),
    [(100, 130, "raise", {"tokens": 1_000}), (10, 60, "finish", None)],
)
def test_a_wait_that_people_may_end_is_no_deadlock(
    orch: TaskOrchestrator, tokens: int, child: int, answer: Any, changes: Any
) -> None:
    """They are asked, as more is needed than there is: their answer lets it start."""

    def parent() -> int:
        task = Task.call(int, "3", resources={"tokens": child})
        return orch.submit_task(task).result(PATIENCE)

    with orch.budget("b", tokens=tokens):
        handle = orch.submit_task(Task.call(parent, resources={"tokens": 60}))
    eventually(orch.questions)
    (question,) = orch.questions()
    orch.answer(question.id, answer, by="ada", changes=changes)
    assert handle.result(PATIENCE) == 3


# -- the loop ----------------------------------------------------------------------


@in_loop
async def test_blocking_the_loop_that_must_do_the_work_is_refused() -> None:
    """On the orchestrator's own loop `result`, `wait` and `stop` raise a hint instead."""
    async with TaskOrchestrator() as orch:
        gate = asyncio.Event()
        handle = orch.submit(gate.wait)
        for blocking in (
            lambda: handle.result(PATIENCE),
            lambda: handle.exception(PATIENCE),
            lambda: next(as_completed([handle])),
            lambda: orch.wait(PATIENCE),
            orch.stop,
            lambda: orch.stop(drain=False),
        ):
            with pytest.raises(WouldBlockError) as caught:
                blocking()
            assert "await" in caught.value.hint or "asyncio" in caught.value.hint
        gate.set()
        await handle
        # What has ended blocks nobody.
        assert handle.result() is True
        assert next(as_completed([handle])) is handle


@pytest.mark.parametrize("holds", ["slots", "a worker", "a pool"])
@pytest.mark.parametrize("limit", [None, PATIENCE], ids=["alike", "of another kind"])
def test_wait_goes_on_while_calls_that_would_not_stop_hold_what_is_needed(holds, limit):
    hold = Hold()
    options = {"slots": {"concurrency": 1}, "a pool": {"resources": {"cpu": 1}}}
    needs = {"resources": {"cpu": 1}} if holds == "a pool" else {}
    with TaskOrchestrator(grace=0.01, **options.get(holds, {})) as orch:
        orch.agent("one", capabilities=["one"])(lambda task, _: task.payload())
        tasks = [
            Task.call(fn, id=name, timeout=most, **needs)
            if holds != "a worker"
            else Task("one", fn, id=name, timeout=most)
            for name, fn, most in (("a", hold, None), ("b", dict, limit))
        ]
        orch.submit_tasks(tasks)
        hold.wait()
        orch.cancel_task("a")
        eventually(lambda: orch.get_stats().leaked == 1)
        assert orch.wait(0.01) is False
        assert orch.status("b").state == "queued"
        hold.release()
        assert orch.wait(PATIENCE)
        assert orch.status("b").state == "completed"


def test_wait_does_not_wait_for_calls_that_would_not_stop_while_starts_are_held():
    hold = Hold()
    with TaskOrchestrator(grace=0.01, concurrency=1) as orch:
        orch.submit_tasks([Task.call(hold, id="a"), Task.call(dict, id="b")])
        hold.wait()
        orch.cancel_task("a")
        eventually(lambda: orch.get_stats().leaked == 1)
        assert orch.wait(0.01) is False
        orch.hold_starts("a test looks at it")
        assert orch.wait(PATIENCE)
        assert orch.status("b").state == "queued"
        hold.release()
        orch.release_starts()
        assert orch.wait(PATIENCE)
        assert orch.status("b").state == "completed"


def test_wait_does_not_wait_for_calls_that_would_not_stop_if_nothing_needs_them():
    hold = Hold()
    with TaskOrchestrator(grace=0.01, unknown_capability="wait") as orch:
        orch.submit_task(Task.call(hold, id="a"))
        orch.submit_task(Task("nobody", id="c", requires=["nobody"]))
        hold.wait()
        orch.cancel_task("a")
        eventually(lambda: orch.get_stats().leaked == 1)
        assert orch.wait(PATIENCE)
        hold.release()
        orch.cancel_task("c")
