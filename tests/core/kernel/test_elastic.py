"""Elastic requests in the kernel: what they wait for, and how their grants change."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from tests.core.kernel.harness import Twin
from tests.core.kernel.sharing import MILLION, Sharing

from taskorch.events import AllocationChanged
from taskorch.model import Elastic, Quota, Resources


def machine_of(cpu=16, chunk=1, **options):
    return Twin(pools=Resources(cpu=cpu, gpu=4), policies=Sharing(chunk), **options)


def cpus(machine):
    """The cpus that each task holds that runs."""
    return {
        name: Resources.from_units(machine.row(name).alloc)["cpu"]
        for name in machine.running()
    }


def elastic(cpu=16, least=None, **options):
    return Elastic(
        {"cpu": cpu}, min=None if least is None else {"cpu": least}, **options
    )


# -- changes ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["call", "other"])
def test_who_is_kept_by_how_many_may_run_at_once_takes_nothing_from_others(kind):
    machine = machine_of()
    machine.change_quotas(Quota(type="call", max_parallel=1))
    if kind == "other":
        machine.submit("runs")
    machine.submit("a", type=kind, resources=elastic())
    assert machine.submit("b", resources=elastic()) == []
    machine.checkpoint("a")
    assert cpus(machine)["a"] == 16
    # Once it may start, its part is there at the next checkpoint.
    if kind == "other":
        machine.end("runs")
        machine.checkpoint("a")
        assert cpus(machine) == {"a": 8, "b": 8}


# -- options, events, and other incarnations -------------------------------------------


def test_after_a_crash_shares_are_made_anew():
    """What ran begins again; the kinds are known from the events alone."""
    machine = machine_of()
    machine.submit("a", resources=elastic())
    machine.submit("b", type="other", resources=elastic())
    machine.checkpoint("a")
    assert cpus(machine) == {"a": 8, "b": 8}

    machine.restart()
    assert not machine.kernel.holders
    machine.reopen()
    assert cpus(machine) == {"a": 8, "b": 8}


# -- at random ------------------------------------------------------------------------


steps = st.lists(
    st.tuples(
        st.sampled_from(["submit", "submit", "end", "checkpoint", "cancel", "pools"]),
        st.integers(0, 30),
    ),
    max_size=40,
)


def test_while_it_runs_only_more_counts():
    """An allocator that takes something back is heard at the next checkpoint."""
    machine = machine_of()
    machine.submit("hold", resources=Resources(cpu=8))
    machine.submit("a", resources=elastic(16, 4))
    # Since then it can be told.
    machine.checkpoint("a")
    instead = machine.policies.instead
    instead["a"] = (("cpu", 4 * MILLION),)
    asked = len(machine.policies.about)
    machine.end("hold")
    assert machine.policies.about[asked:] == ["a"]
    assert cpus(machine) == {"a": 8}
    machine.checkpoint("a")
    assert cpus(machine) == {"a": 4}
    instead["a"] = None
    machine.checkpoint("a")
    assert len(machine.told(AllocationChanged)) == 1
