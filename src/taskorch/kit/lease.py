"""
Leases, which end unless they are renewed.

Decision: connections-to-peers.
"""

from __future__ import annotations


class Lease:
    """
    A lease, which ends unless it is renewed.

    The giver may give the same to another once it is over; the holder must give up the
    leased object by then. Times are of the caller's own clock, in its unit: each side
    has a lease of its own, and neither reads the clock of the other.

    Args:
        length: Its length from each renewal.
        since: The time at which it was given.
    """

    __slots__ = ("length", "since")

    def __init__(self, length: float, since: float) -> None:
        self.length: float = length
        self.since: float = since

    def renew(self, since: float) -> None:
        """
        Renew it from *since* on, if that is later than before.

        The holder passes the time of its request for the renewal: the other side may
        have granted it at once, and the answer may have taken long.
        """
        self.since = max(self.since, since)

    def silence(self, now: float) -> float:
        """Return the seconds since it was renewed."""
        return now - self.since

    def is_over(self, now: float) -> bool:
        """Return whether it was not renewed in time."""
        return self.silence(now) >= self.length
