"""Agents: who does what, how much at once, and by which means."""

# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportOptionalMemberAccess=false
# pyright: reportAssignmentType=false
# What does not fit is the point here.

from __future__ import annotations

import asyncio
import functools
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.integration.tools import PATIENCE, Hold, eventually

from taskorch import (
    InvalidTaskError,
    Program,
    Resources,
    Task,
    TaskContext,
    TaskOrchestrator,
    TaskState,
    Workflow,
    current_context,
)
from taskorch.errors import UnknownCapabilityError, UnsatisfiableError
from taskorch.events import AgentJoined
from taskorch.policies import PerformanceRouter


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
        assert all(agent.running == 0 for agent in stats.agents.values())
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


# -- who does what -------------------------------------------------------------------


def test_three_agents_get_what_only_they_can_do(orch):
    """A capability that one agent alone has decides."""
    for name, capabilities in (
        ("coder", {"code", "python"}),
        ("tester", {"test", "python"}),
        ("writer", {"docs"}),
    ):
        orch.agent(name, capabilities=capabilities)(
            lambda task, context, name=name: name
        )
    handles = {
        kind: [orch.submit_task(Task(kind)) for _ in range(3)]
        for kind in ("code", "test", "docs")
    }
    assert {h.result(PATIENCE) for h in handles["code"]} == {"coder"}
    assert {h.result(PATIENCE) for h in handles["test"]} == {"tester"}
    assert {h.result(PATIENCE) for h in handles["docs"]} == {"writer"}
    # What two can do, one of them does; what needs both of its own, that one.
    both = orch.submit_task(Task("x", requires=["python"])).result(PATIENCE)
    assert both in ("coder", "tester")
    needs = Task("x", requires=["python", "test"])
    assert orch.submit_task(needs).result(PATIENCE) == "tester"
    stats = orch.get_stats().agents
    assert stats["coder"].completed + stats["tester"].completed == 8
    assert stats["writer"].completed == 3


def test_requires_takes_the_place_of_the_type(orch):
    """An empty list is met by every agent of the user's, but not by `local`."""
    orch.agent("only", capabilities={"a"})(lambda task, context: task.type)
    assert orch.submit_task(Task("b", requires=["a"])).result(PATIENCE) == "b"
    handle = orch.submit_task(Task("c", requires=[]))
    assert handle.result(PATIENCE) == "c"
    assert orch.get_task_status(handle.task_id).agent_id == "only"


def test_plain_functions_and_programs_go_to_the_local_agent(orch):
    """Whatever agents there are."""
    orch.agent("greedy", capabilities={"pow", "program"})(lambda task, context: None)
    call = orch.submit(pow, 2, 3)
    program = orch.submit_task(Task.program(["true"]))
    for handle in (call, program):
        handle.result(PATIENCE)
        assert orch.get_task_status(handle.task_id).agent_id == "local"


def test_the_router_prefers_the_agent_that_succeeds():
    """What has been learned stands in the statistics, and in the explanation."""
    tally = Counter()

    def handler(name, task, context):
        tally[name] += 1
        if name == "bad":
            raise ValueError(name)
        return name

    with TaskOrchestrator(router=PerformanceRouter(exploration=0)) as orch:
        for name in ("bad", "good"):
            orch.agent(name, capabilities={"work"})(functools.partial(handler, name))
        for _ in range(10):
            handle = orch.submit_task(Task("work"))
            handle.exception(PATIENCE)
        assert tally == {"bad": 1, "good": 9}
        performance = orch.get_stats().agents["good"].performance["work"]
        assert performance.success_rate > 0.9
        assert performance.latency is not None
        assert "best of 2 workers" in str(orch.explain(handle.task_id))


def test_an_agent_that_was_unlucky_gets_another_chance():
    """A router that explores asks the other one now and then."""
    with TaskOrchestrator(seed=1, router=PerformanceRouter(exploration=0.5)) as orch:
        for name in ("first", "second"):
            orch.agent(name, capabilities={"work"})(
                lambda task, context, name=name: name
            )
        seen = [orch.submit_task(Task("work")).result(PATIENCE) for _ in range(60)]
    assert set(seen) == {"first", "second"}


def test_an_agent_that_is_full_is_passed_over(orch):
    """The next one that can do it does."""
    gates = {"a": Gate(), "b": Gate()}

    def handler(name, task, context):
        gates[name].enter()
        return name

    for name in gates:
        orch.agent(name, capabilities={"work"})(functools.partial(handler, name))
    handles = [orch.submit_task(Task("work")) for _ in range(3)]
    for gate in gates.values():
        gate.wait(1)
    waiting = [
        h for h in handles if orch.get_task_status(h.task_id).state is TaskState.QUEUED
    ]
    assert len(waiting) == 1
    blockers = orch.explain(waiting[0].task_id).blockers
    assert {b.kind for b in blockers} == {"agent"}
    assert {b.name for b in blockers} == {"a", "b"}
    for gate in gates.values():
        gate.release()
    assert {h.result(PATIENCE) for h in handles} == {"a", "b"}


# -- how much at once ----------------------------------------------------------------


def test_a_plain_handler_runs_one_task_at_a_time(orch):
    """Unless it says that it can do more."""
    gate = Gate()

    @orch.agent("single", capabilities={"work"})
    def single(task, context):
        gate.enter()

    handles = [orch.submit_task(Task("work")) for _ in range(3)]
    gate.wait(1)
    assert orch.get_stats().agents["single"].max_concurrency == 1
    assert orch.get_stats().queue.queued == 2
    gate.release()
    for handle in handles:
        handle.result(PATIENCE)
    assert gate.most == 1


def test_a_coroutine_handler_runs_many_at_once(orch):
    """Only the orchestrator's own limit holds."""
    gate = Gate()

    @orch.agent("many", capabilities={"work"})
    async def many(task, context):
        await gate.aenter()

    handles = [orch.submit_task(Task("work")) for _ in range(12)]
    gate.wait(4)
    assert orch.get_stats().agents["many"].max_concurrency is None
    assert orch.get_stats().queue.processing == 10
    gate.release()
    for handle in handles:
        handle.result(PATIENCE)


@pytest.mark.parametrize("limit", [2, None])
def test_max_concurrency_is_kept(orch, limit):
    """A number, or None for no limit, whatever the kind of handler."""
    gate = Gate()

    @orch.agent("some", capabilities={"work"}, max_concurrency=limit)
    def some(task, context):
        gate.enter()

    handles = [orch.submit_task(Task("work")) for _ in range(5)]
    gate.wait(2 if limit else 5)
    gate.release()
    for handle in handles:
        handle.result(PATIENCE)
    assert gate.most == (2 if limit else 5)


def test_capacity_is_shared_by_the_tasks_of_an_agent(orch):
    """What a task does not say itself is the agent's `request`."""
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
    """A task takes from its agent and from the pool."""
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


def test_an_agent_that_joins_gets_the_tasks_that_waited_for_it():
    """`unknown_capability="wait"`: they start as soon as somebody can do them."""
    joined = []
    with TaskOrchestrator(unknown_capability="wait") as orch:
        orch.signals.agent_joined.connect(joined.append)
        handles = [orch.submit_task(Task("later", n)) for n in range(3)]
        assert orch.wait(PATIENCE)
        assert "No worker can do it" in str(orch.explain(handles[0].task_id))
        (blocker,) = orch.explain(handles[0].task_id).blockers
        assert (blocker.kind, blocker.name) == ("capability", "later")

        @orch.agent("late", capabilities={"later"})
        def late(task, context):
            return task.payload

        assert [handle.result(PATIENCE) for handle in handles] == [0, 1, 2]
        assert orch.wait(PATIENCE)
    assert [type(event) for event in joined] == [AgentJoined]
    assert joined[0].agent.name == "late"


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


def test_an_agent_may_join_before_the_start():
    """And from inside a task."""
    orch = TaskOrchestrator()
    orch.agent("early", capabilities={"early"})(lambda task, context: "early")
    early = orch.submit_task(Task("early"))

    def recruit():
        orch.agent("inner", capabilities={"inner"})(lambda task, context: "inner")
        return orch.submit_task(Task("inner")).result(PATIENCE)

    with orch:
        assert early.result(PATIENCE) == "early"
        assert orch.submit(recruit).result(PATIENCE) == "inner"


def test_a_task_that_was_refused_is_accepted_once_an_agent_can_do_it(orch):
    """The refusal is not kept."""
    with pytest.raises(UnknownCapabilityError):
        orch.submit_task(Task("new"))
    orch.agent("newcomer", capabilities={"new"})(lambda task, context: "new")
    assert orch.submit_task(Task("new")).result(PATIENCE) == "new"


# -- by which means ------------------------------------------------------------------


def test_handlers_run_where_their_executor_says(orch):
    """On our threads, on the loop, on an executor of the user's, as programs."""

    @orch.agent("auto", capabilities={"auto"})
    def auto(task, context):
        return threading.current_thread().name

    @orch.agent("loop", capabilities={"loop"})
    async def loop(task, context):
        await asyncio.sleep(0)
        return threading.current_thread().name

    @orch.agent("thread", capabilities={"thread"}, executor="thread")
    def thread(task, context):
        return threading.current_thread().name

    @orch.agent("named", capabilities={"named"}, executor="pool")
    def named(task, context):
        return threading.current_thread().name

    @orch.agent("program", capabilities={"program"}, executor="program")
    def program(task, context):
        return Program(["echo", "program"])

    names = {
        kind: orch.submit_task(Task(kind)).result(PATIENCE)
        for kind in ("auto", "loop", "thread", "named", "program")
    }
    assert names["auto"].startswith("taskorch-")
    assert names["thread"].startswith("taskorch-")
    assert names["loop"] == "taskorch-loop"
    assert names["named"].startswith("mine")
    assert names["program"].stdout_tail == "program\n"


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


def test_the_decorator_gives_the_function_back(orch):
    """So that it can still be called and tested as it is."""

    def handler(task, context):
        return task

    assert orch.agent("x")(handler) is handler
    assert handler(5, None) == 5


def test_objects_methods_and_partials_are_handlers(orch):
    """Whatever can be called with a task and a context."""

    class Reviewer:
        def __call__(self, task, context):
            return "object"

        def method(self, task, context):
            return "method"

        async def amethod(self, task, context):
            return "amethod"

    def three(extra, task, context):
        return extra

    for name, handler in (
        ("object", Reviewer()),
        ("method", Reviewer().method),
        ("amethod", Reviewer().amethod),
        ("partial", functools.partial(three, "partial")),
    ):
        orch.agent(name, capabilities={name})(handler)
        assert orch.submit_task(Task(name)).result(PATIENCE) == name
    assert orch.get_stats().agents["amethod"].max_concurrency is None
    assert orch.get_stats().agents["object"].max_concurrency == 1


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
    """It is said when the agent is added."""

    async def handler(task, context):
        return None

    for executor in ("thread", "pool"):
        with pytest.raises(InvalidTaskError, match="runs on the loop"):
            orch.agent("x", executor=executor)(handler)
    with pytest.raises(InvalidTaskError, match="async def"):
        orch.agent("x", executor="asyncio")(lambda task, context: None)


def test_a_name_used_twice_at_once_joins_once(orch):
    """Of many that add the same agent at the same time one succeeds."""
    start = threading.Barrier(8)
    errors = []

    def add():
        start.wait(PATIENCE)
        try:
            orch.agent("same", capabilities={"same"})(lambda task, context: "same")
        except InvalidTaskError as error:
            errors.append(error)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(errors) == 7
    assert orch.submit_task(Task("same")).result(PATIENCE) == "same"


# -- capacity ----------------------------------------------------------------------


def test_a_phase_and_a_pool_do_not_count_against_an_agents_capacity() -> None:
    """An agent has a cpu; the phase has its limit, and the machine its gpus."""
    orch = TaskOrchestrator(resources={"cpu": 4, "gpu": 1})

    @orch.agent("w", capabilities={"x"}, capacity={"cpu": 1}, max_concurrency=None)
    def work(task: Task, context: TaskContext) -> Resources:
        return context.allocation

    wf = Workflow("w")
    phase = wf.phase("p", max_parallel=2)
    for n in range(3):
        phase.add(Task("x", id=f"t{n}", resources={"cpu": 1, "gpu": 1}))
    report = orch.simulate(wf, 10.0)
    assert report.makespan == 40.0  # one after another, and the gate
    with orch:
        handle = orch.submit_task(Task("x", resources={"gpu": 1}))
        assert handle.result(PATIENCE) == Resources(gpu=1)
        results = orch.workflows.start(wf).result()
        assert [results[f"t{n}"]["cpu"] for n in range(3)] == [1, 1, 1]
        with pytest.raises(UnsatisfiableError, match="on worker w, is 1"):
            orch.submit_task(Task("x", resources={"cpu": 2}))


def test_an_agent_that_fails_at_once_is_not_preferred_for_being_free() -> None:
    """It is always free; the tasks wait for the other one, and are told why."""
    hold = Hold()
    with TaskOrchestrator(router=PerformanceRouter(exploration=0)) as orch:

        @orch.agent("good", capabilities={"w"}, max_concurrency=1)
        def good(task: Task, context: TaskContext) -> str:
            return hold("done") if task.payload == "hold" else "done"

        @orch.agent("bad", capabilities={"w"}, max_concurrency=1)
        def bad(task: Task, context: TaskContext) -> str:
            msg = "at once"
            raise ValueError(msg)

        orch.submit_task(Task("w", requires={"w"})).result(PATIENCE)
        first = orch.submit_task(Task("w", "hold", requires={"w"}))
        hold.wait()
        rest = orch.submit_tasks(Task("w", requires={"w"}) for _ in range(50))
        eventually(lambda: orch.get_stats().agents["bad"].failed == 5)
        last = rest[-1].task_id
        eventually(lambda: orch.get_stats().agents["bad"].running == 0)
        assert orch.get_stats().queue.queued == 45
        said = str(orch.explain(last))
        assert "Worker bad has failed 5 of 5 such tasks" in said
        assert "it waits for worker good, which does better" in said
        hold.release()
        assert orch.wait(PATIENCE)
        assert first.result() == "done"
        assert orch.get_stats().agents["bad"].failed == 5
