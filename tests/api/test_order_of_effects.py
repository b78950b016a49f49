"""What is decided about one attempt is done in the order in which it was decided."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Hold, eventually

from taskorch import (
    Task,
    TaskCancelledError,
    TaskOrchestrator,
)
from taskorch.errors import InternalError

# -- suspend and resume ------------------------------------------------------------


def test_what_is_decided_while_an_effect_is_carried_out_comes_after_it() -> None:
    """A callback of the user's may decide about the very attempt: nobody waits."""
    with TaskOrchestrator(executors={"mine": (pool := Pool())}) as orch:
        handle = orch.submit_task(Task.call(int, executor="mine"))
        eventually(lambda: pool.future is not None)
        again = []
        pool.future.on_cancel = lambda: again.append(handle.cancel())
        assert handle.cancel()
        assert again == [True]
        pool.future.set_result(3)
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)


class Cancellable(Future[Any]):
    """A future that tells of it when it is to be cancelled, and is not."""

    on_cancel: Callable[[], object]

    def cancel(self) -> bool:
        self.on_cancel()
        return False


class Pool:
    """An executor of the user's, in which nothing ends by itself."""

    future: Any = None

    def submit(self, *_: Any) -> Future[Any]:
        self.future = Cancellable()
        return self.future


# -- start and stop ----------------------------------------------------------------


def test_a_coroutine_that_is_stopped_before_it_can_be_found_is_cancelled_once() -> None:
    """Who stops it finds nothing yet: the one who began it has it cancelled."""
    with TaskOrchestrator() as orch:
        begun, stopped = threading.Event(), threading.Event()
        tidied: list[bool] = []
        call = orch._rt.loops.call

        async def work() -> None:
            begun.set()
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                await asyncio.sleep(0)
                await asyncio.to_thread(stopped.wait, PATIENCE)
                tidied.append(True)

        def slowly(fn: Any, *args: Any) -> bool:
            """The beginner does not come back before it is told to end."""
            called = call(fn, *args)
            if not stopped.is_set():
                assert begun.wait(PATIENCE)
                late = threading.Thread(target=orch.cancel_task, args=("work",))
                late.start()
                late.join(PATIENCE)
                stopped.set()
            return called

        orch._rt.loops.call = slowly  # type: ignore[method-assign]
        handle = orch.submit_task(Task.call(work, id="work"))
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
        assert tidied == [True]


# -- slots that come back ----------------------------------------------------------


def test_a_fault_lets_go_of_those_who_wait_for_their_slot() -> None:
    """Slots are not given any more after a fault: nobody waits for one."""
    orch = TaskOrchestrator(concurrency=1)
    first, other = Hold(), Hold()
    ended = threading.Event()

    def parent() -> None:
        try:
            orch.submit(first).result(PATIENCE)
        finally:
            ended.set()

    orch.start()
    handle = orch.submit(parent)
    first.wait()
    orch.submit_task(Task.call(other, priority=9))
    first.release()
    other.wait()
    eventually(lambda: orch._rt.waiting._returns)
    orch._rt.fail_stop(AssertionError("planted"))
    assert ended.wait(PATIENCE)
    other.release()
    with pytest.raises(InternalError):
        handle.result(PATIENCE)
    orch.stop(drain=False, timeout=0)
