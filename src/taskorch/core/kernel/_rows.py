"""Parts of the state: mutable slotted rows, few objects for each task.

The garbage collector makes a large backlog slow, so an ordinary row is one object:
dependencies are in `Links`, rare fields in `RowExtra`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from heapq import (
    heapify as _heapify,
    heappop as _heappop,
    heappush as _heappush,
    heapreplace as _heapreplace,
)
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import attrs

from taskorch.kit.checks import built_in
from taskorch.kit.frozen import frozen
from taskorch.kit.limits import EWMA_WEIGHT, NS, SAMPLE_SIZE
from taskorch.model import (
    Agent,
    Blocker,
    Elasticity,
    OnParentFailure,
    Performance,
    Resources,
    TaskState,
    Units,
    is_label,
)

#: The beginning of the names of pools of quotas.
QUOTA: Final = "quota:"
#: The beginning of the names of locks of write paths: see `_scopes`.
SCOPE: Final = f"{QUOTA}writes="
#: The same for budgets: see `_budgets`.
PURSE: Final = f"{QUOTA}budget="
#: The same for named units: see `_units`.
UNIT: Final = f"{QUOTA}unit="
#: The same for any other `StartLimit`.
LIMIT: Final = f"{QUOTA}limit="
_BESIDE: Final = (SCOPE, PURSE, UNIT, LIMIT)
#: A whole unit, in millionths.
WHOLE: Final = 1_000_000
#: The reason for a drain before a worker leaves: the drain ends if the worker joins
#: anew.
GOING: Final = "it is to go"
#: The built-in worker, which runs plain functions and programs.
LOCAL: Final = Agent.LOCAL

_QUEUED: Final = TaskState.QUEUED
_BLOCKED: Final = TaskState.BLOCKED
#: The reason of a cancellation, and the cause of a failure, that parents brought about.
SKIPPED: Final = "skipped"
DEPENDENCY: Final = "dependency"
#: All causes for which a task is BLOCKED: see `TaskBlocked`.
BLOCKED_BY: Final = (
    DEPENDENCY,
    *("event", "asked", "policy", "gone", "join", "lost", "missing", "interrupted"),
)
#: The error text of an attempt that the end of an orchestrator has cut short.
LEFT_RUNNING: Final = "the orchestrator stopped while it ran"
#: The text between the reason for the worker and the reason for a smaller grant.
LESS: Final = "; less than it asked for: "
#: One start, as a rate counts it. At a millionth of a start per second, one of these
#: comes back in each nanosecond, so the amount is always a whole number.
TOKEN: Final = 10**15
#: A limit that nothing reaches.
UNLIMITED: Final = 1 << 60
#: The number of stale entries below which no clean-up is worth it.
FEW: Final = 64
#: An entry of a heap: `(key, seq, item)`, valid as long as the item refers to this very
#: object. A compiler may copy a value that is typed as a tuple, so this is `Any`.
Entry: TypeAlias = Any
#: A time in ns, as one object that the rows of a batch share as their keys. A compiler
#: copies a value that is typed as an integer, so this is `Any`.
SharedTime: TypeAlias = Any
#: The most dependents that are in a tuple.
_FEW_DEPENDENTS: Final = 4
#: The sort key of a task in the queue.
IN_ORDER: Final = attrgetter("key", "seq")


@attrs.frozen
class Spec:
    """Properties that all tasks of a bucket have in common."""

    type: str
    #: Capabilities, sorted; None is the built-in worker.
    requires: tuple[str, ...] | None = None
    resources: Units = ()
    timeout_ns: int | None = None
    idempotent: bool = True
    #: The tenant of its tasks.
    owner: str | None = None
    #: How elastic the request is; None if it is granted whole, or is not known yet.
    elastic: Elasticity | None = None
    #: The run of its tasks, if that has a quota: it follows from their rows.
    workflow: str | None = None
    #: Workers that its tasks avoid as long as there is another.
    avoid: tuple[str, ...] = ()
    #: The paths that its tasks may write: literal prefixes, none inside another; "" is
    #: all.
    writes: tuple[str, ...] = ()
    #: The budget that its tasks draw on, or ""; and how much of it each reserves.
    budget: str = ""
    spends: Units = ()
    #: True if its dependents go on when it fails.
    allow_failure: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """Needs of its worker; labels alone say only where it runs, so add the type."""
        if self.requires is None:
            return (self.type,)
        if self.requires and all(map(is_label, self.requires)):
            return (*self.requires, self.type)
        return self.requires


class TaskRow:
    """The state of one task."""

    __slots__ = (
        "alloc",
        "attempt",
        "bucket",
        "cargo",
        "ended_ns",
        "extra",
        "id",
        "key",
        "links",
        "named",
        "ready_ns",
        "reason",
        "run",
        "seq",
        "started_ns",
        "state",
        "submitted_ns",
        "ticket",
        "worker",
    )

    def __init__(
        self, task_id: str, seq: int, bucket: Bucket, cargo: Any, now: SharedTime
    ) -> None:
        #: Its id, and its key in `tasks`.
        self.id: str = task_id
        #: Order of submission.
        self.seq: int = seq
        #: The bucket of like tasks. A task that is in no bucket's queue has one, too.
        #: Checked: `check_queues`.
        self.bucket: Bucket = bucket
        #: The driver's own object; never read here.
        self.cargo: Any = cargo
        #: Its state. Checked: `check_counters`.
        self.state: TaskState = _QUEUED
        #: Its place in the queue: the lowest starts first.
        self.key: Any = now
        #: The time of its submission.
        self.submitted_ns: int = now
        #: The time at which it could first have run; 0 while it waits for others.
        self.ready_ns: int = now
        #: The time at which its latest attempt began; 0 before the first.
        self.started_ns: int = 0
        #: The time at which it ended; 0 before.
        self.ended_ns: int = 0
        #: The number of its latest attempt; 0 before the first.
        self.attempt: int = 0
        #: The worker of its latest attempt. Checked: `check_books`.
        self.worker: WorkerRow | None = None
        #: The reason for this worker.
        self.reason: str = ""
        #: The units that it holds, in millionths: none while it is QUEUED, or has
        #: ended, or its attempt has `leaked`. Checked: `check_alloc`, `check_books`.
        self.alloc: Units = ()
        #: Its parents and dependents; None if it has neither.
        self.links: Links | None = None
        #: The rare fields; None while all of them have their first values.
        self.extra: RowExtra | None = None
        #: True if the user chose its id or its key.
        self.named: bool = False
        #: The run of a workflow that it belongs to, or "". Checked: `check_runs`.
        self.run: str = ""
        #: A number that rises when it is removed from the queue without being its head:
        #: entries with a lower ticket are stale.
        self.ticket: int = 0

    def __repr__(self) -> str:
        return f"<TaskRow {self.id} {self.state} attempt {self.attempt}>"


_NOBODY: Final[Mapping[str, TaskRow]] = MappingProxyType({})


#: Event (None if only the time matters), timeout in ns, and whether there is a default.
Awaited: TypeAlias = tuple[str | None, int | None, bool]


#: The reason why a running attempt is to end, if it is; stronger ones come later.
Stop: TypeAlias = Literal["", "suspend", "timeout", "deadline", "cancel"]
#: How an attempt ended. Some ends are unknown: the process died (`lost`), the worker
#: does not know the attempt (`missing`), or the orchestrator died (`interrupted`).
#: Others never began: an object that they need is gone, the system had no room
#: (`unstarted`), or the worker gave them back (`returned`).
AttemptOutcome: TypeAlias = Literal[
    "completed",
    "failed",
    "stopped",
    "lost",
    "missing",
    "interrupted",
    "gone",
    "unstarted",
    "returned",
]


@attrs.define
class Terms:
    """Condition under which a task may run, if not that all its parents complete."""

    #: `all`, `finished`, `any`, `asked` (a function of the user decides), or how many
    #: parents must complete.
    join: Literal["all", "finished", "any", "asked"] | int = "all"
    #: The consequence if the join can never hold: `block`, `skip`, `fail` or `run`.
    on_failure: OnParentFailure = "block"
    #: True if the join has held: the ends of the parents do not matter any more.
    #: Checked: `check_links`.
    joined: bool = False
    #: Of a wait: its event, its timeout in ns, and whether it completes when the time
    #: is over.
    wait: Awaited | None = None
    #: True while it waits for its event: it is BLOCKED, perhaps SUSPENDED, and in
    #: `awaited` if the event has a name. Checked: `check_waits`.
    awaits: bool = False
    #: Of a question: ns between two reminders, or 0; how many there were; and the time
    #: of the next, in ns.
    remind_ns: int = 0
    reminded: int = 0
    remind_at_ns: int = 0
    #: Of a question: the answers that count so far, each `(by, choice)`.
    votes: tuple[tuple[str, str], ...] = ()
    #: The proved names of the people who answered: each counts once, under any name.
    proved: tuple[str, ...] = ()


class RetainedEvent:
    """An event from outside that no task waited for, kept for later waits."""

    __slots__ = ("cargo", "id", "seq", "until_ns")

    def __init__(self, name: str, seq: int, until_ns: int, cargo: Any) -> None:
        #: Its name.
        self.id: str = name
        #: The number of its `EventEmitted`.
        self.seq: int = seq
        #: The time at which it is dropped, in ns; 0 once it is.
        self.until_ns: int = until_ns
        #: The driver's own object; never read here.
        self.cargo: Any = cargo


class Links:
    """The dependencies of one task.

    Most graphs are large, and most tasks have few dependents or none. A few are in a
    tuple, which takes two thirds of the memory of a list; many are in a list, since
    each addition makes a tuple anew.
    """

    __slots__ = ("dependents", "parents", "terms", "waiting")

    def __init__(self) -> None:
        #: Its parents, in the order in which they were named; without terms, a parent
        #: that was named twice is there twice. Checked: `check_links`.
        self.parents: tuple[TaskRow, ...] = ()
        #: How many of the parents have not completed; 0 once the join has held.
        #: Checked: `check_links`.
        self.waiting: int = 0
        #: Its dependents; those that have ended, or were released, stay listed.
        self.dependents: list[TaskRow] | tuple[TaskRow, ...] = ()
        #: Its terms; None if all parents must complete. Checked: `check_links`.
        self.terms: Terms | None = None

    def add_dependent(self, row: TaskRow) -> None:
        """Add *row*, which waits for this task."""
        dependents = self.dependents
        if isinstance(dependents, list):
            dependents.append(row)
        elif len(dependents) < _FEW_DEPENDENTS:
            self.dependents = (*dependents, row)
        else:
            self.dependents = [*dependents, row]


class RowExtra:
    """The fields of a row that only some tasks need."""

    __slots__ = (
        "blocked_by",
        "charged",
        "crashes",
        "deadline_ns",
        "decision",
        "due_ns",
        "error",
        "failed_on",
        "failure_class",
        "first_ns",
        "first_roots",
        "first_timeout_ns",
        "held",
        "last_delay_ns",
        "left_ns",
        "limit_ns",
        "paid",
        "past",
        "permitted",
        "priority",
        "rerun_id",
        "rerun_of",
        "resume_ns",
        "returned_ns",
        "share",
        "spent",
        "stop",
        "stop_reason",
        "suspending",
        "timer",
        "usage",
        "veto",
        "yielded",
    )

    def __init__(self) -> None:
        #: The priority of its submission, or a later one.
        self.priority: int = 0
        #: The history `(state, ns, detail)`, once it is not the usual one. Checked:
        #: `check_attempts`.
        self.past: list[tuple[TaskState, int, str]] | None = None
        #: The parents that will not complete, in the order of their failure; empty
        #: while it is on hold for a `decision`, or once the join has held. Checked:
        #: `check_links`.
        self.blocked_by: Mapping[str, TaskRow] = _NOBODY
        #: The `roots` at the time when it was blocked, or ended by its terms.
        self.first_roots: tuple[str, ...] = ()
        #: The timeout that the user stated, if a failure has changed it; or 0.
        self.first_timeout_ns: int = 0
        #: True if it runs, and is to be suspended at the end of its attempt: that is a
        #: reason to `stop`. Checked: `check_attempts`.
        self.suspending: bool = False
        #: How many attempts count as tries. Checked: `check_attempts`.
        self.charged: int = 0
        #: How many attempts killed their worker. Checked: `check_attempts`.
        self.crashes: int = 0
        #: The time before which it does nothing: `not_before`, the end of a retry's
        #: delay, or of a wait; 0 is none. While it is SUSPENDED, `resume_ns` has it.
        #: Checked: `check_counters`.
        self.due_ns: int = 0
        #: The time at which it fails, whatever it does then; None is never.
        self.deadline_ns: int | None = None
        #: True while it is on hold until a person decides, or waits for its event; then
        #: `blocked_by` is empty. Checked: `check_links`.
        self.decision: bool = False
        #: `(type, message, cause)` of the latest failure.
        self.error: tuple[str, str, str] | None = None
        #: The class of that failure, or "".
        self.failure_class: str = ""
        #: The resource usage measured for its latest failed attempt.
        self.usage: Units = ()
        #: The workers with a breaker on which it has failed.
        self.failed_on: tuple[str, ...] = ()
        #: The time at which its first attempt began.
        self.first_ns: int = 0
        #: The delay before its latest retry.
        self.last_delay_ns: int = 0
        #: The reason why the running attempt is to stop, or "". Checked:
        #: `check_attempts`.
        self.stop: Stop = ""
        #: The reason to stop, or of the cancellation, in words.
        self.stop_reason: str = ""
        #: True for a program that is stopped in place: it is SUSPENDED, and keeps its
        #: slot. Checked: `check_books`.
        self.held: bool = False
        #: The rest of its timeout when it was stopped in place, in ns.
        self.left_ns: int = 0
        #: The timeout of the latest attempt that has one.
        self.limit_ns: int = 0
        #: The time at which the timeout of the running attempt is over; 0 is never.
        self.timer: int = 0
        #: The rest of a delay, or of a wait, when the task was suspended, in ns.
        self.resume_ns: int = 0
        #: The task that it runs again.
        self.rerun_of: str | None = None
        #: The task that runs it again.
        self.rerun_id: str | None = None
        #: True if its attempt waits for another task, without a slot. Checked:
        #: `check_books`.
        self.yielded: bool = False
        #: When the function of its attempt returned, if only its value is to be kept:
        #: a running task holds nothing then; 0 before. Checked: `check_books`.
        self.returned_ns: int = 0
        #: The question of a policy that people answered by allowing the start, or "".
        self.permitted: str = ""
        #: The reason for which the StateMachine forbade its start, or "".
        self.veto: str = ""
        #: The resources of a budget whose spending its latest attempt has reported;
        #: None if it draws on no budget.
        self.spent: dict[str, None] | None = None
        #: For each resource, the amount that all its attempts have reported, or that
        #: counts as spent since the true amount is unknown; None if none drew on a
        #: budget.
        self.paid: dict[str, int] | None = None
        #: The share that the resources of its attempt count for; None if tenants do not
        #: share, or it holds nothing. Checked: `check_shares`.
        self.share: Share | None = None

    @property
    def roots(self) -> tuple[str, ...]:
        """Ids of the tasks where the failure that blocks this one began."""
        found: dict[str, None] = {}
        seen: dict[str, None] = {}
        stack = list(self.blocked_by.values())[::-1]
        while stack:
            parent = stack.pop()
            if parent.id in seen:
                continue
            seen[parent.id] = None
            extra = parent.extra
            if parent.state is _BLOCKED and extra is not None:
                stack += list(extra.blocked_by.values())[::-1]
            elif extra is not None and extra.passed_on:
                found.update(dict.fromkeys(extra.first_roots))
            else:
                found[parent.id] = None
        return tuple(found)

    @property
    def passed_on(self) -> bool:
        """True if the task ended because the failure of a parent reached it."""
        ended = self.stop_reason == SKIPPED or (
            self.error is not None and self.error[2] == DEPENDENCY
        )
        return ended and self.first_roots != ()


class Record:
    """Performance of one worker at one type of task, as counted from events."""

    __slots__ = ("completed", "failed", "latency_ns", "told")

    def __init__(self) -> None:
        #: How many attempts have completed, and how many have failed.
        self.completed: int = 0
        self.failed: int = 0
        #: The moving average of the duration of completed attempts, in ns; 0 if there
        #: was none.
        self.latency_ns: float = 0.0
        #: The view that policies got last: routers ask again and again.
        self.told: Performance = Performance()

    def add(self, latency_ns: int) -> None:
        """Add a completed attempt that took *latency_ns*."""
        if self.completed:
            self.latency_ns += EWMA_WEIGHT * (latency_ns - self.latency_ns)
        else:
            self.latency_ns = float(latency_ns)
        self.completed += 1

    def performance(self) -> Performance:
        """Return the counts, with the latency in seconds."""
        told = self.told
        if told.completed != self.completed or told.failed != self.failed:
            latency = self.latency_ns / NS if self.completed else None
            told = self.told = Performance(self.completed, self.failed, latency)
        return told


#: The record of a worker without attempts.
_UNTRIED: Final = Performance()
#: An end of an attempt: its time, whether it was a failure, the task, and its needs.
AttemptEnd: TypeAlias = tuple[int, bool, str, tuple[str, ...]]


class BreakerRow:
    """One breaker of a worker, for a capability or (as "") for all that it does."""

    __slots__ = ("passed", "probes", "since_ns", "state", "trips", "until_ns")

    def __init__(self) -> None:
        #: Whether its worker gets work (closed), none (open), or a few `probes`.
        self.state: Literal["closed", "open", "half-open"] = "closed"
        #: The time of the last change: attempts that began before do not count.
        self.since_ns: int = 0
        #: The time at which an open breaker becomes half-open.
        self.until_ns: int = 0
        #: How often it has opened since it was last closed.
        self.trips: int = 0
        #: The probes under way, and how many have completed.
        self.probes: dict[TaskRow, None] = {}
        self.passed: int = 0


class WorkerRow:
    """The state of one worker."""

    __slots__ = (
        "breakers",
        "capacity",
        "completed",
        "draining",
        "ends",
        "failed",
        "falls",
        "heard_ns",
        "info",
        "is_plain",
        "leaked",
        "lease_due_ns",
        "lease_ns",
        "limit",
        "lost",
        "name",
        "records",
        "request",
        "round_trip",
        "running",
        "seen",
        "short",
        "slots",
        "units",
        "used",
        "view",
        "watched",
    )

    def __init__(self, info: Agent) -> None:
        #: Its name.
        self.name: str = info.name
        #: Its own named units, by resource. Checked: `check_units`.
        self.units: dict[str, UnitGroup] = {}
        #: True if it has never had a lease or a breaker: then only its slots count its
        #: attempts. Checked: `check_worker`.
        self.is_plain: bool = True
        self.describe(info)
        #: The amounts of its capacity in use, with those of leaked attempts. Checked:
        #: `check_worker`.
        self.used: dict[str, int] = {}
        #: True if it gets no work until it joins again, and runs nothing. Checked:
        #: `check_worker`.
        self.lost: bool = False
        #: The reason why it gets no new work though it is there, or "".
        self.draining: str = ""
        #: Its breakers that have opened before, by capability.
        self.breakers: dict[str, BreakerRow] = {}
        #: The latest ends of attempts there, if it has a breaker.
        self.ends: deque[AttemptEnd] = deque(maxlen=SAMPLE_SIZE)
        #: Its latest failures, if it has no breaker: the time, how many attempts had
        #: completed there by then, and the needs of the task.
        self.falls: deque[tuple[int, int, tuple[str, ...]]] = deque(maxlen=SAMPLE_SIZE)
        #: The time of the latest sign of life.
        self.heard_ns: int = 0
        #: The round trip of its latest sign of life in seconds; None if unknown.
        self.round_trip: float | None = None
        #: The time at which to check its lease; 0 is never.
        self.lease_due_ns: int = 0
        #: For a worker with a lease: its attempts, and when it last named each.
        #: Checked: `check_leases`.
        self.seen: dict[TaskRow, int] = {}
        #: Slots taken here, those of leaked attempts too. Checked: `check_worker`.
        self.running: int = 0
        #: How many attempts have completed here.
        self.completed: int = 0
        #: How many attempts have failed here, and counted as a try.
        self.failed: int = 0
        #: How many leaked attempts still hold resources here. Checked: `check_holders`.
        self.leaked: int = 0
        #: Its record, by type of task.
        self.records: dict[str, Record] = {}
        #: The place of tasks that wait for a slot here.
        self.slots: Place = Place(worker=self)
        #: The places of tasks that wait for its capacity, by resource and amount.
        # If tenants share, each has its own places, and for slots those of "".
        self.short: dict[str, dict[Any, Place]] = {}
        #: The same worker for policies.
        self.view: AgentView = AgentView(self)
        #: True if a `Room` is to be told of its starts and ends.
        self.watched: bool = False

    def breakers_out(self) -> list[list[Any]]:
        """Return its breakers for a snapshot: see `_breakers.restore`."""
        return [
            [name, one.state, one.since_ns, one.until_ns, one.trips, one.passed]
            for name, one in self.breakers.items()
        ]

    def describe(self, info: Agent) -> None:
        """Set the fields that follow from *info*, whenever the worker joins."""
        #: Its latest description.
        self.info: Agent = info
        #: The number of its slots. Checked: `check_worker`.
        self.limit: int = (
            UNLIMITED if info.max_concurrency is None else info.max_concurrency
        )
        #: Its capacity, a bound for the resources that it names only. Checked:
        #: `check_worker`.
        self.capacity: dict[str, int] = (
            {} if info.capacity is None else dict(info.capacity.units)
        )
        #: The default request of a task here.
        self.request: Units = info.request.units
        #: Nanoseconds without a sign of life after which it counts as lost; 0 for a
        #: worker in this process, for which nothing is `seen`. Checked: `check_leases`.
        self.lease_ns: int = 0 if info.lease is None else max(1, int(info.lease * NS))
        if self.lease_ns or info.breaker is not None:
            self.is_plain = False

    def free(self, name: str) -> int:
        """Return the amount of *name*, which is in its capacity, that is left."""
        return self.capacity[name] - self.used.get(name, 0)

    def has(self, name: str, need: int) -> bool:
        """Return whether *need* of *name*, which is in its capacity, is left."""
        group = self.units.get(name)
        return self.free(name) >= need and (group is None or group.most(need) >= need)


class PoolRow:
    """The state of one pool: a resource, or a quota of one."""

    __slots__ = (
        "beyond",
        "is_quota",
        "name",
        "owed",
        "parked",
        "short",
        "total",
        "units",
        "used",
        "view",
    )

    def __init__(self, name: str, total: int, beyond: int = 0) -> None:
        #: Its name.
        self.name: str = name
        #: True if it is the pool of a quota: see `_standing`.
        self.is_quota: bool = name.startswith(QUOTA)
        #: Its total. Checked: `check_books`.
        self.total: int = total
        #: The part of the total above the mark of a soft quota; else 0.
        self.beyond: int = beyond
        #: The amount that attempts, people and leaks hold: at most `total` plus `owed`.
        #: Checked: `check_books`.
        self.used: int = 0
        #: The amount held above the total when that was changed last, or 0. Checked:
        #: `check_books`.
        self.owed: int = 0
        #: Its units, if they are named. Checked: `check_units`.
        self.units: UnitGroup | None = None
        #: The places of tasks that wait for it, by amount.
        self.short: dict[Any, Place] = {}
        #: Buckets that the user's allocator put off: asked at every release.
        self.parked: dict[Bucket, None] = {}
        #: The same pool for policies.
        self.view: PoolView = PoolView(self)


class LockRow(PoolRow):
    """A folder or file that may be written, with all below it: see `_scopes`.

    A holder has all of it, and one unit of each folder above.
    """

    __slots__ = ("above",)

    def __init__(self, path: str, above: tuple[LockRow, ...]) -> None:
        super().__init__(f"{SCOPE}{path}", UNLIMITED)
        #: The folders above it, from the top.
        self.above: tuple[LockRow, ...] = above


class WindowRow(PoolRow):
    """A limit that has room again after a time: open, or closed until then."""

    __slots__ = ("limit", "until_ns")

    def __init__(self, limit: TimedLimit, name: str, total: int = UNLIMITED) -> None:
        super().__init__(name, total)
        #: The limit that is called when the time has come.
        self.limit: TimedLimit = limit
        #: The time in ns at which the first waiting task is woken; 0 if none waits.
        #: Checked: `check_limits`.
        self.until_ns: int = 0

    def is_awaited(self) -> bool:
        """Return whether a bucket waits here and nowhere else."""
        return any(
            place in (bucket.parked or ())
            for place in self.short.values()
            for bucket in place.members
        )


class RateRow(WindowRow):
    """A rate of starts as a bucket of tokens that come back with time.

    A start takes a token. The used amount (`spent`) is known for a moment (`at_ns`),
    and only events change both; from then on it shrinks by itself.
    """

    __slots__ = ("at_ns", "per_second", "seen_ns", "spent")

    def __init__(
        self, limit: TimedLimit, name: str, per_second: int, burst: int, now: int
    ) -> None:
        # The total is the most tokens at one moment.
        super().__init__(limit, name, burst * (TOKEN // 1_000_000))
        #: How many starts come back in a second, in millionths.
        self.per_second: int = per_second
        #: The amount used at `at_ns`, in parts of a `TOKEN`: at most `total`. Checked:
        #: `check_limits`.
        self.spent: int = 0
        #: The time for which `spent` holds.
        self.at_ns: int = now
        #: The latest time at which the rate was looked at, for which `used` holds, and
        #: whether there was room. Checked: `check_limits`.
        self.seen_ns: int = now

    def look(self, now: int) -> bool:
        """Find how much is gone at *now*; whether a token had been seen before."""
        had_token = self.has_token()
        self.seen_ns = now
        self.used = self.used_at(now)
        return had_token

    def has_token(self) -> bool:
        """Return whether a token was there when the rate was last updated."""
        return self.total - self.used >= TOKEN

    def used_at(self, now: int) -> int:
        """Return the amount that is used at *now*."""
        return max(0, self.spent - max(0, now - self.at_ns) * self.per_second)

    def wait(self, now: int, tokens: int = 1) -> int:
        """Return the ns from *now* until that many *tokens* are free for a worker."""
        missing = self.used_at(now) + tokens * TOKEN - self.total
        return max(0, -(-missing // self.per_second))


class UnitRow(PoolRow):
    """The state of one unit that has a name, such as a GPU."""

    __slots__ = ("group", "resource", "unit", "worker")

    def __init__(self, worker: str, resource: str, unit: str) -> None:
        super().__init__(f"{UNIT}{worker!r}:{resource!r}:{unit!r}", 0)
        #: The worker whose own unit it is; "" for a unit of a pool.
        self.worker: str = worker
        #: The resource of the unit.
        self.resource: str = resource
        #: Its name.
        self.unit: str = unit
        #: The group that it belongs to, or did: it has a `total` only while it is in
        #: it. None if the resource has no named units any more. Checked: `check_units`.
        self.group: UnitGroup | None = None


class UnitGroup:
    """The units of one resource, of the pools or of one worker: see `_units`."""

    __slots__ = ("owner", "resource", "units")

    def __init__(self, owner: PoolRow | WorkerRow, resource: str) -> None:
        #: The pool or worker with these units.
        self.owner: PoolRow | WorkerRow = owner
        #: The resource of the units.
        self.resource: str = resource
        #: The units by name, in the order in which they were named. Checked:
        #: `check_units`.
        self.units: dict[str, UnitRow] = {}

    def most(self, need: int) -> int:
        """Return the part of *need* that is free: of one unit, or of all free ones."""
        units = self.units.values()
        if need < WHOLE:
            return max([unit.total - unit.used for unit in units], default=0)
        return 0 if need % WHOLE else WHOLE * sum([not unit.used for unit in units])

    def would_have(self, need: int, free: Mapping[str, int]) -> bool:
        """Return whether the units have *need*, with *free* of each unit's pool."""
        rooms = [free[row.name] >= min(need, WHOLE) for row in self.units.values()]
        return sum(rooms) >= max(need, WHOLE) // WHOLE

    def choose(self, need: int) -> list[UnitRow]:
        """Return the units for a request of *need*; none, if too little is free.

        A part of a unit comes from the fullest one that fits, so that whole units stay
        free.
        """
        if self.most(need) < need:
            return []
        units = list(self.units.values())
        if need >= WHOLE:
            return [unit for unit in units if not unit.used][: need // WHOLE]
        room = [unit for unit in units if unit.total - unit.used >= need]
        return [max(room, key=_used)]

    def held(self) -> dict[str, float]:
        """Return the amount of each unit that is in use, by its name."""
        return {name: row.used / WHOLE for name, row in self.units.items()}

    def enlarge(self, units: int) -> None:
        """Add *units*, which may be negative, to the total."""
        if isinstance(self.owner, WorkerRow):
            self.owner.capacity[self.resource] += units
        else:
            self.owner.total += units


def _used(row: PoolRow) -> int:
    return row.used


def name_units(
    beside: dict[str, PoolRow],
    owner: PoolRow | WorkerRow,
    resource: str,
    names: tuple[str, ...] | None,
) -> None:
    """Give the units of *resource*, of a pool or a worker, *names*; None removes them.

    A holder of a removed unit keeps it; until it is given back, the unit counts as in
    use. So a name that comes back is free once its holder has ended.
    """
    worker = owner.name if isinstance(owner, WorkerRow) else ""
    before = owner.units.get(resource) if isinstance(owner, WorkerRow) else owner.units
    group = before or UnitGroup(owner, resource)
    for unit in group.units.values():
        unit.total = 0
    group.units = {}
    for name in names or ():
        unit = UnitRow(worker, resource, name)
        row = beside.setdefault(unit.name, unit)
        assert isinstance(row, UnitRow)  # noqa: S101 - by its name
        row.total, row.group = WHOLE, group
        group.units[name] = row
    gone = 0
    for path, row in list(beside.items()):
        if isinstance(row, UnitRow) and row.group is group and not row.total:
            if not row.used:
                del beside[path]
            elif names is None:
                row.group = None
            else:
                gone += row.used
    if gone:
        group.enlarge(gone)
    if isinstance(owner, PoolRow):
        owner.units = None if names is None else group
    elif names is None:
        owner.units.pop(resource, None)
    else:
        owner.units[resource] = group


class BudgetRow:
    """The state of one budget; spent amounts do not come back."""

    __slots__ = (
        "asked",
        "declared",
        "is_low",
        "is_open",
        "name",
        "parent",
        "pools",
        "spent",
    )

    def __init__(self, name: str, parent: str = "") -> None:
        #: Its name.
        self.name: str = name
        #: The budget that it is part of, or "".
        self.parent: str = parent
        #: The amounts of the latest declaration; they may be raised since.
        self.declared: Units = ()
        #: The pool of each resource: its total, and the amount reserved or spent.
        #: Checked: `check_budgets`.
        self.pools: dict[str, PoolRow] = {}
        #: The amount spent of each resource. Checked: `check_budgets`.
        self.spent: dict[str, int] = {}
        #: True if an event has said, for the present totals, that little is left.
        self.is_low: bool = False
        #: How often people were asked about it; below 0 if no answer is due any more.
        self.asked: int = 0
        #: True if it stops no task any more.
        self.is_open: bool = False

    @property
    def totals(self) -> Units:
        """Total of each resource, sorted by name."""
        totals = [(resource, pool.total) for resource, pool in self.pools.items()]
        return tuple(sorted(totals))


#: Kinds of shortages.
ShortageKind: TypeAlias = Literal[
    "not_started",
    "slot",
    "veto",
    "rules",
    "capability",
    "lost",
    "draining",
    "breaker open",
    "breaker half-open",
    "failed there",
    "busy",
    "fails",
    "reservation",
    "too small",
    "too little",
    "quota",
    "rate",
    "allocator",
    "scope",
    "turn",
    "budget",
    "limit",
]


class Shortage(NamedTuple):
    """A reason that keeps a task from starting: too little of a resource is there.

    `_explain._words` has the text for each kind.
    """

    kind: ShortageKind
    #: The name of the missing thing. For `too small`, `too little`, `quota` and `rate`:
    #: the resource, the pool, the rate. For a breaker: the capability; "" is for all.
    #: For `fails`: the worker that does better. For `reservation`: the task that comes
    #: first. For `capability`: the required ones. For `veto`, `rules`, `allocator`: the
    #: reason. For `scope`: the folder or file that another may write. For `turn`: the
    #: task whose turn it is to write. For `budget`: the pool of the budget. For
    #: `limit`: the reason.
    name: str = ""
    #: The amount that it needs: slots, units, parts of a token.
    need: int = 1
    #: The amount that is free; for `too small`, the total.
    have: int = 0
    #: The worker with the shortage, of which any one is enough; None if it is the same
    #: on all.
    worker: WorkerRow | None = None
    #: The pool, if the shortage is not of a worker.
    pool: PoolRow | None = None
    #: The time in ns at which it passes by itself; 0 if unknown.
    until_ns: int = 0
    #: True if no end of another task helps.
    is_hopeless: bool = False

    @property
    def missing(self) -> int:
        """Amount that is missing."""
        return self.need - self.have


class Place:
    """A shortage, and the buckets that wait until there is enough.

    It is the slots of a worker, an amount of a worker's capacity or of a pool, or a
    token of a rate. An entry may be older than its bucket's head, never later in order.
    Tasks above their soft quotas wait at places of their own: see `_limits`.
    """

    __slots__ = ("above", "heap", "members", "name", "need", "pool", "worker")

    def __init__(
        self,
        *,
        worker: WorkerRow | None = None,
        pool: PoolRow | None = None,
        name: str = "",
        need: int = 0,
        above: bool = False,
    ) -> None:
        #: The worker whose slots or capacity are short; excludes `pool`.
        self.worker: WorkerRow | None = worker
        #: The pool that is short, if it is not a worker's capacity.
        self.pool: PoolRow | None = pool
        #: The resource, or "" for slots.
        self.name: str = name
        #: The amount that is needed; 0 for slots.
        self.need: int = need
        #: True if it is for tasks above their soft quotas.
        self.above: bool = above
        #: The waiting buckets in order; entries that are no `members` are stale.
        self.heap: list[Entry] = []
        #: The valid entries of the heap: none is later than the head of its bucket.
        #: Checked: `check_places`.
        self.members: dict[Bucket, Entry] = {}

    def has_room(self) -> bool:
        """Return whether there is enough now for one of the waiting tasks."""
        pool = self.pool
        if pool is not None:
            units = pool.units
            return pool.total - pool.used >= self.need and (
                units is None or units.most(self.need) >= self.need
            )
        worker = self.worker
        assert worker is not None  # noqa: S101 - a place is of a worker or of a pool
        if not self.name:
            return worker.running < worker.limit
        return worker.has(self.name, self.need)

    def add(self, bucket: Bucket, row: TaskRow) -> None:
        """Make *bucket* wait here, in the order of its head *row*."""
        entry: Entry = (row.key, row.seq, bucket)
        known = self.members.get(bucket)
        if known is not None and known <= entry:
            return
        self.members[bucket] = entry
        _heappush(self.heap, entry)
        if len(self.heap) > FEW + 2 * len(self.members):
            self.heap = list(self.members.values())
            _heapify(self.heap)

    def pop(self) -> TaskRow | None:
        """Remove the bucket that is first in order, and return its head, or None."""
        heap, members = self.heap, self.members
        while heap:
            entry: Entry = heap[0]
            bucket: Bucket = entry[2]
            known: Entry = members.get(bucket)
            if known is not entry:
                _heappop(heap)
                continue
            row = None if bucket.parked is None else bucket.head()
            if row is not None and (row.seq != entry[1] or row.key is not entry[0]):
                entry = (row.key, row.seq, bucket)
                members[bucket] = entry
                _heapreplace(heap, entry)
                continue
            _heappop(heap)
            del members[bucket]
            if row is not None:
                return row
        return None


class Candidates:
    """Workers that a task may go to, with their views for policies.

    They are in the order in which the registry named them.
    """

    __slots__ = ("number", "views", "workers")

    def __init__(
        self,
        number: Mapping[WorkerRow, int],
        workers: list[WorkerRow],
        views: list[AgentView],
    ) -> None:
        #: The order number of each worker that matches. Checked: `check_room`.
        self.number: Mapping[WorkerRow, int] = number
        #: The workers that the task may go to, in that order. Checked: `check_room`.
        self.workers: list[WorkerRow] = workers
        #: The same workers for policies. Checked: `check_room`.
        self.views: list[AgentView] = views

    def __len__(self) -> int:
        return len(self.workers)

    def __iter__(self) -> Iterator[WorkerRow]:
        return iter(self.workers)

    def __getitem__(self, at: int) -> WorkerRow:
        return self.workers[at]

    def __contains__(self, worker: WorkerRow) -> bool:
        at = self._place(worker) if worker in self.number else len(self.workers)
        return at < len(self.workers) and self.workers[at] is worker

    def enter(self, worker: WorkerRow) -> None:
        """Add the matching *worker*."""
        if worker not in self:
            at = self._place(worker)
            self.workers.insert(at, worker)
            self.views.insert(at, worker.view)

    def leave(self, worker: WorkerRow) -> None:
        """Remove *worker*."""
        if worker in self:
            at = self._place(worker)
            del self.workers[at], self.views[at]

    def without(self, workers: Iterable[WorkerRow]) -> Candidates:
        """Return all candidates but *workers*."""
        rest = Candidates(self.number, self.workers.copy(), self.views.copy())
        for worker in workers:
            rest.leave(worker)
        return rest

    def _place(self, worker: WorkerRow) -> int:
        number = self.number
        return bisect_left(self.workers, number[worker], key=number.__getitem__)


class Room(Candidates):
    """The workers of a bucket that have a slot, and enough capacity, for its tasks.

    It is kept, and updated by the workers that changed since: see `_limits`.
    """

    __slots__ = ("above", "failing", "places", "read", "since", "unplaced")

    def __init__(self, workers: Iterable[WorkerRow]) -> None:
        super().__init__({worker: at for at, worker in enumerate(workers)}, [], [])
        #: How much of `KernelState.moved` it has read; -1: nothing. Checked:
        #: `check_room`.
        self.read: int = -1
        #: The workers without room where the bucket waits, each with its place. None of
        #: them is among the `workers`. Checked: `check_room`.
        self.places: dict[WorkerRow, Place] = {}
        #: The workers without room where it does not wait yet, and the shortage there.
        #: Checked: `check_room`.
        self.unplaced: dict[WorkerRow, Shortage | Place] = {}
        #: Key and number of the head that was last entered there: no entry is later.
        #: The last field says whether that was above a soft quota.
        self.since: tuple[Any, int] | None = None
        self.above: bool = False
        #: The workers that mostly fail at its type of task, if that matters.
        self.failing: dict[WorkerRow, None] = {}


@attrs.define(eq=False)
class Leak:
    """Resources that an attempt that did not stop still holds."""

    #: The worker of the attempt. Checked: `check_books`.
    worker: WorkerRow
    #: The units that it holds, which are not in its row any more. Checked:
    #: `check_books`.
    alloc: Units
    #: The task of the attempt, which may have ended, and have left memory.
    row: TaskRow
    #: 0 if it had given its slot back, to wait for another task; else 1. Checked:
    #: `check_books`.
    slots: int
    #: The time at which a worker with a lease last named it.
    seen_ns: int
    #: The share that its units count for. Checked: `check_shares`.
    share: Share | None = None


#: A resource that can be held: its worker (or "" for all), and its name (or "" for
#: slots).
ResourceKey: TypeAlias = tuple[str, str]


@frozen(eq=False)
class Reservation:
    """Resources reserved for the first task that cannot start: see `_reservation`."""

    #: The task with the reservation.
    row: TaskRow
    #: The worker where it is expected to start; None if the time is unknown, so on any
    #: worker.
    worker: WorkerRow | None
    #: The time in ns at which it is expected to start.
    start_ns: int | None
    #: The amount that the task leaves to others then, of each thing that it needs.
    spare: Mapping[ResourceKey, int]


class Reserving:
    """State of backfill scheduling: see `_reservation`."""

    __slots__ = ("is_more", "moment", "passed_at", "reserved", "under_way")

    def __init__(self) -> None:
        #: The tasks whose attempts hold something, each with its expected end in ns,
        #: once that is known. Checked: `check_holders`.
        self.under_way: dict[TaskRow, int | None] = {}
        #: The reservation.
        self.reserved: Reservation | None = None
        #: The moment for which it holds.
        self.moment: tuple[int, int] | None = None
        #: True if it leaves more than when others were put off behind it.
        self.is_more: bool = False
        #: The moment at which those were looked at again.
        self.passed_at: tuple[int, int] | None = None


class AllocationRow:
    """An allocation that was taken from the pools with `orch.resources`."""

    __slots__ = ("alloc", "id", "owner", "since_ns")

    def __init__(
        self,
        id: str,  # noqa: A002 - as of a task
        tenant: str,
        alloc: Units,
        since_ns: int,
    ) -> None:
        #: The id for its release.
        self.id: str = id
        #: The tenant that holds it. Checked: `check_shares`.
        self.owner: str = tenant
        #: The units that it holds, with those of quotas. Checked: `check_books`.
        self.alloc: Units = alloc
        #: The time at which it was granted.
        self.since_ns: int = since_ns

    @property
    def units(self) -> Units:
        """Resources that the request asked for."""
        return without_quotas(self.alloc)


class Claim:
    """A request for an allocation from the pools, made with `orch.resources`."""

    __slots__ = ("cargo", "granted", "id", "owner", "units")

    def __init__(
        self,
        id: str,  # noqa: A002 - as of a task
        tenant: str,
        units: Units,
        cargo: Any = None,
    ) -> None:
        #: The id of the allocation that it becomes.
        self.id: str = id
        #: The tenant that asks.
        self.owner: str = tenant
        #: The units that are asked for.
        self.units: Units = units
        #: An object of the driver, which is told of the grant.
        self.cargo: Any = cargo
        #: The allocation; None while it waits among the `claims`.
        self.granted: AllocationRow | None = None


class TypeRow:
    """Counts and samples of durations of one type of task."""

    __slots__ = ("cancelled", "completed", "failed", "failing", "failures", "samples")

    def __init__(self) -> None:
        #: How many tasks of the type have completed; likewise the next two.
        self.completed: int = 0
        self.failed: int = 0
        self.cancelled: int = 0
        #: How many have failed, by error.
        self.failures: dict[str, int] = {}
        #: `(submitted, ready, started, ended)` in ns, of the latest that completed.
        self.samples: deque[tuple[int, int, int, int]] = deque(maxlen=SAMPLE_SIZE)
        #: `(started, ended, tries, retried)` of the latest that failed or timed out:
        #: times in ns, the number of tries until then, and whether another followed.
        #: None until there is one.
        self.failing: deque[tuple[int, int, int, bool]] | None = None

    def note_failing(
        self, started: int, ended: int, tries: int, *, retried: bool
    ) -> None:
        """Add a sample to `failing`."""
        if self.failing is None:
            self.failing = deque(maxlen=SAMPLE_SIZE)
        self.failing.append((started, ended, tries, retried))


class StartLimit(ABC):
    """A limit of starts for some kinds of tasks, beside slots, workers and pools.

    For each task, the kernel asks the limits in `Bucket.limits`, in their order,
    without knowing their classes. An attempt holds units of the pools
    `KernelState.beside`, which come back in each way in which an attempt ends.

    A *kernel* is a `KernelState`, which is defined in a layer above this file.
    """

    #: True if it is asked only once a worker has room and all else is free: then a task
    #: starts unless it must wait here, or a policy refuses.
    waits_for_room: bool = False

    @property
    def is_timed(self) -> bool:
        """True if a waiting task may start once some time has passed."""
        return False

    @abstractmethod
    def concerns(self, bucket: Bucket) -> bool:
        """Return whether tasks of the new *bucket* need any of it."""

    @abstractmethod
    def must_wait(self, kernel: Any, bucket: Bucket, row: TaskRow, now: int) -> bool:
        """Park *bucket*, with head *row*, and return True if too little is free."""

    @abstractmethod
    def shortages(self, kernel: Any, row: TaskRow, now: int) -> Iterable[Shortage]:
        """Yield each shortage of it for *row*, for explanations; change nothing."""

    def starts(self, kernel: Any, row: TaskRow) -> None:  # noqa: B027 - most need none
        """
        Note that *row* starts now; a fold of earlier starts calls only `begins`.

        Raises:
            PolicyFault: It does not start, since the code that was told of it has
                failed.
        """

    @abstractmethod
    def begins(self, kernel: Any, row: TaskRow) -> Units:
        """Return the units of this limit that the new attempt of *row* takes."""

    def ends(self, kernel: Any, row: TaskRow, alloc: Units, cause: str) -> None:  # noqa: B027 - most need none
        """Note that an attempt of *row* ends by *cause*; its *alloc* is freed later."""

    def stays(self, kernel: Any, row: TaskRow, attempt: int) -> None:  # noqa: B027 - most need none
        """Note that the end of the attempt, which keeps its units, is unknown now."""

    def goes_on(self, kernel: Any, row: TaskRow, attempt: int) -> None:  # noqa: B027 - most need none
        """Note that an attempt after `stays` goes on or ends."""

    def turns_away(self, kernel: Any, row: TaskRow) -> None:  # noqa: B027 - most need none
        """Note that *row* waits for something else now, or leaves the queue."""

    @abstractmethod
    def leaves(self, kernel: Any, bucket: Bucket, taken: Mapping[str, int]) -> bool:
        """Return whether a task of *bucket* could start if only *taken* were held."""

    def out(self) -> dict[str, Any]:
        """Return its part of a snapshot, as JSON under names of its own."""
        return {}

    def back(self, told: Mapping[str, Any]) -> None:  # noqa: B027 - most need none
        """Restore the state that `out` wrote, a part of *told*."""

    def check(self, faults: list[str]) -> None:  # noqa: B027 - most need none
        """Add to *faults* each error in its state."""


class TimedLimit(StartLimit):
    """A limit that has room again after a time; tasks wait at its windows."""

    @abstractmethod
    def wake(self, kernel: Any, window: WindowRow, now: int) -> None:
        """Wake the first task that waits at *window*, whose time has come."""

    @abstractmethod
    def words(self, short: Shortage, now: int, holders: tuple[str, ...]) -> Blocker:
        """Explain *short* in words, with the time at which it passes, and remedies."""

    @abstractmethod
    def waits(self, bucket: Bucket, many: int, now: int) -> Iterable[tuple[int, str]]:
        """Return the ns until *many* of *bucket* may have started, and a reason."""


class Bucket:
    """
    The queued tasks with like requirements: if the first cannot start, none can.

    Keys mostly rise, so most tasks are in a plain queue; those that come out of
    order are in a heap beside it. A task that leaves from the middle (cancelled,
    suspended, moved) leaves a stale entry behind, known by its ticket.
    """

    __slots__ = (
        "above",
        "at_workers",
        "bounds",
        "caller",
        "carried",
        "charges",
        "checked",
        "entry",
        "fifo",
        "forgotten",
        "heap",
        "is_plain",
        "last_key",
        "limits",
        "locks",
        "match_reason",
        "matching",
        "need",
        "needs",
        "number",
        "open",
        "parked",
        "quota_route",
        "refusal",
        "room",
        "route",
        "route_reason",
        "route_version",
        "share",
        "size",
        "sized",
        "soft",
        "spec",
        "stale",
        "type_row",
        "verdict",
        "workers",
        "workers_version",
    )

    def __init__(self, spec: Spec, type_row: TypeRow, number: int = 0) -> None:
        #: The properties that its tasks have in common.
        self.spec: Spec = spec
        #: The number of the bucket: of two with the same key, the older comes first.
        self.number: int = number
        #: The row of the type of its tasks.
        self.type_row: TypeRow = type_row
        #: The units that it waits for: its request, or the least of an elastic one,
        #: once known.
        self.need: Units = spec.resources
        #: True if `need` is known: the least of an elastic request is asked for later.
        self.sized: bool = spec.elastic is None
        #: Queued tasks with rising keys, in order; those with a ticket are stale.
        self.fifo: deque[TaskRow] = deque()
        #: Queued tasks that came out of order: `(key, seq, ticket, row)`; those with
        #: another ticket than their row are stale.
        self.heap: list[tuple[Any, int, int, TaskRow]] = []
        #: The key of the last of `fifo`.
        self.last_key: Any = None
        #: Queued tasks; `fifo` and `heap` hold `stale` more. Checked: `check_queues`.
        self.size: int = 0
        #: How many entries of `fifo` and `heap` are stale.
        self.stale: int = 0
        #: The share of its tenant, if tenants share.
        self.share: Share | None = None
        #: The list that has its entry while it may have something to start: that of the
        #: state, or of its share. Checked: `check_parking`.
        self.open: list[Entry] = []
        #: Its entry there; None if it is `parked`, or has no queued tasks. Checked:
        #: `check_parking`.
        self.entry: Entry = None
        #: The places where it waits for room outside its workers, or None if it does
        #: not wait: excludes `entry` and `caller`. Checked: `check_parking`.
        self.parked: tuple[Place, ...] | None = None
        #: The places where it waits for room at its workers, while it is `parked`.
        #: Checked: `check_places`.
        self.at_workers: Mapping[WorkerRow, Place] = NOWHERE
        #: The place that woke it, and must wake the next bucket after this one; None
        #: while it is `parked`. Checked: `check_parking`, `check_places`.
        self.caller: Place | None = None
        #: Whether one of its quotas is soft.
        self.soft: bool = False
        #: Its entry among buckets above their soft quotas, or None; it is `parked`,
        #: too. Checked: `check_parking`.
        self.above: Entry = None
        #: The place that woke it there, and must wake the next bucket after its turn.
        #: Checked: `check_places`.
        self.carried: Place | None = None
        #: The reason for which the user's allocator put it off though there was room,
        #: or "". Checked: `check_parking`.
        self.refusal: str = ""
        #: The workers that match.
        self.matching: list[WorkerRow] = []
        #: The matching workers that are large enough.
        self.workers: list[WorkerRow] = []
        #: The different needs of its tasks on these.
        self.needs: tuple[Units, ...] = ()
        #: The workers with room. Checked: `check_room`.
        self.room: Room = Room(())
        #: The version of workers that they hold for; -1 if they cannot be kept.
        self.workers_version: int = -1
        #: True if nothing but slots and quotas limits its tasks, on one worker: then
        #: policies may give it a `route`.
        self.is_plain: bool = False
        #: The reason why these match.
        self.match_reason: str = ""
        #: The quotas that hold for it: each a pool, and the resource that it bounds.
        self.bounds: tuple[tuple[str, str], ...] = ()
        #: For each need, the need plus its units of quotas, and the latter alone.
        self.charges: dict[Units, tuple[Units, Units]] = {}
        #: The limits of its tasks beside slots, workers and pools, in the order in
        #: which they are asked.
        self.limits: tuple[StartLimit, ...] = ()
        #: The locks of the paths that its tasks may write: see `_scopes`. None if not
        #: found yet.
        self.locks: tuple[LockRow, ...] | None = None
        #: The version of workers for which one is known that can do its tasks.
        self.checked: int = -1
        #: The worker, if router and allocator need not be asked again.
        self.route: WorkerRow | None = None
        #: The same worker, if tasks hold units of quotas and nothing else.
        self.quota_route: WorkerRow | None = None
        #: The version for which a route holds.
        self.route_version: int = -1
        #: The reason for that worker.
        self.route_reason: str = ""
        #: An object of the driver: the answer of the validator for like tasks.
        self.verdict: Any = None
        #: True if it gets no more tasks, as there may be a younger bucket for like
        #: ones.
        self.forgotten: bool = False

    def __lt__(self, other: Bucket) -> bool:
        # A task that has moved to another bucket has stale entries at its old place.
        return self.number < other.number

    def places(self) -> list[Place]:
        """Return the places where the bucket waits for room."""
        return [*(self.parked or ()), *self.at_workers.values()]

    def push(self, row: TaskRow) -> bool:
        """Add *row*; return whether it may be the first now."""
        self.size += 1
        key = row.key
        if not row.ticket and (not self.fifo or key > self.last_key):
            self.fifo.append(row)
            self.last_key = key
            if len(self.fifo) > 1:
                return False
            return not self.heap or self.head() is row
        if not row.ticket and key == self.last_key and row.seq > self.fifo[-1].seq:
            self.fifo.append(row)
            return False
        _heappush(self.heap, (key, row.seq, row.ticket, row))
        return self.head() is row

    def head(self) -> TaskRow | None:
        """Return the first queued task, which stays in the bucket."""
        fifo = self.fifo
        while fifo and fifo[0].ticket:
            fifo.popleft()
            self.stale -= 1
        heap = self.heap
        if not heap:
            return fifo[0] if fifo else None
        while heap and heap[0][2] != heap[0][3].ticket:
            _heappop(heap)
            self.stale -= 1
        if not fifo:
            return heap[0][3] if heap else None
        first = fifo[0]
        if heap and (heap[0][0], heap[0][1]) < (first.key, first.seq):
            return heap[0][3]
        return first

    def pop(self, row: TaskRow) -> None:
        """Remove *row*, which is the head."""
        self.size -= 1
        if self.fifo and self.fifo[0] is row and not row.ticket:
            self.fifo.popleft()
        else:
            _heappop(self.heap)

    def leave(self, row: TaskRow) -> None:
        """Remove *row* though it is not the head; its entry stays behind, stale."""
        self.size -= 1
        self.stale += 1
        row.ticket += 1
        if self.stale > FEW and self.stale > self.size:
            self.compact()

    def rows(self) -> list[TaskRow]:
        """Return the queued tasks in order, at the cost of a sort."""
        found = [row for row in self.fifo if not row.ticket]
        found += [entry[3] for entry in self.heap if entry[2] == entry[3].ticket]
        found.sort(key=IN_ORDER)
        return found

    def compact(self) -> None:
        """Drop the stale entries."""
        self.fifo = deque(row for row in self.fifo if not row.ticket)
        self.heap = [entry for entry in self.heap if entry[2] == entry[3].ticket]
        _heapify(self.heap)
        self.stale = 0


#: The places of a bucket that does not wait for its workers.
NOWHERE: Final[Mapping[WorkerRow, Place]] = MappingProxyType({})


class Share:
    """The share of one tenant: units and slots held, and its queue.

    Tasks without a tenant have a share, too. Shares are ordered among each other as
    buckets are, but by a standing that changes with the resources held.
    """

    __slots__ = (
        "buckets",
        "entry",
        "held",
        "is_ranked",
        "number",
        "open",
        "owner",
        "running",
        "served",
        "standing",
    )

    def __init__(self, tenant: str | None, number: int) -> None:
        #: The tenant; None for all tasks without one.
        self.owner: str | None = tenant
        #: The number of the share: of two with the same standing, the older comes
        #: first.
        self.number: int = number
        #: The buckets of its tasks.
        self.buckets: dict[Bucket, None] = {}
        #: Its buckets that may have something to start: `(key, seq, bucket)`. Checked:
        #: `check_shares`.
        self.open: list[Entry] = []
        #: Its entry among the shares with something to start: `((standing, served,
        #: key), seq, share)`. Checked: `check_shares`.
        self.entry: Entry = None
        #: The standing that the queue gave it: the lowest is served first.
        self.standing: float = 0.0
        #: True if that still holds.
        self.is_ranked: bool = False
        #: A number for its latest start: of equals, the lowest comes first.
        self.served: int = 0
        #: The slots that its tasks take, with those of leaked attempts. Checked:
        #: `check_shares`.
        self.running: int = 0
        #: The amount held for it of each resource, also by hand. Checked:
        #: `check_shares`.
        self.held: dict[str, int] = {}

    def __lt__(self, other: Share) -> bool:
        return self.number < other.number

    @property
    def queued(self) -> int:
        """Number of tasks of the tenant that wait for a worker or for resources."""
        return sum(bucket.size for bucket in self.buckets)


class Shares:
    """The shares of all tenants, with a policy that shares by tenant."""

    __slots__ = ("by_tenant", "made", "served")

    def __init__(self) -> None:
        #: The shares by tenant. Checked: `check_shares`.
        self.by_tenant: dict[str | None, Share] = {}
        #: How many shares there have been.
        self.made: int = 0
        #: How many starts the shares have had.
        self.served: int = 0

    def of(self, tenant: str | None) -> Share:
        """Return the share of *tenant*."""
        found = self.by_tenant.get(tenant)
        if found is None:
            self.made += 1
            found = self.by_tenant[tenant] = Share(tenant, self.made)
        return found

    def forget_idle(self, many: int) -> None:
        """Drop idle shares whose tenant was not served for *many* starts."""
        self.by_tenant = {
            tenant: share
            for tenant, share in self.by_tenant.items()
            if share.buckets
            or share.running
            or any(share.held.values())
            # A share that is dropped counts as never served: it would come before
            # others.
            or self.served - share.served < many
        }


class AgentView:
    """A worker as a policy sees it; read only, and live."""

    __slots__ = ("_row",)

    def __init__(self, row: WorkerRow) -> None:
        self._row = row

    @property
    def name(self) -> str:
        """Name of the worker."""
        return self._row.name

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Capabilities of the worker, sorted."""
        return self._row.info.capabilities

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the machine of the worker, sorted."""
        return self._row.info.labels

    @property
    def max_concurrency(self) -> int | None:
        """Attempts that it runs at once; None is without limit."""
        return self._row.info.max_concurrency

    @property
    def running(self) -> int:
        """Number of attempts that the worker runs now."""
        return self._row.running

    @property
    def capacity(self) -> Resources | None:
        """Capacity of the worker, a bound for what it names; None names nothing."""
        return self._row.info.capacity

    @property
    def used(self) -> Resources:
        """Resources that the worker's attempts hold, of those its capacity names."""
        row = self._row
        own = [pair for pair in row.used.items() if pair[0] in row.capacity]
        return Resources.from_units(nonzero(own))

    @property
    def is_lost(self) -> bool:
        """True if the worker is lost and gets no work."""
        return self._row.lost

    @property
    def is_draining(self) -> bool:
        """True if the worker ends what it has begun and gets no new work."""
        return bool(self._row.draining)

    def performance(self, task_type: str) -> Performance:
        """Return the record of the worker at tasks of *task_type*."""
        record = self._row.records.get(task_type)
        if record is None:
            return _UNTRIED
        told = record.told
        # This is `Record.performance`, written out, since many are asked for at once.
        if told.completed == record.completed and told.failed == record.failed:
            return told
        return record.performance()

    def __repr__(self) -> str:
        return f"<worker {self.name}: {self.running} running>"


class PoolView:
    """A pool as a policy sees it; read only, and live."""

    __slots__ = ("_row",)

    def __init__(self, row: PoolRow) -> None:
        self._row = row

    @property
    def name(self) -> str:
        """Name of the resource."""
        return self._row.name

    @property
    def total(self) -> float:
        """Total amount."""
        return self._row.total / 1_000_000

    @property
    def free(self) -> float:
        """Amount that is not held; 0 if more is held than the pool has now."""
        return max(0, self._row.total - self._row.used) / 1_000_000

    @property
    def used(self) -> float:
        """Amount that is held; it exceeds the total if that was reduced."""
        return self._row.used / 1_000_000

    def __repr__(self) -> str:
        return f"<pool {self.name}: {self.free:g} of {self.total:g} free>"


#: An object that a timer is for.
Timed: TypeAlias = TaskRow | WorkerRow | RetainedEvent | WindowRow
#: `(when, number, kind, row, attempt)`; the kinds are in `_queue`.
Timer: TypeAlias = tuple[int, int, int, Timed, int]


def budgeting() -> Any:
    """
    Return the functions for budgets, which an extension has.

    Raises:
        InvalidTaskError: The extension was deleted.
    """
    return built_in("budgets._kernel", "a journal with budgets")


def without_quotas(alloc: Units) -> Units:
    """Return *alloc* without its units of quotas."""
    return tuple(pair for pair in alloc if not pair[0].startswith(QUOTA))


def of_quotas(alloc: Units) -> Units:
    """Return the units of quotas in *alloc*."""
    return tuple(pair for pair in alloc if pair[0].startswith(QUOTA))


def beside(alloc: Units) -> Units:
    """Return the units in *alloc* of hidden pools: see `KernelState.beside`."""
    return tuple(pair for pair in alloc if pair[0].startswith(_BESIDE))


def without_beside(alloc: Units) -> Units:
    """Return *alloc* without hidden pools, which the events or the submission name."""
    return tuple(pair for pair in alloc if not pair[0].startswith(_BESIDE))


def nonzero(pairs: Iterable[tuple[str, int]]) -> Units:
    """Return the *pairs* with a nonzero amount, by name."""
    return tuple(sorted(pair for pair in pairs if pair[1]))


for _ordered in (Bucket, Share):
    # A compiled class that defines `__lt__` has no `__hash__` unless it is given one.
    setattr(_ordered, "__hash__", object.__hash__)  # noqa: B010 - checkers refuse `=`
