"""What is in use of the pools, and by whom."""

from __future__ import annotations

from collections.abc import Mapping

from taskorch._base._frozen import frozen
from taskorch._base._visible import visible
from taskorch.model._quota import Quota
from taskorch.model._read_only import ReadOnly
from taskorch.model._resources import Resources

_NOBODY: Mapping[str, float] = ReadOnly({})


@frozen
class QuotaUsage:
    """
    A quota, and how much of it is in use.

    Attributes:
        quota: The quota.
        used: How much is held of what it bounds; more than it allows, if it is soft, or
            became less meanwhile.
        running: How many run, if it bounds that; else 0.
    """

    quota: Quota
    used: Resources
    running: int = 0


@frozen
class PoolUsage:
    """
    How much of a pool is in use.

    Attributes:
        total: How much there is.
        used: How much is held; more than the total, if that became less meanwhile.
        holders: Who holds how much, where that was asked: ids of tasks, and
            allocations by hand.
    """

    total: float
    used: float
    holders: Mapping[str, float] = _NOBODY

    @property
    def free(self) -> float:
        """What is left; 0 where more is held than there is any more."""
        return max(0.0, self.total - self.used)

    def __str__(self) -> str:
        text = f"{self.used:.12g} of {self.total:.12g} in use"
        held = ", ".join(f"{name}: {much:.12g}" for name, much in self.holders.items())
        return visible(f"{text} ({held})" if held else text)
