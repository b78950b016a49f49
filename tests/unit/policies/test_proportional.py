"""ProportionalAllocator."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from tests.unit.policies.fakes import FakeAgent, FakeContext, FakePool, FakeView

from taskorch.errors import InvalidTaskError
from taskorch.model import Resources, Task
from taskorch.policies import PoolAllocator, ProportionalAllocator
from taskorch.protocols import AllocationRequest, Contender, ResourceAllocator

SCALE = 1_000_000
ALLOCATOR = ProportionalAllocator()
LARGE = FakeAgent()
vectors = st.dictionaries(st.sampled_from("abc"), st.integers(0, 5 * SCALE))
amounts = st.integers(0, 16)


def allocate(request, *pools, contenders=(), allocator=ALLOCATOR):
    named = {pool.name: pool for pool in pools}
    context = FakeContext(view=FakeView(contending=tuple(contenders)))
    return allocator.allocate(request, named, context)


def elastic(wanted, least=None, *, held=None, agent=LARGE, **options):
    """What is asked about an elastic request of *wanted* cpu."""
    return AllocationRequest(
        Task("t"),
        agent,
        Resources(cpu=wanted),
        Resources(cpu=1 if least is None else least),
        held=None if held is None else Resources(cpu=held),
        **options,
    )


def kind(wanted, waiting=0, held=(), *, least=1, weight=1.0, fallback="best_effort"):
    return Contender(
        Resources(cpu=wanted),
        Resources(cpu=least),
        weight,
        fallback,
        waiting,
        tuple(Resources(cpu=each) for each in held),
    )


def cpus(request, free, *contenders, total=16):
    """How many cpus are granted, or None; and why."""
    answer = allocate(request, FakePool("cpu", total, free), contenders=contenders)
    granted = None if answer.granted is None else answer.granted["cpu"]
    return granted, answer.reason


# -- what it is ---------------------------------------------------------------------


def test_it_is_a_resource_allocator():
    chunked = ProportionalAllocator({"cpu": 2})

    assert isinstance(chunked, ResourceAllocator)
    assert chunked.rigid
    assert repr(chunked) == "ProportionalAllocator({'cpu': 2})"
    assert repr(ALLOCATOR) == "ProportionalAllocator()"
    assert dict(ALLOCATOR.chunks) == {"cpu": 1, "memory_mb": 256}


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        ({"cpu": 0}, "a chunk of 'cpu' is more than 0"),
        ({"cpu": -1}, "-1 is not between"),
        ({"cpu": float("nan")}, "nan"),
        ({"cpu": "2"}, "an amount is a number"),
        (2, "a mapping of resources to sizes"),
    ],
)
def test_chunks_that_are_none_are_refused(chunks, said):
    with pytest.raises(InvalidTaskError, match=said):
        ProportionalAllocator(chunks)


# -- rigid requests -----------------------------------------------------------------


@given(vectors, vectors)
def test_a_rigid_request_is_answered_as_by_a_pool_allocator(wanted, free):
    pools = [FakePool(name, 9, have / SCALE) for name, have in free.items()]
    resources = Resources.from_units(tuple(sorted(p for p in wanted.items() if p[1])))
    request = AllocationRequest(Task("t"), LARGE, resources)
    # Whoever contends for the rest.
    others = [kind(8, waiting=3, held=(2, 2))]

    one = allocate(request, *pools, contenders=others)
    other = allocate(request, *pools, allocator=PoolAllocator())
    assert (one.granted, one.reason) == (other.granted, other.reason)
    assert bool(one.reusable) == bool(other.reusable) == (not resources.units)


def test_a_pool_allocator_grants_elastic_requests_whole():
    pool = FakePool("cpu", 8, 4)
    answers = [
        allocate(request, pool, allocator=PoolAllocator())
        for request in (elastic(4), elastic(5), elastic(8, held=4), elastic(9, held=4))
    ]

    assert [answer.granted for answer in answers] == [
        Resources(cpu=4),
        None,
        Resources(cpu=8),
        None,
    ]


# -- shares -------------------------------------------------------------------------


def test_one_that_is_alone_has_all_it_asks_for():
    assert cpus(elastic(8), 16) == (8, "all of it was free")
    assert cpus(elastic(8), 16, kind(8, waiting=1)) == (8, "all of it was free")


def test_shares_are_in_proportion_to_weight_and_request():
    """16 among 8, 8 and twice 8: 4, 4 and 8."""
    both = kind(8, waiting=2), kind(8, waiting=1, weight=2)

    assert cpus(elastic(8), 16, *both) == (4, "4 of 8 cpu: 3 requests contend")
    assert cpus(elastic(8, weight=2), 16, *both) == (8, "all of it was free")


@pytest.mark.parametrize(
    ("weights", "shares"), [((2, 1, 1), (8, 4, 4)), ((2, 1, 4), (5, 2, 9))]
)
def test_the_shares_that_the_page_shows(weights, shares):
    """Of 16 in the proportion of 2, 1 and 4 the first has the largest remainder."""
    kinds = [kind(16, 1, weight=weight) for weight in weights]
    granted = [cpus(elastic(16, weight=weight), 16, *kinds)[0] for weight in weights]
    assert tuple(granted) == shares


def test_a_remainder_goes_to_those_that_come_first():
    """16 among three alike: 6, 5 and 5; who has the 6 keeps it."""
    assert cpus(elastic(8), 16, kind(8, waiting=3))[0] == 6
    assert cpus(elastic(8), 10, kind(8, waiting=2, held=(6,)))[0] == 5
    assert cpus(elastic(8, held=6), 0, kind(8, held=(6, 5, 5)))[0] == 6
    assert cpus(elastic(8, held=5), 0, kind(8, held=(6, 5, 5)))[0] == 5
    # Two that have more than there is for one: the one that is asked gives way.
    assert cpus(elastic(8, held=8), 0, kind(8, waiting=1, held=(8, 8)))[0] == 5


def test_best_effort_starts_with_what_is_free_of_its_share():
    others = kind(8, waiting=1, held=(8,)), kind(8, held=(5,), weight=2)

    assert cpus(elastic(8), 3, *others) == (3, "3 of 8 cpu: 3 requests contend")
    assert cpus(elastic(8), 0, *others) == (
        None,
        "cpu: its least is 1, has 0 free of 16",
    )


def test_all_or_nothing_waits_for_its_whole_share():
    request = elastic(8, fallback="all_or_nothing")
    others = (kind(8, waiting=1, held=(8, 5), fallback="all_or_nothing"),)

    assert cpus(request, 3, *others) == (
        None,
        "cpu: its share is 5, has 3 free of 16",
    )
    freed = kind(8, waiting=1, held=(8, 3), fallback="all_or_nothing")
    assert cpus(request, 5, freed)[0] == 5
    # Once it runs, it goes on with what there is.
    running = elastic(8, fallback="all_or_nothing", held=4)
    held = kind(8, held=(4, 8), fallback="all_or_nothing")
    assert cpus(running, 1, held, total=13)[0] == 5


def test_where_not_all_can_have_their_least_those_have_it_that_come_first():
    first, later = kind(8, waiting=3, least=6), kind(8, waiting=1, least=8)

    assert cpus(elastic(8, 6), 16, first, later)[0] == 8
    # It fits all the same now: nothing is kept for those who cannot start yet.
    assert cpus(elastic(8, 8), 16, first, later)[0] == 8
    whole = elastic(8, 8, fallback="all_or_nothing")
    rest = kind(8, waiting=1, least=8, fallback="all_or_nothing")
    assert cpus(whole, 16, first, rest) == (
        None,
        "others come first whose least takes all there is",
    )


def test_a_request_that_nobody_counts_contends_all_the_same():
    """It is asked about by hand, or there is no slot for it."""
    assert cpus(elastic(8), 16, kind(16, waiting=1)) == (
        5,
        "5 of 8 cpu: 2 requests contend",
    )
    assert cpus(elastic(8, held=8), 8, kind(16, waiting=1))[0] == 5


def test_like_requests_of_different_types_count_together():
    same = kind(8, held=(6,)), kind(8, held=(5, 5))

    assert cpus(elastic(8, held=6), 0, *same)[0] == 6
    assert cpus(elastic(8, held=5), 0, *same)[0] == 5


def test_of_a_pool_that_was_made_smaller_it_keeps_what_it_may():
    """Half of what two hold is gone: each shrinks to a share of the rest."""
    both = kind(8, held=(8, 8))

    assert cpus(elastic(8, held=8), -8, both, total=8)[0] == 4
    # Where nothing is left for its least, it keeps that.
    assert cpus(elastic(8, held=8), -16, both, total=0)[0] == 1
    assert cpus(elastic(8, held=8), -15, both, total=1)[0] == 1
    assert cpus(elastic(8), -8, both, total=8)[0] is None


def test_what_rigid_requests_hold_is_not_divided():
    """4 of 16 are held by others: 12 are for two."""
    assert cpus(elastic(8), 12, kind(8, waiting=2))[0] == 6


def test_a_pool_that_is_not_there_is_named():
    answer = allocate(elastic(4))

    assert (answer.granted, answer.reason) == (None, "cpu: there is no pool")


# -- several resources --------------------------------------------------------------


def both(cpu, memory):
    return Resources(cpu=cpu, memory_mb=memory)


def test_of_several_resources_the_scarcest_scales_the_request():
    """Of the memory there is half for each, so of the cores each has half."""
    request = AllocationRequest(Task("t"), LARGE, both(8, 4096), both(1, 256))
    contender = Contender(both(8, 4096), both(1, 256), 1, "best_effort", 2)
    pools = FakePool("cpu", 32, 32), FakePool("memory_mb", 4096, 4096)

    answer = allocate(request, *pools, contenders=[contender])
    assert answer.granted == both(4, 2048)
    assert answer.reason == "4 of 8 cpu, 2,048 of 4,096 memory_mb: 2 requests contend"


def test_what_has_no_chunks_is_granted_whole():
    wanted = Resources(cpu=8, licence=1)
    request = AllocationRequest(Task("t"), LARGE, wanted, Resources(cpu=1, licence=1))
    pools = FakePool("cpu", 4, 4), FakePool("licence", 2, 1)

    answer = allocate(request, *pools)
    assert answer.granted == Resources(cpu=4, licence=1)
    assert answer.reason == "4 of 8 cpu: more is held"


# -- the agent ----------------------------------------------------------------------


def test_an_agent_grants_no_more_than_it_has_free():
    agent = FakeAgent(capacity=Resources(cpu=6), used=Resources(cpu=2))
    of_else = FakeAgent(capacity=Resources(gpu=1))

    assert cpus(elastic(8, agent=agent), 16)[0] == 4
    assert cpus(elastic(8, agent=agent, held=2), 16)[0] == 6
    assert cpus(elastic(8, agent=of_else), 16)[0] == 8


def test_all_or_nothing_waits_for_what_rigid_requests_hold():
    """Its share is of all that there is, and not of what is free."""
    request = elastic(8, fallback="all_or_nothing")
    assert cpus(request, 6)[0] is None
    assert cpus(elastic(8), 6)[0] == 6


def test_all_or_nothing_waits_for_what_its_agent_can_give():
    options = {"fallback": "all_or_nothing"}
    small = FakeAgent(capacity=Resources(cpu=6))
    busy = FakeAgent(capacity=Resources(cpu=6), used=Resources(cpu=1))
    of_else = FakeAgent(capacity=Resources(gpu=1))

    assert cpus(elastic(8, agent=small, **options), 16)[0] == 6
    assert cpus(elastic(8, agent=busy, **options), 16)[0] is None
    assert cpus(elastic(8, agent=of_else, **options), 16)[0] == 8


# -- laws ---------------------------------------------------------------------------


@given(
    st.integers(1, 16),
    st.integers(1, 16),
    amounts,
    st.lists(st.tuples(st.integers(1, 16), st.integers(0, 3), st.integers(1, 3))),
    st.sampled_from(["best_effort", "all_or_nothing"]),
)
def test_a_grant_is_what_is_free_in_whole_chunks(wanted, least, free, others, fallback):
    least = min(least, wanted)
    contenders = [
        kind(size, waiting=waiting, weight=weight) for size, waiting, weight in others
    ]
    request = elastic(wanted, least, fallback=fallback)
    granted, _ = cpus(request, free, *contenders)

    if granted is None:
        assert free < least or fallback == "all_or_nothing"
    else:
        assert least <= granted <= min(wanted, free)
        assert granted == int(granted)
