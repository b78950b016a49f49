"""PoolAllocator."""

from __future__ import annotations

from hypothesis import given, strategies as st
from tests.core.policies.fakes import FakeContext, FakePool, FakeWorker

from taskorch.model import Resources, Task
from taskorch.policies import PoolAllocator
from taskorch.protocols import AllocationRequest, ResourceAllocator

units = st.integers(0, 5_000_000)
vectors = st.dictionaries(st.sampled_from("abc"), units)


def allocate(wanted, *pools):
    request = AllocationRequest(Task("t"), FakeWorker(), wanted)
    named = {pool.name: pool for pool in pools}
    return PoolAllocator().allocate(request, named, FakeContext())


def test_it_is_a_resource_allocator():
    """It has the methods of its protocol."""
    assert isinstance(PoolAllocator(), ResourceAllocator)
    assert repr(PoolAllocator()) == "PoolAllocator()"


def test_a_refusal_names_the_first_that_is_short():
    """Resource, need, free and total stand in the reason, to the last digit."""
    answer = allocate(
        Resources(cpu=2, gpu=1.000001, memory_mb=9999),
        FakePool("memory_mb", 1, 1),
        FakePool("gpu", 8, 1),
        FakePool("cpu", 4, 2),
    )

    assert answer.granted is None
    assert not answer.reusable
    assert answer.reason == "gpu: needs 1.000001, has 1 free of 8"


def test_a_pool_that_does_not_exist_has_nothing():
    """The reason says so, where the kernel has not refused the task before."""
    assert allocate(Resources(gpu=1)).reason == "gpu: needs 1, and there is no pool"


@given(vectors, vectors)
def test_a_grant_is_the_request_and_never_exceeds_what_is_free(wanted, free):
    """It is granted if and only if every amount fits, and then whole."""
    request = Resources.from_units(
        tuple(sorted((n, u) for n, u in wanted.items() if u))
    )
    pools = [FakePool(name, 5, have / 1_000_000) for name, have in free.items()]
    answer = allocate(request, *pools)
    fits = all(need <= free.get(name, 0) for name, need in request.units)

    assert answer.granted == (request if fits else None)
    assert answer.reason


@given(st.lists(vectors, max_size=20), vectors)
def test_a_run_of_grants_never_over_commits(requests, total):
    """Whatever is asked for, what is handed out stays within what there is."""
    free = dict(total)
    for wanted in requests:
        request = Resources.from_units(
            tuple(sorted((n, u) for n, u in wanted.items() if u))
        )
        pools = [FakePool(n, total[n] / 1e6, free[n] / 1e6) for n in free]
        granted = allocate(request, *pools).granted
        for name, amount in () if granted is None else granted.units:
            free[name] -= amount

    assert all(left >= 0 for left in free.values())
