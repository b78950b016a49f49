"""Who gets what of the pools: all of the request, or nothing yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from taskorch.model import NO_RESOURCES, to_units
from taskorch.policies._words import amount
from taskorch.protocols import Allocation, AllocationRequest, Context, PoolView

_SCALE: Final = 1_000_000
_DIGITS: Final = 6


class PoolAllocator:
    """
    The ResourceAllocator that grants a request whole, or not at all: elastic ones too.

    Amounts are compared in whole millionths, so that ten tasks of 0.1 fill one cpu
    exactly. A refusal names the first resource, by name, that is short. A pool that
    holds less than nothing, because it was made smaller, has nothing free.
    """

    #: It grants all that fits: see the protocol.
    rigid = True

    def allocate(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        context: Context,
    ) -> Allocation:
        """Grant *request* whole if every pool has it free, else nothing now."""
        return _NOTHING if not request.resources.units else whole(request, pools)

    def __repr__(self) -> str:
        return "PoolAllocator()"


def whole(request: AllocationRequest, pools: Mapping[str, PoolView]) -> Allocation:
    """Grant *request* whole if every pool has it free, or the task holds it already."""
    wanted = request.resources
    for name, need in wanted.units:
        pool = pools.get(name)
        if pool is None:
            reason = f"{name}: needs {amount(wanted[name])}, and there is no pool"
            return Allocation(None, reason)
        # A pool that was made smaller has nothing free. Rounded, so that what a sum of
        # floats leaves behind is no amount.
        free = to_units(name, max(0.0, round(pool.free, _DIGITS)))
        if request.held is not None:
            free += to_units(name, request.held[name])
        if need > free:
            reason = (
                f"{name}: needs {amount(wanted[name])}, has {amount(free / _SCALE)} "
                f"free of {amount(pool.total)}"
            )
            return Allocation(None, reason)
    return Allocation(wanted, "all of it was free")


_NOTHING: Final = Allocation(
    NO_RESOURCES, "it asks for nothing", reusable=PoolAllocator
)
