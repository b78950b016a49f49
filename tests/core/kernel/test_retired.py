"""What is known of tasks that have left memory: how each ended, as in a dict."""

import sys

import pytest
from hypothesis import given, strategies as st
from tests.core.kernel.harness import S

from taskorch.core.kernel._state import Evicted

STATES = (S.COMPLETED, S.FAILED, S.CANCELLED)
#: Ids as a driver makes them, in two incarnations; what looks like one, and is none.
OWN = st.builds("{}-{}".format, st.sampled_from(["3f", "a-b"]), st.integers(0, 40))
LIKE = st.sampled_from(
    [
        "3f-007",
        "3f-1_0",
        "3f- 1",
        "3f-+1",
        "3f--1",
        "3f-٣",
        "3f-1~2",
        "3f-",
        "3f",
        "7",
        "-7",
    ]
)


@given(
    st.lists(st.tuples(OWN | LIKE, st.sampled_from(STATES), st.booleans())), OWN | LIKE
)
def test_it_is_a_dict_of_states(ended, other):
    """Whatever ends, in any order; of some, the name is of the user's choice."""
    evicted, expected = Evicted(), {}
    for task_id, state, named in ended:
        if task_id not in expected:
            is_own = task_id.rpartition("-")[2] in map(str, range(41))
            evicted.add(task_id, state, named=named or not is_own)
            expected[task_id] = state
    assert dict(evicted.items()) == expected
    assert len(evicted) == len(expected)
    for task_id in [*expected, other]:
        assert evicted.get(task_id) is expected.get(task_id)
        assert (task_id in evicted) == (task_id in expected)
        assert evicted.isdisjoint([task_id]) == (task_id not in expected)
    assert evicted.isdisjoint([])
    assert evicted.isdisjoint([None])
    assert evicted.isdisjoint(["new", None, *expected]) == (not expected)


@given(
    st.lists(st.tuples(OWN | LIKE, st.sampled_from(STATES), st.booleans())),
    st.lists(OWN | LIKE),
    st.data(),
)
def test_what_is_forgotten_is_as_if_it_had_never_been(ended, others, data):
    """Whichever it is, and whether it has ever ended."""
    evicted, expected = Evicted(), {}
    for task_id, state, named in ended:
        if task_id not in expected:
            is_own = task_id.rpartition("-")[2] in map(str, range(41))
            evicted.add(task_id, state, named=named or not is_own)
            expected[task_id] = state
    some = data.draw(st.lists(st.sampled_from([*expected]))) if expected else []
    for task_id in [*some, *others]:
        evicted.discard(task_id)
        expected.pop(task_id, None)
        assert task_id not in evicted
    assert dict(evicted.items()) == expected
    assert len(evicted) == len(expected)


def test_a_number_takes_a_byte():
    """Nothing that is a thousand numbers long grows by an object for each."""
    evicted = Evicted()
    for number in range(100_000):
        evicted.add(f"3f-{number}", S.COMPLETED, named=False)
    assert evicted.by_id == {}
    (series,) = evicted._series.values()
    assert sys.getsizeof(series) < 150_000
    assert evicted.isdisjoint(["3f-100000", "3f-x", "new"])
    assert not evicted.isdisjoint(["3f-100000", "3f-99999"])


def test_the_ends_of_a_series():
    """The first number may be 0; what is asked for may be just behind the last."""
    evicted = Evicted()
    evicted.add("3f-0", S.FAILED, named=False)
    assert evicted.get("3f-0") is S.FAILED
    assert evicted.by_id == {}
    for number in range(1, 3_000):
        assert evicted.get(f"3f-{number}") is None
    for other in ("3f-x", "3f-00", "3f--1", "3f-0~2"):
        assert evicted.get(other) is None


def test_a_name_of_the_users_choice_is_in_the_dict():
    """There is no saying what numbers come next, or with how many stems."""
    evicted = Evicted()
    evicted.add("invoice-1000000000", S.FAILED, named=True)
    evicted.add("3f-1~2", S.FAILED, named=False)
    assert [*evicted.by_id] == ["invoice-1000000000", "3f-1~2"]


@pytest.mark.parametrize("task_id", [None, 5, ("3f-1",), ["3f-1"]])
def test_what_is_no_id_is_not_there(task_id):
    """Nor is it an error to ask."""
    evicted = Evicted()
    evicted.add("3f-1", S.COMPLETED, named=False)
    assert evicted.get(task_id) is None
    assert task_id not in evicted


def test_what_is_known_already_is_not_said_anew():
    """A journal that is asked may tell of a task of this incarnation, too."""
    evicted = Evicted()
    evicted.add("3f-1", S.COMPLETED, named=False)
    evicted.update([("3f-1", S.COMPLETED), ("3f-2", S.FAILED)])
    assert dict(evicted.items()) == {"3f-1": S.COMPLETED, "3f-2": S.FAILED}
    assert len(evicted) == 2
