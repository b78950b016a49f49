"""Checks accept what they say, and refuse all else at once, in words."""

from __future__ import annotations

from math import inf, nan

import pytest
from tests.house.hostile import VALUES

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import (
    called_as,
    check_reward,
    check_seconds,
    is_name,
    is_number,
    to_limit,
    to_patience,
    zone_of,
)


def is_refused(check, *args, **kwargs) -> bool:
    try:
        check(*args, **kwargs)
    except InvalidTaskError:
        return True
    return False


@pytest.mark.parametrize("source", ["", None, 1])
def test_a_reward_is_given_by_somebody(source):
    with pytest.raises(InvalidTaskError, match="source of a reward"):
        check_reward(0.5, source)


def test_none_is_without_limit_and_no_duration():
    assert to_limit(None) is to_patience(None) is None
    with pytest.raises(InvalidTaskError, match="timeout: a duration is a number"):
        to_patience("5")
    with pytest.raises(InvalidTaskError, match="delay: a duration is a number"):
        check_seconds("delay", None)


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
