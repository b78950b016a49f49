"""Handles in every function of asyncio that takes something to wait for."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Hold, fail, in_loop

from taskorch import DependencyFailedError, TaskHandle, TaskOrchestrator
from taskorch.errors import UsageError

Handle = TaskHandle[Any]


async def by_await(handle: Handle) -> Any:
    return await handle


async def by_gather(handle: Handle) -> Any:
    first, second = await asyncio.gather(handle, handle)
    assert first == second
    return first


async def by_wait_for(handle: Handle) -> Any:
    return await asyncio.wait_for(handle, PATIENCE)


async def by_shield(handle: Handle) -> Any:
    return await asyncio.shield(handle)


async def by_timeout(handle: Handle) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await handle


async def by_ensure_future(handle: Handle) -> Any:
    return await asyncio.ensure_future(handle)


async def by_as_completed(handle: Handle) -> Any:
    for first in asyncio.as_completed([handle], timeout=PATIENCE):
        return await first
    raise AssertionError


async def by_task_group(handle: Handle) -> Any:
    async def see() -> Any:
        return await handle

    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(see())
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    return task.result()


async def by_wait(handle: Handle) -> Any:
    """As the hint of the refusal says."""
    done, left = await asyncio.wait([asyncio.ensure_future(handle)], timeout=PATIENCE)
    assert not left
    return done.pop().result()


async def by_wrap_future(handle: Handle) -> Any:
    return await asyncio.wrap_future(handle.future())


async def by_to_thread(handle: Handle) -> Any:
    return await asyncio.to_thread(handle.result, PATIENCE)


WAYS = [
    by_await,
    by_gather,
    by_wait_for,
    by_shield,
    by_timeout,
    by_ensure_future,
    by_as_completed,
    by_task_group,
    by_wait,
    by_wrap_future,
    by_to_thread,
]
#: Those that await the handle itself: a task gives back its slot meanwhile.
AWAITING = [way for way in WAYS if way is not by_wrap_future]

Way = Callable[[Handle], Awaitable[Any]]


async def later(value: Any) -> Any:
    """A coroutine that takes a turn."""
    await asyncio.sleep(0)
    return value


async def fail_later(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


@pytest.mark.parametrize("way", WAYS)
@in_loop
async def test_results_and_errors_arrive(way: Way) -> None:
    """Of threads and of coroutines, under way and ended, good and bad."""
    async with TaskOrchestrator() as orch:
        for handle in (orch.submit(int, "7"), orch.submit(later, 7)):
            assert await way(handle) == 7
            assert handle.done()
            assert await way(handle) == 7
        for function in (fail, fail_later):
            bad = orch.submit(function, ZeroDivisionError("oops"))
            for _ in range(2):
                with pytest.raises(ZeroDivisionError, match="oops"):
                    await way(bad)
            with pytest.raises(DependencyFailedError):
                await way(orch.submit(abs, bad))


@pytest.mark.parametrize(
    "when", ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]
)
@in_loop
async def test_wait_refuses_handles_and_says_what_it_takes(when: str) -> None:
    """It takes them for futures of its loop, and would wait for ever."""
    async with TaskOrchestrator() as orch:
        hold = Hold()
        handles: list[Any] = [orch.submit(int), orch.submit(hold)]
        with pytest.raises(UsageError, match=r"asyncio\.wait\(\)") as caught:
            await asyncio.wait(handles, return_when=when)
        assert "asyncio.ensure_future(handle)" in caught.value.hint
        assert caught.value.code == "usage"
        hold.release()
        assert await asyncio.gather(*handles) == [0, None]
        # Of those that have ended, too.
        with pytest.raises(UsageError):
            await asyncio.wait(handles, return_when=when)


@in_loop
async def test_wait_takes_handles_as_tasks() -> None:
    """What the first to end was can be told apart."""
    async with TaskOrchestrator() as orch:
        hold = Hold()
        slow, quick = orch.submit(hold, "slow"), orch.submit(int, "7")
        tasks = {asyncio.ensure_future(handle): handle for handle in (slow, quick)}
        done, left = await asyncio.wait(tasks, return_when="FIRST_COMPLETED")
        assert [tasks[task] for task in done] == [quick]
        assert [tasks[task] for task in left] == [slow]
        hold.release()
        done, left = await asyncio.wait(left)
        assert [task.result() for task in done] == ["slow"]


@in_loop
async def test_a_handle_is_no_coroutine_and_no_future() -> None:
    """What takes only these says so, and leaves the task alone."""
    async with TaskOrchestrator() as orch:
        handle: Any = orch.submit(int, "7")
        assert not asyncio.isfuture(handle)
        assert not asyncio.iscoroutine(handle)
        with pytest.raises(TypeError, match="coroutine"):
            await asyncio.create_task(handle)
        with pytest.raises((TypeError, ExceptionGroup)):
            async with asyncio.TaskGroup() as group:
                group.create_task(handle)
        with pytest.raises((TypeError, AssertionError)):
            asyncio.wrap_future(handle)
        assert await handle == 7


def test_a_loop_runs_until_a_handle_has_ended() -> None:
    """Where asyncio runs something to its end, that can be a handle."""
    with TaskOrchestrator() as orch:
        loop = asyncio.new_event_loop()
        try:
            assert loop.run_until_complete(orch.submit(int, "7")) == 7
        finally:
            loop.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
@pytest.mark.parametrize("way", AWAITING)
@in_loop
async def test_eager_tasks(way: Way) -> None:
    """Tasks that begin at once, within the call that makes them."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    async with TaskOrchestrator(concurrency=1) as orch:

        async def parent() -> Any:
            return await way(orch.submit(later, 7))

        for function in (parent, later):
            handle = orch.submit(function, *([] if function is parent else [7]))
            assert await way(handle) == 7
            assert await way(handle) == 7


@in_loop
async def test_callbacks_of_the_users_are_welcome_on_a_loop() -> None:
    """They run on the publisher's thread, wherever they come from."""
    async with TaskOrchestrator() as orch:
        loop = asyncio.get_running_loop()
        called = asyncio.Event()
        handle = orch.submit(int)
        handle.add_done_callback(lambda _: loop.call_soon_threadsafe(called.set))
        async with asyncio.timeout(PATIENCE):
            await called.wait()
