"""Quotas: how much all tasks of a type, or all that is of an owner, may have at once."""

import pytest
from hypothesis import given, settings, strategies as st
from tests.core.kernel.harness import Machine

from taskorch.core.kernel import check_invariants, explain
from taskorch.model import Quota, Resources, TaskState


@pytest.fixture
def machine():
    return Machine(pools=Resources(cpu=8, gpu=2))


def running(machine, kind):
    return [
        name
        for name, row in machine.kernel.tasks.items()
        if row.state is TaskState.RUNNING and row.bucket.spec.type == kind
    ]


def test_a_worker_without_a_slot_is_waited_for_within_a_quota_too(machine):
    machine.worker("smith", "iron", max_concurrency=1)
    machine.change_quotas(Quota(type="forge", max_parallel=9))
    asks = {"type": "forge", "requires": ("iron",)}
    assert machine.submit_all("a", "b", "c", **asks) == ["a"]
    assert machine.row("b").bucket.quota_route is not None
    assert machine.end("a") == ["b"]
    assert machine.end("b") == ["c"]


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
            machine.worker("local")
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
