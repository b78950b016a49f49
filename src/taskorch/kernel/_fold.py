"""
The fold: the state that the facts of earlier lives lead to.

Applying a fact asks no policy and decides nothing: what follows from it is in facts
of its own. It calls the same functions that the live kernel calls once it has decided,
so that there is one way to change a state, and two to come to it. `differences` says
whether both arrive at the same.

`recover` is where a new life begins: the attempts of the last one are over, and what
becomes of their tasks is decided, and told, as at any other time.

Decision: 0009.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from inspect import isdatadescriptor
from operator import attrgetter
from typing import Any, Final

from taskorch.events import (
    AgentDraining,
    AgentJoined,
    AgentLost,
    AgentProbed,
    AgentRestored,
    AgentReturned,
    AgentTripped,
    AnswerRefused,
    EventEmitted,
    Fact,
    OrchestratorStarted,
    PoolsChanged,
    QuotasChanged,
    ResourcesAllocated,
    ResourcesReleased,
    ResultRemembered,
    ResultsForgotten,
    ScheduleChanged,
    ScheduleFired,
    ScheduleQueued,
    ScheduleSkipped,
    SlotRecovered,
    StartsHeld,
    StartsReleased,
    TaskCompleted,
    TaskParentsAdded,
    TaskRepointed,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.kernel import (
    _admission,
    _allocations,
    _attempts,
    _breakers,
    _dependencies,
    _edges,
    _holds,
    _leases,
    _pools,
    _queue,
    _quick,
    _quotas,
    _remembered,
    _schedules,
    _tick,
    _waits,
)
from taskorch.kernel._application import APPLY, begin, is_under_way
from taskorch.kernel._history import row_extra
from taskorch.kernel._rows import (
    LEFT_RUNNING,
    Bucket,
    Links,
    RetainedEvent,
    RowExtra,
    Spec,
    TaskRow,
    TypeRow,
)
from taskorch.kernel._state import KernelState


def fold(kernel: KernelState, fact: Fact, cargo: Any = None) -> None:
    """
    Apply *fact* to *kernel*, which is new and paused, and tells nobody.

    Facts come in the order of their numbers, and all of one batch before anything else
    is done with the kernel. The *cargo* is what the driver keeps with a submission, or
    with an event from outside.
    """
    cls = type(fact)
    kernel.deciding = True
    if cls in _WITH_CARGO:
        _WITH_CARGO[cls](kernel, fact, cargo)
    elif cls in APPLY:
        _about_task(kernel, fact)
    elif cls in _OTHERS:
        _OTHERS[cls](kernel, fact, fact.at_ns)
    kernel.deciding = False
    if kernel.undecided:
        # The decisions are in the facts that follow.
        kernel.undecided.clear()
    kernel.seq = fact.seq
    if kernel.touched:
        kernel.touched.clear()
    if kernel.dropped:
        kernel.dropped.clear()


def recover(kernel: KernelState, epoch: int, now: int) -> None:
    """
    Begin a new life, after the last fact was folded.

    All agents are away until they join again. Attempts that were under way are over:
    their tasks are tried again, uncharged, or held for a decision, or whatever they
    had been asked to stop for. What they held is free.

    `listen` has been called, for what is told now; *epoch* is above that of the last
    life, and *now* is not before the last fact.
    """
    kernel.epoch = epoch
    kernel.note(OrchestratorStarted, now, epoch, kernel.config.concurrency)
    why = "the orchestrator has started anew"
    for agent in kernel.agents.values():
        if not agent.lost:
            kernel.note(AgentLost, now, agent.name, why)
            _leases.go(kernel, agent)
    _holds.begin_life(kernel, now)
    for (_, attempt), leak in list(kernel.leaked.items()):
        _attempts.mend_leak(kernel, leak, attempt, now)
    described = ("AttemptLostError", LEFT_RUNNING)
    for row in list(kernel.tasks.values()):
        if is_under_way(row):
            _attempts.end(kernel, row, row.attempt, "interrupted", now, None, described)
    for share in (kernel.shares or {}).values():
        # A snapshot does not say when an owner was served last.
        share.served = 0
    # Timers that fell due meanwhile come before anything starts.
    _tick.tick(kernel, now)


def _emitted(kernel: KernelState, fact: EventEmitted, cargo: Any) -> None:
    if fact.until_ns:
        event = RetainedEvent(fact.name, fact.seq, fact.until_ns, cargo)
        _waits.retain(kernel, event)


# -- submissions -------------------------------------------------------------------


def _submitted(kernel: KernelState, fact: TaskSubmitted, cargo: Any) -> None:
    now, task_id, rerun_of = fact.at_ns, fact.task_id, fact.rerun_of
    elastic: Any = fact.elastic
    spec = Spec(
        fact.type,
        fact.requires,
        fact.resources,
        fact.timeout_ns,
        fact.idempotent,
        fact.owner,
        elastic,
    )
    bucket = _queue.bucket_of(kernel, spec)
    if kernel.workflows:
        bucket = _queue.bucket_for(kernel, task_id, bucket)
    row = kernel.not_folded.pop(task_id, None) if kernel.not_folded else None
    if row is None:
        row = TaskRow(task_id, 0, bucket, cargo, now)
    else:
        row.bucket, row.cargo = bucket, cargo
        row.submitted_ns = row.ready_ns = now
    row.named = fact.named
    admitted = _admission.Admitted(
        row,
        fact.priority,
        fact.key,
        [parent_of(kernel, name, now) for name in fact.after],
        fact.not_before_ns,
        fact.deadline_ns,
        None if fact.expires_ns is None else fact.expires_ns - now,
        None if rerun_of is None else kernel.tasks.get(rerun_of),
        _admission.terms_of(fact),
    )
    _admission.enter(kernel, admitted, now)
    if rerun_of is not None:
        row_extra(row).rerun_of = rerun_of
    _admission.set_first_state(kernel, row, now)


def parent_of(kernel: KernelState, task_id: str, now: int) -> TaskRow:
    """A parent: in memory, or finished long ago, or still to come in its batch."""
    row = kernel.tasks.get(task_id) or kernel.not_folded.get(task_id)
    if row is not None:
        return row
    row = TaskRow(task_id, 0, Bucket(Spec(""), TypeRow()), None, now)
    ended = kernel.evicted.get(task_id)
    if ended is not None:
        row.state = ended
    else:
        kernel.not_folded[task_id] = row
    return row


# -- attempts ----------------------------------------------------------------------


def _started(kernel: KernelState, fact: TaskStarted, _cargo: Any) -> None:
    row = kernel.tasks[fact.task_id]
    _queue.dequeue(kernel, row)
    row.attempt = fact.attempt - 1
    agent = kernel.agents[fact.agent_id]
    begin(kernel, row, agent, fact.allocation, fact.reason, fact.at_ns)


def _completed(kernel: KernelState, fact: TaskCompleted, _cargo: Any) -> None:
    row = kernel.tasks[fact.task_id]
    if row.extra is None:
        _quick.complete(kernel, row, fact.attempt, fact.at_ns)
    else:
        _about_task(kernel, fact)


def _about_task(kernel: KernelState, fact: Any) -> None:
    """Apply what needs nothing but the row of its task."""
    if type(fact) is SlotRecovered:
        # The task may have left memory.
        row = kernel.leaked[fact.task_id, fact.attempt].row
    elif type(fact) is AnswerRefused and fact.task_id not in kernel.tasks:
        # This life may keep fewer finished tasks than the one that told it.
        return
    else:
        row = kernel.tasks[fact.task_id]
    APPLY[type(fact)](kernel, row, fact)


# -- what names other tasks --------------------------------------------------------


def _repointed(kernel: KernelState, event: TaskRepointed, now: int) -> None:
    rerun = parent_of(kernel, event.rerun_id, now)
    # The task that was run again is found through its dependents. It may have left
    # memory: this life may keep fewer finished tasks than the one that noted the fact.
    found: dict[TaskRow, list[TaskRow]] = {}
    # A dependent that waits for it twice is named twice.
    ways: dict[str, Iterator[TaskRow]] = {}
    for name in event.dependents:
        if name in kernel.tasks:
            child = kernel.tasks[name]
            if name not in ways:
                parents = _dependencies.links_of(child).parents
                ways[name] = iter([p for p in parents if p.id == event.task_id])
            found.setdefault(next(ways[name]), []).append(child)
    for row, children in found.items():
        _edges.turn(kernel, row, rerun, children, now)


def _parents_added(kernel: KernelState, event: TaskParentsAdded, now: int) -> None:
    parents = [parent_of(kernel, name, now) for name in event.after]
    _edges.extend(kernel, kernel.tasks[event.task_id], parents)


# -- agents and the orchestrator ---------------------------------------------------


def _joined(kernel: KernelState, event: AgentJoined, now: int) -> None:
    _leases.add(kernel, event.agent, now)


def _lost(kernel: KernelState, event: AgentLost, _: int) -> None:
    _leases.go(kernel, kernel.agents[event.agent_id])


def _back(kernel: KernelState, event: AgentReturned, now: int) -> None:
    _leases.heard(kernel, kernel.agents[event.agent_id], now)


def _tripped(kernel: KernelState, event: AgentTripped, now: int) -> None:
    agent = kernel.agents[event.agent_id]
    _breakers.opened(kernel, agent, event.capability, event.until_ns, now)


def _probed(kernel: KernelState, event: AgentProbed, now: int) -> None:
    agent = kernel.agents[event.agent_id]
    _breakers.half_opened(kernel, agent, event.capability, now)


def _restored(kernel: KernelState, event: AgentRestored, now: int) -> None:
    agent = kernel.agents[event.agent_id]
    _breakers.closed(kernel, agent, event.capability, now)


def _draining(kernel: KernelState, event: AgentDraining, _: int) -> None:
    why = event.reason if event.draining else ""
    _breakers.drained(kernel, kernel.agents[event.agent_id], why)


def _epoch(kernel: KernelState, event: OrchestratorStarted, _: int) -> None:
    kernel.epoch = event.epoch


#: Those that come with a cargo, or need more of the state than the row of a task.
_WITH_CARGO: Final[dict[Any, Callable[[KernelState, Any, Any], None]]] = {
    TaskSubmitted: _submitted,
    TaskStarted: _started,
    TaskCompleted: _completed,
    EventEmitted: _emitted,
}
_OTHERS: Final[dict[Any, Callable[[KernelState, Any, int], None]]] = {
    TaskRepointed: _repointed,
    TaskParentsAdded: _parents_added,
    AgentJoined: _joined,
    AgentLost: _lost,
    AgentReturned: _back,
    AgentTripped: _tripped,
    AgentProbed: _probed,
    AgentRestored: _restored,
    AgentDraining: _draining,
    PoolsChanged: _pools.changed,
    QuotasChanged: _quotas.changed,
    ResultRemembered: _remembered.remembered,
    ResultsForgotten: _remembered.forgotten,
    ScheduleChanged: _schedules.changed,
    ScheduleFired: _schedules.fired,
    ScheduleQueued: _schedules.queued,
    ScheduleSkipped: _schedules.skipped,
    StartsHeld: _holds.held,
    StartsReleased: _holds.released,
    ResourcesAllocated: _allocations.allocated,
    ResourcesReleased: _allocations.released,
    OrchestratorStarted: _epoch,
}


# -- comparing ---------------------------------------------------------------------

COUNTERS: Final = (
    "seq",
    "epoch",
    "running",
    "active",
    "queued",
    "pending",
    "retrying",
    "blocked",
    "suspended",
    "completed",
    "failed",
    "cancelled",
    "submissions",
    "delayed",
    "retries_scheduled",
    "retries_recovered",
    "retries_exhausted",
)
_counters_of: Final = attrgetter(*COUNTERS)


def _fields(cls: type) -> list[str]:
    """What objects of *cls* have; of a compiled one, `__slots__` is gone."""
    return [name for name, found in vars(cls).items() if isdatadescriptor(found)]


#: All that a row has: but what is looked at by name, or is the driver's own, or how it
#: stands in the queue.
_FIELDS: Final = tuple(
    name
    for name in _fields(TaskRow)
    if name not in ("agent", "bucket", "cargo", "links", "extra", "ticket")
)
#: Extra fields to compare. Vetoes pass with the moment, shares are compared apart, and
#: two are worked out of the others.
_EXTRAS: Final = tuple(
    name
    for name in _fields(RowExtra)
    if name not in ("blocked_by", "veto", "share", "roots", "passed_on")
)


def differences(
    live: KernelState, folded: KernelState, rows: Iterable[str] | None = None
) -> list[str]:
    """
    In what two states that should be the same differ; nothing if they do not.

    Besides all counters it looks at the tasks whose ids are *rows*; None is all, with
    all agents and pools.
    """
    found: list[str] = []
    if _counters_of(live) != _counters_of(folded):
        found += [
            f"{name}: {getattr(live, name)} and {getattr(folded, name)}"
            for name in COUNTERS
            if getattr(live, name) != getattr(folded, name)
        ]
    if rows is None:
        rows = live.tasks
        found += _differing_keys("tasks", live.tasks, folded.tasks)
        found += _differing_keys("leaks", live.leaked, folded.leaked)
        if dict(live.evicted.items()) != dict(folded.evicted.items()):
            found.append("what has left memory is not the same")
        found += _books_differ(live, folded)
    for task_id in rows:
        one, other = live.tasks.get(task_id), folded.tasks.get(task_id)
        if one is None or other is None:
            ended = [kernel.evicted.get(task_id) for kernel in (live, folded)]
            if one is not other or ended[0] is not ended[1]:
                found.append(f"{task_id}: {one or ended[0]} and {other or ended[1]}")
        elif (story := _comparable_fields(one)) != (
            theirs := _comparable_fields(other)
        ):
            pairs = zip(_NAMES, story, theirs, strict=True)
            found += [
                f"{task_id}.{name}: {a} and {b}" for name, a, b in pairs if a != b
            ]
    return found


#: A row without extra fields is like one whose extra fields are as at first.
_PLAIN: Final = RowExtra()
_NO_LINKS: Final = Links()
_fields_of: Final = attrgetter(*_FIELDS)
_extras_of: Final = attrgetter(*_EXTRAS)
_NAMES: Final = (
    *_FIELDS,
    "agent",
    "spec",
    "parents",
    "waiting",
    "terms",
    "dependents",
    "blocked_by",
    *_EXTRAS,
)


def _waiting_for(links: Links) -> list[str]:
    """The dependents that still wait; those that ended or were released stay listed."""
    return [row.id for row in links.dependents if _dependencies.hangs_on(row)]


def _comparable_fields(row: TaskRow) -> tuple[Any, ...]:
    """The fields of *row* that a fold of the facts must restore, for a comparison."""
    extra, links = row.extra or _PLAIN, row.links or _NO_LINKS
    return (
        *_fields_of(row),
        None if row.agent is None else row.agent.name,
        row.bucket.spec,
        [parent.id for parent in links.parents],
        links.waiting,
        links.terms,
        _waiting_for(links),
        # Their order, that of their failure, decides nothing.
        sorted(extra.blocked_by),
        *_extras_of(extra),
    )


def _differing_keys(what: str, one: Any, other: Any) -> list[str]:
    missing = [key for key in one if key not in other]
    extra = [key for key in other if key not in one]
    return (
        [f"{what}: {missing} only here, {extra} only there"] if missing or extra else []
    )


def _books_differ(live: KernelState, folded: KernelState) -> list[str]:
    def books(kernel: KernelState) -> dict[str, Any]:
        said: dict[str, Any] = {
            f"pool {name}": (pool.used, pool.total)
            for name, pool in kernel.pools.items()
        }
        for name, told in kernel.schedules.items():
            said[f"schedule {name}"] = told
            said[f"waiting slots of {name}"] = list(kernel.waiting_slots[name])
            said[f"filled slots of {name}"] = list(kernel.filled_slots[name])
        said["holds"] = list(kernel.holds.items())
        said["remembered"] = list(kernel.remembered.items())
        for whose, rate in kernel.rates.items():
            limits = rate.per_second, rate.total
            said[f"rate of {whose}"] = (*limits, rate.spent, rate.at_ns)
        for name, row in kernel.allocations.items():
            said[f"allocation {name}"] = (row.owner, row.alloc, row.since_ns)
        for share in (kernel.shares or {}).values():
            held = {k: v for k, v in share.held.items() if v}
            if share.running or held:
                said[f"share of {share.owner}"] = (share.running, held)
        for name, agent in kernel.agents.items():
            used = {k: v for k, v in agent.used.items() if v}
            records = {
                kind: (r.completed, r.failed, r.latency_ns)
                for kind, r in agent.records.items()
            }
            said[f"agent {name}"] = (
                agent.info,
                agent.lost,
                agent.draining,
                {
                    capability: (one.state, one.since_ns, one.until_ns, one.trips)
                    for capability, one in agent.breakers.items()
                },
                agent.running,
                agent.completed,
                agent.failed,
                agent.leaked,
                used,
                records,
            )
        return said

    one, other = books(live), books(folded)
    names = dict.fromkeys([*one, *other])
    return [
        f"{name}: {one.get(name)} and {other.get(name)}"
        for name in names
        if one.get(name) != other.get(name)
    ]
