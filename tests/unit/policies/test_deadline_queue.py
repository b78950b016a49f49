"""DeadlineQueue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import permutations

import pytest
from hypothesis import given, strategies as st
from tests.unit.policies.fakes import FakeContext, FakeView

from taskorch.errors import InvalidTaskError
from taskorch.model import Task
from taskorch.policies import DeadlineQueue
from taskorch.protocols import TaskQueue

NOW = 1_700_000_000.0
zones = st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))
deadlines = st.none() | st.integers(1, 10_000)


def key(task, now=NOW, default=None):
    order = DeadlineQueue(default).order(task, FakeContext(now=now))
    assert (order.aging, order.reusable) == (None, False)
    return order.key


def due(deadline, priority=0, **options):
    return key(Task("t", deadline=deadline, priority=priority), **options)


def test_it_is_a_task_queue():
    """It has the methods of its protocol, and shows its options."""
    assert isinstance(DeadlineQueue(), TaskQueue)
    assert repr(DeadlineQueue(60, 5, 9)) == (
        "DeadlineQueue(default=60, max_queued=5, max_age=9)"
    )


def test_the_earliest_deadline_is_first():
    """Whatever the priorities, and whenever it was submitted."""
    assert due(10) < due(20, priority=9)
    assert due(20) < due(10, now=NOW + 11)


def test_of_one_deadline_the_higher_priority_is_first():
    """And equal keys run in the order of submission."""
    assert due(10, priority=1) < due(10) < due(10, priority=-1)
    assert due(10) == due(10)


def test_without_a_deadline_a_task_comes_last():
    """Among such tasks the priority counts."""
    assert due(1e9) < due(None, priority=9) < due(None)


def test_with_a_default_it_has_its_place():
    """It is placed as if it were due so much later; that bounds its wait."""
    assert due(59) < due(None, default=60) < due(61)
    assert due(None, default=60) < due(1, now=NOW + 60)
    assert due(None, default=0) == (NOW, 0)


@given(st.integers(-(10**6), 10**6), zones)
def test_a_date_stands_where_its_seconds_would(offset, zone):
    """Dates of any zone and seconds from submission are on one clock."""
    date = datetime.fromtimestamp(NOW + offset, UTC).astimezone(zone)

    assert due(date) == (NOW + offset, 0)
    assert due(date) == due(offset)


@given(
    deadlines, st.integers(-5, 5), st.integers(0, 10**6), st.none() | st.integers(0, 99)
)
def test_the_key_depends_on_task_and_submission_only(deadline, priority, now, default):
    """Whatever else changes around it, and however often it is asked."""
    task = Task("t", deadline=deadline, priority=priority)
    queue = DeadlineQueue(default)
    crowd = FakeContext(now=now, view=FakeView(queued=10**6, running=9))

    assert queue.order(task, FakeContext(now=now)) == queue.order(task, crowd)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 30)), max_size=5))
def test_if_any_order_meets_all_deadlines_this_one_does(tasks):
    """The theorem, for tasks of one slot that are all there at the start."""

    def meets_all(order):
        at = 0
        for length, deadline in order:
            at += length
            if at > deadline:
                return False
        return True

    ours = sorted(tasks, key=lambda task: due(task[1]))

    assert meets_all(ours) == any(meets_all(order) for order in permutations(tasks))


def test_a_full_queue_refuses_and_age_goes_with_the_answer():
    """Admission is as in PriorityQueue."""
    queue = DeadlineQueue(max_queued=2, max_age=5)
    last = queue.admit(Task("t"), FakeContext(view=FakeView(queued=1)))
    over = queue.admit(Task("t"), FakeContext(view=FakeView(queued=2)))

    assert (last.admitted, last.max_age) == (True, 5)
    assert over.reason == "2 tasks queued already, and max_queued is 2"
    assert DeadlineQueue().admit(Task("t"), FakeContext()).reusable


@pytest.mark.parametrize(
    "options",
    [
        {"default": -1},
        {"default": float("nan")},
        {"default": True},
        {"max_queued": 0},
        {"max_age": 0},
    ],
)
def test_options_out_of_range_are_refused(options):
    """Each option says what it takes."""
    with pytest.raises(InvalidTaskError, match=next(iter(options))):
        DeadlineQueue(**options)
