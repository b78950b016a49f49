"""Capabilities with levels, breakers, and what else is said of workers."""

import pytest

from taskorch import TaskOrchestrator
from taskorch.errors import InvalidTaskError
from taskorch.kit.plain import taken_apart
from taskorch.model import Agent, Breaker, Capability, TaskFilter, TaskState
from taskorch.model._agent import level_names, levels_of


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
        (lambda: Agent("a", capacity=3), "capacity: Resources or None, not 3"),
    ],
)
def test_what_is_no_capability_is_refused(wrong, words):
    with pytest.raises(InvalidTaskError, match=words):
        wrong()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("test:hgih", "level is a number from 1 to 100, not 'hgih'"),
        ("test:-3", "not '-3'"),
        ("test:0", "level"),
        ("test:101", "at most 100"),
        ("test:", "not ''"),
        ("test: 2", "not ' 2'"),
        ("test:2.0", "not '2.0'"),
        ("test:\N{ARABIC-INDIC DIGIT THREE}", "a number"),
        (f"test:{'9' * 5_000}", "a number"),
        ("test:2:3", "not '2:3'"),
        (":2", "without a colon, not ''"),
        ("", "without a colon, not ''"),
        (5, "without a colon, not 5"),
        (None, "without a colon, not None"),
    ],
)
def test_a_level_that_is_none_is_refused_wherever_it_is_said(name, words):
    workers = TaskOrchestrator().agents
    workers.template("t", capabilities=["test"], handler=print)
    for use in (
        lambda: levels_of([name]),
        lambda: workers.template("u", capabilities=["code", name], handler=print),
        lambda: workers.spawn("t", {"capabilities": [name]}),
        lambda: workers.match(["code", name]),
        lambda: workers.provision_new_agent([name]),
    ):
        with pytest.raises(InvalidTaskError, match=words):
            use()
    assert [one.id for one in workers.list()] == ["local"]


def test_levels_are_read_as_they_are_written():
    for level in range(1, 101):
        names = level_names({"test": level})
        assert levels_of(names) == levels_of({"test": level}) == {"test": level}
    assert levels_of(["test:2", "test", "test:1"]) == {"test": 2}


def test_a_worker_may_come_with_names_that_are_no_levels():
    """They are shown as they are, and are matched whole."""
    orch = TaskOrchestrator()
    names = {"worker:cpu", "worker:gpu", "x:0", "test", "test:2"}
    orch.agent("a", capabilities=names, max_concurrency=1)(lambda task, context: None)
    orch.agent("b", capabilities={"worker:io"})(lambda task, context: None)
    levels = {one.id: dict(one.capabilities) for one in orch.agents.list()}
    assert levels["a"] == {"worker:cpu": 1, "worker:gpu": 1, "x:0": 1, "test": 2}

    def matches(*requirements):
        return [one.agent.id for one in orch.agents.match(requirements) if one.matches]

    assert matches("worker:cpu", "test:2") == ["a"]
    assert matches("worker:io") == ["b"]
    assert matches("worker:io", "test") == matches("test:3") == []
    assert orch.agents.provision_new_agent(["worker:io", "worker:gpu"]) is None
    with pytest.raises(InvalidTaskError, match="did you mean 'worker:cpu'"):
        orch.agents.match(["worker:cqu"])


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
