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

from functools import lru_cache
from heapq import heapify, heappop, heappush
from operator import add, le
from typing import Final, NamedTuple, TypeAlias

#: An amount of each pool, in whole millionths.
Amounts: TypeAlias = tuple[int, ...]

#: Bits after the point of the level to which all are filled: more than the product of
#: an amount and a weight has. And those of an amount that are compared as remainders:
#: so few that what the level lacks does not decide between two that are equal.
_BITS: Final = 160
_REST: Final = 32
_HALF: Final = 1 << (_BITS - _REST - 1)
#: A level that is never reached.
_NEVER: Final = 1 << (2 * _BITS)


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


@lru_cache(maxsize=256)
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
    filling = _Filling(there, left, claims, counts)
    filling.fill()
    return _cut(there, chunks, claims, counts, filling)


def _seat(claim: Claim, left: list[int]) -> int:
    """How many of *claim* can have their least of what is *left*: they take it."""
    fits = claim.times
    for have, least in zip(left, claim.least, strict=True):
        if least:
            fits = min(fits, max(0, have) // least)
    for pool, least in enumerate(claim.least):
        left[pool] -= fits * least
    return fits


class _Filling:
    """
    All claims, filled at one rate until they have all they want, or a pool is used up.

    The level is what a claim of weight 1 has as a part of its request. Of each pool,
    some claims hold a fixed amount, and the rest grows with the level, at the rate of
    weight and request.
    """

    def __init__(
        self,
        there: Amounts,
        left: list[int],
        claims: tuple[Claim, ...],
        counts: list[int],
    ) -> None:
        self._claims = claims
        self._counts = counts
        #: By claim, what each of it has, once that is fixed: its least until it grows.
        self.amounts: list[list[int]] = [list(claim.least) for claim in claims]
        #: By claim, the pool that stopped it, and at what level; -1: none has.
        self.stopped_by: list[int] = [-1] * len(claims)
        self.stopped_at: list[int] = [0] * len(claims)
        self._done = [False] * len(claims)
        #: By pool, what those leave that do not grow there now, and the rate at which
        #: the others grow.
        self._rest = left
        self._rate = [0] * len(there)
        #: By claim, where it grows now.
        self._growing: list[list[int]] = [[] for _ in claims]
        #: By pool, the level at which it is used up; and the lowest of these.
        self._limits: list[int] = [_NEVER] * len(there)
        self._limit = _NEVER
        self._used_up: set[int] = set()

    def fill(self) -> None:
        """Raise the level until nothing grows any more."""
        every = len(self._rest)
        for level, number, pool in self._events(every):
            while self._limit < level:
                self._use_up(self._limits.index(self._limit))
            if self._done[number]:
                continue
            if pool == every:
                self._complete(number)
            elif pool in self._used_up:
                self._stop(number, pool, level)
            else:
                self._grow(number, pool)

    def _events(self, every: int) -> list[tuple[int, int, int]]:
        """When a claim has more than its least of a pool, and when all of *every*."""
        events: list[tuple[int, int, int]] = []
        for number, (wanted, least, weight, _) in enumerate(self._claims):
            if not self._counts[number] or wanted == least:
                continue
            for pool, need in enumerate(wanted):
                if need > least[pool]:
                    level = (least[pool] << _BITS) // (weight * need)
                    events.append((level, number, pool))
            events.append(((1 << _BITS) // weight, number, every))
        events.sort()
        return events

    def _grow(self, number: int, pool: int) -> None:
        """The claim has more than its least of *pool* from here on."""
        wanted, least, weight, _ = self._claims[number]
        count = self._counts[number]
        self._rest[pool] += count * least[pool]
        self._rate[pool] += count * weight * wanted[pool]
        self._growing[number].append(pool)
        self._look(pool)

    def _complete(self, number: int) -> None:
        """The claim has all that it asks for."""
        self._done[number] = True
        wanted, _, weight, _ = self._claims[number]
        count = self._counts[number]
        for pool in self._growing[number]:
            self.amounts[number][pool] = wanted[pool]
            self._rest[pool] -= count * wanted[pool]
            self._rate[pool] -= count * weight * wanted[pool]
            self._look(pool)

    def _use_up(self, pool: int) -> None:
        """Nothing is left of *pool*: it stops all that grow there."""
        level = self._limits[pool]
        self._used_up.add(pool)
        for number, grows in enumerate(self._growing):
            # Whose least is more than its part so far still grows in the other pools.
            if pool in grows and not self._done[number]:
                self._stop(number, pool, level)

    def _stop(self, number: int, pool: int, level: int) -> None:
        """The claim could use more of *pool* from *level* on, and there is none."""
        self._done[number] = True
        self.stopped_by[number], self.stopped_at[number] = pool, level
        wanted, least, weight, _ = self._claims[number]
        count, amounts = self._counts[number], self.amounts[number]
        for other in self._growing[number]:
            speed = weight * wanted[other]
            amount = max(least[other], (level * speed + _HALF) >> _BITS)
            amounts[other] = amount
            self._rest[other] -= count * amount
            self._rate[other] -= count * speed
            self._look(other)

    def _look(self, pool: int) -> None:
        """Find out when *pool* is used up."""
        rate = self._rate[pool]
        limits = self._limits
        limits[pool] = (self._rest[pool] << _BITS) // rate if rate else _NEVER
        self._limit = min(limits)


def _cut(
    there: Amounts,
    chunks: Amounts,
    claims: tuple[Claim, ...],
    counts: list[int],
    filling: _Filling,
) -> tuple[tuple[Share, ...], ...]:
    """What all have been filled to, in whole chunks, and the rest by remainders."""
    left = list(there)
    shares: list[list[Share]] = [[] for _ in claims]
    rests: list[tuple[int, int, int, int, Amounts]] = []
    for number, claim in enumerate(claims):
        count = counts[number]
        filled = filling.amounts[number]
        base = tuple(map(_whole, filled, claim.wanted, claim.least, chunks))
        _take(left, count, base)
        by = filling.stopped_by[number]
        if by >= 0:
            level = filling.stopped_at[number] * claim.weight
            exact = (level * claim.wanted[by] + _HALF) >> (_BITS - _REST)
            rest = max(0, exact - (base[by] << _REST)) // chunks[by]
            rests.append((0, -rest, number, count, base))
        elif count:
            shares[number].append(Share(base, count))
    heapify(rests)
    while rests:
        turn, _, number, count, amounts = heappop(rests)
        if not any(left):
            shares[number].append(Share(amounts, count))
            continue
        claim, by = claims[number], filling.stopped_by[number]
        more = _step(claim, amounts, by, chunks)
        fits = _fits(left, count, amounts, more)
        if not fits:
            # A chunk of that pool is more than is left: of others it may use some.
            more = _topped_up(claim, amounts, left, chunks)
            fits = int(more != amounts)
        if fits < count:
            shares[number].append(Share(amounts, count - fits))
        if fits:
            _take(left, fits, more, amounts)
            heappush(rests, (turn + 1, 0, number, fits, more))
    for found in shares:
        found.sort(reverse=True)
    return tuple(map(tuple, shares))


def _take(left: list[int], count: int, after: Amounts, before: Amounts = ()) -> None:
    """So many go from *before* to *after*: less is *left*."""
    for pool, amount in enumerate(after):
        left[pool] -= count * (amount - before[pool] if before else amount)


def _fits(left: list[int], count: int, before: Amounts, after: Amounts) -> int:
    """How many of *count* can go from *before* to *after* with what is *left*."""
    if before == after:
        return 0
    for have, low, high in zip(left, before, after, strict=True):
        if high > low:
            count = min(count, have // (high - low))
    return count


def _topped_up(
    claim: Claim, amounts: Amounts, left: list[int], chunks: Amounts
) -> Amounts:
    """*amounts*, and what one of *claim* can use of what is *left*, in proportion."""
    room = tuple(map(add, amounts, left))
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
            max(have, _whole(need * part // whole, need, 0, chunk))
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
