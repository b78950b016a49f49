"""ProportionalAllocator."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.policies.fakes import FakeAgent, FakeContext, FakePool, FakeView

from taskorch.errors import InvalidTaskError
from taskorch.model import Resources, Task
from taskorch.policies import PoolAllocator, ProportionalAllocator
from taskorch.protocols import AllocationRequest, ResourceAllocator

SCALE = 1_000_000
units = st.integers(1, 8 * SCALE)
names = st.sampled_from("abc")
vectors = st.dictionaries(names, units)
chunkings = st.dictionaries(names, st.integers(1, 3 * SCALE))
leasts = st.floats(0, 1)


def resources(vector):
    return Resources.from_units(tuple(sorted(vector.items())))


def allocate(wanted, *pools, waiting=1, allocator=None):
    allocator = ProportionalAllocator() if allocator is None else allocator
    request = AllocationRequest(Task("t"), FakeAgent(), wanted)
    named = {pool.name: pool for pool in pools}
    context = FakeContext(view=FakeView(queued=waiting))
    return allocator.allocate(request, named, context)


def cpus(need, free, waiting=1, allocator=None):
    """How many cpus are granted of *need*, or None."""
    pool = FakePool("cpu", 64, free)
    answer = allocate(Resources(cpu=need), pool, waiting=waiting, allocator=allocator)
    return None if answer.granted is None else answer.granted["cpu"]


def pools_of(free):
    return [FakePool(name, 9, have / SCALE) for name, have in free.items()]


def test_it_is_a_resource_allocator_that_is_not_rigid():
    """It grants less than is asked, so the kernel must ask it."""
    allocator = ProportionalAllocator({"cpu": 2}, least=0.5)

    assert isinstance(allocator, ResourceAllocator)
    assert not allocator.rigid
    assert repr(allocator) == "ProportionalAllocator({'cpu': 2}, least=0.5)"
    assert repr(ProportionalAllocator()) == (
        "ProportionalAllocator({'cpu': 1.0}, least=0.25)"
    )


def test_nothing_is_granted_for_ever():
    """An empty request needs no pools, now or later."""
    answer = allocate(Resources())

    assert (answer.granted, answer.reusable) == (Resources(), ProportionalAllocator)


def test_what_is_enough_for_all_is_granted_whole():
    """The grant is the request, and holds for this task only."""
    wanted = Resources(cpu=4)
    answer = allocate(wanted, FakePool("cpu", 8, 8), waiting=2)

    assert answer.granted is wanted
    assert answer.reason == "all of it was free"
    assert not answer.reusable


def test_what_is_free_is_divided_among_those_that_wait():
    """Each gets what is free over how many wait, in whole chunks."""
    pool = FakePool("cpu", 8, 8)
    answer = allocate(Resources(cpu=4), pool, waiting=3)

    assert answer.granted == Resources(cpu=2)
    assert answer.reason == "2 of 4 cpu: 3 tasks share what is free"
    assert [cpus(4, 8, waiting) for waiting in (1, 2, 3, 4, 8, 99)] == [
        4,
        4,
        2,
        2,
        1,
        1,
    ]


def test_a_request_that_does_not_fit_gets_what_there_is():
    """Down to the least share, and nothing below that."""
    assert [cpus(8, free) for free in (8, 7, 3.5, 2)] == [8, 7, 3, 2]
    assert cpus(8, 1) is None
    answer = allocate(Resources(cpu=8), FakePool("cpu", 8, 1))
    assert answer.reason == "cpu: needs 2 at the least, has 1 free of 8"


def test_a_whole_least_grants_whole_requests_only():
    """Then it is as rigid as PoolAllocator."""
    rigid = ProportionalAllocator(least=1)

    assert cpus(4, 4, 5, rigid) == 4
    assert cpus(4, 3.9, 5, rigid) is None


def test_the_proportions_of_a_request_are_kept():
    """The scarcest resource sets one factor for all that can be divided."""
    allocator = ProportionalAllocator({"cpu": 2, "memory_mb": 256})
    wanted = Resources(cpu=8, memory_mb=4096)
    free = FakePool("cpu", 64, 64), FakePool("memory_mb", 8192, 2048)

    assert allocate(wanted, *free, allocator=allocator).granted == Resources(
        cpu=4, memory_mb=2048
    )


def test_what_has_no_chunks_is_not_divided():
    """It is granted whole, or the task waits."""
    wanted = Resources(cpu=4, gpu=1)
    cpu = FakePool("cpu", 4, 2)

    assert allocate(wanted, cpu, FakePool("gpu", 1, 1)).granted == Resources(
        cpu=2, gpu=1
    )
    assert allocate(wanted, cpu, FakePool("gpu", 1, 0.5)).reason == (
        "gpu: needs 1 at the least, has 0.5 free of 1"
    )


def test_a_request_below_a_chunk_is_granted_whole():
    """Half a core is not divided into whole ones."""
    assert cpus(0.5, 1, waiting=9) == 0.5
    assert cpus(0.5, 0.4) is None


def test_a_pool_that_does_not_exist_has_nothing():
    """The reason says so, where the kernel has not refused the task before."""
    assert allocate(Resources(gpu=1)).reason == "gpu: needs 1, and there is no pool"


@pytest.mark.parametrize("free", [-3.0, 4e-7, 5e-324])
def test_less_than_the_smallest_amount_is_nothing(free):
    """A pool that was made smaller has nothing free."""
    assert cpus(1, free) is None


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": {"cpu": 0}},
        {"chunks": {"cpu": -1}},
        {"chunks": {"cpu": "1"}},
        {"least": -0.1},
        {"least": 1.1},
        {"least": float("nan")},
        {"least": True},
    ],
)
def test_options_out_of_range_are_refused(options):
    """Chunks are amounts above 0, and the least is a share."""
    with pytest.raises(InvalidTaskError, match=r"cpu|least"):
        ProportionalAllocator(**options)


@given(vectors, vectors, chunkings, leasts, st.integers(0, 20))
def test_the_laws_hold(wanted, free, chunks, least, waiting):
    """Never more than is free or asked, in chunks, and never nothing of what fits."""
    sizes = {name: size / SCALE for name, size in chunks.items()}
    allocator = ProportionalAllocator(sizes, least=least)
    request, pools = resources(wanted), pools_of(free)
    answer = allocate(request, *pools, waiting=waiting, allocator=allocator)
    fits = all(need <= free.get(name, 0) for name, need in wanted.items())

    assert answer == allocate(request, *pools, waiting=waiting, allocator=allocator)
    assert answer.reason
    if answer.granted is None:
        assert not fits
        return
    granted = dict(answer.granted.units)
    assert set(granted) == set(wanted)
    for name, amount in granted.items():
        assert 0 < amount <= min(wanted[name], free[name])
        if amount < wanted[name]:
            assert amount % chunks[name] == 0
            assert amount >= wanted[name] * (least - 1e-6)


@given(vectors, vectors, st.integers(1, 20))
def test_with_a_whole_least_it_says_what_a_pool_allocator_says(wanted, free, waiting):
    """The two implementations agree where both are rigid."""
    request, pools = resources(wanted), pools_of(free)
    rigid = ProportionalAllocator({"a": 1, "b": 0.3}, least=1)
    one = allocate(request, *pools, waiting=waiting, allocator=rigid)
    other = allocate(request, *pools, allocator=PoolAllocator())

    assert one.granted == other.granted


@given(st.lists(vectors, max_size=20), vectors, chunkings)
def test_a_run_of_grants_never_over_commits(requests, total, chunks):
    """Whatever is asked for, what is handed out stays within what there is."""
    sizes = {name: size / SCALE for name, size in chunks.items()}
    allocator = ProportionalAllocator(sizes)
    free = dict(total)
    for place, wanted in enumerate(requests):
        answer = allocate(
            resources(wanted),
            *pools_of(free),
            waiting=len(requests) - place,
            allocator=allocator,
        )
        for name, amount in () if answer.granted is None else answer.granted.units:
            free[name] -= amount

    assert all(left >= 0 for left in free.values())


@given(st.integers(1, 8), st.integers(1, 64))
def test_alike_tasks_that_wait_together_get_alike_shares(need, waiting):
    """Asked one after another, no two of those served differ by more than a chunk."""
    free, shares = 16.0, []
    for left in range(waiting, 0, -1):
        granted = cpus(need, free, left)
        if granted is not None:
            shares.append(granted)
            free -= granted

    assert free >= 0
    assert max(shares) - min(shares) <= 1


def test_only_what_is_less_than_was_asked_for_is_named():
    """What is not shared in chunks is granted whole."""
    pools = FakePool("cpu", 8, 8), FakePool("licence", 9, 9)
    answer = allocate(Resources(cpu=4, licence=1), *pools, waiting=3)

    assert answer.granted == Resources(cpu=2, licence=1)
    assert answer.reason == "2 of 4 cpu: 3 tasks share what is free"
