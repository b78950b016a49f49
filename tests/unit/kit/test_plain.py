"""Values as JSON can say them: any value is said, and nothing that it raises comes out."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from enum import StrEnum

import attrs
import pytest
from hypothesis import given, strategies as st
from tests.hostile import VALUES

from taskorch.kit.plain import fields_of, plain, pythons, read_plain, taken_apart

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
)
LEAVES |= st.complex_numbers() | st.dates() | st.datetimes()
VALUES_OF_ALL_KINDS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.sets(st.integers())
    ),
    max_leaves=12,
)


@given(VALUES_OF_ALL_KINDS)
def test_json_has_every_value(value):
    said = plain(value)
    json.dumps(said, allow_nan=False)
    assert plain(said) == said
    assert read_plain(value) == said


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(JSON)
def test_what_json_has_stays_as_it_is(value):
    assert plain(value) == value
    assert taken_apart(value) == value


def test_a_value_that_raises_is_shown_and_what_is_beside_it_stays():
    for name, make in VALUES.items():
        value = make()
        said = plain({"before": 1, "it": value, "after": [2]})
        json.dumps(said, allow_nan=False)
        assert (said["before"], said["after"]) == (1, [2]), name
        taken_apart(value)


def test_what_is_in_itself_and_what_is_deep_ends():
    ring: list[object] = []
    ring.append(ring)
    json.dumps(plain(ring))
    taken_apart(ring)
    deep: object = 0
    for _ in range(5_000):
        deep = [deep]
    json.dumps(plain(deep))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.inf, "inf"),
        (date(2030, 1, 31), "2030-01-31"),
        (datetime(2030, 1, 31, tzinfo=UTC), "2030-01-31T00:00:00+00:00"),
        ((1, 2), [1, 2]),
        ({1: 2}, {"1": 2}),
        (10**5_000, hex(10**5_000)),
    ],
    ids=["infinity", "date", "moment", "tuple", "names", "digits"],
)
def test_others_are_texts(value, said):
    assert plain(value) == said


class Colour(StrEnum):
    RED = "red"


@attrs.frozen
class Point:
    x: int
    y: int = 0
    _hidden: int = 1
    colour: Colour = Colour.RED


def test_a_value_with_fields_is_taken_apart():
    assert fields_of(Point(1)) == {"x": 1, "y": 0, "colour": "red"}
    assert fields_of(Point(1, 2), whole=False) == {"x": 1, "y": 2}
    whole = taken_apart({"points": [Point(1), (Point(2),)], "n": 3})
    point = {"y": 0, "colour": "red"}
    assert whole == {"points": [{"x": 1, **point}, [{"x": 2, **point}]], "n": 3}
    assert type(whole["points"][0]["colour"]) is str


def test_an_error_is_not_taken_apart():
    error = ValueError("x")
    assert taken_apart(error) is error


def test_numbers_of_numpy_are_pythons():
    numpy = pytest.importorskip("numpy")
    assert plain([numpy.float64(0.5), numpy.int32(2), numpy.bool_(True)]) == [
        0.5,
        2,
        True,
    ]
    duration = numpy.timedelta64(1, "s")
    assert pythons(duration) is duration
