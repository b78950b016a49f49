"""
How long somebody counts as there: from their latest sign of life on.

Decision: 0199.
"""

from __future__ import annotations


class Lease:
    """
    Something that ends unless it is renewed.

    Who has given it may give the same to another once it is over; who has it gives up
    what it stands for by then. Times are of one clock of whoever asks, in its unit:
    each side has a lease of its own, and neither has the clock of the other.

    Args:
        length: How long it lasts from each renewal.
        since: When it was given.
    """

    __slots__ = ("length", "since")

    def __init__(self, length: float, since: float) -> None:
        self.length: float = length
        self.since: float = since

    def renew(self, since: float) -> None:
        """
        Let it last from *since* on, if that is later than before.

        Who has it takes the time when the renewal was asked for: the other side may
        have granted it at once, and the answer may have been long on its way.
        """
        self.since = max(self.since, since)

    def silence(self, now: float) -> float:
        """How long it was not renewed."""
        return now - self.since

    def is_over(self, now: float) -> bool:
        """Whether it has ended, and was not renewed in time."""
        return self.silence(now) >= self.length
