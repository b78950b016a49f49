"""The only place that reads a clock."""

from __future__ import annotations

import time
from typing import Final

__all__ = ("MonotonicClock",)


class MonotonicClock:
    """
    Nanoseconds since the epoch that never go back.

    The wall clock is read once, when this is made; from then on only the monotonic
    one counts, so a change of the system's time changes nothing.
    """

    __slots__ = ("base", "now_ns")

    def __init__(self) -> None:
        base: Final = time.time_ns() - time.monotonic_ns()
        self.base = base
        monotonic = time.monotonic_ns

        def now_ns() -> int:
            return monotonic() + base

        #: The time in ns.
        self.now_ns = now_ns
