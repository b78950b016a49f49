"""
What people take from the pools by hand, and give back.

An allocation by hand is held by its owner, in later lives too, until it is released. It
is granted whole or not at all; who waits for one is served in the order in which they
came, before tasks, and lets pass those who need less. That somebody waits is no fact:
their thread dies with the process.
"""

from __future__ import annotations

from taskorch.events import ResourcesAllocated, ResourcesReleased
from taskorch.kernel import _books, _queue
from taskorch.kernel._rows import AllocationRow, Claim
from taskorch.kernel._state import KernelState
from taskorch.model import Units


def allocate(kernel: KernelState, claim: Claim, now: int) -> bool:
    """Grant *claim* if there is all that it asks for; whether there is."""
    if _books.pool_shortage(kernel, need_of(kernel, claim)) is not None:
        return False
    before = _in_use(kernel, claim.units)
    fields = claim.id, claim.owner, claim.units
    kernel.note(ResourcesAllocated, now, *fields, before)
    claim.granted = grant(kernel, *fields, now)
    return True


def need_of(kernel: KernelState, claim: Claim) -> Units:
    """What *claim* would hold, of the quotas of its owner too."""
    return _books.charged_by_hand(kernel, claim.owner, claim.units)


def wait(kernel: KernelState, claim: Claim) -> None:
    """Put *claim* at the end of those that wait for resources."""
    kernel.claims[claim] = None


def withdraw(kernel: KernelState, claim: Claim) -> None:
    """*claim* does not wait any more, if it did."""
    kernel.claims.pop(claim, None)


def serve(kernel: KernelState, now: int) -> list[Claim]:
    """Grant what can be granted to those who wait, before `dispatch`; what was."""
    if kernel.paused:
        return []
    found = [claim for claim in kernel.claims if allocate(kernel, claim, now)]
    for claim in found:
        del kernel.claims[claim]
    return found


def release(kernel: KernelState, row: AllocationRow, now: int) -> None:
    """What *row* holds is free."""
    before = _in_use(kernel, row.units)
    kernel.note(ResourcesReleased, now, row.id, row.owner, row.units, before)
    _give_back(kernel, row)


# -- what the facts do -------------------------------------------------------------


def allocated(kernel: KernelState, event: ResourcesAllocated, now: int) -> None:
    """See `allocate`."""
    grant(kernel, event.allocation_id, event.owner, event.resources, now)


def released(kernel: KernelState, event: ResourcesReleased, _now: int) -> None:
    """See `release`."""
    _give_back(kernel, kernel.allocations[event.allocation_id])


def grant(
    kernel: KernelState, allocation_id: str, owner: str, units: Units, now: int
) -> AllocationRow:
    """*owner* holds *units* from now on."""
    alloc = _books.charged_by_hand(kernel, owner, units)
    row = AllocationRow(allocation_id, owner, alloc, now)
    kernel.allocations[allocation_id] = row
    _books.acquire(kernel, kernel.by_hand, alloc)
    if kernel.shares is not None:
        _queue.hold(kernel, _queue.share_of(kernel, owner), alloc, 0)
    return row


def _give_back(kernel: KernelState, row: AllocationRow) -> None:
    del kernel.allocations[row.id]
    if kernel.shares is not None:
        _queue.hold(kernel, _queue.share_of(kernel, row.owner), row.alloc, 0, -1)
    _books.release(kernel, kernel.by_hand, row.alloc)
    _queue.ask_again(kernel)


def _in_use(kernel: KernelState, units: Units) -> Units:
    """How much of what *units* name is in use."""
    return tuple((name, kernel.pools[name].used) for name, _ in units)
