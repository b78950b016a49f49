"""
Tasks that add tasks to their run: by hand, by map, and from an earlier incarnation.
"""

import asyncio
import contextlib
import threading
from pathlib import Path

import pytest
from tests.api.tools import PATIENCE, Hold, eventually, in_loop
from tests.core.workflows.functions import BROKEN, CALLS, add, echo, step, total, zero
from tests.core.workflows.tools import failures, inside

from taskorch import (
    CycleError,
    DependencyFailedError,
    DuplicateTaskError,
    InvalidTaskError,
    NotRunningError,
    Resources,
    RetryPolicy,
    Task,
    TaskOrchestrator,
    TaskState,
    UnknownTaskError,
    Workflow,
    WorkflowContext,
    current_context,
)
from taskorch.core.runs._mapping import mapped
from taskorch.errors import InvalidTransitionError, QueueFullError, WouldDeadlockError
from taskorch.model import Call


def one(fn, *args, **options) -> Workflow:
    wf = Workflow("w")
    wf.task(fn, *args, id="a", **options)
    return wf


def cause(run, name: str = "a") -> BaseException:
    return failures(run)[name]


# ---------------------------------------------------------------------- by hand


def test_what_is_added_is_of_the_run(orch):
    """Its results, its ids, its status and its end are those of the run."""

    def adder() -> str:
        run = inside()
        first = run.task(add, 1, 2)
        second = run.task(add, first, 10)
        run.task(step, "end", id="end", after=[second, "b"])
        run.program(["true"], id="program")
        return run.workflow_id

    wf = one(adder)
    wf.task(step, "b", id="b")
    run = orch.workflows.start(wf, id="x")
    results = run.result(PATIENCE)
    assert results.pop("program").exit_code == 0
    assert results == {
        "a": "x",
        "b": "b()",
        "a/add": 3,
        "a/add-2": 13,
        "end": "end()",
    }
    assert run._needs("end") == ("a/add-2", "b")
    assert orch.workflows.get("x") is run
    assert orch.workflows.start(wf, id="x") is run
    assert run.status().state is TaskState.COMPLETED
    assert "a/add" in run._repr_html_()
    del run
    assert orch.workflows.get("x").result(0)["end"] == "end()"


def test_an_added_task_adds_tasks_too(orch):
    """A loop: each round adds the next, until there is enough."""

    def grow(n: int) -> int:
        if n < 30:
            inside().task(grow, n + 1, id=f"round-{n + 1}")
        return n

    results = orch.workflows.start(one(grow, 0)).result(PATIENCE)
    assert len(results) == 31
    assert results["round-30"] == 30


def test_a_task_waits_for_what_it_adds():
    """It gives its slot back meanwhile: a deep tree needs no more than one."""

    def fib(n: int) -> int:
        if n < 2:
            return n
        handles = [inside().task(fib, k) for k in (n - 1, n - 2)]
        return sum(handle.result() for handle in handles)

    with TaskOrchestrator(concurrency=1) as orch:
        assert orch.workflows.start(one(fib, 6)).result(PATIENCE)["a"] == 8


def test_the_same_again_is_the_same(orch):
    """Also by a later attempt of the task, which finds what is there."""
    attempts: list[int] = []

    def adder() -> int:
        attempts.append(1)
        same = inside().task(step, "same", id="same")
        assert inside().task(step, "same", id="same") is same
        found = [inside().task(step, f"n{n}").result() for n in range(3)]
        if len(attempts) < 3:
            raise OSError
        return len(found)

    wf = one(adder, retry=RetryPolicy(3, wait="fixed", base=0))
    assert orch.workflows.start(wf).result(PATIENCE)["a"] == 3
    assert sorted(CALLS) == ["n0", "n1", "n2", "same"]


def test_something_else_by_the_same_name_is_refused(orch):
    def adder() -> None:
        inside().task(step, "one", id="same")
        inside().task(step, "two", id="same")

    run = orch.workflows.start(one(adder))
    assert isinstance(cause(run), DuplicateTaskError)


def test_two_tasks_that_add_the_same_share_it(orch):
    def adder() -> str:
        return inside().task(step, "page", id="page").result()

    wf = Workflow("w")
    wf.task(total, [wf.task(len, wf.task(adder)) for _ in range(8)], id="sum")
    assert orch.workflows.start(wf).result(PATIENCE)["sum"] == 48
    assert CALLS == ["page"]


def test_a_handle_by_its_name(orch):
    def adder() -> str:
        assert "a" in repr(inside())
        with pytest.raises(UnknownTaskError):
            inside().handle("nothing")
        return inside().handle("b").result()

    wf = one(adder)
    wf.task(step, "b", id="b")
    assert orch.workflows.start(wf).result(PATIENCE)["a"] == "b()"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda run: run.add("task"), InvalidTaskError),
        (lambda run: run.add(Task("t", idempotency_key="k")), InvalidTaskError),
        (lambda run: run.task(zero, id="a~2"), InvalidTaskError),
        (lambda run: run.task(zero, after=["nothing"]), UnknownTaskError),
        (lambda run: run.task(zero, after="a"), InvalidTaskError),
        (lambda run: run.task(zero, before="a"), InvalidTaskError),
        (lambda run: run.task(zero, before=[5]), UnknownTaskError),
        (lambda run: run.task(zero, id="a").result(), DuplicateTaskError),
        (lambda run: run.task(zero, after=["a"]).result(), WouldDeadlockError),
    ],
)
def test_what_cannot_be_added_is_refused(orch, call, error):
    run = orch.workflows.start(one(lambda: call(inside())))
    assert type(cause(run)) is error


def test_there_is_a_limit(orch):
    def explode() -> None:
        for n in range(1_000):
            inside().task(zero, id=f"n{n}")

    run = orch.workflows.start(one(explode), id="x", max_added=25)
    error = cause(run)
    assert isinstance(error, QueueFullError)
    assert "workflow x may have 25 added tasks" in str(error)
    assert len(run.status().tasks) == 26
    with pytest.raises(InvalidTaskError):
        orch.workflows.start(one(explode), max_added=-1)


def test_the_limit_counts_what_is_added_at_once(orch):
    tasks = [Task.call(zero, id=name) for name in ("n1", "n2", "n3")]
    run = orch.workflows.start(one(lambda: inside().add_all(tasks)), max_added=2)
    assert isinstance(cause(run), QueueFullError)
    assert len(run.status().tasks) == 1


def test_an_attempt_that_is_over_adds_nothing(orch):
    kept: list[WorkflowContext] = []
    run = orch.workflows.start(one(lambda: kept.append(inside())))
    run.result(PATIENCE)
    with pytest.raises(NotRunningError, match="attempt 1 of task"):
        kept[0].task(zero)
    assert len(run.status().tasks) == 1


class Late:
    """What a function that goes on after the stop waits for, and what it is told."""

    began = threading.Event()
    go = threading.Event()
    told = threading.Event()


def add_late() -> None:
    run = inside()
    Late.began.set()
    assert Late.go.wait(PATIENCE)
    with pytest.raises(NotRunningError, match="has stopped"):
        run.task(zero)
    Late.told.set()


def test_after_the_stop_nothing_is_added(tmp_path: Path):
    """What could not be stopped is under way still, as the journal has it."""
    for event in (Late.began, Late.go, Late.told):
        event.clear()
    orch = TaskOrchestrator(journal=tmp_path / "runs.db", durability="process")
    orch.start()
    run = orch.workflows.start(one(add_late), id="x")
    assert Late.began.wait(PATIENCE)
    assert orch.stop(timeout=0).leaked == ("x/a (attempt 1)",)
    Late.go.set()
    assert Late.told.wait(PATIENCE)
    assert list(run.handles) == ["a"]


def test_what_a_workflow_gets_later_is_not_what_a_run_has_added(orch):
    """They have one name, and wait for different tasks."""
    wf = one(lambda: inside().task(zero, id="c"))
    wf.task(zero, id="b")
    run = orch.workflows.start(wf)
    run.result(PATIENCE)
    last = [work.task_id for work in run.last]
    wf.task(zero, id="c", after=["b"])
    assert [work.task_id for work in run.last] == last


def test_what_is_added_to_a_paused_run_waits(orch):
    """And so does what is added to a part that is paused."""
    began, go = threading.Event(), threading.Event()

    def adder() -> None:
        began.set()
        assert go.wait(PATIENCE)
        inside().task(step, "later", id="part/later")
        inside().task(step, "other", id="other")

    run = orch.workflows.start(one(adder), id="x")
    assert began.wait(PATIENCE)
    assert orch.workflows.pause("x")
    go.set()
    assert run.wait_paused(PATIENCE)
    assert run.status().tasks["part/later"] is TaskState.SUSPENDED
    assert run.status().tasks["other"] is TaskState.SUSPENDED
    assert CALLS == []
    assert orch.workflows.resume("x/part")
    assert run.handles["part/later"].result(PATIENCE) == "later()"
    assert orch.workflows.resume("x")
    run.result(PATIENCE)


def test_names_of_many_tasks_that_add(orch):
    def adder() -> None:
        inside().task(zero)
        inside().task(zero)

    wf = Workflow("w")
    for n in range(100):
        wf.task(adder, id=f"a{n}")
    results = orch.workflows.start(wf).result(PATIENCE)
    assert len(results) == 300


# ----------------------------------------------------------------- before others


def test_a_ring_is_refused_the_moment_it_would_appear(orch):
    """Nothing was added then."""

    def adder() -> tuple:
        with pytest.raises(CycleError) as caught:
            inside().task(zero, id="new", after=["d"], before=["b"])
        with pytest.raises(CycleError) as itself:
            inside().task(zero, id="new", after=["b"], before=["b"])
        with pytest.raises(UnknownTaskError):
            inside().handle("new")
        assert itself.value.cycle == ("new", "b")
        return caught.value.cycle

    wf = one(adder)
    last = wf["a"]
    for name in "bcd":
        last = wf.task(echo, last, id=name)
    run = orch.workflows.start(wf)
    assert run.result(PATIENCE)["a"] == ("new", "d", "c", "b")
    assert set(run.handles) == set("abcd")


@pytest.mark.parametrize("keep", [0, 100])
def test_a_ring_through_what_has_completed_is_refused(keep):
    """Its join had held without the task that is to wait; it may have left memory."""

    def adder() -> tuple:
        go()
        inside().handle("t").exception(PATIENCE)
        with pytest.raises(CycleError) as caught:
            inside().task(zero, id="new", after=["t"], before=["p"])
        return caught.value.cycle

    go = Hold()
    wf = one(adder)
    p = wf.task(zero, id="p", after=[wf.wait_for("go", id="go")])
    wf.task(zero, id="t", after=[p, wf.task(zero, id="done")], join="any")
    with TaskOrchestrator(keep_finished=keep) as orch:
        run = orch.workflows.start(wf, id="x")
        go.release()
        assert run.handles["a"].result(PATIENCE) == ("new", "t", "p")
        assert "The longest chain left has 2 tasks" in str(run.status())
        orch.emit("go")
        assert set(run.result(PATIENCE)) >= {"p"}


def test_one_of_a_batch_that_would_close_a_ring_is_named(orch):
    """Nothing of the batch is added; each is looked at, before each that is to wait."""

    def adder() -> tuple:
        batch = [Task.call(zero, id=f"new{n}", after=[f"t{n}"]) for n in range(3)]
        with pytest.raises(CycleError) as caught:
            inside().add_all(batch, before=["p", "q"])
        go.release()
        return caught.value.cycle

    go = Hold()
    wf = one(adder)
    hold = wf.task(go, id="hold")
    p = wf.task(zero, id="p", after=[hold])
    wf.task(zero, id="q", after=[hold])
    for number in range(3):
        above = {1: p}.get(number, hold)
        wf.task(zero, id=f"t{number}", after=[above])
    run = orch.workflows.start(wf)
    results = run.result(PATIENCE)
    assert results["a"] == ("new1", "t1", "p")
    assert set(run.handles) == {"a", "hold", "p", "q", "t0", "t1", "t2"}


def test_a_ring_through_what_was_run_again_is_refused(orch):
    """What was let wait for more is a later run than the one that `c` came after."""

    def adder() -> tuple:
        go()
        with pytest.raises(CycleError) as caught:
            inside().task(zero, id="new", after=["c"], before=["x"])
        return caught.value.cycle

    go = Hold()
    wf = one(adder)
    x = wf.task(zero, id="x", after=[wf.wait_for("go", id="go")])
    wf.task(zero, id="c", after=[x])
    run = orch.workflows.start(wf, id="r")
    orch.cancel_task("r/c")
    orch.cancel_task("r/x")
    orch.rerun_task("r/x")
    go.release()
    assert orch.handle("r/a").result(PATIENCE) == ("new", "c", "x")
    orch.emit("go")
    assert orch.handle("r/x").result(PATIENCE) == 0
    assert orch.workflows.restart("r") is run
    assert run.result(PATIENCE)["c"] == 0


def test_what_has_begun_waits_for_nothing_more(orch):
    def adder() -> None:
        inside().handle("b").result()
        for before in ("b", "a"):
            with pytest.raises(InvalidTransitionError):
                inside().task(zero, id="late", before=[before])

    wf = one(adder)
    wf.task(zero, id="b")
    run = orch.workflows.start(wf)
    assert set(run.result(PATIENCE)) == {"a", "b"}


def test_a_later_attempt_adds_before_what_has_begun_since(tmp_path: Path):
    """What it has added before is before it already."""
    attempts: list[int] = []

    def adder() -> None:
        attempts.append(1)
        inside().task(zero, id="new", before=["c"])
        if len(attempts) == 1:
            hold.release()
            inside().handle("c").result()
            raise OSError

    hold = Hold()
    wf = one(adder, retry=RetryPolicy(2, wait="fixed", base=0))
    wf.task(echo, wf.task(hold, id="b"), id="c")
    with TaskOrchestrator() as orch:
        orch.workflows.start(wf).result(PATIENCE)
    assert len(attempts) == 2


def test_a_gate_waits_for_what_is_added_in_its_phase(orch):
    """It counts as a task of the phase, and takes part in its limit."""
    hold = Hold()

    def adder() -> None:
        inside().task(hold, 1, id="slow")

    wf = Workflow("w")
    one = wf.phase("one", max_parallel=1)
    one.task(adder, id="a")
    wf.phase("two").task(step, "b", id="b")
    run = orch.workflows.start(wf, id="x")
    hold.wait()
    assert run.handles["a"].result(PATIENCE) is None
    assert orch.get_stats().resources["x/one:1"].used == 1
    assert run.status().tasks["one/gate"] is TaskState.PENDING
    assert run.status().phases["one"].total == 3
    hold.release()
    run.result(PATIENCE)
    assert run.report().phases[0].total == 3


def adds_in_phase() -> None:
    inside().task(step, "added", id="added")


def test_what_was_added_in_a_phase_is_of_it_in_a_later_incarnation(tmp_path: Path):
    path = tmp_path / "runs.db"

    def build() -> Workflow:
        wf = Workflow("w")
        wf.phase("one").task(adds_in_phase, id="a")
        return wf

    for _ in range(2):
        with TaskOrchestrator(journal=path, durability="process") as orch:
            run = orch.workflows.start(build(), id="x")
            run.result(PATIENCE)
            assert run.status().phases["one"].total == 3
    assert CALLS == ["added"]


# --------------------------------------------------------------- from coroutines


@in_loop
async def test_coroutines_add_too(tmp_path: Path):
    async def adder() -> int:
        run = current_context().aio.workflow
        assert run.workflow_id == "x"
        first = await run.task(add, 1, 1, id="first")
        second = await run.add(Task.call(add, first, 1, id="second"))
        more = await run.add_all([Task.call(add, n, id=f"n{n}") for n in range(3)])
        program = await run.program(["true"])
        assert (await program).exit_code == 0
        assert await run.handle("first") is first
        return await second + sum([await handle for handle in more])

    async def alone() -> None:
        assert current_context().aio.workflow is None

    globals()["adder"] = adder
    for options in ({}, {"journal": tmp_path / "r.db", "durability": "process"}):
        async with TaskOrchestrator(**options) as orch:
            if not options:
                run = await orch.aio.workflows.start(one(adder), id="x")
                assert (await run)["a"] == 6
                await orch.submit(alone)


# -------------------------------------------------------------------- durability


def durable_adder(name: str) -> str:
    handle = inside().task(step, name, id=f"{name}-added")
    return handle.result()


def durable_failing() -> None:
    inside().task(step, "left", id="left").result()
    if "adder" in BROKEN:
        raise OSError


def test_what_was_added_is_there_in_a_later_incarnation(tmp_path: Path):
    path = tmp_path / "runs.db"
    for incarnation in range(3):
        with TaskOrchestrator(
            journal=path,
            durability="process",
            keep_finished=100 if incarnation < 2 else 0,
        ) as orch:
            run = orch.workflows.start(one(durable_adder, "n"), id="x")
            assert run.result(PATIENCE) == {"a": "n()", "n-added": "n()"}
            assert set(run.status().tasks) == {"a", "n-added"}
    assert CALLS == ["n"]


def test_a_restart_of_an_earlier_run_finds_what_was_added(tmp_path: Path):
    path = tmp_path / "runs.db"
    BROKEN.add("adder")
    with TaskOrchestrator(journal=path, durability="process") as orch:
        run = orch.workflows.start(one(durable_failing), id="x")
        assert isinstance(cause(run), OSError)
    BROKEN.clear()
    with TaskOrchestrator(journal=path, durability="process") as orch:
        run = orch.workflows.restart("x")
        run.result(PATIENCE)
        assert set(run.handles) == {"a", "left"}
        wf = one(durable_failing)
        wf.task(zero, id="more")
        again = orch.workflows.start(wf, id="x")
        assert again is run
        assert set(again.result(PATIENCE)) == {"a", "left", "more"}
    assert CALLS == ["left"]


# -------------------------------------------------------------------------- maps


def pages(n: int) -> list[int]:
    return list(range(n))


def square(n: int) -> int:
    if f"square {n}" in BROKEN:
        raise ValueError(n)
    CALLS.append(str(n))
    return n * n


def plus(a: int, b: int) -> int:
    return a + b


def mapping(n: int, **options) -> Workflow:
    wf = Workflow("w")
    squares = wf.map(square, wf.task(pages, n, id="pages"), id="squares", **options)
    wf.reduce(plus, squares, 0, id="sum")
    return wf


@pytest.mark.parametrize("at_once", [None, 1, 3, 50])
@pytest.mark.parametrize("n", [0, 1, 12])
def test_a_map_over_what_is_known_at_run_time_only(orch, n, at_once):
    run = orch.workflows.start(mapping(n, max_parallel=at_once))
    results = run.result(PATIENCE)
    assert results["squares"] == [k * k for k in range(n)]
    assert results["sum"] == sum(k * k for k in range(n))
    assert [results[f"squares/{k}"] for k in range(n)] == results["squares"]


def test_a_map_fails_once_all_its_calls_have_ended_and_is_restarted(orch):
    BROKEN.update(("square 3", "square 7"))
    run = orch.workflows.start(mapping(10), id="x")
    assert sorted(failures(run)) == ["squares/3", "squares/7"]
    error = run.handles["squares"].exception()
    assert isinstance(error, DependencyFailedError)
    assert error.root_causes == ("x/squares/3", "x/squares/7")
    assert len(CALLS) == 8
    assert [t.name for t in run.report().held_up] == ["squares", "sum"]
    BROKEN.clear()
    orch.workflows.restart("x")
    assert run.result(PATIENCE)["sum"] == 285
    assert len(CALLS) == 10
    assert run.handles["squares/3"].task_id == "x/squares/3~2"


def test_a_map_that_is_paused_goes_on(orch):
    hold = Hold()
    wf = Workflow("w")
    wf.map(hold, [1, 2, 3], id="m", max_parallel=1)
    run = orch.workflows.start(wf, id="x")
    hold.wait()
    assert orch.workflows.pause("x")
    hold.release()
    assert run.wait_paused(PATIENCE)
    assert orch.workflows.resume("x")
    assert run.result(PATIENCE)["m"] == [1, 2, 3]


def test_a_map_needs_no_slot_while_it_waits():
    with TaskOrchestrator(concurrency=1) as orch:
        run = orch.workflows.start(mapping(5))
        assert run.result(PATIENCE)["sum"] == 30


def test_options_of_a_map_are_for_its_calls(orch):
    wf = Workflow("w")
    b = wf.task(step, "b", id="b")
    wf.map(square, [2], resources=Resources(cpu=1), priority=3, after=[b])
    run = orch.workflows.start(wf)
    assert run.result(PATIENCE)["square"] == [4]
    assert orch.get_task_status(run.handles["square/0"].task_id).priority == 3
    assert wf["square"].after == ("b",)


def test_a_map_over_nothing_that_can_be(orch):
    wf = Workflow("w")
    wf.map(square, wf.task(zero), id="m")
    error = cause(orch.workflows.start(wf), "m")
    assert isinstance(error, InvalidTaskError)
    with pytest.raises(InvalidTaskError):
        wf.map("square", [1])
    with pytest.raises(InvalidTaskError):
        wf.map(square, [1], max_parallel=0)
    with pytest.raises(InvalidTaskError):
        wf.reduce(5, [1])


def test_a_map_outside_of_a_run_is_refused(orch):
    with pytest.raises(NotRunningError, match="run of its workflow"):
        orch.submit(mapped, Call(square), [1], {}, None).result(PATIENCE)


def test_a_map_is_durable(tmp_path: Path):
    path = tmp_path / "runs.db"
    for _ in range(2):
        with TaskOrchestrator(journal=path, durability="process") as orch:
            wf = mapping(4, retry=RetryPolicy(2), timeout=5)
            run = orch.workflows.start(wf, id="x")
            assert run.result(PATIENCE)["sum"] == 14
            assert len(run.handles) == 7
    assert len(CALLS) == 4


def test_a_part_that_is_complete_when_its_parts_are(orch):
    wf = Workflow("w")
    b1 = wf.gather([wf.task(step, n, id=f"B1/{n}") for n in "abc"], id="B1")
    wf.task(echo, b1, id="B2")
    assert wf.gather([wf["B2"]]).id == "gathered"
    assert orch.workflows.start(wf).result(PATIENCE)["B2"] == ["a()", "b()", "c()"]


def test_results_of_different_kinds_together(orch):
    """A chord whose header is known at run time only, within a chord."""
    wf = Workflow("w")
    maps = [wf.map(square, list(range(n)), id=f"m{n}") for n in (2, 3)]
    sums = [wf.task(total, node) for node in maps]
    wf.task(total, sums, id="all")
    assert orch.workflows.start(wf).result(PATIENCE)["all"] == 1 + 5


def test_the_calls_of_a_map_take_part_in_the_limit_of_its_phase(orch):
    """The map itself takes nothing of it, so that its calls can have it."""
    hold = Hold()
    wf = Workflow("w")
    phase = wf.phase("p", max_parallel=1)
    phase.map(hold, [1, 2, 3], id="m", resources=Resources(cpu=0.1))
    run = orch.workflows.start(wf, id="x")
    hold.wait()
    stats = orch.get_stats()
    assert (stats.queue.queued, stats.resources["x/p:1"].used) == (2, 1)
    assert stats.resources["cpu"].used == 0.1
    hold.release()
    assert run.result(PATIENCE)["m"] == [1, 2, 3]


def test_a_map_of_an_earlier_incarnation_has_its_limit(tmp_path: Path):
    path = tmp_path / "runs.db"

    def build() -> Workflow:
        wf = Workflow("w")
        wf.phase("p", max_parallel=1).map(square, [1, 2], id="m")
        return wf

    orch = TaskOrchestrator(journal=path, durability="process")
    orch.workflows.start(build(), id="x")
    orch.stop()
    with TaskOrchestrator(journal=path, durability="process") as orch:
        assert orch.workflows.get("x").result(PATIENCE)["m"] == [1, 4]
        assert "x/p:1" in orch.get_stats().resources


def test_a_task_cannot_wait_for_its_own_pause(orch):
    run = orch.workflows.start(
        one(lambda: orch.workflows.get("x").wait_paused()), id="x"
    )
    assert isinstance(cause(run), WouldDeadlockError)


@in_loop
async def test_a_map_on_the_loop_of_the_user():
    async with TaskOrchestrator() as orch:

        async def slow(n: int) -> int:
            await asyncio.sleep(0)
            return n

        wf = Workflow("w")
        wf.map(slow, [1, 2, 3], id="m")
        run = await orch.aio.workflows.start(wf)
        assert (await run)["m"] == [1, 2, 3]


@pytest.mark.parametrize(
    "is_durable", [False, True], ids=["one incarnation", "two lives"]
)
def test_a_run_whose_gate_ran_again_is_the_same_run(tmp_path, is_durable):
    """What was added is no part of what the gate is, whichever run of it this is."""
    journal = {"journal": tmp_path / "runs.db"} if is_durable else {}
    wf = Workflow("w")
    wf.phase("one", gate=is_mended).task(adds_in_phase, id="a")
    BROKEN.add("gate")
    with TaskOrchestrator(**journal) as orch:
        run = orch.workflows.start(wf, id="x")
        assert list(failures(run)) == ["one/gate"]
        BROKEN.clear()
        orch.workflows.restart("x")
        run.result(PATIENCE)
        again = orch.workflows.start(wf, id="x")
        assert again is run
    if is_durable:
        with TaskOrchestrator(**journal) as orch:
            again = orch.workflows.start(wf, id="x")
            assert again.result(PATIENCE).keys() == {"a", "added", "one/gate"}
    assert again.handles["one/gate"].task_id == "x/one/gate~2"


def is_mended(results: dict) -> bool:
    return "gate" not in BROKEN


def test_a_phase_that_was_skipped_can_be_added_to_when_it_runs_again(orch):
    """It is the gate that runs again that waits for what is added, not the skipped one."""
    wf = Workflow("w")
    wf.phase("one").task(step, "first", id="first")
    wf.phase("two", on_failure="skip").task(adds_in_phase, id="a")
    BROKEN.add("first")
    run = orch.workflows.start(wf, id="x")
    assert list(failures(run)) == ["first"]
    BROKEN.clear()
    orch.workflows.restart("x")
    results = run.result(PATIENCE)
    assert results["added"] == "added()"
    assert results["two/gate"]["checks"] == [["all completed", True, "2 tasks"]]


#: That the phase has been skipped to which something is to be added.
SKIPPED = threading.Event()


def adds_when_skipped() -> None:
    assert SKIPPED.wait(PATIENCE)
    inside().task(step, "added", id="added")


@pytest.mark.parametrize(
    "is_durable", [False, True], ids=["one incarnation", "two lives"]
)
def test_a_gate_that_was_skipped_asks_for_what_was_added_then(tmp_path, is_durable):
    """It has given no verdict: when it runs again, that is of its phase too."""
    journal = {"journal": tmp_path / "runs.db"} if is_durable else {}
    wf = Workflow("w")
    phase = wf.phase("one", on_failure="skip")
    phase.task(step, "first", id="first")
    phase.task(adds_when_skipped, id="a")
    SKIPPED.clear()
    BROKEN.update(["first", "added"])
    with contextlib.ExitStack() as incarnations:
        orch = incarnations.enter_context(TaskOrchestrator(**journal))
        run = orch.workflows.start(wf, id="x")
        assert run.handles["one/gate"].exception(PATIENCE) is not None
        SKIPPED.set()
        assert set(failures(run)) == {"first", "added"}
        assert run.status().phases["one"].total == 4
        if is_durable:
            incarnations.close()
            orch = incarnations.enter_context(TaskOrchestrator(**journal))
        BROKEN.discard("first")
        run = orch.workflows.restart("x")
        assert set(failures(run)) == {"added"}
        assert run.status().phases["one"].verdict == "skipped"
        BROKEN.clear()
        orch.workflows.restart("x")
        gate = run.result(PATIENCE)["one/gate"]
        assert gate["checks"] == [["all completed", True, "3 tasks"]]
        assert orch.workflows.start(wf, id="x") is run


def test_a_phase_that_went_on_can_be_added_to_when_it_runs_again(orch):
    """Its gate, whose verdict was about what has run again since, waits for it."""
    wf = Workflow("w")
    one = wf.phase("one", on_failure="continue")
    first = one.task(step, "first", id="first")
    one.task(adds_in_phase, id="a", after=[first])
    BROKEN.add("first")
    run = orch.workflows.start(wf, id="x")
    assert list(failures(run)) == ["first"]
    verdict = run.handles["one/gate"].result(PATIENCE)
    assert verdict["passed"] is False
    BROKEN.clear()
    orch.workflows.restart("x")
    results = run.result(PATIENCE)
    assert results["added"] == "added()"
    assert results["one/gate"]["passed"] is True
    eventually(lambda: run.status().phases["one"].total == 4)


def test_what_was_added_needs_no_room_when_it_is_added_again(tmp_path):
    """Though less may be added now than was."""
    path = tmp_path / "runs.db"
    wf = Workflow("w")
    wf.task(adds_and_fails, id="a")
    BROKEN.add("last")
    with TaskOrchestrator(journal=path) as orch:
        run = orch.workflows.start(wf, id="x", max_added=2)
        assert list(failures(run)) == ["a"]
    BROKEN.clear()
    with TaskOrchestrator(journal=path) as orch:
        run = orch.workflows.start(wf, id="x", max_added=1)
        orch.workflows.restart("x")
        assert set(run.result(PATIENCE)) == {"a", "one", "two"}


def adds_and_fails() -> None:
    for name in ("one", "two"):
        inside().task(step, name, id=name)
    step("last")


def test_what_an_earlier_incarnation_added_counts_for_the_limit(tmp_path):
    path = tmp_path / "runs.db"
    BROKEN.add("last")
    with TaskOrchestrator(journal=path) as orch:
        run = orch.workflows.start(one(adds_more_than_before), id="x", max_added=2)
        assert list(failures(run)) == ["a"]
    BROKEN.clear()
    with TaskOrchestrator(journal=path) as orch:
        run = orch.workflows.start(one(adds_more_than_before), id="x", max_added=2)
        orch.workflows.restart("x")
        assert isinstance(cause(run), QueueFullError)


def adds_more_than_before() -> None:
    for name in ("one", "two", "three")[: 3 - len(BROKEN)]:
        inside().task(step, name, id=name)
    step("last")


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_of_a_map_no_more_run_at_once_than_may(orch, at_once):
    """However many there are, and however much room."""
    counts, lock = [0, 0], threading.Lock()
    many = threading.Event()

    def call(number):
        with lock:
            counts[0] += 1
            counts[1] = max(counts)
            if counts[0] > at_once:
                many.set()
        # Nobody waits for what may not come, but a little for what must not.
        many.wait(0.05)
        with lock:
            counts[0] -= 1
        return number

    wf = Workflow("w")
    wf.map(call, wf.task(pages, 8, id="pages"), id="m", max_parallel=at_once)
    results = orch.workflows.start(wf).result(PATIENCE)
    assert len(results["m"]) == 8
    assert counts[1] <= at_once
    assert not many.is_set()
