"""
Grants from the pools: a whole request, or a fair share of an elastic one.

Decision: shares-and-sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final

from taskorch.errors import InvalidTaskError
from taskorch.kit.frozen import ReadOnly
from taskorch.kit.visible import counted
from taskorch.kit.words import amount
from taskorch.model import NO_RESOURCES, Resources, Units, to_units
from taskorch.policies._shares import Amounts, Demand, Portion, divide, fitting
from taskorch.protocols import (
    Allocation,
    AllocationRequest,
    Contender,
    Context,
    PoolView,
)

_SCALE: Final = 1_000_000
_DIGITS: Final = 6


class PoolAllocator:
    """
    ResourceAllocator that grants each request whole, or not at all, elastic ones too.

    Amounts are compared in whole millionths, so that ten tasks of 0.1 fill one cpu
    exactly. A refusal names the first resource, by name, that is short. A pool that
    holds less than nothing, because it was made smaller, has nothing free.
    """

    #: It grants every request that fits: see the protocol.
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
        # A pool that was made smaller has nothing free. The value is rounded, since a
        # sum of floats may leave a tiny rest.
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


_UNBOUNDED: Final = 1 << 62
#: The sizes of the pieces in which the usual resources are divided.
DEFAULT_CHUNKS: Final[Mapping[str, float]] = ReadOnly({"cpu": 1.0, "memory_mb": 256.0})


class ProportionalAllocator:
    """
    Default ResourceAllocator, which divides resources among elastic requests.

    A rigid request is granted whole, or waits, as by `PoolAllocator`. The rest is
    divided among the elastic requests that contend, running and waiting, in proportion
    to weight and request: in whole chunks by the method of the largest remainder, never
    below the least of a request nor above all of it. A request for several resources is
    scaled by its scarcest. If not all can have their least, the first ones have it.

    With `fallback="best_effort"` a task starts with the free part of its share, from
    its least up; with `"all_or_nothing"` once its whole share of all that there is is
    free: it waits for what rigid requests hold, too. Amounts that others hold above
    their shares come free at their next checkpoints, or ends. A resource that *chunks*
    does not name is granted whole.

    Args:
        chunks: The divided resources, with the sizes of their pieces, such as
            `{"cpu": 2, "memory_mb": 256}`. None divides `cpu` into single cores, and
            `memory_mb` into pieces of 256.

    Raises:
        InvalidTaskError: A chunk is no amount above 0.
    """

    #: Rigid requests are granted if they fit: see the protocol.
    rigid = True

    def __init__(self, chunks: Mapping[str, float] | None = None) -> None:
        if chunks is None:
            chunks = DEFAULT_CHUNKS
        elif not isinstance(chunks, Mapping):
            msg = f"chunks: a mapping of resources to sizes, not {chunks!r}"
            raise InvalidTaskError(msg, hint="chunks={'cpu': 2, 'memory_mb': 256}")
        else:
            chunks = ReadOnly(dict(chunks))
        self.chunks: Mapping[str, float] = chunks
        #: The chunks in millionths.
        self._chunks = {name: to_units(name, size) for name, size in chunks.items()}
        for name, size in self._chunks.items():
            if not size:
                msg = f"chunks: a chunk of {name!r} is more than 0"
                hint = "leave out what is not to be divided"
                raise InvalidTaskError(msg, hint=hint)

    def allocate(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        context: Context,
    ) -> Allocation:
        """Grant a rigid *request* whole, an elastic one its share, or nothing yet."""
        if not request.resources.units:
            return _NO_SHARE
        if request.least is None:
            return whole(request, pools)
        for name in request.resources:
            if name not in pools:
                reason = f"{name}: there is no pool"
                return Allocation(None, reason)
        contenders = context.view.contenders()
        return _Division(request, pools, contenders, self._chunks).answer()

    def __repr__(self) -> str:
        argument = "" if self.chunks is DEFAULT_CHUNKS else repr(dict(self.chunks))
        return f"ProportionalAllocator({argument})"


class _Division:
    """The amounts to divide, and the part that goes to one elastic request."""

    def __init__(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        contenders: Sequence[Contender],
        chunks: Mapping[str, int],
    ) -> None:
        assert request.least is not None  # noqa: S101 - it is elastic
        self._request = request
        self._pools = pools
        asked = [kind.resources.units for kind in contenders]
        names = {name for units in asked for name, _ in units}
        self._names = sorted(names.union(request.resources).intersection(pools))
        self._chunks = tuple([chunks.get(name, 0) for name in self._names])
        #: The free amounts, negative for a pool that was made smaller.
        self._free = tuple([_rest_of(pools[name]) for name in self._names])
        self._vectors: dict[Units, Amounts] = {}
        self._held = self._vector(request.held or NO_RESOURCES)
        self._claim = self._claim_of(request.resources, request.least, request.weight)
        self._contenders = contenders

    def answer(self) -> Allocation:
        """Return the amounts that the request gets now."""
        request = self._request
        is_all = request.held is None and request.fallback == "all_or_nothing"
        share, others = self._share(of_all=is_all)
        room = self._room()
        least = self._claim.least
        if is_all:
            share = self._on_worker(share)
            if share is None or not _fit(share, room):
                return Allocation(None, self._shortage(share or least, room, "share"))
            granted = share
        else:
            part = self._claim._replace(wanted=share or least)
            most = fitting(part, room, self._chunks)
            if most is None:
                return Allocation(None, self._shortage(least, room, "least"))
            granted = most
        return Allocation(self._resources(granted), self._reason(granted, others))

    # -- the division --------------------------------------------------------------

    def _share(self, *, of_all: bool) -> tuple[Amounts | None, int]:
        """
        Return the share, or None if too little is there; and how many contend.

        Args:
            of_all: Whether what rigid requests hold is divided, too.
        """
        running: dict[Demand, list[Amounts]] = {}
        waiting: dict[Demand, int] = {}
        for kind in self._contenders:
            claim = self._claim_of(kind.resources, kind.least, kind.weight)
            if kind.held:
                running.setdefault(claim, []).extend(map(self._vector, kind.held))
            if kind.waiting:
                waiting[claim] = waiting.get(claim, 0) + kind.waiting
        mine, is_running = self._claim, self._request.held is not None
        if is_running:
            running.setdefault(mine, [self._held])
            place = list(running).index(mine)
        else:
            waiting.setdefault(mine, 1)
            place = len(running) + list(waiting).index(mine)
        times = [*map(len, running.values()), *waiting.values()]
        claims = [
            Demand(claim.wanted, claim.least, claim.weight, count)
            for claim, count in zip([*running, *waiting], times, strict=True)
        ]
        supply = tuple(
            map(sum, zip(self._free, *chain(*running.values()), strict=True))
        )
        if of_all:
            totals = (self._pools[name].total for name in self._names)
            supply = tuple([round(total * _SCALE) for total in totals])
        total = sum(times)
        shares = divide(supply, self._chunks, tuple(claims))[place]
        if not shares:
            return None, total
        if is_running:
            return _kept(shares, self._held, running[mine]), total
        return shares[0].amounts, total

    def _claim_of(self, wanted: Resources, least: Resources, weight: float) -> Demand:
        return Demand(self._vector(wanted), self._vector(least), round(weight * _SCALE))

    def _vector(self, resources: Resources) -> Amounts:
        vector = self._vectors.get(resources.units)
        if vector is None:
            units = dict(resources.units)
            vector = tuple([units.get(name, 0) for name in self._names])
            self._vectors[resources.units] = vector
        return vector

    # -- amounts that fit ----------------------------------------------------------

    def _room(self) -> Amounts:
        """Return the amounts that the task could have: free ones, and its own."""
        # The task may keep its amounts, even of a pool that was made smaller.
        room = [
            held + max(0, free)
            for free, held in zip(self._free, self._held, strict=True)
        ]
        worker = self._request.agent
        if worker.capacity is not None:
            used = dict(worker.used.units)
            for place, name in enumerate(self._names):
                if name in worker.capacity:
                    own = to_units(name, worker.capacity[name]) - used.get(name, 0)
                    room[place] = min(room[place], own + self._held[place])
        return tuple(room)

    def _on_worker(self, share: Amounts | None) -> Amounts | None:
        """Return *share*, as far as the worker is large enough for it."""
        capacity = self._request.agent.capacity
        if share is None or capacity is None:
            return share
        room = tuple(
            [
                to_units(name, capacity[name]) if name in capacity else _UNBOUNDED
                for name in self._names
            ]
        )
        return fitting(self._claim._replace(wanted=share), room, self._chunks)

    # -- words ---------------------------------------------------------------------

    def _resources(self, amounts: Amounts) -> Resources:
        pairs = zip(self._names, amounts, strict=True)
        return Resources.from_units(tuple([pair for pair in pairs if pair[1]]))

    def _reason(self, granted: Amounts, contend: int) -> str:
        asked = self._request.resources
        parts = [
            f"{amount(part / _SCALE)} of {amount(asked[name])} {name}"
            for name, part in zip(self._names, granted, strict=True)
            if name in asked and part < to_units(name, asked[name])
        ]
        if not parts:
            return "all of it was free"
        why = (
            f"{counted(contend, 'request')} contend" if contend > 1 else "more is held"
        )
        return f"{', '.join(parts)}: {why}"

    def _shortage(self, need: Amounts, room: Amounts, noun: str) -> str:
        for name, units, have in zip(self._names, need, room, strict=True):
            if units > have:
                total = amount(self._pools[name].total)
                return (
                    f"{name}: its {noun} is {amount(units / _SCALE)}, has "
                    f"{amount(have / _SCALE)} free of {total}"
                )
        return "others come first whose least takes all there is"


def _rest_of(pool: PoolView) -> int:
    """Return the amount not held, in millionths; below 0 if a pool was made smaller."""
    return round(pool.total * _SCALE) - round(pool.used * _SCALE)


def _fit(amounts: Amounts, room: Amounts) -> bool:
    return all(part <= have for part, have in zip(amounts, room, strict=True))


def _kept(shares: tuple[Portion, ...], own: Amounts, held: list[Amounts]) -> Amounts:
    """
    Return the share of the request that holds *own*, among holders of *held*.

    A holder of a larger share keeps it, so that no amount moves without need.
    """
    places = 0
    for share in shares:
        places += share.times
        ahead = sum(_fit(share.amounts, other) for other in held)
        if ahead - _fit(share.amounts, own) < places:
            return share.amounts
    return shares[-1].amounts


_NO_SHARE: Final = Allocation(
    NO_RESOURCES, "it asks for nothing", reusable=ProportionalAllocator
)
