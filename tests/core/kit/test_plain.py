"""Values as JSON can say them: any value is said, and nothing that it raises comes out."""

from __future__ import annotations

import json
from enum import StrEnum

import attrs
import pytest
from hypothesis import given, strategies as st
from tests.house.hostile import VALUES

from taskorch.kit.plain import fields_of, plain, pythons, taken_apart

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
)
LEAVES |= st.complex_numbers() | st.dates() | st.datetimes()


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
