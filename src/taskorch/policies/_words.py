"""How numbers stand in a reason."""

from __future__ import annotations


def _short(value: float) -> str:
    """*value* to three significant figures, never in powers of ten."""
    return f"{float(f'{value:.3g}'):,.12g}"


def seconds(value: float) -> str:
    """A duration in seconds: `1.4 s`, `250 ms`."""
    return f"{_short(value * 1000)} ms" if 0 < value < 1 else f"{_short(value)} s"


def share(value: float) -> str:
    """A fraction of one: `50 %`."""
    return f"{_short(value * 100)} %"


def amount(value: float) -> str:
    """An amount of a resource, in full: whether it fits may hang on the last digit."""
    return f"{value:,.15g}"
