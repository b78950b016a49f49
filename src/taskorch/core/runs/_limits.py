"""
Limits on how many tasks of a phase run at once: a pool for each limited phase of a run.

The name of the pool contains its size, and each task takes one of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from taskorch.core.engine import row_of
from taskorch.core.runs._mapping import mapped
from taskorch.core.workflows import _steps
from taskorch.model import NO_RESOURCES, TERMINAL, Call, Resources, Task, to_units
from taskorch.model.ids import PHASE_LIMIT, run_of

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime, Work


def of_tasks(tasks: Iterable[Task]) -> set[str]:
    """Return the pools of phases that tasks ask for, or will ask for when they map."""
    pools: set[str] = set()
    for task in tasks:
        if task.resources is not NO_RESOURCES:
            pools.update(filter(PHASE_LIMIT.fullmatch, task.resources))
        payload = task.payload
        if isinstance(payload, Call) and payload.fn in (mapped, _steps.mapped):
            asked = payload.args[2].get("resources", ())
            pools.update(filter(PHASE_LIMIT.fullmatch, asked))
    return pools


def ensure(runtime: Runtime, names: Iterable[str]) -> None:
    """Add the pools *names*, where they are missing."""
    missing = sorted(name for name in names if name not in runtime.kernel.pools)
    if not missing:
        return
    # The name contains the size.
    sizes = {name: float(name.rpartition(":")[2]) for name in missing}
    pools = [(name, to_units(name, size)) for name, size in sizes.items()]
    runtime.step(lambda now: runtime.kernel.change_pools(pools, now))


def restore(runtime: Runtime) -> None:
    """
    Add the pools of unfinished tasks of earlier incarnations; remove those of no run.

    A run may have ended before its pools were removed. The last incarnation has
    recorded the needed pools as events, but older journals have no such events.
    """
    with runtime.lock:
        rows = [r for r in runtime.kernel.tasks.values() if r.state not in TERMINAL]
    works = (row.cargo for row in rows)
    needed = of_tasks(w._task for w in works if w._task is not None)
    ensure(runtime, needed)
    runs = {row.run for row in rows}
    _drop(runtime, lambda name: run_of(name) not in runs)


def forget(runtime: Runtime, run_ids: Iterable[str]) -> None:
    """Remove the pools of ended runs, unless a task still holds some of them."""
    ended = dict.fromkeys(run_ids)
    _drop(runtime, lambda name: run_of(name) in ended)


def _drop(runtime: Runtime, is_meant: Callable[[str], bool]) -> None:
    kernel = runtime.kernel

    def change(now: int) -> None:
        gone = [n for n in kernel.pools if PHASE_LIMIT.fullmatch(n) and is_meant(n)]
        kernel.change_pools((), now, gone)

    runtime.step(change)


def shared(work: Work, resources: Resources) -> Resources:
    """Return *resources*, and one of each phase's pool that *work* takes one of."""
    held = [name for name, _ in row_of(work).bucket.spec.resources]
    names = set(filter(PHASE_LIMIT.fullmatch, held)) - set(resources)
    return resources + Resources(**dict.fromkeys(names, 1.0)) if names else resources
