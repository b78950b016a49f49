"""The catalogue of events: names, fields, signals and views."""

import copy
import pickle
from typing import Any

import attrs
import pytest

from taskorch import events
from taskorch.events import (
    AT_NS,
    CATALOGUE,
    SEQ,
    SIGNALS,
    TASK_ID,
    VIEWS,
    AttemptReturned,
    AttemptStopping,
    AttemptWaiting,
    Event,
    TaskCompleted,
    TaskEvent,
    TaskRetrying,
    TaskRouted,
    TaskStarted,
    TaskSubmitted,
    TaskTimedOut,
    TaskValidated,
    details_of,
    fields_of,
    make,
    signal_name,
    view_of,
    without_result,
)

STARTED = TaskStarted(7, 1_500_000_000, "t", 2, "a", (("cpu", 1),), "the only one")
SUBMITTED = TaskSubmitted(6, 1, "t", "call", 0, (), None, (), None)


@pytest.mark.parametrize("cls", CATALOGUE, ids=lambda c: c.__name__)
def test_each_class(cls):
    """Frozen, documented, with a schema; exported, and with a signal of its name."""
    assert issubclass(cls, Event)
    assert (cls.__doc__ or "").strip()
    assert cls.schema >= 1
    assert getattr(events, cls.__name__) is cls
    assert SIGNALS[signal_name(cls)] is cls
    assert [f.name for f in attrs.fields(cls)][:2] == ["seq", "at_ns"]
    if issubclass(cls, TaskEvent):
        assert attrs.fields(cls)[2].name == "task_id"
    assert cls in VIEWS
    count = sum(f.init and not f.kw_only for f in attrs.fields(cls))
    fields: Any = range(count)
    made: Any = cls(*fields)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.seq = 2


@pytest.mark.parametrize("cls", CATALOGUE, ids=lambda c: c.__name__)
def test_an_event_is_a_tuple_that_begins_with_its_class(cls):
    """Its fields come behind, in order; whoever has read it as a tuple still can."""
    names = cls.__match_args__
    event = cls(*range(len(names)))
    assert event == (cls, *range(len(names)))
    assert [getattr(event, name) for name in names] == list(range(len(names)))
    assert (event[SEQ], event[AT_NS]) == (event.seq, event.at_ns)
    if issubclass(cls, TaskEvent):
        assert event[TASK_ID] == event.task_id
    assert fields_of(event) == attrs.asdict(event, filter=lambda f, _: not f.kw_only)
    for copied in (
        copy.copy(event),
        pickle.loads(pickle.dumps(event)),
        make(tuple(event)),
    ):
        assert type(copied) is cls
        assert copied == event
        assert hash(copied) == hash(event)
        assert repr(copied) == repr(event)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        del event.seq


def test_events_of_two_classes_are_never_equal():
    """Even if all their fields are."""
    assert AttemptWaiting(1, 2, "t", 3) != AttemptReturned(1, 2, "t", 3)


def test_what_an_event_leaves_out_is_as_usual():
    """By the class alone: also of the plain tuple that somebody has kept of it."""
    least = TaskSubmitted(6, 1, "t", "call", 0)
    assert least.join == "all"
    assert make((TaskSubmitted, 6, 1, "t", "call", 0)) == least
    assert details_of(least.__replace__(owner="ann")) == {
        "task_id": "t", "type": "call", "priority": 0, "owner": "ann"
    }  # fmt: skip
    with pytest.raises(TypeError, match="priority"):
        TaskSubmitted(6, 1, "t", "call")  # type: ignore[call-arg]


def test_all_classes_are_in_the_catalogue():
    """What is exported and is an event is listed."""
    found = {
        c for c in vars(events).values()
        if isinstance(c, type) and issubclass(c, Event)
    }  # fmt: skip
    assert found == {Event, TaskEvent, *CATALOGUE}
    assert len(SIGNALS) == len(CATALOGUE)


def test_names_of_signals():
    """Snake case."""
    assert signal_name(TaskCompleted) == "task_completed"


def test_fields():
    """They have names, and the times are also in seconds."""
    event = STARTED
    assert (event.seq, event.task_id, event.attempt, event.agent_id) == (7, "t", 2, "a")
    assert event.at == 1.5
    assert event.timestamp.isoformat() == "1970-01-01T00:00:01.500000+00:00"


def test_views():
    """Some events have another one within, which shares their number."""
    assert view_of(TaskStarted, STARTED) is STARTED
    assert view_of(TaskRouted, STARTED) == TaskRouted(
        7, 1_500_000_000, "t", 2, "a", "the only one"
    )
    assert view_of(TaskValidated, SUBMITTED) == TaskValidated(6, 1, "t", "call")
    assert view_of(TaskValidated, STARTED) is None


@pytest.mark.parametrize("why", ["timeout", "deadline", "cancel", "suspend"])
def test_a_view_that_is_there_sometimes(why):
    """Only an attempt that is out of time has timed out."""
    event = AttemptStopping(1, 2, "t", 3, why, "because")
    view = view_of(TaskTimedOut, event)
    if why in ("timeout", "deadline"):
        assert view == TaskTimedOut(1, 2, "t", 3, why)
    else:
        assert view is None


def test_durations():
    """Nanoseconds inside, seconds outside; a result is fetched when asked for."""
    done = TaskCompleted(1, 2, "t", 1, "a", 1_500_000)
    assert (done.latency, done.latency_ms) == (0.0015, 1.5)
    assert done.result is None
    answer = TaskCompleted(1, 2, "t", 1, "a", 0, load=lambda: 42)
    assert answer.result == done.with_result(lambda: 42).result == 42
    assert pickle.loads(pickle.dumps(answer)).result == 42
    assert without_result(answer) == answer
    assert without_result(answer).result is None
    assert copy.copy(answer).result == attrs.evolve(answer, attempt=2).result == 42
    assert answer == TaskCompleted(1, 2, "t", 1, "a", 0)
    again = TaskRetrying(1, 2, "t", 1, "a", "E", "m", "error", 2_000_000_000, True)
    assert again.delay == 2
