"""An allocator that leaves room for rigid requests that recur."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given, strategies as st
from tests.core.policies.fakes import FakeContext, FakePool, FakeView, FakeWorker

from taskorch.errors import InvalidTaskError, NotRunningError
from taskorch.model import NO_RESOURCES, Resources, Task
from taskorch.policies import (
    ForeseeingAllocator,
    Measured,
    PoolAllocator,
    PriorityQueue,
    ProportionalAllocator,
)
from taskorch.protocols import AllocationRequest, Contender, Learns
from taskorch.testing.laws import check_resource_allocator

DAY = 86_400.0
#: A Monday, at midnight.
MONDAY = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
NINE = 9 * 3_600.0


def asked(cpu, least=None, held=None):
    """What is asked about a request of cpu; an elastic one has a least."""
    return AllocationRequest(
        Task("t"),
        FakeWorker(),
        Resources(cpu=cpu),
        None if least is None else Resources(cpu=least),
        held=None if held is None else Resources(cpu=held),
    )


def granted(allocator, request, now, *, rigid=0, elastic=(), total=16):
    """What is granted where tasks hold so much; and why."""
    pool = FakePool("cpu", total, total - rigid - sum(elastic))
    kind = Contender(
        Resources(cpu=total),
        Resources(cpu=1),
        1,
        "best_effort",
        0,
        tuple(Resources(cpu=each) for each in elastic),
    )
    view = FakeView(contending=(kind,) if elastic else ())
    answer = allocator.allocate(
        request, {"cpu": pool}, FakeContext(now=MONDAY + now, view=view)
    )
    cpu = None if answer.granted is None else answer.granted["cpu"]
    return cpu, answer.reason


def seen(allocator, days, cpu=12):
    """Each day, four rigid tasks of *cpu* in all start at nine, and are soon over."""
    for day in days:
        start = day * DAY + NINE
        granted(allocator, asked(1), start - 1_800)
        for number in range(4):
            held = cpu / 4 * number
            granted(allocator, asked(cpu / 4), start + number, rigid=held)
        granted(allocator, asked(1), start + 1_800)
    return allocator


def test_an_elastic_task_leaves_room_for_a_load_that_is_due():
    allocator = seen(ForeseeingAllocator(), range(4))
    friday = 4 * DAY + NINE
    assert granted(allocator, asked(16, 1), friday - 900)[0] == 16
    cpu, why = granted(allocator, asked(16, 1), friday - 540)
    assert cpu == 4
    assert why.endswith(
        "12 cpu left free, at 09:00, as on 4 of 4 days from Monday to Friday"
    )
    # One that runs gives back at its checkpoint what it has above that.
    running = asked(16, 1, held=16)
    assert granted(allocator, running, friday - 300, elastic=[16])[0] == 4
    # A part has come: for the others, room is left.
    four = {"rigid": 4, "elastic": [4]}
    assert granted(allocator, asked(16, 1, held=4), friday + 60, **four)[0] == 4
    # What has not come in three minutes is not awaited.
    assert granted(allocator, running, friday + 200, elastic=[16])[0] == 16


def test_none_gets_less_than_its_least_and_none_waits_that_is_rigid():
    allocator = seen(ForeseeingAllocator(), range(4), cpu=16)
    due = 4 * DAY + NINE - 60
    assert granted(allocator, asked(16, 3), due)[0] == 3
    assert granted(allocator, asked(16, 1, held=8), due, elastic=[8])[0] == 1
    assert granted(allocator, asked(16), due) == (16, "all of it was free")
    assert granted(allocator, asked(9, 9), due, rigid=7)[0] == 9
    assert granted(allocator, asked(9, 9), due, rigid=8)[0] is None


def test_it_asks_plainly_where_what_is_left_is_too_little():
    """Its base grants all or nothing: it is not kept from that."""
    allocator = seen(ForeseeingAllocator(PoolAllocator()), range(4))
    assert allocator.chunks is None
    assert allocator.rigid
    due = 4 * DAY + NINE - 60
    assert granted(allocator, asked(16, 1), due)[0] == 16
    assert granted(allocator, asked(4, 1), due)[0] == 4


def test_what_is_not_a_pool_is_left_to_its_base():
    allocator = ForeseeingAllocator()
    request = AllocationRequest(
        Task("t"), FakeWorker(), Resources(gpu=2), Resources(gpu=1)
    )
    answer = allocator.allocate(request, {}, FakeContext())
    assert answer == ProportionalAllocator().allocate(request, {}, FakeContext())
    nothing = AllocationRequest(Task("t"), FakeWorker(), NO_RESOURCES)
    assert allocator.allocate(nothing, {}, FakeContext()).granted == NO_RESOURCES


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2 * 86_400),
            st.integers(1, 16),
            st.none() | st.integers(1, 4),
            st.integers(0, 8),
            st.lists(st.integers(1, 4), max_size=2),
        ),
        max_size=20,
    )
)
def test_where_nothing_recurs_it_answers_as_its_base(questions):
    allocator, base = ForeseeingAllocator(), ProportionalAllocator()
    for now, cpu, least, rigid, elastic in sorted(questions, key=lambda each: each[0]):
        request = asked(cpu, None if least is None else min(least, cpu))
        state = {"rigid": rigid, "elastic": elastic}
        mine = granted(allocator, request, now, **state)
        assert mine == granted(base, request, now, **state)


def test_it_holds_the_laws_of_allocators():
    check_resource_allocator(ForeseeingAllocator)


class Orchestrator:
    """What it connects to, and what has it keep events."""

    def __init__(self):
        self.documents = {}
        self.tell = []
        self.signals = SimpleNamespace(
            task_started=SimpleNamespace(connect=self.tell.append)
        )
        self.is_running = True

    def kept(self, extension):
        if not self.is_running:
            raise NotRunningError("it has stopped")
        assert extension == "foresight"
        return self.documents


def test_a_restart_knows_what_was_kept():
    orch = Orchestrator()
    for day in range(4):
        allocator = ForeseeingAllocator()
        assert isinstance(allocator, Learns)
        assert allocator.choice_of("t", 1) is None
        allocator.attach(orch)
        allocator.restore(orch.kept)
        seen(allocator, [day])
        # Half an hour later it is asked again: then that day is kept.
        orch.tell.pop()(None)
    assert "allocator/cpu/2026-06-04" in orch.documents
    allocator = ForeseeingAllocator()
    allocator.attach(orch)
    allocator.restore(orch.kept)
    assert granted(allocator, asked(16, 1), 4 * DAY + NINE - 60)[0] == 4
    orch.is_running = False
    orch.tell.pop()(None)
    with pytest.raises(InvalidTaskError, match="another orchestrator already"):
        allocator.attach(orch)


def test_a_clock_that_was_ahead_for_a_while_keeps_nothing_from_being_kept():
    orch = Orchestrator()
    allocator = ForeseeingAllocator()
    allocator.attach(orch)
    granted(allocator, asked(1), 400 * DAY)
    seen(allocator, [0])
    orch.tell.pop()(None)
    assert "allocator/cpu/2026-06-01" in orch.documents


def test_what_cannot_be():
    with pytest.raises(InvalidTaskError, match=r"ahead=7201: .* for 7200 seconds"):
        ForeseeingAllocator(ahead=7201)
    with pytest.raises(InvalidTaskError, match="has no method allocate"):
        ForeseeingAllocator(PriorityQueue())
    with pytest.raises(InvalidTaskError, match="no zone"):
        ForeseeingAllocator(zone="Atlantis")
    with pytest.raises(InvalidTaskError, match="ahead"):
        ForeseeingAllocator(ahead=-1)
    text = "ForeseeingAllocator(ProportionalAllocator())"
    assert repr(ForeseeingAllocator()) == text
    assert ForeseeingAllocator().asks[0].rigid
    assert ForeseeingAllocator().chunks == ProportionalAllocator().chunks


def test_a_base_that_learns_would_be_told_of_nothing():
    for base in (Measured(), ForeseeingAllocator()):
        with pytest.raises(InvalidTaskError, match=r"base: .* learns by itself"):
            ForeseeingAllocator(base)


@given(
    st.integers(0, 16),
    st.lists(st.integers(1, 4), max_size=3),
    st.integers(1, 16),
    st.integers(1, 16),
    st.integers(-900, 900),
)
def test_what_is_granted_fits_and_is_never_below_the_least(
    rigid, elastic, cpu, least, after
):
    allocator = seen(ForeseeingAllocator(), range(3))
    least, free = min(least, cpu), 16 - rigid - sum(elastic)
    if free < 0:
        return
    now = 3 * DAY + NINE + after
    state = {"rigid": rigid, "elastic": elastic}
    mine, _ = granted(allocator, asked(cpu, least), now, **state)
    plain, _ = granted(ProportionalAllocator(), asked(cpu, least), now, **state)
    if mine is None:
        assert plain is None
    else:
        assert least <= mine <= min(cpu, free)
