"""Executors of the user's that run attempts: begun, stopped and held by the protocol."""

from __future__ import annotations

import errno
import logging
import threading
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, eventually

from taskorch import (
    Task,
    TaskCancelledError,
    TaskOrchestrator,
    current_context,
)
from taskorch.errors import AttemptInterrupted
from taskorch.protocols import Attempt, AttemptExecutor


class Threads(AttemptExecutor[None]):
    """The shortest one."""

    def begin(self, attempt: Attempt) -> None:
        threading.Thread(target=attempt.run).start()


class Slow(AttemptExecutor[Attempt]):
    """Nothing ends by itself, and what is asked is noted."""

    def __init__(self) -> None:
        self.begun: list[Attempt] = []
        self.asked: list[tuple[str, Attempt]] = []

    def begin(self, attempt: Attempt) -> Attempt:
        self.begun.append(attempt)
        return attempt

    def stop(self, begun: Attempt, grace: float) -> None:
        self.asked.append((f"stop in {grace:g} s", begun))
        begun.end(error=AttemptInterrupted("stopped"))

    def can_hold(self) -> bool:
        return True

    def hold(self, begun: Attempt) -> None:
        self.asked.append(("hold", begun))

    def resume(self, begun: Attempt) -> None:
        self.asked.append(("resume", begun))

    def log_path(self, begun: Attempt) -> Path | None:
        return Path("/logs", *begun.task_id.split("/"))

    def wait(self, number: int = 1) -> Attempt:
        eventually(lambda: len(self.begun) >= number)
        return self.begun[number - 1]


def on_own(fn: Any, *args: Any, **options: Any) -> Task[Any]:
    return Task.call(fn, *args, executor="own", **options)


def test_one_of_three_lines_runs_functions_and_handlers() -> None:
    """In the variables of the task, with its context."""
    with TaskOrchestrator(executors={"own": Threads()}) as orch:

        @orch.agent("a", capabilities={"x"}, executor="own")
        def handle(task: Any, context: Any) -> Any:
            return task.payload, context is not None, current_context().task_id

        parent = orch.submit(pow, 2, 3)
        call = orch.submit_task(on_own(pow, parent, 2))
        assert call.result(PATIENCE) == 64
        worker = orch.submit_task(Task("x", 5, id="t"))
        assert worker.result(PATIENCE) == (5, True, "t")
        failed = orch.submit_task(on_own(int, "x"))
        assert isinstance(failed.exception(PATIENCE), ValueError)
        coroutine = orch.submit_task(on_own(eval, "make()", {"make": make}))
        assert "coroutine" in str(coroutine.exception(PATIENCE))


async def make() -> None:
    pass


def test_an_attempt_says_what_it_is() -> None:
    slow = Slow()
    with TaskOrchestrator(executors={"own": slow}) as orch:
        handle = orch.submit_task(on_own(pow, 2, 3, id="t"))
        attempt = slow.wait()
        assert (attempt.task_id, attempt.number, attempt.fence) == ("t", 1, (1, 1))
        assert attempt.task.id == "t"
        assert attempt.call() == (pow, (2, 3), {})
        assert repr(attempt) == "<Attempt 1 of t>"
        assert orch.get_task_status("t").log_path == Path("/logs/t")
        attempt.end(attempt.portable()())
        assert handle.result(PATIENCE) == 8
        assert orch.get_task_status("t").log_path is None


def test_only_the_first_end_counts() -> None:
    slow = Slow()
    with TaskOrchestrator(executors={"own": slow}) as orch:
        handle = orch.submit_task(on_own(int))
        attempt = slow.wait()
        attempt.end(1)
        attempt.end(2)
        attempt.unstarted(OSError(errno.EAGAIN, "no"))
        assert handle.result(PATIENCE) == 1
        assert not orch.get_task_status(handle.task_id).late_results


def test_one_that_cannot_hold_is_not_asked_to() -> None:
    """A function that it runs is suspended at its next checkpoint."""
    begun, go_on = threading.Event(), threading.Event()

    class NoHold(Threads):
        def hold(self, begun: None) -> None:
            raise AssertionError

        resume = hold

    def work() -> int:
        begun.set()
        assert go_on.wait(PATIENCE)
        current_context().checkpoint()
        return current_context().attempt

    with TaskOrchestrator(executors={"own": NoHold()}) as orch:
        handle = orch.submit_task(on_own(work))
        assert begun.wait(PATIENCE)
        assert orch.suspend_task(handle.task_id)
        assert orch.resume_task(handle.task_id)
        go_on.set()
        assert handle.result(PATIENCE) == 1


def test_what_fails_to_stop_is_said_and_harms_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Bad(Slow):
        def stop(self, begun: Attempt, grace: float) -> None:
            raise OSError("no way")

    slow = Bad()
    with TaskOrchestrator(executors={"own": slow}) as orch:
        handle = orch.submit_task(on_own(int))
        attempt = slow.wait()
        with caplog.at_level(logging.ERROR, "taskorch"):
            assert handle.cancel()
        assert "Bad.stop() of an executor failed" in caplog.text
        assert orch.submit(pow, 2, 3).result(PATIENCE) == 8
        attempt.end(1)
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)


def test_what_cannot_be_begun_fails_or_waits_for_room() -> None:
    errors = [OSError(errno.EMFILE, "no descriptor"), ValueError("not this one")]

    class Full(Threads):
        def begin(self, attempt: Attempt) -> None:
            if errors:
                raise errors.pop()
            super().begin(attempt)

    with TaskOrchestrator(executors={"own": Full()}) as orch:
        failed = orch.submit_task(on_own(pow, 2, 3))
        assert str(failed.exception(PATIENCE)) == "not this one"
        waited = orch.submit_task(on_own(pow, 2, 3))
        assert waited.result(PATIENCE) == 8
        # It was begun twice, and charged for one.
        assert orch.get_task_status(waited.task_id).attempts == 2


def test_what_was_lost_is_done_again_and_health_says_so() -> None:
    slow = Slow()
    with TaskOrchestrator(executors={"own": slow}) as orch:
        handle = orch.submit_task(on_own(int))
        slow.wait().end_soon(error=BrokenExecutor("it is gone"))
        again = slow.wait(2)
        assert again.number == 2
        checks = {check.component: check for check in orch.health().checks}
        assert "own broke" in checks["executors"].detail
        again.end(5)
        assert handle.result(PATIENCE) == 5
        assert "executors" not in {check.component for check in orch.health().checks}


def test_an_end_from_under_a_lock_is_told_without_a_thread_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = Slow()
    with TaskOrchestrator(executors={"own": slow}) as orch:
        # Its own threads have begun.
        orch.submit(int).result(PATIENCE)
        handle = orch.submit_task(on_own(int))
        attempt = slow.wait()
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if thread.name.endswith("-end"):
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)
        attempt.end_soon(7)
        assert handle.result(PATIENCE) == 7


def test_what_is_stopped_before_it_began_is_not_begun() -> None:
    slow = Slow()
    with TaskOrchestrator(executors={"own": slow}) as orch:
        begin = orch._rt.attempts.begin

        def later(row: Any, number: int, work: Any) -> None:
            orch.cancel_task(row.id)
            begin(row, number, work)

        orch._rt.attempts.begin = later  # type: ignore[method-assign]
        handle = orch.submit_task(on_own(int))
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
    assert slow.begun == []


def test_one_that_ends_at_once_is_let_go_of() -> None:
    """Its end comes before it is known what it can be stopped by."""

    class Now(AttemptExecutor[Attempt]):
        def begin(self, attempt: Attempt) -> Attempt:
            attempt.run()
            return attempt

        def stop(self, begun: Attempt, grace: float) -> None:
            raise AssertionError

    with TaskOrchestrator(executors={"own": Now()}) as orch:
        handle = orch.submit_task(on_own(pow, 2, 3))
        assert handle.result(PATIENCE) == 8
        assert handle._extra is not None
        control = handle._extra.control
        assert control is not None
        assert (control.executor, control.handle) == (None, None)
