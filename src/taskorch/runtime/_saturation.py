"""
Pools that are nearly used up, and soft quotas that are exceeded.

Said once, and once more when that is well over.
"""

from __future__ import annotations

from typing import Final

from taskorch.events import (
    Event,
    PoolRelieved,
    PoolSaturated,
    QuotaExceeded,
    QuotaRelieved,
)
from taskorch.kernel import Kernel, PoolRow, meaning_of
from taskorch.model._ids import PHASE_LIMIT

_EVENTS: Final = frozenset[type[Event]](
    {PoolSaturated, PoolRelieved, QuotaExceeded, QuotaRelieved}
)
#: The share of a pool from which on it is saturated, and by how much less it must be
#: to be so no more; of a soft quota that was exceeded, less than all of it.
THRESHOLD: Final = 0.85
HYSTERESIS: Final = 0.1


class Saturation:
    """
    Reports saturated and relieved pools, and exceeded soft quotas, to listeners.

    And when a soft quota is exceeded, and when that is over. It is looked at after each
    step, under the lock: what is taken and given back at one instant is no news.
    """

    def __init__(self) -> None:
        self.threshold: float = THRESHOLD
        self.relief: float = THRESHOLD - HYSTERESIS
        self._saturated: dict[str, None] = {}

    def look(self, kernel: Kernel, now: int, wanted: frozenset[type[Event]]) -> None:
        """Report what changed since the last look, if an event in *wanted* says so."""
        if wanted.isdisjoint(_EVENTS):
            return
        for name, pool in kernel.pools.items():
            if pool.beyond:
                self._look_at_quota(kernel, now, pool)
                continue
            if _is_limit(pool):
                continue
            if name in self._saturated:
                if pool.used < self.relief * pool.total or not pool.used:
                    del self._saturated[name]
                    kernel.note(PoolRelieved, now, name, pool.used, pool.total)
            elif pool.used and pool.used >= self.threshold * pool.total:
                self._saturated[name] = None
                kernel.note(PoolSaturated, now, name, pool.used, pool.total)

    def _look_at_quota(self, kernel: Kernel, now: int, pool: PoolRow) -> None:
        limit = pool.total - pool.beyond
        cls: type[Event]
        if pool.name in self._saturated:
            if pool.used and pool.used >= (1 - HYSTERESIS) * limit:
                return
            del self._saturated[pool.name]
            cls = QuotaRelieved
        elif pool.used > limit:
            self._saturated[pool.name] = None
            cls = QuotaExceeded
        else:
            return
        kernel.note(cls, now, *meaning_of(pool), pool.used, limit)


def _is_limit(pool: PoolRow) -> bool:
    """Whether *pool* is a limit of a phase or a quota, which may be used up."""
    return pool.is_quota or PHASE_LIMIT.fullmatch(pool.name) is not None
