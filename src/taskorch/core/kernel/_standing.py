"""
State that lasts until a command changes it: documents, quotas, holds of starts.

Decisions: extensions, quotas-and-budgets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from taskorch.core.kernel import _limits, _queue
from taskorch.core.kernel._application import is_under_way, replace, worker_of
from taskorch.core.kernel._history import StopAttempt, row_extra
from taskorch.core.kernel._rows import (
    QUOTA,
    UNLIMITED,
    AllocationRow,
    Leak,
    PoolRow,
    TaskRow,
    WorkerRow,
    beside,
    of_quotas,
    without_beside,
    without_quotas,
)
from taskorch.core.kernel._state import KernelState
from taskorch.events import (
    Event,
    ExtensionKept,
    QuotasChanged,
    StartsHeld,
    StartsReleased,
)
from taskorch.kit.limits import ASIDE_NS
from taskorch.model import BURST, SOFT, STARTS, TASKS, TaskState, Units

# -- documents of extensions: only the extension reads the content ---------


def keep(
    kernel: KernelState, extension: str, key: str, document: str, now: int
) -> None:
    """Keep a document of an extension; an empty one drops it."""
    kernel.note(ExtensionKept, now, extension, key, document)
    _keep(kernel, extension, key, document)


def kept(kernel: KernelState, event: ExtensionKept, _now: int) -> None:
    """Apply the event to the state."""
    _keep(kernel, event.extension, event.key, event.document)


def _keep(kernel: KernelState, extension: str, key: str, document: str) -> None:
    documents = kernel.kept.setdefault(extension, {})
    # The order is that of the latest events, since older ones may leave the journal.
    documents.pop(key, None)
    if document:
        documents[key] = document
    elif not documents:
        del kernel.kept[extension]


# -- settings of the driver of the kernel, and its failure -----------------------------

# Nothing of this is an event: the next incarnation begins without it.


#: A number above any number of tasks.
_ALL: Final = 2**63


def pause(kernel: KernelState) -> None:
    """Start nothing until `unpause`."""
    kernel.stopped = True
    settle(kernel)


def unpause(kernel: KernelState) -> None:
    """Let tasks start from the next `dispatch` on, unless starts are held."""
    kernel.stopped = False
    settle(kernel)


def limit(kernel: KernelState, slots: int, aside_ns: int = ASIDE_NS) -> None:
    """
    Bound the running attempts by *slots*, and by the configured concurrency.

    A task whose start the system has no room for steps aside for *aside_ns*.
    """
    kernel.room = min(slots, kernel.config.concurrency)
    kernel.aside_ns = aside_ns
    settle(kernel)


def settle(kernel: KernelState) -> None:
    """Work out how many may run, and whether anything starts."""
    caps = [most for most, _, _ in kernel.holds.values()]
    # Attempts that wait to go on still get slots if nothing new may start.
    kernel.paused = kernel.stopped or 0 in caps
    kernel.concurrency = min([kernel.room, *filter(None, caps)])


def stop_attempt(kernel: KernelState, row: TaskRow) -> None:
    """Ask the attempt of *row* to stop for the driver's sake, without an event."""
    kernel.effects.append(StopAttempt(row, row.attempt, "stop"))


def act_for(kernel: KernelState, name: str) -> None:
    """Set the proved *name* of the caller of the next commands; "" for nobody."""
    kernel.caller = name


def own_event(kernel: KernelState, cls: type[Event], now: int, *fields: Any) -> Event:
    """Take an event that the driver announces and keeps itself, past all sinks."""
    kernel.seq += 1
    made: Any = cls
    event: Event = made(kernel.seq, now, *fields)
    return event


def keep_finished(kernel: KernelState) -> None:
    """Keep finished tasks in memory until the driver calls `evict`."""
    kernel.keep = _ALL


def remember_ended(kernel: KernelState, ended: Mapping[str, TaskState]) -> None:
    """Note tasks that have left memory, in this run of the program or before."""
    kernel.evicted.update(ended.items())


def forget_ended(kernel: KernelState) -> None:
    """Drop the list of tasks that have left memory; the driver finds them itself."""
    kernel.evicted.clear()


def forget_tasks(kernel: KernelState, ids: Iterable[str], runs: Iterable[str]) -> None:
    """Forget tasks and *runs* that the driver's journal no longer has."""
    for task_id in ids:
        kernel.evicted.discard(task_id)
    for run_id in runs:
        kernel.runs.pop(run_id, None)


def fail_everything(
    kernel: KernelState, rows: Iterable[TaskRow], message: str, now: int
) -> None:
    """Start nothing any more after a failure of the driver; fail *rows* without event.

    The state, its counters above all, cannot be trusted after that.
    """
    pause(kernel)
    kernel.starts.clear()
    kernel.active = kernel.delayed = 0
    for row in rows:
        row_extra(row).error = ("InternalError", message, "internal")
        row.state = TaskState.FAILED
        row.ended_ns = now


# -- holds of starts: events, so that readers and later incarnations know them ---------

# A hold by a person outlives a restart. Any other hold ends when an incarnation begins:
# its author decides anew.


#: The reason why other holds end at the beginning of an incarnation.
ANEW: Final = "the orchestrator has started anew"


def hold(
    kernel: KernelState, who: str, most: int, reason: str, now: int, *, lasts: bool
) -> bool:
    """Start nothing new while *most* run, until *who* calls `release`.

    Return False if that hold exists already.
    """
    if kernel.holds.get(who) == (most, reason, lasts):
        return False
    kernel.note(StartsHeld, now, who, most, reason, lasts)
    _set_hold(kernel, who, (most, reason, lasts))
    return True


def release(kernel: KernelState, who: str, now: int, reason: str = "") -> bool:
    """End the hold of *who*; return False if there was none."""
    if who not in kernel.holds:
        return False
    kernel.note(StartsReleased, now, who, reason)
    _set_hold(kernel, who, None)
    return True


def begin_incarnation(kernel: KernelState, now: int) -> None:
    """End the holds of starts that do not outlive a run of the program."""
    for who, (_, _, lasts) in list(kernel.holds.items()):
        if not lasts:
            release(kernel, who, now, ANEW)


def held(kernel: KernelState, event: StartsHeld, _now: int) -> None:
    """Apply the event to the state."""
    _set_hold(kernel, event.by, (event.most, event.reason, event.lasts))


def released(kernel: KernelState, event: StartsReleased, _now: int) -> None:
    """Apply the event to the state."""
    _set_hold(kernel, event.by, None)


def restore_hold(kernel: KernelState, who: str, hold: tuple[int, str, bool]) -> None:
    """Restore a hold of starts from a snapshot."""
    _set_hold(kernel, who, hold)


def _set_hold(
    kernel: KernelState, who: str, hold: tuple[int, str, bool] | None
) -> None:
    kernel.holds.pop(who, None)
    if hold is not None:
        kernel.holds[who] = hold
    settle(kernel)


# -- quotas: amounts for all tasks of a type, a run or a tenant ------------------------

# A rate of starts is no pool: see `_rates`.
#
# A quota is a pool for each resource that it bounds, and one for the number of running
# tasks. Its holders take as much of that pool as of the resource itself. So a task that
# would exceed it waits at the pool, and is woken, explained and counted as for any
# other shortage; without a quota nothing is looked at. Policies do not see these pools.
#
# A soft quota is such a pool without an end, so no task waits for it. Above a mark, its
# tasks come last: see `_limits`.


#: The holder of a quota and its limits: its kind (`type`, `owner` or `workflow`, after
#: `soft` if it is soft), its name, and the limits.
Change: TypeAlias = tuple[str, str, Units]
#: A holder of resources.
_Holder: TypeAlias = TaskRow | Leak | AllocationRow


def change_quotas(kernel: KernelState, quotas: Iterable[Change], now: int) -> None:
    """Replace *quotas*; empty limits remove one."""
    latest = {(kind, subject): limits for kind, subject, limits in quotas}
    fresh = tuple(
        (*whose, limits)
        for whose, limits in latest.items()
        if limits != limits_of(kernel, whose)
    )
    if fresh:
        kernel.note(QuotasChanged, now, fresh)
        apply(kernel, fresh, now)


def quotas_changed(kernel: KernelState, event: QuotasChanged, now: int) -> None:
    """Apply the event to the state."""
    apply(kernel, event.quotas, now)


def apply(kernel: KernelState, quotas: Sequence[Change], now: int) -> None:
    """Set *quotas*; what their holders hold already counts."""
    if not quotas:
        return
    from taskorch.core.kernel import _rates  # noqa: PLC0415 - few have quotas

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
        if limits:
            kernel.quotas[kind, subject] = tuple(bounds)
    kernel.pools = pools
    _rates.change(kernel, [((k, who), dict(limits)) for k, who, limits in quotas], now)
    _move_runs(kernel)
    _charge(kernel, held)
    kernel.workers_version += 1
    _limits.forget_turns(kernel)
    _queue.unpark_all(kernel)


def _move_runs(kernel: KernelState) -> None:
    """Move tasks of runs with a quota to buckets of their own, or back."""
    before, kinds = kernel.workflows, ("workflow", f"{SOFT}workflow")
    kernel.workflows = {who: None for kind, who in kernel.quotas if kind in kinds}
    if kernel.workflows == before:
        return
    leaking = [leak.row for leak in kernel.leaked.values()]
    for row in dict.fromkeys([*kernel.tasks.values(), *leaking]):
        bucket = _queue.bucket_for(kernel, row.run, row.bucket)
        if bucket is not row.bucket:
            replace(kernel, row, row.key, bucket)


def recharge(kernel: KernelState) -> None:
    """Count quotas anew after a fold that left out the events of quotas."""
    held = _held(kernel)
    _discharge(kernel, held)
    _charge(kernel, held)


def limits_of(kernel: KernelState, whose: tuple[str, str]) -> Units:
    """Return the limits of the quota of *whose*; none, if there is no quota."""
    from taskorch.core.kernel import _rates  # noqa: PLC0415 - few have quotas

    bounds = kernel.quotas.get(whose, ())
    pools = kernel.pools
    found = [(what, pools[name].total - pools[name].beyond) for name, what in bounds]
    return tuple(sorted((*found, *_rates.limits_of(kernel, whose))))


def meaning_of(pool: PoolRow) -> tuple[str, str, str]:
    """Return kind and name of the holder of quota *pool*, and its resource."""
    subject, _, what = pool.name.removeprefix(QUOTA).rpartition(":")
    kind, _, who = subject.partition("=")
    return kind.removeprefix(SOFT), who, what


def so_many(units: int, what: str) -> str:
    """Return *units* of *what*, a resource of a quota, in words."""
    amount = units / 1e6
    return f"{amount:g} {'task' if what == TASKS and amount == 1 else what}"


def _held(kernel: KernelState) -> list[tuple[_Holder, WorkerRow]]:
    """Return all holders of slots or resources, each with its worker."""
    found: list[tuple[_Holder, WorkerRow]] = [
        (row, worker_of(row))
        for row in kernel.tasks.values()
        if is_under_way(row) and (row.id, row.attempt) not in kernel.leaked
    ]
    found += [(leak, leak.worker) for leak in kernel.leaked.values()]
    return found + [(row, kernel.by_hand) for row in kernel.allocations.values()]


def _discharge(kernel: KernelState, held: list[tuple[_Holder, WorkerRow]]) -> None:
    """Remove the units of quotas from all holders."""
    for holder, worker in held:
        others = beside(holder.alloc)
        for name, units in of_quotas(without_beside(holder.alloc)):
            worker.used[name] -= units
            if name in kernel.pools:
                kernel.pools[name].used -= units
        holder.alloc = without_quotas(holder.alloc) + others


def _charge(kernel: KernelState, held: list[tuple[_Holder, WorkerRow]]) -> None:
    """Add the units of quotas to all holders, by the resources that they hold."""
    if kernel.quotas:
        for holder, worker in held:
            holder.alloc = _charged(kernel, holder)
            quotas = without_beside(of_quotas(holder.alloc))
            _limits.acquire(kernel, worker, quotas)
    for pool in kernel.pools.values():
        if pool.is_quota:
            pool.owed = max(0, pool.used - pool.total)


def _charged(kernel: KernelState, holder: _Holder) -> Units:
    # What stands behind, such as named units, keeps its order.
    alloc, others = without_quotas(holder.alloc), beside(holder.alloc)
    if isinstance(holder, AllocationRow):
        return _limits.charged_by_hand(kernel, holder.owner, alloc) + others
    row = holder.row if isinstance(holder, Leak) else holder
    bounds = _limits.bounds_of(kernel, _limits.subjects(row.bucket.spec))
    return _limits.charged(bounds, alloc) + others
