"""Running loops: notebooks, asyncio programs, several loops and orchestrators."""

# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportOptionalMemberAccess=false
# pyright: reportAssignmentType=false
# What does not fit is the point here.

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from tests.api.tools import PATIENCE

from taskorch import Task, TaskCancelledError, TaskOrchestrator, as_completed
from taskorch.errors import WouldBlockError


async def where(x=None):
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


async def double(x):
    await asyncio.sleep(0)
    return 2 * x


def fail():
    raise ValueError("failed")


def run(main):
    """As a notebook does: the code runs inside a loop that is running already."""
    return asyncio.run(asyncio.wait_for(main, PATIENCE))


def test_a_plain_block_inside_a_running_loop_does_thread_work():
    """A cell of a notebook: `with`, submit, result; the loop stands meanwhile."""

    async def cell():
        with TaskOrchestrator() as orch:
            assert orch.submit(pow, 2, 5).result(PATIENCE) == 32
            assert list(orch.map(abs, [-1, -2])) == [1, 2]
            assert [h.result() for h in as_completed([orch.submit(abs, -3)])] == [3]
            assert orch.wait(PATIENCE)
        return "ended"

    assert run(cell()) == "ended"


def test_a_plain_block_inside_a_running_loop_does_coroutine_work():
    """Coroutines run on a loop of their own, so that even waiting is no hang."""

    async def cell():
        with TaskOrchestrator() as orch:
            assert orch.submit(double, 5).result(PATIENCE) == 10
            theirs = orch.submit(where).result(PATIENCE)
            assert theirs is not asyncio.get_running_loop()

    run(cell())


def test_a_handle_can_be_awaited_on_any_loop():
    """Thread work and private-loop work, awaited on the notebook's loop."""

    async def cell():
        with TaskOrchestrator() as orch:
            assert await orch.submit(pow, 2, 5) == 32
            assert await orch.submit(double, 5) == 10
            handles = [orch.submit(double, n) for n in range(5)]
            assert await asyncio.gather(*handles) == [0, 2, 4, 6, 8]
            with pytest.raises(ValueError, match="failed"):
                await orch.submit(fail)
            done = orch.submit(pow, 2, 3)
            assert done.result(PATIENCE) == 8
            # Once it has ended, as often as wanted.
            assert (await done, await done) == (8, 8)

    run(cell())


def test_two_cells_with_one_orchestrator_between_them():
    """Started in one run of a loop and used in another."""
    orch = TaskOrchestrator()

    async def first():
        orch.start()
        return orch.submit(double, 4)

    async def second(handle):
        assert await handle == 8
        assert await orch.submit(double, 5) == 10
        return await orch.aio.stop()

    handle = run(first())
    assert run(second(handle)).completed == 2


def test_inside_async_with_coroutines_run_on_the_loop_that_entered():
    """So they may use what belongs to that loop."""

    async def main():
        lock = asyncio.Lock()

        async def guarded(x):
            async with lock:
                await asyncio.sleep(0)
                return x

        async with TaskOrchestrator() as orch:
            mine = asyncio.get_running_loop()
            assert await orch.submit(where) is mine
            handles = [orch.submit(guarded, n) for n in range(3)]
            assert await asyncio.gather(*handles) == [0, 1, 2]
            assert await orch.submit(pow, 2, 5) == 32

    run(main())


def test_blocking_the_loop_that_must_do_the_work_is_refused():
    """Inside `async with`, `result()` and `wait()` say what to do instead."""

    async def main():
        async with TaskOrchestrator() as orch:
            handle = orch.submit(double, 2)
            for call in (
                handle.result,
                lambda: handle.result(5),
                handle.exception,
                orch.wait,
                orch.stop,
                lambda: list(as_completed([handle])),
                lambda: list(orch.map(double, [1])),
            ):
                with pytest.raises(WouldBlockError) as caught:
                    call()
                assert "await" in caught.value.hint or "asyncio" in caught.value.hint
            assert await handle == 4
            # What has ended blocks nothing.
            assert handle.result() == 4

    run(main())


def test_the_methods_of_aio_are_those_of_the_facade_as_awaitables():
    """Submitting, asking, controlling and waiting without blocking the loop."""

    async def main():
        async with TaskOrchestrator() as orch:
            aio = orch.aio
            assert await (await aio.submit(pow, 2, 5)) == 32
            task = Task.call(pow, 2, 3, id="t")
            assert await (await aio.submit_task(task)) == 8
            handles = await aio.submit_tasks([Task.call(abs, -n) for n in range(3)])
            assert await asyncio.gather(*handles) == [0, 1, 2]
            assert [x async for x in aio.map(double, [1, 2])] == [2, 4]
            assert (await aio.get_task_status("t")).result == 8
            assert (await aio.handle("t")).task_id == "t"
            assert await (await aio.rerun_task("t")) == 8
            assert (await aio.get_stats()).state_machine.completed == 8
            assert str(await aio.explain("t"))
            assert (await aio.health()).ready
            assert len([s async for s in aio.tasks("completed")]) == 8
            held = await aio.submit_task(Task.call(pow, 2, 3, not_before=1_000))
            assert await aio.set_priority(held.task_id, 5)
            assert await aio.suspend_task(held.task_id)
            assert await aio.resume_task(held.task_id)
            assert await aio.cancel_task(held.task_id)
            assert await aio.expire_tasks(1_000) == []
            assert await aio.wait(PATIENCE)
            with pytest.raises(ValueError, match="failed"):
                await (await aio.submit(fail))
            with pytest.raises(ValueError, match="failed"):
                [x async for x in aio.map(lambda x: fail(), [1])]

    run(main())


def test_aio_starts_and_stops_without_a_block():
    """`await orch.aio.start()` takes the running loop."""

    async def main():
        orch = TaskOrchestrator()
        await orch.aio.start()
        assert await orch.submit(where) is asyncio.get_running_loop()
        report = await orch.aio.stop()
        assert report.completed == 1
        assert await orch.aio.stop() is report

    run(main())


def test_wait_for_gather_and_shield_take_handles():
    """Cancelling one who awaits does not cancel the task."""
    free = threading.Event()

    async def main():
        async with TaskOrchestrator() as orch:
            handle = orch.submit(free.wait, PATIENCE)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(handle, 0.01)
            waiter = asyncio.ensure_future(asyncio.shield(handle))
            await asyncio.sleep(0)
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            assert not handle.done()
            free.set()
            assert await handle is True
            mixed = await asyncio.gather(
                orch.submit(fail), orch.submit(double, 1), return_exceptions=True
            )
            assert isinstance(mixed[0], ValueError)
            assert mixed[1] == 2

    run(main())


def test_a_block_that_ends_by_an_exception_does_not_wait_for_its_work():
    """What runs is cancelled, and the exception comes through."""
    seen = []
    began = asyncio.Event()

    async def long():
        began.set()
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main():
        async with TaskOrchestrator() as orch:
            seen.append(orch.submit(long))
            await began.wait()
            raise LookupError("out")

    with pytest.raises(LookupError, match="out"):
        run(main())
    handle, how = seen
    assert how == "cancelled"
    with pytest.raises(TaskCancelledError):
        handle.result(PATIENCE)


def test_cancelling_the_program_around_it_ends_the_block():
    """As asyncio.timeout and Ctrl-C do."""

    async def main():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as limit, TaskOrchestrator() as orch:
                handle = orch.submit(asyncio.sleep, PATIENCE)
                limit.reschedule(asyncio.get_running_loop().time() + 0.02)
                await handle
        return handle

    handle = run(main())
    assert handle.cancelled()


def test_two_orchestrators_on_one_loop():
    """They share the loop and nothing else; one may await the other's work."""

    async def main():
        async with TaskOrchestrator() as a, TaskOrchestrator() as b:

            async def across(x):
                return await b.submit(double, x)

            handles = [a.submit(across, n) for n in range(5)]
            assert await asyncio.gather(*handles) == [0, 2, 4, 6, 8]
            assert a.get_stats().state_machine.completed == 5
            assert b.get_stats().state_machine.completed == 5

    run(main())


def test_two_orchestrators_one_inside_the_other():
    """Each in its own way: threads outside, a private loop inside."""
    with TaskOrchestrator() as outer, TaskOrchestrator() as inner:

        def nested(x):
            return inner.submit(double, x).result(PATIENCE)

        assert outer.submit(nested, 4).result(PATIENCE) == 8
        assert (
            inner.submit(double, outer.submit(abs, -2).result(PATIENCE)).result(
                PATIENCE
            )
            == 4
        )


def test_an_orchestrator_inside_a_task_of_another():
    """A whole incarnation of one inside a task of the other, with a loop of its own."""

    def whole(x):
        with TaskOrchestrator() as inner:
            return inner.submit(double, x).result(PATIENCE)

    async def awhole(x):
        async with TaskOrchestrator() as inner:
            return await inner.submit(double, x)

    def looped(x):
        return asyncio.run(awhole(x))

    with TaskOrchestrator() as outer:
        for fn in (whole, awhole, looped):
            assert outer.submit(fn, 4).result(PATIENCE) == 8


def test_orchestrators_in_many_threads_with_loops_of_their_own():
    """Every thread its own loop and orchestrator, all at once."""
    results = []

    async def main(n):
        async with TaskOrchestrator() as orch:
            assert await orch.submit(where) is asyncio.get_running_loop()
            return await orch.submit(double, n)

    def thread(n):
        results.append(run(main(n)))

    threads = [threading.Thread(target=thread, args=(n,)) for n in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE)
    assert sorted(results) == [0, 2, 4, 6, 8, 10]


def test_other_threads_use_an_orchestrator_inside_async_with():
    """They may block on results: the loop is free to do the work."""

    async def main():
        async with TaskOrchestrator() as orch:

            def ask(n):
                return orch.submit(double, n).result(PATIENCE)

            return await asyncio.gather(*(asyncio.to_thread(ask, n) for n in range(5)))

    assert run(main()) == [0, 2, 4, 6, 8]


def test_the_loop_may_close_before_the_orchestrator_has_stopped():
    """Coroutines then fail with a clear error; threads go on; the end is no hang."""
    orch = TaskOrchestrator()

    async def main():
        await orch.aio.start()
        return await orch.submit(double, 1)

    assert run(main()) == 2
    late = orch.submit(double, 2)
    with pytest.raises(Exception, match="loop has been closed"):
        late.result(PATIENCE)
    assert orch.submit(pow, 2, 5).result(PATIENCE) == 32
    report = orch.stop()
    assert report.completed == 2


def test_waiting_for_a_coroutine_from_a_thread_task_on_the_same_loop():
    """A thread task waits for a coroutine task while the loop is free."""

    async def main():
        async with TaskOrchestrator(concurrency=1) as orch:

            def outer(x):
                return orch.submit(double, x).result(PATIENCE)

            return await orch.submit(outer, 4)

    assert run(main()) == 8


def test_async_generators_and_context_variables_are_those_of_the_submitter():
    """A coroutine sees the variables as they were when it was submitted."""
    import contextvars

    variable = contextvars.ContextVar("variable", default="unset")

    async def read():
        return variable.get()

    def read_plain():
        return variable.get()

    async def main():
        async with TaskOrchestrator() as orch:
            variable.set("one")
            handles = [orch.submit(read), orch.submit(read_plain)]
            variable.set("two")
            handles += [orch.submit(read), orch.submit(read_plain)]
            return await asyncio.gather(*handles)

    assert run(main()) == ["one", "one", "two", "two"]
