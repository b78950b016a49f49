"""What a policy may see: read only, and live."""

from random import Random

import pytest
from tests.kernel.harness import SEC, Machine, Policies, S

from taskorch.kernel import (
    Kernel,
    KernelConfig,
    PolicyFault,
    Spec,
    TaskRow,
    take_snapshot,
)
from taskorch.model import Performance, PoolStats, Resources
from taskorch.protocols import AgentView, Context, PoolView, StateView


def test_agents_and_pools():
    """The views show what there is, what is used, and what was done."""
    machine = Machine(pools=Resources(cpu=4))
    room = Resources(cpu=2, memory=2)
    machine.agent("a", "x", "y", max_concurrency=3, capacity=room)
    machine.submit("t", requires=("x",), resources=Resources(cpu=1, memory=0.5))
    context: Context = machine.kernel.context
    view: StateView = context.view
    local, a = view.agents()
    agent: AgentView = a
    assert (agent.name, agent.capabilities) == ("a", ("x", "y"))
    assert (agent.max_concurrency, agent.running) == (3, 1)
    assert agent.capacity == room
    assert agent.used == Resources(cpu=1, memory=0.5)
    assert agent.performance("call").completed == 0
    assert repr(agent) == "<worker a: 1 running>"
    assert local.capacity is None
    pool: PoolView = view.pools()["cpu"]
    assert (pool.name, pool.total, pool.free) == ("cpu", 4, 3)
    assert repr(pool) == "<pool cpu: 3 of 4 free>"
    machine.end("t")
    assert agent.performance("call").completed == 1
    assert agent.used == Resources()
    assert machine.kernel.pool_stats()["cpu"].free == 4


def test_the_state():
    """How many wait and run, and how a task is."""
    machine = Machine(concurrency=1)
    machine.submit_all("a", "b")
    context = machine.kernel.context
    context.now_ns = 3 * SEC
    assert context.now == 3
    assert context.random.random() != context.random.random()
    assert (context.view.queued, context.view.running) == (1, 1)
    assert context.view.state_of("a") is S.RUNNING
    assert context.view.state_of("nobody") is None


def test_names_for_people():
    """Rows and faults can be read in a traceback."""
    machine = Machine()
    machine.submit("t")
    row: TaskRow = machine.row("t")
    assert repr(row) == "<TaskRow t running attempt 1>"
    fault = PolicyFault("router", ValueError("x"))
    assert fault.args[0] == "router"


def test_a_new_kernel_knows_of_nothing():
    """Neither to a policy nor to who keeps snapshots; and it starts nothing yet."""
    kernel = Kernel(KernelConfig(), Policies(), Random(1), Resources(cpu=4).units)
    assert kernel.paused
    assert not kernel.plain
    assert kernel.quiescent()
    assert kernel.next_due() is None
    assert (kernel.starts, kernel.effects) == ([], [])
    view = kernel.context.view
    assert (view.queued, view.running, view.agents()) == (0, 0, [])
    assert (view.pools()["cpu"].total, view.pools()["cpu"].free) == (4, 4)
    assert kernel.pool_stats() == {"cpu": PoolStats(4, 0)}
    assert kernel.context.now == 0
    state = take_snapshot(kernel, 5)
    counters = state.pop("counters")
    assert counters.pop("epoch") == 1
    assert set(counters.values()) == {0}
    assert (state.pop("schema"), state.pop("at_ns")) == (6, 5)
    assert state.pop("pools") == [["cpu", 4_000_000]]
    assert not any(state.values())
    numbers = ("bucket_no", "timer_no", "admitting", "stale_entries")
    assert [getattr(kernel, name) for name in numbers] == [0] * len(numbers)


def test_an_agent_that_has_just_joined_has_done_nothing():
    machine = Machine()
    row = machine.agent("a", "x", capacity=Resources(cpu=2))
    assert (row.running, row.completed, row.failed, row.leaked) == (0, 0, 0, 0)
    assert (row.records, row.used, row.seen, row.lost) == ({}, {}, {}, False)
    assert (row.heard_ns, row.lease_due_ns, row.lease_ns) == (machine.now, 0, 0)
    assert row.view.performance("call") == Performance(0, 0, None)
    machine.submit("t", requires=("x",), type="new")
    kinds = machine.kernel.types["new"]
    assert (kinds.completed, kinds.failed, kinds.cancelled) == (0, 0, 0)
    assert (kinds.failures, list(kinds.samples)) == ({}, [])


@pytest.mark.parametrize("seconds", [0.000000001, 0.5, 1.0, 7.25])
def test_a_lease_is_whole_nanoseconds_and_at_least_one(seconds):
    machine = Machine()
    row = machine.agent("far", lease=seconds)
    assert row.lease_ns == max(1, int(seconds * SEC))
    assert row.lease_due_ns == machine.now + row.lease_ns


def test_what_has_something_to_do_is_not_quiescent():
    """It runs, is about to start, or waits for its time; what waits for others is."""
    machine = Machine()
    machine.submit("later", not_before=machine.now + SEC)
    assert not machine.kernel.quiescent()
    assert machine.kernel.next_due() == machine.now + SEC
    machine.cancel("later")
    assert machine.kernel.quiescent()
    kernel = machine.kernel
    kernel.submit("t", kernel.bucket(Spec("call")), None, machine.now)
    assert kernel.quiescent()
    kernel.dispatch(machine.now)
    assert not kernel.quiescent()
    assert [row.id for row in kernel.starts] == ["t"]
    kernel.starts.clear()
    assert not kernel.quiescent()
    machine.submit("waits", wait=("go", None, False), type="wait")
    machine.fail("t")
    assert kernel.quiescent()


def test_how_a_task_is_that_has_left_memory():
    machine = Machine(keep_finished=0)
    machine.submit_all("good", "bad")
    machine.end("good")
    machine.fail("bad")
    view = machine.kernel.context.view
    assert [view.state_of(name) for name in ("good", "bad")] == [S.COMPLETED, S.FAILED]


def test_how_much_of_a_pool_is_in_use():
    machine = Machine(pools=Resources(cpu=4, gpu=2))
    machine.submit("t", resources=Resources(cpu=1.5))
    stats = machine.kernel.pool_stats()
    assert stats == {"cpu": PoolStats(4, 1.5), "gpu": PoolStats(2, 0)}
    assert stats["cpu"].free == 2.5
