"""Waiting, step by step: who is woken, who holds what, and who would wait for ever."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from tests.integration.tools import PATIENCE, Hold, eventually, in_loop

from taskorch import Task, TaskOrchestrator, TaskState
from taskorch.errors import InternalError, WouldBlockError, WouldDeadlockError
from taskorch.runtime import _waiting
from taskorch.runtime._gate import Gate
from taskorch.runtime._waiting import (
    _Free,
    _needed,
    _Watch,
    _would_deadlock,
    is_settled,
)


def row_of(name: str, state: TaskState = TaskState.QUEUED, **fields: Any) -> Any:
    fields = {"extra": None, "links": None, "agent": None, "alloc": (), **fields}
    return SimpleNamespace(id=name, state=state, attempt=1, **fields)


def terms_of(join: Any = "all", *, joined: bool = False) -> Any:
    return SimpleNamespace(join=join, joined=joined)


# -- who is told -----------------------------------------------------------------------


@pytest.mark.parametrize("state", TaskState)
def test_what_has_ended_or_is_blocked_by_others_is_settled(state: TaskState) -> None:
    ended = state.value in ("completed", "failed", "cancelled")
    assert is_settled(row_of("x", state)) is ended
    blocked = state is TaskState.BLOCKED
    by = SimpleNamespace(blocked_by=("a",))
    assert is_settled(row_of("x", state, extra=by)) is (ended or blocked)
    held = SimpleNamespace(blocked_by=())
    assert is_settled(row_of("x", state, extra=held)) is ended


def test_who_watches_waits_on_until_it_is_so_and_kept() -> None:
    told: list[int] = []
    so = [False]
    rt = SimpleNamespace(halted=False, committed=5)
    work: Any = SimpleNamespace(_rt=rt, _settled=6, _waiters=None)
    watch = _Watch(work, lambda _: so[0], lambda: told.append(1))
    watch()
    assert work._waiters == [watch]
    so[0] = True
    watch()
    assert work._waiters == [watch, watch]
    rt.committed = 6
    so[0] = False
    watch()
    assert told == []
    so[0] = True
    watch()
    assert told == [1]
    rt.halted, work._settled = True, 7
    watch()
    assert told == [1, 1]
    assert len(work._waiters) == 3


def test_who_waits_for_what_is_settled_is_told_so_and_not_kept() -> None:
    with TaskOrchestrator() as orch:
        waiting = orch._rt.waiting
        hold = Hold()
        handle: Any = orch.submit(hold)
        done: Any = orch.submit(int)
        done.result(PATIENCE)
        assert waiting.add(done, print) is False
        assert done._waiters is None
        woken: list[int] = []

        def wake() -> None:
            woken.append(1)

        assert waiting.add(handle, wake) is True
        assert wake in handle._waiters
        waiting.remove(handle, wake)
        waiting.remove(handle, wake)
        waiting.abandon(handle, wake)
        assert wake not in handle._waiters
        assert waiting.add(handle, wake) is True
        waiting.abandon(handle, wake)
        assert wake not in handle._waiters
        waiting.remove(done, wake)
        waiting.abandon(done, wake)
        hold.release()
        handle.result(PATIENCE)
        assert woken == []


def test_who_runs_out_of_patience_leaves_nothing_behind() -> None:
    with TaskOrchestrator() as orch:
        waiting, hold = orch._rt.waiting, Hold()
        handle: Any = orch.submit(hold)
        assert waiting._block(handle, 0.0) is False
        assert not handle._waiters
        hold.release()
        assert waiting._block(handle, PATIENCE) is True
        assert waiting._block(handle, None) is True


def test_what_is_told_is_kept_or_will_never_be() -> None:
    with TaskOrchestrator() as orch:
        done: Any = orch.submit(int)
        done.result(PATIENCE)
        waits: Any = orch.submit_task(Task.wait_for("go"))
        rt = orch._rt
        assert rt.waiting.is_told(done)
        assert not rt.waiting.is_told(waits)
        done._settled = rt.committed + 1
        assert not rt.waiting.is_told(done)
        rt.halted = True
        assert rt.waiting.is_told(done)
        assert rt.waiting.is_told(waits)
        rt.halted = False
        done._settled = rt.committed
        assert rt.waiting.is_told(done)
        orch.emit("go")


def test_of_many_who_are_woken_each_loop_hears_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting: Any = TaskOrchestrator()._rt.waiting
    resolved: list[Any] = []
    monkeypatch.setattr(
        _waiting, "resolve_on", lambda loop, futures: resolved.append((loop, futures))
    )
    assert waiting._together is None
    with waiting.together():
        for loop, future in [("a", 1), ("b", 2), ("a", 3)]:
            waiting._together.setdefault(loop, []).append(future)
        assert resolved == []
    assert resolved == [("a", [1, 3]), ("b", [2])]
    assert waiting._together is None


# -- where waiting is refused ----------------------------------------------------------


@in_loop
async def test_on_the_loop_that_does_the_work_only_what_is_set_is_waited_for() -> None:
    async with TaskOrchestrator() as orch:
        waiting = orch._rt.waiting
        hold = Hold()
        handle: Any = orch.submit(hold)
        gate = Gate()
        with pytest.raises(WouldBlockError, match=r"as_completed\(\) would block"):
            waiting.until(gate, [handle], None)
        with pytest.raises(WouldBlockError, match=r"result\(\) of task"):
            waiting.wait(handle, None)
        for what in ("wait()", "stop()"):
            with pytest.raises(WouldBlockError) as caught:
                waiting.refuse_within(what)
            assert caught.value.hint == f"use await orch.aio.{what}"
        gate.set()
        assert waiting.until(gate, [handle], None)
        hold.release()
        await handle
        assert waiting.wait(handle, None)


def test_who_waits_for_all_is_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = TaskOrchestrator()._rt.waiting
    waiting.refuse_within("wait()")
    inside: Any = SimpleNamespace(task_id="x")
    monkeypatch.setattr(waiting, "_inside_of", lambda: inside)
    with pytest.raises(WouldDeadlockError) as caught:
        waiting.refuse_within("wait()")
    assert caught.value.holders == ("x",)
    assert caught.value.task_id == "x"


@pytest.mark.parametrize(
    ("runs", "attempt", "cancelled", "is_inside"),
    [
        (True, 1, False, True),
        (True, 2, False, False),
        (False, 1, False, False),
        (False, 1, True, True),
        (True, 2, True, True),
    ],
)
def test_who_has_ended_is_inside_no_more(
    runs: bool,
    attempt: int,
    cancelled: bool,
    is_inside: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But who is to stop is, until he does."""
    waiting: Any = TaskOrchestrator()._rt.waiting
    state = TaskState.RUNNING if runs else TaskState.COMPLETED
    context: Any = SimpleNamespace(
        _rt=waiting._rt, _row=row_of("x", state), attempt=attempt, cancelled=cancelled
    )
    monkeypatch.setattr(_waiting, "current_or_none", lambda: context)
    assert waiting._inside_of() is (context if is_inside else None)
    context._rt = None
    assert waiting._inside_of() is None
    monkeypatch.setattr(_waiting, "current_or_none", lambda: None)
    assert waiting._inside_of() is None


# -- the waits of an attempt -----------------------------------------------------------


def test_an_attempt_waits_until_the_last_of_its_waits_is_over() -> None:
    waiting: Any = TaskOrchestrator()._rt.waiting
    key, one, other = ("x", 1), ("a",), ("b",)
    waiting._waits[key] = [one, other]
    waiting._holders.add(key)
    assert waiting._end_wait(key, one) is False
    assert waiting._waits == {key: [other]}
    assert waiting._holders == {key}
    assert waiting._end_wait(key, other) is True
    assert waiting._waits == {}
    assert waiting._holders == set()


def test_who_is_to_stop_is_woken_from_all_of_its_waits() -> None:
    waiting: Any = TaskOrchestrator()._rt.waiting
    woken: list[str] = []
    inside: Any = SimpleNamespace(task_id="x", attempt=1)
    wakes: list[Callable[[], None]] = [
        lambda: woken.append("one"),
        lambda: woken.append("other"),
    ]
    for wake in wakes:
        waiting.note(inside, wake)
    waiting._returns["x", 1] = lambda: woken.append("slot")
    waiting.interrupt(row_of("x"), 2)
    assert woken == []
    waiting.interrupt(row_of("x"), 1)
    assert woken == ["one", "other", "slot"]
    waiting.interrupt(row_of("x"), 1)
    assert woken == ["one", "other", "slot", "one", "other"]
    waiting._forget(("x", 1), wakes[0])
    assert waiting._inside == {("x", 1): [wakes[1]]}
    waiting._forget(("x", 1), wakes[1])
    assert waiting._inside == {}


def test_slots_are_returned_once_each() -> None:
    waiting: Any = TaskOrchestrator()._rt.waiting
    told: list[str] = []
    for name in ("x", "y"):
        waiting._returns[name, 1] = lambda name=name: told.append(name)
    waiting.returned(row_of("x"), 2)
    waiting.returned(row_of("x"), 1)
    waiting.returned(row_of("x"), 1)
    assert told == ["x"]
    waiting.return_all()
    waiting.return_all()
    assert told == ["x", "y"]


@pytest.mark.parametrize("why", ["", "cancelled", "fault", "another"])
def test_whoever_is_to_end_needs_no_slot_for_it(why: str) -> None:
    """Nor does one that waits for something else still."""
    rt: Any = TaskOrchestrator()._rt
    asked: list[Any] = []
    rt.kernel = SimpleNamespace(reclaim_slot=lambda *said: asked.append(said[:2]))
    rt.step = lambda change: change(7)
    waiting, row, targets = rt.waiting, row_of("x"), ("a",)
    inside: Any = SimpleNamespace(_row=row, attempt=1, cancelled=why == "cancelled")
    waiting._waits["x", 1] = [targets] * (2 if why == "another" else 1)
    rt.fault = InternalError("planted") if why == "fault" else None
    assert waiting.leave(inside, targets, print) is bool(why)
    assert asked == ([] if why else [(row, 1)])
    assert waiting._returns == ({} if why else {("x", 1): print})


def test_who_has_its_slot_at_once_goes_on_at_once() -> None:
    rt: Any = TaskOrchestrator()._rt
    rt.kernel = SimpleNamespace(reclaim_slot=lambda *_: True)
    rt.step = lambda change: change(7)
    inside: Any = SimpleNamespace(_row=row_of("x"), attempt=1, cancelled=False)
    rt.waiting._waits["x", 1] = ["a"]
    assert rt.waiting.leave(inside, "a", print) is True
    assert rt.waiting._returns == {}


# -- what is free ----------------------------------------------------------------------


def kernel_of(
    pools: dict[str, int], agents: dict[str, dict[str, int]] | None = None
) -> Any:
    return SimpleNamespace(
        pools={name: SimpleNamespace(total=total) for name, total in pools.items()},
        agents={
            name: SimpleNamespace(name=name, capacity=capacity)
            for name, capacity in (agents or {}).items()
        },
        agents_version=3,
    )


def test_what_the_waiting_hold_is_taken_and_given_back() -> None:
    kernel = kernel_of({"cpu": 8}, {"a": {"cpu": 4, "gpu": 2}, "b": {}})
    free = _Free(kernel)
    before = {"cpu": 8, ("a", "cpu"): 4, ("a", "gpu"): 2}
    assert free._left == before
    alloc = (("cpu", 3), ("gpu", 1), ("other", 5))
    row = row_of("x", alloc=alloc, agent=kernel.agents["a"])
    free.take(row)
    assert free._left == {"cpu": 5, ("a", "cpu"): 1, ("a", "gpu"): 1}
    free.give_back(row)
    assert free._left == before
    nowhere = row_of("y", alloc=alloc)
    free.take(nowhere)
    assert free._left == before | {"cpu": 5}
    free.give_back(nowhere)
    assert free._left == before


@pytest.mark.parametrize(
    ("cpu", "left", "on_agent", "fits"),
    [
        (2, 2, 2, True),
        (2, 1, 2, False),
        (2, 2, 1, False),
        (0, 0, 0, True),
    ],
)
def test_a_task_fits_where_there_is_enough_in_all(
    cpu: int, left: int, on_agent: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_waiting, "wanted", lambda *_: (("cpu", cpu), ("other", 9)))
    kernel = kernel_of({"cpu": left}, {"a": {"cpu": on_agent}, "b": {"cpu": 0}})
    free = _Free(kernel)
    agents = list(kernel.agents.values())
    bucket = SimpleNamespace(agents=agents[:1], agents_version=3)
    assert free.holds(row_of("x", bucket=bucket)) is fits
    bucket.agents = agents[1:]
    assert free.holds(row_of("x", bucket=bucket)) is (not cpu)
    # What is known of them is out of date: all are looked at.
    bucket.agents_version = 2
    assert free.holds(row_of("x", bucket=bucket)) is fits
    # Nobody knows yet who could do it; or somebody of the user's is asked each time.
    bucket.agents, bucket.agents_version = agents[1:], -1
    assert free.holds(row_of("x", bucket=bucket)) is (not cpu)
    bucket.agents = []
    assert free.holds(row_of("x", bucket=bucket)) is True
    bucket.agents, bucket.agents_version = agents[1:], 0
    assert free.holds(row_of("x", bucket=bucket)) is fits


@pytest.mark.parametrize(
    ("terms", "needs"),
    [
        (None, True),
        (terms_of("all"), True),
        (terms_of("finished"), True),
        (terms_of("any"), False),
        (terms_of(2), False),
        (terms_of("all", joined=True), False),
    ],
)
def test_of_a_join_of_some_nobody_knows_which_are_needed(
    terms: Any, needs: bool
) -> None:
    parents = [row_of("a")]
    links = SimpleNamespace(parents=parents, terms=terms)
    assert list(_needed(row_of("x", links=links))) == (parents if needs else [])
    assert list(_needed(row_of("x"))) == []


# -- who would wait for ever -----------------------------------------------------------


def test_a_deadlock_is_said_with_who_holds_what() -> None:
    row, a, b = row_of("x"), row_of("a"), row_of("b")
    said = _would_deadlock(row, (row,), ("x",), in_ring=True)
    assert said.message == "task x waits for itself, and would never end"
    assert said.hint is not None
    assert "return what it has" in said.hint
    said = _would_deadlock(row, (a,), ("x",), in_ring=True)
    assert said.message.startswith("task x waits for a, which waits for x in its turn")
    said = _would_deadlock(row, (a, b), ("x", "a"), in_ring=True)
    assert said.message.startswith("task x waits for a, b, one of which waits for x")
    assert said.hint is not None
    assert "let one of them end" in said.hint
    said = _would_deadlock(row, (a, b), ("c", "d"), in_ring=False)
    assert said.message == (
        "task x waits for a, b, which cannot end before c, d lets go of what it holds"
    )
    assert (said.holders, said.task_id) == (("c", "d"), "x")
    assert said.hint is not None
    assert "ask for less" in said.hint


def test_a_task_that_waits_through_others_for_itself_is_in_a_ring() -> None:
    waiting: Any = TaskOrchestrator()._rt.waiting
    x, a, b = (row_of(name, TaskState.RUNNING) for name in "xab")
    c = row_of("c", links=SimpleNamespace(parents=[x], terms=None))
    waiting._waits = {("x", 1): [(a,)], ("a", 1): [(b,)], ("b", 1): [(a,)]}
    assert not waiting._in_ring(x)
    assert waiting._in_ring(a)
    waiting._waits["b", 1].append((c, a))
    assert waiting._in_ring(x)
    # What has ended waits for nobody.
    c.state = TaskState.COMPLETED
    assert not waiting._in_ring(x)
    c.state = TaskState.QUEUED
    waiting._waits["b", 2] = waiting._waits.pop(("b", 1))
    assert not waiting._in_ring(x)


def test_who_holds_what_another_needs_may_not_wait_for_it() -> None:
    """Of two that could go on one after the other, neither is refused."""
    with TaskOrchestrator(resources={"cpu": 2}) as orch:

        def run(name: str, cpu: int) -> Any:
            inner = Task.call(int, id=name, resources={"cpu": cpu})
            return orch.submit_task(inner).result(PATIENCE)

        cpu = {"cpu": 1}
        first = orch.submit_task(Task.call(run, "small", 1, id="one", resources=cpu))
        assert first.result(PATIENCE) == 0
        second = orch.submit_task(Task.call(run, "large", 2, id="two", resources=cpu))
        error = second.exception(PATIENCE)
        assert isinstance(error, WouldDeadlockError)
        assert error.holders == ("two",)
        assert orch.handle("large").result(PATIENCE) == 0


# -- quiet -----------------------------------------------------------------------------


def test_nobody_waits_for_quiet_once_there_is_a_hurry() -> None:
    with TaskOrchestrator() as orch:
        waiting = orch._rt.waiting
        assert waiting.until_quiet(PATIENCE) is True
        hold = Hold()
        orch.submit(hold)
        hold.wait()
        assert waiting.until_quiet(0.0) is False
        assert waiting.quiet == []
        woken: list[int] = []
        waiting.quiet += [lambda: woken.append(1)]
        waiting.hurry()
        assert woken == [1]
        assert waiting.quiet == []
        assert waiting.until_quiet(None) is False
        waiting.hurried = False
        hold.release()
        assert waiting.until_quiet(PATIENCE) is True


def test_who_waits_for_quiet_waits_for_what_receivers_begin() -> None:
    with TaskOrchestrator() as orch:
        ran: list[str] = []

        def hear(event: Any) -> None:
            if event.task_id == "first":
                orch.submit_task(Task.call(ran.append, "second", id="second"))

        orch.signals.task_completed.connect(hear)
        orch.submit_task(Task.call(ran.append, "first", id="first"))
        assert orch.wait(PATIENCE)
        assert ran == ["first", "second"]


@in_loop
async def test_a_coroutine_that_is_cancelled_as_it_waits_waits_no_more() -> None:
    async with TaskOrchestrator() as orch:
        hold = Hold()
        handle: Any = orch.submit(hold)
        waiter = asyncio.ensure_future(orch._rt.waiting.wait_async(handle))
        await asyncio.to_thread(eventually, lambda: handle._waiters)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert not handle._waiters
        hold.release()
        await handle
        await orch._rt.waiting.wait_async(handle)
