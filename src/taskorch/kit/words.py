"""How numbers and moments stand in what people read, and in files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

#: What is less than a second, in its units; the largest first.
_SMALL: Final = (("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
#: From here on something is said in the next unit: three figures would be that much.
_AS_ONE: Final = 0.9995
_MINUTE: Final = 60
_HOUR: Final = 3_600
_DAY: Final = 86_400


def duration(seconds: float) -> str:
    """A duration to about three figures: `350 ms`, `12.5 s`, `3 h 20 min`."""
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


def moment(at: float) -> str:
    """The moment *at*, in seconds since the epoch, for people."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def sum_of(amounts: Iterable[Mapping[str, float] | None]) -> dict[str, float]:
    """Amounts of resources together; to the millionth, as they are kept."""
    whole: dict[str, int] = {}
    for each in amounts:
        for name, much in (each or {}).items():
            whole[name] = whole.get(name, 0) + round(much * 1e6)
    return {name: units / 1e6 for name, units in whole.items()}


def amounts_in_words(amounts: Mapping[str, float]) -> str:
    """Amounts of resources: `11840 tokens and 0.06 eur`."""
    return " and ".join(f"{much:.12g} {name}" for name, much in amounts.items())
