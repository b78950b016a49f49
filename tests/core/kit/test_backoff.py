"""Pauses between tries, as all who try again have them."""

from __future__ import annotations

import math
from itertools import islice
from random import Random

from hypothesis import given, strategies as st

from taskorch.kit.backoff import Backoff

pauses = st.builds(
    Backoff,
    st.floats(0, 100),
    st.floats(0, 1e9),
    factor=st.floats(1, 10) | st.integers(1, 10),
    jitter=st.floats(0, 1),
)


def test_each_is_so_many_times_the_one_before_up_to_the_longest():
    backoff = Backoff(0.5, 7.0)
    assert list(islice(backoff.pauses(), 6)) == [0.5, 1.0, 2.0, 4.0, 7.0, 7.0]
    slow = Backoff(2.0, math.inf, factor=1.5)
    assert list(islice(slow.pauses(), 3)) == [2.0, 3.0, 4.5]
    assert slow.after(10_000) == math.inf


@given(pauses, st.integers(0, 1_000_000))
def test_none_is_shorter_than_the_one_before_or_above_the_longest(backoff, number):
    pause = backoff.after(number)
    assert 0 <= pause <= backoff.longest
    assert pause <= backoff.after(number + 1)
    assert pause == min(pause, backoff.after(number + 1))


@given(pauses, st.integers(0, 100_000), st.integers())
def test_what_is_drawn_is_near_it_and_a_seed_repeats_it(backoff, number, seed):
    ceiling = backoff.after(number)
    drawn = backoff.after(number, Random(seed))
    assert drawn == backoff.after(number, Random(seed))
    assert drawn <= backoff.longest
    share = backoff.jitter * (1 + 1e-9)
    assert ceiling * (1 - share) <= drawn <= ceiling * (1 + share)


def test_those_who_began_together_do_not_all_return_at_the_longest():
    backoff, random = Backoff(1.0, 60.0, jitter=0.5), Random(3)
    drawn = list(islice(backoff.pauses(random), 7, 107))
    assert len(set(drawn)) == len(drawn)
    assert min(drawn) < 35
    assert max(drawn) > 55
    assert sum(pause == 60.0 for pause in drawn) < 5


def test_without_a_draw_there_is_no_jitter():
    assert Backoff(1.0, 60.0, jitter=0.5).after(2) == 4.0
