"""
What the state consists of: mutable slotted rows, few objects a task.

The garbage collector is what makes a large backlog slow, so a row that has nothing
unusual about it is one object: dependencies are in `Links`, the rest in `RowExtra`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify as _heapify
from heapq import heappop as _heappop
from heapq import heappush as _heappush
from heapq import heapreplace as _heapreplace
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import attrs

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

#: Pools whose names begin so are those of quotas.
QUOTA: Final = "quota:"
#: What may be written, of which a task holds part, begins so: see `_scopes`.
SCOPE: Final = f"{QUOTA}writes="
#: The same of budgets: see `_budgets`.
PURSE: Final = f"{QUOTA}budget="
#: The same of units that have names: see `_units`.
UNIT: Final = f"{QUOTA}unit="
#: The same of any other `StartLimit`.
LIMIT: Final = f"{QUOTA}limit="
_BESIDE: Final = (SCOPE, PURSE, UNIT, LIMIT)
#: All of one unit, in millionths.
WHOLE: Final = 1_000_000
#: Why an agent is drained that is to leave: it is not any more if it joins anew.
GOING: Final = "it is to go"
#: The built-in agent, which runs plain functions and programs.
LOCAL: Final = Agent.LOCAL

_QUEUED: Final = TaskState.QUEUED
_BLOCKED: Final = TaskState.BLOCKED
#: Why a task is cancelled, and the cause of a failure, that its parents brought about.
SKIPPED: Final = "skipped"
DEPENDENCY: Final = "dependency"
#: All causes for which a task is BLOCKED: see `TaskBlocked`.
BLOCKED_BY: Final = (
    DEPENDENCY,
    *("event", "asked", "policy", "gone", "join", "lost", "missing", "interrupted"),
)
#: What is said of an attempt that the end of an orchestrator has cut short.
LEFT_RUNNING: Final = "the orchestrator stopped while it ran"
#: Between why an agent was chosen, and why less is granted than was asked for.
LESS: Final = "; less than it asked for: "
#: One start, as a rate counts it: a millionth of a start a second comes to one of these
#: in a nanosecond, so what has come back is always a whole number.
TOKEN: Final = 10**15
#: A limit that nothing reaches.
UNLIMITED: Final = 1 << 60
#: Stale entries that are not worth a clean-up.
FEW: Final = 64
#: A place in a heap: `(key, seq, who stands there)`, as long as who stands there has
#: this very object. What is said to be a tuple, a compiler may make anew.
Entry: TypeAlias = Any
#: A time in ns, as the one object that the rows of a batch share as their keys: what is
#: said to be an integer, a compiler makes anew for each.
SharedTime: TypeAlias = Any
#: Dependents that are in a tuple.
_FEW_DEPENDENTS: Final = 4
#: The place of a task in the queue.
IN_ORDER: Final = attrgetter("key", "seq")


@attrs.frozen
class Spec:
    """What like tasks have in common; one bucket each."""

    type: str
    #: Capabilities, sorted; None is the built-in agent.
    requires: tuple[str, ...] | None = None
    resources: Units = ()
    timeout_ns: int | None = None
    idempotent: bool = True
    #: For whom its tasks are done.
    owner: str | None = None
    #: None: its resources are granted whole, or not yet.
    elastic: Elasticity | None = None
    #: The run that they are of, if that has a quota: it follows from their rows.
    workflow: str | None = None
    #: Agents that its tasks do not go to, as long as there is another.
    avoid: tuple[str, ...] = ()
    #: What its tasks may write: literal prefixes, none inside another; "" is all.
    writes: tuple[str, ...] = ()
    #: The budget that they draw on, or ""; and how much of it each reserves.
    budget: str = ""
    spends: Units = ()
    #: What waits for one of them goes on if it fails.
    allow_failure: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """What its worker is to have: labels alone say where, and its type who."""
        if self.requires is None:
            return (self.type,)
        if self.requires and all(map(is_label, self.requires)):
            return (*self.requires, self.type)
        return self.requires


class TaskRow:
    """The state of one task."""

    __slots__ = (
        "agent",
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
    )

    def __init__(
        self, task_id: str, seq: int, bucket: Bucket, cargo: Any, now: SharedTime
    ) -> None:
        #: Its id: by it, it stands in `tasks`.
        self.id: str = task_id
        #: Order of submission.
        self.seq: int = seq
        #: Where it queues, with all that is like it. One that is in no bucket's queue
        #: has one, too. Checked: `check_queues`.
        self.bucket: Bucket = bucket
        #: The driver's own; never read here.
        self.cargo: Any = cargo
        #: Its state. Checked: `check_counters`.
        self.state: TaskState = _QUEUED
        #: Its place: lower starts first.
        self.key: Any = now
        #: When it was submitted.
        self.submitted_ns: int = now
        #: When it could first have run; 0 while it waits for others.
        self.ready_ns: int = now
        #: When its latest attempt began; 0 before the first.
        self.started_ns: int = 0
        #: When it ended; 0 before.
        self.ended_ns: int = 0
        #: The number of its latest attempt; 0 before the first.
        self.attempt: int = 0
        #: Where its latest attempt runs, or ran. Checked: `check_books`.
        self.agent: AgentRow | None = None
        #: Why this agent.
        self.reason: str = ""
        #: What it holds, in millionths: nothing while it is QUEUED, or has ended, or
        #: its attempt has `leaked`. Checked: `check_alloc`, `check_books`.
        self.alloc: Units = ()
        #: What it waits for, and what waits for it; None for neither.
        self.links: Links | None = None
        #: What most do not need; None: all of that is as at first.
        self.extra: RowExtra | None = None
        #: Its id or its key is of the user's choice.
        self.named: bool = False
        #: The run of a workflow that it is of; "": of none, whatever its id is.
        #: Checked: `check_runs`.
        self.run: str = ""
        #: Rises when it is removed from the queue without being its head: entries with
        #: a lower ticket are stale.
        self.ticket: int = 0

    def __repr__(self) -> str:
        return f"<TaskRow {self.id} {self.state} attempt {self.attempt}>"


_NOBODY: Final[Mapping[str, TaskRow]] = MappingProxyType({})


#: Event (None: only its time matters), timeout in ns, whether there is a default.
Awaited: TypeAlias = tuple[str | None, int | None, bool]


#: Why a running attempt is to end, if it is; the stronger ones come later.
Stop: TypeAlias = Literal["", "suspend", "timeout", "deadline", "cancel"]
#: How an attempt ended. Of some nobody knows: their worker died (`lost`), their agent
#: knows nothing of them (`missing`), or the orchestrator died (`interrupted`). Others
#: never began: what they need is gone, there was no room for them (`unstarted`), or
#: their agent gave them back (`returned`).
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
    """When a task may run, if not once all its parents have completed."""

    #: `all`, `finished`, `any`, `asked` (a function of the user's says it), or how many
    #: parents must complete.
    join: Literal["all", "finished", "any", "asked"] | int = "all"
    #: What follows if that cannot be any more: `block`, `skip`, `fail` or `run`.
    on_failure: OnParentFailure = "block"
    #: The join has held: what becomes of the parents does not matter any more. Checked:
    #: `check_links`.
    joined: bool = False
    #: It is no work, but a wait from then on: for what event, for how many ns at the
    #: most, and whether it completes when these are over.
    wait: Awaited | None = None
    #: It waits for its event now: it is BLOCKED, perhaps SUSPENDED, and stands in
    #: `awaited` if the event has a name. Checked: `check_waits`.
    awaits: bool = False
    #: Of a question: ns between two reminders, or 0; how many there were; and when the
    #: next one is due, in ns.
    remind_ns: int = 0
    reminded: int = 0
    remind_at_ns: int = 0
    #: Of a question: the answers that count so far, each `(by, choice)`.
    votes: tuple[tuple[str, str], ...] = ()
    #: The proved names of whoever gave them: each counts once, under whatever name.
    proved: tuple[str, ...] = ()


class RetainedEvent:
    """An event from outside that nobody waited for, kept for those who come later."""

    __slots__ = ("cargo", "id", "seq", "until_ns")

    def __init__(self, name: str, seq: int, until_ns: int, cargo: Any) -> None:
        #: Its name.
        self.id: str = name
        #: The number of the `EventEmitted` that it came with.
        self.seq: int = seq
        #: When it is dropped, in ns; 0 once it is.
        self.until_ns: int = until_ns
        #: The driver's own; never read here.
        self.cargo: Any = cargo


class Links:
    """
    The dependencies of one task.

    Most graphs are large, and most tasks have few dependents or none: a few are in a
    tuple, which takes two thirds of what a list does, and many are in a list, since a
    tuple is made anew with each.
    """

    __slots__ = ("dependents", "parents", "terms", "waiting")

    def __init__(self) -> None:
        #: What it waits for, in the order in which it was named; without terms, what
        #: was named twice is there twice. Checked: `check_links`.
        self.parents: tuple[TaskRow, ...] = ()
        #: How many of the parents have not completed; 0 once the join has held.
        #: Checked: `check_links`.
        self.waiting: int = 0
        #: What waits for it; those that have ended, or were let go, stay listed.
        self.dependents: list[TaskRow] | tuple[TaskRow, ...] = ()
        #: How it waits, if not for all of them; None: for all. Checked: `check_links`.
        self.terms: Terms | None = None

    def add_dependent(self, row: TaskRow) -> None:
        """*row* waits for this one."""
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
        #: As it was submitted, or changed since.
        self.priority: int = 0
        #: The history, once it is not the plain one: `(state, ns, detail)`. Checked:
        #: `check_attempts`.
        self.past: list[tuple[TaskState, int, str]] | None = None
        #: The parents that will not complete, in the order of their failure; nothing
        #: while it is held for a `decision`, or once the join has held. Checked:
        #: `check_links`.
        self.blocked_by: Mapping[str, TaskRow] = _NOBODY
        #: `roots` as they were when it was blocked, or ended by its terms.
        self.first_roots: tuple[str, ...] = ()
        #: The timeout that was stated, where a failure has made it another; or 0.
        self.first_timeout_ns: int = 0
        #: It runs, and is to be suspended at the end of its attempt: that is a reason
        #: to `stop`. Checked: `check_attempts`.
        self.suspending: bool = False
        #: Attempts that count against the retry policy. Checked: `check_attempts`.
        self.charged: int = 0
        #: Attempts that killed their worker. Checked: `check_attempts`.
        self.crashes: int = 0
        #: Not before this time: `not_before`, the end of a retry's delay, or of a wait;
        #: 0 is at once. While it is SUSPENDED, `resume_ns` says it. Checked:
        #: `check_counters`.
        self.due_ns: int = 0
        #: When it fails, whatever it does then; None is never.
        self.deadline_ns: int | None = None
        #: Held until a person decides, or for its event; then nothing is in
        #: `blocked_by`. Checked: `check_links`.
        self.decision: bool = False
        #: `(type, message, cause)` of the latest failure.
        self.error: tuple[str, str, str] | None = None
        #: What kind of failure that was, or "".
        self.failure_class: str = ""
        #: What its latest failed attempt was seen to use.
        self.usage: Units = ()
        #: The agents with a breaker on which it has failed.
        self.failed_on: tuple[str, ...] = ()
        #: When its first attempt began.
        self.first_ns: int = 0
        #: The delay before its latest retry.
        self.last_delay_ns: int = 0
        #: Why the running attempt is to stop, or "". Checked: `check_attempts`.
        self.stop: Stop = ""
        #: Why it is to stop, or why it was cancelled, in words.
        self.stop_reason: str = ""
        #: A program that is stopped where it stands: it is SUSPENDED, and keeps its
        #: slot. Checked: `check_books`.
        self.held: bool = False
        #: Of its timeout, what was left when it was stopped.
        self.left_ns: int = 0
        #: The timeout of the latest attempt that has one.
        self.limit_ns: int = 0
        #: When the timeout of the running attempt is due; 0 is never.
        self.timer: int = 0
        #: What a delay, or a wait, had left when the task was suspended, in ns.
        self.resume_ns: int = 0
        #: The task that it runs again.
        self.rerun_of: str | None = None
        #: The task that runs it again.
        self.rerun_id: str | None = None
        #: Its attempt waits for another task, without a slot. Checked: `check_books`.
        self.yielded: bool = False
        #: What people were asked by policies before a start, and let pass; or "".
        self.permitted: str = ""
        #: Why the StateMachine would not let it start.
        self.veto: str = ""
        #: Of which resources its latest attempt has said what it has spent of a budget;
        #: None: it draws on none.
        self.spent: dict[str, None] | None = None
        #: Of each resource, what all its attempts have said to have spent, and what of
        #: a budget counts as spent since nobody knows; None: none drew on one.
        self.paid: dict[str, int] | None = None
        #: Of whose share what its attempt holds is; None: owners do not share, or it
        #: holds nothing. Checked: `check_shares`.
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
        """Whether the task ended because of a parent: the failure began there."""
        ended = self.stop_reason == SKIPPED or (
            self.error is not None and self.error[2] == DEPENDENCY
        )
        return ended and self.first_roots != ()


class Record:
    """Performance of one agent at one type of task, as counted from events."""

    __slots__ = ("completed", "failed", "latency_ns", "told")

    def __init__(self) -> None:
        #: How many attempts have completed, and how many have failed.
        self.completed: int = 0
        self.failed: int = 0
        #: How long one took that completed: of the latest most. 0 if there was none.
        self.latency_ns: float = 0.0
        #: What policies were told last: routers ask again and again.
        self.told: Performance = Performance()

    def add(self, latency_ns: int) -> None:
        """Add a completed attempt that took *latency_ns*."""
        if self.completed:
            self.latency_ns += EWMA_WEIGHT * (latency_ns - self.latency_ns)
        else:
            self.latency_ns = float(latency_ns)
        self.completed += 1

    def performance(self) -> Performance:
        """The counts, with the latency in seconds."""
        told = self.told
        if told.completed != self.completed or told.failed != self.failed:
            latency = self.latency_ns / NS if self.completed else None
            told = self.told = Performance(self.completed, self.failed, latency)
        return told


#: Of an agent that has not done any.
_UNTRIED: Final = Performance()
#: An end of an attempt: when, whether it was a failure, of what task, which required
#: what.
AttemptEnd: TypeAlias = tuple[int, bool, str, tuple[str, ...]]


class BreakerRow:
    """One breaker of an agent, for a capability or (as "") for all that it does."""

    __slots__ = ("passed", "probes", "since_ns", "state", "trips", "until_ns")

    def __init__(self) -> None:
        #: Whether its agent gets work, none, or a few `probes`.
        self.state: Literal["closed", "open", "half-open"] = "closed"
        #: Since when: what began before does not count.
        self.since_ns: int = 0
        #: When it is half-open, if it is open.
        self.until_ns: int = 0
        #: How often it has opened since it was last closed.
        self.trips: int = 0
        #: The attempts that are under way as probes, and how many have ended well.
        self.probes: dict[TaskRow, None] = {}
        self.passed: int = 0


class AgentRow:
    """The state of one agent."""

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
        #: Its own units that have names, by resource. Checked: `check_units`.
        self.units: dict[str, UnitGroup] = {}
        #: Whether it has never had a lease or a breaker: then what its attempts begin
        #: and end is noted nowhere else. Checked: `check_agent`.
        self.is_plain: bool = True
        self.describe(info)
        #: What attempts hold of its capacity, and what leaked. Checked: `check_agent`.
        self.used: dict[str, int] = {}
        #: It takes no work until it is heard of again, and runs nothing. Checked:
        #: `check_agent`.
        self.lost: bool = False
        #: Why it gets nothing new though it is there, or "".
        self.draining: str = ""
        #: Its breakers that have ever opened, by capability.
        self.breakers: dict[str, BreakerRow] = {}
        #: The latest ends of attempts there, if it has a breaker.
        self.ends: deque[AttemptEnd] = deque(maxlen=SAMPLE_SIZE)
        #: Its latest failures, if it has none: when, how many attempts had ended well
        #: there by then, and what the task required.
        self.falls: deque[tuple[int, int, tuple[str, ...]]] = deque(maxlen=SAMPLE_SIZE)
        #: The latest sign of life.
        self.heard_ns: int = 0
        #: Seconds that its latest sign of life took there and back; None: unknown.
        self.round_trip: float | None = None
        #: When to check whether its lease is over; 0 is never.
        self.lease_due_ns: int = 0
        #: Of an agent with a lease: all attempts that it runs, and when it last named
        #: each. Checked: `check_leases`.
        self.seen: dict[TaskRow, int] = {}
        #: Slots taken here, those of leaked attempts too. Checked: `check_agent`.
        self.running: int = 0
        #: How many attempts have ended well here.
        self.completed: int = 0
        #: How many attempts have failed here, and were charged.
        self.failed: int = 0
        #: How many attempts that would not stop still hold something here. Checked:
        #: `check_holders`.
        self.leaked: int = 0
        #: How it has done, by type of task.
        self.records: dict[str, Record] = {}
        #: Who waits for a slot here.
        self.slots: Place = Place(agent=self)
        #: Who waits for some of its capacity, by resource and amount.
        # Where owners share, each has its own places, and for slots those of "".
        self.short: dict[str, dict[Any, Place]] = {}
        #: The same, as policies see it.
        self.view: AgentView = AgentView(self)
        #: Whether a `Room` is to be told of what it begins and ends.
        self.watched: bool = False

    def describe(self, info: Agent) -> None:
        """What is known of it now: when it joins, and when it joins again."""
        #: As it was described when it joined last.
        self.info: Agent = info
        #: How many slots it has. Checked: `check_agent`.
        self.limit: int = (
            UNLIMITED if info.max_concurrency is None else info.max_concurrency
        )
        #: It bounds what it names, and nothing else. Checked: `check_agent`.
        self.capacity: dict[str, int] = (
            {} if info.capacity is None else dict(info.capacity.units)
        )
        #: What a task takes here that does not say so itself.
        self.request: Units = info.request.units
        #: Nanoseconds without a sign of life after which it counts as lost; 0: it lives
        #: with us, and nothing is `seen`. Checked: `check_leases`.
        self.lease_ns: int = 0 if info.lease is None else max(1, int(info.lease * NS))
        if self.lease_ns or info.breaker is not None:
            self.is_plain = False

    def free(self, name: str) -> int:
        """How much of *name*, which its capacity names, it has left."""
        return self.capacity[name] - self.used.get(name, 0)

    def has(self, name: str, need: int) -> bool:
        """Whether it has *need* of *name*, which its capacity names, left."""
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
        #: Whether it says how much those of a kind may have: see `_standing`.
        self.is_quota: bool = name.startswith(QUOTA)
        #: How much there is. Checked: `check_books`.
        self.total: int = total
        #: How much of the total is above the quota, if that is soft; else nothing.
        self.beyond: int = beyond
        #: How much attempts and people hold, and what leaked: at most `total` and what
        #: is `owed`. Checked: `check_books`.
        self.used: int = 0
        #: How much more than the total was held when that was changed last; 0: it was
        #: not more. Checked: `check_books`.
        self.owed: int = 0
        #: Its units, if they have names. Checked: `check_units`.
        self.units: UnitGroup | None = None
        #: Who waits for some of it, by amount.
        self.short: dict[Any, Place] = {}
        #: Buckets that an allocator of the user's put off: asked at every release.
        self.parked: dict[Bucket, None] = {}
        #: The same, as policies see it.
        self.view: PoolView = PoolView(self)


class LockRow(PoolRow):
    """
    A folder or file that may be written, with all below it: see `_scopes`.

    Who has it, has all of it, and one unit of each folder above.
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
        #: Whose it is: it is told when the time has come.
        self.limit: TimedLimit = limit
        #: When the first of those who wait is woken, in ns; 0 if nobody does. Checked:
        #: `check_limits`.
        self.until_ns: int = 0

    def is_awaited(self) -> bool:
        """Whether a bucket waits here, and nowhere else."""
        return any(
            place in (bucket.parked or ())
            for place in self.short.values()
            for bucket in place.members
        )


class RateRow(WindowRow):
    """
    How many attempts of those of a kind may start in a time: tokens that come back.

    A start takes a token. What is gone (`spent`) is known for a moment (`at_ns`), and
    both are changed by facts only; it grows less from then on by itself.
    """

    __slots__ = ("at_ns", "per_second", "seen_ns", "spent")

    def __init__(
        self, limit: TimedLimit, name: str, per_second: int, burst: int, now: int
    ) -> None:
        # There are that many tokens at the most.
        super().__init__(limit, name, burst * (TOKEN // 1_000_000))
        #: How many come back in a second, in millionths.
        self.per_second: int = per_second
        #: How many were gone at `at_ns`, in parts of a `TOKEN`: at most `total`.
        #: Checked: `check_limits`.
        self.spent: int = 0
        #: Of which moment that is.
        self.at_ns: int = now
        #: The latest time at which the rate was looked at: what was `used` then, and
        #: whether there was room. Checked: `check_limits`.
        self.seen_ns: int = now

    def look(self, now: int) -> bool:
        """Find how much is gone at *now*; whether a token had been seen before."""
        had_token = self.has_token()
        self.seen_ns = now
        self.used = self.used_at(now)
        return had_token

    def has_token(self) -> bool:
        """Whether a token was there, when the rate was last looked at."""
        return self.total - self.used >= TOKEN

    def used_at(self, now: int) -> int:
        """How much is gone at *now*."""
        return max(0, self.spent - max(0, now - self.at_ns) * self.per_second)

    def wait(self, now: int, tokens: int = 1) -> int:
        """Nanoseconds from *now* until that many *tokens* are free for an agent."""
        missing = self.used_at(now) + tokens * TOKEN - self.total
        return max(0, -(-missing // self.per_second))


class UnitRow(PoolRow):
    """The state of one unit that has a name, such as a GPU."""

    __slots__ = ("agent", "group", "resource", "unit")

    def __init__(self, agent: str, resource: str, unit: str) -> None:
        super().__init__(f"{UNIT}{agent!r}:{resource!r}:{unit!r}", 0)
        #: Whose own it is; "": it is of the pools.
        self.agent: str = agent
        #: Of what it is a unit.
        self.resource: str = resource
        #: Its name.
        self.unit: str = unit
        #: Those it belongs to, or did: it has a `total` while it is one of them. None:
        #: they have no names any more. Checked: `check_units`.
        self.group: UnitGroup | None = None


class UnitGroup:
    """The units of one resource, of the pools or of one agent: see `_units`."""

    __slots__ = ("owner", "resource", "units")

    def __init__(self, owner: PoolRow | AgentRow, resource: str) -> None:
        #: Whose they are.
        self.owner: PoolRow | AgentRow = owner
        #: What they are.
        self.resource: str = resource
        #: The units that there are, by name, in the order in which they were named.
        #: Checked: `check_units`.
        self.units: dict[str, UnitRow] = {}

    def most(self, need: int) -> int:
        """How much of *need* is free now: of one unit, or that of all free ones."""
        units = self.units.values()
        if need < WHOLE:
            return max([unit.total - unit.used for unit in units], default=0)
        return 0 if need % WHOLE else WHOLE * sum([not unit.used for unit in units])

    def would_have(self, need: int, free: Mapping[str, int]) -> bool:
        """Whether units have *need*, where so much is *free* of each pool of one."""
        rooms = [free[row.name] >= min(need, WHOLE) for row in self.units.values()]
        return sum(rooms) >= max(need, WHOLE) // WHOLE

    def choose(self, need: int) -> list[UnitRow]:
        """
        The units that one is to have who asks for *need*; none, if too little is free.

        Of a part of a unit, that is the one that is fullest, so that whole ones stay.
        """
        if self.most(need) < need:
            return []
        units = list(self.units.values())
        if need >= WHOLE:
            return [unit for unit in units if not unit.used][: need // WHOLE]
        room = [unit for unit in units if unit.total - unit.used >= need]
        return [max(room, key=_used)]

    def held(self) -> dict[str, float]:
        """How much of each unit is in use, by its name."""
        return {name: row.used / WHOLE for name, row in self.units.items()}

    def enlarge(self, units: int) -> None:
        """As much more, or less, is there."""
        if isinstance(self.owner, AgentRow):
            self.owner.capacity[self.resource] += units
        else:
            self.owner.total += units


def _used(row: PoolRow) -> int:
    return row.used


def name_units(
    beside: dict[str, PoolRow],
    owner: PoolRow | AgentRow,
    resource: str,
    names: tuple[str, ...] | None,
) -> None:
    """
    Let the units of *resource*, of a pool or an agent, have *names*; None: none has.

    Whoever holds one that is taken away keeps it; until it is given back it counts, as
    one that is not free. So a name that comes back is free once nobody holds it.
    """
    agent = owner.name if isinstance(owner, AgentRow) else ""
    before = owner.units.get(resource) if isinstance(owner, AgentRow) else owner.units
    group = before or UnitGroup(owner, resource)
    for unit in group.units.values():
        unit.total = 0
    group.units = {}
    for name in names or ():
        unit = UnitRow(agent, resource, name)
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
    """The state of one budget: what is spent of it does not come back."""

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
        #: How much there was to be, as it was declared last; it may be raised since.
        self.declared: Units = ()
        #: Of each resource, how much there is, and how much is reserved or spent.
        #: Checked: `check_budgets`.
        self.pools: dict[str, PoolRow] = {}
        #: Of each resource, how much is spent. Checked: `check_budgets`.
        self.spent: dict[str, int] = {}
        #: It was told that little is left, since there is as much as now.
        self.is_low: bool = False
        #: How often people were asked what is to become of it; less than 0: they do not
        #: have to answer any more.
        self.asked: int = 0
        #: It keeps nobody from starting any more.
        self.is_open: bool = False

    @property
    def totals(self) -> Units:
        """How much there is of each resource."""
        totals = [(resource, pool.total) for resource, pool in self.pools.items()]
        return tuple(sorted(totals))


#: What may keep a task from starting.
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
    """
    What keeps a task from starting: of something, it needs more than there is.

    What `explain` makes of each kind, stands in `_explain._words`.
    """

    kind: ShortageKind
    #: Of `too small`, `too little`, `quota` and `rate`: the resource, the pool, the
    #: rate. Of a breaker: for which capability; "" is for all. `fails`: the agent that
    #: does better. `reservation`: the task that comes first. `capability`: those that
    #: are required. `veto`, `rules`, `allocator`: the reason. `scope`: the folder or
    #: file that another may write; `turn`: the task whose turn it is to write.
    #: `budget`: the pool of the budget. `limit`: the reason.
    name: str = ""
    #: How much it needs: slots, units, parts of a token.
    need: int = 1
    #: How much of it is free; of what is `too small`, how much there is at all.
    have: int = 0
    #: On which agent, of which any one is enough; None: on all.
    agent: AgentRow | None = None
    #: Of what it is, if it is not an agent's.
    pool: PoolRow | None = None
    #: When it passes by itself, in ns; 0: nobody knows.
    until_ns: int = 0
    #: Whether no end of another task helps.
    is_hopeless: bool = False

    @property
    def missing(self) -> int:
        """How much more is needed than there is."""
        return self.need - self.have


class Place:
    """
    A shortage, and the buckets that wait until there is enough.

    It is the slots of an agent, or an amount of an agent's capacity or of a pool, or a
    token of a rate. An entry may be older than its bucket's head, never later in order.
    Those above their soft quotas wait at places of their own: see `_limits`.
    """

    __slots__ = ("above", "agent", "heap", "members", "name", "need", "pool")

    def __init__(
        self,
        *,
        agent: AgentRow | None = None,
        pool: PoolRow | None = None,
        name: str = "",
        need: int = 0,
        above: bool = False,
    ) -> None:
        #: Whose slots or capacity is short; excludes `pool`.
        self.agent: AgentRow | None = agent
        #: What is short, if it is not an agent's.
        self.pool: PoolRow | None = pool
        #: The resource, or "" for slots.
        self.name: str = name
        #: How much is needed; 0 for slots.
        self.need: int = need
        #: Whether it is for those above their soft quotas.
        self.above: bool = above
        #: Who waits, the first first; entries that are no `members` are stale.
        self.heap: list[Entry] = []
        #: The valid entries of the heap: none is later than the head of its bucket.
        #: Checked: `check_places`.
        self.members: dict[Bucket, Entry] = {}

    def has_room(self) -> bool:
        """Whether there is enough now for one of those who wait."""
        pool = self.pool
        if pool is not None:
            units = pool.units
            return pool.total - pool.used >= self.need and (
                units is None or units.most(self.need) >= self.need
            )
        agent = self.agent
        assert agent is not None  # noqa: S101 - a place is of an agent or of a pool
        if not self.name:
            return agent.running < agent.limit
        return agent.has(self.name, self.need)

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
    """
    Agents that a task may go to, and the same as policies see them.

    They are in the order in which the registry named them.
    """

    __slots__ = ("agents", "number", "views")

    def __init__(
        self,
        number: Mapping[AgentRow, int],
        agents: list[AgentRow],
        views: list[AgentView],
    ) -> None:
        #: The place in that order of each agent that matches. Checked: `check_room`.
        self.number: Mapping[AgentRow, int] = number
        #: Those that the task may go to, in that order. Checked: `check_room`.
        self.agents: list[AgentRow] = agents
        #: The same agents as policies see them. Checked: `check_room`.
        self.views: list[AgentView] = views

    def __len__(self) -> int:
        return len(self.agents)

    def __iter__(self) -> Iterator[AgentRow]:
        return iter(self.agents)

    def __getitem__(self, at: int) -> AgentRow:
        return self.agents[at]

    def __contains__(self, agent: AgentRow) -> bool:
        at = self._place(agent) if agent in self.number else len(self.agents)
        return at < len(self.agents) and self.agents[at] is agent

    def enter(self, agent: AgentRow) -> None:
        """*agent*, which matches, may have the task, too."""
        if agent not in self:
            at = self._place(agent)
            self.agents.insert(at, agent)
            self.views.insert(at, agent.view)

    def leave(self, agent: AgentRow) -> None:
        """*agent* may not have the task."""
        if agent in self:
            at = self._place(agent)
            del self.agents[at], self.views[at]

    def without(self, agents: Iterable[AgentRow]) -> Candidates:
        """All but *agents*."""
        rest = Candidates(self.number, self.agents.copy(), self.views.copy())
        for agent in agents:
            rest.leave(agent)
        return rest

    def _place(self, agent: AgentRow) -> int:
        number = self.number
        return bisect_left(self.agents, number[agent], key=number.__getitem__)


class Room(Candidates):
    """
    The agents of a bucket that have a slot, and enough of their own, for its tasks.

    It is kept, and brought up to date by what has moved since: see `_limits`.
    """

    __slots__ = ("above", "failing", "places", "read", "since", "unplaced")

    def __init__(self, agents: Iterable[AgentRow]) -> None:
        super().__init__({agent: at for at, agent in enumerate(agents)}, [], [])
        #: How much of what has moved it takes into account; -1: nothing. Checked:
        #: `check_room`.
        self.read: int = -1
        #: The agents without room where the bucket waits for them: where for each. None
        #: of them is among the `agents`. Checked: `check_room`.
        self.places: dict[AgentRow, Place] = {}
        #: The agents without room where it does not wait yet, and what is short there.
        #: Checked: `check_room`.
        self.unplaced: dict[AgentRow, Shortage | Place] = {}
        #: Key and number of the head as which it was last entered there: no entry is
        #: later; and whether that was above a soft quota.
        self.since: tuple[Any, int] | None = None
        self.above: bool = False
        #: The agents that mostly fail at its type of task, if that matters.
        self.failing: dict[AgentRow, None] = {}


@attrs.define(eq=False)
class Leak:
    """What an attempt that would not stop still holds."""

    #: Where it is. Checked: `check_books`.
    agent: AgentRow
    #: What it holds, which its row does not any more. Checked: `check_books`.
    alloc: Units
    #: Whose attempt it is; the task may have ended, and have left memory.
    row: TaskRow
    #: 0 if it had given its slot back, to wait for another task; else 1. Checked:
    #: `check_books`.
    slots: int
    #: When an agent with a lease last named it.
    seen_ns: int
    #: Of whose share that is. Checked: `check_shares`.
    share: Share | None = None


#: What can be held: of an agent (or "": of all), a resource (or "": slots).
ResourceKey: TypeAlias = tuple[str, str]


@frozen(eq=False)
class Reservation:
    """What is kept for the first task that cannot start: see `_backfill`."""

    #: Whom it is for.
    row: TaskRow
    #: Where it is expected to start; None: nobody knows when, so on any that it can.
    agent: AgentRow | None
    #: When it is expected to start, in ns.
    start_ns: int | None
    #: Of what it needs, how much it leaves for others then.
    spare: Mapping[ResourceKey, int]


class Backfilling:
    """What is known where later tasks may pass: see `_backfill`."""

    __slots__ = ("is_more", "moment", "passed_at", "reserved", "under_way")

    def __init__(self) -> None:
        #: The tasks whose attempts hold something, each with when it is expected to
        #: have ended, in ns, once that is known. Checked: `check_holders`.
        self.under_way: dict[TaskRow, int | None] = {}
        #: What is kept for whom.
        self.reserved: Reservation | None = None
        #: Of which moment that is.
        self.moment: tuple[int, int] | None = None
        #: Whether it leaves more than when others were put off behind it.
        self.is_more: bool = False
        #: At which moment these were looked at again.
        self.passed_at: tuple[int, int] | None = None


class AllocationRow:
    """An allocation that was taken from the pools with `orch.resources`."""

    __slots__ = ("alloc", "id", "owner", "since_ns")

    def __init__(
        self,
        id: str,  # noqa: A002 - as of a task
        owner: str,
        alloc: Units,
        since_ns: int,
    ) -> None:
        #: By which it is given back.
        self.id: str = id
        #: Who holds it. Checked: `check_shares`.
        self.owner: str = owner
        #: What it holds, of quotas too. Checked: `check_books`.
        self.alloc: Units = alloc
        #: Since when.
        self.since_ns: int = since_ns

    @property
    def units(self) -> Units:
        """The request."""
        return without_quotas(self.alloc)


class Claim:
    """A request for an allocation from the pools, made with `orch.resources`."""

    __slots__ = ("cargo", "granted", "id", "owner", "units")

    def __init__(
        self,
        id: str,  # noqa: A002 - as of a task
        owner: str,
        units: Units,
        cargo: Any = None,
    ) -> None:
        #: The id of the allocation that it becomes.
        self.id: str = id
        #: Who asks.
        self.owner: str = owner
        #: What is asked for.
        self.units: Units = units
        #: The driver's own: who is told.
        self.cargo: Any = cargo
        #: What it has become; None: it waits still, among the `claims`.
        self.granted: AllocationRow | None = None


class TypeRow:
    """Counts and samples of durations of one type of task."""

    __slots__ = ("cancelled", "completed", "failed", "failures", "samples")

    def __init__(self) -> None:
        #: How many tasks of the type have completed; likewise the next two.
        self.completed: int = 0
        self.failed: int = 0
        self.cancelled: int = 0
        #: How many have failed with which error.
        self.failures: dict[str, int] = {}
        #: `(submitted, ready, started, ended)` in ns, of the latest that completed.
        self.samples: deque[tuple[int, int, int, int]] = deque(maxlen=SAMPLE_SIZE)


class StartLimit(ABC):
    """
    What keeps tasks of some kinds from starting, beside slots, workers and pools.

    Of each kind, the kernel asks those of `Bucket.limits`, in their order, and names
    none. What an attempt has of it are units of the pools `KernelState.beside`, which
    come back in each way in which an attempt ends.

    A *kernel* is a `KernelState`, which stands above this file.
    """

    #: Whether it is asked only once an agent has room, since all else is there: then
    #: who need not wait starts, but for the word of a policy.
    waits_for_room: bool = False

    @property
    def is_timed(self) -> bool:
        """Whether somebody waits for it who may start once some time has passed."""
        return False

    @abstractmethod
    def concerns(self, bucket: Bucket) -> bool:
        """Whether tasks of *bucket*, which is new, need any of it."""

    @abstractmethod
    def must_wait(self, kernel: Any, bucket: Bucket, row: TaskRow, now: int) -> bool:
        """Park *bucket*, whose head is *row*, where too little is free; or False."""

    @abstractmethod
    def shortages(self, kernel: Any, row: TaskRow, now: int) -> Iterable[Shortage]:
        """All that is short of it for *row*, for explanations; nothing is changed."""

    def starts(self, kernel: Any, row: TaskRow) -> None:  # noqa: B027 - most need none
        """
        *row* starts now, in this life: `begins` is called for earlier ones, too.

        Raises:
            PolicyFault: It does not, since whoever was to know of it has failed.
        """

    @abstractmethod
    def begins(self, kernel: Any, row: TaskRow) -> Units:
        """What the attempt of *row*, which begins, has of it."""

    def ends(self, kernel: Any, row: TaskRow, alloc: Units, cause: str) -> None:  # noqa: B027 - most need none
        """An attempt of *row* ends by *cause*: its *alloc* is given back after this."""

    def stays(self, kernel: Any, row: TaskRow, attempt: int) -> None:  # noqa: B027 - most need none
        """From now on nobody knows when the attempt ends, which keeps what it has."""

    def goes_on(self, kernel: Any, row: TaskRow, attempt: int) -> None:  # noqa: B027 - most need none
        """The attempt goes on, or ends."""

    def turns_away(self, kernel: Any, row: TaskRow) -> None:  # noqa: B027 - most need none
        """*row*, which is queued, waits for something else now, or leaves the queue."""

    @abstractmethod
    def leaves(self, kernel: Any, bucket: Bucket, taken: Mapping[str, int]) -> bool:
        """Whether a task of *bucket* could start, if nothing but *taken* were held."""

    def out(self) -> dict[str, Any]:
        """What a snapshot says of it: of JSON, by names that are its own."""
        return {}

    def back(self, told: Mapping[str, Any]) -> None:  # noqa: B027 - most need none
        """Be again what `out` has told: it is part of *told*."""

    def check(self, faults: list[str]) -> None:  # noqa: B027 - most need none
        """Add to *faults* what is wrong with its state."""


class TimedLimit(StartLimit):
    """One that has room again after a time: those who wait stand at its windows."""

    @abstractmethod
    def wake(self, kernel: Any, window: WindowRow, now: int) -> None:
        """The time of *window* has come: wake the first who waits there."""

    @abstractmethod
    def words(self, short: Shortage, now: int, holders: tuple[str, ...]) -> Blocker:
        """Say *short* in words, with when it passes, and what helps."""

    @abstractmethod
    def waits(self, bucket: Bucket, many: int, now: int) -> Iterable[tuple[int, str]]:
        """Nanoseconds until *many* of *bucket* may have started, and what says so."""


class Bucket:
    """
    The queued tasks with like requirements: if the first cannot start, none can.

    Keys mostly rise, so most tasks are in a plain queue; those that come out of
    order are in a heap beside it. A task that leaves by a side door (cancelled,
    suspended, moved) leaves a stale entry behind, known by its ticket.
    """

    __slots__ = (
        "above",
        "agents",
        "agents_version",
        "at_agents",
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
    )

    def __init__(self, spec: Spec, type_row: TypeRow, number: int = 0) -> None:
        #: What its tasks have in common.
        self.spec: Spec = spec
        #: Of two that stand alike, the older comes first.
        self.number: int = number
        #: The row of the type of its tasks.
        self.type_row: TypeRow = type_row
        #: What it waits for: its request, or the least of an elastic one, once that is
        #: known.
        self.need: Units = spec.resources
        #: Whether `need` is known: nobody has asked yet what an elastic one waits for.
        self.sized: bool = spec.elastic is None
        #: Queued tasks whose keys rise, in order; those with a ticket are stale.
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
        #: That of its owner, where owners share.
        self.share: Share | None = None
        #: The list in which it stands if it may have something to start: that of the
        #: state, or of its share. Checked: `check_parking`.
        self.open: list[Entry] = []
        #: Its entry there, or None: then it is `parked`, or nothing of it is queued.
        #: Checked: `check_parking`.
        self.entry: Entry = None
        #: Where it waits for room besides its agents, or None if it does not wait:
        #: excludes `entry` and `caller`. Checked: `check_parking`.
        self.parked: tuple[Place, ...] | None = None
        #: Where it waits for room at its agents, while it is `parked`. Checked:
        #: `check_places`.
        self.at_agents: Mapping[AgentRow, Place] = NOWHERE
        #: Who woke it, and is to wake the next once this one has been looked at; None
        #: while it is `parked`. Checked: `check_parking`, `check_places`.
        self.caller: Place | None = None
        #: Whether one of its quotas is soft.
        self.soft: bool = False
        #: Its entry among those above their soft quotas, or None; it is `parked`, too.
        #: Checked: `check_parking`.
        self.above: Entry = None
        #: Who woke it there, and is to wake the next once its turn among these has
        #: come. Checked: `check_places`.
        self.carried: Place | None = None
        #: Why an allocator of the user's put it off though there was room, or "".
        #: Checked: `check_parking`.
        self.refusal: str = ""
        #: The agents that match.
        self.matching: list[AgentRow] = []
        #: Those of them that are large enough.
        self.agents: list[AgentRow] = []
        #: What its tasks wait for on these, as far as it differs.
        self.needs: tuple[Units, ...] = ()
        #: Those of them with room. Checked: `check_room`.
        self.room: Room = Room(())
        #: The version that they hold for; -1: they cannot be kept.
        self.agents_version: int = -1
        #: Whether nothing but slots, and quotas, limits its tasks, on one agent: then
        #: policies may give it a `route`.
        self.is_plain: bool = False
        #: Why these match.
        self.match_reason: str = ""
        #: The quotas that hold for it: a pool, and of what it says how much.
        self.bounds: tuple[tuple[str, str], ...] = ()
        #: What its tasks ask for, with what they take of quotas; and the latter alone.
        self.charges: dict[Units, tuple[Units, Units]] = {}
        #: What limits its tasks beside slots, agents and pools, in the order in which
        #: it is asked.
        self.limits: tuple[StartLimit, ...] = ()
        #: What its tasks hold while they may write: see `_scopes`. None: nobody asked.
        self.locks: tuple[LockRow, ...] | None = None
        #: The version for which an agent is known that can do its tasks.
        self.checked: int = -1
        #: The agent, where router and allocator need not be asked again.
        self.route: AgentRow | None = None
        #: The same agent, where tasks hold units of quotas and nothing else.
        self.quota_route: AgentRow | None = None
        #: The version for which a route holds.
        self.route_version: int = -1
        #: Why that agent.
        self.route_reason: str = ""
        #: The driver's own: what the validator said of like tasks.
        self.verdict: Any = None
        #: There may be a younger one for like tasks: this one gets no more.
        self.forgotten: bool = False

    def __lt__(self, other: Bucket) -> bool:
        # A task that has moved to another bucket has stale entries at its old place.
        return self.number < other.number

    def places(self) -> list[Place]:
        """Where it waits for room, if it waits."""
        return [*(self.parked or ()), *self.at_agents.values()]

    def push(self, row: TaskRow) -> bool:
        """Add *row*; whether it is now the first (where only stale ones are: maybe)."""
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
        """The first of the queued tasks, which stays where it is."""
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
        """Take out *row*, which is the head."""
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
        """The queued tasks in order; takes a sort."""
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


#: Of a bucket that does not wait for its agents.
NOWHERE: Final[Mapping[AgentRow, Place]] = MappingProxyType({})


class Share:
    """
    The account of one owner, where owners share: units and slots held, and its queue.

    What there is no owner of is a share, too. It stands among the others as a bucket
    does among buckets, but by a standing that changes with what it holds.
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

    def __init__(self, owner: str | None, number: int) -> None:
        #: Whose it is; None: of all tasks without an owner.
        self.owner: str | None = owner
        #: Of two that stand alike, the older comes first.
        self.number: int = number
        #: The buckets of its tasks.
        self.buckets: dict[Bucket, None] = {}
        #: Those of them that may have something to start: `(key, seq, bucket)`.
        #: Checked: `check_shares`.
        self.open: list[Entry] = []
        #: Its entry among the shares that may: `((standing, served, key), seq, share)`;
        #: there while something in `open` may start. Checked: `check_shares`.
        self.entry: Entry = None
        #: What the queue has said of it: the lowest is served first.
        self.standing: float = 0.0
        #: Whether that still holds.
        self.is_ranked: bool = False
        #: When it was served last, as a number: of equals, the one longest ago.
        self.served: int = 0
        #: The slots that are taken for it, those of leaked attempts too. Checked:
        #: `check_shares`.
        self.running: int = 0
        #: What is held of each resource for it, by hand too. Checked: `check_shares`.
        self.held: dict[str, int] = {}

    def __lt__(self, other: Share) -> bool:
        return self.number < other.number

    @property
    def queued(self) -> int:
        """How many of its tasks wait for an agent or for resources."""
        return sum(bucket.size for bucket in self.buckets)


class Shares:
    """The accounts of all owners, where owners share."""

    __slots__ = ("by_owner", "made", "served")

    def __init__(self) -> None:
        #: Each by its owner. Checked: `check_shares`.
        self.by_owner: dict[str | None, Share] = {}
        #: How many there have been.
        self.made: int = 0
        #: How often one of them was served.
        self.served: int = 0

    def of(self, owner: str | None) -> Share:
        """The share of *owner*."""
        found = self.by_owner.get(owner)
        if found is None:
            self.made += 1
            found = self.by_owner[owner] = Share(owner, self.made)
        return found

    def forget_idle(self, many: int) -> None:
        """Forget who has nothing, wants nothing, and was served *many* times ago."""
        self.by_owner = {
            owner: share
            for owner, share in self.by_owner.items()
            if share.buckets
            or share.running
            or any(share.held.values())
            # One that is forgotten counts as never served: it would come before others.
            or self.served - share.served < many
        }


class AgentView:
    """What a policy sees of an agent; read only, and live."""

    __slots__ = ("_row",)

    def __init__(self, row: AgentRow) -> None:
        self._row = row

    @property
    def name(self) -> str:
        """Name of the agent."""
        return self._row.name

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Capabilities of the agent, sorted."""
        return self._row.info.capabilities

    @property
    def labels(self) -> tuple[str, ...]:
        """What the machine of the agent is, sorted."""
        return self._row.info.labels

    @property
    def max_concurrency(self) -> int | None:
        """Attempts that it runs at once; None is without limit."""
        return self._row.info.max_concurrency

    @property
    def running(self) -> int:
        """Number of attempts that the agent runs now."""
        return self._row.running

    @property
    def capacity(self) -> Resources | None:
        """Capacity of the agent, a bound for what it names; None names nothing."""
        return self._row.info.capacity

    @property
    def used(self) -> Resources:
        """Resources that the agent's attempts hold, of those its capacity names."""
        row = self._row
        own = [pair for pair in row.used.items() if pair[0] in row.capacity]
        return Resources.from_units(nonzero(own))

    @property
    def is_lost(self) -> bool:
        """Whether the agent is lost, and gets no work."""
        return self._row.lost

    @property
    def is_draining(self) -> bool:
        """Whether the agent ends what it has begun, and gets nothing new."""
        return bool(self._row.draining)

    def performance(self, task_type: str) -> Performance:
        """How well it has done at tasks of *task_type*."""
        record = self._row.records.get(task_type)
        if record is None:
            return _UNTRIED
        told = record.told
        # As in `Record.performance`, which many are asked for at once.
        if told.completed == record.completed and told.failed == record.failed:
            return told
        return record.performance()

    def __repr__(self) -> str:
        return f"<agent {self.name}: {self.running} running>"


class PoolView:
    """What a policy sees of a pool; read only, and live."""

    __slots__ = ("_row",)

    def __init__(self, row: PoolRow) -> None:
        self._row = row

    @property
    def name(self) -> str:
        """Name of the resource."""
        return self._row.name

    @property
    def total(self) -> float:
        """How much there is."""
        return self._row.total / 1_000_000

    @property
    def free(self) -> float:
        """How much nobody holds; 0 where more is held than there is any more."""
        return max(0, self._row.total - self._row.used) / 1_000_000

    @property
    def used(self) -> float:
        """How much is held: more than there is, where that has become less."""
        return self._row.used / 1_000_000

    def __repr__(self) -> str:
        return f"<pool {self.name}: {self.free:g} of {self.total:g} free>"


#: Whom a timer is for.
Timed: TypeAlias = TaskRow | AgentRow | RetainedEvent | WindowRow
#: `(when, number, kind, row, attempt)`; the kinds are in `_queue`.
Timer: TypeAlias = tuple[int, int, int, Timed, int]


def without_quotas(alloc: Units) -> Units:
    """*alloc* without its units of quotas."""
    return tuple(pair for pair in alloc if not pair[0].startswith(QUOTA))


def of_quotas(alloc: Units) -> Units:
    """What *alloc* has of quotas."""
    return tuple(pair for pair in alloc if pair[0].startswith(QUOTA))


def beside(alloc: Units) -> Units:
    """What *alloc* has of the pools that no policy sees: see `KernelState.beside`."""
    return tuple(pair for pair in alloc if pair[0].startswith(_BESIDE))


def without_beside(alloc: Units) -> Units:
    """*alloc* without these: they follow from the submission, or a fact names them."""
    return tuple(pair for pair in alloc if not pair[0].startswith(_BESIDE))


def nonzero(pairs: Iterable[tuple[str, int]]) -> Units:
    """*pairs*, those that are something, by their names."""
    return tuple(sorted(pair for pair in pairs if pair[1]))


for _ordered in (Bucket, Share):
    # A compiled class that defines `__lt__` has no `__hash__` unless it is given one.
    setattr(_ordered, "__hash__", object.__hash__)  # noqa: B010 - checkers refuse `=`
