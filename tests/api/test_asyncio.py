"""Coroutines: `async with`, awaiting handles, `orch.aio`, running loops of others."""

import asyncio
import inspect
import threading
from pathlib import Path

import pytest
from tests.api.tools import (
    PATIENCE,
    fail,
    in_loop,
    threads_since,
)

from taskorch import (
    Task,
    TaskCancelledError,
    TaskOrchestrator,
    ValidationFailedError,
)
from taskorch.api.journal import SqliteJournal
from taskorch.errors import WouldBlockError
from taskorch.ext.views import JournalReader
from taskorch.protocols import Finding, Verdict


@in_loop
async def test_a_cancelled_task_raises_its_own_error_when_awaited() -> None:
    """TaskCancelledError is not asyncio's: it does not cancel the awaiting one."""
    async with TaskOrchestrator() as orch:
        handle = orch.submit_task(Task.call(int, not_before=60))
        handle.cancel()
        with pytest.raises(TaskCancelledError):
            await handle


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
    # What it has besides is in tests/api/test_faces.py.
    assert {"submit", "map", "tasks", "simulate"} <= set(dir(type(aio)))


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
