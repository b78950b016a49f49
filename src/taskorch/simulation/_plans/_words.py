"""How numbers stand in what people read."""

from __future__ import annotations


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
