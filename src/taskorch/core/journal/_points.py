"""
Points in the writing of a journal at which a test may strike.

Only the function that `taskorch.testing` has set is called there, while it is set.
"""

from __future__ import annotations

from collections.abc import Callable

_strike: Callable[[str], object] | None = None


def reach(point: str) -> None:
    """Note that a write has come to *point*."""
    if _strike is not None:
        _strike(point)


def install_fault(strike: Callable[[str], object] | None) -> None:
    """Call *strike* with the name of every point that is reached; None ends it."""
    global _strike  # noqa: PLW0603 - one process has one
    _strike = strike
