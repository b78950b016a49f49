"""
The division of what there is among those that contend for it, in whole chunks.

Nothing here knows a task: amounts are whole millionths, and a pool is a place in a
tuple. All are filled at one rate, each in proportion to its weight and its request,
from its least up to its request; a pool that is used up stops all that it could give
more to, at the same part of what they ask for of every pool. What is left once each is
cut to whole chunks goes to the largest remainders, a chunk each, while there is
enough. Of one pool that is the method of the largest remainder (Hamilton's) between
bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import compress
from operator import le, mul
from typing import Final, NamedTuple, TypeAlias

#: An amount of each pool, in whole millionths.
Amounts: TypeAlias = tuple[int, ...]

#: Bits after the point of the level to which all are filled: more than the product of
#: an amount and a weight has. And those of an amount that are compared as remainders:
#: so few that what the level lacks does not decide between two that are equal.
_BITS: Final = 160
_REST: Final = 32
_HALF: Final = 1 << (_BITS - _REST - 1)
#: Bits that say of which claim: more than there are.
_PLACE: Final = 40
_PLACES: Final = (1 << _PLACE) - 1
#: A level that is never reached.
_NEVER: Final = 1 << (2 * _BITS)
#: So many tries go where the last one says, before one goes to the middle.
_PATIENCE: Final = 4


class Claim(NamedTuple):
    """
    What like requests ask for.

    Attributes:
        wanted: All that each asks for.
        least: What each must have to be of use, in whole chunks or all of *wanted*;
            of a pool that is not divided, all of it.
        weight: How much each counts for what it asks for, above 0.
        times: How many they are.
    """

    wanted: Amounts
    least: Amounts
    weight: int = 1
    times: int = 1


class Share(NamedTuple):
    """So much for each of so many."""

    amounts: Amounts
    times: int


def divide(
    there: Amounts, chunks: Amounts, claims: tuple[Claim, ...]
) -> tuple[tuple[Share, ...], ...]:
    """
    The shares of *claims*.

    Where not all can have their least, those that come first have it, and those that
    it is too much for have nothing: their shares do not count them.

    Args:
        there: What is divided, of each pool.
        chunks: The pieces in which each pool is divided; 0: it is not.
        claims: Who contends for it, the first in order first.

    Returns:
        For each claim its shares, the largest first: they differ by a chunk, mostly.
    """
    left = list(there)
    counts = [_seat(claim, left) for claim in claims]
    # Nobody else takes part: what is divided stays the same while others come and go.
    seated = tuple(
        [
            claim if count == claim.times else Claim(*claim[:3], count)
            for claim, count in zip(claims, counts, strict=True)
            if count
        ]
    )
    cut = _cut_before if len(seated) <= _FEW else _cut
    shares = iter(cut(there, chunks, seated))
    return tuple([next(shares) if count else () for count in counts])


def _seat(claim: Claim, left: list[int]) -> int:
    """How many of *claim* can have their least of what is *left*: they take it."""
    _, lows, _, fits = claim
    for have, least in zip(left, lows, strict=True):
        if least and have < fits * least:
            fits = max(0, have) // least
    if fits:
        for pool, least in enumerate(lows):
            left[pool] -= fits * least
    return fits


class _Pool:
    """
    What is filled of one pool, claim by claim.

    Attributes:
        there: How much there is.
        wanted: All that each asks for.
        lows: The least of each.
        tops: What each has in the end, with bits after the point: all that it wants,
            unless it is stopped.
        speeds: What each gains with a level of 1: weight and request.
        starts: The levels at which each has more than its least; mostly never, of what
            is not divided.
        earliest: The first of these.
        latest: The last of these at which any begins to grow.
        full: The level at which it is used up if all that ever grow do.
    """

    __slots__ = (
        "earliest",
        "full",
        "latest",
        "lows",
        "speeds",
        "starts",
        "there",
        "tops",
        "wanted",
    )

    def __init__(
        self,
        there: int,
        wanted: Amounts,
        lows: Amounts,
        weights: Amounts,
        times: list[int],
    ) -> None:
        self.there = there
        self.wanted = wanted
        self.lows = lows
        self.tops: list[int] = [need << _BITS for need in wanted]
        self.speeds: list[int] = list(map(mul, weights, wanted))
        self.starts: list[int] = [
            (low << _BITS) // speed if low < need else _NEVER
            for low, need, speed in zip(lows, wanted, self.speeds, strict=True)
        ]
        self.earliest: int = min(self.starts)
        self.latest: int = max(self.starts)
        rates: Iterable[int] = map(mul, times, self.speeds)
        if self.latest == _NEVER:
            grows = [start < _NEVER for start in self.starts]
            self.latest = max(compress(self.starts, grows), default=_NEVER)
            there -= sum(
                count * low
                for count, low, grow in zip(times, lows, grows, strict=True)
                if not grow
            )
            rates = compress(rates, grows)
        rate = sum(rates)
        self.full: int = (there << _BITS) // rate if rate else _NEVER

    def cut(self, chunk: int) -> Sequence[int]:
        """What each has of it, in whole chunks."""
        if not chunk:
            return self.wanted
        # As `_whole`, written out, since this is done for all.
        return [
            need
            if (amount := (top + _HALF) >> _BITS) >= need
            else max(low, amount - amount % chunk)
            for top, need, low in zip(self.tops, self.wanted, self.lows, strict=True)
        ]


class _Filling:
    """
    All claims, filled at one rate until they have all they want, or a pool is used up.

    The level is what a claim of weight 1 has as a part of its request. A claim has its
    least of a pool up to some level, then grows with the level, up to its end: that
    where it has all it wants, or, once a pool is used up, that where it could use more
    of it. So of each pool, some claims hold a fixed amount, and the rest grows.
    """

    def __init__(
        self, there: Amounts, claims: tuple[Claim, ...], times: list[int]
    ) -> None:
        wanted, lows, weights, _ = zip(*claims, strict=True)
        self.times = times
        self.pools = [
            _Pool(have, needs, least, weights, times)
            for have, needs, least in zip(
                there, zip(*wanted, strict=True), zip(*lows, strict=True), strict=True
            )
        ]
        #: By claim, the pool that stopped it, or -1; and the level at which it ends.
        self.stopped_by: list[int] = [-1] * len(claims)
        self.ends: list[int] = [
            0 if wanted == low else (1 << _BITS) // weight
            for wanted, low, weight, _ in claims
        ]
        #: The first of the levels at which one ends that grows.
        self._soonest = min(filter(None, self.ends), default=_NEVER)
        #: Up to where all is known.
        self._level = 0

    def fill(self) -> None:
        """Raise the level until nothing grows any more."""
        left = [number for number, pool in enumerate(self.pools) if pool.full < _NEVER]
        while left:
            end = first = max(self.ends)
            found = -1
            for number in left:
                level = self._used_up_at(self.pools[number], first)
                if level < first:
                    first, found = level, number
            if first >= end:
                return
            self._use_up(found, first)
            left.remove(found)

    def _used_up_at(self, pool: _Pool, bound: int) -> int:
        """
        The level at which *pool* is used up, or *bound* if it is not below that.

        From each level that is tried, the next is where it would be used up if all that
        grow at this one did so from their beginning to their end.
        """
        low, high = self._level - 1, bound + 1
        at_low = at_high = bound
        level = min(max(pool.full, self._level), bound)
        tries = 0
        while True:
            limit = self._limit(pool, level)
            if limit < level:
                high, at_high = level, limit
            elif level in (limit, bound):
                return level
            else:
                low, at_low = level, limit
            tries += 1
            if low < limit < high and tries % _PATIENCE:
                level = limit
                continue
            # It goes astray, or slowly: half of what may be between is left out.
            turns = (self._level, at_low, bound, *pool.starts, *self.ends)
            between = sorted([turn for turn in turns if low < turn < high])
            if not between:
                return max(self._level, at_high)
            level = between[len(between) // 2]

    def _limit(self, pool: _Pool, level: int) -> int:
        """Where *pool* is used up if all that grow at *level* grow on for ever."""
        if level < self._soonest:
            # Of few, mostly all have begun to grow, or none.
            if pool.latest <= level:
                return pool.full
            if level < pool.earliest:
                return _NEVER
        held = grown = rate = 0
        for start, end, low, top, speed, count in zip(
            pool.starts,
            self.ends,
            pool.lows,
            pool.tops,
            pool.speeds,
            self.times,
            strict=True,
        ):
            if level < start:
                held += count * low
            elif level < end:
                rate += count * speed
            else:
                grown += count * top
        rest = ((pool.there - held) << _BITS) - grown
        if rate:
            return rest // rate
        return _NEVER if rest >= 0 else -1

    def _use_up(self, number: int, level: int) -> None:
        """Nothing is left of a pool: it stops all that grow there, or would later."""
        self._level = level
        ends, stopped_by = self.ends, self.stopped_by
        stopped = []
        for claim, start in enumerate(self.pools[number].starts):
            end = ends[claim]
            # Of two pools that stop it at one level, the first does.
            if level < end and (
                start < end or (start == end and number < stopped_by[claim])
            ):
                ends[claim] = max(level, start)
                stopped_by[claim] = number
                stopped.append(claim)
        self._soonest = min(self._soonest, level)
        for pool in self.pools:
            tops, lows, speeds = pool.tops, pool.lows, pool.speeds
            for claim in stopped:
                tops[claim] = max(lows[claim] << _BITS, ends[claim] * speeds[claim])


def _cut(
    there: Amounts, chunks: Amounts, claims: tuple[Claim, ...]
) -> tuple[tuple[Share, ...], ...]:
    """What all are filled to, in whole chunks, and the rest by remainders."""
    if not claims:
        return ()
    first = claims[0]
    alike = first.wanted, first.least, first.weight
    times = []
    is_alike = True
    for wanted, least, weight, count in claims:
        times.append(count)
        is_alike = is_alike and (wanted, least, weight) == alike
    cut = _cut_alike if is_alike else _cut_different
    held, stopped_by, turn = cut(there, chunks, claims, times)
    if turn:
        left = [
            have - sum(map(mul, times, column))
            for have, column in zip(there, zip(*held, strict=True), strict=True)
        ]
        rest = _Rest(left, chunks, claims, stopped_by, held, times)
        rest.hand_out(turn)
        return rest.shares()
    return tuple([(share,) for share in map(Share, held, times)])


def _cut_alike(
    there: Amounts, chunks: Amounts, claims: tuple[Claim, ...], times: list[int]
) -> tuple[list[Amounts], list[int], list[int]]:
    """As `_cut_different`, at once: the scarcest pool says what each of them has."""
    wanted, lows, weight, _ = claims[0]
    many = len(claims)
    rate = sum(times) * weight
    end, by = (1 << _BITS) // weight, -1
    for pool, need in enumerate(wanted):
        if need > lows[pool]:
            level = (there[pool] << _BITS) // (rate * need)
            if level < end:
                end, by = level, pool
    if by < 0:
        return [wanted] * many, [], []
    speed = end * weight
    each = tuple(
        [
            need
            if not chunk
            else max(low, ((speed * need + _HALF) >> _BITS) // chunk * chunk)
            for need, low, chunk in zip(wanted, lows, chunks, strict=True)
        ]
    )
    return [each] * many, [by] * many, list(range(many))


def _cut_different(
    there: Amounts, chunks: Amounts, claims: tuple[Claim, ...], times: list[int]
) -> tuple[list[Amounts], list[int], list[int]]:
    """
    What each claim has in whole chunks, and to whom the rest goes.

    Returns:
        What each has; by claim, the pool that it could use more of, or -1; and whose
        turn it is to have a chunk of the rest: those with the largest remainders first.
    """
    filling = _Filling(there, claims, times)
    filling.fill()
    columns = [
        pool.cut(chunk) for pool, chunk in zip(filling.pools, chunks, strict=True)
    ]
    # Each is its remainder, and in its last bits whose: the largest comes first.
    rests: list[int] = []
    for number, by in enumerate(filling.stopped_by):
        if by >= 0:
            exact = (filling.pools[by].tops[number] + _HALF) >> (_BITS - _REST)
            rest = (exact - (columns[by][number] << _REST)) // chunks[by]
            rests.append((-max(0, rest) << _PLACE) | number)
    rests.sort()
    turn = [rest & _PLACES for rest in rests]
    return list(zip(*columns, strict=True)), filling.stopped_by, turn


#: The division of some is remembered; one of many takes long to look for, and to keep.
_FEW: Final = 100
_cut_before: Final = lru_cache(maxsize=256)(_cut)


class _Rest:
    """
    What is left once each has whole chunks, and those to whom it goes.

    Args:
        left: What is left, of each pool.
        chunks: The pieces in which each is divided.
        claims: Who contends.
        stopped_by: By claim, the pool that it could use more of, or -1.
        held: By claim, what each of it has.
        counts: By claim, how many have that.
    """

    def __init__(
        self,
        left: list[int],
        chunks: Amounts,
        claims: tuple[Claim, ...],
        stopped_by: list[int],
        held: list[Amounts],
        counts: list[int],
    ) -> None:
        self._left = left
        self._chunks = chunks
        self._claims = claims
        self._stopped_by = stopped_by
        self._held = held
        self._counts = counts
        #: By claim, those of it that were given less than the others.
        self._behind: dict[int, list[Share]] = {}

    def hand_out(self, turn: list[int]) -> None:
        """A chunk more for each of *turn*, and again, while there is enough."""
        while turn and any(self._left):
            # Who has got a chunk comes again after all others.
            turn = sorted([number for number in turn if self._gains(number)])

    def shares(self) -> tuple[tuple[Share, ...], ...]:
        """What all have."""
        found: list[tuple[Share, ...]] = [
            (share,) for share in map(Share, self._held, self._counts)
        ]
        for number, parts in self._behind.items():
            found[number] = tuple(sorted([*parts, *found[number]], reverse=True))
        return tuple(found)

    def _gains(self, number: int) -> bool:
        """Whether one of the claim has been given something."""
        by, left, chunks = self._stopped_by[number], self._left, self._chunks
        claim, amounts = self._claims[number], self._held[number]
        have = left[by]
        if have < chunks[by] and _is_all(claim.wanted, amounts, by, have, chunks):
            return False
        count = fits = self._counts[number]
        more = _step(claim, amounts, by, chunks)
        for have, before, after in zip(left, amounts, more, strict=True):
            if after > before and have < fits * (after - before):
                fits = have // (after - before)
        if not fits or more == amounts:
            # A chunk of that pool is more than is left: of others it may use some.
            more, fits = _topped_up(claim, amounts, left, chunks), 1
            if more == amounts:
                return False
        for pool, after in enumerate(more):
            left[pool] -= fits * (after - amounts[pool])
        if fits < count:
            self._behind.setdefault(number, []).append(Share(amounts, count - fits))
            self._counts[number] = fits
        self._held[number] = more
        return True


def _is_all(
    wanted: Amounts, amounts: Amounts, by: int, left: int, chunks: Amounts
) -> bool:
    """
    Whether it is plain that nobody with *amounts* can have more.

    Less than a chunk is *left* of the pool *by* that stopped it, and of none of the
    others it lacks a chunk of what goes with all that there is for it of that one.
    """
    room, whole = amounts[by] + left, wanted[by]
    if room >= whole:
        return False
    for want, amount, chunk in zip(wanted, amounts, chunks, strict=True):
        if chunk and amount + chunk <= want * room // whole:
            return False
    return True


def _topped_up(
    claim: Claim, amounts: Amounts, left: list[int], chunks: Amounts
) -> Amounts:
    """*amounts*, and what one of *claim* can use of what is *left*, in proportion."""
    # Of a pool that was made smaller it wants nothing, or its least would not be there.
    room = tuple(
        [have + max(0, rest) for have, rest in zip(amounts, left, strict=True)]
    )
    more = fitting(claim, room, chunks)
    assert more is not None  # noqa: S101 - it has its least
    return more if all(map(le, amounts, more)) else amounts


def _whole(amount: int, wanted: int, least: int, chunk: int) -> int:
    """*amount* in whole chunks, not below *least*; all of *wanted* if it is that."""
    if amount >= wanted or not chunk:
        return wanted
    return max(least, amount // chunk * chunk)


def _step(claim: Claim, amounts: Amounts, by: int, chunks: Amounts) -> Amounts:
    """*amounts* with a chunk more of the pool *by*, and as much of the others."""
    wanted = claim.wanted
    whole = wanted[by]
    part = min(whole, amounts[by] + chunks[by])
    return tuple(
        [
            # As `_whole`, written out.
            max(have, need * part // whole // chunk * chunk)
            if chunk and part < whole
            else need
            for have, need, chunk in zip(amounts, wanted, chunks, strict=True)
        ]
    )


def fitting(claim: Claim, room: Amounts, chunks: Amounts) -> Amounts | None:
    """
    The most of *claim* that fits into *room*, scaled by its scarcest, or None.

    Its proportions are kept in whole chunks; None: not even its least fits.
    """
    wanted, least = claim.wanted, claim.least
    top, bottom = 1, 1
    for pool, need in enumerate(wanted):
        if least[pool] > room[pool]:
            return None
        # What is as small as its least is no measure of the rest.
        if need > least[pool] and room[pool] * bottom < top * need:
            # In whole chunks, so that the others keep step with what it will have.
            top, bottom = _whole(room[pool], need, least[pool], chunks[pool]), need
    return tuple(
        _whole(need * top // bottom, need, least[pool], chunks[pool])
        for pool, need in enumerate(wanted)
    )
