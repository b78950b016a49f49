"""Elastic requests: what may be said of one, and what is refused."""

from __future__ import annotations

import math

import pytest

from taskorch import Elastic, Resources, Task, TaskOrchestrator
from taskorch.errors import InvalidTaskError

FULL = Elastic(
    Resources(cpu=8, memory_mb=1024),
    min={"cpu": 2},
    weight=1.5,
    fallback="all_or_nothing",
)


def test_it_is_shown_as_it_is_written():
    assert repr(Elastic({"cpu": 8})) == "Elastic(Resources(cpu=8))"
    assert repr(FULL) == (
        "Elastic(Resources(cpu=8, memory_mb=1024), min=Resources(cpu=2), weight=1.5, "
        "fallback='all_or_nothing')"
    )


def test_what_is_added_is_asked_for_too():
    more = FULL + Resources(licence=1)

    assert isinstance(more, Elastic)
    assert more["licence"] == 1
    assert (more.min, more.weight, more.fallback) == (
        FULL.min,
        FULL.weight,
        FULL.fallback,
    )


def test_a_task_takes_it_as_its_resources():
    assert Task("t", resources=FULL).resources is FULL


@pytest.mark.parametrize(
    ("args", "options", "said"),
    [
        (({},), {}, "asks for nothing"),
        ((7,), {}, r"Elastic\(resources\): a mapping of names"),
        (({"cpu": -1},), {}, "'cpu'.*-1 is not between"),
        (({"cpu": math.nan},), {}, "'cpu'.*nan"),
        ((FULL,), {}, "is a request of a task"),
        (({"cpu": 4},), {"min": {"gpu": 1}}, "1 gpu, and the request has no gpu"),
        (({"cpu": 4},), {"min": {"cpu": 5}}, "min is 5 cpu, more than the 4"),
        (({"cpu": 4},), {"min": 2}, "min: a mapping of names"),
        (({"cpu": 4},), {"weight": 0}, "weight is a number from 0.000001"),
        (({"cpu": 4},), {"weight": -1}, "weight is a number from 0.000001"),
        (({"cpu": 4},), {"weight": math.nan}, "not nan"),
        (({"cpu": 4},), {"weight": math.inf}, "not inf"),
        (({"cpu": 4},), {"weight": 1e9}, "to 1,000,000"),
        (({"cpu": 4},), {"weight": True}, "not True"),
        (({"cpu": 4},), {"weight": "2"}, "not '2'"),
        (({"cpu": 4},), {"fallback": "wait"}, "'best_effort' or 'all_or_nothing'"),
    ],
)
def test_what_makes_no_sense_is_refused(args, options, said):
    with pytest.raises(InvalidTaskError, match=said):
        Elastic(*args, **options)


def test_a_refused_least_says_what_to_do():
    with pytest.raises(InvalidTaskError) as caught:
        Elastic({"cpu": 4}, min={"gpu": 1})
    assert caught.value.hint == "ask for gpu in the resources, or leave it out of min"
    with pytest.raises(InvalidTaskError) as caught:
        Elastic({"cpu": 4}, min={"cpu": 5})
    assert caught.value.hint == "a min of cpu up to 4"


def test_only_a_task_can_ask_like_that():
    """Neither a pool nor a worker has some part of an amount."""
    with pytest.raises(InvalidTaskError, match="is a request of a task"):
        TaskOrchestrator(resources=FULL)
    for what in ("capacity", "request"):
        with pytest.raises(
            InvalidTaskError, match=f"{what}: .* is a request of a task"
        ):
            TaskOrchestrator().agent("a", **{what: FULL})(print)
