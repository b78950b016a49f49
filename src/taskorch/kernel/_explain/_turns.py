"""Whether who is above a soft quota has begun before others within theirs."""

from __future__ import annotations

from collections.abc import Iterable

from taskorch.kernel._application import agent_of
from taskorch.kernel._explain._explanation import explain
from taskorch.kernel._limits import exceeded
from taskorch.kernel._rows import TaskRow
from taskorch.kernel._state import KernelState


def passed_over(
    kernel: KernelState, last: TaskRow, firsts: Iterable[TaskRow], now: int
) -> TaskRow | None:
    """
    A task of *firsts* that, within its soft quotas, could have begun before *last*.

    The last fact of the step was the start of *last*, above its soft quota: to look,
    what that has taken is given back for a moment. *firsts* are the queued tasks that
    are the first of their kind.
    """
    elastic = last.bucket.spec.elastic is not None
    if elastic or kernel.under_way is not None:
        # What is divided, or reserved, would be divided in another way.
        return None
    _take(kernel, last, -1)
    try:
        for row in firsts:
            if row.bucket.spec.elastic is None and _could_start(kernel, row, now):
                return row
    finally:
        _take(kernel, last, 1)
    return None


def _could_start(kernel: KernelState, row: TaskRow, now: int) -> bool:
    told = explain(kernel, row, now)
    return told.runnable and exceeded(kernel, row.bucket) is None


def _take(kernel: KernelState, row: TaskRow, sign: int) -> None:
    agent = agent_of(row)
    kernel.running += sign
    agent.running += sign
    for name, units in row.alloc:
        agent.used[name] += sign * units
        if name in kernel.pools:
            kernel.pools[name].used += sign * units
