"""Buckets that wait, and how they are woken: cheaply, and without a lost wake-up."""

import pytest
from hypothesis import given, strategies as st
from tests.core.kernel.harness import Machine

from taskorch.core.kernel import (
    Bucket,
    Spec,
    TaskRow,
    TypeRow,
    _rows,
)
from taskorch.core.kernel._rows import FEW, Place


def test_a_parked_bucket_gets_an_earlier_head():
    """A more urgent task that joins a waiting bucket moves the whole bucket forward."""
    machine = Machine()
    machine.worker("a", "x", max_concurrency=1)
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


def test_spurious_entries_do_no_harm():
    """A worker that is never free gathers no trail of those that waited at it."""
    machine = Machine()
    machine.worker("stuck", "x", max_concurrency=1)
    machine.worker("quick", "x", max_concurrency=1)
    machine.submit_all("s", "t0", requires=("x",))
    machine.submit("other", type="other", requires=("x",))
    for n in range(3 * FEW):
        machine.submit(f"t{n + 1}", requires=("x",), priority=n)
        done = next(i for i in machine.running() if i != "s")
        machine.end(done)
    stuck = machine.kernel.workers["stuck"].slots
    assert len(stuck.heap) <= 2 * FEW
    assert len(machine.end("s")) == 1


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
    machine.policies.refuses = lambda row, worker: "no"
    machine.submit("t")
    assert list(machine.kernel.parked_any) == [machine.row("t").bucket]
    machine.policies.refuses = lambda row, worker: None
    machine.submit("u", type="other")
    assert machine.end("u") == ["t"]
    assert machine.kernel.parked_any == {}
