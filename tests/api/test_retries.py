"""Retries, timeouts, deadlines, and work that would not stop."""

import asyncio
import contextlib
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
from tests.api.tools import (
    PATIENCE,
    Hold,
    Recorder,
    pass_time,
    short_grace,
)

from taskorch import (
    RetryPolicy,
    Task,
    TaskOrchestrator,
    current_context,
)


class Flaky:
    """Fails so many times, and then returns the number of its calls."""

    def __init__(self, failures: int, error: type[BaseException] = ValueError) -> None:
        self.failures = failures
        self.error = error
        self.times: list[float] = []

    def __call__(self) -> int:
        self.times.append(time.monotonic())
        if len(self.times) <= self.failures:
            raise self.error(f"failure {len(self.times)}")
        return len(self.times)


# -- retries -----------------------------------------------------------------------


def test_jitter_spreads_and_a_seed_repeats() -> None:
    """±50 % of the base, other for each retry, the same again with the same seed."""

    def delays(seed: int) -> list[float]:
        with TaskOrchestrator(seed=seed, concurrency=1) as orch:
            recorder = Recorder(orch, "task_retrying")
            policy = RetryPolicy(6, wait="fixed", base=0.002)
            orch.submit_task(Task.call(Flaky(5), retry=policy)).result(PATIENCE)
            assert orch.wait(PATIENCE)
            return [e.delay for e in recorder.events]

    first = delays(1)
    assert all(0.001 <= d <= 0.003 for d in first)
    assert len(set(first)) == 5
    assert delays(1) == first
    assert delays(2) != first


def test_lost_workers_are_not_charged() -> None:
    """A worker that dies is no fault of the task: it runs again, but not for ever."""
    with TaskOrchestrator() as orch:
        recorder = Recorder(orch, "task_retrying", "task_failed")
        flaky = Flaky(2, BrokenProcessPool)
        assert orch.submit(flaky).result(PATIENCE) == 3
        poison = Flaky(9, BrokenProcessPool)
        error = orch.submit(poison).exception(PATIENCE)
        assert error is not None
        assert len(poison.times) == 3
        assert orch.wait(PATIENCE)
        assert [e.charged for e in recorder.events[:2]] == [False, False]
        assert recorder.events[-1].cause == "poisoned"


# -- work that would not stop ------------------------------------------------------


def test_a_leaked_slot_is_not_counted_as_free() -> None:
    """With all slots leaked nothing starts, and the orchestrator is not ready."""
    holds = [Hold(), Hold()]
    orch = TaskOrchestrator(concurrency=2)
    with orch:
        short_grace(orch)
        handles = [orch.submit(hold) for hold in holds]
        for hold, handle in zip(holds, handles, strict=True):
            hold.wait()
            handle.cancel()
            assert handle.exception(PATIENCE) is not None
        waiting = orch.submit(int)
        assert not orch.health().ready
        # What is queued may start once a call ends, whenever that is.
        assert not orch.wait(0.01)
        assert not waiting.done()
        assert "slots are taken" in str(orch.explain(waiting.task_id))
        holds[0].release()
        assert waiting.result(PATIENCE) == 0
        holds[1].release()


def stubborn(kind: str, began: threading.Event, go: threading.Event) -> Any:
    """A function whose first attempt ends for nobody, and late."""

    def work() -> str:
        if current_context().attempt == 1:
            began.set()
            assert go.wait(PATIENCE)
            return "late"
        return "in time"

    async def work_async() -> str:
        if current_context().attempt == 1:
            began.set()
            going = asyncio.ensure_future(asyncio.to_thread(go.wait, PATIENCE))
            while not going.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(going)
            return "late"
        return "in time"

    return work if kind == "thread" else work_async


@pytest.mark.parametrize("kind", ["thread", "coroutine"])
def test_a_late_result_does_not_replace_the_one_of_the_retry(kind) -> None:
    """The handle keeps what the attempt returned that counted."""
    began, go = threading.Event(), threading.Event()
    with TaskOrchestrator() as orch:
        short_grace(orch)
        late = Recorder(orch, "late_result_ignored")
        policy = RetryPolicy(2, base=0)
        task = Task.call(stubborn(kind, began, go), timeout=3600, retry=policy)
        handle = orch.submit_task(task)
        assert began.wait(PATIENCE)
        pass_time(orch, 3600)
        assert handle.result(PATIENCE) == "in time"
        go.set()
        late.wait_for(1)
        assert handle.result(PATIENCE) == "in time"
