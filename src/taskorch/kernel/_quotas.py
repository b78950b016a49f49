"""
Quotas: how much all tasks of a type or a run, or all that is of an owner, may have.

How many of them start in a time is no pool: see `_rates`.

A quota is a pool for each resource that it bounds, and one for how many run. Whoever it
is for holds as much of that pool as of the resource itself: so what would exceed it
waits at the pool, is woken, explained and counted as for any other shortage, and where
there is no quota nothing is looked at. Policies do not see these pools.

A soft quota is such a pool without an end, so it keeps nobody waiting, with a mark from
which on those whom it is for come last: see `_soft`.

Decision: 0048.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from taskorch.events import QuotasChanged
from taskorch.kernel import _books, _queue, _rates, _soft
from taskorch.kernel._application import agent_of, is_under_way, replace
from taskorch.kernel._rows import (
    QUOTA,
    UNLIMITED,
    AgentRow,
    AllocationRow,
    Leak,
    PoolRow,
    TaskRow,
    of_quotas,
    without_quotas,
)
from taskorch.kernel._state import KernelState
from taskorch.model import BURST, SOFT, STARTS, TASKS, Units

#: Whom a quota is for: `type`, `owner` or `workflow`, after `soft` if it is soft, and
#: which; and its limits.
Change: TypeAlias = tuple[str, str, Units]
#: Who holds something: a row, or a leak.
_Holder: TypeAlias = TaskRow | Leak | AllocationRow


def change(kernel: KernelState, quotas: Iterable[Change], now: int) -> None:
    """Replace the quotas of those named in *quotas*; empty limits remove a quota."""
    latest = {(kind, subject): limits for kind, subject, limits in quotas}
    fresh = tuple(
        (*whose, limits)
        for whose, limits in latest.items()
        if limits != limits_of(kernel, whose)
    )
    if fresh:
        kernel.note(QuotasChanged, now, fresh)
        apply(kernel, fresh, now)


def changed(kernel: KernelState, event: QuotasChanged, now: int) -> None:
    """What the fact does to the state."""
    apply(kernel, event.quotas, now)


def apply(kernel: KernelState, quotas: Iterable[Change], now: int) -> None:
    """Set *quotas*: what is held already by those whom they are for counts."""
    held = _held(kernel)
    _discharge(kernel, held)
    # A new mapping, so that caches made from the old one are seen to be old.
    pools = dict(kernel.pools)
    for kind, subject, limits in quotas:
        for name, _ in kernel.quotas.pop((kind, subject), ()):
            del pools[name]
        bounds = []
        for what, units in limits:
            if what not in (STARTS, BURST):
                name = f"{QUOTA}{kind}={subject}:{what}"
                soft = kind.startswith(SOFT)
                total, beyond = (UNLIMITED, UNLIMITED - units) if soft else (units, 0)
                pools[name] = PoolRow(name, total, beyond)
                bounds.append((name, what))
        _rates.change(kernel, (kind, subject), dict(limits), now)
        if limits:
            kernel.quotas[kind, subject] = tuple(bounds)
    kernel.pools = pools
    _move_runs(kernel)
    _charge(kernel, held)
    kernel.agents_version += 1
    _soft.forget(kernel)
    _queue.unpark_all(kernel)


def _move_runs(kernel: KernelState) -> None:
    """The tasks of runs that have a quota are not like others any more, or again."""
    before, kinds = kernel.workflows, ("workflow", f"{SOFT}workflow")
    kernel.workflows = {who: None for kind, who in kernel.quotas if kind in kinds}
    if kernel.workflows == before:
        return
    leaking = [leak.row for leak in kernel.leaked.values()]
    for row in dict.fromkeys([*kernel.tasks.values(), *leaking]):
        bucket = _queue.bucket_for(kernel, row.id, row.bucket)
        if bucket is not row.bucket:
            replace(kernel, row, row.key, bucket)


def recharge(kernel: KernelState) -> None:
    """Count anew what is held: facts were folded without those of quotas."""
    held = _held(kernel)
    _discharge(kernel, held)
    _charge(kernel, held)


def limits_of(kernel: KernelState, whose: tuple[str, str]) -> Units:
    """The limits of the quota of *whose*; none, if there is no quota."""
    bounds = kernel.quotas.get(whose, ())
    pools = kernel.pools
    found = [(what, pools[name].total - pools[name].beyond) for name, what in bounds]
    return tuple(sorted((*found, *_rates.limits_of(kernel, whose))))


def meaning_of(pool: PoolRow) -> tuple[str, str, str]:
    """Kind and name of the holder of quota *pool*, and the resource that it limits."""
    subject, _, what = pool.name.removeprefix(QUOTA).rpartition(":")
    kind, _, who = subject.partition("=")
    return kind.removeprefix(SOFT), who, what


def so_many(units: int, what: str) -> str:
    """*units* of *what* a quota is of, in words."""
    amount = units / 1e6
    return f"{amount:g} {'task' if what == TASKS and amount == 1 else what}"


def _held(kernel: KernelState) -> list[tuple[_Holder, AgentRow]]:
    """All holders of slots or resources, each with its agent."""
    found: list[tuple[_Holder, AgentRow]] = [
        (row, agent_of(row))
        for row in kernel.tasks.values()
        if is_under_way(row) and (row.id, row.attempt) not in kernel.leaked
    ]
    found += [(leak, leak.agent) for leak in kernel.leaked.values()]
    return found + [(row, kernel.by_hand) for row in kernel.allocations.values()]


def _discharge(kernel: KernelState, held: list[tuple[_Holder, AgentRow]]) -> None:
    """Remove the units of quotas from all holders."""
    for holder, agent in held:
        for name, units in of_quotas(holder.alloc):
            agent.used[name] -= units
            if name in kernel.pools:
                kernel.pools[name].used -= units
        holder.alloc = without_quotas(holder.alloc)


def _charge(kernel: KernelState, held: list[tuple[_Holder, AgentRow]]) -> None:
    """Charge all holders, by what they hold of the resources, to the quotas."""
    if kernel.quotas:
        for holder, agent in held:
            holder.alloc = _charged(kernel, holder)
            _books.acquire(kernel, agent, of_quotas(holder.alloc))
    for pool in kernel.pools.values():
        if pool.is_quota:
            pool.owed = max(0, pool.used - pool.total)


def _charged(kernel: KernelState, holder: _Holder) -> Units:
    if isinstance(holder, AllocationRow):
        return _books.charged_by_hand(kernel, holder.owner, holder.alloc)
    row = holder.row if isinstance(holder, Leak) else holder
    bounds = _books.bounds_of(kernel, _books.subjects(row.bucket.spec))
    return _books.charged(bounds, holder.alloc)
