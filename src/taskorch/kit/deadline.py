"""
Until when a peer is waited for, whatever it says meanwhile.

Decision: 0256.
"""

from __future__ import annotations

from math import inf
from time import monotonic


class PeerDeadline:
    """
    When a caller stops waiting for its peer.

    Attributes:
        at: The moment, as `time.monotonic` has it.
    """

    __slots__ = ("at", "seconds")

    def __init__(self) -> None:
        self.at: float = inf
        self.seconds: float = inf

    def set(self, seconds: float) -> None:
        """Wait for so many *seconds* from now on."""
        self.at, self.seconds = monotonic() + seconds, seconds

    def left(self) -> float:
        """
        The seconds that are left.

        Raises:
            TimeoutError: None are.
        """
        seconds = self.at - monotonic()
        if seconds <= 0:
            raise self.over()
        return seconds

    def over(self) -> TimeoutError:
        """The error of who has waited until then."""
        return TimeoutError(f"it has not answered in {self.seconds:g} s")
