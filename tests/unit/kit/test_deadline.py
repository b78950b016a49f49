"""A peer is waited for until the deadline, and nobody waits for ever by mistake."""

from __future__ import annotations

from math import inf

import pytest

from taskorch.kit.deadline import PeerDeadline


def test_without_a_limit_there_is_always_time():
    assert PeerDeadline().left() == inf


def test_what_is_left_becomes_less_and_a_new_limit_begins_anew():
    deadline = PeerDeadline()
    deadline.set(3_600)
    first = deadline.left()
    assert deadline.left() <= first <= 3_600
    deadline.set(7_200)
    assert deadline.left() > 3_600


@pytest.mark.parametrize("seconds", [0, -1])
def test_when_the_time_is_over_it_is_an_error_that_says_how_long_it_was(seconds):
    deadline = PeerDeadline()
    deadline.set(seconds)
    with pytest.raises(TimeoutError, match=f"not answered in {seconds} s"):
        deadline.left()
