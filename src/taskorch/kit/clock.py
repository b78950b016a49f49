"""The only place that reads a clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final


class MonotonicClock:
    """
    Clock in nanoseconds since the epoch that never goes back.

    The wall clock is read once, when this is made; from then on only the monotonic
    one counts, so a change of the system's time changes nothing. It does not begin
    before *not_before*, the time of the last event of an earlier incarnation, even if
    the wall clock is behind.
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
    """Return the seconds since the epoch by the system's clock."""
    return time.time()
