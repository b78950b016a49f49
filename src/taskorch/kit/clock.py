"""The only place that reads a clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final


class MonotonicClock:
    """
    Nanoseconds since the epoch that never go back.

    The wall clock is read once, when this is made; from then on only the monotonic
    one counts, so a change of the system's time changes nothing. It does not begin
    before *not_before*, the time of the last fact of an earlier life, whatever the wall
    clock says.
    """

    __slots__ = ("now_ns",)

    def __init__(self, not_before: int = 0) -> None:
        wall = max(time.time_ns(), not_before)
        base: Final = wall - time.monotonic_ns()
        monotonic = time.monotonic_ns

        def now_ns() -> int:
            return monotonic() + base

        #: The time in ns.
        self.now_ns: Callable[[], int] = now_ns


def wall() -> float:
    """Seconds since the epoch, as the system's clock shows them now."""
    return time.time()
