"""Budgets: amounts that are spent, and do not come back.

A task that draws on a budget reserves the amount that it asks for when its attempt
starts, so no two tasks can spend the same amount. While the attempt runs, it reports
what it has spent; as soon as that exceeds the reservation, more is taken. When it ends,
the amount it has spent stays taken, and the rest comes back. If the amount is unknown,
because the attempt reported nothing or was cut off, the whole reservation counts as
spent. So the counted amount is never less than the reported one.

A budget may be part of another one: an amount that is taken from it is taken from both.

An event announces once that four fifths are spent. If a task could not start even if
all reservations came back, people are asked, once, what is to follow.

Decisions: quotas-and-budgets, start-decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from taskorch.core.kernel import _queue
from taskorch.core.kernel._history import row_extra
from taskorch.core.kernel._rows import (
    PURSE,
    Bucket,
    BudgetRow,
    Leak,
    Place,
    PoolRow,
    Shortage,
    StartLimit,
    TaskRow,
)
from taskorch.core.kernel._state import KernelState
from taskorch.events import (
    BudgetChanged,
    BudgetExhausted,
    BudgetLow,
    BudgetSpent,
    Event,
    TaskCancelled,
    TaskStarted,
)
from taskorch.model import Units
from taskorch.model.ids import budget_question_id

#: Causes of an end of an attempt that has reported its spending.
_KNOWN: Final = ("", "error", "stopped")
#: Outcomes of an attempt that has not begun.
_UNBEGUN: Final = ("unstarted", "returned", "gone")


def declare_budget(
    kernel: KernelState, name: str, totals: Units, parent: str, now: int
) -> None:
    """Declare a budget *name*; if it is new, it becomes part of *parent*.

    A budget that was declared with the same *totals* stays as it is, even if it was
    raised.
    """
    row = kernel.budgets.get(name)
    if row is None or row.declared != totals:
        parent = parent if row is None else row.parent
        _change(kernel, (name, totals, parent, False, totals), now)


def change_budget(
    kernel: KernelState, name: str, totals: Units, now: int, *, is_open: bool = False
) -> None:
    """Set the amounts of a budget, or open it so that it stops no task."""
    row = kernel.budgets[name]
    whole = tuple(sorted((dict(row.totals) | dict(totals)).items()))
    _change(kernel, (name, whole, row.parent, is_open, row.declared), now)


def _change(
    kernel: KernelState, fields: tuple[str, Units, str, bool, Units], now: int
) -> None:
    kernel.note(BudgetChanged, now, *fields)
    _apply(kernel, *fields)


def _changed(kernel: KernelState, event: BudgetChanged, _now: int) -> None:
    flags = event.is_open, event.declared
    _apply(kernel, event.budget, event.totals, event.parent, *flags)


def _low(kernel: KernelState, event: BudgetLow, _now: int) -> None:
    kernel.budgets[event.budget].is_low = True


def _exhausted(kernel: KernelState, event: BudgetExhausted, _now: int) -> None:
    kernel.budgets[event.budget].asked = event.number


def _apply(
    kernel: KernelState,
    name: str,
    totals: Units,
    parent: str,
    is_open: bool,
    declared: Units,
) -> None:
    if not any(isinstance(limit, Budgets) for limit in kernel.limits):
        _queue.add_limit(kernel, Budgets())
    is_new = name not in kernel.budgets
    row = kernel.budgets.setdefault(name, BudgetRow(name, parent))
    row.declared, is_same = declared, totals == row.totals
    for resource, total in totals:
        pool = row.pools.get(resource)
        if pool is None:
            path = f"{PURSE}{name}:{resource}"
            pool = row.pools[resource] = kernel.beside[path] = PoolRow(path, total)
            row.spent[resource] = 0
            if not is_new:
                _reserve_too(kernel, name, pool, resource)
        pool.total = total
    row.is_open, row.asked = is_open, -abs(row.asked)
    row.is_low = row.is_low and is_same
    kernel.spent[name] = None
    for each in row.pools.values():
        for place in list(each.short.values()):
            for bucket in list(place.members):
                if bucket.parked is not None and place in bucket.parked:
                    _queue.reopen(kernel, bucket)


def _reserve_too(kernel: KernelState, name: str, pool: PoolRow, resource: str) -> None:
    """Reserve of a part the amounts that attempts have reserved of the whole budget."""
    holders: list[TaskRow | Leak] = [row for row in kernel.tasks.values() if row.alloc]
    for holder in (*holders, *kernel.leaked.values()):
        row = holder.row if isinstance(holder, Leak) else holder
        if any(each.name == name for each in _chain(kernel, row.bucket.spec.budget)):
            units = dict(_reserved_in(holder.alloc)).get(resource, 0)
            if units:
                holder.alloc = _with_purse(holder.alloc, (pool.name, units))
                pool.used += units


def _with_purse(alloc: Units, purse: tuple[str, int]) -> Units:
    """Return *alloc*, which has purses, with one more, as if it had begun with that."""
    held = [pair for pair in alloc if pair[0].startswith(PURSE)]
    first = alloc.index(held[0])
    return (*alloc[:first], *sorted([*held, purse]), *alloc[first + len(held) :])


def purses_of(kernel: KernelState, bucket: Bucket) -> list[tuple[PoolRow, int]]:
    """Return the amounts that a start of *bucket* reserves of its budgets."""
    units = dict(bucket.spec.spends)
    return [
        (pool, units.get(resource, 0))
        for row in _chain(kernel, bucket.spec.budget)
        for resource, pool in row.pools.items()
    ]


def _chain(kernel: KernelState, name: str) -> Iterator[BudgetRow]:
    while name in kernel.budgets:
        yield kernel.budgets[name]
        name = kernel.budgets[name].parent


def questions_of(kernel: KernelState, name: str) -> list[str]:
    """Return the questions about a budget and those above it that may be open."""
    chain = _chain(kernel, name)
    return [budget_question_id(row.name, row.asked) for row in chain if row.asked > 0]


def drawn_from(kernel: KernelState, name: str) -> frozenset[str]:
    """Return the resources of a budget and of those above it."""
    return frozenset(
        [resource for row in _chain(kernel, name) for resource in row.pools]
    )


def reserved_of(row: TaskRow) -> Units | None:
    """Return the amounts that the attempt of *row* reserves; None without a budget."""
    if not row.bucket.spec.budget:
        return None
    return _reserved_in(row.alloc)


def _reserved_in(alloc: Units) -> Units:
    """Return the amounts of budgets that *alloc* reserves."""
    reserved: dict[str, int] = {}
    for name, units in alloc:
        if name.startswith(PURSE):
            resource = _names_of(name)[1]
            reserved[resource] = max(units, reserved.get(resource, 0))
    return tuple(sorted(reserved.items()))


def _shortages(kernel: KernelState, bucket: Bucket) -> Iterator[Shortage]:
    """Yield the budgets that have too little left for a task of *bucket*."""
    for pool, units in purses_of(kernel, bucket):
        free, need = pool.total - pool.used, max(1, units)
        budget, resource = _parts(kernel, pool)
        if need > free and not budget.is_open:
            is_hopeless = need > pool.total - budget.spent[resource]
            yield Shortage("budget", pool.name, need, free, None, pool, 0, is_hopeless)


class Budgets(StartLimit):
    """Limit of starts by the budgets of tasks."""

    def concerns(self, bucket: Bucket) -> bool:
        return bucket.spec.budget != ""

    def must_wait(
        self, kernel: KernelState, bucket: Bucket, row: TaskRow, now: int
    ) -> bool:
        short = next(_shortages(kernel, bucket), None)
        if short is None:
            return False
        pool = kernel.beside[short.name]
        budget, resource = _parts(kernel, pool)
        if short.is_hopeless:
            _ask(kernel, budget, resource, short.need, now)
        _queue.wait_at(kernel, bucket, row, pool, short.need)
        return True

    def shortages(
        self,
        kernel: KernelState,
        row: TaskRow,
        now: int,
    ) -> Iterator[Shortage]:
        return _shortages(kernel, row.bucket)

    def begins(self, kernel: KernelState, row: TaskRow) -> Units:
        """Return the amounts that the attempt reserves."""
        extra = row_extra(row)
        extra.spent, extra.paid = {}, extra.paid or {}
        purses = purses_of(kernel, row.bucket)
        return tuple(sorted([(pool.name, units) for pool, units in purses if units]))

    def ends(self, kernel: KernelState, row: TaskRow, alloc: Units, cause: str) -> None:
        """Count as spent the amounts of *alloc* that the attempt may have spent.

        Of a resource with a report, nothing more is counted, unless the attempt was cut
        off: then the true amount is unknown.
        """
        if cause in _UNBEGUN:
            return
        reported = (row_extra(row).spent or {}) if cause in _KNOWN else {}
        unknown: dict[str, int] = {}
        for name, units in alloc:
            if name.startswith(PURSE):
                pool = kernel.beside[name]
                budget, resource = _parts(kernel, pool)
                if resource not in reported:
                    unknown[resource] = max(units, unknown.get(resource, 0))
                    budget.spent[resource] += units
                    pool.used += units
                    kernel.spent[budget.name] = None
        _pay(row, unknown)

    def leaves(
        self, kernel: KernelState, bucket: Bucket, taken: Mapping[str, int]
    ) -> bool:
        """Return whether enough would be left, or people must raise a budget anyway."""
        shorts = [*_shortages(kernel, bucket)]
        if any(short.is_hopeless for short in shorts):
            return True
        for short in shorts:
            pool = kernel.beside[short.name]
            budget, resource = _parts(kernel, pool)
            most = pool.total - budget.spent[resource]
            if short.need > most - taken.get(short.name, 0):
                return False
        return True


def _ask(
    kernel: KernelState, budget: BudgetRow, resource: str, need: int, now: int
) -> None:
    """Ask people for more, since a task needs more than its budget will ever have."""
    if budget.asked <= 0 and not budget.is_open:
        budget.asked = 1 - budget.asked
        amounts = (
            budget.spent[resource],
            budget.pools[resource].total,
            need,
            budget.asked,
        )
        kernel.note(BudgetExhausted, now, budget.name, resource, *amounts)


def _parts(kernel: KernelState, pool: PoolRow) -> tuple[BudgetRow, str]:
    name, resource = _names_of(pool.name)
    return kernel.budgets[name], resource


def _names_of(purse: str) -> tuple[str, str]:
    """Return a pool's budget and resource; only the resource may have a colon."""
    name, _, resource = purse.removeprefix(PURSE).partition(":")
    return name, resource


def count(kernel: KernelState, row: TaskRow, units: Units) -> None:
    """Count *units* more as spent by the running attempt of *row*."""
    extra = row_extra(row)
    if extra.spent is None:
        return
    held, spent = dict(row.alloc), dict(units)
    extra.spent.update(dict.fromkeys(spent))
    _pay(row, spent)
    for pool, _ in purses_of(kernel, row.bucket):
        budget, resource = _parts(kernel, pool)
        many = spent.get(resource, 0)
        reserved = min(many, held.get(pool.name, 0))
        if reserved:
            held[pool.name] -= reserved
        pool.used += many - reserved
        budget.spent[resource] += many
        kernel.spent[budget.name] = None
    row.alloc = tuple([pair for pair in held.items() if pair[1]])


def _pay(row: TaskRow, spent: Mapping[str, int]) -> None:
    """Add the amounts that *row* has *spent* to its status.

    Resources that its budget does not have are added, too: it may get them later.
    """
    paid = row_extra(row).paid
    assert paid is not None  # noqa: S101 - its attempt has begun
    for resource, units in spent.items():
        paid[resource] = paid.get(resource, 0) + units


def recall_spent(row: TaskRow, event: Event) -> None:
    """Note the amounts that the forgotten *row* has spent, according to *event*."""
    extra = row_extra(row)
    if isinstance(event, TaskStarted):
        extra.spent, extra.paid = {}, extra.paid or {}
        row.alloc = row.bucket.spec.spends
        return
    if extra.spent is None:
        return
    held = dict(row.alloc)
    if isinstance(event, BudgetSpent):
        spent = dict(event.spent)
        extra.spent.update(dict.fromkeys(spent))
        _pay(row, spent)
        row.alloc = tuple([(n, max(0, u - spent.get(n, 0))) for n, u in held.items()])
        return
    row.alloc = ()
    cause = (
        "cancelled" if isinstance(event, TaskCancelled) else getattr(event, "cause", "")
    )
    if cause not in _UNBEGUN:
        reported = extra.spent if cause in _KNOWN else {}
        _pay(row, {n: u for n, u in held.items() if u and n not in reported})


def review(kernel: KernelState, now: int) -> None:
    """Announce the budgets that have become low or used up since the last look."""
    names, kernel.spent = kernel.spent, {}
    for name in names:
        budget = kernel.budgets[name]
        for resource, pool in budget.pools.items():
            spent = budget.spent[resource]
            if not budget.is_low and 5 * spent >= 4 * pool.total:
                budget.is_low = True
                kernel.note(BudgetLow, now, name, resource, spent, pool.total)
            for place in pool.short.values():
                if place.need > pool.total - spent and _waits_at(place):
                    _ask(kernel, budget, resource, place.need, now)


def _waits_at(place: Place) -> bool:
    return any(place in (bucket.parked or ()) for bucket in place.members)


def restore(
    kernel: KernelState,
    name: str,
    parent: str,
    amounts: tuple[Units, Units],
    state: list[int],
) -> None:
    """Restore a budget from a snapshot, with its current and its declared *amounts*."""
    is_low, asked, is_open = state
    _apply(kernel, name, amounts[0], parent, bool(is_open), amounts[1])
    row = kernel.budgets[name]
    row.is_low, row.asked = bool(is_low), asked


def restore_spent(kernel: KernelState, name: str, spent: Units) -> None:
    """Set the amounts that a snapshot says are *spent* of a budget."""
    row = kernel.budgets[name]
    for resource, many in spent:
        row.pools[resource].used += many - row.spent[resource]
        row.spent[resource] = many


#: The functions that apply events to the state.
APPLIED: Final[Mapping[type, Callable[[KernelState, Any, int], None]]] = {
    BudgetChanged: _changed,
    BudgetLow: _low,
    BudgetExhausted: _exhausted,
}
