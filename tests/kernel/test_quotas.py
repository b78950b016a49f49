"""Quotas: how much all tasks of a type, or all that is of an owner, may have at once."""

import pytest
from hypothesis import given, settings, strategies as st
from tests.kernel.harness import Machine

from taskorch.events import QuotasChanged, make
from taskorch.kernel import LOCAL, _standing, check_invariants, explain
from taskorch.model import Quota, Resources, TaskState

ONE = Resources(cpu=1)
MILLION = 1_000_000


@pytest.fixture
def machine():
    return Machine(pools=Resources(cpu=8, gpu=2))


def running(machine, kind):
    return [
        name
        for name, row in machine.kernel.tasks.items()
        if row.state is TaskState.RUNNING and row.bucket.spec.type == kind
    ]


def test_what_is_held_beyond_a_new_quota_is_owed(machine):
    machine.submit_all("a", "b", "c", type="render", resources=ONE)
    for most, owed in ((2, 1), (3, 0), (4, 0)):
        machine.change_quotas(Quota(type="render", max_parallel=most))
        (pool,) = [pool for pool in machine.kernel.pools.values() if pool.is_quota]
        assert (pool.used, pool.owed) == (3 * MILLION, owed * MILLION)


def test_tasks_that_wait_for_a_quota_cost_nothing(machine):
    machine.change_quotas(Quota(type="render", max_parallel=1))
    machine.submit_all("a", *"bcdefgh", type="render")
    asked = len(machine.policies.asked)
    machine.submit("other", type="upload")
    machine.end("other")
    # The queue, the registry and so on for the other one, nobody for these.
    assert "a" not in machine.policies.asked[asked:]
    (bucket,) = {row.bucket for row in machine.kernel.tasks.values() if row.id == "b"}
    (place,) = bucket.parked
    assert place.pool.name == "quota:type=render:tasks"


def test_where_only_quotas_bound_it_nobody_is_asked_twice(machine):
    machine.change_quotas(Quota(type="render", max_parallel=2))
    assert machine.submit_all("a", "b", "c", type="render") == ["a", "b"]
    assert machine.submit("a call") == ["a call"]
    bucket = machine.row("c").bucket
    assert (bucket.route, bucket.quota_route) == (None, machine.kernel.agents[LOCAL])
    asked = len(machine.policies.asked)
    assert machine.end("a") == ["c"]
    assert machine.row("c").reason == machine.row("b").reason
    assert machine.row("c").alloc == (("quota:type=render:tasks", 1_000_000),)
    assert machine.policies.asked[asked:] == []
    machine.end("b")
    machine.end("c")
    # What it has more of now, it is asked about anew.
    machine.change_quotas(Quota(type="render", max_parallel=1))
    assert machine.submit_all("d", "e", type="render") == ["d"]
    assert machine.policies.asked[asked:].count("router") == 1
    machine.change_quotas(Quota(type="render"))
    machine.submit("f", type="render")
    assert (bucket.route, bucket.quota_route) == (machine.kernel.agents[LOCAL], None)
    assert machine.kernel.agents[LOCAL].running == 4


def test_an_agent_without_a_slot_is_waited_for_within_a_quota_too(machine):
    machine.agent("smith", "iron", max_concurrency=1)
    machine.change_quotas(Quota(type="forge", max_parallel=9))
    asks = {"type": "forge", "requires": ("iron",)}
    assert machine.submit_all("a", "b", "c", **asks) == ["a"]
    assert machine.row("b").bucket.quota_route is not None
    assert machine.end("a") == ["b"]
    assert machine.end("b") == ["c"]


def test_it_is_raised_and_lifted(machine):
    machine.change_quotas(Quota(type="render", max_parallel=0))
    machine.submit_all("a", "b", "c", type="render")
    assert running(machine, "render") == []
    assert machine.change_quotas(Quota(type="render", max_parallel=1)) == ["a"]
    assert machine.change_quotas(Quota(type="render")) == ["b", "c"]
    assert machine.kernel.quotas == {}
    assert not any(name.startswith("quota:") for name in machine.kernel.pools)
    machine.end("a")
    assert not any(machine.kernel.agents[LOCAL].used.values())


def test_what_an_agent_asks_for_by_default_counts(machine):
    machine.agent("smith", "iron", request=Resources(cpu=2))
    machine.change_quotas(Quota(type="forge", resources={"cpu": 3}))
    asks = {"type": "forge", "requires": ("iron",)}
    assert machine.submit_all("a", "b", **asks) == ["a"]
    assert machine.end("a") == ["b"]


def test_an_allocator_that_grants_less_is_bound_as_well(machine):
    """It does with less of a pool; a quota counts what was granted."""
    machine.policies.grants = lambda row, request: tuple(
        (name, min(units, 1_000_000)) for name, units in request
    )
    machine.change_quotas(Quota(type="render", resources={"cpu": 2}))
    large = {"type": "render", "resources": Resources(cpu=2)}
    assert machine.submit_all("a", "b", **large) == ["a"]
    # One is left, and it asks for two: it waits at the quota, not at the pool.
    assert machine.end("a") == ["b"]


def test_policies_do_not_see_quotas(machine):
    machine.change_quotas(Quota(type="render", resources={"cpu": 1}))
    assert sorted(machine.kernel.context.view.pools()) == ["cpu", "gpu"]
    assert sorted(machine.kernel.pool_stats()) == ["cpu", "gpu"]


def test_the_fact_names_what_has_changed(machine):
    machine.change_quotas(Quota(type="render", max_parallel=1))
    machine.change_quotas(Quota(type="render", max_parallel=1), Quota(owner="ann"))
    machine.change_quotas(Quota(type="render"))
    told = [make(fact).quotas for fact, _ in machine.sink if fact[0] is QuotasChanged]
    assert told == [
        (("type", "render", (("tasks", 1_000_000),)),),
        (("type", "render", ()),),
    ]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["quota", "many", "submit", "end", "take", "give", "restart"]),
        st.integers(0, 3),
        st.sampled_from(["r", "s"]),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(STEPS)
def test_no_quota_is_exceeded(steps):  # noqa: C901 - one kind of step a branch
    """By what was granted since it is so small; and what is free of it goes to who waits."""
    machine = Machine(pools=Resources(cpu=9))
    limits: dict[str, tuple[int | None, int | None]] = {}

    def used(kind):
        rows = [machine.row(name) for name in running(machine, kind)]
        return len(rows), sum(dict(row.alloc).get("cpu", 0) // 10**6 for row in rows)

    for number, (what, amount, kind) in enumerate(steps):
        before = {name: used(name) for name in "rs"}
        cpu, many = limits.get(kind, (None, None))
        if what in ("quota", "many"):
            cpu, many = (amount, many) if what == "quota" else (cpu, amount)
            limits[kind] = cpu, many
            bounded = {} if cpu is None else {"cpu": cpu}
            machine.change_quotas(
                Quota(type=kind, resources=bounded, max_parallel=many)
            )
        elif what == "submit":
            asks = Resources(cpu=amount) if amount else Resources()
            machine.submit(f"t{number}", type=kind, resources=asks)
        elif what == "end" and running(machine, kind):
            machine.end(running(machine, kind)[0])
        elif what == "take" and amount:
            machine.allocate(f"h{number}", kind, cpu=amount)
        elif what == "give" and machine.kernel.allocations:
            machine.release(next(iter(machine.kernel.allocations)))
        elif what == "restart":
            machine.restart()
            machine.agent("local")
            machine.kernel.unpause()
            machine.settle()
        check_invariants(machine.kernel)
        for name, (cpu, many) in limits.items():
            tasks, held = used(name)
            assert many is None or tasks <= max(many, before[name][0])
            assert cpu is None or held <= max(cpu, before[name][1])
        for row in machine.kernel.tasks.values():
            if row.state is TaskState.QUEUED:
                assert not explain(machine.kernel, row, machine.now).runnable


def test_what_was_charged_to_a_quota_that_is_gone_is_charged_no_more(machine):
    """As after a fold without the facts of quotas."""
    machine.change_quotas(Quota(type="render", resources={"cpu": 2}))
    machine.submit("a", type="render", resources=ONE)
    kernel, row = machine.kernel, machine.row("a")
    assert [name for name, _ in row.alloc] == ["cpu", "quota:type=render:cpu"]
    del kernel.pools["quota:type=render:cpu"]
    kernel.quotas.clear()
    _standing.recharge(kernel)
    assert row.alloc == ONE.units
    check_invariants(kernel)
