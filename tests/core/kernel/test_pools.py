"""How much there is may change while work goes on."""

from hypothesis import given, settings, strategies as st
from tests.core.kernel.harness import Machine

from taskorch.core.kernel import check_invariants
from taskorch.events import PoolsChanged, TaskStarted, make
from taskorch.model import Resources, TaskState


def running(machine):
    rows = machine.kernel.tasks.values()
    return [row.id for row in rows if row.state is TaskState.RUNNING]


def test_below_what_is_granted_nothing_is_taken_and_nothing_starts():
    machine = Machine(pools=Resources(cpu=4))
    machine.submit_all("a", "b", "c", resources=Resources(cpu=1))
    assert machine.change_pools(cpu=2) == []
    assert running(machine) == ["a", "b", "c"]
    assert machine.submit("d", resources=Resources(cpu=1)) == []
    assert machine.end("a") == []
    assert machine.end("b") == ["d"]
    pool = machine.kernel.pools["cpu"]
    assert (pool.used, pool.total, pool.view.free) == (2_000_000, 2_000_000, 0)


def test_what_is_free_of_a_pool_is_never_less_than_nothing():
    machine = Machine(pools=Resources(cpu=4))
    machine.submit("a", resources=Resources(cpu=4))
    machine.change_pools(cpu=1)
    assert machine.kernel.pools["cpu"].view.free == 0


def test_the_event_says_what_was_before():
    machine = Machine(pools=Resources(cpu=4, gpu=1))
    machine.change_pools(cpu=2, disk_mb=7, gpu=1)
    machine.change_pools(cpu=2)
    machine.change_pools(gone=("disk_mb",))
    told = [make(event) for event, _ in machine.sink if event[0] is PoolsChanged]
    assert [(each.totals, each.gone, each.before) for each in told] == [
        ((("cpu", 2_000_000), ("disk_mb", 7_000_000)), (), (("cpu", 4_000_000),)),
        ((), ("disk_mb",), ()),
    ]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("resize"), st.integers(0, 5)),
        st.tuples(st.just("submit"), st.integers(1, 3)),
        st.tuples(st.just("end"), st.integers(0, 9)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(STEPS)
def test_no_grant_exceeds_the_pool_as_it_is_then(steps):
    """Whatever the pool does: what is held is what was granted, and nothing is lost."""
    machine = Machine(pools=Resources(cpu=5), refuse_unknown=False)
    for number, (what, amount) in enumerate(steps):
        seen = len(machine.sink)
        if what == "resize":
            machine.change_pools(cpu=amount)
        elif what == "submit":
            if amount <= machine.kernel.pools["cpu"].total / 1e6:
                machine.submit(f"t{number}", resources=Resources(cpu=amount))
        elif what == "end" and running(machine):
            machine.end(running(machine)[amount % len(running(machine))])
        elif what == "restart":
            machine.restart()
            machine.worker("local")
            machine.kernel.paused = False
            machine.settle()
        check_invariants(machine.kernel)
        pool = machine.kernel.pools["cpu"]
        held = sum(units for r in machine.kernel.tasks.values() for _, units in r.alloc)
        assert held == pool.used
        if any(event[0] is TaskStarted for event, _ in machine.sink[seen:]):
            assert pool.used <= pool.total
    while running(machine) or machine.kernel.queued:
        machine.change_pools(cpu=5)
        for name in running(machine):
            machine.end(name)
    assert machine.kernel.pools["cpu"].used == 0
