"""Handles: futures that are awaitable, and say what became of the task."""

import asyncio
import concurrent.futures
import gc
import threading
import traceback
import weakref
from concurrent.futures.process import BrokenProcessPool

import pytest
from tests.integration.tools import PATIENCE, Hold, Recorder, fail

from taskorch import (
    DependencyFailedError,
    RetryPolicy,
    Task,
    TaskCancelledError,
    TaskOrchestrator,
    TaskTimeoutError,
)
from taskorch.errors import TaskFailure


class Oops(Exception):
    """An error of the user's."""


def raise_oops() -> None:
    msg = "deep inside"
    raise Oops(msg)


# -- result and exception ----------------------------------------------------------


def test_the_result_is_there_as_often_as_asked() -> None:
    """A result can be read many times, from anywhere, also after the stop."""
    with TaskOrchestrator() as orch:
        handle = orch.submit(dict, a=1)
        first = handle.result(PATIENCE)
        assert handle.result() is first
        assert handle.exception() is None
        assert handle.done()
        assert not handle.cancelled()
    assert handle.result() is first


def test_patience_runs_out_with_the_builtin_timeout_error() -> None:
    """`result(timeout)` raises TimeoutError and the task goes on."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        handle = orch.submit(hold, "late")
        for ask in (handle.result, handle.exception):
            with pytest.raises(TimeoutError) as caught:
                ask(0.01)
            assert not isinstance(caught.value, TaskFailure)
        with pytest.raises(TimeoutError):
            handle.result(0)
        assert not handle.done()
        hold.release()
        assert handle.result(PATIENCE) == "late"


def test_very_long_patience_is_patience() -> None:
    """A timeout beyond what a lock can wait for is as good as none."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        handle = orch.submit(hold, 1)
        threading.Timer(0.02, hold.release).start()
        assert handle.result(1e12) == 1
        assert orch.submit(int).result(float("inf")) == 0


def test_the_original_exception_is_raised_with_its_traceback() -> None:
    """Same object, with the frames of the task's code, and none of ours before them."""
    with TaskOrchestrator() as orch:
        handle = orch.submit(raise_oops)
        error = handle.exception(PATIENCE)
        assert isinstance(error, Oops)
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert frames == ["raise_oops"]
        with pytest.raises(Oops, match="deep inside") as caught:
            handle.result()
        assert caught.value is error
        assert handle.done()
        assert not handle.cancelled()


def test_the_callers_own_errors_stay_apart_from_the_tasks() -> None:
    """A task that raises TimeoutError itself has failed with it."""
    with TaskOrchestrator() as orch:
        handle = orch.submit(fail, TimeoutError("its own"))
        with pytest.raises(TimeoutError, match="its own"):
            handle.result(PATIENCE)
        assert handle.done()


def test_a_timed_out_task_is_no_builtin_timeout() -> None:
    """TaskTimeoutError is about the task, and no relative of TimeoutError."""
    with TaskOrchestrator() as orch:
        handle = orch.submit_task(Task.call(asyncio.sleep, 60, timeout=0.02))
        with pytest.raises(TaskTimeoutError) as caught:
            handle.result(PATIENCE)
        assert not isinstance(caught.value, TimeoutError)
        assert caught.value.code == "task_timeout"


# -- blocked -----------------------------------------------------------------------


def test_a_blocked_task_raises_but_is_not_done() -> None:
    """`result` raises DependencyFailedError, `done` stays False, no callback runs."""
    with TaskOrchestrator() as orch:
        bad = orch.submit_task(Task.call(raise_oops, id="bad"))
        middle = orch.submit(abs, bad)
        last = orch.submit(abs, middle)
        called: list[object] = []
        last.add_done_callback(called.append)
        with pytest.raises(DependencyFailedError) as caught:
            last.result(PATIENCE)
        assert caught.value.root_causes == ("bad",)
        assert isinstance(last.exception(PATIENCE), DependencyFailedError)
        assert not last.done()
        assert not last.cancelled()
        assert orch.wait(PATIENCE)
        assert called == []


def test_a_blocked_handle_returns_after_the_rerun() -> None:
    """The handle follows the re-run: a later `result` returns, and callbacks run."""
    with TaskOrchestrator() as orch:
        good: list[int] = []

        def flaky() -> int:
            if not good:
                raise_oops()
            return 4

        bad = orch.submit_task(Task.call(flaky, id="bad"))
        child = orch.submit(abs, bad)
        called: list[object] = []
        child.add_done_callback(called.append)
        future = child.future()
        with pytest.raises(DependencyFailedError):
            child.result(PATIENCE)
        with pytest.raises(DependencyFailedError):
            future.result(PATIENCE)
        good.append(1)
        orch.rerun_task("bad")
        assert child.result(PATIENCE) == 4
        assert child.done()
        assert orch.wait(PATIENCE)
        assert called == [child]
        # Resolved finally: the future keeps what it had.
        assert isinstance(future.exception(), DependencyFailedError)


def test_no_reader_sees_a_blockade_being_undone() -> None:
    """While re-runs block and unblock a task, `result` raises, waits or returns right."""
    with TaskOrchestrator() as orch:
        good: list[int] = []

        def flaky() -> int:
            if not good:
                raise_oops()
            return 4

        orch.submit_task(Task.call(flaky, id="bad"))
        child = orch.submit(abs, orch.handle("bad"))
        seen: set[object] = set()

        def read() -> None:
            result = None
            while result is None:
                try:
                    result = child.result(PATIENCE)
                    seen.add(result)
                except DependencyFailedError as error:
                    seen.add(len(error.root_causes))

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        latest = orch.handle("bad")
        for _ in range(30):
            assert latest.exception(PATIENCE) is not None
            latest = orch.rerun_task(latest.task_id)
        assert latest.exception(PATIENCE) is not None
        good.append(1)
        orch.rerun_task(latest.task_id)
        for reader in readers:
            reader.join(PATIENCE)
            assert not reader.is_alive()
        assert seen == {1, 4}


# -- callbacks and futures ---------------------------------------------------------


def test_done_callbacks_run_on_the_publishers_thread() -> None:
    """They get the handle, run once each in order, and hold no slot."""
    with TaskOrchestrator(concurrency=1) as orch:
        hold = Hold()
        handle = orch.submit(hold)
        seen: list[tuple[str, object, str]] = []

        def note(name: str):
            return lambda h: seen.append((name, h, threading.current_thread().name))

        handle.add_done_callback(note("first"))
        handle.add_done_callback(note("second"))
        hold.release()
        handle.result(PATIENCE)
        assert orch.wait(PATIENCE)
        handle.add_done_callback(note("late"))
        assert orch.wait(PATIENCE)
        assert [s[:2] for s in seen] == [
            ("first", handle),
            ("second", handle),
            ("late", handle),
        ]
        assert all("publisher" in s[2] for s in seen)


@pytest.mark.parametrize("how", ["fails", "is cancelled", "times out"])
def test_done_callbacks_run_however_the_task_ends(how) -> None:
    """A task that fails or is cancelled is done as well."""
    with TaskOrchestrator() as orch:
        called = threading.Event()
        task = {
            "fails": Task.call(raise_oops),
            "is cancelled": Task.call(int, not_before=60),
            "times out": Task.call(asyncio.sleep, 60, timeout=0.01),
        }[how]
        handle = orch.submit_task(task)
        handle.add_done_callback(lambda _: called.set())
        if how == "is cancelled":
            handle.cancel()
        assert called.wait(PATIENCE)
        assert handle.done()


def test_a_callback_may_submit_and_wait_for_more() -> None:
    """It may call the orchestrator, and what it submits is part of the drain."""
    results: list[int] = []
    with TaskOrchestrator() as orch:

        def more(handle) -> None:
            if handle.result() < 3:
                orch.submit(int, handle.result() + 1).add_done_callback(more)
            results.append(handle.result())

        orch.submit(int).add_done_callback(more)
    assert results == [0, 1, 2, 3]


def test_what_a_callback_returns_is_of_no_consequence() -> None:
    """A callback that returns a handle is not taken for an async one."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "receiver_failed")
        orch.submit(int).add_done_callback(lambda _: orch.submit(raise_oops))
        assert orch.wait(PATIENCE)
        assert orch.wait(PATIENCE)
        assert recorder.events == []
        assert orch._rt.loops.loop is None


def test_the_future_has_the_same_outcome() -> None:
    """`.future()` is a concurrent.futures.Future with the result or the error."""
    with TaskOrchestrator() as orch:
        hold = Hold()
        good, bad = orch.submit(hold, 7), orch.submit(raise_oops)
        futures = [good.future(), bad.future()]
        assert isinstance(futures[0], concurrent.futures.Future)
        assert not futures[0].cancel()
        hold.release()
        done, left = concurrent.futures.wait(futures, timeout=PATIENCE)
        assert (len(done), len(left)) == (2, 0)
        assert futures[0].result() == 7
        assert futures[1].exception() is bad.exception()
        # Of what has ended already, too.
        assert good.future().result(PATIENCE) == 7


def test_the_future_of_a_held_task_waits_for_the_decision() -> None:
    """Held for a decision is not blocked by a failure: nothing is resolved yet."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_blocked")
        task = Task.call(fail, BrokenProcessPool("gone"), idempotent=False, id="x")
        hold = Hold()
        first = orch.submit(hold)
        handle = orch.submit_task(
            Task.call(fail, BrokenProcessPool("gone"), idempotent=False, after=[first])
        )
        future = handle.future()
        hold.release()
        recorder.wait_for(1)
        assert orch.wait(PATIENCE)
        assert not future.done()
        orch.decide(handle.task_id, "complete", 3)
        assert future.result(PATIENCE) == 3
        assert task.id == "x"


def test_a_handle_is_hashable_and_tells_about_itself() -> None:
    """Its repr names the task and its state."""
    with TaskOrchestrator() as orch:
        handle = orch.submit_task(Task.call(int, id="me"))
        handle.result(PATIENCE)
        assert repr(handle) == "<TaskHandle me: completed>"
        assert {handle: 1}[orch.handle("me")] == 1


# -- memory ------------------------------------------------------------------------


class Big:
    """Something to see let go of."""


def test_a_failed_task_does_not_keep_the_next_one_alive() -> None:
    """The traceback of an error does not reach into our frames."""
    with TaskOrchestrator(concurrency=1, keep_finished=0) as orch:
        hold = Hold()
        first = orch.submit(hold)
        hold.wait()
        bad = orch.submit(raise_oops)
        big = Big()
        there = weakref.ref(big)
        orch.submit(id, big)
        del big
        hold.release()
        first.result(PATIENCE)
        assert orch.wait(PATIENCE)
        assert bad.exception() is not None
        gc.collect()
        assert there() is None


def test_finished_tasks_let_go_of_what_they_were_given() -> None:
    """Beyond keep_finished neither arguments nor results are held by the orchestrator."""
    with TaskOrchestrator(keep_finished=0) as orch:
        big = Big()
        there = weakref.ref(big)
        orch.submit(lambda x: x, big).result(PATIENCE)
        del big
        orch.submit(int).result(PATIENCE)
        assert orch.wait(PATIENCE)
        gc.collect()
        assert there() is None


def test_a_retried_task_lets_go_of_its_earlier_errors() -> None:
    """Once it has completed, nothing of the failed attempts is held."""
    with TaskOrchestrator() as orch:
        errors: list[weakref.ref] = []

        def flaky() -> str:
            if errors:
                return "good"
            error = Oops("first")
            errors.append(weakref.ref(error))
            raise error

        handle = orch.submit_task(Task.call(flaky, retry=RetryPolicy(2, base=0)))
        assert handle.result(PATIENCE) == "good"
        assert orch.wait(PATIENCE)
        gc.collect()
        assert errors[0]() is None


def test_a_dropped_orchestrator_is_collected() -> None:
    """One that was stopped, or never started, leaves nothing behind."""
    never = TaskOrchestrator()
    never.submit(int)
    with TaskOrchestrator() as stopped:
        stopped.submit(int).result(PATIENCE)
        handle = stopped.submit(raise_oops)
        with pytest.raises(Oops):
            handle.result(PATIENCE)
    there = [weakref.ref(o) for o in (never._rt.publisher, stopped._rt.publisher)]
    del never, stopped, handle
    gc.collect()
    assert [ref() for ref in there] == [None, None]


def test_cancel_through_the_handle() -> None:
    """`handle.cancel` is `cancel_task`."""
    with TaskOrchestrator() as orch:
        handle = orch.submit_task(Task.call(int, not_before=60))
        assert handle.cancel() is True
        assert handle.cancel() is False
        assert handle.cancelled()
        assert isinstance(handle.exception(PATIENCE), TaskCancelledError)
