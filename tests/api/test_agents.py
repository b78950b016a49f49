"""Workers: who does what, how much at once, and by which means."""

# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportOptionalMemberAccess=false
# pyright: reportAssignmentType=false
# What does not fit is the point here.

from __future__ import annotations

import asyncio
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.api.tools import PATIENCE

from taskorch import (
    InvalidTaskError,
    Resources,
    Task,
    TaskOrchestrator,
    current_context,
)
from taskorch.errors import UnsatisfiableError


@pytest.fixture
def orch():
    with (
        ThreadPoolExecutor(2, "mine") as pool,
        TaskOrchestrator(
            resources=Resources(cpu=8, memory_mb=1_000), executors={"pool": pool}
        ) as orch,
    ):
        yield orch
        assert orch.submit(pow, 2, 5).result(PATIENCE) == 32
        assert orch.wait(PATIENCE)
        stats = orch.get_stats()
        assert all(worker.running == 0 for worker in stats.agents.values())
        assert all(pool.used == 0 for pool in stats.resources.values())


class Gate:
    """Counts who is inside, and lets them out together."""

    def __init__(self):
        self.changed = threading.Condition()
        self.inside = self.most = 0
        self.open = False

    def enter(self):
        with self.changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self.open, PATIENCE)
            self.inside -= 1

    async def aenter(self):
        await asyncio.to_thread(self.enter)

    def wait(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: self.inside >= count, PATIENCE)

    def release(self):
        with self.changed:
            self.open = True
            self.changed.notify_all()


# -- how much at once ----------------------------------------------------------------


def test_capacity_is_shared_by_the_tasks_of_a_worker(orch):
    """What a task does not say itself is the worker's `request`."""
    gate = Gate()

    @orch.agent(
        "sized",
        capabilities={"work"},
        max_concurrency=None,
        capacity=Resources(cpu=2, licence=3),
        request=Resources(licence=1),
    )
    def sized(task, context):
        gate.enter()
        return context.allocation

    small = [orch.submit_task(Task("work")) for _ in range(4)]
    gate.wait(3)
    stats = orch.get_stats().agents["sized"]
    assert stats.used == Resources(licence=3)
    assert stats.capacity == Resources(cpu=2, licence=3)
    (blocker,) = orch.explain(small[3].task_id).blockers
    assert (blocker.need, blocker.have) == (1.0, 0.0)
    assert len(blocker.holders) == 3
    gate.release()
    assert {h.result(PATIENCE) for h in small} == {Resources(licence=1)}
    big = Task("work", resources=Resources(cpu=2))
    assert orch.submit_task(big).result(PATIENCE) == Resources(cpu=2)
    # Memory it does not name: the pool says how much there is.
    loose = Task("work", resources=Resources(memory_mb=1_000))
    assert orch.submit_task(loose).result(PATIENCE) == Resources(memory_mb=1_000)
    with pytest.raises(UnsatisfiableError, match="no pool and no worker has"):
        orch.submit_task(Task("work", resources=Resources(gpu=1)))
    for resources in (Resources(cpu=3), Resources(licence=4)):
        with pytest.raises(UnsatisfiableError, match="worker sized"):
            orch.submit_task(Task("work", resources=resources))


def test_pools_and_capacities_are_both_kept(orch):
    """A task takes from its worker and from the pool."""
    gate = Gate()

    def handler(task, context):
        gate.enter()

    for name in ("one", "two"):
        orch.agent(
            name,
            capabilities={"work"},
            max_concurrency=None,
            capacity=Resources(cpu=6),
        )(handler)
    handles = [
        orch.submit_task(Task("work", resources=Resources(cpu=3))) for _ in range(3)
    ]
    gate.wait(2)
    stats = orch.get_stats()
    assert stats.resources["cpu"].used == 6
    assert stats.queue.queued == 1
    gate.release()
    for handle in handles:
        handle.result(PATIENCE)


# -- joining later -------------------------------------------------------------------


@pytest.mark.parametrize("level", ["hgih", "0", "101", "", "2x"])
def test_a_level_that_is_none_is_refused_and_waits_for_nobody(level):
    name = f"check:{level}"
    with TaskOrchestrator(unknown_capability="wait") as orch:
        with pytest.raises(InvalidTaskError) as matched:
            orch.agents.match([name])
        for work in (
            Task("review", {}, requires=["other", name]),
            Task.call(int, requires=[name]),
        ):
            with pytest.raises(InvalidTaskError) as refused:
                orch.submit_task(work)
            assert matched.value.message in refused.value.message
            assert refused.value.hint == matched.value.hint
        # What somebody can do may have a colon, and so may a type.
        orch.agent("odd", capabilities=[name])(lambda task, context: "done")
        some = orch.submit_task(Task("review", {}, requires=[name, "check"]))
        typed = orch.submit_task(Task(name, {}))
        assert orch.wait(PATIENCE)
        assert (some.done(), typed.result(PATIENCE)) == (False, "done")
        orch.submit_task(Task("etl:load", {}))


# -- by which means ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["auto", "asyncio", "pool"])
def test_a_handler_gets_its_task_and_a_full_context(orch, kind):
    """Id, attempt, fence, results of what it depends on, and the current context."""

    def look(task, context):
        assert (context.workflow, context.restored) == (None, None)
        assert context.task_id in repr(context)
        assert "parent" in repr(context.results)
        context.progress(0.5)
        context.checkpoint({"at": 1})
        context.log.debug("seen")
        assert current_context().task_id == context.task_id
        return (
            task.payload,
            task.id,
            context.task_id,
            context.attempt,
            context.fence,
            dict(context.results),
            context.cancelled,
            context.allocation,
        )

    async def alook(task, context):
        return look(task, context)

    handler = alook if kind == "asyncio" else look
    orch.agent("looker", capabilities={"look"}, executor=kind)(handler)
    parent = orch.submit_task(Task.call(pow, 2, 3, id="parent"))
    handle = orch.submit_task(
        Task("look", {"a": 1}, id="t", after=[parent], resources=Resources(cpu=1))
    )
    assert handle.result(PATIENCE) == (
        {"a": 1},
        "t",
        "t",
        1,
        (1, 1),
        {"parent": 8},
        False,
        Resources(cpu=1),
    )
    assert orch.get_task_status("t").progress == 0.5


def test_a_handler_takes_a_task_and_a_context(orch):
    with pytest.raises(
        InvalidTaskError, match=r"with \(task, context\), and takes \(t\)"
    ):
        orch.agent("a", capabilities={"x"})(lambda t: t)

    @functools.wraps(len)
    def wrapper(*given):
        return len(given)

    # What says nothing of its arguments, or is wrapped, is taken as it is.
    for name, handler in (("b", wrapper), ("c", max)):
        orch.agent(name, capabilities={name})(handler)
    assert orch.submit_task(Task("b")).result(PATIENCE) == 2


def test_an_async_handler_is_not_for_executors(orch):
    """It is said when the worker is added."""

    async def handler(task, context):
        return None

    for executor in ("thread", "pool"):
        with pytest.raises(InvalidTaskError, match="runs on the loop"):
            orch.agent("x", executor=executor)(handler)
    with pytest.raises(InvalidTaskError, match="async def"):
        orch.agent("x", executor="asyncio")(lambda task, context: None)
