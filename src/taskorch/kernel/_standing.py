"""
What holds until somebody changes it: documents, quotas, holds.

Decisions: 0048, 0120, 0255.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from taskorch.events import (
    Event,
    ExtensionKept,
    Fact,
    QuotasChanged,
    StartsHeld,
    StartsReleased,
)
from taskorch.kernel import _limits, _queue
from taskorch.kernel._application import agent_of, is_under_way, replace
from taskorch.kernel._history import StopAttempt, row_extra
from taskorch.kernel._rows import (
    QUOTA,
    UNLIMITED,
    AgentRow,
    AllocationRow,
    Leak,
    PoolRow,
    TaskRow,
    beside,
    of_quotas,
    without_beside,
    without_quotas,
)
from taskorch.kernel._state import KernelState
from taskorch.kit.limits import ASIDE_NS
from taskorch.model import BURST, SOFT, STARTS, TASKS, TaskState, Units

# -- documents of extensions: what stands inside is for the extensions alone


def keep(
    kernel: KernelState, extension: str, key: str, document: str, now: int
) -> None:
    """Keep a document of an extension; an empty one drops it."""
    kernel.note(ExtensionKept, now, extension, key, document)
    _keep(kernel, extension, key, document)


def kept(kernel: KernelState, event: ExtensionKept, _now: int) -> None:
    """Apply the fact to the state."""
    _keep(kernel, event.extension, event.key, event.document)


def _keep(kernel: KernelState, extension: str, key: str, document: str) -> None:
    documents = kernel.kept.setdefault(extension, {})
    # The order is that of the latest facts: older ones may leave the journal.
    documents.pop(key, None)
    if document:
        documents[key] = document
    elif not documents:
        del kernel.kept[extension]


# -- what whoever drives the kernel says of itself, and what it does when it has
# failed

# Nothing of this is a fact: the next life of an orchestrator begins without it.


#: More tasks than there can be.
_ALL: Final = 2**63


def pause(kernel: KernelState) -> None:
    """Start nothing until `unpause`."""
    kernel.stopped = True
    settle(kernel)


def unpause(kernel: KernelState) -> None:
    """What can start does, from the next `dispatch` on, unless starts are held."""
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
    # Where nothing is to start, attempts that wait to go on still do.
    kernel.paused = kernel.stopped or 0 in caps
    kernel.concurrency = min([kernel.room, *filter(None, caps)])


def stop_attempt(kernel: KernelState, row: TaskRow) -> None:
    """The attempt of *row* is to stop, for the driver's sake: no fact says so."""
    kernel.effects.append(StopAttempt(row, row.attempt, "stop"))


def act_for(kernel: KernelState, name: str) -> None:
    """From here on, somebody whose *name* was proved asks; "": nobody."""
    kernel.caller = name


def own_fact(kernel: KernelState, cls: type[Event], now: int, *fields: Any) -> Fact:
    """A fact that goes to no sink: the driver says it, and keeps it, itself."""
    kernel.seq += 1
    made: Any = cls
    fact: Fact = made(kernel.seq, now, *fields)
    return fact


def keep_finished(kernel: KernelState) -> None:
    """Finished tasks leave memory only when the driver says `evict`."""
    kernel.keep = _ALL


def remember_ended(kernel: KernelState, ended: Mapping[str, TaskState]) -> None:
    """Note the tasks that are out of memory, since this life or an earlier one."""
    kernel.evicted.update(ended.items())


def forget_ended(kernel: KernelState) -> None:
    """The driver has another way to know of the tasks that have left memory."""
    kernel.evicted.clear()


def forget_tasks(kernel: KernelState, ids: Iterable[str], runs: Iterable[str]) -> None:
    """The driver's journal has tasks that are out of memory no longer, and *runs*."""
    for task_id in ids:
        kernel.evicted.discard(task_id)
    for run_id in runs:
        kernel.runs.pop(run_id, None)


def fail_everything(
    kernel: KernelState, rows: Iterable[TaskRow], message: str, now: int
) -> None:
    """
    The driver has failed: nothing starts any more, and *rows* fail without a fact.

    What the state says cannot be trusted after that, the counters least of all.
    """
    pause(kernel)
    kernel.starts.clear()
    kernel.active = kernel.delayed = 0
    for row in rows:
        row_extra(row).error = ("InternalError", message, "internal")
        row.state = TaskState.FAILED
        row.ended_ns = now


# -- who holds starts back, and why: facts, so that readers and the next life know of
# it

# What a person holds outlives a restart. A hold that does not last is let go of when
# a life begins: whoever had it decides anew.


#: Why holds that do not last are gone at the beginning of a life.
ANEW: Final = "the orchestrator has started anew"


def hold(
    kernel: KernelState, who: str, most: int, reason: str, now: int, *, lasts: bool
) -> bool:
    """
    Start nothing new while *most* run, until *who* says `release`.

    False if that is so already.
    """
    if kernel.holds.get(who) == (most, reason, lasts):
        return False
    kernel.note(StartsHeld, now, who, most, reason, lasts)
    _set_hold(kernel, who, (most, reason, lasts))
    return True


def release(kernel: KernelState, who: str, now: int, reason: str = "") -> bool:
    """*who* holds nothing any more; False if they did not."""
    if who not in kernel.holds:
        return False
    kernel.note(StartsReleased, now, who, reason)
    _set_hold(kernel, who, None)
    return True


def begin_life(kernel: KernelState, now: int) -> None:
    """Let go of what does not last."""
    for who, (_, _, lasts) in list(kernel.holds.items()):
        if not lasts:
            release(kernel, who, now, ANEW)


def held(kernel: KernelState, event: StartsHeld, _now: int) -> None:
    """What the fact does to the state."""
    _set_hold(kernel, event.by, (event.most, event.reason, event.lasts))


def released(kernel: KernelState, event: StartsReleased, _now: int) -> None:
    """What the fact does to the state."""
    _set_hold(kernel, event.by, None)


def restore_hold(kernel: KernelState, who: str, hold: tuple[int, str, bool]) -> None:
    """As a snapshot says."""
    _set_hold(kernel, who, hold)


def _set_hold(
    kernel: KernelState, who: str, hold: tuple[int, str, bool] | None
) -> None:
    kernel.holds.pop(who, None)
    if hold is not None:
        kernel.holds[who] = hold
    settle(kernel)


# -- quotas: how much all tasks of a type or a run, or all that is of an owner, may
# have

# How many of them start in a time is no pool: see `_rates`.
#
# A quota is a pool for each resource that it bounds, and one for how many run.
# Whoever it is for holds as much of that pool as of the resource itself: so what
# would exceed it waits at the pool, is woken, explained and counted as for any other
# shortage, and where there is no quota nothing is looked at. Policies do not see
# these pools.
#
# A soft quota is such a pool without an end, so it keeps nobody waiting, with a mark
# from which on those whom it is for come last: see `_limits`.


#: Whom a quota is for: `type`, `owner` or `workflow`, after `soft` if it is soft, and
#: which; and its limits.
Change: TypeAlias = tuple[str, str, Units]
#: Who holds something: a row, or a leak.
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
    """What the fact does to the state."""
    apply(kernel, event.quotas, now)


def apply(kernel: KernelState, quotas: Sequence[Change], now: int) -> None:
    """Set *quotas*: what is held already by those whom they are for counts."""
    if not quotas:
        return
    from taskorch.kernel import _rates  # noqa: PLC0415 - few have quotas

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
    kernel.agents_version += 1
    _limits.forget_turns(kernel)
    _queue.unpark_all(kernel)


def _move_runs(kernel: KernelState) -> None:
    """The tasks of runs that have a quota are not like others any more, or again."""
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
    """Count anew what is held: facts were folded without those of quotas."""
    held = _held(kernel)
    _discharge(kernel, held)
    _charge(kernel, held)


def limits_of(kernel: KernelState, whose: tuple[str, str]) -> Units:
    """The limits of the quota of *whose*; none, if there is no quota."""
    from taskorch.kernel import _rates  # noqa: PLC0415 - few have quotas

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
        others = beside(holder.alloc)
        for name, units in of_quotas(without_beside(holder.alloc)):
            agent.used[name] -= units
            if name in kernel.pools:
                kernel.pools[name].used -= units
        holder.alloc = without_quotas(holder.alloc) + others


def _charge(kernel: KernelState, held: list[tuple[_Holder, AgentRow]]) -> None:
    """Charge all holders, by what they hold of the resources, to the quotas."""
    if kernel.quotas:
        for holder, agent in held:
            holder.alloc = _charged(kernel, holder)
            quotas = without_beside(of_quotas(holder.alloc))
            _limits.acquire(kernel, agent, quotas)
    for pool in kernel.pools.values():
        if pool.is_quota:
            pool.owed = max(0, pool.used - pool.total)


def _charged(kernel: KernelState, holder: _Holder) -> Units:
    if isinstance(holder, AllocationRow):
        return _limits.charged_by_hand(kernel, holder.owner, holder.alloc)
    row = holder.row if isinstance(holder, Leak) else holder
    bounds = _limits.bounds_of(kernel, _limits.subjects(row.bucket.spec))
    return _limits.charged(bounds, holder.alloc)
