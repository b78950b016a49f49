"""Handles: futures that are awaitable, and say what became of the task."""

import threading
from concurrent.futures.process import BrokenProcessPool

import pytest
from tests.api.tools import PATIENCE, Hold, Recorder, fail

from taskorch import (
    Task,
    TaskOrchestrator,
)
from taskorch.errors import TaskFailure

# -- result and exception ----------------------------------------------------------


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
