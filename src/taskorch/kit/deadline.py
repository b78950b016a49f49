"""
Deadline of a wait for a peer, even if it keeps sending.

Decision: connections-to-peers.
"""

from __future__ import annotations

from math import inf
from time import monotonic


class PeerDeadline:
    """
    The time at which a caller stops waiting for its peer.

    Attributes:
        at: The time, on the clock `time.monotonic`.
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
        Return the seconds that are left.

        Raises:
            TimeoutError: The deadline is over.
        """
        seconds = self.at - monotonic()
        if seconds <= 0:
            raise self.over()
        return seconds

    def over(self) -> TimeoutError:
        """Return the error for a wait that has reached the deadline."""
        return TimeoutError(f"it has not answered in {self.seconds:g} s")
