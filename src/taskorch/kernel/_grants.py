"""
What running attempts hold of elastic requests: it grows, and it shrinks.

Both from the first checkpoint on. Who never comes to one would not give back what it
got, or, as a program, would not even know of it.

Decision: 0046.
"""

from __future__ import annotations

from typing import Final

from taskorch.events import AllocationChanged
from taskorch.kernel import _backfill, _books
from taskorch.kernel._application import agent_of, tell
from taskorch.kernel._deciders import PolicyFault
from taskorch.kernel._dispatch import in_pools
from taskorch.kernel._effects import TellAllocation
from taskorch.kernel._faults import note_fault
from taskorch.kernel._rows import TaskRow, without_quotas
from taskorch.kernel._state import KernelState
from taskorch.model import TaskState, Units

_RUNNING: Final = TaskState.RUNNING


def grow(kernel: KernelState, now: int) -> None:
    """Grant running elastic attempts what is free and no waiting task can use."""
    kernel.growing = False
    for row, learns in list(kernel.holders.items()):
        if learns and _could_use_more(kernel, row):
            _review(kernel, row, now, only_more=True)


def adjust(kernel: KernelState, row: TaskRow, attempt: int, now: int) -> None:
    """The attempt of *row* is at a checkpoint: from now on it holds its share."""
    if row in kernel.holders and row.attempt == attempt and row.state is _RUNNING:
        kernel.holders[row] = True
        _review(kernel, row, now, only_more=False)


def _could_use_more(kernel: KernelState, row: TaskRow) -> bool:
    """Whether something is free of which *row*, which runs, holds less than it asks."""
    if row.state is not _RUNNING or (row.extra is not None and row.extra.stop):
        return False
    held = dict(row.alloc)
    for name, units in in_pools(kernel, row.bucket.spec.resources):
        pool = kernel.pools[name]
        if held.get(name, 0) < units and pool.used < pool.total:
            return True
    return False


def _review(kernel: KernelState, row: TaskRow, now: int, *, only_more: bool) -> None:
    """Ask what *row* is to hold; if *only_more*, nothing is taken from it."""
    bucket = row.bucket
    alloc = without_quotas(row.alloc) if kernel.quotas else row.alloc
    held = in_pools(kernel, alloc)
    request = in_pools(kernel, bucket.spec.resources)
    least = in_pools(kernel, bucket.need)
    try:
        granted, reason, _ = kernel.deciders.allocate(
            row, agent_of(row), request, now, least, held
        )
    except PolicyFault as fault:
        # It holds what it holds.
        note_fault(kernel, row.id, fault, now)
        return
    if granted is not None:
        granted = _books.within_quotas(kernel, bucket.spec, granted, held)
        if kernel.under_way is not None:
            agent = agent_of(row)
            granted = _backfill.within(kernel, row, agent, granted, now, held)
    if granted is None or granted == held or (only_more and _less(held, granted)):
        return
    own = tuple([pair for pair in alloc if pair not in held])
    after = tuple(sorted((*granted, *own)))
    if kernel.quotas:
        whose = _books.subjects(bucket.spec)
        after = _books.charged(_books.bounds_of(kernel, whose), after)
    tell(kernel, AllocationChanged, row, now, row.attempt, row.alloc, after, reason)
    if only_more:
        # Who is at a checkpoint asks by itself.
        kernel.effects.append(TellAllocation(row, row.attempt))


def _less(before: Units, after: Units) -> bool:
    """Whether there is less of something in *after*."""
    amounts = dict(after)
    return any(units > amounts.get(name, 0) for name, units in before)
