"""When the slots of a schedule are: by cron's rules, or at equal distances."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches
from typing import Any, Final

from taskorch._limits import NS
from taskorch.errors import InvalidTaskError
from taskorch.model._show import show

#: Names for what is often said.
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
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
#: The shortest distance of two slots, in s.
_LEAST: Final = 0.001
_FIELDS: Final = "minute hour day-of-month month day-of-week"


class Times:
    """
    The slots of a schedule, in ns since the epoch.

    Args:
        when: Five fields of cron, six with seconds before them, one of the names
            `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`; `"every 15m"`; or a
            distance, in seconds or as a timedelta.
        zone: The name of the zone in which cron's fields are read.
        start_ns: When the first of equal distances begins.

    Raises:
        InvalidTaskError: It is no such text, it never comes, or there is no such zone.
        ImportError: cronsim is not installed.
    """

    def __init__(self, when: object, zone: str = "UTC", start_ns: int = 0) -> None:
        self.zone: tzinfo = zone_of(zone)
        self.text: str = text_of(when)
        self._start_ns = start_ns
        self._every: int = 0
        self._class: Any = None
        #: The slots from some time on, and that time.
        self._coming: tuple[int, Iterator[datetime]] | None = None
        match = _EVERY.fullmatch(self.text)
        if match is not None:
            self._every = int(float(match[1]) * _UNITS[match[2]] * NS)
            return
        self._expression = ALIASES.get(self.text.lower(), self.text)
        self._class = _cron()
        self._check()

    def _check(self) -> None:
        if self._expression.startswith("@"):
            msg = f"there is no {show(self._expression)}"
            if self._expression.lower() == "@reboot":
                msg = "'@reboot' is no time: submit the task when the program begins"
            raise InvalidTaskError(msg, hint=f"there are {', '.join(ALIASES)}")
        try:
            found = self._class(self._expression, datetime(2024, 1, 1, tzinfo=UTC))
        except _error() as error:
            raise self._wrong(str(error)) from None
        if next(found, None) is None:
            msg = f"{show(self.text)} never comes"
            raise InvalidTaskError(msg, hint="no year has such a day")

    def _wrong(self, why: str) -> InvalidTaskError:
        fields = self.text.split()
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
        """The first slot after *ns*; None: there is none."""
        if self._every:
            steps = (ns - self._start_ns) // self._every + 1
            return self._start_ns + max(steps, 0) * self._every
        coming = self._coming
        self._coming = None
        if coming is None or coming[0] != ns:
            slots = iter(self._class(self._expression, self._moment(ns)))
        else:
            slots = coming[1]
        for slot in slots:
            found: int = round(slot.timestamp()) * NS
            # At the change of clocks, or after the jump of a zone, it may stand still.
            if found > ns:
                self._coming = found, slots
                return found
        return None

    def until(self, ns: int) -> int | None:
        """The last slot that is not after *ns*; None: there is none."""
        if self._every:
            steps = (ns - self._start_ns) // self._every
            return self._start_ns + steps * self._every if steps >= 0 else None
        moment = self._moment(ns) + timedelta(seconds=1)
        for slot in self._class(self._expression, moment, reverse=True):
            found: int = round(slot.timestamp()) * NS
            if found <= ns:
                return found
        return None

    def _moment(self, ns: int) -> datetime:
        return datetime.fromtimestamp(ns // NS, self.zone)


def text_of(when: object) -> str:
    """
    What is said of when, as a text.

    Raises:
        InvalidTaskError: It is neither a text nor a distance.
    """
    if isinstance(when, timedelta):
        when = when.total_seconds()
    if isinstance(when, int | float) and not isinstance(when, bool):
        if not _LEAST <= when < 1e9:  # noqa: PLR2004 - some thirty years; NaN is neither
            msg = f"slots are at least {_LEAST:g} s apart, and not {show(when)} s"
            raise InvalidTaskError(msg)
        return f"every {when:.3f}".rstrip("0").rstrip(".") + "s"
    if not isinstance(when, str):
        msg = f"a schedule has a time of cron or a distance, not {show(when)}"
        raise InvalidTaskError(msg, hint="'0 3 * * *', 'every 15m', or a timedelta")
    text = " ".join(when.split())
    match = _EVERY.fullmatch(text)
    if match is not None and float(match[1]) * _UNITS[match[2]] < _LEAST:
        msg = f"slots are at least {_LEAST:g} s apart, and not {show(text)}"
        raise InvalidTaskError(msg)
    return text


def zone_of(name: object) -> tzinfo:
    """
    The zone of a name.

    Raises:
        InvalidTaskError: There is no such zone.
    """
    if name == "UTC":
        return UTC
    # Read from files, and by those alone who have schedules.
    from zoneinfo import ZoneInfo, available_timezones  # noqa: PLC0415

    try:
        if isinstance(name, str):
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        near = get_close_matches(str(name), sorted(available_timezones()), 1)
        hint = f"did you mean {near[0]!r}?" if near else "such as 'Europe/Berlin'"
        msg = f"there is no zone {show(name)}"
        raise InvalidTaskError(msg, hint=hint) from None
    msg = f"a zone is named by a text, not {show(name)}"
    raise InvalidTaskError(msg, hint="such as 'Europe/Berlin'")


def moment_ns(what: str, value: object, zone: tzinfo) -> int | None:
    """
    A moment in ns since the epoch; None stays None.

    Raises:
        InvalidTaskError: It is neither a datetime, an ISO text nor seconds.
    """
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            msg = f"{what} is a moment such as '2026-11-25T03:00', not {show(value)}"
            raise InvalidTaskError(msg) from None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=zone)
        return round(value.timestamp() * 1_000) * (NS // 1_000)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value * NS)
    msg = f"{what} is a datetime, an ISO text or seconds, not {show(value)}"
    raise InvalidTaskError(msg)


def slot_name(ns: int) -> str:
    """What a slot is called in the ids of its tasks: its time, in UTC."""
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
