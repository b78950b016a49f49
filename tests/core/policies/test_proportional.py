"""ProportionalAllocator."""

from __future__ import annotations

import pytest
from tests.core.policies.fakes import FakeContext, FakePool, FakeView, FakeWorker

from taskorch.errors import InvalidTaskError
from taskorch.model import Resources, Task
from taskorch.policies import PoolAllocator, ProportionalAllocator
from taskorch.protocols import AllocationRequest, Contender

ALLOCATOR = ProportionalAllocator()
LARGE = FakeWorker()


def allocate(request, *pools, contenders=(), allocator=ALLOCATOR):
    named = {pool.name: pool for pool in pools}
    context = FakeContext(view=FakeView(contending=tuple(contenders)))
    return allocator.allocate(request, named, context)


def elastic(wanted, least=None, *, held=None, worker=LARGE, **options):
    """What is asked about an elastic request of *wanted* cpu."""
    return AllocationRequest(
        Task("t"),
        worker,
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


def test_a_remainder_goes_to_those_that_come_first():
    """16 among three alike: 6, 5 and 5; who has the 6 keeps it."""
    assert cpus(elastic(8), 16, kind(8, waiting=3))[0] == 6
    assert cpus(elastic(8), 10, kind(8, waiting=2, held=(6,)))[0] == 5
    assert cpus(elastic(8, held=6), 0, kind(8, held=(6, 5, 5)))[0] == 6
    assert cpus(elastic(8, held=5), 0, kind(8, held=(6, 5, 5)))[0] == 5
    # Two that have more than there is for one: the one that is asked gives way.
    assert cpus(elastic(8, held=8), 0, kind(8, waiting=1, held=(8, 8)))[0] == 5


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


def test_a_pool_that_is_not_there_is_named():
    answer = allocate(elastic(4))

    assert (answer.granted, answer.reason) == (None, "cpu: there is no pool")


# -- several resources --------------------------------------------------------------


def both(cpu, memory):
    return Resources(cpu=cpu, memory_mb=memory)


# -- laws ---------------------------------------------------------------------------


def test_a_worker_grants_no_more_than_it_has_free():
    worker = FakeWorker(capacity=Resources(cpu=6), used=Resources(cpu=2))
    of_else = FakeWorker(capacity=Resources(gpu=1))

    assert cpus(elastic(8, worker=worker), 16)[0] == 4
    assert cpus(elastic(8, worker=worker, held=2), 16)[0] == 6
    assert cpus(elastic(8, worker=of_else), 16)[0] == 8
