"""Who has held something by hand for long, while tasks wait for it: a leak, perhaps."""

from __future__ import annotations

from taskorch._limits import HELD_SECONDS, NS
from taskorch.kernel import Kernel
from taskorch.model import HealthCheck
from taskorch.runtime._runtime import Runtime


def held_for_long(runtime: Runtime) -> list[HealthCheck]:
    """What health says of allocations by hand; takes no lock, and waits for nobody."""
    kernel = runtime.kernel
    if not kernel.allocations:
        return []
    now = runtime.now()
    told = []
    for row in list(kernel.allocations.values()):
        seconds = (now - row.since_ns) / NS
        wanted = [name for name, _ in row.units if _is_wanted(kernel, name)]
        if wanted and seconds > HELD_SECONDS:
            what = ", ".join(wanted)
            told.append(
                f"allocation {row.id} has been held by {row.owner} "
                f"for {seconds / 3_600:.1f} h, and tasks wait for {what}"
            )
    return [HealthCheck("resources", "degraded" if told else "ok", "; ".join(told))]


def _is_wanted(kernel: Kernel, name: str) -> bool:
    """Whether tasks wait for some of a pool."""
    pool = kernel.pools.get(name)
    if pool is None:
        return False
    places = list(pool.short.values())
    return bool(pool.parked) or any(place.members for place in places)
