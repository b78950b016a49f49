"""What a policy may see: read only, and live."""

from random import Random

from tests.core.kernel.harness import SEC, Machine, Policies, S

from taskorch.core.kernel import (
    Kernel,
    KernelConfig,
    take_snapshot,
)
from taskorch.model import PoolStats, Resources
from taskorch.protocols import AgentView, Context, PoolView, StateView


def test_workers_and_pools():
    """The views show what there is, what is used, and what was done."""
    machine = Machine(pools=Resources(cpu=4))
    room = Resources(cpu=2, memory=2)
    machine.worker("a", "x", "y", max_concurrency=3, capacity=room)
    machine.submit("t", requires=("x",), resources=Resources(cpu=1, memory=0.5))
    context: Context = machine.kernel.context
    view: StateView = context.view
    local, a = view.agents()
    worker: AgentView = a
    assert (worker.name, worker.capabilities) == ("a", ("x", "y"))
    assert (worker.max_concurrency, worker.running) == (3, 1)
    assert worker.capacity == room
    assert worker.used == Resources(cpu=1, memory=0.5)
    assert worker.performance("call").completed == 0
    assert repr(worker) == "<worker a: 1 running>"
    assert local.capacity is None
    pool: PoolView = view.pools()["cpu"]
    assert (pool.name, pool.total, pool.free) == ("cpu", 4, 3)
    assert repr(pool) == "<pool cpu: 3 of 4 free>"
    machine.end("t")
    assert worker.performance("call").completed == 1
    assert worker.used == Resources()
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


def test_how_a_task_is_that_has_left_memory():
    machine = Machine(keep_finished=0)
    machine.submit_all("good", "bad")
    machine.end("good")
    machine.fail("bad")
    view = machine.kernel.context.view
    assert [view.state_of(name) for name in ("good", "bad")] == [S.COMPLETED, S.FAILED]
