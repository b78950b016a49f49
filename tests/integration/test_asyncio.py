"""Coroutines: `async with`, awaiting handles, `orch.aio`, running loops of others."""

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.tools import (
    PATIENCE,
    Hold,
    eventually,
    fail,
    in_loop,
    threads_since,
)

from taskorch import (
    DependencyFailedError,
    NotRunningError,
    Task,
    TaskCancelledError,
    TaskOrchestrator,
    ValidationFailedError,
)
from taskorch.errors import WouldBlockError
from taskorch.journal import SqliteJournal
from taskorch.protocols import Finding, Verdict
from taskorch.reading import JournalReader


@in_loop
async def test_coroutines_run_on_the_entering_loop() -> None:
    """Inside `async with` coroutine tasks run on that loop, threads elsewhere."""
    loop = asyncio.get_running_loop()

    async def where() -> bool:
        return asyncio.get_running_loop() is loop

    async with TaskOrchestrator() as orch:
        assert await orch.submit(where) is True
        name = await orch.submit(lambda: threading.current_thread().name)
        assert name.startswith("taskorch-")


def test_coroutines_run_on_a_private_loop_otherwise() -> None:
    """Inside a plain `with` there is one private loop, on a thread of its own."""

    async def where() -> tuple[int, str]:
        return id(asyncio.get_running_loop()), threading.current_thread().name

    before = set(threading.enumerate())
    with TaskOrchestrator() as orch:
        first, second = orch.submit(where), orch.submit(where)
        assert first.result(PATIENCE) == second.result(PATIENCE)
        assert first.result()[1] == "taskorch-loop"
    assert threads_since(before) == []


@in_loop
async def test_a_plain_with_where_a_loop_runs_already() -> None:
    """As in a notebook: a loop runs in this thread, and `with` works beside it."""

    async def where() -> object:
        return asyncio.get_running_loop()

    with TaskOrchestrator() as orch:
        handle = orch.submit(where)
        assert handle.result(PATIENCE) is not asyncio.get_running_loop()
        # Handles can be awaited on any loop.
        assert await orch.submit(pow, 2, 5) == 32


@in_loop
async def test_awaiting_gives_the_result_or_the_error() -> None:
    """`await handle` returns or raises as `result` does, as often as asked."""
    async with TaskOrchestrator() as orch:
        good, bad = orch.submit(int, "3"), orch.submit(fail, ValueError("no"))
        assert await good == 3
        assert await good == 3
        with pytest.raises(ValueError, match="no"):
            await bad
        with pytest.raises(DependencyFailedError):
            await orch.submit(abs, bad)


@in_loop
async def test_handles_in_gather_wait_for_shield_and_wait() -> None:
    """Handles are awaitables like any other."""
    async with TaskOrchestrator() as orch:
        handles = [orch.submit(int, n) for n in "123"]
        assert await asyncio.gather(*handles, handles[0]) == [1, 2, 3, 1]
        assert await asyncio.wait_for(orch.submit(int, "4"), PATIENCE) == 4
        assert await asyncio.shield(orch.submit(int, "5")) == 5
        tasks = [asyncio.ensure_future(orch.submit(int, n)) for n in "67"]
        done, _ = await asyncio.wait(tasks)
        assert {task.result() for task in done} == {6, 7}
        results = await asyncio.gather(
            orch.submit(fail, ValueError("x")), return_exceptions=True
        )
        assert isinstance(results[0], ValueError)


@in_loop
async def test_cancelling_who_awaits_does_not_cancel_the_task() -> None:
    """The task goes on, and can be awaited again."""
    async with TaskOrchestrator() as orch:
        hold = Hold()
        handle = orch.submit(hold, "result")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle, 0.02)
        waiter = asyncio.ensure_future(handle)
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert not handle.done()
        assert not handle._waiters
        hold.release()
        assert await handle == "result"


@in_loop
async def test_a_cancelled_task_raises_its_own_error_when_awaited() -> None:
    """TaskCancelledError is not asyncio's: it does not cancel the awaiting one."""
    async with TaskOrchestrator() as orch:
        handle = orch.submit_task(Task.call(int, not_before=60))
        handle.cancel()
        with pytest.raises(TaskCancelledError):
            await handle


def test_a_handle_is_awaited_on_another_loop() -> None:
    """Any loop may await a handle, also while the task runs on the private one."""
    with TaskOrchestrator() as orch:
        handle = orch.submit(asyncio.sleep, 0.02, "slept")

        async def elsewhere() -> str:
            return await handle

        assert asyncio.run(elsewhere()) == "slept"


@in_loop
async def test_gather_inside_a_coroutine_with_one_slot() -> None:
    """A coroutine that awaits several handles at once gives its one slot back once."""
    async with TaskOrchestrator(concurrency=1) as orch:

        async def parent(depth: int) -> int:
            if depth == 0:
                return 1
            return sum(
                await asyncio.gather(
                    *(orch.submit(parent, depth - 1) for _ in range(3))
                )
            )

        assert await orch.submit(parent, 3) == 27
        assert await orch.aio.wait(PATIENCE)
        assert orch._rt.kernel.running == 0


@in_loop
async def test_patience_inside_a_coroutine() -> None:
    """`wait_for` in a coroutine task ends its wait, and it takes its slot again."""
    async with TaskOrchestrator(concurrency=2) as orch:
        hold = Hold()

        async def parent() -> str:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(orch.submit(hold), 0.02)
            hold.release()
            return "gave up"

        assert await orch.submit(parent) == "gave up"
        assert await orch.aio.wait(PATIENCE)
        assert orch._rt.kernel.running == 0


@in_loop
async def test_aio_has_the_same_names() -> None:
    """Everything that the orchestrator does can be awaited."""
    async with TaskOrchestrator() as orch:
        aio = orch.aio
        assert aio is orch.aio
        assert await (await aio.submit(pow, 2, 3)) == 8
        handle = await aio.submit_task(Task.call(int, id="x", not_before=60))
        others = await aio.submit_tasks([Task.call(int), Task.call(int)])
        assert await asyncio.gather(*others) == [0, 0]
        assert await aio.handle("x") is handle
        assert (await aio.get_task_status("x")).state == "pending"
        assert len([s async for s in aio.tasks("pending")]) == 1
        assert (await aio.explain("x")).blockers[0].kind == "delay"
        assert await aio.set_priority("x", 3)
        assert await aio.suspend_task("x")
        assert await aio.resume_task("x")
        assert await aio.expire_tasks(0) == []
        assert await aio.cancel_task("x")
        assert await aio.decide("x", "fail") is False
        again = await aio.rerun_task(others[0].task_id)
        assert await again == 0
        assert (await aio.get_stats()).state_machine.completed == 4
        assert (await aio.health()).status == "ok"
        assert await aio.wait(PATIENCE)
        report = await aio.stop()
        assert report.completed == 4
    # What it has besides is in tests/integration/test_faces.py.
    assert {"submit", "map", "tasks", "simulate"} <= set(dir(type(aio)))


@in_loop
async def test_aio_map_in_order_with_errors_in_turn() -> None:
    """`async for` over `aio.map` yields in order, and raises where the call did."""
    async with TaskOrchestrator() as orch:
        results = orch.aio.map(lambda n: 6 // n, [3, 2, 0, 1])
        assert [await anext(results), await anext(results)] == [2, 3]
        with pytest.raises(ZeroDivisionError):
            await anext(results)
        pairs = [r async for r in orch.aio.map(pow, [2, 3], [3, 2], timeout=PATIENCE)]
        assert pairs == [8, 9]


@in_loop
async def test_aio_map_runs_out_of_patience_only_while_it_waits(monkeypatch) -> None:
    """Its timeout raises in the map, never in the code between two results."""
    async with TaskOrchestrator() as orch:
        hold = Hold()
        results = orch.aio.map(lambda n: hold() if n else 0, [0, 0, 1], timeout=60)
        assert await anext(results) == 0

        def both_have_ended() -> bool:
            return orch.get_stats().state_machine.completed == 2

        await asyncio.to_thread(eventually, both_have_ended)
        # Longer than the timeout, and not interrupted.
        monkeypatch.setattr("taskorch._aio.monotonic", lambda: time.monotonic() + 120)
        assert await anext(results) == 0
        with pytest.raises(TimeoutError):
            await anext(results)
        hold.release()


@in_loop
async def test_aio_start_makes_the_running_loop_its_own() -> None:
    """`await orch.aio.start()` is the opening of `async with`."""
    orch = TaskOrchestrator()
    await orch.aio.start()
    loop = asyncio.get_running_loop()

    async def where() -> bool:
        return asyncio.get_running_loop() is loop

    assert await orch.submit(where) is True
    report = await orch.aio.stop()
    assert report.completed == 1
    with pytest.raises(NotRunningError):
        orch.submit(int)


class SlowValidator:
    """Asks somebody else, and waits for the answer."""

    def __init__(self) -> None:
        self.asked, self.answer = threading.Event(), threading.Event()
        self.accept = True

    def validate(self, task, context) -> Verdict:
        self.asked.set()
        assert self.answer.wait(PATIENCE)
        if self.accept:
            return Verdict()
        return Verdict((Finding("payload", "no"),))


@in_loop
async def test_a_slow_validator_does_not_block_the_loop() -> None:
    """`await orch.aio.submit_task` lets the loop go on while the validator thinks."""
    validator = SlowValidator()
    async with TaskOrchestrator(validator=validator) as orch:
        submission = asyncio.ensure_future(orch.aio.submit_task(Task.call(int)))
        assert await asyncio.to_thread(validator.asked.wait, PATIENCE)
        validator.answer.set()
        assert await (await submission) == 0


@in_loop
async def test_the_end_of_the_block_waits_for_coroutines() -> None:
    """The drain lets coroutines on the same loop finish."""
    done = []

    async def work() -> None:
        await asyncio.sleep(0.02)
        done.append(1)

    async with TaskOrchestrator() as orch:
        for _ in range(5):
            orch.submit(work)
    assert len(done) == 5
    assert orch.get_stats().state_machine.completed == 5


@in_loop
async def test_an_exception_ends_the_block_without_a_drain() -> None:
    """Coroutines under way are cancelled when the block is left by an exception."""
    began, cancelled = asyncio.Event(), []

    async def work() -> None:
        began.set()
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    handles = []

    async def block() -> None:
        async with TaskOrchestrator() as orch:
            handles.append(orch.submit(work))
            await began.wait()
            fail(ValueError("mine"))

    with pytest.raises(ValueError, match="mine"):
        await block()
    assert cancelled == [1]
    assert handles[0].cancelled()


@in_loop
async def test_a_cancelled_drain_stops_at_once() -> None:
    """Cancelled while it drains, the block ends all work and then lets go."""
    before = set(threading.enumerate())
    began = asyncio.Event()
    orch = TaskOrchestrator()

    async def block() -> None:
        async with orch:
            orch.submit(asyncio.sleep, PATIENCE)
            orch.submit_task(Task.call(int, not_before=60))
            began.set()

    running = asyncio.ensure_future(block())
    await began.wait()
    await asyncio.sleep(0.02)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    stats = orch.get_stats().state_machine
    assert stats.cancelled == 2
    assert threads_since(before) == []


@in_loop
async def test_the_private_loop_does_not_take_the_callers_down() -> None:
    """With an async receiver before `async with`, only the private loop is closed."""
    orch = TaskOrchestrator()
    seen = []

    async def receiver(event) -> None:
        seen.append(event)

    orch.signals.task_submitted.connect(receiver)
    orch.submit(int)
    async with orch:
        assert await orch.submit(int) == 0
        assert await orch.aio.wait(PATIENCE)
    # This loop still runs.
    await asyncio.sleep(0)
    assert len(seen) == 2


def test_async_receivers_run_on_the_loop_and_are_waited_for() -> None:
    """An async receiver runs on the loop; `wait` and the drain wait for its end."""
    seen = []

    async def receiver(event) -> None:
        await asyncio.sleep(0.02)
        seen.append(threading.current_thread().name)

    with TaskOrchestrator() as orch:
        orch.signals.task_completed.connect(receiver)
        orch.submit(int)
        assert orch.wait(PATIENCE)
        assert seen == ["taskorch-loop"]
        orch.submit(int)
    assert len(seen) == 2


@in_loop
async def test_async_receivers_run_on_the_entering_loop() -> None:
    """Inside `async with` they run on that loop, and may await the orchestrator."""
    loop = asyncio.get_running_loop()
    seen = []
    async with TaskOrchestrator() as orch:

        @orch.signals.task_failed.connect
        async def receiver(event) -> None:
            assert asyncio.get_running_loop() is loop
            seen.append(await orch.submit(str, event.task_id))

        bad = orch.submit_task(Task.call(fail, ValueError(), id="bad"))
        assert await orch.aio.wait(PATIENCE)
        assert seen == ["bad"]
        assert bad.done()


def test_an_async_receiver_that_raises_is_reported() -> None:
    """It becomes a ReceiverFailed as well."""
    failures = []

    async def receiver(event) -> None:
        msg = "async"
        raise ValueError(msg)

    with TaskOrchestrator() as orch:
        orch.signals.receiver_failed.connect(failures.append)
        orch.signals.task_completed.connect(receiver)
        orch.submit(int)
        assert orch.wait(PATIENCE)
    assert [(f.signal, f.error_type, f.message) for f in failures] == [
        ("task_completed", "ValueError", "async")
    ]


@in_loop
async def test_an_async_receiver_may_wait_for_all_the_others() -> None:
    """`await orch.aio.wait()` in a receiver does not wait for that receiver."""
    waited: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    async with TaskOrchestrator() as orch:

        @orch.signals.task_completed.connect
        async def receiver(event) -> None:
            waited.set_result(await orch.aio.wait(PATIENCE))

        await orch.submit(int)
        # Nobody else waits for a receiver that waits for everybody.
        assert await asyncio.wait_for(waited, PATIENCE)


def test_an_async_receiver_that_never_ends_does_not_hold_the_stop() -> None:
    """Nobody waits for it beyond its patience, and it is cancelled at the end."""
    ended = []

    async def receiver(event) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    with TaskOrchestrator() as orch:
        orch._rt.publisher.patience = 0.05
        orch.signals.task_completed.connect(receiver)
        orch.submit(int)
    assert ended == [1]


@in_loop
async def test_an_async_receiver_that_is_cancelled_before_it_began_is_closed() -> None:
    """Else Python would warn that it was never awaited."""
    made = []

    async def later() -> None:
        raise AssertionError

    def receiver(event):
        made.append(later())
        return made[0]

    def factory(loop, coro, **options):
        task = asyncio.Task(coro, loop=loop, **options)
        if "_await" in coro.__qualname__:
            task.cancel()
        return task

    asyncio.get_running_loop().set_task_factory(factory)
    async with TaskOrchestrator() as orch:
        orch.signals.task_completed.connect(receiver)
        await orch.submit(int)
        assert await orch.aio.wait(PATIENCE)
    assert [inspect.getcoroutinestate(each) for each in made] == [inspect.CORO_CLOSED]


def test_async_receivers_after_their_loop_has_ended() -> None:
    """They are not run any more, and nobody waits for them."""
    orch = TaskOrchestrator()
    seen = []

    async def receiver(event) -> None:
        seen.append(event)

    async def enter() -> None:
        await orch.aio.start()

    asyncio.run(enter())
    orch.signals.task_completed.connect(receiver)
    orch.submit(int)
    assert orch.wait(PATIENCE)
    orch.stop()
    assert seen == []


@in_loop
async def test_a_task_factory_that_fails_fails_the_task() -> None:
    """What the user's loop cannot begin is a failure of that task."""

    def factory(loop, coro, **options):
        if broken and coro.__name__ == "_drive":
            fail(ValueError("no tasks today"))
        return asyncio.Task(coro, loop=loop, **options)

    loop = asyncio.get_running_loop()
    broken = [True]
    loop.set_task_factory(factory)
    async with TaskOrchestrator() as orch:
        with pytest.raises(ValueError, match="no tasks today"):
            await orch.submit(asyncio.sleep, 0)
        broken.clear()
        assert await orch.submit(asyncio.sleep, 0, "again") == "again"


def test_a_closed_loop_fails_the_task() -> None:
    """A coroutine task of an orchestrator whose loop is gone fails, and says so."""
    orch = TaskOrchestrator()

    async def enter() -> None:
        await orch.aio.start()
        assert await orch.submit(asyncio.sleep, 0, "fine") == "fine"

    asyncio.run(enter())
    error = orch.submit(asyncio.sleep, 0).exception(PATIENCE)
    assert "loop has been closed" in str(error)
    assert orch.submit(int).result(PATIENCE) == 0
    orch.stop()


def test_coroutines_cut_off_by_their_loop_do_not_hang() -> None:
    """Where the loop ends under them, coroutines end too, even those not yet begun."""
    orch = TaskOrchestrator()
    handles = []

    async def enter() -> None:
        await orch.aio.start()
        handles.extend(orch.submit(asyncio.sleep, PATIENCE) for _ in range(3))
        await asyncio.sleep(0)

    asyncio.run(enter())
    for handle in handles:
        assert handle.exception(PATIENCE) is not None
    orch.stop()


@in_loop
async def test_refusals_raise_through_aio() -> None:
    """What the validator refuses is raised by the await."""
    validator = SlowValidator()
    validator.accept = False
    validator.answer.set()
    async with TaskOrchestrator(validator=validator) as orch:
        with pytest.raises(ValidationFailedError):
            await orch.aio.submit_task(Task.call(int))
        with pytest.raises(WouldBlockError):
            orch.wait()


@in_loop
async def test_aio_start_opens_a_journal_beside_the_loop(tmp_path) -> None:
    """That may take long, and others on the loop go on."""
    opened_by = []

    class Journal(SqliteJournal):
        def claim(self) -> int:
            opened_by.append(threading.current_thread())
            return super().claim()

    orch = TaskOrchestrator(journal=Journal(tmp_path / "runs.db"))
    await orch.aio.start()
    try:
        (thread,) = opened_by
        assert thread is not threading.main_thread()
    finally:
        await orch.aio.stop()


def test_an_async_generator_that_was_left_open_is_closed_at_the_end() -> None:
    closed = threading.Event()
    kept: list[Any] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.set()

    async def begin() -> int:
        kept.append(numbers())
        return int(await anext(kept[0]))

    with TaskOrchestrator() as orch:
        assert orch.submit(begin).result(PATIENCE) == 1
        assert not closed.is_set()
    assert closed.wait(PATIENCE)


def test_a_loop_that_does_the_work_is_not_blocked_though_it_opened_the_journal(
    tmp_path: Path,
) -> None:
    """In a notebook a plain call opens it: later the loop may be the orchestrator's."""

    async def main() -> None:
        orch = TaskOrchestrator(journal=tmp_path / "runs.db")
        assert orch.submit(int).task_id
        assert orch.submit(int).task_id
        async with orch:
            with pytest.raises(WouldBlockError):
                orch.submit(int)

    asyncio.run(main())


def test_what_a_coroutine_has_changed_is_kept_when_it_goes_on(tmp_path: Path) -> None:
    """The loop is not held up for the commit, and nobody goes on before it."""

    async def main() -> None:
        path = tmp_path / "runs.db"
        async with TaskOrchestrator(journal=path) as orch:
            for name in ("x", "y"):
                await orch.aio.submit_task(Task.wait_for("never", id=name))
            assert await orch.aio.cancel_task("x", reason="enough")
            status = JournalReader(path).get_task_status("x")
            assert (status.state, status.history[-1].detail) == ("cancelled", "enough")
            assert await orch.aio.set_priority("y", 3)
            assert JournalReader(path).get_task_status("y").priority == 3
            await orch.aio.cancel_task("y")

    asyncio.run(main())
