"""Who gets what of the pools: a fair share, where there is not enough for all."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from taskorch.errors import InvalidTaskError
from taskorch.model import NO_RESOURCES, Resources, check_fraction, to_units
from taskorch.policies._words import amount, count
from taskorch.protocols import Allocation, AllocationRequest, Context, PoolView

_SCALE: Final = 1_000_000
_DIGITS: Final = 6
_CPU: Final[Mapping[str, float]] = MappingProxyType({"cpu": 1.0})


class ProportionalAllocator:
    """
    The ResourceAllocator that divides what is free among those that wait.

    Where all that wait could be given what this one asks for, it gets all of it. Where
    not, the request is scaled down by one factor, so that it keeps its proportions:
    what is free of the scarcest resource, divided by what this request asks of it and
    by the number of tasks that wait, this one included. What the others ask for it
    cannot know; it takes them for alike. Shares are cut to whole chunks.

    The least that is granted is the share *least* of the request, in whole chunks and
    one at the least, or all of a request below a chunk. Where that is not free, the
    task waits. A resource that *chunks* does not name is not divided: it is granted
    whole. So more tasks run at once, each with less, and a task must look at
    `current_context().allocation` to know what it may use.

    Amounts are whole millionths, so that chunks add up exactly. It is not `rigid`,
    since it grants less than is asked: while resources are short, tasks that wait for
    them are asked about whenever some are released.

    Args:
        chunks: The resources that may be divided, and the pieces in which they are:
            `{"cpu": 2, "memory_mb": 256}`. None divides `cpu` into whole cores.
        least: The least share of a request that is of use, from 0 to 1; 1 grants
            requests whole.

    Raises:
        InvalidTaskError: A chunk is no amount above 0, or *least* is no number from 0
            to 1.
    """

    #: It may grant less than is asked: see the protocol.
    rigid = False

    def __init__(
        self, chunks: Mapping[str, float] | None = None, *, least: float = 0.25
    ) -> None:
        check_fraction("least", least)
        self.chunks: Mapping[str, float] = (
            _CPU if chunks is None else MappingProxyType(dict(chunks))
        )
        self.least = least
        #: Both in millionths.
        self._chunks = {
            name: to_units(name, size) for name, size in self.chunks.items()
        }
        self._least = round(least * _SCALE)
        for name, size in self._chunks.items():
            if not size:
                msg = f"chunks: a chunk of {name!r} is more than 0"
                raise InvalidTaskError(msg)

    def allocate(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        context: Context,
    ) -> Allocation:
        """As much of *request* as is its share now, or nothing yet."""
        wanted = request.resources
        if not wanted.units:
            return _NOTHING
        waiting = max(1, context.view.queued)
        # The part of the request that is granted: the fraction top / bottom.
        top, bottom = 1, 1
        for name, need in wanted.units:
            pool = pools.get(name)
            if pool is None:
                reason = f"{name}: needs {amount(wanted[name])}, and there is no pool"
                return Allocation(None, reason)
            free = _free_units(pool)
            least = self._least_of(name, need)
            if least > free:
                reason = (
                    f"{name}: needs {amount(least / _SCALE)} at the least, has "
                    f"{amount(free / _SCALE)} free of {amount(pool.total)}"
                )
                return Allocation(None, reason)
            if name in self._chunks and free * bottom < top * need * waiting:
                top, bottom = free, need * waiting
        if top == bottom:
            return Allocation(wanted, "all of it was free")
        units = tuple(
            (name, self._part_of(name, need, top, bottom))
            for name, need in wanted.units
        )
        if units == wanted.units:
            return Allocation(wanted, "all of it was free")
        granted = Resources.from_units(units)
        parts = ", ".join(
            f"{amount(granted[name])} of {amount(wanted[name])} {name}"
            for name in granted
            if granted[name] < wanted[name]
        )
        return Allocation(
            granted, f"{parts}: {count(waiting, 'task')} share what is free"
        )

    def _least_of(self, name: str, need: int) -> int:
        """The least that is granted of *need*; both in millionths."""
        chunk = self._chunks.get(name, need)
        # Rounded up to whole chunks.
        chunks = -(-need * self._least // (_SCALE * chunk))
        return min(need, max(1, chunks) * chunk)

    def _part_of(self, name: str, need: int, top: int, bottom: int) -> int:
        """What is granted of *need*, given the factor *top* / *bottom*."""
        chunk = self._chunks.get(name)
        if chunk is None:
            return need
        share = need * top // bottom
        return max(share // chunk * chunk, self._least_of(name, need))

    def __repr__(self) -> str:
        return f"ProportionalAllocator({dict(self.chunks)!r}, least={self.least!r})"


def _free_units(pool: PoolView) -> int:
    """What nobody holds, in millionths: nothing, where a pool was made smaller."""
    # Rounded, so that what a sum of floats leaves behind is no amount.
    return to_units(pool.name, max(0.0, round(pool.free, _DIGITS)))


_NOTHING: Final = Allocation(
    NO_RESOURCES, "it asks for nothing", reusable=ProportionalAllocator
)
