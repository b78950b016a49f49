"""TaskExecutor, and what futures and maps do where an Executor is expected."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import subprocess
import sys
import threading
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import aclosing, closing

import pytest
from tests.api.tools import PATIENCE, Hold, eventually, threads_since

from taskorch import (
    InvalidTaskError,
    RetryPolicy,
    Task,
    TaskCancelledError,
    TaskExecutor,
    TaskOrchestrator,
    TaskState,
)
from taskorch.errors import WouldBlockError, WouldDeadlockError
from taskorch.protocols import Permit
from taskorch.testing.laws import check_executor


def caretakers():
    return [t for t in threading.enumerate() if t.name.endswith("-caretaker")]


@pytest.mark.parametrize("make", [TaskExecutor, lambda: TaskExecutor(1)])
def test_the_laws_of_executors_hold(make):
    check_executor(make)


def test_the_laws_hold_over_a_given_orchestrator():
    with TaskOrchestrator() as orch:
        check_executor(lambda: TaskExecutor(orchestrator=orch))


def test_nothing_begins_before_the_first_call():
    before = threading.active_count()
    executor = TaskExecutor(3)
    assert threading.active_count() == before
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)
    assert threading.active_count() == before


def test_a_call_without_a_thread_for_its_end_is_refused_and_may_be_tried_again(
    monkeypatch,
):
    """As a pool does if the system has none."""
    start = threading.Thread.start

    def refuse(thread):
        if thread.name.endswith("publisher"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with TaskExecutor(1) as executor:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="new thread"):
                executor.submit(int)
        assert executor.submit(int, "4").result(PATIENCE) == 4


def test_no_thread_stays_behind():
    with TaskExecutor(2) as executor:
        assert list(executor.map(abs, [-1, -2])) == [1, 2]
    assert not caretakers()


def test_so_many_run_at_once():
    gate = Hold()
    with TaskExecutor(2) as executor:
        futures = [executor.submit(gate) for _ in range(3)]
        eventually(lambda: [f.running() for f in futures] == [True, True, False])
        gate.release()
        assert not concurrent.futures.wait(futures, PATIENCE).not_done
        assert not any(f.running() for f in futures)


def test_a_given_orchestrator_outlives_it():
    with TaskOrchestrator() as orch:
        with TaskExecutor(orchestrator=orch) as executor:
            assert executor.submit(abs, -1).result(PATIENCE) == 1
        assert orch.submit(abs, -2).result(PATIENCE) == 2
        assert orch.get_stats().state_machine.completed == 2


def test_shutdown_of_a_given_one_waits_for_its_own_calls_only():
    mine, others = Hold(), Hold()
    with TaskOrchestrator() as orch:
        other = orch.submit(others)
        executor = TaskExecutor(orchestrator=orch)
        future = executor.submit(mine)
        mine.wait()
        threading.Timer(0.05, mine.release).start()
        executor.shutdown()
        assert future.done()
        assert not other.done()
        others.release()


def test_a_handle_among_the_arguments_is_a_dependency():
    with TaskOrchestrator() as orch, TaskExecutor(orchestrator=orch) as executor:
        two = orch.submit(abs, -2)
        assert executor.submit(pow, two, 5).result(PATIENCE) == 32


def test_a_coroutine_function_is_run():
    async def double(n):
        return 2 * n

    with TaskExecutor() as executor:
        assert executor.submit(double, 4).result(PATIENCE) == 8


def test_calls_that_wait_for_each_other_do_not_fill_it():
    """A ThreadPoolExecutor of one worker hangs here."""
    with TaskExecutor(1) as executor:

        def depth(n):
            return n and 1 + executor.submit(depth, n - 1).result(PATIENCE)

        assert executor.submit(depth, 10).result(PATIENCE) == 10
        assert (
            executor.submit(
                lambda: type(executor.submit(int, "x").exception(PATIENCE))
            ).result(PATIENCE)
            is ValueError
        )


def test_calls_that_could_never_end_are_told():
    ready = threading.Event()
    futures = []

    def wait_for(other):
        ready.wait(PATIENCE)
        return futures[other].result()

    with TaskExecutor(2) as executor:
        futures += [executor.submit(wait_for, 1), executor.submit(wait_for, 0)]
        ready.set()
        errors = [future.exception(PATIENCE) for future in futures]
        assert all(isinstance(error, WouldDeadlockError) for error in errors)


def test_shutdown_within_one_of_its_calls_is_refused():
    with TaskExecutor() as executor:
        error = executor.submit(executor.shutdown).exception(PATIENCE)
        assert isinstance(error, WouldDeadlockError)
    with TaskOrchestrator() as orch:
        executor = TaskExecutor(orchestrator=orch)
        error = executor.submit(executor.shutdown).exception(PATIENCE)
        assert isinstance(error, WouldDeadlockError)


def test_a_task_may_have_an_executor_over_its_own_orchestrator():
    with TaskOrchestrator(concurrency=1) as orch:

        def fan_out():
            with TaskExecutor(orchestrator=orch) as executor:
                futures = [executor.submit(abs, -n) for n in range(5)]
            return sum(future.result() for future in futures)

        assert orch.submit(fan_out).result(PATIENCE) == 10


def test_the_calls_of_one_that_nobody_has_any_more_are_done():
    gate = Hold()
    executor = TaskExecutor(1)
    futures = [executor.submit(gate) for _ in range(2)]
    gate.wait()
    (caretaker,) = caretakers()
    ref = weakref.ref(executor)
    del executor
    gc.collect()
    assert ref() is None
    gate.release()
    assert not concurrent.futures.wait(futures, PATIENCE).not_done
    caretaker.join(PATIENCE)
    assert not caretaker.is_alive()


AT_EXIT = """
import time
from taskorch import TaskExecutor

def say(word):
    time.sleep(0.2)
    print(word, flush=True)

executor = TaskExecutor(1)
executor.submit(say, "one")
executor.submit(say, "two")
"""


@pytest.mark.parametrize(
    "end", ["", "executor.shutdown(wait=False)", "del executor", "raise SystemExit(0)"]
)
def test_what_was_accepted_is_done_before_the_interpreter_exits(end):
    done = subprocess.run(
        [sys.executable, "-c", f"{AT_EXIT}\n{end}\n"],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert done.stdout.split() == ["one", "two"]
    assert done.stderr == ""


def test_a_result_that_nobody_has_is_not_kept():
    class Large:
        pass

    with TaskExecutor() as executor:
        future = executor.submit(Large)
        ref = weakref.ref(future.result(PATIENCE))
        del future
        eventually(lambda: gc.collect() is not None and ref() is None)


def test_what_it_submits_is_kept_in_a_journal(tmp_path):
    path = tmp_path / "runs.db"
    with TaskExecutor(2, journal=path) as executor:
        assert executor.submit(abs, -3).result(PATIENCE) == 3
    with TaskOrchestrator(journal=path) as orch:
        assert orch.get_stats().state_machine.completed == 1


@pytest.mark.parametrize("number", [0, -1])
def test_max_workers_is_positive(number):
    with pytest.raises(ValueError, match="must be greater than 0"):
        TaskExecutor(number)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_workers": 1.5}, "max_workers"),
        ({"max_workers": 2, "concurrency": 2}, "the same thing"),
        ({"initializer": print}, "no initializer="),
        ({"thread_name_prefix": "x"}, "no thread_name_prefix="),
        ({"orchestrator": "orch"}, "is a TaskOrchestrator"),
    ],
)
def test_other_arguments_are_refused(arguments, words):
    with pytest.raises(InvalidTaskError, match=words):
        TaskExecutor(**arguments)


def test_a_given_orchestrator_has_its_own_options():
    orch = TaskOrchestrator()
    with pytest.raises(InvalidTaskError, match="max_workers=, journal=") as refused:
        TaskExecutor(2, orchestrator=orch, journal=None)
    assert "concurrency" in refused.value.hint


def test_its_repr_says_whether_it_is_shut_down():
    executor = TaskExecutor()
    assert repr(executor).startswith("<TaskExecutor over <TaskOrchestrator")
    executor.shutdown()
    assert repr(executor).startswith("<TaskExecutor shut down over")


# -- futures -----------------------------------------------------------------------


def test_a_future_is_cancelled_before_it_begins_and_not_after():
    gate = Hold()
    with TaskOrchestrator(concurrency=1) as orch:
        running, waiting = orch.submit(gate), orch.submit(abs, -1)
        gate.wait()
        first, second = running.future(), waiting.future()
        assert first.cancel() is False
        assert second.cancel() is True
        assert second.cancel() is True
        assert waiting.cancelled()
        with pytest.raises(CancelledError):
            second.result(PATIENCE)
        with pytest.raises(TaskCancelledError, match="before it began"):
            waiting.result(PATIENCE)
        gate.release()
        assert first.result(PATIENCE) is None
        assert first.cancel() is False


def test_the_future_of_a_cancelled_task_is_cancelled():
    gate = Hold()
    with TaskOrchestrator(concurrency=1) as orch:
        orch.submit(gate)
        gate.wait()
        handle = orch.submit(abs, -1)
        future = handle.future()
        called = []
        future.add_done_callback(called.append)
        assert handle.cancel()
        # Those who wait for several are told as well.
        assert not concurrent.futures.wait([future], PATIENCE).not_done
        assert future.cancelled()
        assert handle.future().cancelled()
        eventually(lambda: called == [future])
        gate.release()


def test_a_task_that_raises_the_cancellation_of_another_has_failed():
    gate = Hold()
    with TaskOrchestrator(concurrency=1) as orch:
        orch.submit(gate)
        gate.wait()
        other = orch.submit(abs, -1)
        other.cancel()
        future = orch.submit(other.result).future()
        gate.release()
        assert isinstance(future.exception(PATIENCE), TaskCancelledError)


def test_a_task_between_two_attempts_has_begun():
    gate = Hold()

    def fail_once():
        gate()
        raise OSError

    with TaskOrchestrator() as orch:
        retry = RetryPolicy(2, wait="fixed", base=PATIENCE, jitter=0)
        handle = orch.submit_task(Task.call(fail_once, retry=retry))
        future = handle.future()
        gate.wait()
        gate.release()
        eventually(
            lambda: orch.get_task_status(handle.task_id).state is TaskState.RETRYING
        )
        assert future.running()
        assert future.cancel() is False
        handle.cancel()
        with pytest.raises(CancelledError):
            future.result(PATIENCE)


def test_what_a_state_machine_forbids_is_not_cancelled():
    class Never:
        def check(self, transition, context):
            return Permit(transition.after is not TaskState.CANCELLED)

        def label(self, state):
            return state.value

    gate = Hold()
    with TaskOrchestrator(concurrency=1, state_machine=Never()) as orch:
        orch.submit(gate)
        gate.wait()
        handle = orch.submit(abs, -1)
        assert handle.future().cancel() is False
        gate.release()
        assert handle.result(PATIENCE) == 1


def test_a_blocked_task_is_not_cancelled_through_its_future():
    with TaskOrchestrator() as orch:
        bad = orch.submit(int, "x")
        future = orch.submit(abs, bad).future()
        assert future.exception(PATIENCE) is not None
        assert future.cancel() is False


def test_a_task_left_to_the_next_incarnation_is_not_cancelled(tmp_path):
    orch = TaskOrchestrator(journal=tmp_path / "runs.db", stop_timeout=0.01)
    with orch:
        handle = orch.submit_task(Task.call(abs, -1, not_before=3600))
    assert handle.future().cancel() is False
    with TaskOrchestrator(journal=tmp_path / "runs.db", stop_timeout=0.01) as again:
        assert not again.handle(handle.task_id).done()


def test_on_its_own_loop_nobody_waits_for_a_future():
    async def main():
        async with TaskOrchestrator() as orch:

            async def nap():
                await asyncio.sleep(0.01)

            with TaskExecutor(orchestrator=orch) as executor:
                future = executor.submit(nap)
                with pytest.raises(WouldBlockError):
                    future.result()
                await asyncio.wrap_future(future)

    asyncio.run(main())


def test_on_its_own_loop_leaving_it_speaks_of_the_shutdown():
    """And changes nothing: the calls can be awaited, and then it is left."""

    async def main():
        async with TaskOrchestrator() as orch:
            gate = asyncio.Event()
            executor = TaskExecutor(orchestrator=orch)
            with pytest.raises(WouldBlockError) as refusal, executor:
                future = executor.submit(gate.wait)
            assert "the executor's shutdown" in str(refusal.value)
            assert "1 call left" in str(refusal.value)
            assert "result()" not in str(refusal.value)
            assert "shutdown(wait=False)" in refusal.value.hint
            gate.set()
            assert await asyncio.wrap_future(future) is True
            executor.shutdown()
            with pytest.raises(RuntimeError, match="after shutdown"):
                executor.submit(abs, 1)

    asyncio.run(main())


def test_a_future_on_a_loop_is_cancelled_without_waiting_for_a_journal(tmp_path):
    async def main(future):
        assert future.cancel()

    with TaskOrchestrator(concurrency=1, journal=tmp_path / "runs.db") as orch:
        handle = orch.submit_task(Task.call(abs, -1, not_before=3600))
        asyncio.run(main(handle.future()))
        eventually(handle.cancelled)


# -- maps --------------------------------------------------------------------------


def begun(gate):
    """A map of which the first call has begun, and two have not."""
    orch = TaskOrchestrator(concurrency=1)
    calls = []

    def call(n):
        calls.append(n)
        gate()
        return n

    return orch, calls, call


def test_a_map_that_is_closed_cancels_what_has_not_begun():
    gate = Hold()
    gate.release()
    second = threading.Event()
    with TaskOrchestrator(concurrency=1) as orch:

        def call(n):
            if n:
                second.wait(PATIENCE)
            return n

        with closing(orch.map(call, range(5))) as results:
            assert next(results) == 0
        second.set()
    stats = orch.get_stats().state_machine
    # The second may have begun before the first was seen.
    assert stats.completed in (1, 2)
    assert stats.completed + stats.cancelled == 5


def test_a_map_out_of_time_cancels_what_has_not_begun():
    gate = Hold()
    orch, calls, call = begun(gate)
    with orch:
        with pytest.raises(TimeoutError):
            next(orch.map(call, range(3), timeout=0.05))
        gate.release()
    assert calls in ([], [0])
    assert orch.get_stats().state_machine.cancelled == 3 - len(calls)


def test_a_map_of_which_one_fails_cancels_what_has_not_begun():
    with TaskOrchestrator(concurrency=1) as orch:
        gate = threading.Event()

        def call(n):
            if n == 1:
                gate.wait(PATIENCE)
            return 1 // n

        with pytest.raises(ZeroDivisionError):
            list(orch.map(call, range(5)))
        gate.set()
    assert orch.get_stats().state_machine.cancelled >= 3


def test_an_async_map_that_is_closed_cancels_what_has_not_begun():
    async def main():
        gate = threading.Event()

        def call(n):
            if n:
                gate.wait(PATIENCE)
            return n

        async with TaskOrchestrator(concurrency=1) as orch:
            async with aclosing(orch.aio.map(call, range(5))) as results:
                assert await anext(results) == 0
            gate.set()
        return orch.get_stats().state_machine

    stats = asyncio.run(main())
    assert stats.cancelled >= 3


def test_an_async_map_out_of_time_cancels_what_has_not_begun():
    async def main():
        gate = Hold()
        orch, calls, call = begun(gate)
        async with orch:
            with pytest.raises(TimeoutError):
                await anext(orch.aio.map(call, range(3), timeout=0.05))
            gate.release()
        assert orch.get_stats().state_machine.cancelled == 3 - len(calls)

    asyncio.run(main())


# -- those who take an executor ----------------------------------------------------


def test_it_serves_an_event_loop():
    async def main():
        loop = asyncio.get_running_loop()
        gate = Hold()
        with TaskExecutor(1) as executor:
            running = loop.run_in_executor(executor, gate)
            waiting = loop.run_in_executor(executor, abs, -1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(waiting, 0.05)
            gate.release()
            await running
            squares = [loop.run_in_executor(executor, pow, n, 2) for n in range(50)]
            assert await asyncio.gather(*squares) == [n * n for n in range(50)]
            with pytest.raises(ValueError, match="invalid literal"):
                await loop.run_in_executor(executor, int, "x")

    asyncio.run(main())


def test_it_serves_dask():
    dask = pytest.importorskip(
        "dask", reason="dask is among the benchmarks' tools only"
    )
    import dask.threaded  # noqa: F811

    names = [f"abs-{n}" for n in range(50)]
    graph = {name: (abs, -n) for n, name in enumerate(names)} | {"sum": (sum, names)}
    with TaskExecutor(4) as pool:
        with dask.config.set(pool=pool):
            assert dask.threaded.get(graph, "sum") == sum(range(50))
        numbers = [dask.delayed(abs)(-n) for n in range(50)]
        total = dask.delayed(sum)(numbers)
        assert total.compute(scheduler=pool) == sum(range(50))
        with pytest.raises(ValueError, match="invalid literal"):
            dask.delayed(int)("x").compute(scheduler=pool)


def test_it_is_an_executor_of_another_orchestrator():
    with TaskExecutor(2) as inner, TaskOrchestrator(executors={"inner": inner}) as orch:
        assert orch.submit_task(Task.call(abs, -5, executor="inner")).result() == 5


def test_a_pool_may_stand_in_its_place():
    """What is shown here is nothing but concurrent.futures."""
    for make in (TaskExecutor, ThreadPoolExecutor):
        with make(3) as pool:
            futures = {pool.submit(pow, n, 2): n for n in range(10)}
            for future in concurrent.futures.as_completed(futures, PATIENCE):
                assert future.result() == futures[future] ** 2


def test_shutdown_in_a_done_callback_returns_at_once():
    """The thread that runs it settles the futures that are left."""
    first, second = Hold(), Hold()
    told = threading.Event()
    executor = TaskExecutor(2)
    left = executor.submit(second)

    def end(_future):
        executor.shutdown()
        assert not left.done()
        told.set()

    executor.submit(first).add_done_callback(end)
    first.release()
    try:
        assert told.wait(PATIENCE)
    finally:
        second.release()
    left.result(PATIENCE)
    executor.shutdown()
    assert caretakers() == []


def test_one_without_a_thread_that_will_stop_it_leaves_nothing(monkeypatch):
    """Nobody would ever stop its orchestrator."""
    before, start = set(threading.enumerate()), threading.Thread.start

    def refuse(thread):
        if thread.name == "taskorch-caretaker":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError):
        TaskExecutor(1).submit(int)
    eventually(lambda: not threads_since(before))
