"""Matchers for events, and the assertion over lists of them."""

from __future__ import annotations

import itertools
from unittest.mock import ANY

import pytest
from hypothesis import given, strategies as st

from taskorch.events import (
    Event,
    SlotLeaked,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskRetrying,
    TaskRouted,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.testing._matchers import assert_events, event, matching

SUBMITTED = TaskSubmitted(1, 10, "a", "build", 0)
ROUTED = TaskRouted(2, 20, "a", 1, "slow", "idle")
STARTED = TaskStarted(2, 20, "a", 1, "slow")
RETRYING = TaskRetrying(
    3, 30, "a", 1, "slow", "OSError", "disk 7 is full", "error", 1_500_000_000, True
)
COMPLETED = TaskCompleted(4, 40, "a", 2, "slow", 5, load=lambda: [1, 2])
FAILED = TaskFailed(5, 50, "b", 1, None, "ValueError", "no", "error")
STORY = [SUBMITTED, ROUTED, STARTED, RETRYING, COMPLETED]


def is_even(n):
    return n % 2 == 0


def failure(events, expected, order="strict"):
    with pytest.raises(AssertionError) as caught:
        assert_events(events, expected, order=order)
    return str(caught.value)


# -- one matcher -------------------------------------------------------------------


def test_a_matcher_differs_from_another_class_or_another_field():
    assert event(TaskStarted, task_id="a") != ROUTED
    left, right = STARTED, event(TaskStarted, task_id="b")
    assert left != right
    assert event(TaskStarted) != "TaskStarted"


def test_a_field_without_a_class_must_be_there():
    """Anything at all will do for ANY, but not nothing."""
    assert event(agent_id=ANY) == STARTED
    assert event(agent_id=ANY) != SUBMITTED


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (1.5, True),
        (pytest.approx(1.5000001), True),
        (pytest.approx(1.6), False),
        (float, True),
        (int, False),
        (lambda seconds: seconds < 2, True),
        (lambda seconds: seconds > 2, False),
    ],
)
def test_a_value_an_answer_a_class_or_a_predicate_may_stand_for_a_field(
    wanted, matches
):
    assert (event(TaskRetrying, delay=wanted) == RETRYING) is matches


def test_a_text_is_matched_by_a_pattern_that_is_found_in_it():
    assert event(message=matching(r"disk \d")) == RETRYING
    assert event(message=matching(r"^\d")) != RETRYING
    assert matching("x") != 3
    assert TaskCancelled(1, 2, "a", "x") == event(reason=matching("x"))


def test_a_matcher_looks_as_it_was_written():
    """So the difference that pytest shows can be read."""
    shown = repr(event(TaskStarted, task_id="a", attempt=is_even, agent_id=str))

    assert shown == "event(TaskStarted, task_id='a', attempt=is_even, agent_id=str)"
    assert repr(event(message=matching("^a"))) == "event(message=matching('^a'))"
    assert repr(event()) == "event()"


def test_a_field_that_no_such_event_has_is_refused():
    """A slip of the pen would else match nothing, which `not in` takes for good."""
    with pytest.raises(TypeError, match=r"TaskStarted has no field 'taskid'.*task_id"):
        event(TaskStarted, taskid="a")
    with pytest.raises(TypeError, match="no field 'colour'"):
        event(colour="red")
    with pytest.raises(TypeError, match="no field 'schema'"):
        event(TaskStarted, schema=1)


@pytest.mark.parametrize("cls", [int, "TaskStarted", None])
def test_only_classes_of_events_are_matched(cls):
    with pytest.raises(TypeError, match="class of events"):
        event(cls)


@pytest.mark.parametrize("made", [event(), matching("")])
def test_what_equals_many_has_no_hash(made):
    with pytest.raises(TypeError, match="unhashable"):
        hash(made)


# -- lists -------------------------------------------------------------------------


def test_strict_means_these_and_no_others():
    expected = [TaskSubmitted, TaskRouted, STARTED, event(attempt=1), TaskCompleted]

    assert_events(STORY, expected)
    failure(STORY, expected[:-1])
    failure(STORY[:-1], expected)
    failure(STORY[::-1], expected)


def test_a_subsequence_may_have_others_between():
    assert_events(STORY, [TaskSubmitted, TaskStarted], order="subsequence")
    assert_events(STORY, [], order="subsequence")
    failure(STORY, [TaskStarted, TaskSubmitted], "subsequence")


def test_any_means_in_any_order():
    assert_events(STORY, [TaskStarted, TaskSubmitted], order="any")
    failure(STORY, [TaskStarted, TaskStarted], "any")


def test_an_event_is_given_to_the_expectation_that_has_no_other():
    """The first expectation takes none that a later one cannot do without."""
    expected = [event(), event(attempt=ANY), event(attempt=1), TaskRouted]

    for some in itertools.permutations(expected):
        assert_events([ROUTED, STARTED, SUBMITTED, RETRYING], some, order="any")


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="'sorted' is none of 'strict'"):
        assert_events([], [], order="sorted")


stories = st.lists(st.sampled_from([*STORY, FAILED]), max_size=6)


@given(stories, stories)
def test_the_orders_mean_what_they_say(events, expected):
    """Each agrees with its plainest definition."""

    def passes(order):
        try:
            assert_events(events, expected, order=order)
        except AssertionError:
            return False
        return True

    left = iter(events)
    spare = list(events)
    found = [spare.remove(e) for e in expected if e in spare]

    assert passes("strict") == (events == expected)
    assert passes("subsequence") == all(e in left for e in expected)
    assert passes("any") == (len(found) == len(expected))


matchers = st.lists(
    st.builds(
        lambda cls, fields: event(cls, **fields),
        st.sampled_from([Event, TaskEvent]),
        st.dictionaries(
            st.sampled_from(["task_id", "attempt", "seq"]),
            st.sampled_from(["a", 1, 2, ANY]),
            max_size=2,
        ),
    ),
    max_size=5,
)


@given(stories, matchers)
def test_in_any_order_all_is_given_that_can_be(events, expected):
    """Overlapping expectations are met whenever there is a way to do it."""
    possible = any(
        all(map(lambda a, b: a == b, expected, some))
        for some in itertools.permutations(events, len(expected))
    )

    try:
        assert_events(events, expected, order="any")
    except AssertionError:
        assert not possible
    else:
        assert possible


# -- what a failure says -----------------------------------------------------------


def test_the_nearest_of_another_class_is_named_as_such():
    text = failure([SUBMITTED, FAILED], [event(TaskStarted, task_id="b")], "any")

    assert "nearest is 1: TaskFailed(" in text
    assert "it is a TaskFailed" in text


def test_a_whole_event_is_compared_field_by_field():
    text = failure([STARTED], [TaskStarted(2, 21, "a", 1, "slow")])

    assert "      at_ns is 20, not 21" in text.splitlines()


def test_a_predicate_that_fails_or_raises_is_named():
    assert "attempt is 1, not is_even" in failure(
        [STARTED], [event(TaskStarted, attempt=is_even)]
    )
    text = failure(
        [STARTED, SUBMITTED],
        [event(TaskSubmitted), event(TaskStarted, agent_id=lambda name: name.x)],
    )
    assert "agent_id is 'slow', not <lambda> (AttributeError: " in text


def test_long_runs_are_shortened():
    """A thousand events of no concern do not hide the one that is."""
    text = failure([STARTED] * 1_000, [TaskSubmitted], "subsequence")

    assert "… 994 more …" in text
    assert len(text.splitlines()) < 15


def test_a_long_failure_is_bounded():
    """Ten thousand against ten thousand is told in a page, and at once."""
    events, expected = [STARTED] * 10_000, [event(TaskStarted, attempt=2)] * 10_000

    lines = failure([SUBMITTED, *events], [SUBMITTED, *expected]).splitlines()

    assert lines[-1] == "… and so on"
    assert len(lines) < 130


def test_an_expectation_that_is_no_event_matches_none():
    assert "  - 7 " in failure([STARTED], [7], "any")


def test_defaults_and_numbers_are_left_out_of_what_is_shown():
    text = failure([SlotLeaked(9, 8, "a", 1, "slow")], [])

    assert "0: SlotLeaked(task_id='a', attempt=1, agent_id='slow')" in text
    assert "x" * 50 not in failure([TaskCancelled(1, 2, "a", "x" * 5_000)], [])


def test_the_traceback_ends_where_the_assertion_stands():
    with pytest.raises(AssertionError) as caught:
        assert_events([], [TaskStarted])

    assert caught.traceback[-1].frame.f_locals["__tracebackhide__"] is True


@pytest.mark.parametrize(
    ("events", "expected", "why"),
    [
        (5, [], "^events is a list, .* not 5"),
        ([], event(TaskStarted), "^expected is a list, .* not event"),
        ([], TaskStarted, "^expected is a list"),
        ([TaskStarted], [], "^events are what happened, .* not <class"),
    ],
)
def test_what_is_no_list_of_events_is_refused(events, expected, why):
    with pytest.raises(TypeError, match=why):
        assert_events(events, expected)
