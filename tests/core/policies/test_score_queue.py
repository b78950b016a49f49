"""ScoreQueue."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from tests.core.policies.fakes import FakeContext

from taskorch.errors import InvalidTaskError
from taskorch.model import Task
from taskorch.policies import ScoreQueue
from taskorch.protocols import TaskQueue

WEIGHTS = {"reward_signal": 600, "objective_complexity": -60, "resource_pressure": -120}
NOW = 1_700_000_000.0
objectives = st.dictionaries(st.sampled_from([*WEIGHTS, "else"]), st.floats(0, 1))


def key(metadata=None, now=NOW, priority=0, **options):
    task = Task("t", metadata=metadata, priority=priority)
    order = ScoreQueue(WEIGHTS, **options).order(task, FakeContext(now=now))
    assert (order.aging, order.reusable) == (None, False)
    return order.key


def test_it_is_a_task_queue():
    assert isinstance(ScoreQueue({}), TaskQueue)
    assert repr(ScoreQueue({"a": 1}, 2, 3, 4)) == (
        "ScoreQueue({'a': 1}, aging=2, max_queued=3, max_age=4)"
    )


def test_objectives_are_weighed_against_each_other_and_against_age():
    assert key() == key({"else": "anything"}) == key({"reward_signal": 0}) == NOW
    assert key({"reward_signal": 0.5}) == NOW - 300
    both = {"reward_signal": 0.5, "objective_complexity": 1, "resource_pressure": 0.5}
    assert key(both) == NOW - 300 + 60 + 60
    assert key(now=NOW - 299) > key({"reward_signal": 0.5}) > key(now=NOW - 301)


def test_priority_counts_as_in_the_default():
    assert key(priority=2) == NOW - 120
    assert key(priority=2, aging=0) == NOW


@given(objectives, objectives, st.integers(-3, 3), st.integers(-3, 3))
def test_scores_differ_by_no_more_than_the_spread(one, other, first, second):
    queue = ScoreQueue(WEIGHTS)
    assert queue.spread == 780
    difference = key(one, priority=first) - key(other, priority=second)
    most = queue.spread + 60 * abs(first - second)
    assert abs(difference) <= most + 1e-5


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True, "1", None, 10**400])
def test_an_objective_is_a_number_from_0_to_1(value):
    with pytest.raises(InvalidTaskError, match=r"metadata\['reward_signal'\] is a num"):
        key({"reward_signal": value})


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"weights": None}, "weights is a mapping of names to seconds, not None"),
        ({"weights": ["a"]}, "weights is a mapping"),
        ({"weights": {1: 1}}, "weights: the name of an objective is a text, not 1"),
        ({"weights": {"a": "1"}}, r"weights\['a'\] is a number of seconds, not '1'"),
        ({"weights": {"a": True}}, "not True"),
        ({"weights": {"a": float("nan")}}, "not nan"),
        ({"weights": {"a": float("inf")}}, "not inf"),
        ({"weights": {}, "aging": -1}, "aging"),
        ({"weights": {}, "max_queued": 0}, "max_queued"),
        ({"weights": {}, "max_age": 0}, "max_age"),
    ],
)
def test_options_out_of_range_are_refused(options, why):
    with pytest.raises(InvalidTaskError, match=why):
        ScoreQueue(**options)
