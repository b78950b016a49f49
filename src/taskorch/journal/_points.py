"""
Points in the writing of a journal at which a test may strike.

Nothing is called at them but what `taskorch.testing` sets, for as long as it says so.
"""

from __future__ import annotations

from collections.abc import Callable

_strike: Callable[[str], object] | None = None


def reach(point: str) -> None:
    """A write has come to *point*."""
    if _strike is not None:
        _strike(point)


def install_fault(strike: Callable[[str], object] | None) -> None:
    """Call *strike* with the name of every point that is reached; None: no more."""
    global _strike  # noqa: PLW0603 - there is one, as there is one process to kill
    _strike = strike
