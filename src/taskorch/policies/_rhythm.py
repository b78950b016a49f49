"""
Load that recurs by the time of day, from the load in each minute of four weeks.

Decision: worker-pools.
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

#: The most days that are kept, including today.
_DAYS: Final = 29
#: The minutes of a day. An hour that the clocks leave out is unknown; for one that they
#: show twice the higher load counts.
_MINUTES: Final = 24 * 60
_UNKNOWN: Final = -1
#: The highest level: larger ones count as this.
_HIGHEST: Final = 1_000_000_000
#: Seconds between two times at which days are kept.
_SAVED: Final = 900.0
#: The extension that the documents of days belong to.
FORESIGHT: Final = "foresight"
#: The longest time in seconds that a load is expected ahead.
LONGEST: Final = 7_200.0
#: The most and the fewest earlier days that are compared.
_MOST: Final = 4
_FEWEST: Final = 3
#: How many days back weekdays, or weekends, are searched.
_BACK: Final = 14
#: Minutes for which a late load is still expected.
_LATE: Final = 3
#: A rise counts if it is more than this times the root of the level before: chance
#: alone makes a load of n tasks vary by that root.
_CHANCE: Final = 2.0
#: The least ratio of needed to unneeded load among the load started ahead.
_WORTH: Final = 0.5

#: The form of a day at the end of a key.
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")

_Day: TypeAlias = Sequence[int]


@frozen
class Expected:
    """
    A load that is expected soon.

    Attributes:
        level: The expected load.
        words: The time, and the number of earlier days with that load.
    """

    level: int
    words: str


class Rhythm:
    """
    The load in each minute of the last four weeks, and expectations from it.

    A minute is compared with the same minute of two sets of earlier days: the last four
    of the same weekday, and the last four from Monday to Friday, or of weekends. A
    level that was reached on three of the four (or on all, of three) is usual.

    A rise of the usual load that is due is expected on top of today's load, if it is
    more than chance. A set of days counts only if it foretells itself: each of its days
    is foretold from the others, and the needed part of the foretold load is at least
    half of the part that was not needed.

    It is a pure function of the minutes and the time: it keeps nothing else.

    Args:
        name: The beginning of the keys of the documents that keep the days.
        zone: The time zone of the load.

    Raises:
        InvalidTaskError: There is no such zone.
    """

    def __init__(self, name: str, zone: str) -> None:
        self.name = name
        self._zone = zone_of(zone)
        #: The level of each minute, by the number of the day.
        self._days: dict[int, array[int]] = {}
        #: For each day, the days that it is compared with; their usual levels; and the
        #: rises that they foretell.
        self._compared: dict[tuple[int, bool], Sequence[_Day]] = {}
        self._usual: dict[tuple[int, bool], _Day] = {}
        self._worth: dict[tuple[int, bool, int], set[int]] = {}
        #: Days with changes that are not kept yet; keys of days that are too old; and
        #: the time of the last keeping.
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
        Return the load expected within *seconds* from *wall* on, or None.

        At most `LONGEST` seconds count.
        """
        seconds = min(seconds, LONGEST)
        day, minute = self._place(wall)
        last = minute + int((wall % 60 + seconds) // 60)
        expected = (self._by(is_weekday, day, minute, last) for is_weekday in _SETS)
        return max(filter(None, expected), key=lambda each: each.level, default=None)

    # -- kept days -----------------------------------------------------------------

    def to_keep(self, now: float) -> list[tuple[str, Any]]:
        """
        Return documents to keep at *now*, in seconds, and None for those to drop.

        Each document has the levels of a day, each with the number of its minutes.
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
        """Load the days that earlier incarnations have kept."""
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
        """Add a day, and drop the oldest of too many."""
        self._days[day] = levels
        self._compared.clear()
        self._usual.clear()
        self._worth.clear()
        while len(self._days) > _DAYS:
            oldest = min(self._days)
            del self._days[oldest]
            self._old.append(self._key(oldest))
            self._unkept.discard(oldest)

    # -- usual levels --------------------------------------------------------------

    def _by(
        self, is_weekday: bool, day: int, minute: int, last: int
    ) -> Expected | None:
        """Return the rise expected from *minute* to *last*, by one set of days."""
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
        """Return the levels needed from one minute of *day* to another."""
        return _span(lambda on: self._days.get(on, _NO_DAY), day, first, last)

    def _usually(self, is_weekday: bool, day: int, first: int, last: int) -> _Day:
        """Return the usual levels from one minute of *day* to another."""
        return _span(lambda on: self._usual_on(is_weekday, on), day, first, last)

    def _usual_on(self, is_weekday: bool, day: int) -> _Day:
        key = day, is_weekday
        if key not in self._usual:
            days = self._earlier(is_weekday, day)
            self._usual[key] = _usual(days, len(days) // _MOST, _FEWEST)
        return self._usual[key]

    def _earlier(self, is_weekday: bool, day: int) -> Sequence[_Day]:
        """
        Return the levels of the earlier days that *day* is compared with.

        For each minute, the days with a known level count, the latest first.
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
        """Return whether days like *day* have foretold such rises."""
        key = day, is_weekday, ahead
        if key not in self._worth:
            self._worth[key] = _foretold(self._earlier(is_weekday, day), ahead)
        return rise.bit_length() in self._worth[key]

    def _place(self, wall: float) -> tuple[int, int]:
        """Return the day and the minute of the local time at *wall*."""
        at = datetime.fromtimestamp(wall, self._zone)
        return at.toordinal(), at.hour * 60 + at.minute


_SETS: Final = (True, False)
_NO_DAY: Final = array("i", [_UNKNOWN]) * _MINUTES


def _span(row: Callable[[int], _Day], day: int, first: int, last: int) -> _Day:
    """Return the levels between two minutes of *day*, which may be on other days."""
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
    """Return for each minute the first of *days* whose level is known."""
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
    Return for each minute the level that was reached on all but some of *days*.

    If some days are unknown, it is the level reached on all known ones.
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
    """Return the largest rise: the usual levels before and after, and its index."""
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
    Return the level that a usual rise leads to today; 0 if it does not count.

    Args:
        before: The usual level before it.
        now: The usual level after it.
        had: The highest level of the last minutes.
    """
    rise = now - before
    if rise <= _CHANCE * math.sqrt(before) or had >= now or 2 * had < before:
        return 0
    return rise + max(0, min(had, before))


def _foretold(days: Sequence[_Day], ahead: int) -> set[int]:
    """
    Return the sizes of rises that *days* foretell for each other, minutes *ahead*.

    Each size is judged on its own; the number of bits of a rise is its size.
    """
    needed: Counter[int] = Counter()
    idle: Counter[int] = Counter()
    # The day is extended by its own beginning, so that a load at midnight is foretold,
    # too.
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
    """Return levels, each with the number of minutes for which it held."""
    return [[level, len(list(run))] for level, run in groupby(levels)]


def _levels(runs: Any) -> array[int]:
    """Return the levels of the minutes of a day from *runs*; empty if invalid."""
    try:
        pairs = [(max(_UNKNOWN, int(n)), int(minutes)) for n, minutes in runs]
        if sum(max(0, minutes) for _, minutes in pairs) == _MINUTES:
            return array("i", chain(*([level] * minutes for level, minutes in pairs)))
    except (TypeError, ValueError, OverflowError):
        pass
    return array("i")
