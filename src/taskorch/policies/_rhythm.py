"""
Which load recurs by the time of day: what was needed in each minute of four weeks.

Decision: 0237.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from itertools import chain, groupby
from typing import Any, Final, TypeAlias

from taskorch.kit.checks import zone_of
from taskorch.kit.frozen import frozen

#: Days that are known at the most, today included.
_DAYS: Final = 29
#: Minutes of a day: an hour that the clocks leave out is unknown, and of one that they
#: show twice the higher load counts.
_MINUTES: Final = 24 * 60
_UNKNOWN: Final = -1
#: More than this is not told apart.
_HIGHEST: Final = 1_000_000_000
#: Seconds between two times at which days are kept.
_SAVED: Final = 900.0
#: The name of the documents that are days.
FORESIGHT: Final = "foresight"
#: Seconds that anything is expected ahead, at the most: what is later is not looked at.
LONGEST: Final = 7_200.0
#: Earlier days that are compared, at the most and at the least.
_MOST: Final = 4
_FEWEST: Final = 3
#: How far back days from Monday to Friday, or of weekends, are looked for.
_BACK: Final = 14
#: Minutes for which a load is awaited that is late.
_LATE: Final = 3
#: A rise is more than so many times the root of what was needed before: chance alone
#: makes a load of n tasks rise and fall by that root.
_CHANCE: Final = 2.0
#: What was started ahead and needed is at least this part of what was not needed.
_WORTH: Final = 0.5

#: How a day ends a key.
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")

_Day: TypeAlias = Sequence[int]


@frozen
class Expected:
    """
    What is expected soon.

    Attributes:
        level: How much is needed then.
        words: When, and on how many days before.
    """

    level: int
    words: str


class Rhythm:
    """
    What was needed in each minute of the last four weeks, and what is expected by that.

    A minute is compared with the same minute of two sets of earlier days: the last four
    of the same weekday, and the last four from Monday to Friday, or of weekends. What
    was reached on three of the four (or on all, of three) is usual.

    A rise of the usual load that is due is expected on top of what is needed today, if
    it is more than chance makes. A set of days counts only if it foretells itself: each
    of its days is foretold from the others, and what was needed of what would have been
    there ahead is at least half of what was not.

    It is a pure function of the minutes and the time: it keeps nothing else.

    Args:
        name: How the keys begin of the documents that keep the days.
        zone: The name of the zone whose clocks show the hours of the load.

    Raises:
        InvalidTaskError: There is no such zone.
    """

    def __init__(self, name: str, zone: str) -> None:
        self.name = name
        self._zone = zone_of(zone)
        #: By the number of the day, the level of each minute.
        self._days: dict[int, array[int]] = {}
        #: The days that one is compared with, what is usual by these, and which rises
        #: they foretell.
        self._compared: dict[tuple[int, bool], Sequence[_Day]] = {}
        self._usual: dict[tuple[int, bool], _Day] = {}
        self._worth: dict[tuple[int, bool, int], set[int]] = {}
        #: Days of which something is not kept yet, keys of days that are too old, and
        #: when that was done last.
        self._unkept: set[int] = set()
        self._old: list[str] = []
        self._kept = -math.inf

    def note(self, wall: float, level: int) -> None:
        """Note that *level* was needed at *wall*, in seconds since the epoch."""
        day, minute = self._place(wall)
        if day not in self._days:
            self._take(day, _NO_DAY[:])
        levels = self._days.get(day)
        if levels is not None:  # else the clock went back to before all that is known
            self._unkept.add(day)
            levels[minute] = max(levels[minute], min(level, _HIGHEST))

    def expects(self, wall: float, seconds: float) -> Expected | None:
        """
        What is expected from *wall* on for *seconds*; None: nothing recurs then.

        Of more than `LONGEST` seconds, the first count.
        """
        seconds = min(seconds, LONGEST)
        day, minute = self._place(wall)
        last = minute + int((wall % 60 + seconds) // 60)
        expected = (self._by(is_weekday, day, minute, last) for is_weekday in _SETS)
        return max(filter(None, expected), key=lambda each: each.level, default=None)

    # -- what is kept --------------------------------------------------------------

    def to_keep(self, now: float) -> list[tuple[str, Any]]:
        """
        Documents that are to be kept at *now*, in seconds, and None for others to drop.

        Each is of a day, and has its levels, each with the minutes for which it held.
        """
        # A clock that was ahead for a while may have gone back.
        if self._kept <= now < self._kept + _SAVED:
            return []
        self._kept = now
        days, self._unkept = sorted(self._unkept), set()
        old, self._old = self._old, []
        documents = [(self._key(day), _runs(self._days[day])) for day in days]
        return [*dict.fromkeys(old).items(), *documents]

    def recall(self, kept: Mapping[str, object], wall: float) -> None:
        """Know the days again that earlier incarnations have kept."""
        today = self._place(wall)[0]
        for day in range(today - _DAYS + 1, today + 1):
            levels = _levels(kept.get(self._key(day)))
            if len(levels) == _MINUTES:
                self._take(day, levels)
        first = self._key(today - _DAYS + 1)
        self._old += [key for key in kept if self._is_day(key) and key < first]

    def _key(self, day: int) -> str:
        return f"{self.name}/{date.fromordinal(day)}"

    def _is_day(self, key: str) -> bool:
        name, _, day = key.rpartition("/")
        return name == self.name and bool(_DAY.fullmatch(day))

    def _take(self, day: int, levels: array[int]) -> None:
        """Know a day, and forget the oldest of too many."""
        self._days[day] = levels
        self._compared.clear()
        self._usual.clear()
        self._worth.clear()
        while len(self._days) > _DAYS:
            oldest = min(self._days)
            del self._days[oldest]
            self._old.append(self._key(oldest))
            self._unkept.discard(oldest)

    # -- what is usual -------------------------------------------------------------

    def _by(
        self, is_weekday: bool, day: int, minute: int, last: int
    ) -> Expected | None:
        """What is expected from a minute to another, by one set of days."""
        first = minute - _LATE
        before, now, place = _largest(self._usually(is_weekday, day, first, last))
        level = _rise(before, now, max(self._levels(day, first, minute)))
        on, at = divmod(first + place, _MINUTES)
        on += day
        if not level or not self._counts(is_weekday, on, last - minute, now - before):
            return None
        levels = [each[at] for each in self._earlier(is_weekday, on)]
        compared = sum(each != _UNKNOWN for each in levels)
        which = date.fromordinal(on).strftime("%A") + "s" if is_weekday else _kind(on)
        words = f"at {at // 60:02}:{at % 60:02}, as on"
        many = sum(each >= now for each in levels)
        return Expected(level, f"{words} {many} of {compared} {which}")

    def _levels(self, day: int, first: int, last: int) -> _Day:
        """What was needed from one minute of *day* to another."""
        return _span(lambda on: self._days.get(on, _NO_DAY), day, first, last)

    def _usually(self, is_weekday: bool, day: int, first: int, last: int) -> _Day:
        """What is usual from one minute of *day* to another."""
        return _span(lambda on: self._usual_on(is_weekday, on), day, first, last)

    def _usual_on(self, is_weekday: bool, day: int) -> _Day:
        key = day, is_weekday
        if key not in self._usual:
            days = self._earlier(is_weekday, day)
            self._usual[key] = _usual(days, len(days) // _MOST, _FEWEST)
        return self._usual[key]

    def _earlier(self, is_weekday: bool, day: int) -> Sequence[_Day]:
        """
        What was needed on the days before *day* that it is compared with.

        Of each minute, those days count that are known there, the latest first.
        """
        key = day, is_weekday
        if key not in self._compared:
            numbers = range(day - 7, day - _DAYS, -7)
            if not is_weekday:
                numbers = range(day - 1, day - _BACK - 1, -1)
            alike = [
                self._days[each]
                for each in numbers
                if each in self._days and _is_weekend(each) == _is_weekend(day)
            ]
            self._compared[key] = _known(alike)
        return self._compared[key]

    def _counts(self, is_weekday: bool, day: int, ahead: int, rise: int) -> bool:
        """Whether the days that *day* is compared with foretell such rises."""
        key = day, is_weekday, ahead
        if key not in self._worth:
            self._worth[key] = _foretold(self._earlier(is_weekday, day), ahead)
        return rise.bit_length() in self._worth[key]

    def _place(self, wall: float) -> tuple[int, int]:
        """The day and the minute that clocks show at *wall*."""
        at = datetime.fromtimestamp(wall, self._zone)
        return at.toordinal(), at.hour * 60 + at.minute


_SETS: Final = (True, False)
_NO_DAY: Final = array("i", [_UNKNOWN]) * _MINUTES


def _span(row: Callable[[int], _Day], day: int, first: int, last: int) -> _Day:
    """From one minute of *day* to another, which may be of the days beside it."""
    if first >= 0 and last < _MINUTES:
        return row(day)[first : last + 1]
    return [
        row(day + minute // _MINUTES)[minute % _MINUTES]
        for minute in range(first, last + 1)
    ]


def _is_weekend(day: int) -> bool:
    return date.fromordinal(day).weekday() >= 5  # noqa: PLR2004 - Saturday


def _kind(day: int) -> str:
    return "days of weekends" if _is_weekend(day) else "days from Monday to Friday"


def _known(days: Sequence[_Day]) -> Sequence[_Day]:
    """Of each minute, the first of *days* that are known there."""
    if not any(_UNKNOWN in levels for levels in days[:_MOST]):
        return days[:_MOST]
    padding = [_UNKNOWN] * _MOST
    minutes = (
        ([level for level in levels if level != _UNKNOWN] + padding)[:_MOST]
        for levels in zip(*days, strict=True)
    )
    return list(zip(*minutes, strict=True))


def _usual(days: Sequence[_Day], misses: int, fewest: int) -> _Day:
    """
    Of each minute, what was reached on all of *days* but some.

    Where not all are known, it is what was reached on all that are.
    """
    if len(days) < fewest:
        return _NO_DAY
    minutes = zip(*days, strict=True)
    if not any(_UNKNOWN in levels for levels in days):
        return [sorted(levels)[misses] for levels in minutes]
    usual = []
    for levels in minutes:
        ranked = sorted(level for level in levels if level != _UNKNOWN)
        least = misses if len(ranked) == len(days) else 0
        usual.append(ranked[least] if len(ranked) >= fewest else _UNKNOWN)
    return usual


def _largest(usual: _Day) -> tuple[int, int, int]:
    """The largest rise: what is usual before it and then, and the place of that."""
    before = now = where = 0
    low = _UNKNOWN
    for place, level in enumerate(usual):
        if low == _UNKNOWN or level < low:
            low = level
        elif level - low > now - before:
            before, now, where = low, level, place
    return before, now, where


def _rise(before: int, now: int, had: int) -> int:
    """
    What a rise of what is usual comes to today; 0: there is none that counts.

    Args:
        before: What is usual before it.
        now: What is usual then.
        had: What was needed in the last minutes, at the most.
    """
    rise = now - before
    if rise <= _CHANCE * math.sqrt(before) or had >= now or 2 * had < before:
        return 0
    return rise + max(0, min(had, before))


def _foretold(days: Sequence[_Day], ahead: int) -> set[int]:
    """
    The rises on each of *days* that the others foretold, *ahead* minutes before.

    Large ones do not vouch for small ones: they are told apart by their number of bits.
    """
    needed: Counter[int] = Counter()
    idle: Counter[int] = Counter()
    # A day ends as it begins: what comes at midnight is foretold, too.
    days = [[*day, *day[: ahead + _LATE]] for day in days]
    for place, actual in enumerate(days):
        others = [*days[:place], *days[place + 1 :]]
        usual = _usual(others, len(days) // _MOST, _FEWEST - 1)
        steps = [at for at in range(1, len(usual)) if usual[at] > usual[at - 1]]
        minutes = {at for step in steps for at in range(step - ahead, step + _LATE + 1)}
        for minute in minutes.intersection(range(_LATE, _LATE + _MINUTES)):
            first = minute - _LATE
            before, now, _ = _largest(usual[first : minute + ahead + 1])
            had = max(actual[first : minute + 1])
            extra = _rise(before, now, had) - max(0, had)
            came = actual[minute : minute + ahead + 1]
            if extra > 0 and _UNKNOWN not in came:
                of_use = min(extra, max(0, max(came) - max(0, had)))
                size = (now - before).bit_length()
                needed[size] += of_use
                idle[size] += extra - of_use
    return {size for size in needed if 0 < needed[size] >= _WORTH * idle[size]}


def _runs(levels: _Day) -> list[list[int]]:
    """Levels, each with the minutes for which it held."""
    return [[level, len(list(run))] for level, run in groupby(levels)]


def _levels(runs: Any) -> array[int]:
    """The levels of the minutes of a day, of *runs*; what is none leaves it empty."""
    try:
        pairs = [(max(_UNKNOWN, int(n)), int(minutes)) for n, minutes in runs]
        if sum(max(0, minutes) for _, minutes in pairs) == _MINUTES:
            return array("i", chain(*([level] * minutes for level, minutes in pairs)))
    except (TypeError, ValueError, OverflowError):
        pass
    return array("i")
