"""
The state rebuilt from events and from a snapshot.

Decision: events-and-recovery.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from inspect import isdatadescriptor
from operator import attrgetter
from typing import Any, Final

import attrs

from taskorch.core.kernel import (
    _admission,
    _application,
    _attempts,
    _breakers,
    _control,
    _dependencies,
    _ends,
    _limits,
    _queue,
    _quick,
    _standing,
    _units,
)
from taskorch.core.kernel._application import APPLY, begin, is_under_way
from taskorch.core.kernel._history import row_extra
from taskorch.core.kernel._rows import (
    LEFT_RUNNING,
    Bucket,
    Links,
    LockRow,
    PoolRow,
    Record,
    RetainedEvent,
    RowExtra,
    Spec,
    TaskRow,
    TypeRow,
    WorkerRow,
    budgeting,
)
from taskorch.core.kernel._state import KernelState
from taskorch.errors import InternalError
from taskorch.events import (
    TASK_ID,
    AgentDraining,
    AgentJoined,
    AgentLost,
    AgentProbed,
    AgentRestored,
    AgentReturned,
    AgentTripped,
    AnswerRefused,
    BudgetChanged,
    BudgetExhausted,
    BudgetLow,
    Event,
    EventEmitted,
    ExtensionKept,
    OrchestratorStarted,
    PoolsChanged,
    QuotasChanged,
    ResourcesAllocated,
    ResourcesReleased,
    SlotRecovered,
    StartsHeld,
    StartsReleased,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskParentsAdded,
    TaskRepointed,
    TaskStarted,
    TaskSubmitted,
    TaskUnblocked,
)
from taskorch.model import TERMINAL, Agent, Breaker, Resources, TaskState, Units
from taskorch.model.ids import run_by

# -- the fold: the state that the events of earlier incarnations lead to ---------------

# Applying an event asks no policy and decides nothing: its consequences are events of
# their own. It calls the same functions that the live kernel calls once it has decided,
# so a state changes in one way only. `differences` compares the results of both.
#
# `recover` begins a new incarnation: the attempts of the last one are over, and the
# kernel decides about their tasks and announces that, as at any other time.


def fold(kernel: KernelState, event: Event, cargo: Any = None) -> None:
    """Apply *event* to *kernel*, which is new, paused and without listeners.

    Events come in the order of their numbers, and all of one batch before anything else
    is done with the kernel. The *cargo* is the driver's object for a submission, or for
    an event from outside.
    """
    cls = type(event)
    kernel.deciding = True
    if cls in _WITH_CARGO:
        _WITH_CARGO[cls](kernel, event, cargo)
    elif cls in APPLY:
        _about_task(kernel, event)
    elif cls in _OTHERS:
        _OTHERS[cls](kernel, event, event.at_ns)
    kernel.deciding = False
    if kernel.undecided:
        # The decisions are in the events that follow.
        kernel.undecided.clear()
    kernel.seq = event.seq
    if kernel.touched:
        kernel.touched.clear()
    if kernel.dropped:
        kernel.dropped.clear()


def recover(kernel: KernelState, epoch: int, now: int) -> None:
    """Begin a new incarnation, after the last event was folded.

    All workers are away until they join again. Attempts that were under way are over:
    their tasks are tried again without a try counted, put on hold for a decision, or
    end as they had been asked to. Their resources are free.

    `listen` has been called, for the events of this step. *epoch* is above that of the
    last incarnation, and *now* is not before the last event.
    """
    kernel.epoch = epoch
    kernel.note(OrchestratorStarted, now, epoch, kernel.config.concurrency)
    why = "the orchestrator has started anew"
    for worker in kernel.workers.values():
        if not worker.lost:
            kernel.note(AgentLost, now, worker.name, why)
            _control.go(kernel, worker)
    _standing.begin_incarnation(kernel, now)
    for (_, attempt), leak in list(kernel.leaked.items()):
        _attempts.mend_leak(kernel, leak, attempt, now)
    described = ("AttemptLostError", LEFT_RUNNING)
    for row in list(kernel.tasks.values()):
        if row.state is TaskState.RUNNING or is_under_way(row):
            _attempts.end(kernel, row, row.attempt, "interrupted", now, None, described)
    for share in (kernel.shares.by_tenant if kernel.shares else {}).values():
        # A snapshot does not say when a tenant was served last.
        share.served = 0
    # Timers that fell due meanwhile come before anything starts.
    _control.tick(kernel, now)


def _emitted(kernel: KernelState, emitted: EventEmitted, cargo: Any) -> None:
    if emitted.until_ns:
        event = RetainedEvent(emitted.name, emitted.seq, emitted.until_ns, cargo)
        _ends.retain(kernel, event)


# -- submissions -------------------------------------------------------------------


def _submitted(kernel: KernelState, event: TaskSubmitted, cargo: Any) -> None:
    now, task_id, rerun_of = event.at_ns, event.task_id, event.rerun_of
    elastic: Any = event.elastic
    spec = Spec(
        event.type,
        event.requires,
        event.resources,
        event.timeout_ns,
        event.idempotent,
        event.owner,
        elastic,
        writes=event.writes,
        budget=event.budget,
        spends=event.spends,
        allow_failure=event.allow_failure,
    )
    bucket = _queue.bucket_of(kernel, spec)
    run = _admission.shared_run(kernel, run_by(task_id, event.run))
    if kernel.workflows:
        bucket = _queue.bucket_for(kernel, run, bucket)
    row = kernel.not_folded.pop(task_id, None) if kernel.not_folded else None
    if row is None:
        row = TaskRow(task_id, 0, bucket, cargo, now)
    else:
        row.bucket, row.cargo = bucket, cargo
        row.submitted_ns = row.ready_ns = now
    row.named, row.run = event.named, run
    admitted = _admission.Admitted(
        row,
        event.priority,
        event.key,
        [parent_of(kernel, name, now) for name in event.after],
        event.not_before_ns,
        event.deadline_ns,
        None if event.expires_ns is None else event.expires_ns - now,
        None if rerun_of is None else kernel.tasks.get(rerun_of),
        _admission.terms_of(event),
    )
    _admission.enter(kernel, admitted, now)
    if rerun_of is not None:
        row_extra(row).rerun_of = rerun_of
    _admission.set_first_state(kernel, row, now)


def parent_of(kernel: KernelState, task_id: str, now: int) -> TaskRow:
    """Return a parent: from memory, finished long ago, or later in its batch."""
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


def _started(kernel: KernelState, event: TaskStarted, _cargo: Any) -> None:
    row = kernel.tasks[event.task_id]
    _queue.dequeue(kernel, row)
    row.attempt = event.attempt - 1
    worker = kernel.workers[event.agent_id]
    units = _units.held(kernel, worker, event.units) if event.units else ()
    begin(kernel, row, worker, event.allocation, event.reason, event.at_ns, units)


def _completed(kernel: KernelState, event: TaskCompleted, _cargo: Any) -> None:
    row = kernel.tasks[event.task_id]
    if row.extra is None:
        _quick.complete(kernel, row, event.attempt, event.at_ns)
    else:
        _about_task(kernel, event)


def _about_task(kernel: KernelState, event: Any) -> None:
    """Apply an event that needs only the row of its task."""
    if type(event) is SlotRecovered:
        # The task may have left memory.
        row = kernel.leaked[event.task_id, event.attempt].row
    elif type(event) is AnswerRefused and event.task_id not in kernel.tasks:
        # This incarnation may keep fewer finished tasks than the one that recorded the
        # event.
        return
    else:
        row = kernel.tasks[event.task_id]
    APPLY[type(event)](kernel, row, event)


# -- events that name other tasks ---------------------------------------------------


def _repointed(kernel: KernelState, event: TaskRepointed, now: int) -> None:
    rerun = parent_of(kernel, event.rerun_id, now)
    # The task that was run again is found through its dependents. It may have left
    # memory: this incarnation may keep fewer finished tasks than the one that recorded
    # the event.
    found: dict[TaskRow, list[TaskRow]] = {}
    # A dependent that waits for the task twice is named twice.
    ways: dict[str, Iterator[TaskRow]] = {}
    for name in event.dependents:
        if name in kernel.tasks:
            child = kernel.tasks[name]
            if name not in ways:
                parents = _dependencies.links_of(child).parents
                ways[name] = iter([p for p in parents if p.id == event.task_id])
            found.setdefault(next(ways[name]), []).append(child)
    for row, children in found.items():
        _control.turn(kernel, row, rerun, children, now)


def _parents_added(kernel: KernelState, event: TaskParentsAdded, now: int) -> None:
    parents = [parent_of(kernel, name, now) for name in event.after]
    _control.extend(kernel, kernel.tasks[event.task_id], parents)


# -- workers and the orchestrator --------------------------------------------------


def _joined(kernel: KernelState, event: AgentJoined, now: int) -> None:
    # The losses that follow are in events of their own.
    _control.add(kernel, event.agent, now, goes_on=True)


def _lost(kernel: KernelState, event: AgentLost, _: int) -> None:
    _control.go(kernel, kernel.workers[event.agent_id])


def _back(kernel: KernelState, event: AgentReturned, now: int) -> None:
    _control.heard(kernel, kernel.workers[event.agent_id], now)


def _tripped(kernel: KernelState, event: AgentTripped, now: int) -> None:
    worker = kernel.workers[event.agent_id]
    _breakers.opened(kernel, worker, event.capability, event.until_ns, now)


def _probed(kernel: KernelState, event: AgentProbed, now: int) -> None:
    worker = kernel.workers[event.agent_id]
    _breakers.half_opened(kernel, worker, event.capability, now)


def _restored(kernel: KernelState, event: AgentRestored, now: int) -> None:
    worker = kernel.workers[event.agent_id]
    _breakers.closed(kernel, worker, event.capability, now)


def _draining(kernel: KernelState, event: AgentDraining, _: int) -> None:
    why = event.reason if event.draining else ""
    _breakers.drained(kernel, kernel.workers[event.agent_id], why)


def _epoch(kernel: KernelState, event: OrchestratorStarted, _: int) -> None:
    kernel.epoch = event.epoch


def _of_budgets(kernel: KernelState, event: Event, now: int) -> None:
    budgeting().APPLIED[type(event)](kernel, event, now)


#: Functions for events that come with a cargo, or need more than the row of a task.
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
    PoolsChanged: _limits.changed,
    QuotasChanged: _standing.quotas_changed,
    BudgetChanged: _of_budgets,
    BudgetLow: _of_budgets,
    BudgetExhausted: _of_budgets,
    ExtensionKept: _standing.kept,
    StartsHeld: _standing.held,
    StartsReleased: _standing.released,
    ResourcesAllocated: _limits.allocated,
    ResourcesReleased: _limits.released,
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
    """Return the names of the fields of *cls*; compiled classes lack `__slots__`."""
    return [name for name, found in vars(cls).items() if isdatadescriptor(found)]


#: The fields of a row, except those that are compared by name, belong to the driver, or
#: are a place in the queue.
_FIELDS: Final = tuple(
    name
    for name in _fields(TaskRow)
    if name not in ("bucket", "cargo", "extra", "links", "ticket", "worker")
)
#: The extra fields to compare. Vetoes are temporary, shares are compared apart, and two
#: fields follow from others.
_EXTRAS: Final = tuple(
    name
    for name in _fields(RowExtra)
    if name not in ("blocked_by", "veto", "share", "roots", "passed_on")
)


def differences(
    live: KernelState, folded: KernelState, rows: Iterable[str] | None = None
) -> list[str]:
    """Return the differences of two states that should be the same.

    It compares all counters and the tasks whose ids are *rows*; None compares all
    tasks, workers and pools.
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


#: The extra fields that a row without them stands for.
_PLAIN: Final = RowExtra()
_NO_LINKS: Final = Links()
_fields_of: Final = attrgetter(*_FIELDS)
_extras_of: Final = attrgetter(*_EXTRAS)
_NAMES: Final = (
    *_FIELDS,
    "worker",
    "spec",
    "parents",
    "waiting",
    "terms",
    "dependents",
    "blocked_by",
    *_EXTRAS,
)


def _waiting_for(links: Links) -> list[str]:
    """Return the dependents that still wait; the list also has older ones."""
    return [row.id for row in links.dependents if _dependencies.hangs_on(row)]


def _comparable_fields(row: TaskRow) -> tuple[Any, ...]:
    """Return the fields of *row* that a fold of the events must restore."""
    extra, links = row.extra or _PLAIN, row.links or _NO_LINKS
    return (
        *_fields_of(row),
        None if row.worker is None else row.worker.name,
        row.bucket.spec,
        [parent.id for parent in links.parents],
        links.waiting,
        links.terms,
        _waiting_for(links),
        # Their order, that of the failures, decides nothing.
        sorted(extra.blocked_by),
        *_extras_of(extra),
    )


def has_effect(cls: type[Event]) -> bool:
    """Return whether events of a class, which are about no task, change the state."""
    return cls in _OTHERS or cls in _WITH_CARGO


def _differing_keys(what: str, one: Any, other: Any) -> list[str]:
    missing = [key for key in one if key not in other]
    extra = [key for key in other if key not in one]
    return (
        [f"{what}: {missing} only here, {extra} only there"] if missing or extra else []
    )


def _beside_of(kernel: KernelState) -> dict[str, Any]:
    """Return the amounts in use of hidden pools and budgets as comparable values."""
    values: dict[str, Any] = {
        f"beside {name}": (pool.used, pool.total)
        for name, pool in kernel.beside.items()
        if pool.used or not isinstance(pool, LockRow)
    }
    for name, budget in kernel.budgets.items():
        flags = budget.is_low, budget.asked, budget.is_open
        spent = budget.spent, budget.declared
        values[f"budget {name}"] = (budget.parent, spent, flags)
    return values


def _books_differ(live: KernelState, folded: KernelState) -> list[str]:
    def books(kernel: KernelState) -> dict[str, Any]:
        said: dict[str, Any] = {
            f"pool {name}": (pool.used, pool.total)
            for name, pool in kernel.pools.items()
        }
        said |= _beside_of(kernel)
        for name, documents in kernel.kept.items():
            said[f"documents of {name}"] = list(documents.items())
        said["holds"] = list(kernel.holds.items())
        for whose in kernel.quotas:
            said[f"quota of {whose}"] = _standing.limits_of(kernel, whose)
        said |= _limits_out(kernel)
        for name, row in kernel.allocations.items():
            said[f"allocation {name}"] = (row.owner, row.alloc, row.since_ns)
        for share in (kernel.shares.by_tenant if kernel.shares else {}).values():
            held = {k: v for k, v in share.held.items() if v}
            if share.running or held:
                said[f"share of {share.owner}"] = (share.running, held)
        for name, worker in kernel.workers.items():
            used = {k: v for k, v in worker.used.items() if v}
            records = {
                kind: (r.completed, r.failed, r.latency_ns)
                for kind, r in worker.records.items()
            }
            said[f"worker {name}"] = (
                worker.info,
                worker.lost,
                worker.draining,
                {
                    capability: (one.state, one.since_ns, one.until_ns, one.trips)
                    for capability, one in worker.breakers.items()
                },
                worker.running,
                worker.completed,
                worker.failed,
                worker.leaked,
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


# -- snapshots: they spare a new incarnation the fold of tasks that ended long ago -----

# A snapshot holds no rows. It names the tasks that were in memory, and has the sums
# over all events before it: counters, workers with their records, types. Of these
# events, only those about its tasks are then folded, and a few about their parents that
# have left memory. `Restoration` names these events, and leaves the kernel in the same
# state as a fold of all.


#: The version of the format; it rises with each change.
_SCHEMA: Final = 6
#: Counters of past events. The other counters are about tasks in memory, and the folded
#: events must lead to the same values.
_SUMS: Final = (
    "seq",
    "epoch",
    "submissions",
    "completed",
    "failed",
    "cancelled",
    "retries_scheduled",
    "retries_recovered",
    "retries_exhausted",
)


# -- taking ------------------------------------------------------------------------


def take_snapshot(kernel: KernelState, now: int) -> dict[str, Any]:
    """Return the state that a later incarnation cannot read from its own tasks.

    It consists of JSON values, and shares nothing mutable with *kernel*. It may be
    taken between any two steps, and holds for the event of the number `kernel.seq`. No
    event so far is later than *now*.
    """
    # Tasks that have ended and left memory, whose leaked attempts still hold something.
    gone = {
        leak.row.id: leak.row
        for leak in kernel.leaked.values()
        if leak.row.id not in kernel.tasks
    }
    return {
        "schema": _SCHEMA,
        "at_ns": now,
        "counters": {name: getattr(kernel, name) for name in COUNTERS},
        # Tasks are in the order of their submission, each with its place in it.
        "tasks": list(kernel.tasks),
        "places": [row.seq for row in kernel.tasks.values()],
        "gone": list(gone),
        "gone_places": [row.seq for row in gone.values()],
        "agents": [_worker_out(worker) for worker in kernel.workers.values()],
        "pools": [
            [name, _units.declared(pool)[0]]
            for name, pool in kernel.pools.items()
            if not pool.is_quota
        ],
        "units": [
            [name, list(pool.units.units)]
            for name, pool in kernel.pools.items()
            if pool.units is not None
        ],
        "quotas": [
            [*subject, _units_out(_standing.limits_of(kernel, subject))]
            for subject in kernel.quotas
        ],
        "allocations": [
            [
                row.id,
                row.owner,
                _units_out(row.units),
                row.since_ns,
                [list(unit) for unit in _units.told(kernel, row.alloc)],
            ]
            for row in kernel.allocations.values()
        ],
        "budgets": [
            [
                name,
                row.parent,
                _units_out(row.totals),
                _units_out(row.declared),
                [int(row.is_low), row.asked, int(row.is_open)],
                _units_out(tuple(row.spent.items())),
            ]
            for name, row in kernel.budgets.items()
        ],
        "holds": [[who, *hold] for who, hold in kernel.holds.items()],
        # These are lists, since not every journal keeps the order of an object.
        "kept": [
            [name, [[*kept] for kept in documents.items()]]
            for name, documents in kernel.kept.items()
        ],
        "types": {name: _type_out(row) for name, row in kernel.types.items()},
        "causes": dict(kernel.causes),
        # Kept events are named, since a document goes with each.
        "events": [event.seq for event in kernel.retained.values()],
        **_limits_out(kernel),
    }


def _limits_out(kernel: KernelState) -> dict[str, Any]:
    """Return what each limit adds to a snapshot."""
    return {key: rows for limit in kernel.limits for key, rows in limit.out().items()}


def _worker_out(worker: WorkerRow) -> dict[str, Any]:
    info = worker.info
    return {
        "name": info.name,
        "capabilities": list(info.capabilities),
        "max_concurrency": info.max_concurrency,
        "capacity": None if info.capacity is None else _units_out(info.capacity.units),
        "units": {} if info.capacity is None else dict(info.capacity.unit_names),
        "request": _units_out(info.request.units),
        "lease": info.lease,
        "breaker": None if info.breaker is None else attrs.asdict(info.breaker),
        "labels": list(info.labels),
        "host": info.host,
        "lost": worker.lost,
        "draining": worker.draining,
        "breakers": worker.breakers_out(),
        "completed": worker.completed,
        "failed": worker.failed,
        "records": {
            name: [record.completed, record.failed, record.latency_ns]
            for name, record in worker.records.items()
        },
    }


def _worker_in(told: dict[str, Any]) -> Agent:
    capacity = told["capacity"]
    if capacity is not None:
        names = tuple((name, tuple(of)) for name, of in told["units"].items())
        capacity = Resources.from_units(_units_in(capacity), names)
    return Agent(
        told["name"],
        capabilities=tuple(told["capabilities"]),
        max_concurrency=told["max_concurrency"],
        capacity=capacity,
        request=Resources.from_units(_units_in(told["request"])),
        lease=told["lease"],
        breaker=Breaker(**told["breaker"]) if told["breaker"] else None,
        labels=tuple(told["labels"]),
        # A snapshot of an earlier version has none.
        host=told.get("host", ""),
    )


def _units_out(units: Units) -> list[list[Any]]:
    return [list(pair) for pair in units]


def _units_in(told: list[list[Any]]) -> Units:
    return tuple((name, units) for name, units in told)


def _type_out(row: TypeRow) -> dict[str, Any]:
    return {
        "completed": row.completed,
        "failed": row.failed,
        "cancelled": row.cancelled,
        "failures": dict(row.failures),
        "samples": [list(sample) for sample in row.samples],
        **({"failing": [list(each) for each in row.failing]} if row.failing else {}),
    }


def without_tasks(state: dict[str, Any], ids: Collection[str]) -> dict[str, Any]:
    """Return a snapshot without ended tasks, whose events are deleted.

    The sums still are those over all events. None of these tasks holds a slot.
    """
    names = zip(state["tasks"], state["places"], strict=True)
    left = [(name, place) for name, place in names if name not in ids]
    return {
        **state,
        "tasks": [name for name, _ in left],
        "places": [place for _, place in left],
    }


# -- restoring ---------------------------------------------------------------------


class Restoration:
    """
    Restoration of a snapshot's state in a new kernel.

    Its methods are called in this order: `missing` until it returns nothing, `fold` for
    each event up to the snapshot about one of `ids`, and `finish`. Later events are
    folded as always. The kernel is new, paused and without listeners; *state* is from
    `take_snapshot`.

    Raises:
        ValueError: Another version of the library took it. Fold all events instead.
    """

    def __init__(self, kernel: KernelState, state: dict[str, Any]) -> None:
        schema = state.get("schema")
        if schema != _SCHEMA:
            msg = f"a snapshot of schema {schema!r}, and {_SCHEMA} is known"
            raise ValueError(msg)
        self._kernel = kernel
        self._state = state
        #: The tasks of which all events are folded, each with its place.
        self._places: dict[str, int] = dict(
            zip(state["tasks"], state["places"], strict=True)
        )
        self._places.update(zip(state["gone"], state["gone_places"], strict=True))
        self._ids: dict[str, None] = dict.fromkeys(self._places)
        #: Tasks that were submitted after the snapshot, so that no event of theirs is
        #: missing.
        self._later: dict[str, None] = {}
        for told in state["agents"]:
            worker = kernel.workers[told["name"]] = WorkerRow(_worker_in(told))
            worker.lost = told["lost"]
            worker.draining = told["draining"]
            _units.of_worker(kernel, worker)
            kernel.workers_version += 1
        for name in state["types"]:
            kernel.types[name] = TypeRow()
        kernel.pools = {name: PoolRow(name, total) for name, total in state["pools"]}
        for name, names in state["units"]:
            _units.of_pools(kernel, ((name, 0),), ((name, tuple(names)),))
        quotas = [(*whose, _units_in(limits)) for *whose, limits in state["quotas"]]
        _standing.apply(kernel, quotas, state["at_ns"])
        for name, parent, totals, declared, flags, _ in state["budgets"]:
            amounts = _units_in(totals), _units_in(declared)
            budgeting().restore(kernel, name, parent, amounts, flags)
        kernel.kept = {name: dict(documents) for name, documents in state["kept"]}
        for who, most, reason, lasts in state["holds"]:
            _standing.restore_hold(kernel, who, (most, reason, lasts))
        for name, tenant, units, since_ns, named in state["allocations"]:
            of = tuple([tuple(unit) for unit in named])
            _limits.grant(kernel, name, tenant, _units_in(units), since_ns, of)

    @property
    def seq(self) -> int:
        """Number of the last event that the snapshot includes."""
        seq: int = self._state["counters"]["seq"]
        return seq

    @property
    def at_ns(self) -> int:
        """Time of the snapshot: no event before is later, whatever its task."""
        at_ns: int = self._state["at_ns"]
        return at_ns

    @property
    def ids(self) -> list[str]:
        """Known ids of the tasks whose events are needed."""
        return list(self._ids)

    @property
    def events(self) -> list[int]:
        """Numbers of the outside events that are to be folded too."""
        numbers: list[int] = self._state["events"]
        return numbers

    def is_kept(self, task_id: str) -> bool:
        """Return whether the task gets a row, so that its cargo is needed.

        Of other tasks, the events are enough.
        """
        return task_id in self._places

    def missing(self, events: Iterable[Event]) -> list[str]:
        """Return further tasks whose events are needed, because of *events*.

        In the first call, *events* are those about `ids` up to the snapshot, and all
        after it; in later calls, those about the missing tasks up to the snapshot. The
        returned tasks are now among `ids`.
        """
        found: dict[str, None] = {}
        seq = self.seq
        for event in events:
            names: tuple[str, ...] = ()
            if type(event) is TaskSubmitted:
                late = event.seq > seq
                if late:
                    self._later[event.task_id] = None
                if late or event.task_id in self._places:
                    # The parents of the task.
                    names = event.after
            elif type(event) is TaskParentsAdded and (
                event.seq > seq or event.task_id in self._places
            ):
                names = event.after
            elif type(event) is TaskRepointed and event.seq <= seq:
                # The re-run, which its dependents have waited for since.
                names = (event.rerun_id,)
            for name in names:
                if name not in self._ids and name not in self._later:
                    found[name] = None
        self._ids.update(found)
        return list(found)

    def fold(self, event: Event, cargo: Any = None) -> None:
        """
        Apply an event up to the snapshot that is about one of `ids`, or of `events`.

        They come in the order of their numbers. The *cargo* is the driver's object for
        the submission of a task that `is_kept`.
        """
        kernel, cls = self._kernel, type(event)
        place = self._places.get(event[TASK_ID])
        if cls is EventEmitted:
            fold(kernel, event, cargo)
        elif place is not None:
            if cls is TaskSubmitted:
                kernel.submissions = place
            fold(kernel, event, cargo)
        elif cls is TaskRepointed:
            # The task has no row, but its dependents may have one.
            fold(kernel, event)
        elif cls in _SEEN_BELOW:
            row = parent_of(kernel, event[TASK_ID], event.at_ns)
            _SEEN_BELOW[cls](kernel, row, event)
            kernel.undecided.clear()

    def finish(self) -> None:
        """
        Set the sums; the state is now that of a fold of all events.

        `evicted` knows only the tasks out of memory that were needed.

        Raises:
            InternalError: The events led to another state than the snapshot. Drop this
                kernel, and fold all events into another one.
        """
        kernel, state = self._kernel, self._state
        wrong = self._evict()
        counters = state["counters"]
        wrong += [
            f"{name}: {getattr(kernel, name)}, not {counters[name]}"
            for name in COUNTERS
            if name not in _SUMS and getattr(kernel, name) != counters[name]
        ]
        if wrong:
            msg = f"the events do not lead to the snapshot: {'; '.join(wrong)}"
            raise InternalError(msg)
        for name in _SUMS:
            setattr(kernel, name, counters[name])
        for told in state["agents"]:
            worker = kernel.workers[told["name"]]
            _count_worker(worker, told)
            _breakers.restore(kernel, worker, told["breakers"])
        for name, told in state["types"].items():
            _count_type(kernel.types[name], told)
        # No folded event says which attempts began before there was a quota.
        _standing.recharge(kernel)
        for name, *_, spent in state["budgets"]:
            budgeting().restore_spent(kernel, name, _units_in(spent))
        for limit in kernel.limits:
            limit.back(state)
        for pool in kernel.pools.values():
            pool.owed = max(0, pool.used - pool.total)
        kernel.causes = dict(state["causes"])

    def _evict(self) -> list[str]:
        """Remove tasks that were out of memory; return ids that stand out of place."""
        kernel = self._kernel
        for task_id in self._state["gone"]:
            left = kernel.tasks.pop(task_id, None)
            if left is not None:
                left.cargo = None
                kernel.not_folded[task_id] = left
        kernel.finished = deque(
            row for row in kernel.finished if row.id in kernel.tasks
        )
        wrong = [
            f"{task_id} is {row.state}, and not in memory"
            for task_id, row in kernel.not_folded.items()
            if row.state not in TERMINAL
        ]
        kernel.evicted.update(
            (name, row.state) for name, row in kernel.not_folded.items()
        )
        kernel.not_folded.clear()
        wrong += [
            f"of {task_id}, nothing is known"
            for task_id in self._state["tasks"]
            if task_id not in kernel.tasks and task_id not in kernel.evicted
        ]
        return wrong


def _count_worker(worker: WorkerRow, told: dict[str, Any]) -> None:
    worker.completed = told["completed"]
    worker.failed = told["failed"]
    worker.records = {}
    for name, (completed, failed, latency_ns) in told["records"].items():
        record = worker.records[name] = Record()
        record.completed, record.failed = completed, failed
        record.latency_ns = latency_ns


def _count_type(row: TypeRow, told: dict[str, Any]) -> None:
    row.completed = told["completed"]
    row.failed = told["failed"]
    row.cancelled = told["cancelled"]
    row.failures = dict(told["failures"])
    row.samples.clear()
    row.samples.extend(tuple(sample) for sample in told["samples"])
    row.failing = None
    for started, ended, tries, retried in told.get("failing", ()):
        row.note_failing(started, ended, tries, retried=retried)


# -- parents that have left memory, as their dependents see them ---------------------
#
# Such a parent has only a stand-in in `not_folded`. It waits for nothing itself, so
# its own parents need not be known.


def _blocked(kernel: KernelState, row: TaskRow, event: Any) -> None:
    if event.cause != "dependency":
        # A task that waits for a decision may complete after all.
        return
    row.state = TaskState.BLOCKED
    row_extra(row)
    _dependencies.broke(kernel, row, event.at_ns)


def _unblocked(kernel: KernelState, row: TaskRow, _event: Event) -> None:
    if row.state is not TaskState.BLOCKED:
        return
    row.state = TaskState.QUEUED
    for child in _dependencies.links_of(row).dependents:
        _dependencies.absolve(kernel, child, row.id, "")


def _completed_in(kernel: KernelState, row: TaskRow, event: Event) -> None:
    row.state = TaskState.COMPLETED
    _dependencies.release(kernel, row, event.at_ns)


def _ended_badly(kernel: KernelState, row: TaskRow, event: Any) -> None:
    extra = row_extra(row)
    if type(event) is TaskFailed:
        row.state = TaskState.FAILED
        if event.allowed:
            # Its dependents read this option of it.
            row.bucket = Bucket(Spec("", allow_failure=True), TypeRow())
        extra.error = (event.error_type, event.message, event.cause)
    else:
        row.state = TaskState.CANCELLED
        extra.stop_reason = event.reason
    _application.pass_on(extra, event.root_causes)
    _dependencies.broke(kernel, row, event.at_ns)


_SEEN_BELOW: Final[dict[Any, Callable[[KernelState, TaskRow, Event], None]]] = {
    TaskBlocked: _blocked,
    TaskUnblocked: _unblocked,
    TaskCompleted: _completed_in,
    TaskFailed: _ended_badly,
    TaskCancelled: _ended_badly,
}
