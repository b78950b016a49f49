"""Policies whose allocator is the one that comes with the library."""

from __future__ import annotations

from typing import cast

from tests.core.kernel.harness import Policies

from taskorch.core.kernel import TaskRow, WorkerRow
from taskorch.model import Elasticity, Fallback, Resources, Task, Units
from taskorch.policies import ProportionalAllocator
from taskorch.protocols import AllocationRequest, PoolView

MILLION = 1_000_000


class Sharing(Policies):
    """Policies whose allocator is the one that comes with the library."""

    def __init__(self, chunk: int = 1) -> None:
        super().__init__(rigid=True)
        self.allocator = ProportionalAllocator({"cpu": chunk})
        self.chunk = chunk * MILLION
        #: Tasks that were asked about.
        self.about: list[str] = []
        #: What is granted instead, by task.
        self.instead: dict[str, Units] = {}

    def least(self, request: Units, elastic: Elasticity) -> Units:
        named = dict(elastic[0])
        found = []
        for name, units in request:
            chunks = max(1, -(-named.get(name, 0) // self.chunk))
            found.append((name, min(units, chunks * self.chunk)))
        return tuple(pair for pair in found if pair[0] == "cpu")

    def allocate(
        self,
        row: TaskRow,
        worker: WorkerRow,
        request: Units,
        now: int,
        least: Units | None = None,
        held: Units | None = None,
    ) -> tuple[Units | None, str, bool]:
        self._ask("allocator")
        self.about.append(row.id)
        if row.id in self.instead:
            return self.instead[row.id], "instead", False
        weight, fallback = 1.0, "best_effort"
        if row.bucket.spec.elastic is not None:
            weight, fallback = (
                row.bucket.spec.elastic[1] / 1e6,
                row.bucket.spec.elastic[2],
            )
        question = AllocationRequest(
            Task("t"),
            worker.view,
            Resources.from_units(request),
            None if least is None else Resources.from_units(least),
            weight,
            cast("Fallback", fallback),
            None if held is None else Resources.from_units(held),
        )
        pools: dict[str, PoolView] = {n: p.view for n, p in self.kernel.pools.items()}
        answer = self.allocator.allocate(question, pools, self.kernel.context)
        granted = answer.granted
        return None if granted is None else granted.units, answer.reason, False
