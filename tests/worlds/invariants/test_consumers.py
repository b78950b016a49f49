"""
What takes something awaitable takes a handle, or refuses it at once; likewise futures.

Each way of the standard library's is given one of a task that ends well, and of one that
fails: it comes to that end, or it raises an error. There is no third: nothing waits in
vain.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Hold
from tests.worlds.invariants import use

from taskorch import Task, TaskExecutor, TaskOrchestrator

# -- who takes something: each gives its outcome, or raises its error ------------------


async def awaits(it):
    return await it


async def gathers(it):
    return (await asyncio.gather(it))[0]


async def shields(it):
    return await asyncio.shield(it)


async def waits_for(it):
    return await asyncio.wait_for(it, PATIENCE)


async def is_patient(it):
    async with asyncio.timeout(PATIENCE):
        return await it


async def waits(it):
    done, _ = await asyncio.wait([it])
    return done.pop().result()


async def waits_for_the_first(it):
    done, _ = await asyncio.wait([it], return_when=asyncio.FIRST_COMPLETED)
    return done.pop().result()


async def waits_with_a_timeout(it):
    done, _ = await asyncio.wait([it], timeout=PATIENCE)
    return done.pop().result()


async def takes_as_completed(it):
    return await next(iter(asyncio.as_completed([it])))


async def ensures(it):
    return await asyncio.ensure_future(it)


async def wraps(it):
    return await asyncio.wrap_future(it)


async def makes_a_task(it):
    return await asyncio.create_task(it)


async def has_a_group(it):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(it)
    return task.result()


async def is_on_another_thread(it):
    loop = asyncio.get_running_loop()
    return await asyncio.to_thread(
        lambda: asyncio.run_coroutine_threadsafe(it, loop).result(PATIENCE)
    )


async def adds_a_callback(it):
    """As code does that knows futures of a loop, and wakes itself."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    it.add_done_callback(lambda _: loop.call_soon_threadsafe(done.set))
    await done.wait()
    return it.result()


ON_A_LOOP = [
    awaits, gathers, shields, waits_for, is_patient, waits, waits_for_the_first,
    waits_with_a_timeout, takes_as_completed, ensures, wraps, makes_a_task, has_a_group,
    is_on_another_thread, adds_a_callback,
]  # fmt: skip


def runs(it):
    return asyncio.run(it)


def runs_until_complete(it):
    with asyncio.Runner() as runner:
        return runner.get_loop().run_until_complete(it)


def waits_plainly(it):
    done, _ = concurrent.futures.wait([it], PATIENCE)
    return done.pop().result()


def takes_plainly_as_completed(it):
    return next(concurrent.futures.as_completed([it], PATIENCE)).result()


def asks(it):
    return it.result(PATIENCE)


def asks_for_the_exception(it):
    error = it.exception(PATIENCE)
    if error is not None:
        raise error
    return it.result()


ON_A_THREAD = [
    runs, runs_until_complete, waits_plainly, takes_plainly_as_completed, asks,
    asks_for_the_exception,
]  # fmt: skip

# -- what they are given -----------------------------------------------------------------


def handle(orch, task):
    return orch.submit_task(task)


def future(orch, task):
    return orch.submit_task(task).future()


def of_an_executor(orch, task):
    call = task.payload
    return TaskExecutor(orchestrator=orch).submit(call.fn, *call.args)


#: What a task does, and what comes of it.
ENDS: list[tuple[Callable[..., Any], Any]] = [
    (use.give, use.Thing(2)),
    (use.give_later, use.Thing(2)),
    (use.fail, use.Oops),
    (use.fail_later, use.Oops),
]
#: Those that a handle is for, as `docs/howto/asyncio.md` says; others refuse it.
FOR_HANDLES = {
    awaits, gathers, shields, waits_for, is_patient, takes_as_completed, ensures,
    runs_until_complete, asks, asks_for_the_exception, adds_a_callback,
}  # fmt: skip
#: Those that a future of `concurrent.futures` is for: a pool's own, too.
FOR_FUTURES = [
    wraps, waits_plainly, takes_plainly_as_completed, asks, asks_for_the_exception,
    adds_a_callback,
]  # fmt: skip


# Who makes a coroutine of it, and is refused then, leaves that.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("early", [True, False], ids=["before", "afterwards"])
@pytest.mark.parametrize(
    ("given", "consumer"),
    [
        *product([handle], [*ON_A_LOOP, *ON_A_THREAD]),
        *product([future, of_an_executor], FOR_FUTURES),
    ],
)
def test_what_takes_it_comes_to_its_end_or_refuses_it(given, consumer, early):
    with TaskOrchestrator(concurrency=1) as orch:
        for fn, end in ENDS:
            hold = Hold()
            before = orch.submit(hold)
            it = given(orch, Task.call(fn, use.Thing(1)))
            if not early:
                hold.release()
                assert orch.wait(PATIENCE)
            outcome = outcome_of(consumer, it, hold)
            before.result(PATIENCE)
            has_come = outcome == end or type(outcome) is end
            if given is not handle or consumer in FOR_HANDLES:
                assert has_come, outcome
            else:
                is_refused = isinstance(outcome, Exception)
                assert has_come or is_refused, outcome
                assert not isinstance(outcome, TimeoutError)


def outcome_of(consumer, it, hold):
    """What comes of *it*, once the one before it is let go; or the error."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(begin, consumer, it)
        # Mostly as it waits, and sometimes before.
        concurrent.futures.wait([asked], use.MOMENT)
        hold.release()
        return asked.exception() or asked.result()


def begin(consumer, it):
    if consumer not in ON_A_LOOP:
        return consumer(it)
    # Some are to wait for ever by themselves.
    return asyncio.run(asyncio.wait_for(consumer(it), PATIENCE))
