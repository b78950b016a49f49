"""Numbers in the words of a reason."""

from __future__ import annotations


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
