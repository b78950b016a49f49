"""What a policy may see: read only, and live."""

from tests.kernel.harness import SEC, Machine, S

from taskorch.kernel import PolicyFault, TaskRow
from taskorch.model import Resources
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
    assert repr(agent) == "<agent a: 1 running>"
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
