"""How numbers stand in what people read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

__all__ = ("duration", "listed", "number", "percent")

#: From here on seconds are not said in milliseconds.
_AS_ONE: Final = 0.9995
_MINUTE: Final = 60
_HOUR: Final = 3_600
_DAY: Final = 86_400


def duration(seconds: float) -> str:
    """A duration to about three figures: `350 ms`, `12.5 s`, `3 h 20 min`."""
    if 0 < seconds < _AS_ONE:
        return f"{seconds * 1_000:.3g} ms"
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


def number(value: float) -> str:
    """An amount, to three figures behind which nothing whole is lost."""
    if value >= 100 or value == int(value):  # noqa: PLR2004 - three figures
        return f"{round(value):,}"
    return f"{value:.3g}"


def percent(value: float) -> str:
    """A share in percent: `18 %`, `0.4 %`."""
    if 0 < value < 0.1:  # noqa: PLR2004 - what is shown
        return "less than 0.1 %"
    return f"{value:.2g} %" if value < 10 else f"{round(value):,} %"  # noqa: PLR2004 - two figures


def listed(reasons: Mapping[str, str], most: int) -> Iterator[tuple[str, str]]:
    """The first *most* of them."""
    return islice(reasons.items(), most)
