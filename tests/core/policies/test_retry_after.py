"""When an error asks to be tried again."""

from __future__ import annotations

from email.utils import formatdate
from types import SimpleNamespace

import pytest
from hypothesis import given, strategies as st

from taskorch.policies._retry import retry_after

NOW = 1_700_000_000.0
HUNDRED_YEARS = 100 * 365.25 * 86_400


def error(**attributes):
    made = ValueError("busy")
    made.__dict__.update(attributes)
    return made


def headers(value):
    return SimpleNamespace(headers={"Retry-After": value})


@pytest.mark.parametrize(
    ("value", "asked"),
    [
        (5, 5.0),
        (0, 0.0),
        (2.5, 2.5),
        ("120", 120.0),
        (" 1.5 ", 1.5),
        (1e300, HUNDRED_YEARS),
        (10**400, HUNDRED_YEARS),
        ("1e300", HUNDRED_YEARS),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tuesday, 14-Nov-23 22:13:50 GMT", 30.0),
        ("Tue Nov 14 22:13:50 2023", 30.0),
        ("Tue, 14 Nov 2023 23:13:50 +0100", 30.0),
        ("Tue, 14 Nov 2023 22:13:50 -0000", 30.0),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 0.0),
        (-1, None),
        ("-1", None),
        (True, None),
        (float("nan"), None),
        (float("inf"), None),
        ("inf", None),
        ("", None),
        ("soon", None),
        ("Tue, 99 Nov 2023 22:13:50 GMT", None),
        ("Tue, 14 Nov 99999999 22:13:50 GMT", None),
        (b"5", None),
        (None, None),
        ([5], None),
    ],
)
def test_seconds_texts_and_dates_are_understood(value, asked):
    """Whatever else stands there is ignored."""
    assert retry_after(error(retry_after=value), NOW) == asked
    assert retry_after(error(response=headers(value)), NOW) == asked


def test_the_attribute_counts_more_than_the_headers():
    """Who set it knows more; one that is of no use is passed over."""
    assert retry_after(error(retry_after=1, response=headers("9")), NOW) == 1
    assert retry_after(error(retry_after="?", response=headers("9")), NOW) == 9


def test_attributes_that_raise_are_no_hint():
    """As properties of httpx's do, where there is no response."""

    class Hostile(Exception):
        @property
        def response(self):
            raise RuntimeError("there is none")

        @property
        def headers(self):
            return SimpleNamespace(get=lambda name: 1 / 0)

    assert retry_after(Hostile(), NOW) is None
    assert retry_after(ValueError(), NOW) is None


@given(st.integers(0, 3_000_000_000), st.floats(0, 4e9))
def test_a_date_is_as_far_away_as_it_is(at, now):
    """In seconds from now, and never less than none."""
    date = formatdate(at, usegmt=True)

    assert retry_after(error(retry_after=date), now) == max(0.0, at - now)


@given(st.text() | st.binary() | st.floats() | st.integers())
def test_no_value_does_harm(value):
    """The answer is a number of seconds that can be waited for, or none."""
    asked = retry_after(error(retry_after=value), NOW)

    assert asked is None or 0 <= asked <= HUNDRED_YEARS
