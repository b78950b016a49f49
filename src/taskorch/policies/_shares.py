"""
Division of resources among the requests that contend for them, in whole chunks.

No function here knows tasks: amounts are whole millionths, and a pool is an index of a
tuple. All claims are filled at one rate, each in proportion to its weight and its
request, from its least up to its request. A pool that is used up stops all claims that
want more of it, at the same part of their request for every pool. Each share is cut to
whole chunks, and the rest goes to the largest remainders, a chunk each, while there is
enough. For one pool that is the method of the largest remainder (Hamilton's) between
bounds.

Decision: shares-and-sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import compress
from operator import itemgetter, le, mul, not_
from typing import Final, NamedTuple, TypeAlias

#: An amount of each pool, in whole millionths.
Amounts: TypeAlias = tuple[int, ...]
#: Several columns, each with a number for every claim.
_Columns: TypeAlias = list[list[int]]

#: The bits after the point of the level of filling, more than a product of an amount
#: and a weight has; and those of an amount that are compared as remainders, few enough
#: that the rounding of the level does not decide between equal ones.
_BITS: Final = 160
_FRACTION_BITS: Final = 32
_HALF: Final = 1 << (_BITS - _FRACTION_BITS - 1)
#: The bits of the index of a claim, enough for all.
_PLACE: Final = 40
_PLACES: Final = (1 << _PLACE) - 1
#: A level that is never reached.
_NEVER: Final = 1 << (2 * _BITS)
#: The number of secant steps before a bisection step.
_PATIENCE: Final = 4


class Demand(NamedTuple):
    """
    The demand of like requests.

    Attributes:
        wanted: The whole request of each.
        least: The least useful amounts of each, in whole chunks or all of *wanted*; for
            a pool that is not divided, all of it.
        weight: The weight of each, relative to its size, above 0.
        times: The number of requests.
    """

    wanted: Amounts
    least: Amounts
    weight: int = 1
    times: int = 1


class Portion(NamedTuple):
    """A share, and the number of tasks that have it."""

    amounts: Amounts
    times: int


def divide(
    supply: Amounts, chunks: Amounts, claims: tuple[Demand, ...]
) -> tuple[tuple[Portion, ...], ...]:
    """
    Return the shares of *claims*.

    If not all can have their least, the first ones have it, and the others have nothing
    and no share. A chunk of 0 means that the pool is not divided. The shares of a claim
    come largest first, and mostly differ by a chunk.
    """
    if not claims:
        return ()
    alike = claims[0][:3]
    for claim in claims:
        if claim[:3] != alike:
            return _divide_different(supply, chunks, claims)
    return _divide_alike(supply, chunks, claims)


def _divide_different(
    supply: Amounts, chunks: Amounts, claims: tuple[Demand, ...]
) -> tuple[tuple[Portion, ...], ...]:
    """Divide *supply* among the claims whose least share fits; others get nothing."""
    counts = _seats(supply, claims)
    # No other claim takes part, so the division stays the same while others come and
    # go.
    seated = tuple(
        [
            claim if count == claim.times else Demand(*claim[:3], count)
            for claim, count in zip(claims, counts, strict=True)
            if count
        ]
    )
    cut = _cut_before if len(seated) <= _FEW_SEATS else _cut
    shares = iter(cut(supply, chunks, seated))
    return tuple([next(shares) if count else () for count in counts])


def _divide_alike(
    supply: Amounts, chunks: Amounts, claims: tuple[Demand, ...]
) -> tuple[tuple[Portion, ...], ...]:
    """Divide *supply* among like claims; the first get the largest shares."""
    wanted, least, weight, times = claims[0]
    for claim in claims[1:]:
        times += claim.times
    for have, low in zip(supply, least, strict=True):
        if low and have < times * low:
            times = max(0, have // low)
    if not times:
        return ((),) * len(claims)
    shares = _cut_alike_before(supply, chunks, Demand(wanted, least, weight, times))
    return _dealt(shares, claims)


def _dealt(
    shares: tuple[Portion, ...], claims: tuple[Demand, ...]
) -> tuple[tuple[Portion, ...], ...]:
    """Return *shares*, at least one, dealt to *claims* in their order."""
    dealt = []
    rest = iter(shares)
    amounts, many = next(rest)
    for claim in claims:
        portions = []
        needs = claim.times
        while needs and many:
            part = min(many, needs)
            portions.append(Portion(amounts, part))
            needs -= part
            many -= part
            if not many:
                amounts, many = next(rest, ((), 0))
        dealt.append(tuple(portions))
    return tuple(dealt)


def _seats(supply: Amounts, claims: tuple[Demand, ...]) -> list[int]:
    """Return how many of each of *claims* can have their least, in order."""
    remaining = [max(0, have) for have in supply]
    counts = []
    # The least of the previous claims, mostly the same for all: how many had it, and
    # how many more could.
    least: Amounts = ()
    seated = fit = 0
    for _, lows, _, times in claims:
        if lows != least:
            for pool, low in enumerate(least):
                remaining[pool] -= seated * low
            least, seated = lows, 0
            most = [
                have // low for have, low in zip(remaining, lows, strict=True) if low
            ]
            fit = min(most, default=_NEVER)
        count = min(fit, times) if fit else 0
        fit -= count
        seated += count
        counts.append(count)
    return counts


class _Filling:
    """
    The filling of claims at one rate until they have their request, or a pool is empty.

    The level is the part of its request that a claim of weight 1 has. A claim has its
    least of a pool up to some level, then grows with the level, up to its end: the
    level at which it has its whole request, or at which a pool that it needs is used
    up. So of each pool, some claims hold a fixed amount, and the others grow.

    *wanted* has the requests of all claims by pool, and *lows* their least amounts.
    """

    def __init__(
        self,
        supply: Amounts,
        wanted: _Columns,
        lows: _Columns,
        weights: list[int],
        times: list[int],
    ) -> None:
        #: For each claim, the level at which it ends, and the pool that stopped it, or
        #: -1.
        self.ends: list[int] = [(1 << _BITS) // weight for weight in weights]
        self.stopped_by: list[int] = [-1] * len(weights)
        #: The level up to which all is known.
        self._level = 0
        #: The claims that may grow above it: their indexes, numbers, and ends.
        self._numbers = list(range(len(weights)))
        self._claims = [times, self.ends, self.stopped_by]
        #: The amount of each pool for these, with bits after the point.
        self._there = [have << _BITS for have in supply]
        #: For each pool that is not used up: the level at which each claim exceeds its
        #: least, or never; its least; its request; and its growth per level of 1.
        self._pools: dict[int, _Columns] = {}
        for pool, (needs, least) in enumerate(zip(wanted, lows, strict=True)):
            speeds = list(map(mul, weights, needs))
            starts = [
                (low << _BITS) // speed if low < need else _NEVER
                for low, need, speed in zip(least, needs, speeds, strict=True)
            ]
            if min(starts) < _NEVER:
                self._pools[pool] = [starts, least, needs, speeds]

    def fill(self) -> None:
        """Raise the level until no claim grows any more."""
        while self._pools and self._numbers:
            first = max(self._claims[1])
            used_up = -1
            for pool in self._pools:
                limit = self._limit(pool, first)
                if limit < first:
                    first, used_up = self._used_up_at(pool, limit, first), pool
            if used_up < 0:
                return
            self._use_up(used_up, first)

    def _used_up_at(self, pool: int, level: int, bound: int) -> int:
        """
        Return the level at which *pool* is used up, which is below *bound*.

        After each *level* that is tried, the next one is where the pool would be used
        up if all claims that grow at this level grew from their beginning to their end.
        """
        low, high = self._level - 1, bound
        at_low = at_high = bound
        if level <= low:
            rate = sum(map(mul, self._claims[0], self._pools[pool][3])) or 1
            level = min(max(self._there[pool] // rate, self._level), bound - 1)
        tries = 0
        while True:
            limit = self._limit(pool, level)
            if limit == level:
                return level
            if limit < level:
                high, at_high = level, limit
            else:
                low, at_low = level, limit
            tries += 1
            if low < limit < high and tries % _PATIENCE:
                level = limit
                continue
            # The steps go astray, or are slow, so half of the interval is left out.
            turns = (self._level, at_low, *self._pools[pool][0], *self._claims[1])
            between = sorted([turn for turn in turns if low < turn < high])
            if not between:
                return max(self._level, at_high)
            level = between[len(between) // 2]

    def _limit(self, pool: int, level: int) -> int:
        """Return the level at which *pool* is used up if all growing claims go on."""
        held, rate = _held(level, self._claims, self._pools[pool])
        rest = self._there[pool] - held
        if rate:
            return rest // rate
        return _NEVER if rest >= 0 else -1

    def _use_up(self, used_up: int, level: int) -> None:
        """End the growth of all claims on a pool that is used up."""
        ends, stopped_by, numbers = self.ends, self.stopped_by, self._numbers
        for number, start in zip(numbers, self._pools.pop(used_up)[0], strict=True):
            end = ends[number]
            # If two pools stop a claim at one level, the first one counts.
            if level < end and (
                start < end or (start == end and used_up < stopped_by[number])
            ):
                ends[number] = max(level, start)
                stopped_by[number] = used_up
        self._level = level
        if not self._pools:
            return
        now = [ends[number] for number in numbers]
        claims = [self._claims[0], now, [stopped_by[number] for number in numbers]]
        # A claim at its end keeps its amount, and is not looked at any more.
        grow = [end > level for end in now]
        done = list(map(not_, grow))
        (self._numbers,) = _only(grow, [numbers])
        self._claims = _only(grow, claims)
        claims = _only(done, claims)
        for pool, columns in self._pools.items():
            held, rate = _held(level, claims, _only(done, columns))
            self._there[pool] -= held + rate * level
            self._pools[pool] = _only(grow, columns)


def _held(level: int, claims: _Columns, pool: _Columns) -> tuple[int, int]:
    """Return the amount held of a pool at *level*, and the rate of growing claims."""
    held = grown = rate = 0
    for count, end, by, start, low, need, speed in zip(*claims, *pool, strict=True):
        if level < start:
            held += count * low
        elif level <= end:
            rate += count * speed
        elif by < 0:
            held += count * need
        else:
            grown += count * max(low << _BITS, speed * end)
    return (held << _BITS) + grown, rate


def _only(those: list[bool], columns: _Columns) -> _Columns:
    return [list(compress(column, those)) for column in columns]


def _cut_alike(supply: Amounts, chunks: Amounts, claim: Demand) -> tuple[Portion, ...]:
    """Cut the shares of like claims by the scarcest pool: see `_cut`."""
    wanted, lows, _, times = claim
    by, scarce, need_of_it = -1, 1, 1
    for pool, (have, need, low) in enumerate(zip(supply, wanted, lows, strict=True)):
        if need > low and have * need_of_it < scarce * times * need:
            by, scarce, need_of_it = pool, have, times * need
    if by < 0:
        return (Portion(wanted, times),)
    part = (scarce << _BITS) // need_of_it
    each = tuple(
        [
            # This is `_whole`, written out.
            need
            if not chunk or (amount := (part * need + _HALF) >> _BITS) >= need
            else low
            if (amount := amount - amount % chunk) < low
            else amount
            for need, low, chunk in zip(wanted, lows, chunks, strict=True)
        ]
    )
    remaining = [
        have - times * amount for have, amount in zip(supply, each, strict=True)
    ]
    return _hand_out(remaining, chunks, (claim,), [by], [each], [times], (0,))[0]


def _cut(
    supply: Amounts, chunks: Amounts, claims: tuple[Demand, ...]
) -> tuple[tuple[Portion, ...], ...]:
    """Return the filled amounts in whole chunks; remainders decide on the rest."""
    if not claims:
        return ()
    *pairs, weights, times = [list(map(itemgetter(n), claims)) for n in range(4)]
    wanted, lows = (
        [list(map(itemgetter(pool), rows)) for pool in range(len(supply))]
        for rows in pairs
    )
    filling = _Filling(supply, wanted, lows, weights, times)
    filling.fill()
    # The part of its request that each has, with bits after the point.
    parts = list(map(mul, filling.ends, weights))
    columns = [
        needs
        if not chunk
        # This is `_whole`, written out, since it runs for all claims.
        else [
            need
            if (amount := (part * need + _HALF) >> _BITS) >= need
            else low
            if (amount := amount - amount % chunk) < low
            else amount
            for part, need, low in zip(parts, needs, least, strict=True)
        ]
        for chunk, needs, least in zip(chunks, wanted, lows, strict=True)
    ]
    # Each entry is a remainder, with the index of its claim in the last bits: the
    # largest comes first.
    rests: list[int] = []
    for number, by in enumerate(filling.stopped_by):
        if by >= 0:
            exact = (parts[number] * wanted[by][number] + _HALF) >> (
                _BITS - _FRACTION_BITS
            )
            rest = (exact - (columns[by][number] << _FRACTION_BITS)) // chunks[by]
            rests.append((-max(0, rest) << _PLACE) | number)
    rests.sort()
    remaining = [
        have - sum(map(mul, times, column))
        for have, column in zip(supply, columns, strict=True)
    ]
    return _hand_out(
        remaining,
        chunks,
        claims,
        filling.stopped_by,
        list(zip(*columns, strict=True)),
        times,
        [rest & _PLACES for rest in rests],
    )


#: The most claims whose division is kept; a larger one takes long to look up, and to
#: keep.
_FEW_SEATS: Final = 100
_cut_before: Final = lru_cache(maxsize=256)(_cut)
_cut_alike_before: Final = lru_cache(maxsize=256)(_cut_alike)


def _hand_out(
    remaining: list[int],
    chunks: Amounts,
    claims: tuple[Demand, ...],
    stopped_by: list[int],
    held: list[Amounts],
    counts: list[int],
    turn: Sequence[int],
) -> tuple[tuple[Portion, ...], ...]:
    """
    Return all shares after handing out the rest, chunk by chunk, in *turn*.

    For each claim, *stopped_by* is the pool that it could use more of, or -1; *held*
    has the amounts of each of its members, and *counts* how many have them.
    """
    many = len(claims)
    # Members of a claim with less than others of it have an index of their own, after
    # all claims.
    who, by = list(claims), list(stopped_by)
    whose = list(range(many))
    # The number of gains so far, and that number when each claim was last asked:
    # without a new gain, the claim would get the same answer.
    gains = 0
    asked: dict[int, int] = {}
    while turn and any(remaining):
        places = len(whose)
        gained = []
        for number in turn:
            amounts, count = held[number], counts[number]
            more, fits = _take(
                who[number], amounts, count, by[number], remaining, chunks
            )
            asked[number] = gains
            if not fits:
                continue
            gains += 1
            gained.append(number)
            held[number] = more
            if fits < count:
                counts[number] = fits
                who.append(who[number])
                by.append(by[number])
                whose.append(whose[number])
                held.append(amounts)
                counts.append(count - fits)
        # A claim that got a chunk comes again after all others.
        turn = [*range(places, len(whose)), *sorted(gained)]
        if not turn and len(remaining) > 1:
            # With less of one pool, some can use more of another.
            turn = sorted([number for number, last in asked.items() if last < gains])
    shares = list(map(Portion, held, counts))
    if len(whose) == many:
        return tuple([(share,) for share in shares])
    by_claim: dict[int, list[Portion]] = {}
    for number, share in zip(whose, shares, strict=True):
        by_claim.setdefault(number, []).append(share)
    return tuple([tuple(sorted(parts, reverse=True)) for parts in by_claim.values()])


def _take(
    claim: Demand,
    amounts: Amounts,
    count: int,
    by: int,
    remaining: list[int],
    chunks: Amounts,
) -> tuple[Amounts, int]:
    """
    Return the amounts that a member with *amounts* has next, and how many of *count*.

    It gets a chunk more of the pool *by* that stopped it, and a matching amount of the
    others; these are taken from *remaining*.
    """
    wanted = claim.wanted
    whole, chunk, rest = wanted[by], chunks[by], remaining[by]
    part = amounts[by] + chunk
    more, fits = amounts, 0
    if rest >= chunk or amounts[by] + rest >= whole:
        fits = count
        reached = []
        for have, need, chunk, rest in zip(
            amounts, wanted, chunks, remaining, strict=True
        ):
            amount = need
            if chunk and part < whole:
                # This is `_whole`, written out.
                amount = need * part // whole
                amount -= amount % chunk
            if amount <= have:
                reached.append(have)
                continue
            reached.append(amount)
            if rest < fits * (amount - have):
                fits = rest // (amount - have)
        more = tuple(reached)
    elif _is_all(wanted, amounts, by, remaining, chunks):
        return amounts, 0
    if not fits or more == amounts:
        # A chunk of that pool is more than is left, but the claim may use some of
        # others.
        more = _topped_up(claim, amounts, remaining, chunks)
        if more == amounts:
            return amounts, 0
        fits = _times(remaining, amounts, more, count)
    for pool, after in enumerate(more):
        remaining[pool] -= fits * (after - amounts[pool])
    return more, fits


def _times(remaining: list[int], before: Amounts, after: Amounts, count: int) -> int:
    """Return how many of *count* claims can grow from *before* to *after*."""
    for have, old, new in zip(remaining, before, after, strict=True):
        if new > old and have < count * (new - old):
            count = have // (new - old)
    return count


def _is_all(
    wanted: Amounts, amounts: Amounts, by: int, remaining: list[int], chunks: Amounts
) -> bool:
    """
    Return whether surely no claim with *amounts* can have more.

    Less than a chunk is left of the pool *by* that stopped it, so that pool stays
    decisive; and it lacks no whole chunk of the matching amount of any other pool.
    """
    part, whole = amounts[by], wanted[by]
    room = part + remaining[by]
    for pool, (rest, chunk) in enumerate(zip(remaining, chunks, strict=True)):
        if chunk:
            want, amount = wanted[pool], amounts[pool]
            if rest >= chunk and (amount + chunk) * whole <= want * part:
                return False
            # An earlier pool that is as scarce, in whole chunks, may be decisive.
            if pool < by and (amount + rest - rest % chunk) * whole <= want * room:
                return False
    return True


def _topped_up(
    claim: Demand, amounts: Amounts, remaining: list[int], chunks: Amounts
) -> Amounts:
    """Return *amounts* plus the usable part of *remaining*, in proportion."""
    # A claim wants nothing of a pool that was made smaller, or it would not have its
    # least.
    room = tuple(
        [
            have + rest if rest > 0 else have
            for have, rest in zip(amounts, remaining, strict=True)
        ]
    )
    more = fitting(claim, room, chunks)
    assert more is not None  # noqa: S101 - it has its least
    return more if all(map(le, amounts, more)) else amounts


def _whole(amount: int, wanted: int, least: int, chunk: int) -> int:
    """Return *amount* in whole chunks, at least *least*; all of *wanted* if reached."""
    if amount >= wanted or not chunk:
        return wanted
    return max(least, amount // chunk * chunk)


def fitting(claim: Demand, room: Amounts, chunks: Amounts) -> Amounts | None:
    """
    Return the most of *claim* that fits into *room*, scaled by its scarcest, or None.

    Its proportions are kept in whole chunks; None means that not even its least fits.
    """
    wanted, least, _, _ = claim
    top = bottom = 1
    for pool, (need, low) in enumerate(zip(wanted, least, strict=True)):
        have = room[pool]
        if low > have:
            return None
        # A pool with only the least is no measure of the rest.
        if need > low and have * bottom < top * need:
            # The value is in whole chunks, so that the other pools keep step with it.
            top, bottom = _whole(have, need, low, chunks[pool]), need
    if top == bottom:
        return wanted
    return tuple(
        [
            # This is `_whole`, written out.
            need
            if not chunk or (amount := need * top // bottom) >= need
            else max(low, amount - amount % chunk)
            for need, low, chunk in zip(wanted, least, chunks, strict=True)
        ]
    )
