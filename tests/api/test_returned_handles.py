"""A task whose function returns a handle ends as that one does, and holds no thread."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading

import pytest
from tests.api.tools import PATIENCE, Hold, eventually

from taskorch import (
    DependencyFailedError,
    InvalidTaskError,
    Resources,
    RetryPolicy,
    Task,
    TaskCancelledError,
    TaskOrchestrator,
    TaskState,
    UnknownTaskError,
    Workflow,
    current_context,
)
from taskorch.errors import UsageError, WouldDeadlockError


def waiting(orch, handle):
    """Until the attempt of *handle* waits for another task."""
    eventually(lambda: "waits for another task" in str(orch.explain(handle.task_id)))


def test_a_chain_of_them():
    with TaskOrchestrator(concurrency=2) as orch:

        def down(n):
            return orch.submit(down, n - 1) if n else "bottom"

        assert orch.submit(down, 50).result(PATIENCE) == "bottom"


def test_it_fails_as_the_other_does_and_its_policy_may_try_again():
    with TaskOrchestrator() as orch:
        error = orch.submit(lambda: orch.submit(int, "x")).exception(PATIENCE)
        assert isinstance(error, ValueError)
        texts = iter(["x", "y", "5"])
        retried = orch.submit_task(
            Task.call(
                lambda: orch.submit(int, next(texts)),
                retry=RetryPolicy(3, wait="fixed", base=0.001, jitter=0),
            )
        )
        assert retried.result(PATIENCE) == 5
        assert orch.get_task_status(retried.task_id).attempts == 3


def test_of_one_that_is_blocked_it_says_so():
    with TaskOrchestrator() as orch:
        bad = orch.submit(int, "x")
        blocked = orch.submit(abs, bad)
        error = orch.submit(lambda: blocked).exception(PATIENCE)
        assert isinstance(error, DependencyFailedError)
        assert error.root_causes == (bad.task_id,)


def test_of_one_that_is_cancelled_it_is_cancelled():
    gate = Hold()
    with TaskOrchestrator(concurrency=1) as orch:
        inner = orch.submit_task(Task.call(abs, -1, not_before=3600, id="inner"))
        outer = orch.submit(lambda: inner)
        waiting(orch, outer)
        inner.cancel()
        with pytest.raises(TaskCancelledError, match="inner, as which it was to end"):
            outer.result(PATIENCE)
        assert outer.cancelled()
        gate.release()


def test_told_to_stop_before_it_returns_one_it_ends():
    gate, held = Hold(), Hold()
    with TaskOrchestrator() as orch:
        inner = orch.submit(held)

        def outer():
            gate()
            return inner

        handle = orch.submit(outer)
        gate.wait()
        handle.cancel()
        gate.release()
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
        held.release()
        assert not orch.stop().leaked


def test_told_to_stop_as_it_begins_to_wait_it_ends(monkeypatch):
    """Nobody wakes what is not known to wait yet."""
    with TaskOrchestrator() as orch:
        inner = orch.submit_task(Task.wait_for("never"))
        note = orch._rt.waiting.note

        def note_late(context, wake):
            orch.cancel_task(context.task_id)
            note(context, wake)

        monkeypatch.setattr(orch._rt.waiting, "note", note_late)
        with pytest.raises(TaskCancelledError):
            orch.submit(lambda: inner).result(PATIENCE)
        assert not orch.stop(drain=False).leaked


def test_in_a_ring_it_fails():
    with TaskOrchestrator() as orch:

        def own():
            return orch.handle(current_context().task_id)

        error = orch.submit(own).exception(PATIENCE)
        assert isinstance(error, WouldDeadlockError)
        assert "waits for itself" in str(error)

        def child():
            return orch.submit_task(
                Task.call(abs, -1, after=[current_context().task_id])
            )

        assert isinstance(orch.submit(child).exception(PATIENCE), WouldDeadlockError)

        ready = threading.Event()
        handles = []

        def other(n):
            ready.wait(PATIENCE)
            return handles[n]

        handles += [orch.submit(other, 1), orch.submit(other, 0)]
        ready.set()
        errors = [handle.exception(PATIENCE) for handle in handles]
        assert all(isinstance(error, WouldDeadlockError) for error in errors)
        one, two = (handle.task_id for handle in handles)
        texts = [str(error) for error in errors]
        assert any(
            f"task {a} waits for {b}, which waits for {a} in its turn" in text
            for a, b in ((one, two), (two, one))
            for text in texts
        )
        assert not any("lets go" in text for text in texts)


def test_what_it_holds_it_keeps_as_one_that_waits_does():
    with TaskOrchestrator(resources={"gpu": 1}) as orch:
        needs = Resources(gpu=1)

        def outer():
            return orch.submit_task(Task.call(abs, -1, resources=needs))

        handle = orch.submit_task(Task.call(outer, resources=needs))
        assert isinstance(handle.exception(PATIENCE), WouldDeadlockError)


def test_a_handle_of_another_orchestrator_fails():
    """Nothing here would know when that one ends."""
    with TaskOrchestrator() as one, TaskOrchestrator() as two:
        handle = one.submit(abs, -1)

        @two.agent("a", capabilities=["x"])
        def answer(task, context):
            return handle

        for outer in (
            two.submit(lambda: handle),
            two.submit_task(Task("x")),
            two.submit(_awaited, lambda: handle),
        ):
            error = outer.exception(PATIENCE)
            assert isinstance(error, UnknownTaskError), outer
            assert "of another orchestrator" in str(error)
            assert "handle.result()" in error.hint
        assert handle.result(PATIENCE) == 1


async def _awaited(make):
    return make()


@pytest.mark.parametrize("durable", [False, True])
def test_one_in_a_partial_that_is_submitted_is_refused(durable, tmp_path):
    with TaskOrchestrator(journal=tmp_path / "j.db" if durable else None) as orch:
        inner = orch.submit(abs, -1)
        fn = functools.partial(max, inner)
        for submit in (
            lambda: orch.submit(fn, 2),
            lambda: list(orch.map(fn, [2])),
            lambda: orch.submit_task(Task.call(fn, 2)),
            lambda: orch.submit_task(Task.call(fn, inner)),
        ):
            with pytest.raises(InvalidTaskError, match=r"a handle in its args\[0\]"):
                submit()
        wf = Workflow("w")
        node = wf.task(abs, -1)
        with pytest.raises(InvalidTaskError, match=r"a handle in its args\[0\]"):
            wf.task(functools.partial(max, node), 2)


def test_one_in_a_partial_among_the_arguments_becomes_its_result():
    with TaskOrchestrator() as orch:
        inner = orch.submit(abs, -3)
        made = orch.submit(lambda fn: fn(), functools.partial(divmod, 7, inner))
        assert made.result(PATIENCE) == (2, 1)
        wf = Workflow("w")
        node = wf.task(abs, -3)
        wf.map(functools.partial(divmod, node), [2], id="m")
        assert orch.workflows.start(wf).result(PATIENCE)["m"] == [(1, 1)]


def test_a_run_again_before_it_is_told_lets_it_wait_on():
    """What it was to be told does not hold any more, for a receiver was at work."""
    receiving, first, second = Hold(), Hold(), Hold()
    runs = iter([first, second])
    with TaskOrchestrator() as orch:
        bad = orch.submit(lambda: int(next(runs)("x" if not first.calls else "5")))
        joined = orch.submit_task(Task.call(abs, bad))
        outer = orch.submit(lambda: joined)
        waiting(orch, outer)
        orch.signals.task_submitted.connect(receiving)
        orch.submit(int)
        receiving.wait()
        first.release()
        eventually(
            lambda: orch.get_task_status(joined.task_id).state is TaskState.BLOCKED
        )
        orch.rerun_task(bad.task_id)
        receiving.release()
        assert orch._rt.publisher.flush(PATIENCE)
        second.release()
        assert outer.result(PATIENCE) == 5


def inner():
    return "kept"


def outer(path):
    """In the first incarnation it waits for what comes in the second."""
    orch = ORCHESTRATORS[-1]
    return orch.submit_task(Task.call(inner, id="inner", not_before=float(path)))


ORCHESTRATORS: list[TaskOrchestrator] = []


# -- what is refused ---------------------------------------------------------------


async def pages():
    yield 1


class Pages:
    async def __call__(self):
        yield 1


@pytest.mark.parametrize("fn", [pages, Pages(), functools.partial(pages)])
def test_an_async_generator_is_no_task(fn):
    with TaskOrchestrator() as orch:
        for submit in (
            lambda: orch.submit(fn),
            lambda: orch.submit_task(Task.call(fn)),
            lambda: list(orch.map(fn)) or orch.submit(fn),
        ):
            with pytest.raises(InvalidTaskError, match="async generator") as refused:
                submit()
            assert "return [item async for" in refused.value.hint
        with pytest.raises(InvalidTaskError, match="async generator"):
            orch.agent("pages", capabilities=["pages"])(fn)


@pytest.mark.parametrize("trio", [True, False])
def test_a_handle_awaited_without_asyncio_says_what_to_do(trio, monkeypatch):
    if trio:
        monkeypatch.setitem(sys.modules, "trio", object())
    else:
        monkeypatch.delitem(sys.modules, "trio", raising=False)
    gate = Hold()
    with TaskOrchestrator() as orch:
        handle = orch.submit(gate)
        with pytest.raises(UsageError, match="no event loop of asyncio") as refused:
            handle.__await__().send(None)
        assert ("trio.to_thread.run_sync(handle.result)" in refused.value.hint) == trio
        gate.release()
        assert handle.result(PATIENCE) is None

        async def main():
            return await handle

        assert asyncio.run(main()) is None


@pytest.mark.parametrize("trio", [True, False])
def test_an_orchestrator_used_without_asyncio_says_what_to_do(
    trio, monkeypatch, tmp_path
):
    if trio:
        monkeypatch.setitem(sys.modules, "trio", object())
    else:
        monkeypatch.delitem(sys.modules, "trio", raising=False)
    with (
        TaskOrchestrator() as orch,
        TaskOrchestrator(journal=tmp_path / "j.db") as durable,
    ):
        task = durable.submit_task(Task.wait_for("never", timeout=60, id="t"))
        coroutines = [
            TaskOrchestrator().__aenter__(),
            TaskOrchestrator().aio.start(),
            orch.aio.submit(abs, -1),
            orch.aio.wait(),
            anext(orch.aio.map(abs, [-1])),
            orch.aio.stop(),
            durable.aio.get_task_status("t"),
        ]
        for coroutine in coroutines:
            with pytest.raises(UsageError, match="no event loop of asyncio") as refused:
                coroutine.__await__().send(None)
            assert refused.value.code
            assert ("trio.to_thread.run_sync(orch." in refused.value.hint) == trio
        assert orch.submit(abs, -1).result(PATIENCE) == 1
        durable.cancel_task(task.task_id)
