"""Capabilities with levels, breakers, and what else is said of agents."""

import pytest

from taskorch import TaskOrchestrator
from taskorch.errors import InvalidTaskError
from taskorch.model import Breaker, Capability, TaskFilter, TaskState
from taskorch.model._fleet import levels_of
from taskorch.model._plain import taken_apart


def test_a_capability_is_a_name_and_a_level():
    assert Capability("test") == "test"
    assert Capability("test", 3) == "test:3"
    assert (Capability("test", 3).name, Capability("test", 3).level) == ("test", 3)
    assert (Capability("test").name, Capability("test").level) == ("test", 1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Capability("a:b"), "without a colon"),
        (lambda: Capability(5), "without a colon"),
        (lambda: Capability("a", 0), "level"),
        (lambda: Capability("a", 10**6), "at most"),
        (lambda: levels_of("test"), "names, or levels"),
        (lambda: levels_of(5), "names, or levels"),
        (lambda: levels_of({"test": 0}), "level"),
    ],
)
def test_what_is_no_capability_is_refused(wrong, words):
    with pytest.raises(InvalidTaskError, match=words):
        wrong()


def test_levels_are_read_from_names_and_from_a_mapping():
    assert levels_of({"test": 3}) == {"test": 3}
    assert levels_of(["test:3", "code"]) == {"test": 3, "code": 1}


@pytest.mark.parametrize(
    "breaker",
    [
        5,
        Breaker(failures=0),
        Breaker(probes=0),
        Breaker(within=0),
        Breaker(open=-1),
        Breaker(most_open=0),
    ],
)
def test_a_breaker_that_cannot_work_is_refused(breaker):
    with pytest.raises(InvalidTaskError, match="breaker"):
        TaskOrchestrator().agent("a", capabilities={"x"}, breaker=breaker)


def test_beside_a_filter_nothing_else_is_said():
    with pytest.raises(InvalidTaskError, match="nothing else"):
        TaskOrchestrator().tasks(TaskFilter(), type="x")


def test_a_state_is_its_name_where_a_value_is_taken_apart():
    assert taken_apart({"state": [TaskState.QUEUED]}) == {"state": ["queued"]}
