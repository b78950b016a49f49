"""The division of what there is: its laws, and cases that others have computed."""

from __future__ import annotations

from fractions import Fraction
from math import floor

from hypothesis import assume, example, given, settings, strategies as st
from tests.house.tools.examples import examples

from taskorch.policies._shares import (
    Demand,
    Portion,
    _Filling,
    _is_all,
    _topped_up,
    _whole,
    divide,
    fitting,
)

#: Small numbers, so that ties, bounds and pools that are used up are frequent.
sizes = st.integers(1, 24)
weights = st.integers(1, 4)


def bounds(wanted, chunks, least):
    """A least in whole chunks, or all that is wanted."""
    return tuple(
        need if not chunk else min(need, max(1, -(-part // chunk)) * chunk)
        for need, chunk, part in zip(wanted, chunks, least, strict=True)
    )


@st.composite
def divisions(draw, pools=None, most=6):
    """What there is, its chunks, and claims: sound ones of any shape."""
    pools = draw(st.integers(1, 3)) if pools is None else pools
    chunks = tuple(draw(st.integers(1, 4)) for _ in range(pools))
    there = tuple(draw(st.integers(0, 60)) for _ in range(pools))
    claims = []
    for _ in range(draw(st.integers(1, most))):
        wanted = tuple(draw(sizes) for _ in range(pools))
        least = tuple(draw(st.integers(0, need)) for need in wanted)
        claims.append(
            Demand(
                wanted,
                bounds(wanted, chunks, least),
                draw(weights),
                draw(st.integers(1, 3)),
            )
        )
    return there, chunks, tuple(claims)


def left_over(there, shares):
    """What nobody has."""
    return tuple(
        have - sum(s.amounts[pool] * s.times for found in shares for s in found)
        for pool, have in enumerate(there)
    )


# -- laws --------------------------------------------------------------------------


@given(divisions())
def test_no_more_is_given_than_there_is(division):
    there, chunks, claims = division

    assert min(left_over(there, divide(there, chunks, claims))) >= 0


@given(divisions())
@example(
    # The least of the last is more than its part of the third pool, which is used up.
    (
        *((4, 5, 7), (1, 1, 1)),
        (
            Demand((1, 1, 1), (1, 1, 1)),
            Demand((1, 1, 2), (1, 1, 1)),
            Demand((2, 4, 6), (1, 1, 5)),
        ),
    )
)
@example(
    # What is left of the second pool is less than a chunk.
    (
        *((10, 10), (1, 3)),
        (
            Demand((8, 5), (1, 3)),
            Demand((1, 1), (1, 1), times=3),
            Demand((1, 5), (1, 3)),
        ),
    )
)
@example(
    # Both of the first may have one more of the third pool, of which two are left.
    (
        *((31, 44, 11), (3, 3, 1)),
        (
            Demand((16, 14, 3), (12, 3, 1), 2, times=2),
            Demand((1, 3, 1), (1, 3, 1), times=4),
            Demand((1, 14, 1), (1, 3, 1), times=3),
        ),
    )
)
@example(
    # One of the three may have one more of the second pool.
    ((4, 10), (1, 1), (Demand((2, 5), (1, 2), times=3),))
)
def test_nothing_is_left_that_one_of_them_could_use(division):
    there, chunks, claims = division
    shares = divide(there, chunks, claims)
    left = left_over(there, shares)

    for claim, found in zip(claims, shares, strict=True):
        for share in found:
            room = tuple(a + b for a, b in zip(share.amounts, left, strict=True))
            more = fitting(claim, room, chunks)
            assert more is not None
            gains = [a > b for a, b in zip(more, share.amounts, strict=True)]
            loses = [a < b for a, b in zip(more, share.amounts, strict=True)]
            assert not any(gains) or any(loses) or share.amounts == claim.wanted


@given(divisions())
def test_what_fits_fits_and_keeps_the_proportions(division):
    room, chunks, (claim, *_) = division
    most = fitting(claim, room, chunks)

    fits = all(low <= have for low, have in zip(claim.least, room, strict=True))
    assert (most is not None) == fits
    if most is not None:
        parts = [Fraction(a, need) for a, need in zip(most, claim.wanted, strict=True)]
        for amount, need, low, have, chunk in zip(
            most, claim.wanted, claim.least, room, chunks, strict=True
        ):
            assert low <= amount <= min(need, have)
            # Nothing is a chunk behind the part that the scarcest has.
            assert amount + chunk > min(parts) * need


# -- reference cases ---------------------------------------------------------------


def plain_levels(there, claims):  # noqa: C901 - the definition, in one piece
    """
    By claim, where its filling ends and the pool that stopped it, or -1.

    The filling as it is meant, in exact fractions: every pool is looked at, level by
    level, for where it is used up; the first one stops all that could use more of it.
    """
    pools = range(len(there))
    ends = [Fraction(claim.wanted != claim.least, claim.weight) for claim in claims]
    stopped_by = [-1] * len(claims)
    left, level = list(pools), Fraction(0)

    def start(claim, pool):
        need, low = claim.wanted[pool], claim.least[pool]
        return Fraction(low, claim.weight * need) if low < need else None

    def used(pool, level):
        return sum(
            claim.times
            * max(
                claim.least[pool], min(level, end) * claim.weight * claim.wanted[pool]
            )
            for claim, end in zip(claims, ends, strict=True)
        )

    def used_up_at(pool):
        turns = {level, *ends, *(start(claim, pool) for claim in claims)} - {None}
        turns = sorted(turn for turn in turns if turn >= level)
        if used(pool, turns[-1]) <= there[pool]:
            return None
        if used(pool, level) > there[pool]:
            return level
        low = max(turn for turn in turns if used(pool, turn) <= there[pool])
        high = min(turn for turn in turns if turn > low)
        slope = (used(pool, high) - used(pool, low)) / (high - low)
        return low + (there[pool] - used(pool, low)) / slope

    while True:
        found = [(used_up_at(pool), pool) for pool in left]
        found = [(at, pool) for at, pool in found if at is not None]
        if not found:
            return ends, stopped_by
        level, by = min(found)
        left.remove(by)
        for number, claim in enumerate(claims):
            begins, end = start(claim, by), ends[number]
            if begins is None or level >= end:
                continue
            if begins < end or (begins == end and by < stopped_by[number]):
                ends[number], stopped_by[number] = max(level, begins), by


def plain_divide(there, chunks, claims):  # noqa: C901 - the definition, in one piece
    """`divide`, as it is meant: of the rest, each has a chunk in turn, if there is."""
    left = list(there)
    counts = []
    for claim in claims:
        fits = 0
        while fits < claim.times and all(
            have >= low or not low for have, low in zip(left, claim.least, strict=True)
        ):
            left = [have - low for have, low in zip(left, claim.least, strict=True)]
            fits += 1
        counts.append(fits)
    seated = [
        claim._replace(times=count)
        for claim, count in zip(claims, counts, strict=True)
        if count
    ]
    ends, stopped_by = plain_levels(there, seated)
    left = list(there)
    found = [[] for _ in seated]
    rests = []

    def take(count, after, before):
        for pool, (low, high) in enumerate(zip(before, after, strict=True)):
            left[pool] -= count * (high - low)

    for number, (claim, end, by) in enumerate(
        zip(seated, ends, stopped_by, strict=True)
    ):
        # Amounts are whole, and 32 bits of remainders are compared.
        parts = [
            max(low, end * claim.weight * need) if by >= 0 else Fraction(need)
            for need, low in zip(claim.wanted, claim.least, strict=True)
        ]
        amounts = [floor(part + Fraction(1, 1 << 33)) for part in parts]
        base = tuple(map(_whole, amounts, claim.wanted, claim.least, chunks))
        take(claim.times, base, (0,) * len(there))
        if by < 0:
            found[number].append(Portion(base, claim.times))
            continue
        exact = floor(parts[by] * (1 << 32) + Fraction(1, 2))
        rest = max(0, exact - (base[by] << 32)) // chunks[by]
        rests.append((0, -rest, number, claim.times, base))
    while rests:
        rests.sort()
        turn, _, number, count, amounts = rests.pop(0)
        claim, by = seated[number], stopped_by[number]
        part = min(claim.wanted[by], amounts[by] + chunks[by])
        more = tuple(
            max(have, _whole(need * part // claim.wanted[by], need, 0, chunk))
            for have, need, chunk in zip(amounts, claim.wanted, chunks, strict=True)
        )
        steps = [high - low for low, high in zip(amounts, more, strict=True)]
        fits = min(
            (have // step for have, step in zip(left, steps, strict=True) if step),
            default=0,
        )
        fits = min(fits, count)
        if not fits:
            more = _topped_up(claim, amounts, left, chunks)
            fits = int(more != amounts)
        if fits < count:
            found[number].append(Portion(amounts, count - fits))
        if fits:
            take(fits, more, amounts)
            rests.append((turn + 1, 0, number, fits, more))
    shares = iter(found)
    return tuple(
        tuple(sorted(next(shares), reverse=True)) if count else () for count in counts
    )


@given(st.randoms(use_true_random=False), st.integers(1, 2))
@settings(max_examples=examples(3))
def test_many_are_divided_as_is_meant(random, pools):
    """So many that levels are searched for; and that weigh so differently."""
    chunks = (1_000,) * pools
    claims = tuple(
        Demand(
            tuple(random.randint(1, 64) * 1_000 for _ in range(pools)),
            chunks,
            random.choice((1, 2, 3, 1_000, 1_000_000)) * random.randint(1, 9),
        )
        for _ in range(random.randint(101, 130))
    )
    there = tuple(random.randint(131, 2_000) * 1_000 for _ in range(pools))
    assert divide(there, chunks, claims) == plain_divide(there, chunks, claims)


@given(divisions(), st.data())
def test_it_is_all_only_where_there_is_no_more(division, data):
    """What is plain at a glance is what follows from all that there is."""
    _, chunks, (claim, *_) = division
    wanted, least, _, _ = claim
    by = data.draw(st.integers(0, len(chunks) - 1))
    part = st.integers(0, 8)
    amounts = tuple(
        need
        if low == need
        else min(low + data.draw(part) * chunk, need // chunk * chunk)
        for need, low, chunk in zip(wanted, least, chunks, strict=True)
    )
    left = [data.draw(st.integers(-2, 3 * chunk)) for chunk in chunks]
    left[by] %= chunks[by]
    assume(least[by] < wanted[by] > amounts[by] + left[by])

    if _is_all(wanted, amounts, by, left, chunks):
        assert _topped_up(claim, amounts, left, chunks) == amounts


def test_one_pool_less_may_be_the_measure_of_another():
    """The first has 5 of 7 and 5 of 8: in whole chunks 4 of 7, which is scarcer."""
    claims = (Demand((7, 8, 18), (2, 3, 3)), Demand((10, 19, 0), (2, 3, 0), 1, 28))

    shares = divide((7, 8, 43), (2, 3, 3), claims)

    assert shares == ((Portion((4, 3, 9), 1),), (Portion((2, 3, 0), 1),))


def test_of_two_pools_that_are_as_scarce_the_first_is_the_measure():
    """Of 24 and of 10 there are three quarters for two; what is left goes by the 24."""
    claims = (Demand((24, 1, 10), (12, 1, 3), 4, 2),)

    shares = divide((36, 40, 15), (4, 1, 3), claims)

    assert shares == plain_divide((36, 40, 15), (4, 1, 3), claims)
    assert shares == ((Portion((20, 1, 6), 1), Portion((16, 1, 6), 1)),)


def test_a_pool_stops_nobody_who_has_all_that_it_wants_of_it():
    """The second pool has stopped the third, which has its one of the first already."""
    claims = (
        Demand((4, 3), (2, 1), 4),
        Demand((3, 1), (2, 1), 4, 3),
        Demand((1, 3), (1, 1)),
        Demand((1, 3), (1, 1), 3, 3),
    )

    shares = divide((15, 10), (2, 1), claims)

    assert shares == plain_divide((15, 10), (2, 1), claims)
    assert shares == (
        (Portion((2, 2), 1),),
        (Portion((3, 1), 3),),
        (Portion((1, 1), 1),),
        (Portion((1, 2), 1), Portion((1, 1), 2)),
    )


def test_what_is_rounded_does_not_keep_it_searching():
    """Where one begins to grow, levels that are rounded may be a bit apart."""

    class Rounded(_Filling):
        def _limit(self, pool, level):
            return 4 if level >= 5 else 6

    filling = Rounded((8,), [[8, 9]], [[2, 2]], weights=[1, 1], times=[1, 1])
    assert filling._used_up_at(0, 5, bound=9) == 4


def test_the_rest_of_a_request_below_a_chunk_may_be_its_last_piece():
    assert divide((7,), (2,), (Demand((7,), (2,)),)) == ((Portion((7,), 1),),)
    assert divide((6,), (2,), (Demand((7,), (2,)),)) == ((Portion((6,), 1),),)
    # Less than a chunk is left, which is just what one of them lacks.
    claim = Demand((3,), (2,), 1, 2)
    assert divide((5,), (2,), (claim,)) == ((Portion((3,), 1), Portion((2,), 1)),)


def test_a_pool_that_was_made_smaller_is_nothing_to_who_wants_nothing_of_it():
    """It is not asked whether nothing fits into less than nothing."""
    claims = (Demand((0, 9), (0, 1), 1, 2),)
    assert divide((-3, 13), (1, 1), claims) == (
        (Portion((0, 7), 1), Portion((0, 6), 1)),
    )
    claims = (Demand((0, 9), (0, 4), 1, 2),)
    assert divide((-3, 15), (1, 4), claims) == (
        (Portion((0, 9), 1), Portion((0, 4), 1)),
    )


def test_nobody_has_nothing():
    assert divide((8,), (1,), ()) == ()
