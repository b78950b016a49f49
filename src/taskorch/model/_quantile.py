"""Quantiles of what was measured, or drawn."""

from __future__ import annotations

from collections.abc import Sequence


def quantile(ordered: Sequence[int], percent: int) -> int:
    """
    The quantile by the nearest rank: the least value that so many are not above.

    The values, one at least, are *ordered*; *percent* is from 1 to 100.
    """
    # In whole numbers: 0.95 * 20 may be a little more than 19.
    return ordered[-(-len(ordered) * percent // 100) - 1]
