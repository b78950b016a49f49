"""DeadlineQueue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import permutations

from hypothesis import given, strategies as st
from tests.core.policies.fakes import FakeContext

from taskorch.model import Task
from taskorch.policies import DeadlineQueue
from taskorch.protocols import TaskQueue

NOW = 1_700_000_000.0
zones = st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))


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


@given(st.integers(-(10**6), 10**6), zones)
def test_a_date_stands_where_its_seconds_would(offset, zone):
    """Dates of any zone and seconds from submission are on one clock."""
    date = datetime.fromtimestamp(NOW + offset, UTC).astimezone(zone)

    assert due(date) == (NOW + offset, 0)
    assert due(date) == due(offset)


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
