"""
Named units, such as the GPUs of a machine: an attempt holds these, or parts.

Each unit is a pool of its own beside that of its resource, and the allocation of an
attempt includes it: so it comes back in each way in which an attempt ends. A request
for less than one unit gets a part of the fullest unit that has room. A request for
whole units gets units of which nobody else holds a part. The start of the attempt
chooses them, and its event names them.

If a worker names units of its own, its attempts hold these, and take only the amount
from the pool: each machine has its own GPU 0.

Decision: units-and-labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from taskorch.core.kernel._rows import (
    UNIT,
    WHOLE,
    LockRow,
    PoolRow,
    UnitGroup,
    UnitRow,
    WorkerRow,
    name_units,
)
from taskorch.core.kernel._state import KernelState
from taskorch.model import HeldUnits, UnitNames, Units


def of_pools(kernel: KernelState, totals: Units, named: UnitNames) -> None:
    """Name the units of the pools of *totals* as in *named*, or remove the names."""
    names = dict(named)
    for resource, _ in totals:
        pool = kernel.pools[resource]
        if pool.units is not None or resource in names:
            _name(kernel, pool, resource, names.get(resource))


def of_worker(kernel: KernelState, worker: WorkerRow) -> None:
    """Name the units of *worker* as its capacity does."""
    capacity = worker.info.capacity
    names = {} if capacity is None else dict(capacity.unit_names)
    for resource in dict.fromkeys([*worker.units, *names]):
        _name(kernel, worker, resource, names.get(resource))


def _name(
    kernel: KernelState,
    owner: PoolRow | WorkerRow,
    resource: str,
    names: tuple[str, ...] | None,
) -> None:
    name_units(kernel.beside, owner, resource, names)
    kernel.has_units = True


def group_of(
    kernel: KernelState, worker: WorkerRow | None, resource: str
) -> UnitGroup | None:
    """Return the named units of *resource* on *worker*, or None if it has none."""
    if worker is not None and resource in worker.units:
        return worker.units[resource]
    pool = kernel.pools.get(resource)
    return None if pool is None else pool.units


def is_uneven(need: int) -> bool:
    """Return whether *need* is impossible: neither part of a unit nor whole units."""
    return need > WHOLE and need % WHOLE != 0


def chosen(kernel: KernelState, worker: WorkerRow, alloc: Units) -> Units | None:
    """Return the units for an attempt on *worker* with *alloc*; None if none fit."""
    named: list[tuple[str, int]] = []
    for resource, units in alloc:
        group = group_of(kernel, worker, resource)
        if group is not None:
            rows = group.choose(units)
            if not rows:
                return None
            named += [(row.name, min(units, WHOLE)) for row in rows]
    return tuple(named)


def fitting(
    kernel: KernelState, worker: WorkerRow, granted: Units, least: Units, *, now: bool
) -> Units:
    """Return the part of an elastic grant *granted* that units on *worker* can give.

    It consists of whole units, or of a part of one; if *now*, of free ones only. An
    amount below the *least* is left as it is: nobody can have that.
    """
    low, parts = dict(least), []
    for resource, units in granted:
        group = group_of(kernel, worker, resource)
        most = units
        if group is not None:
            most -= units % WHOLE if is_uneven(units) else 0
            if now:
                most = min(most, group.most(most) or group.most(1))
        parts.append((resource, most if most >= low.get(resource, 0) else units))
    return tuple(parts)


def would_fit(
    kernel: KernelState, worker: WorkerRow, need: Units, taken: Mapping[str, int]
) -> bool:
    """Return whether units of *worker* have *need*, with so much *taken* of each."""
    for resource, units in need if kernel.has_units else ():
        group = group_of(kernel, worker, resource)
        if group is not None:
            free = {
                row.name: row.total - taken.get(row.name, 0)
                for row in group.units.values()
            }
            if not group.would_have(units, free):
                return False
    return True


def told(kernel: KernelState, alloc: Units) -> HeldUnits:
    """Return the named units in *alloc*, in the form of events."""
    rows = [(kernel.beside[name], n) for name, n in alloc if name.startswith(UNIT)]
    return tuple(
        [
            (row.resource, row.unit, many, row.worker != "")
            for row, many in rows
            if isinstance(row, UnitRow)
        ]
    )


def held(kernel: KernelState, worker: WorkerRow, units: HeldUnits) -> Units:
    """Return the units of an event in the form in which an attempt holds them."""
    alloc: list[tuple[str, int]] = []
    for resource, name, many, is_own in units:
        unit = UnitRow(worker.name if is_own else "", resource, name)
        row = kernel.beside.setdefault(unit.name, unit)
        if row is unit:
            # The unit has been removed since; this happens if only some events are
            # folded.
            group = worker.units.get(resource)
            unit.group = group if is_own else group_of(kernel, None, resource)
        alloc.append((row.name, many))
    return tuple(alloc)


def names_of(kernel: KernelState, alloc: Units) -> Mapping[str, tuple[str, ...]]:
    """Return the names of the units that *alloc* holds, by resource."""
    names: dict[str, tuple[str, ...]] = {}
    for resource, unit, _, _ in told(kernel, alloc):
        names[resource] = (*names.get(resource, ()), unit)
    return names


def declared(pool: PoolRow) -> tuple[int, tuple[str, ...] | None]:
    """Return the amount of *pool* as it was set, and the names of its units."""
    if pool.units is None:
        return pool.total, None
    return WHOLE * len(pool.units.units), tuple(pool.units.units)


def book(kernel: KernelState, row: PoolRow, units: int) -> None:
    """Add *units* to the used amount of *row*, a hidden pool."""
    row.used += units
    if isinstance(row, LockRow):
        # All of the lock is taken, or given back.
        for folder in row.above:
            folder.used += 1 if units > 0 else -1
    elif isinstance(row, UnitRow) and not row.total:
        # The unit was removed: as long as somebody holds it, it is not free for others.
        if row.group is not None:
            row.group.enlarge(units)
        if not row.used:
            del kernel.beside[row.name]


def names_in(totals: Iterable[str], names: UnitNames) -> UnitNames:
    """Return the pairs in *names* whose resource is in *totals*."""
    wanted = frozenset(totals)
    return tuple([pair for pair in names if pair[0] in wanted])
