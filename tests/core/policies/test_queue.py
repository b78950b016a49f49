"""PriorityQueue and FifoQueue."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from tests.core.policies.fakes import FakeContext

from taskorch.errors import InvalidTaskError
from taskorch.model import Task
from taskorch.policies import FifoQueue, PriorityQueue
from taskorch.protocols import TaskQueue

TASK = Task("t")
times = st.integers(0, 10_000)
levels = st.integers(-5, 5)


def key(queue, submitted, priority):
    """The key that the rule stands for; see the docstring of `Order`."""
    task = Task("t", priority=priority)
    order = queue.order(task, FakeContext(now=submitted))
    assert (order.key, order.reusable) == (None, PriorityQueue)
    return submitted - priority * order.aging


@pytest.mark.parametrize("queue", [PriorityQueue(), FifoQueue()])
def test_they_are_task_queues(queue):
    """Both have the methods of the protocol, and the rule holds for every task."""
    assert isinstance(queue, TaskQueue)
    assert queue.order(TASK, FakeContext()).reusable


def test_they_show_their_options():
    """A queue in a message can be told from another."""
    assert repr(PriorityQueue(30, max_age=9)) == (
        "PriorityQueue(aging=30, max_queued=None, max_age=9)"
    )
    assert repr(FifoQueue(5)) == "FifoQueue(max_queued=5, max_age=None)"


def test_a_level_is_worth_a_minute():
    """By default one level of priority overtakes a minute of waiting, and no more."""
    queue = PriorityQueue()

    assert key(queue, 59, 1) < key(queue, 0, 0) < key(queue, 61, 1)


@given(st.integers(0, 600), times, times, levels, levels)
def test_aging_bounds_who_may_overtake(aging, first, later, low, high):
    """A younger task overtakes only within `aging` seconds a level of difference."""
    first, later = sorted((first, later))
    queue = PriorityQueue(aging)
    overtakes = key(queue, later, high) < key(queue, first, low)

    assert overtakes == (later - first < (high - low) * aging)


@given(st.integers(0, 600), times, levels, levels)
def test_at_one_instant_the_higher_priority_is_never_later(aging, at, low, high):
    """What was submitted together runs in the order of priority."""
    low, high = sorted((low, high))

    assert key(PriorityQueue(aging), at, high) <= key(PriorityQueue(aging), at, low)


@pytest.mark.parametrize(
    "options",
    [
        {"aging": -1},
        {"aging": float("nan")},
        {"aging": True},
        {"max_queued": 0},
        {"max_queued": True},
        {"max_queued": 1.0},
        {"max_age": 0},
        {"max_age": "1"},
    ],
)
def test_options_out_of_range_are_refused(options):
    """Each option says what it takes."""
    with pytest.raises(InvalidTaskError, match=next(iter(options))):
        PriorityQueue(**options)
