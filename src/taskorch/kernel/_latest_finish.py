"""
In which order the tasks of one batch are taken in: by their latest finish times.

All tasks of a batch are submitted at one instant, so among those of one priority the
order in which they are taken in decides. Where it is known how long they take, the one
comes first that must have ended first if the whole batch is to end as early as it
could: what is on the critical path, and what much waits for. Of equals the longest
comes first, as that leaves the short ones to fill the gaps at the end.

The rule that is meant is known as LFT in a parallel schedule generation scheme (R.
Kolisch, *Serial and parallel resource-constrained project scheduling methods
revisited*, European Journal of Operational Research 90, 1996); for tasks that do not
wait for each other it is LPT (R. L. Graham, 1969).

Decision: 0049.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from graphlib import TopologicalSorter
from typing import TypeVar

from taskorch.kernel._admission import Admitted
from taskorch.kernel._state import KernelState

N = TypeVar("N", bound=Hashable)


def assumed(lengths: Sequence[float | None]) -> list[float] | None:
    """
    *lengths* with the mean of the known ones for the others.

    None: of none is it known that it takes any time.
    """
    if not any(lengths):
        return None
    known = [length for length in lengths if length is not None]
    mean = sum(known) / len(known)
    return [mean if length is None else length for length in lengths]


def latest_finish_first(
    nodes: Sequence[N],
    parents: Sequence[Iterable[N]],
    lengths: Sequence[float],
    order: Iterable[int] | None = None,
) -> list[int]:
    """
    The places of *nodes* in the order in which they are to be taken in.

    Each comes after those of its parents that are among them; ties stay as they are.
    *lengths* are in ns. In *order*, the places, each comes after its parents; None:
    they stand in such an order.
    """
    count = len(nodes)
    #: Of each task, the longest way from its end to the end of the batch.
    ways = dict.fromkeys(nodes, 0.0)
    after = [0.0] * count
    for number in reversed(range(count) if order is None else list(order)):
        after[number] = way = ways.pop(nodes[number])
        way += lengths[number]
        for parent in parents[number]:
            if ways.get(parent, way) < way:
                ways[parent] = way
    # Two sorts are faster than one by pairs.
    places = sorted(range(count), key=lengths.__getitem__, reverse=True)
    places.sort(key=after.__getitem__, reverse=True)
    return places


def in_order(
    kernel: KernelState, batch: list[Admitted], known: Sequence[float | None]
) -> list[Admitted]:
    """
    *batch*, which was considered, in the order in which it is to be accepted.

    Of some it is *known* how long they take, in ns.
    """
    # With a queue that has a rule of its own, or is first in, first out, the order of
    # submission counts.
    if len(batch) < 2 or not kernel.deciders.aging_ns:  # noqa: PLR2004 - no batch
        return batch
    lengths = assumed(known)
    if lengths is None:
        return batch
    rows = [admitted.row for admitted in batch]
    parents = [admitted.parents for admitted in batch]
    places = {row: place for place, row in enumerate(rows)}
    above = [[places[p] for p in them if p in places] for them in parents]
    order: Iterable[int] | None = None
    if any(max(them, default=-1) > place for place, them in enumerate(above)):
        # Within a batch, a task may come before what it waits for.
        order = TopologicalSorter(dict(enumerate(above))).static_order()
    found = latest_finish_first(rows, parents, lengths, order)
    return [batch[place] for place in found]
