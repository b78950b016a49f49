"""The capacity of a worker bounds what it names; the pools bound all else."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from tests.core.kernel.harness import Machine, Policies

from taskorch.errors import UnsatisfiableError
from taskorch.model import Resources


def running(machine):
    return [row.id for row in machine.kernel.tasks.values() if row.state == "running"]


def test_a_worker_that_names_something_else_while_it_works_keeps_its_books():
    """It joins again with another capacity; what ends is struck from the right one."""
    machine = Machine(pools=Resources(cpu=4, gpu=4))
    machine.worker("w", "x", capacity=Resources(cpu=2))
    machine.submit("t", requires=("x",), resources=Resources(cpu=1, gpu=3))
    assert running(machine) == ["t"]
    worker = machine.kernel.workers["w"]
    worker.capacity = {"gpu": 4_000_000}
    assert worker.view.used == Resources(gpu=3)
    machine.end("t")
    assert worker.view.used == Resources()


NAMES = ("a", "b", "c")
amounts = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3))


@given(
    pools=amounts,
    capacities=st.lists(amounts, min_size=1, max_size=3),
    wants=st.lists(amounts, min_size=1, max_size=6),
    rigid=st.booleans(),
)
def test_neither_bound_is_ever_broken_and_nothing_waits_for_no_reason(
    pools, capacities, wants, rigid
):
    """
    By a reckoning of its own, with no word of the kernel's.

    A task is refused if no worker could ever take it, and at the end all that were
    accepted have run.
    """
    machine = Machine(
        pools=Resources(**pools), policies=Policies(rigid=rigid), concurrency=10
    )
    for number, capacity in enumerate(capacities):
        machine.worker(f"w{number}", "x", capacity=Resources(**capacity))

    def can_ever(need):
        return any(
            all(
                (name in capacity or name in pools)
                and units <= capacity.get(name, units)
                and units <= pools.get(name, units)
                for name, units in need.items()
            )
            for capacity in capacities
        )

    accepted = {}
    for number, need in enumerate(wants):
        submit = {"requires": ("x",), "resources": Resources(**need)}
        if can_ever(need):
            machine.submit(f"t{number}", **submit)
            accepted[f"t{number}"] = need
        else:
            with pytest.raises(UnsatisfiableError):
                machine.submit(f"t{number}", **submit)
    ended = set()
    while True:
        under_way = {name: machine.worker_of(name) for name in running(machine)}
        for what, total in pools.items():
            assert sum(accepted[name].get(what, 0) for name in under_way) <= total
        for number, capacity in enumerate(capacities):
            here = [name for name, on in under_way.items() if on == f"w{number}"]
            for what, total in capacity.items():
                assert sum(accepted[name].get(what, 0) for name in here) <= total
        if not under_way:
            break
        name, _ = under_way.popitem()
        machine.end(name)
        ended.add(name)
    assert ended == set(accepted)
