"""
Units that have names, such as the GPUs of a machine: an attempt has these, or parts.

Each unit is a pool of its own beside that of its resource, and what an attempt has of
it stands in what it holds: so it comes back in each way in which an attempt ends. Who
asks for less than one has a part of one unit, the fullest that has room; who asks for
whole ones has units that nobody else holds anything of. That is chosen as the attempt
starts, and the fact of its start names them.

Where an agent names units of its own, its attempts have these, and of the pool they
take the amount only: each machine has its own GPU 0.

Decision: 0234.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from taskorch.kernel._rows import (
    UNIT,
    WHOLE,
    AgentRow,
    LockRow,
    PoolRow,
    UnitGroup,
    UnitRow,
    name_units,
)
from taskorch.kernel._state import KernelState
from taskorch.model import HeldUnits, UnitNames, Units


def of_pools(kernel: KernelState, totals: Units, named: UnitNames) -> None:
    """The pools of *totals* have units that are *named*, or units without names."""
    names = dict(named)
    for resource, _ in totals:
        pool = kernel.pools[resource]
        if pool.units is not None or resource in names:
            _name(kernel, pool, resource, names.get(resource))


def of_agent(kernel: KernelState, agent: AgentRow) -> None:
    """*agent* has the units that its capacity names."""
    capacity = agent.info.capacity
    names = {} if capacity is None else dict(capacity.unit_names)
    for resource in dict.fromkeys([*agent.units, *names]):
        _name(kernel, agent, resource, names.get(resource))


def _name(
    kernel: KernelState,
    owner: PoolRow | AgentRow,
    resource: str,
    names: tuple[str, ...] | None,
) -> None:
    name_units(kernel.beside, owner, resource, names)
    kernel.has_units = True


def group_of(
    kernel: KernelState, agent: AgentRow | None, resource: str
) -> UnitGroup | None:
    """The units of *resource* that attempts on *agent* have; None: they have none."""
    if agent is not None and resource in agent.units:
        return agent.units[resource]
    pool = kernel.pools.get(resource)
    return None if pool is None else pool.units


def is_uneven(need: int) -> bool:
    """Whether it is neither a part of a unit nor whole ones: nobody can have that."""
    return need > WHOLE and need % WHOLE != 0


def chosen(kernel: KernelState, agent: AgentRow, alloc: Units) -> Units | None:
    """What an attempt on *agent* that holds *alloc* has of units; None: no unit has."""
    named: list[tuple[str, int]] = []
    for resource, units in alloc:
        group = group_of(kernel, agent, resource)
        if group is not None:
            rows = group.choose(units)
            if not rows:
                return None
            named += [(row.name, min(units, WHOLE)) for row in rows]
    return tuple(named)


def fitting(
    kernel: KernelState, agent: AgentRow, granted: Units, least: Units, *, now: bool
) -> Units:
    """
    What units on *agent* can give of what is *granted* of an elastic request.

    That are whole ones, or a part of one; if *now*, no more than is free of them. What
    would be below the *least* stays as it is: nobody can have that.
    """
    low, parts = dict(least), []
    for resource, units in granted:
        group = group_of(kernel, agent, resource)
        most = units
        if group is not None:
            most -= units % WHOLE if is_uneven(units) else 0
            if now:
                most = min(most, group.most(most) or group.most(1))
        parts.append((resource, most if most >= low.get(resource, 0) else units))
    return tuple(parts)


def would_fit(
    kernel: KernelState, agent: AgentRow, need: Units, taken: Mapping[str, int]
) -> bool:
    """Whether units on *agent* have *need*, of whose pools so much would be *taken*."""
    for resource, units in need if kernel.has_units else ():
        group = group_of(kernel, agent, resource)
        if group is not None:
            free = {
                row.name: row.total - taken.get(row.name, 0)
                for row in group.units.values()
            }
            if not group.would_have(units, free):
                return False
    return True


def told(kernel: KernelState, alloc: Units) -> HeldUnits:
    """What *alloc* has of units, as facts name it."""
    rows = [(kernel.beside[name], n) for name, n in alloc if name.startswith(UNIT)]
    return tuple(
        [
            (row.resource, row.unit, many, row.agent != "")
            for row, many in rows
            if isinstance(row, UnitRow)
        ]
    )


def held(kernel: KernelState, agent: AgentRow, units: HeldUnits) -> Units:
    """What a fact names of units, as an attempt on *agent* holds it."""
    alloc: list[tuple[str, int]] = []
    for resource, name, many, is_own in units:
        unit = UnitRow(agent.name if is_own else "", resource, name)
        row = kernel.beside.setdefault(unit.name, unit)
        if row is unit:
            # It has been taken away since: where only some facts are folded.
            group = agent.units.get(resource)
            unit.group = group if is_own else group_of(kernel, None, resource)
        alloc.append((row.name, many))
    return tuple(alloc)


def names_of(kernel: KernelState, alloc: Units) -> Mapping[str, tuple[str, ...]]:
    """The names of the units of which *alloc* has something, by resource."""
    names: dict[str, tuple[str, ...]] = {}
    for resource, unit, _, _ in told(kernel, alloc):
        names[resource] = (*names.get(resource, ()), unit)
    return names


def declared(pool: PoolRow) -> tuple[int, tuple[str, ...] | None]:
    """How much there is of *pool* as it was set, and the names of its units."""
    if pool.units is None:
        return pool.total, None
    return WHOLE * len(pool.units.units), tuple(pool.units.units)


def book(kernel: KernelState, row: PoolRow, units: int) -> None:
    """Add *units* to what is used of *row*, one of the pools beside."""
    row.used += units
    if isinstance(row, LockRow):
        # All of it, or all of it is given back.
        for folder in row.above:
            folder.used += 1 if units > 0 else -1
    elif isinstance(row, UnitRow) and not row.total:
        # It was taken away: as long as somebody holds it, that is not free of others.
        if row.group is not None:
            row.group.enlarge(units)
        if not row.used:
            del kernel.beside[row.name]


def names_in(totals: Iterable[str], names: UnitNames) -> UnitNames:
    """Those of *names* that are of the resources in *totals*."""
    wanted = frozenset(totals)
    return tuple([pair for pair in names if pair[0] in wanted])
