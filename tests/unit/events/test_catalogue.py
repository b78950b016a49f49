"""The catalogue of facts: names, fields, signals and views."""

from typing import Any

import attrs
import pytest

from taskorch import events
from taskorch.events import (
    AT_NS,
    CATALOGUE,
    CLS,
    SEQ,
    SIGNALS,
    TASK_ID,
    VIEWS,
    AttemptStopping,
    Event,
    TaskCompleted,
    TaskEvent,
    TaskRetrying,
    TaskRouted,
    TaskStarted,
    TaskSubmitted,
    TaskTimedOut,
    TaskValidated,
    make,
    place_of,
    signal_name,
    view_of,
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
def test_the_places_of_fields(cls):
    """They are where `make` takes them from."""
    names = [f.name for f in attrs.fields(cls) if not f.kw_only]
    fact = (cls, *range(len(names)))
    event = make(fact)
    assert [fact[place_of(cls, name)] for name in names] == list(range(len(names)))
    assert [getattr(event, name) for name in names] == list(range(len(names)))
    assert (fact[CLS], fact[SEQ], fact[AT_NS]) == (cls, event.seq, event.at_ns)
    if issubclass(cls, TaskEvent):
        assert fact[TASK_ID] == event.task_id


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


def test_make():
    """A fact becomes an instance when somebody reads it."""
    event = make(STARTED)
    assert isinstance(event, TaskStarted)
    assert (event.seq, event.task_id, event.attempt, event.agent_id) == (7, "t", 2, "a")
    assert event.at == 1.5
    assert event.timestamp.isoformat() == "1970-01-01T00:00:01.500000+00:00"


@pytest.mark.parametrize("cls", [TaskSubmitted, TaskStarted])
def test_those_that_are_made_in_another_way_are_the_same(cls):
    """However much of the fact is left to the defaults."""
    fields = attrs.fields(cls)
    least = sum(field.default is attrs.NOTHING for field in fields)
    for count in range(least, len(fields) + 1):
        values = [f"value {n}" for n in range(count)]
        made, right = make((cls, *values)), cls(*values)
        assert type(made) is cls
        assert made == right
        assert hash(made) == hash(right)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            made.seq = 2


def test_views():
    """Some facts contain another event, which shares their number."""
    assert view_of(TaskStarted, STARTED) == make(STARTED)
    assert view_of(TaskRouted, STARTED) == TaskRouted(
        7, 1_500_000_000, "t", 2, "a", "the only one"
    )
    assert view_of(TaskValidated, SUBMITTED) == TaskValidated(6, 1, "t", "call")
    assert view_of(TaskValidated, STARTED) is None


@pytest.mark.parametrize("why", ["timeout", "deadline", "cancel", "suspend"])
def test_a_view_that_is_there_sometimes(why):
    """Only an attempt that is out of time has timed out."""
    fact = AttemptStopping(1, 2, "t", 3, why, "because")
    view = view_of(TaskTimedOut, fact)
    if why in ("timeout", "deadline"):
        assert view == TaskTimedOut(1, 2, "t", 3, why)
    else:
        assert view is None


def test_durations():
    """Nanoseconds inside, seconds outside; a result is fetched when asked for."""
    done = TaskCompleted(1, 2, "t", 1, "a", 1_500_000)
    assert (done.latency, done.latency_ms) == (0.0015, 1.5)
    assert done.result is None
    assert TaskCompleted(1, 2, "t", 1, "a", 0, load=lambda: 42).result == 42
    again = TaskRetrying(1, 2, "t", 1, "a", "E", "m", "error", 2_000_000_000, True)
    assert again.delay == 2
