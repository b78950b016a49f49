"""Buckets that wait, and how they are woken: cheaply, and without a lost wake-up."""

import pytest
from hypothesis import given, strategies as st
from tests.kernel.harness import SEC, Machine, Policies

from taskorch.kernel import (
    Bucket,
    Spec,
    TaskRow,
    TypeRow,
    _dispatch,
    _rows,
    check_invariants,
)
from taskorch.kernel._rows import FEW, Place
from taskorch.model import Resources


def looks(monkeypatch, function):
    """Counts how often dispatch looks at a bucket while *function* runs."""
    count = [0]
    real = _dispatch.place

    def place(*args):
        count[0] += 1
        real(*args)

    monkeypatch.setattr(_dispatch, "place", place)
    function()
    return count[0]


def test_a_parked_bucket_gets_an_earlier_head():
    """A more urgent task that joins a waiting bucket moves the whole bucket forward."""
    machine = Machine()
    machine.agent("a", "x", max_concurrency=1)
    machine.submit("runs", requires=("x",))
    machine.submit("one", type="one", requires=("x",))
    machine.submit("two", type="two", requires=("x",))
    machine.submit("urgent", type="two", requires=("x",), priority=1)
    bucket, now = machine.row("two").bucket, machine.now
    machine.kernel.submit("more urgent", bucket, None, now, 2)
    machine.kernel.submit("not urgent", bucket, None, now, -1)
    assert machine.end("runs") == ["more urgent"]
    assert machine.end("more urgent") == ["urgent"]
    assert machine.end("urgent") == ["one"]


def test_a_parked_bucket_loses_its_head():
    """A waiting bucket whose first task is gone is served by its next."""
    machine = Machine()
    machine.agent("a", "x", max_concurrency=1)
    machine.submit("runs", requires=("x",))
    machine.submit("one", type="one", requires=("x",))
    machine.now += SEC
    machine.submit("two", type="two", requires=("x",))
    machine.now += SEC
    machine.submit("last", type="one", requires=("x",))
    machine.cancel("one")
    assert machine.end("runs") == ["two"]
    machine.cancel("last")
    assert machine.kernel.parked == {}
    assert machine.end("two") == []
    assert machine.kernel.agents["a"].slots.heap == []


@pytest.mark.parametrize("buckets", [10, 1000])
def test_the_cost_of_a_completion_does_not_grow(monkeypatch, buckets):
    """However many buckets wait for one agent, a completion looks at few of them."""
    machine = Machine(listening=False)
    machine.agent("a", "x", max_concurrency=1)
    kernel = machine.kernel
    for n in range(2 * buckets):
        bucket = kernel.bucket(kernel_spec(f"kind{n % buckets}"))
        kernel.submit(f"t{n}", bucket, None, machine.now)
    kernel.dispatch(machine.now)

    def work():
        for _ in range(20):
            row = kernel.starts.pop()
            kernel.complete(row, 1, machine.now)
            kernel.dispatch(machine.now)

    assert looks(monkeypatch, work) <= 60
    check_invariants(kernel)


def kernel_spec(name, **options):

    return Spec(name, ("x",), **options)


@pytest.mark.parametrize("buckets", [10, 500])
def test_the_cost_of_a_release_does_not_grow(monkeypatch, buckets):
    """A pool with too little for anybody is not offered to all who wait for it."""
    policies = Policies(rigid=True)
    machine = Machine(policies=policies, pools=Resources(cpu=8), listening=False)
    machine.agent("a", "x")
    kernel = machine.kernel
    for n in range(2 * buckets):
        spec = kernel_spec(f"kind{n % buckets}", resources=Resources(cpu=3).units)
        kernel.submit(f"t{n}", kernel.bucket(spec), None, machine.now)
    kernel.dispatch(machine.now)

    def work():
        for _ in range(20):
            row = kernel.starts.pop()
            kernel.complete(row, 1, machine.now)
            kernel.dispatch(machine.now)

    assert looks(monkeypatch, work) <= 100
    check_invariants(kernel)


def test_spurious_entries_do_no_harm():
    """An agent that is never free gathers no trail of those that waited at it."""
    machine = Machine()
    machine.agent("stuck", "x", max_concurrency=1)
    machine.agent("quick", "x", max_concurrency=1)
    machine.submit_all("s", "t0", requires=("x",))
    machine.submit("other", type="other", requires=("x",))
    for n in range(3 * FEW):
        machine.submit(f"t{n + 1}", requires=("x",), priority=n)
        done = next(i for i in machine.running() if i != "s")
        machine.end(done)
    stuck = machine.kernel.agents["stuck"].slots
    assert len(stuck.heap) <= 2 * FEW
    assert len(machine.end("s")) == 1


def test_a_new_agent_wakes_all():
    """When an agent joins, everything that waits is tried again, wherever it waits."""
    machine = Machine(refuse_unknown=False, pools=Resources(cpu=1))
    machine.agent("a", "x", max_concurrency=1)
    machine.submit("runs", requires=("x",))
    machine.submit("waits", requires=("x",))
    machine.submit("unknown", requires=("y",))
    machine.agent("b", "x", "y")
    assert machine.settle() == ["waits", "unknown"]
    assert machine.kernel.parked == {}


def test_places_of_amounts_come_and_go():
    """What waits by an amount leaves nothing behind when nobody waits any more."""
    machine = Machine(policies=Policies(rigid=True), pools=Resources(cpu=9))
    machine.agent("a", "x", capacity=Resources(memory=9))
    machine.submit("all", resources=Resources(cpu=9))
    machine.submit("full", requires=("x",), resources=Resources(memory=9))
    for n in range(1, 9):
        machine.submit(f"c{n}", resources=Resources(cpu=n))
        machine.submit(f"m{n}", requires=("x",), resources=Resources(memory=n))
    assert len(machine.kernel.pools["cpu"].short) == 8
    machine.end("all")
    machine.end("full")
    while machine.running():
        machine.end(machine.running()[0])
    machine.submit("one", resources=Resources(cpu=1))
    machine.submit("two", requires=("x",), resources=Resources(memory=1))
    machine.end("one")
    machine.end("two")
    assert machine.kernel.pools["cpu"].short == {}
    assert machine.kernel.agents["a"].short == {"memory": {}}
    assert machine.kernel.completed == 20


def test_who_waits_for_room_is_not_looked_at_because_another_left():
    """It waits on, unless nobody is left; one that a policy put off is tried again."""
    machine = Machine()
    machine.agent("a", "x", max_concurrency=1)
    machine.submit_all("runs", "t", "u", "v", requires=("x",))
    bucket = machine.row("t").bucket
    machine.kernel.cancel(machine.row("u"), machine.now, "")
    machine.kernel.cancel(machine.row("t"), machine.now, "")
    assert bucket.parked is not None
    machine.kernel.cancel(machine.row("v"), machine.now, "")
    assert bucket.parked is None
    assert bucket not in machine.kernel.parked
    machine = Machine()
    machine.policies.refuses = lambda row, agent: "no"
    machine.submit_all("t", "u")
    bucket = machine.row("t").bucket
    assert bucket.parked is not None
    machine.kernel.cancel(machine.row("u"), machine.now, "")
    assert bucket.parked is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "again", "raise", "pop"]), st.integers(0, 9)),
        max_size=60,
    )
)
def test_whoever_is_first_in_order_is_woken(steps):
    """However the heads of those who wait have changed, and what was cleared away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_rows, "FEW", 1)
        place = Place(name="cpu", need=1)
        buckets = [Bucket(Spec(f"kind{n}"), TypeRow(), n) for n in range(10)]
        waiting, seq = {}, 0
        for what, number in steps:
            bucket = buckets[number]
            if what == "pop":
                first = min(
                    waiting.values(), key=lambda r: (r.key, r.seq), default=None
                )
                assert place.pop() is first
                if first is not None:
                    del waiting[first.bucket]
                    first.bucket.parked = None
                    first.bucket.pop(first)
                continue
            if what == "again":
                # Whoever is there is there once.
                many = len(place.heap)
                if bucket in waiting:
                    place.add(bucket, waiting[bucket])
                    assert len(place.heap) <= many
                continue
            seq += 1
            row = TaskRow(f"t{seq}", seq, bucket, None, 1)
            row.key = seq if what == "add" else -seq
            if bucket in waiting and what == "add":
                continue
            if bucket in waiting:
                bucket.pop(waiting[bucket])
            bucket.push(row)
            bucket.parked = (place,)
            waiting[bucket] = row
            place.add(bucket, row)
            assert len(place.heap) <= 2 + 2 * len(place.members)


def test_what_a_policy_put_off_is_not_tried_again_for_ever():
    """Once it has started, nothing is remembered of that."""
    machine = Machine()
    machine.policies.refuses = lambda row, agent: "no"
    machine.submit("t")
    assert list(machine.kernel.parked_any) == [machine.row("t").bucket]
    machine.policies.refuses = lambda row, agent: None
    machine.submit("u", type="other")
    assert machine.end("u") == ["t"]
    assert machine.kernel.parked_any == {}
