"""Checks accept what they say, and refuse all else at once, in words."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone
from math import inf, nan

import pytest
from hypothesis import given, strategies as st
from tests.hostile import VALUES

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import (
    called_as,
    check_count,
    check_fraction,
    check_reward,
    check_seconds,
    check_word,
    is_name,
    is_number,
    to_limit,
    to_patience,
    to_seconds,
    zone_of,
)
from taskorch.kit.limits import MAX_SECONDS

NUMBERS = st.integers() | st.floats() | st.booleans()
ANYTHING = NUMBERS | st.none() | st.text() | st.binary() | st.lists(st.integers())


def is_refused(check, *args, **kwargs) -> bool:
    try:
        check(*args, **kwargs)
    except InvalidTaskError:
        return True
    return False


@given(ANYTHING, st.integers(-5, 5))
def test_a_count_is_a_whole_number_and_no_truth(value, least):
    fits = type(value) is int and value >= least
    assert is_refused(check_count, "n", value, least=least) is not fits


@given(ANYTHING)
def test_a_fraction_is_from_0_to_1_and_a_reward_from_minus_1(value):
    for check, least in ((check_fraction, 0), (check_reward, -1)):
        fits = type(value) in (int, float) and least <= value <= 1
        args = ("x", value) if check is check_fraction else (value, "somebody")
        assert is_refused(check, *args) is not fits


@pytest.mark.parametrize("source", ["", None, 1])
def test_a_reward_is_given_by_somebody(source):
    with pytest.raises(InvalidTaskError, match="source of a reward"):
        check_reward(0.5, source)


@given(ANYTHING, st.booleans())
def test_seconds_are_finite_and_bounded(value, zero):
    fits = type(value) in (int, float) and 0 <= value <= MAX_SECONDS
    fits = fits and (zero or value != 0)
    assert is_refused(check_seconds, "timeout", value, zero=zero) is not fits
    if fits:
        assert check_seconds("timeout", value, zero=zero) == value


@given(st.timedeltas(timedelta(0), timedelta(days=9_999)))
def test_a_timedelta_is_its_seconds(delta):
    seconds = delta.total_seconds()
    assert to_seconds(delta) == to_limit(delta) == to_patience(delta) == seconds
    assert check_seconds("timeout", delta) == seconds
    assert to_seconds(seconds) == seconds


def test_none_is_without_limit_and_no_duration():
    assert to_limit(None) is to_patience(None) is None
    with pytest.raises(InvalidTaskError, match="timeout: a duration is a number"):
        to_patience("5")
    with pytest.raises(InvalidTaskError, match="delay: a duration is a number"):
        check_seconds("delay", None)


WORDS = st.lists(st.text("abcde", min_size=1), min_size=2, max_size=6, unique=True)


@given(WORDS, st.text("abcde") | st.none())
def test_a_word_is_one_of_those_that_are_named(words, value):
    if value in words:
        check_word("kind", value, words)
        return
    with pytest.raises(InvalidTaskError) as raised:
        check_word("kind", value, iter(words))
    assert all(repr(word) in str(raised.value) for word in words)


def test_a_slip_is_met_with_the_nearest_word():
    with pytest.raises(InvalidTaskError) as raised:
        check_word("mode", "paralel", ("serial", "parallel"))
    assert raised.value.hint is not None
    assert "parallel" in raised.value.hint


@pytest.mark.parametrize("value", [nan, inf, -inf, True, False, "1", None, 1j])
def test_these_are_no_numbers_of_a_range(value):
    assert not is_number(value, -10, 10)


@pytest.mark.parametrize("value", ["", " a", "a ", "a\nb", "\x1b", None, 1, b"a"])
def test_these_are_no_names(value):
    assert not is_name(value)
    assert is_name("a b")


def test_a_zone_is_found_or_refused_whatever_the_value_does():
    for name, make in VALUES.items():
        assert is_refused(zone_of, make()), name


def test_a_zone_is_found_by_its_name():
    assert zone_of("UTC") is UTC
    assert not isinstance(zone_of("Europe/Berlin"), timezone)
    with pytest.raises(InvalidTaskError) as raised:
        zone_of("Europe/Berlim")
    assert raised.value.hint is not None
    assert "Europe/Berlin" in raised.value.hint
    with pytest.raises(InvalidTaskError, match="named by a text"):
        zone_of(1)


class Kettle:
    @called_as("kettle.boil(litres=1)")
    def boil(self, litres=1, *, timeout=None):
        if litres > 9:
            raise TypeError("too much")
        return litres, timeout


def test_who_guesses_an_argument_reads_an_example():
    assert Kettle().boil(2, timeout=3) == (2, 3)
    with pytest.raises(InvalidTaskError, match="litre") as raised:
        Kettle().boil(litre=2)
    assert raised.value.hint == "kettle.boil(litres=1)"
    with pytest.raises(InvalidTaskError):
        Kettle().boil(1, 2, 3)


def test_an_error_of_the_method_itself_stays():
    with pytest.raises(TypeError, match="too much"):
        Kettle().boil(10)
