"""The times of the ticks of a schedule: by cron's rules, or at equal distances."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from math import isinf
from typing import Any, Final

from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import zone_of
from taskorch.kit.limits import NS
from taskorch.kit.ticks import FIRST, FIRST_TICK, LAST, LAST_TICK
from taskorch.kit.visible import is_text, show
from taskorch.kit.vocabulary import meant

#: Names of frequent times.
ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_EVERY: Final = re.compile(r"every\s+(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
#: A zone at the place where cron of Kubernetes and others has it.
_ZONE: Final = re.compile(r"(?:CRON_)?TZ=(\S+)\s+")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
#: The shortest distance between two ticks, in s.
_LEAST: Final = 0.001
#: A time without a zone, for the arithmetic of cron.
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001
_NO: Final = timedelta(0)
_SECOND: Final = timedelta(seconds=1)
#: A ms, in ns.
_MS: Final = NS // 1_000
#: In so many seconds, the clocks of a zone change once at most.
_WEEK: Final = 7 * 86_400
#: The last tick is looked for so far back, in s.
_BACK: Final = (3_600, 86_400, 40 * 86_400, 366 * 86_400, 9 * 366 * 86_400)
_FIELDS: Final = "minute hour day-of-month month day-of-week"


class TickTimes:
    """
    The ticks of a schedule, in ns since the epoch.

    Args:
        when: Five fields of cron, six with seconds before them, one of the names
            `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`; `"every 15m"`; or a
            distance, in seconds or as a timedelta.
        zone: The name of the zone in which cron's fields are read.
        start_ns: The time from which equal distances count.

    Raises:
        InvalidTaskError: *when* is malformed or never comes, or there is no such zone.
        ImportError: cronsim is not installed.
    """

    def __init__(self, when: object, zone: str = "UTC", start_ns: int = 0) -> None:
        self.zone: tzinfo = zone_of(zone)
        self.text: str = text_of(when)
        self._start_ns = start_ns
        self._every: int = 0
        self._class: Any = None
        #: The last moment that was asked for, and the tick after it.
        self._found: tuple[int | None, int | None] = (None, None)
        #: The ticks from a time on, and that time, as if clocks were never set. Each
        #: caller takes it away, because two threads may ask at once.
        self._coming: list[tuple[datetime, Iterator[datetime]]] = []
        match = _EVERY.fullmatch(self.text)
        if match is not None:
            self._every = round(float(match[1]) * _UNITS[match[2]] * NS)
            return
        self._expression = ALIASES.get(self.text.lower(), self.text)
        fields = self._expression.split()
        #: Debian's cron distinguishes them: fields without a star follow the wall
        #: clock. Minute and hour stand before the last three fields, with seconds
        #: before them or not.
        self._is_fixed: bool = not any(field.startswith("*") for field in fields[-5:-3])
        self._class = _cron()
        self._check()

    def _check(self) -> None:
        if self._expression.startswith("@"):
            msg = f"there is no {show(self._expression)}"
            if self._expression.lower() == "@reboot":
                msg = "'@reboot' is no time: submit the task when the program begins"
            hint = meant(self._expression, ALIASES, f"there are {', '.join(ALIASES)}")
            raise InvalidTaskError(msg, hint=hint)
        try:
            ticks = self._class(self._expression, datetime(2024, 1, 1, tzinfo=UTC))
        except _error() as error:
            raise self._wrong(str(error)) from None
        if next(ticks, None) is None:
            msg = f"{show(self.text)} never comes"
            raise InvalidTaskError(msg, hint="no year has such a day")

    def _wrong(self, why: str) -> InvalidTaskError:
        fields = self.text.split()
        zone = _ZONE.match(self.text)
        if zone is not None:
            msg = f"{show(self.text)} is no time of cron: it begins with a zone"
            hint = f"say the zone apart: {self.text[zone.end() :]!r}, zone={zone[1]!r}"
            return InvalidTaskError(msg, hint=hint)
        if f"@{self.text.lower()}" in ALIASES:
            msg = f"{show(self.text)} is no time of cron"
            return InvalidTaskError(msg, hint=f"did you mean '@{self.text.lower()}'?")
        if len(fields) not in (5, 6):
            msg = f"{show(self.text)} is no time of cron: it has {len(fields)} fields"
            return InvalidTaskError(
                msg, hint=f"the five are {_FIELDS}, as in '0 3 * * *'; or 'every 15m'"
            )
        if why == "Bad day-of-month" and fields[-3].isdigit():
            day = int(fields[-3])
            if 1 <= day <= 31:  # noqa: PLR2004 - days of a month
                msg = f"{show(self.text)} never comes: no such month has a day {day}"
                return InvalidTaskError(msg, hint="'L' is the last day of a month")
        where = why.removeprefix("Bad ")
        msg = f"{show(self.text)} is no time of cron: the {where} cannot be read"
        return InvalidTaskError(
            msg, hint=f"the five are {_FIELDS}, as in '0 3 * * 1-5'"
        )

    def after(self, ns: int) -> int | None:
        """Return the first tick after *ns*; None: there is none."""
        ns = max(ns, FIRST_TICK)
        if self._every:
            steps = (ns - self._start_ns) // self._every + 1
            nearest = self._start_ns + max(steps, 0) * self._every
            return nearest if nearest <= LAST_TICK else None
        asked, coming = self._found
        if ns == asked:
            return coming
        after = self._first_showing if self._is_fixed else self._each_showing
        second = None
        # The calendar may end before the next tick.
        with suppress(OverflowError):
            second = after(ns // NS) if ns < LAST_TICK else None
        tick = None if second is None or second * NS > LAST_TICK else second * NS
        # A due tick is asked for when it is planned, and again when it has come.
        self._found = ns, tick
        return tick

    def pass_over(self, after_ns: int, until_ns: int, most: int) -> tuple[int, int]:
        """
        Skip ticks up to *until_ns* without a look at each; the last *most* remain.

        Returns:
            Their number, and the last of them; 0 and *after_ns* if each must be looked
            at.
        """
        first = self.after(after_ns) if self._every else None
        if first is None or first > until_ns:
            return 0, after_ns
        passed = (until_ns - first) // self._every + 1 - most
        if passed <= 0:
            return 0, after_ns
        return passed, first + (passed - 1) * self._every

    def until(self, ns: int) -> int | None:
        """Return the last tick that is not after *ns*; None: there is none."""
        if self._every:
            steps = (ns - self._start_ns) // self._every
            return self._start_ns + steps * self._every if steps >= 0 else None
        for seconds in _BACK:
            last, tick = None, self.after(ns - seconds * NS)
            while tick is not None and tick <= ns:
                last, tick = tick, self.after(tick)
            if last is not None:
                return last
        return None

    def _each_showing(self, second: int) -> int | None:
        """Return the next moment at which the clock shows one of the times."""
        offset = self._offset(second)
        wall = _utc(second) + offset
        while True:
            shown = self._naive_after(wall)
            if shown is None:
                return None
            moment = _second(shown - offset)
            change = self._change(second, moment, offset)
            if change is None:
                return moment
            # The clocks change before that, so the search begins anew from there.
            second, offset = change, self._offset(change)
            wall = _utc(second) + offset - _SECOND

    def _first_showing(self, second: int) -> int | None:
        """
        Return the next time of a job that comes at a certain time of the day.

        A time that the clock shows twice counts once; one that it skips comes at the
        change.
        """
        wall = _utc(second) + self._offset(second)
        while True:
            shown = self._naive_after(wall)
            if shown is None:
                return None
            wall = shown
            # Of two moments that show this time, this is the first.
            moment = _second(
                shown - (shown.replace(tzinfo=self.zone).utcoffset() or _NO)
            )
            offset = self._offset(moment)
            if _utc(moment) + offset != shown:
                # The clock skips this time: with the old offset, it lies after the
                # change.
                before = self._offset(moment - 86_400)
                change = self._change(moment - 86_400, moment + 86_400, before)
                moment = moment if change is None else change
            if moment > second:
                return moment

    def _naive_after(self, wall: datetime) -> datetime | None:
        """Return the next time of cron after *wall*, as if clocks were never set."""
        ticks: Iterator[datetime] | None = None
        with suppress(IndexError):
            since, coming = self._coming.pop()
            ticks = coming if since == wall else None
        if ticks is None:
            ticks = iter(self._class(self._expression, wall))
        tick: datetime | None = next(ticks, None)
        if tick is not None:
            self._coming[:] = [(tick, ticks)]
        return tick

    def _offset(self, second: int) -> timedelta:
        """Return the offset of the zone from UTC."""
        return datetime.fromtimestamp(second, self.zone).utcoffset() or _NO

    def _change(self, since: int, until: int, offset: timedelta) -> int | None:
        """Return the first moment after *since*, up to *until*, with a new offset."""
        while since < until:
            step = min(until, since + _WEEK)
            if self._offset(step) != offset:
                while since + 1 < step:
                    middle = (since + step) // 2
                    if self._offset(middle) == offset:
                        since = middle
                    else:
                        step = middle
                return step
            since = step
        return None


def _utc(second: int) -> datetime:
    return _EPOCH + timedelta(seconds=second)


def _second(moment: datetime) -> int:
    return (moment - _EPOCH) // _SECOND


def text_of(when: object) -> str:
    """
    Return *when* as a text.

    Raises:
        InvalidTaskError: It is neither a text nor a distance.
    """
    if isinstance(when, timedelta):
        when = when.total_seconds()
    if isinstance(when, int | float) and not isinstance(when, bool):
        if not _LEAST <= when < 1e9:  # noqa: PLR2004 - some thirty years; NaN is neither
            msg = f"ticks are at least {_LEAST:g} s apart, and not {show(when)} s"
            raise InvalidTaskError(msg)
        return f"every {when:.3f}".rstrip("0").rstrip(".") + "s"
    if not is_text(when):
        msg = f"a schedule has a time of cron or a distance, not {show(when)}"
        raise InvalidTaskError(msg, hint="'0 3 * * *', 'every 15m', or a timedelta")
    text = " ".join(when.split())
    match = _EVERY.fullmatch(text)
    seconds = 1.0 if match is None else float(match[1]) * _UNITS[match[2]]
    if seconds < _LEAST:
        msg = f"ticks are at least {_LEAST:g} s apart, and not {show(text)}"
        raise InvalidTaskError(msg)
    if isinf(seconds * NS):
        msg = f"{show(text)} never comes"
        raise InvalidTaskError(msg, hint="calendars end with the year 9999")
    return text


def moment_ns(name: str, value: object, zone: tzinfo) -> int | None:
    """
    Return a moment in ns since the epoch, of whole ms; None stays None.

    Raises:
        InvalidTaskError: It is neither a datetime, an ISO text nor seconds, or out of
            range.
    """
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            msg = f"{name} is a moment such as '2026-11-25T03:00', not {show(value)}"
            raise InvalidTaskError(msg) from None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=zone)
        value = value.timestamp()
    if not isinstance(value, int | float) or isinstance(value, bool):
        msg = f"{name} is a datetime, an ISO text or seconds, not {show(value)}"
        raise InvalidTaskError(msg)
    if not FIRST <= value <= LAST:  # NaN is neither
        msg = f"{name} is a moment of the years 1 to 9999, not {show(value)} s"
        raise InvalidTaskError(msg, hint="seconds since 1970, and not milliseconds")
    # Documents have seconds: only whole ms are the same when they are read again.
    return round(value * 1_000) * _MS


def tick_name(ns: int) -> str:
    """Return the name of a tick in the ids of its tasks: its time, in UTC."""
    at = datetime.fromtimestamp(ns // NS, UTC)
    if ns % NS:
        return at.strftime("%Y-%m-%dT%H%M%S") + f".{ns % NS // 1000:06d}Z"
    return at.strftime("%Y-%m-%dT%H%M%SZ" if at.second else "%Y-%m-%dT%H%MZ")


def _error() -> type[Exception]:
    from cronsim import CronSimError  # noqa: PLC0415 - an extra

    error: type[Exception] = CronSimError
    return error


def _cron() -> Any:
    try:
        from cronsim import CronSim  # noqa: PLC0415 - an extra
    except ImportError as error:
        msg = (
            "times of cron need cronsim: pip install 'taskorch[cron]'; "
            "distances, such as 'every 1h', do without"
        )
        raise ImportError(msg) from error
    return CronSim
