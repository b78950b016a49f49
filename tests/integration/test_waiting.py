"""Waiting inside tasks: slots are given back, resources are not."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from tests.integration.tools import PATIENCE, Hold, Recorder, eventually, fail, in_loop

from taskorch import (
    DependencyFailedError,
    Resources,
    Task,
    TaskCancelledError,
    TaskOrchestrator,
    TaskTimeoutError,
    as_completed,
    current_context,
)
from taskorch.errors import WouldBlockError, WouldDeadlockError


@pytest.fixture
def orch() -> Iterator[TaskOrchestrator]:
    with TaskOrchestrator() as orch:
        yield orch


@pytest.fixture
def slot() -> Iterator[TaskOrchestrator]:
    """One with a single slot, which is free in the end."""
    with TaskOrchestrator(concurrency=1) as orch:
        yield orch
        assert orch.wait(PATIENCE)
        assert orch._rt.kernel.running == 0


@pytest.mark.parametrize("how", ["threads", "coroutines", "by turns", "a tree"])
def test_nested_tasks_with_few_slots(how: str) -> None:
    """Each waits for the next, or for all its children; the slots go to those that work."""
    with TaskOrchestrator(concurrency=1 if how == "by turns" else 2) as orch:

        def dive(n: int) -> int:
            return 0 if n == 0 else 1 + orch.submit(dive, n - 1).result(PATIENCE)

        async def dive_async(n: int) -> int:
            return 0 if n == 0 else 1 + await orch.submit(dive_async, n - 1)

        def turn(n: int) -> int:
            return 0 if n == 0 else 1 + orch.submit(turn_async, n - 1).result(PATIENCE)

        async def turn_async(n: int) -> int:
            return 0 if n == 0 else 1 + await orch.submit(turn, n - 1)

        def count(depth: int) -> int:
            if depth == 0:
                return 1
            children = [orch.submit(count, depth - 1) for _ in range(3)]
            return 1 + sum(child.result(PATIENCE) for child in children)

        fn, depth, found = {
            "threads": (dive, 50, 50),
            "coroutines": (dive_async, 50, 50),
            "by turns": (turn, 20, 20),
            "a tree": (count, 4, 121),
        }[how]
        assert orch.submit(fn, depth).result(PATIENCE) == found


@pytest.mark.parametrize("how", ["map", "as_completed", "exception", "gather"])
def test_every_way_of_waiting_gives_the_slot_back(how) -> None:
    """With one slot, whoever waits inside a task lets its children run."""
    with TaskOrchestrator(concurrency=1) as orch:

        def wait() -> list[int]:
            if how == "map":
                return list(orch.map(int, "123"))
            handles = [orch.submit(int, n) for n in "123"]
            if how == "as_completed":
                return sorted(h.result() for h in as_completed(handles, PATIENCE))
            for handle in handles:
                assert handle.exception(PATIENCE) is None
            return [h.result() for h in handles]

        async def gather() -> Any:
            return await asyncio.gather(*(orch.submit(int, n) for n in "123"))

        handle = orch.submit(gather if how == "gather" else wait)
        assert handle.result(PATIENCE) == [1, 2, 3]
        assert orch.get_stats().queue.processing == 0


def test_the_agents_slot_is_given_back_too(orch) -> None:
    """An agent that does one task at a time can wait for another task of its own."""

    @orch.agent("worker", capabilities={"work"}, max_concurrency=1)
    def work(task, context) -> int:
        n = task.payload
        if n == 0:
            return 0
        return 1 + orch.submit_task(Task("work", n - 1)).result(PATIENCE)

    assert orch.submit_task(Task("work", 5)).result(PATIENCE) == 5


def test_threads_of_an_executor_of_the_users_give_back_their_slot() -> None:
    """In a ThreadPoolExecutor of the user's the task knows where it is, and waits right."""
    with (
        concurrent.futures.ThreadPoolExecutor(8) as pool,
        TaskOrchestrator(concurrency=1, executors={"pool": pool}) as orch,
    ):

        def dive(n: int) -> int:
            if n == 0:
                return current_context().attempt
            task = Task.call(dive, n - 1, executor="pool")
            return 1 + orch.submit_task(task).result(PATIENCE)

        task = Task.call(dive, 5, executor="pool")
        assert orch.submit_task(task).result(PATIENCE) == 6


def test_one_end_gives_a_slot_back_and_starts_another_task() -> None:
    """An agent's slot goes to who waited for it, and a pool's unit to who is queued."""
    child, second = Hold(), Hold()
    with TaskOrchestrator(concurrency=3, resources=Resources(gpu=1)) as orch:

        @orch.agent("worker", capabilities={"work"}, max_concurrency=1)
        def work(task, context) -> Any:
            return task.payload()

        async def third() -> str:
            return "third"

        gpu = Resources(gpu=1)
        parent = orch.submit_task(
            Task("work", lambda: orch.submit(child, "child").result(PATIENCE))
        )
        child.wait()
        holder = orch.submit_task(Task("work", second, resources=gpu))
        second.wait()
        queued = orch.submit_task(Task.call(third, resources=gpu))
        child.release()
        eventually(lambda: orch._rt.kernel.returning)
        second.release()
        assert queued.result(PATIENCE) == "third"
        assert parent.result(PATIENCE) == "child"
        assert holder.result(PATIENCE) is None


def test_no_more_run_than_there_are_slots_when_waits_end() -> None:
    """One whose wait is over goes on only when there is a slot for it."""
    with TaskOrchestrator(concurrency=2) as orch:
        lock = threading.Lock()
        running, most = 0, 0

        def work(change: int) -> None:
            nonlocal running, most
            with lock:
                running += change
                most = max(most, running)

        def child() -> None:
            work(1)
            work(-1)

        def parent() -> None:
            work(1)
            handle = orch.submit(child)
            work(-1)
            handle.result(PATIENCE)
            work(1)
            work(-1)

        for _ in range(100):
            orch.submit(parent)
        assert orch.wait(PATIENCE)
        assert most <= 2


def test_waiting_is_told(slot: TaskOrchestrator) -> None:
    """AttemptWaiting and AttemptReturned frame the wait, and explain says so."""
    recorder = Recorder(slot, "attempt_waiting", "attempt_returned")
    hold = Hold()
    handle = slot.submit(lambda: slot.submit(hold, 1).result(PATIENCE))
    hold.wait()
    assert "waits for another task" in str(slot.explain(handle.task_id))
    assert slot.get_task_status(handle.task_id).state == "running"
    hold.release()
    assert handle.result(PATIENCE) == 1
    recorder.wait_for(2)
    assert recorder.of(handle.task_id) == ["AttemptWaiting", "AttemptReturned"]


def test_how_a_child_ends_is_told_in_its_parent(slot: TaskOrchestrator) -> None:
    """One that fails, one that is blocked, and one that takes too long."""
    hold = Hold()

    def parent() -> str:
        bad = slot.submit(fail, ValueError("child"))
        with pytest.raises(ValueError, match="child"):
            bad.result(PATIENCE)
        with pytest.raises(DependencyFailedError):
            slot.submit(abs, bad).result(PATIENCE)
        late = slot.submit(hold)
        with pytest.raises(TimeoutError):
            late.result(0.02)
        return "told"

    handle = slot.submit(parent)
    hold.wait()
    # With the slot taken again, or still waited for.
    eventually(lambda: slot._rt.waiting._returns)
    hold.release()
    assert handle.result(PATIENCE) == "told"


def test_a_branch_begins_to_wait_while_another_waits_for_the_slot() -> None:
    """The slot does not go to a coroutine of which some branch waits."""
    with TaskOrchestrator(concurrency=1) as orch:
        first, other = Hold(), Hold()
        go: list[Any] = []

        async def parent() -> Any:
            gate = asyncio.Event()
            go.extend((asyncio.get_running_loop(), gate))

            async def later() -> int:
                await gate.wait()
                return await orch.submit(int, "2")

            return await asyncio.gather(orch.submit(first, 1), later())

        handle = orch.submit(parent)
        first.wait()
        orch.submit_task(Task.call(other, priority=9))
        first.release()
        other.wait()
        waiting = orch._rt.waiting
        eventually(lambda: waiting._returns)
        go[0].call_soon_threadsafe(go[1].set)
        eventually(lambda: waiting._waits)
        other.release()
        assert handle.result(PATIENCE) == [1, 2]
        assert orch.wait(PATIENCE)
        assert orch._rt.kernel.running == 0


# -- being stopped while waiting ---------------------------------------------------


@pytest.mark.parametrize("how", ["result", "as_completed", "await", "timeout"])
def test_a_task_that_waits_inside_is_stopped(slot: TaskOrchestrator, how: str) -> None:
    """A cancellation or a timeout ends the wait at once; the child is work of its own."""
    hold = Hold()
    child: list[Any] = []

    def parent() -> None:
        child.append(slot.submit(hold))
        if how == "as_completed":
            list(as_completed([child[0], slot.submit(hold)]))
        child[0].result(PATIENCE)

    async def parent_async() -> None:
        child.append(slot.submit(hold))
        await child[0]

    fn = parent_async if how == "await" else parent
    timeout = 0.05 if how == "timeout" else None
    handle = slot.submit_task(Task.call(fn, timeout=timeout))
    if how != "timeout":
        hold.wait()
        assert handle.cancel()
    error = TaskTimeoutError if how == "timeout" else TaskCancelledError
    with pytest.raises(error):
        handle.result(PATIENCE)
    assert not any(each.done() for each in child)
    hold.release()
    for each in child:
        each.result(PATIENCE)


def test_a_thread_that_waits_for_its_slot_is_cancelled() -> None:
    """Cancelled after its wait, while others have the slot, it ends without it."""
    with TaskOrchestrator(concurrency=1) as orch:
        recorder = Recorder(orch, "task_completed")
        child, other = Hold(), Hold()
        ended = threading.Event()

        def parent() -> None:
            try:
                orch.submit(child).result(PATIENCE)
                current_context().checkpoint()
            finally:
                ended.set()

        handle = orch.submit(parent)
        child.wait()
        orch.submit_task(Task.call(other, priority=9))
        child.release()
        recorder.wait_for(1)
        handle.cancel()
        assert ended.wait(PATIENCE)
        other.release()
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
        assert orch.wait(PATIENCE)
        assert orch._rt.kernel.running == 0


def test_suspending_a_waiting_thread_lets_it_wait() -> None:
    """It is suspended at its next checkpoint, after the wait."""
    with TaskOrchestrator(concurrency=1) as orch:
        recorder = Recorder(orch, "task_suspended")
        hold = Hold()
        results: list[Any] = []

        def parent() -> str:
            if current_context().attempt == 1:
                results.append(orch.submit(hold, "child").result(PATIENCE))
                current_context().checkpoint()
            return "done"

        handle = orch.submit(parent)
        hold.wait()
        assert orch.suspend_task(handle.task_id)
        assert results == []
        hold.release()
        recorder.wait_for(1)
        assert results == ["child"]
        orch.resume_task(handle.task_id)
        assert handle.result(PATIENCE) == "done"
        assert orch._rt.kernel.running == 0


# -- deadlocks ---------------------------------------------------------------------


def needs(cpu: float) -> Resources:
    return Resources(cpu=cpu)


def test_a_child_that_needs_what_its_parent_holds() -> None:
    """Resources are not given back: the wait says who holds them."""
    with TaskOrchestrator(resources=needs(1)) as orch:
        child: list[Any] = []

        def parent() -> str:
            child.append(orch.submit_task(Task.call(int, resources=needs(1))))
            with pytest.raises(WouldDeadlockError) as caught:
                child[0].result(PATIENCE)
            assert caught.value.holders == ("parent",)
            assert "parent" in str(caught.value)
            return "told"

        handle = orch.submit_task(Task.call(parent, id="parent", resources=needs(1)))
        assert handle.result(PATIENCE) == "told"
        # With its resources free the child runs.
        assert child[0].result(PATIENCE) == 0


def test_a_child_that_needs_what_its_parents_agent_has() -> None:
    """The capacity of an agent is a resource as well as a pool."""
    with TaskOrchestrator(resources=needs(8)) as orch:

        @orch.agent(
            "box", capabilities={"outer", "inner"}, max_concurrency=5, capacity=needs(1)
        )
        def box(task, context) -> str:
            if task.type == "inner":
                return "inner"
            child = orch.submit_task(Task("inner", resources=needs(1)))
            with pytest.raises(WouldDeadlockError) as caught:
                child.result(PATIENCE)
            assert caught.value.holders == ("outer",)
            return "told"

        handle = orch.submit_task(Task("outer", id="outer", resources=needs(1)))
        assert handle.result(PATIENCE) == "told"
        assert orch.wait(PATIENCE)


@pytest.mark.parametrize("kind", ["resources", "writes"])
def test_two_siblings_deadlock_each_other(kind: str) -> None:
    """Each holds what the other's child needs: the later waiter is told, both end."""
    with TaskOrchestrator(resources=needs(2)) as orch:
        both = threading.Barrier(2)
        errors: list[WouldDeadlockError] = []

        def has(name: str) -> dict[str, Any]:
            if kind == "writes":
                return {"writes": [f"src/{name}"]}
            return {"resources": needs(1)}

        def parent(other: str) -> str:
            both.wait(PATIENCE)
            child = orch.submit_task(Task.call(int, **has(other)))
            try:
                child.result(PATIENCE)
            except WouldDeadlockError as error:
                errors.append(error)
                return "told"
            return "served"

        handles = orch.submit_tasks(
            [Task.call(parent, o, id=n, **has(n)) for n, o in (("a", "b"), ("b", "a"))]
        )
        assert sorted(h.result(PATIENCE) for h in handles) == ["served", "told"]
        assert set(errors[0].holders) == {"a", "b"}


def test_tasks_that_wait_for_each_other(orch) -> None:
    """A ring of waits is told to the one that closes it, resources or not."""
    both = threading.Barrier(2)
    holders: list[set[str]] = []
    texts: list[str] = []

    def wait_for(other: str) -> str:
        both.wait(PATIENCE)
        try:
            return f"{other} {orch.handle(other).result(PATIENCE)}"
        except WouldDeadlockError as error:
            holders.append(set(error.holders))
            texts.append(str(error))
            return "was told"

    a, b = orch.submit_tasks(
        [Task.call(wait_for, "b", id="a"), Task.call(wait_for, "a", id="b")]
    )
    results = {a.result(PATIENCE), b.result(PATIENCE)}
    assert results in ({"was told", "a was told"}, {"was told", "b was told"})
    assert holders == [{"a", "b"}]
    one, two = "ab" if a.result() == "was told" else "ba"
    said = f"task {one} waits for {two}, which waits for {one} in its turn"
    assert said in texts[0]
    assert "lets go" not in texts[0]


def test_a_task_that_waits_for_itself(orch) -> None:
    """Nobody can wait for the end of himself."""

    def selfish() -> None:
        with pytest.raises(WouldDeadlockError, match="itself") as caught:
            orch.handle("me").result(PATIENCE)
        assert caught.value.hint.startswith("return what it has; ")

    async def selfish_async() -> None:
        with pytest.raises(WouldDeadlockError, match="itself"):
            await orch.handle("me-too")

    orch.submit_task(Task.call(selfish, id="me")).result(PATIENCE)
    orch.submit_task(Task.call(selfish_async, id="me-too")).result(PATIENCE)


def test_a_task_that_waits_for_what_depends_on_it(orch) -> None:
    """What needs the waiter's own result can never end first."""

    def parent() -> str:
        child = orch.submit_task(Task.call(int, after=["parent"]))
        with pytest.raises(WouldDeadlockError):
            child.result(PATIENCE)
        with pytest.raises(WouldDeadlockError):
            next(as_completed([child]))
        return "told"

    assert orch.submit_task(Task.call(parent, id="parent")).result(PATIENCE)


def test_as_completed_inside_a_task_needs_only_one() -> None:
    """It is no deadlock while one of the tasks can end; it is when none can."""
    with TaskOrchestrator(resources=needs(1)) as orch:

        def parent() -> int:
            stuck = orch.submit_task(Task.call(int, "7", resources=needs(1)))
            free = orch.submit(int, "5")
            done = as_completed([stuck, free], timeout=PATIENCE)
            first = next(done).result()
            with pytest.raises(WouldDeadlockError):
                next(done)
            return first

        task = Task.call(parent, resources=needs(1))
        assert orch.submit_task(task).result(PATIENCE) == 5
        assert orch.wait(PATIENCE)


def test_a_wait_that_others_will_make_room_for() -> None:
    """Resources that a working task holds will be free: that is no deadlock."""
    with TaskOrchestrator(resources=needs(2)) as orch:
        hold = Hold()
        orch.submit_task(Task.call(hold, resources=needs(1)))
        hold.wait()

        def parent() -> int:
            child = orch.submit_task(Task.call(int, "3", resources=needs(1)))
            return child.result(PATIENCE)

        recorder = Recorder(orch, "attempt_waiting")
        handle = orch.submit_task(Task.call(parent, resources=needs(1)))
        recorder.wait_for(1)
        hold.release()
        assert handle.result(PATIENCE) == 3


def test_a_chain_of_waits_with_resources_unwinds() -> None:
    """Waiters that hold resources let go from the inside out."""
    with TaskOrchestrator(resources=needs(10), concurrency=1) as orch:

        def dive(n: int) -> int:
            if n == 0:
                return 0
            task = Task.call(dive, n - 1, resources=needs(1))
            return 1 + orch.submit_task(task).result(PATIENCE)

        task = Task.call(dive, 9, resources=needs(1))
        assert orch.submit_task(task).result(PATIENCE) == 9
        with pytest.raises(WouldDeadlockError):
            orch.submit_task(Task.call(dive, 10, resources=needs(1))).result(PATIENCE)


@pytest.mark.parametrize(
    ("ours", "theirs", "is_served"),
    [
        ("src/a/**", "src/a/x.py", False),
        ("src/a/x.py", "src/**", False),
        ("src/a", "src/A", False),
        ("src/a", "src/b", True),
        ("src/a", "src/ab", True),
    ],
)
def test_a_child_that_may_write_what_its_parent_may(
    ours: str, theirs: str, is_served: bool
) -> None:
    """What may be written is kept in a wait, as resources are."""
    with TaskOrchestrator() as orch:

        def parent() -> str:
            child = orch.submit_task(Task.call(int, writes=[theirs]))
            # What waits for it in its turn would never start, either.
            last = orch.submit_task(Task.call(int, after=[child]))
            if is_served:
                return f"served {last.result(PATIENCE)}"
            for handle in (child, last):
                with pytest.raises(WouldDeadlockError, match="no writes") as caught:
                    handle.result(PATIENCE)
                assert caught.value.holders == ("parent",)
            return "told"

        handle = orch.submit_task(Task.call(parent, id="parent", writes=[ours]))
        assert handle.result(PATIENCE) == ("served 0" if is_served else "told")
        assert orch.wait(PATIENCE)


@pytest.mark.parametrize(
    ("ours", "theirs", "is_served"),
    [(60, 60, False), (100, None, False), (40, 60, True), (None, 100, True)],
)
@pytest.mark.parametrize("part", [None, "part"])
def test_a_child_that_draws_on_the_same_budget(
    ours: float | None, theirs: float | None, is_served: bool, part: str | None
) -> None:
    """What is reserved of a budget is kept in a wait, as resources are."""
    with TaskOrchestrator() as orch:
        orch.budget("whole", tokens=100)
        if part is not None:
            orch.budget(part, parent="whole", tokens=1_000)

        def reserving(tokens: float | None) -> dict[str, float]:
            return {} if tokens is None else {"tokens": tokens}

        def parent() -> str:
            task = Task.call(
                int, resources=reserving(theirs), id="child", budget=part or "whole"
            )
            child = orch.submit_task(task)
            if is_served:
                return f"served {child.result(PATIENCE)}"
            with pytest.raises(WouldDeadlockError, match="no resources") as caught:
                child.result(PATIENCE)
            assert caught.value.holders == ("parent",)
            current_context().spent(tokens=1)
            return "told"

        task = Task.call(parent, id="parent", budget="whole", resources=reserving(ours))
        said = orch.submit_task(task).result(PATIENCE)
        assert said == ("served 0" if is_served else "told")
        # As soon as the other has ended, there is enough for it.
        assert orch.wait(PATIENCE)
        assert orch.get_task_status("child").state == "completed"


@pytest.mark.parametrize(
    ("tokens", "child", "answer", "changes"),
    [(100, 130, "raise", {"tokens": 1_000}), (10, 60, "finish", None)],
)
def test_a_wait_that_people_may_end_is_no_deadlock(
    orch: TaskOrchestrator, tokens: int, child: int, answer: Any, changes: Any
) -> None:
    """They are asked, as more is needed than there is: their answer lets it start."""

    def parent() -> int:
        task = Task.call(int, "3", resources={"tokens": child})
        return orch.submit_task(task).result(PATIENCE)

    with orch.budget("b", tokens=tokens):
        handle = orch.submit_task(Task.call(parent, resources={"tokens": 60}))
    eventually(orch.questions)
    (question,) = orch.questions()
    orch.answer(question.id, answer, by="ada", changes=changes)
    assert handle.result(PATIENCE) == 3


def test_a_child_that_may_write_the_same_and_is_not_queued_yet(orch) -> None:
    """Where nobody has looked yet which locks its start takes."""

    def parent() -> None:
        task = Task.call(int, id="later", writes=["src"], not_before=10 * PATIENCE)
        with pytest.raises(WouldDeadlockError):
            orch.submit_task(task).result(PATIENCE)

    orch.submit_task(Task.call(parent, writes=["src/a"])).result(PATIENCE)
    orch.cancel_task("later")


def test_a_wait_for_a_scope_that_who_waits_will_let_go_of(orch) -> None:
    """A task that waits for one that works ends, and so lets go of what it may write."""
    hold, waits = Hold(), Recorder(orch, "attempt_waiting")

    def holder() -> int:
        return orch.submit_task(Task.call(hold, writes=["b"])).result(PATIENCE)

    def parent() -> int:
        child = orch.submit_task(Task.call(int, "3", writes=["src/**"]))
        return child.result(PATIENCE)

    orch.submit_task(Task.call(holder, writes=["src/a"]))
    hold.wait()
    waits.wait_for(1)
    handle = orch.submit_task(Task.call(parent, writes=["docs"]))
    waits.wait_for(2)
    hold.release()
    assert handle.result(PATIENCE) == 3


def test_a_deadlock_inside_a_coroutine() -> None:
    """`await` says so as well."""
    with TaskOrchestrator(resources=needs(1)) as orch:

        async def parent() -> str:
            child = orch.submit_task(Task.call(int, resources=needs(1)))
            with pytest.raises(WouldDeadlockError):
                await child
            return "told"

        task = Task.call(parent, resources=needs(1))
        assert orch.submit_task(task).result(PATIENCE) == "told"


def test_waiting_for_everything_inside_a_task_is_refused(orch) -> None:
    """`wait` and `stop` inside a task would wait for that very task."""

    def hopeless() -> None:
        with pytest.raises(WouldDeadlockError) as caught:
            orch.wait(PATIENCE)
        assert caught.value.holders == (current_context().task_id,)
        for drain in (True, False):
            with pytest.raises(WouldDeadlockError):
                orch.stop(drain)

    async def hopeless_async() -> None:
        with pytest.raises(WouldDeadlockError):
            await orch.aio.wait(PATIENCE)
        with pytest.raises(WouldDeadlockError):
            await orch.aio.stop()

    orch.submit(hopeless).result(PATIENCE)
    orch.submit(hopeless_async).result(PATIENCE)


# -- the loop ----------------------------------------------------------------------


@in_loop
async def test_blocking_the_loop_that_must_do_the_work_is_refused() -> None:
    """On the orchestrator's own loop `result`, `wait` and `stop` raise a hint instead."""
    async with TaskOrchestrator() as orch:
        gate = asyncio.Event()
        handle = orch.submit(gate.wait)
        for blocking in (
            lambda: handle.result(PATIENCE),
            lambda: handle.exception(PATIENCE),
            lambda: next(as_completed([handle])),
            lambda: orch.wait(PATIENCE),
            orch.stop,
            lambda: orch.stop(drain=False),
        ):
            with pytest.raises(WouldBlockError) as caught:
                blocking()
            assert "await" in caught.value.hint or "asyncio" in caught.value.hint
        gate.set()
        await handle
        # What has ended blocks nobody.
        assert handle.result() is True
        assert next(as_completed([handle])) is handle


def test_a_coroutine_task_that_blocks_its_loop_is_told(orch) -> None:
    """`result` in a coroutine on the private loop is refused as well."""

    async def wrong() -> None:
        orch.submit(asyncio.sleep, 0).result(PATIENCE)

    with pytest.raises(WouldBlockError):
        orch.submit(wrong).result(PATIENCE)


def test_threads_and_loops_of_a_task_belong_to_it(slot: TaskOrchestrator) -> None:
    """A loop in a thread may await handles, a thread of a coroutine may wait for them."""

    def thread() -> int:
        async def inner() -> int:
            return await slot.submit(int, "4")

        return asyncio.run(inner())

    async def coroutine() -> int:
        return await asyncio.to_thread(slot.submit(int, "6").result, PATIENCE)

    assert slot.submit(thread).result(PATIENCE) == 4
    assert slot.submit(coroutine).result(PATIENCE) == 6


def test_waits_of_an_abandoned_attempt_do_no_harm() -> None:
    """A thread that was given up may wait on: its slot is not given back twice."""
    with TaskOrchestrator(concurrency=2) as orch:
        orch._rt.kernel.config = attrs.evolve(
            orch._rt.kernel.config, grace_ns=10_000_000
        )
        go = threading.Event()

        def stubborn() -> None:
            assert go.wait(PATIENCE)
            try:
                orch.submit(int).result(PATIENCE)
            except BaseException:
                return

        handle = orch.submit(stubborn)
        eventually(lambda: orch.get_stats().queue.processing == 1)
        handle.cancel()
        with pytest.raises(TaskCancelledError):
            handle.result(PATIENCE)
        assert orch.get_stats().leaked == 1
        go.set()
        eventually(lambda: orch.get_stats().leaked == 0)
        assert orch.wait(PATIENCE)
        assert orch._rt.kernel.running == 0


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


def test_who_waits_for_quiet_waits_for_what_receivers_begin(orch) -> None:
    ran: list[str] = []

    def hear(event: Any) -> None:
        if event.task_id == "first":
            orch.submit_task(Task.call(ran.append, "second", id="second"))

    orch.signals.task_completed.connect(hear)
    orch.submit_task(Task.call(ran.append, "first", id="first"))
    assert orch.wait(PATIENCE)
    assert ran == ["first", "second"]


@pytest.mark.parametrize("holds", ["slots", "a worker", "a pool"])
@pytest.mark.parametrize("limit", [None, PATIENCE], ids=["alike", "of another kind"])
def test_wait_goes_on_while_calls_that_would_not_stop_hold_what_is_needed(holds, limit):
    hold = Hold()
    options = {"slots": {"concurrency": 1}, "a pool": {"resources": {"cpu": 1}}}
    needs = {"resources": {"cpu": 1}} if holds == "a pool" else {}
    with TaskOrchestrator(grace=0.01, **options.get(holds, {})) as orch:
        orch.agent("one", capabilities=["one"])(lambda task, _: task.payload())
        tasks = [
            Task.call(fn, id=name, timeout=most, **needs)
            if holds != "a worker"
            else Task("one", fn, id=name, timeout=most)
            for name, fn, most in (("a", hold, None), ("b", dict, limit))
        ]
        orch.submit_tasks(tasks)
        hold.wait()
        orch.cancel_task("a")
        eventually(lambda: orch.get_stats().leaked == 1)
        assert orch.wait(0.01) is False
        assert orch.status("b").state == "queued"
        hold.release()
        assert orch.wait(PATIENCE)
        assert orch.status("b").state == "completed"


def test_wait_does_not_wait_for_calls_that_would_not_stop_while_starts_are_held():
    hold = Hold()
    with TaskOrchestrator(grace=0.01, concurrency=1) as orch:
        orch.submit_tasks([Task.call(hold, id="a"), Task.call(dict, id="b")])
        hold.wait()
        orch.cancel_task("a")
        eventually(lambda: orch.get_stats().leaked == 1)
        assert orch.wait(0.01) is False
        orch.hold_starts("a test looks at it")
        assert orch.wait(PATIENCE)
        assert orch.status("b").state == "queued"
        hold.release()
        orch.release_starts()
        assert orch.wait(PATIENCE)
        assert orch.status("b").state == "completed"


def test_wait_does_not_wait_for_calls_that_would_not_stop_if_nothing_needs_them():
    hold = Hold()
    with TaskOrchestrator(grace=0.01, unknown_capability="wait") as orch:
        orch.submit_task(Task.call(hold, id="a"))
        orch.submit_task(Task("nobody", id="c", requires=["nobody"]))
        hold.wait()
        orch.cancel_task("a")
        eventually(lambda: orch.get_stats().leaked == 1)
        assert orch.wait(PATIENCE)
        hold.release()
        orch.cancel_task("c")
