"""What nobody needs any more is let go of, without the collector of garbage."""

import asyncio
import concurrent.futures
import gc
import operator
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import (
    PATIENCE,
    Hold,
    eventually,
    in_loop,
    uncollected,
)

from taskorch import ProgramFailedError, Task, TaskOrchestrator, as_completed


@pytest.fixture(autouse=True)
def _uncollected() -> Iterator[None]:
    with uncollected():
        yield


class Big:
    """Something to see let go of."""


def gone(refs: list[Any]) -> None:
    """All of *refs* are let go of, by threads too that are on their way to sleep."""
    eventually(lambda: [ref for ref in refs if ref() is not None] == [])


def raises() -> None:
    """A task that fails."""
    msg = "oops"
    raise ValueError(msg)


# -- waiting -----------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [False, True])
def test_to_end_as_another_task_leaves_nothing_behind(
    at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the wait for that nor the attempt, even if the end was known before."""
    with TaskOrchestrator(keep_finished=0) as orch:
        inner = orch.submit_task(Task.wait_for("go"))
        when = orch._rt.waiting.when

        def when_told(*given: Any) -> Any:
            waiter = when(*given)
            if at_once:
                orch.emit("go", 7)
                orch._rt.publisher.flush(PATIENCE)
            return waiter

        monkeypatch.setattr(orch._rt.waiting, "when", when_told)
        outer = orch.submit(lambda: inner)
        if not at_once:
            eventually(lambda: inner._waiters)
            orch.emit("go", 7)
        assert outer.result(PATIENCE) == 7
        refs = [weakref.ref(outer)]
        del outer
        gone(refs)


# -- handles -----------------------------------------------------------------------


def by_result(handle: Any) -> None:
    handle.result(PATIENCE)


def by_future(handle: Any) -> None:
    handle.future().result(PATIENCE)


def by_callback(handle: Any) -> None:
    called = threading.Event()
    handle.add_done_callback(lambda _: called.set())
    assert called.wait(PATIENCE)


def by_as_completed(handle: Any) -> None:
    assert [h.done() for h in as_completed([handle], PATIENCE)] == [True]


def by_awaiting(handle: Any) -> None:
    async def wait() -> None:
        async with asyncio.timeout(PATIENCE):
            await handle

    asyncio.run(wait())


@pytest.mark.parametrize(
    "wait", [by_result, by_future, by_callback, by_as_completed, by_awaiting]
)
@pytest.mark.parametrize("when", ["before it ends", "afterwards"])
def test_handles_are_let_go_of(wait: Callable[[Any], None], when: str) -> None:
    """Whoever waited for a task, and how: with its handle, all of it goes."""
    with TaskOrchestrator(concurrency=1, keep_finished=0) as orch:
        refs: list[Any] = []
        for _ in range(3):
            hold = Hold()
            if when == "before it ends":
                orch.submit(hold)
            big = Big()
            refs.append(weakref.ref(big))
            handle = orch.submit(lambda _: Big(), big)
            refs.append(weakref.ref(handle))
            del big
            if when == "before it ends":
                threading.Timer(0.02, hold.release).start()
            else:
                handle.result(PATIENCE)
            wait(handle)
            refs.append(weakref.ref(handle.result()))
            del handle
            # keep_finished=0: it leaves memory when the next one ends.
            orch.submit(int).result(PATIENCE)
        if wait is by_awaiting:
            # Of asyncio's own rings nothing leads to ours.
            gc.collect()
        gone(refs)


async def raises_later() -> None:
    """A coroutine that fails."""
    await asyncio.sleep(0)
    raises()


@pytest.mark.parametrize("kept", [False, True], ids=["in memory", "kept"])
@pytest.mark.parametrize(
    "task",
    [
        Task.call(raises),
        Task.call(raises, timeout=PATIENCE),
        Task.call(raises_later),
        Task.call(raises, executor="mine"),
        Task.program(["false"]),
    ],
    ids=["call", "limited", "coroutine", "executor", "program"],
)
def test_an_error_is_let_go_of(task: Task, kept: bool, tmp_path: Path) -> None:
    """What an error leads to is the frames of those who saw it, and not ours."""
    journal = tmp_path / "runs.db" if kept else None
    with (
        concurrent.futures.ThreadPoolExecutor(1) as mine,
        TaskOrchestrator(
            keep_finished=0, journal=journal, executors={"mine": mine}
        ) as orch,
    ):

        def see() -> None:
            handle = orch.submit_task(task)
            refs.append(weakref.ref(handle))
            try:
                handle.result(PATIENCE)
            finally:
                del handle

        refs: list[Any] = []
        with pytest.raises((ValueError, ProgramFailedError)):
            see()
        for _ in range(2):
            orch.submit(int).result(PATIENCE)
            assert orch.wait(PATIENCE)
        gone(refs)


@pytest.mark.parametrize(
    "wrap", [lambda h: h, lambda h: [h]], ids=["bare", "in a list"]
)
def test_what_was_handed_over_in_the_place_of_a_handle_is_let_go_of(wrap: Any) -> None:
    """The one who needed it has it, and when that has ended nobody does."""
    refs: list[Any] = []

    def make() -> Big:
        big = Big()
        refs.append(weakref.ref(big))
        return big

    with TaskOrchestrator(keep_finished=0) as orch:
        assert orch.submit(id, wrap(orch.submit(make))).result(PATIENCE)
        assert orch.submit(int).result(PATIENCE) == 0
        assert orch.wait(PATIENCE)
        gone(refs)


def test_what_as_completed_has_yielded_is_the_callers_alone() -> None:
    """While others are awaited, those that were yielded are not kept."""
    with TaskOrchestrator(concurrency=2, keep_finished=0) as orch:
        hold = Hold()
        handles = [orch.submit(hold), orch.submit(Big), orch.submit(Big)]
        later = as_completed(handles, PATIENCE)
        del handles
        refs = [weakref.ref(next(later)) for _ in range(2)]
        gone(refs)
        hold.release()
        assert next(later).result() is None


MB = 1 << 20


def takes(thing: Any) -> int:
    return 7


def test_of_a_task_that_has_left_memory_a_handle_keeps_no_arguments() -> None:
    """Only its result, which somebody may still ask for; its id may be used again."""
    with TaskOrchestrator(keep_finished=0) as orch:
        big = Big()
        refs = [weakref.ref(big)]
        handle = orch.submit_task(Task.call(takes, big, id="named"))
        del big
        handle.result(PATIENCE)
        for _ in range(2):
            orch.submit(int).result(PATIENCE)
        gone(refs)
        assert handle.result() == 7


def takes_much(data: bytes) -> int:
    return len(data)


MANY = 64


def test_what_others_have_too_is_not_counted() -> None:
    """Nor what is small, or without a limit."""
    shared = bytearray(MB)
    with TaskOrchestrator(keep_finished_mb=16) as orch:
        assert list(orch.map(takes_much, [shared] * MANY)) == [MB] * MANY
        assert list(orch.map(str, range(MANY)))
        assert len(orch._rt.kernel.tasks) == 2 * MANY
    with TaskOrchestrator(keep_finished_mb=None) as orch:
        assert [len(each) for each in orch.map(bytes, [MB] * 20)] == [MB] * 20
        assert len(orch._rt.kernel.tasks) == 20


def test_what_has_left_memory_early_is_read_from_the_journal(tmp_path: Path) -> None:
    with TaskOrchestrator(journal=tmp_path / "runs.db", keep_finished_mb=4) as orch:
        for n in range(20):
            task = Task.call(operator.mul, "x", MB, id=f"x/{n}")
            orch.submit_task(task).result(PATIENCE)
        eventually(lambda: len(orch._rt.kernel.tasks) < 20)
        assert orch.handle("x/0").result(PATIENCE) == "x" * MB


# -- map ---------------------------------------------------------------------------


def test_map_keeps_nothing_that_it_has_yielded() -> None:
    """Between two results it holds only what is to come."""
    with TaskOrchestrator(keep_finished=0) as orch:
        results = orch.map(lambda _: Big(), range(3))
        orch.wait(PATIENCE)
        refs = [weakref.ref(next(results)) for _ in range(2)]
        gone(refs)
        assert isinstance(next(results), Big)


@in_loop
async def test_async_map_keeps_nothing_that_it_has_yielded() -> None:
    """Nor does the one for coroutines."""
    async with TaskOrchestrator(keep_finished=0) as orch:
        results = orch.aio.map(lambda _: Big(), range(3))
        refs = [weakref.ref(await anext(results)) for _ in range(2)]
        assert [ref() for ref in refs] == [None, None]
        assert isinstance(await anext(results), Big)


# -- the publisher -----------------------------------------------------------------


def test_the_last_callback_is_let_go_of() -> None:
    """The publisher's thread keeps neither it nor its handle while it sleeps."""
    with TaskOrchestrator(keep_finished=0) as orch:

        class Callback:
            def __call__(self, handle: Any) -> None:
                called.set()

        called = threading.Event()
        callback = Callback()
        handle = orch.submit(Big)
        refs = [weakref.ref(callback), weakref.ref(handle)]
        handle.add_done_callback(callback)
        del callback
        assert called.wait(PATIENCE)
        refs.append(weakref.ref(handle.result(PATIENCE)))
        del handle
        # No callback: the publisher has nothing to do.
        orch.submit(int).result(PATIENCE)
        gone(refs)
