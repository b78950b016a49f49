"""What people take from the pools by hand."""

import pytest
from hypothesis import given, settings, strategies as st
from tests.core.kernel.harness import SEC, Machine

from taskorch.core.kernel import check_invariants
from taskorch.events import ResourcesAllocated, ResourcesReleased, TaskStarted, make
from taskorch.model import Resources


def held(machine):
    return list(machine.kernel.allocations)


@pytest.fixture
def machine():
    return Machine(pools=Resources(cpu=4, gpu=1))


def test_what_was_refused_is_asked_about_again_when_something_is_given_back(machine):
    """Though it needs nothing of that, for all that the kernel knows."""
    machine.policies.refuses = lambda row, worker: "not now" if held(machine) else None
    machine.allocate("lab", gpu=1)
    assert machine.submit("t", resources=Resources(cpu=1)) == []
    assert machine.release("lab") == ["t"]


def test_who_withdraws_gets_nothing(machine):
    machine.allocate("all", cpu=4)
    machine.allocate("later", cpu=1)
    (claim,) = machine.kernel.claims
    machine.kernel.withdraw(claim)
    machine.kernel.withdraw(claim)
    machine.release("all")
    assert held(machine) == []


def test_nobody_is_served_while_nothing_starts(machine):
    machine.allocate("all", cpu=4)
    machine.allocate("later", cpu=1)
    machine.kernel.pause()
    machine.release("all")
    assert machine.kernel.serve_claims(machine.now) == []
    assert held(machine) == []
    machine.kernel.unpause()
    machine.settle()
    assert held(machine) == ["later"]


def test_the_ledger_has_every_change_and_what_was_before(machine):
    machine.submit("t", resources=Resources(cpu=1))
    machine.allocate("lab", cpu=2)
    machine.release("lab")
    events = [make(event) for event, _ in machine.sink]
    (took,) = [each for each in events if isinstance(each, ResourcesAllocated)]
    (gave,) = [each for each in events if isinstance(each, ResourcesReleased)]
    assert (took.allocation_id, took.owner) == ("lab", "ann")
    assert (took.resources, took.before) == ((("cpu", 2000000),), (("cpu", 1000000),))
    assert (gave.resources, gave.before) == ((("cpu", 2000000),), (("cpu", 3000000),))


def test_it_survives_a_crash_and_a_snapshot_until_it_is_released(machine):
    machine.allocate("lab", cpu=3)
    machine.allocate("waits", cpu=4)
    machine.restart()
    machine.worker("local")
    machine.kernel.unpause()
    (row,) = machine.kernel.allocations.values()
    assert (row.id, row.owner, row.since_ns) == ("lab", "ann", SEC)
    # Who waited died with the process.
    assert not machine.kernel.claims
    machine.submit("t", resources=Resources(cpu=2))
    assert machine.release("lab") == ["t"]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "give", "submit", "end", "resize", "restart"]),
        st.integers(0, 5),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(STEPS)
def test_conservation_at_every_event(steps):  # noqa: C901 - one kind of step a branch
    """What is held is what was granted and not released, and never more than there is."""
    machine = Machine(pools=Resources(cpu=5), refuse_unknown=False)
    machine.change_pools(cpu=5)
    books: dict[str, int] = {}
    for number, (what, amount) in enumerate(steps):
        seen = len(machine.sink)
        running = [name for name, row in machine.kernel.tasks.items() if row.alloc]
        if what == "take" and amount:
            machine.allocate(f"h{number}", cpu=amount)
        elif what == "give" and held(machine):
            machine.release(held(machine)[amount % len(held(machine))])
        elif what == "submit" and 0 < amount <= machine.kernel.pools["cpu"].total / 1e6:
            machine.submit(f"t{number}", resources=Resources(cpu=amount))
        elif what == "end" and running:
            machine.end(running[amount % len(running)])
        elif what == "resize":
            machine.change_pools(cpu=amount)
        elif what == "restart":
            machine.restart()
            machine.worker("local")
            machine.kernel.unpause()
            machine.settle()
        pool = machine.kernel.pools["cpu"]
        for event, _ in machine.sink[seen:]:
            if event[0] is ResourcesAllocated:
                told = make(event)
                assert told.before == (("cpu", told.before[0][1]),)
                books[told.allocation_id] = told.resources[0][1]
            elif event[0] is ResourcesReleased:
                del books[make(event).allocation_id]
        tasks = sum(u for row in machine.kernel.tasks.values() for _, u in row.alloc)
        assert pool.used == sum(books.values()) + tasks
        if any(
            f[0] in (ResourcesAllocated, TaskStarted) for f, _ in machine.sink[seen:]
        ):
            assert pool.used <= pool.total
        # Nobody waits who could have it.
        for claim in machine.kernel.claims:
            assert claim.units[0][1] > pool.total - pool.used
        check_invariants(machine.kernel)
