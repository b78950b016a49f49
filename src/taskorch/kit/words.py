"""Numbers, times and lists in words, for people and for files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

#: Units below a second, the largest first.
_SMALL: Final = (("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
#: The value from which on the next unit is used, since three figures would round up to
#: it.
_AS_ONE: Final = 0.9995
_MINUTE: Final = 60
_HOUR: Final = 3_600
_DAY: Final = 86_400
#: The value from which on two digits would be in powers of ten.
_MANY: Final = 99.5
#: The most names that a sentence lists.
_SOME: Final = 5
#: The most characters of a sentence: an error may have any number of them.
_LONG: Final = 1_000
#: How many of these are from its end, which often says what follows.
_END: Final = 100
_BREAK: Final = r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*"
#: A place for a value in a text: `{name}`.
PLACE: Final = re.compile(r"\{([A-Za-z_]+)\}")
#: Of a journal with open tasks whose orchestrator is gone.
NOBODY_GOES_ON: Final = (
    "No orchestrator has its journal open: nothing goes on by itself."
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def duration(seconds: float) -> str:
    """Return a duration to about three figures: `350 ms`, `12.5 s`, `3 h 20 min`."""
    if 0 < seconds < _AS_ONE:
        unit, size = next(
            (one for one in _SMALL if seconds >= one[1] * _AS_ONE), _SMALL[-1]
        )
        return f"{seconds / size:.3g} {unit}"
    if seconds < _MINUTE - 0.05:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    if minutes < _HOUR // _MINUTE:
        return _both(minutes, "min", rest, "s")
    hours, rest = divmod(round(seconds / _MINUTE), _HOUR // _MINUTE)
    if hours < _DAY // _HOUR:
        return _both(hours, "h", rest, "min")
    days, rest = divmod(round(seconds / _HOUR), _DAY // _HOUR)
    return _both(days, "d", rest, "h")


def _both(whole: int, name: str, rest: int, below: str) -> str:
    return f"{whole:,} {name} {rest} {below}" if rest else f"{whole:,} {name}"


def in_words(seconds: float) -> str:
    """Return an inexact duration for a sentence, to two digits."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            many = seconds / size
            # A number with more digits before the point has none behind it.
            return f"{many:,.0f} {unit}" if many >= _MANY else f"{many:.2g} {unit}"
    if seconds >= _AS_ONE:
        return f"{seconds:.3g} s"
    return f"{seconds * 1_000:.3g} ms"


def moment(at: float) -> str:
    """Return the time *at*, in seconds since the epoch, for people."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def local_moment(at: datetime) -> str:
    """Return a time for people, in the time zone of this machine."""
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def stamp(at: float, timespec: str = "seconds") -> str:
    """Return the time *at*, in seconds since the epoch, for files and messages."""
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec=timespec)
    return text.removesuffix("+00:00") + "Z"


def ns_of(moment: datetime) -> int:
    """Return a datetime, aware or local, in ns since the epoch, exact to 1 us."""
    aware = moment if moment.tzinfo is not None else moment.astimezone()
    return (aware - _EPOCH) // _MICROSECOND * 1_000


def some(names: Sequence[str]) -> str:
    """Return *names* for a sentence: a few of them, and the number of the others."""
    if len(names) > _SOME:
        return f"{', '.join(names[:_SOME])} and {len(names) - _SOME:,} more"
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def outcome(state: str, allowed: int) -> str:
    """
    Return the *state* of a run for people, with its number of *allowed* failures.

    For a run that failed or was cancelled it is the state alone, which is more
    important.
    """
    if not allowed or state in ("failed", "cancelled"):
        return state
    return f"{state}, {allowed:,} {'failure' if allowed == 1 else 'failures'} allowed"


def in_a_line(text: str) -> str:
    """Return *text* as one readable line."""
    line = re.sub(_BREAK, " ", text)
    if len(line) <= _LONG:
        return line
    return f"{line[: _LONG - _END]} … {line[-_END:]}"


def first_line(text: str) -> str:
    """Return the first line of *text* that says something."""
    return (text.strip().splitlines() or [""])[0]


def fill(text: str, values: Mapping[str, str]) -> str:
    """Put *values* in the places of *text*; leave a place without a value as it is."""
    return PLACE.sub(lambda match: values.get(match[1], match[0]), text)


def sum_of(amounts: Iterable[Mapping[str, float] | None]) -> dict[str, float]:
    """Return the sum of amounts of resources, to the millionth."""
    whole: dict[str, int] = {}
    for each in amounts:
        for name, much in (each or {}).items():
            whole[name] = whole.get(name, 0) + round(much * 1e6)
    return {name: units / 1e6 for name, units in whole.items()}


def amounts_in_words(amounts: Mapping[str, float]) -> str:
    """Return amounts of resources in words: `11840 tokens and 0.06 eur`."""
    return " and ".join(f"{much:.12g} {name}" for name, much in amounts.items())


# -- numbers in a reason ---------------------------------------------------------------


def _short(value: float) -> str:
    """Return *value* to three significant figures, never in powers of ten."""
    return f"{float(f'{value:.3g}'):,.12g}"


def seconds(value: float) -> str:
    """Return a duration in words: `1.4 s`, `250 ms`."""
    return f"{_short(value * 1000)} ms" if 0 < value < 1 else f"{_short(value)} s"


def share(value: float) -> str:
    """Return a fraction of one in words: `50 %`."""
    return f"{_short(value * 100)} %"


def amount(value: float) -> str:
    """Return an amount of a resource in full, since the last digit may matter."""
    return f"{value:,.15g}"
