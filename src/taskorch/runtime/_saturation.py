"""Pools that are nearly used up: said once, and once more when that is over."""

from __future__ import annotations

from typing import Final

from taskorch.events import Event, PoolRelieved, PoolSaturated
from taskorch.kernel import Kernel, PoolRow

__all__ = ("Saturation",)

_EVENTS: Final = frozenset[type[Event]]({PoolSaturated, PoolRelieved})
#: The share of a pool from which on it is saturated, and by how much less it must be
#: to be so no more.
THRESHOLD: Final = 0.85
HYSTERESIS: Final = 0.1


class Saturation:
    """
    Says when a pool is saturated, and when it is relieved, while somebody listens.

    It is looked at after each step, under the lock: what is taken and given back at
    one instant is no news.
    """

    def __init__(self) -> None:
        self.threshold: float = THRESHOLD
        self.relief: float = THRESHOLD - HYSTERESIS
        self._saturated: dict[str, None] = {}

    def look(self, kernel: Kernel, now: int, wanted: frozenset[type[Event]]) -> None:
        """Say what has changed, if somebody wants to hear of it."""
        if wanted.isdisjoint(_EVENTS):
            return
        for name, pool in kernel.pools.items():
            if _is_limit(pool):
                continue
            if name in self._saturated:
                if pool.used < self.relief * pool.total or not pool.used:
                    del self._saturated[name]
                    kernel.note(PoolRelieved, now, name, pool.used, pool.total)
            elif pool.used and pool.used >= self.threshold * pool.total:
                self._saturated[name] = None
                kernel.note(PoolSaturated, now, name, pool.used, pool.total)


def _is_limit(pool: PoolRow) -> bool:
    """Whether it is that of a phase or a quota, which is there to be used up."""
    return pool.is_quota or "/" in pool.name
