"""What is decided about one attempt is done in the order in which it was decided."""

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from tests.integration.tools import PATIENCE, Hold, eventually, in_loop

from taskorch import (
    Task,
    TaskCancelledError,
    TaskHandle,
    TaskOrchestrator,
    current_context,
)
from taskorch.errors import InternalError
from taskorch.runtime._work import EffectQueue


class Overtaken:
    """
    Keeps one thread between what it has decided and what it does about that.

    Args:
        orch: Whose decision it is.
        who: The thread; a function, since it may not have begun.
    """

    def __init__(self, orch: TaskOrchestrator, who: Callable[[], Any]) -> None:
        self._launch = orch._rt.launch
        self._who = who
        self.decided = threading.Event()
        self.go_on = threading.Event()
        orch._rt.launch = self._later  # type: ignore[method-assign]

    def _later(self, launch: Any) -> None:
        if threading.current_thread() is self._who():
            self.decided.set()
            assert self.go_on.wait(PATIENCE)
        self._launch(launch)


def overtaken(orch: TaskOrchestrator, first: Callable[[], Any], then: Any) -> None:
    """Decide *first*, and decide and do *then* before *first* is done."""
    late = threading.Thread(target=first)
    held = Overtaken(orch, lambda: late)
    late.start()
    assert held.decided.wait(PATIENCE)
    then()
    held.go_on.set()
    late.join(PATIENCE)
    assert not late.is_alive()


def program(orch: TaskOrchestrator, go: Path) -> TaskHandle[Any]:
    """A program that runs until the file *go* is there, and runs already."""
    script = f"while [ ! -e {go} ]; do sleep 0.01; done"
    handle = orch.submit_task(Task.program(["sh", "-c", script]))
    eventually(lambda: orch._rt.attempts.holdable(handle._row))
    eventually(lambda: process_of(handle).pid is not None)
    return handle


def process_of(handle: TaskHandle[Any]) -> Any:
    extra = handle._extra
    assert extra is not None
    assert extra.control is not None
    return extra.control.handle


# -- one after another -------------------------------------------------------------


def test_what_is_decided_while_something_is_done_is_done_after_it() -> None:
    """By who is at it already; and who decided it does not wait for that."""
    queue: Any = EffectQueue()
    done: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def carry_out(effect: str) -> None:
        if effect == "stop":
            begun.set()
            assert go_on.wait(PATIENCE)
        done.append(effect)

    queue.append("stop")
    first = threading.Thread(target=queue.drain, args=(carry_out,))
    first.start()
    assert begun.wait(PATIENCE)
    queue.append("go on")
    queue.drain(carry_out)
    assert done == []
    go_on.set()
    first.join(PATIENCE)
    assert done == ["stop", "go on"]


# -- suspend and resume ------------------------------------------------------------


def test_a_resumption_that_overtakes_the_suspension(tmp_path: Path) -> None:
    """SIGCONT does not come before the SIGSTOP that it takes back."""
    with TaskOrchestrator() as orch:
        handle = program(orch, tmp_path / "go")
        overtaken(
            orch,
            lambda: orch.suspend_task(handle.task_id),
            lambda: orch.resume_task(handle.task_id),
        )
        assert orch.get_task_status(handle.task_id).state == "running"
        assert not process_of(handle).is_stopped
        (tmp_path / "go").touch()
        assert handle.result(PATIENCE).exit_code == 0


def test_a_suspension_that_overtakes_the_resumption(tmp_path: Path) -> None:
    """Nor does SIGSTOP come before the SIGCONT that it takes back."""
    with TaskOrchestrator() as orch:
        handle = program(orch, tmp_path / "go")
        assert orch.suspend_task(handle.task_id)
        overtaken(
            orch,
            lambda: orch.resume_task(handle.task_id),
            lambda: orch.suspend_task(handle.task_id),
        )
        assert orch.get_task_status(handle.task_id).state == "suspended"
        assert process_of(handle).is_stopped
        assert orch.resume_task(handle.task_id)
        (tmp_path / "go").touch()
        assert handle.result(PATIENCE).exit_code == 0


def test_a_thread_whose_suspension_was_taken_back_goes_on() -> None:
    """Its checkpoint lets it pass: it is not begun anew."""
    with TaskOrchestrator() as orch:
        hold = Hold()

        def work() -> int:
            hold()
            current_context().checkpoint()
            return current_context().attempt

        handle = orch.submit(work)
        hold.wait()
        overtaken(
            orch,
            lambda: orch.suspend_task(handle.task_id),
            lambda: orch.resume_task(handle.task_id),
        )
        hold.release()
        assert handle.result(PATIENCE) == 1


def test_a_suspension_does_not_take_back_a_cancellation() -> None:
    """A thread that was told to suspend itself, and then to end, sees the latter."""
    with TaskOrchestrator() as orch:
        began = threading.Event()
        seen = threading.Event()

        def work() -> None:
            context = current_context()
            began.set()
            eventually(lambda: context.cancelled)
            seen.set()

        handle = orch.submit(work)
        assert began.wait(PATIENCE)
        overtaken(
            orch,
            lambda: orch.suspend_task(handle.task_id),
            lambda: orch.cancel_task(handle.task_id),
        )
        assert handle._extra is not None
        assert handle._extra.control is not None
        assert handle._extra.control.why == "cancel"
        assert seen.wait(PATIENCE)
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)


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


def test_programs_and_the_kernel_agree_however_threads_take_turns(
    tmp_path: Path,
) -> None:
    """After any suspend and resume at once, what the kernel says is so."""
    interval = sys.getswitchinterval()
    with TaskOrchestrator() as orch:
        handle = program(orch, tmp_path / "go")
        both = threading.Barrier(2, timeout=PATIENCE)
        process = process_of(handle)

        def switch(act: Callable[[str], bool]) -> None:
            for _ in range(150):
                both.wait()
                act(handle.task_id)
                both.wait()
                # Nobody decides anything now.
                said = orch.get_task_status(handle.task_id).state == "suspended"
                seen.append(said == process.is_stopped)

        seen: list[bool] = []
        threads = [
            threading.Thread(target=switch, args=(act,))
            for act in (orch.suspend_task, orch.resume_task)
        ]
        sys.setswitchinterval(1e-6)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(4 * PATIENCE)
        finally:
            sys.setswitchinterval(interval)
        orch.resume_task(handle.task_id)
        (tmp_path / "go").touch()
        assert handle.result(PATIENCE).exit_code == 0
        assert seen == [True] * 300


# -- start and stop ----------------------------------------------------------------


@in_loop
async def test_a_coroutine_that_is_stopped_as_it_is_made_is_cancelled_once() -> None:
    """It is cancelled after it was made, by the one who stops it, and can tidy up."""
    async with TaskOrchestrator() as orch:
        tidied: list[bool] = []
        late: list[threading.Thread] = []

        async def work() -> None:
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                await asyncio.to_thread(late[0].join, PATIENCE)
                await asyncio.sleep(0)
                tidied.append(True)

        class Beginning(asyncio.Task[Any]):
            """Somebody cancels it once it is made, and before that is known."""

            def add_done_callback(self, fn: Any, **options: Any) -> None:
                super().add_done_callback(fn, **options)
                if self.get_name() == "work" and not late:
                    late.append(
                        threading.Thread(target=orch.cancel_task, args=("work",))
                    )
                    late[0].start()
                    row = orch._rt.kernel.tasks["work"]
                    eventually(lambda: row.cargo._extra.control.why == "cancel")

        loop = asyncio.get_running_loop()
        loop.set_task_factory(
            lambda *args, **more: Beginning(args[1], loop=loop, **more)
        )
        handle = orch.submit_task(Task.call(work, id="work"))
        with pytest.raises(TaskCancelledError):
            await handle
        assert tidied == [True]


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


def test_a_slot_that_is_given_back_again_before_it_is_told_of() -> None:
    """Of two branches that wait in turn, each is told of its own slot."""
    pool = Pool()
    with TaskOrchestrator(concurrency=1, executors={"mine": pool}) as orch:
        first, third = Hold(), Hold()
        parts: list[Any] = []

        async def parent() -> Any:
            gate = asyncio.Event()
            parts.extend((asyncio.get_running_loop(), gate))

            async def later() -> Any:
                await gate.wait()
                return await orch.submit_task(Task.call(int, "2", priority=10))

            return await asyncio.gather(orch.submit(first, 1), later())

        handle = orch.submit(parent)
        first.wait()
        # It takes the slot of what the first branch waits for, which then waits for
        # its own.
        other = orch.submit_task(Task.call(int, executor="mine", priority=9))
        first.release()
        eventually(lambda: pool.future is not None)
        eventually(lambda: orch._rt.waiting._returns)
        # The slot comes back. Before the thread that has given it back does more, the
        # second branch gives it away again, and waits for it in its turn.
        late = threading.Thread(target=pool.future.set_result, args=(7,))
        held = Overtaken(orch, lambda: late)
        late.start()
        assert other.result(PATIENCE) == 7
        last = orch.submit_task(Task.call(third, priority=9))
        parts[0].call_soon_threadsafe(parts[1].set)
        third.wait()
        eventually(lambda: orch._rt.waiting._returns)
        held.go_on.set()
        third.release()
        late.join(PATIENCE)
        last.result(PATIENCE)
        assert handle.result(PATIENCE) == [1, 2]
        assert orch.wait(PATIENCE)
        assert orch._rt.kernel.running == 0


def test_a_slot_of_an_agent_goes_to_who_waits_for_its_own() -> None:
    """Also if nothing else is there to begin."""
    first, other = Hold(), Hold()

    with TaskOrchestrator(concurrency=4) as orch:

        @orch.agent("a", capabilities={"x"}, max_concurrency=1)
        async def call(task: Any, context: Any) -> Any:
            return await task.payload()

        async def parent() -> Any:
            return await orch.submit(first, 7)

        handle = orch.submit_task(Task("x", parent))
        first.wait()
        last = orch.submit_task(Task("x", lambda: asyncio.to_thread(other)))
        other.wait()
        first.release()
        eventually(lambda: orch._rt.kernel.returning)
        assert not orch._rt.kernel.open
        other.release()
        last.result(PATIENCE)
        assert handle.result(PATIENCE) == 7


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
