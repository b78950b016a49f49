"""
The state of the kernel: all that is remembered, and the smallest steps that change it.

Every verb beside (`_control`, `_attempts`, …) is a function of this state, and nothing
else writes to it. The door to the verbs is `Kernel`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from taskorch._limits import (
    ASIDE_NS,
    CONCURRENCY,
    GRACE_SECONDS,
    KEEP_FINISHED,
    NS,
    POISON_ATTEMPTS,
)
from taskorch.errors import InternalError
from taskorch.events import Event, Fact, TaskCompleted, TaskStarted, TaskSubmitted
from taskorch.kernel._contenders import contenders
from taskorch.kernel._deciders import Deciders
from taskorch.kernel._effects import Effect
from taskorch.kernel._evicted import Evicted
from taskorch.kernel._history import remember
from taskorch.kernel._rows import (
    AgentRow,
    AllocationRow,
    Bucket,
    Claim,
    Entry,
    Leak,
    PoolRow,
    RateRow,
    Record,
    Reservation,
    RetainedEvent,
    Share,
    Spec,
    TaskRow,
    Timer,
    TypeRow,
    nonzero,
)
from taskorch.kernel._transitions import TRANSITIONS
from taskorch.model import Agent, PoolStats, Resources, TaskState, Units
from taskorch.protocols import AgentView, Contender, PoolView

if TYPE_CHECKING:
    # For annotations only: the generator comes in from outside.
    from random import Random

_QUEUED: Final = TaskState.QUEUED
_RUNNING: Final = TaskState.RUNNING

#: Buckets, types and records kept before idle ones are forgotten, or counted together.
MANY: Final = 4_096
#: Timers that are not worth a clean-up.
FEW_TIMERS: Final = 1_024
_OTHER: Final = "(other)"


@attrs.frozen
class KernelConfig:
    """What does not change while the kernel lives."""

    concurrency: int = CONCURRENCY
    keep_finished: int = KEEP_FINISHED
    grace_ns: int = int(GRACE_SECONDS * NS)
    poison_attempts: int = POISON_ATTEMPTS
    #: Whether a capability that no agent has is refused, or waited for.
    refuse_unknown: bool = True
    #: Resources of which nobody could say how much there is.
    unknown: tuple[str, ...] = ()
    #: Whether the router lets tasks wait for a busy agent rather than go to one that
    #: only fails: see `_dispatch.better_than`.
    waits_for_better: bool = False


class FaultPoints(Protocol):
    """Protocol: decides where, in a simulation, the unusual but legal happens."""

    def hit(self, name: str) -> bool:
        """Whether the point *name* acts now."""
        ...


class DecisionContext:
    """What every policy is given: see `taskorch.protocols.Context`."""

    __slots__ = ("_kernel", "now_ns", "random")

    def __init__(self, kernel: KernelState, random: Random) -> None:
        self._kernel = kernel
        self.now_ns: int = 0
        self.random: Random = random

    @property
    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        return self.now_ns / 1e9

    @property
    def view(self) -> KernelView:
        """The state around the question."""
        return KernelView(self._kernel)


class KernelView:
    """The state as a policy sees it; read only, and live."""

    __slots__ = ("_kernel",)

    def __init__(self, kernel: KernelState) -> None:
        self._kernel = kernel

    @property
    def queued(self) -> int:
        """Tasks that wait for a slot, an agent or resources."""
        return self._kernel.queued + self._kernel.admitting

    @property
    def running(self) -> int:
        """Attempts under way."""
        return self._kernel.active

    def agents(self) -> Sequence[AgentView]:
        """All agents, in the order in which they joined."""
        return [agent.view for agent in self._kernel.agents.values()]

    def pools(self) -> dict[str, PoolView]:
        """Pools of resources, by name; quotas are left out."""
        pools = self._kernel.pools.items()
        return {name: pool.view for name, pool in pools if not pool.is_quota}

    def contenders(self) -> Sequence[Contender]:
        """The elastic requests that contend; of those that wait, the first first."""
        kernel = self._kernel
        for bucket in kernel.elastic:
            if not bucket.sized:
                kernel.size(bucket)
        slots = kernel.concurrency - kernel.running
        return contenders(kernel.elastic, kernel.holders, kernel.pools, slots)

    def state_of(self, task_id: str) -> TaskState | None:
        """The state of a task, or None if it is not known."""
        row = self._kernel.tasks.get(task_id)
        return self._kernel.evicted.get(task_id) if row is None else row.state


class ShareView:
    """An owner as a policy sees it; read only, and live."""

    __slots__ = ("_kernel", "_share")

    def __init__(self, kernel: KernelState, share: Share) -> None:
        self._kernel = kernel
        self._share = share

    @property
    def name(self) -> str | None:
        """Name of the owner; None for all tasks without an owner."""
        return self._share.owner

    @property
    def running(self) -> int:
        """Number of slots that attempts of the owner hold."""
        return self._share.running

    @property
    def queued(self) -> int:
        """Number of the owner's tasks that wait for a slot, an agent or resources."""
        return self._share.queued

    @property
    def held(self) -> Resources:
        """Resources held for the owner, those of `orch.resources` included."""
        return Resources.from_units(nonzero(self._share.held.items()))

    @property
    def wanted(self) -> Resources:
        """What is held for it, and what its queued tasks ask for."""
        return Resources.from_units(nonzero(self._wanted().items()))

    @property
    def share(self) -> float:
        """The largest part of a pool, or of all slots, that the owner holds."""
        return self._largest(self._share.running, self._share.held)

    @property
    def demand(self) -> float:
        """Dominant share of what the owner holds and wants; more than 1: too little."""
        share = self._share
        return self._largest(share.running + share.queued, self._wanted())

    def _wanted(self) -> dict[str, int]:
        found = dict(self._share.held)
        for bucket in self._share.buckets:
            for name, units in bucket.spec.resources:
                found[name] = found.get(name, 0) + bucket.size * units
        return found

    def _largest(self, slots: int, units: dict[str, int]) -> float:
        kernel = self._kernel
        largest = slots / kernel.concurrency
        for name, many in units.items():
            pool = kernel.pools.get(name)
            if pool is not None and many:
                largest = max(largest, many / max(1, pool.total))
        return largest


def _nothing(cargo: Any, event: Any) -> None:
    """For a driver that keeps nothing."""


class KernelState:
    """
    The state of one orchestrator.

    There are *pools*, in millionths, before the first fact. *random* is for policies.
    """

    # CPython 3.15 finds only the first thirty entries of an object's dict quickly.
    __slots__ = (
        "above",
        "active",
        "admitting",
        "agents",
        "agents_version",
        "allocations",
        "aside_ns",
        "awaited",
        "blocked",
        "bucket_no",
        "buckets",
        "by_hand",
        "cancelled",
        "causes",
        "claims",
        "completed",
        "concurrency",
        "config",
        "context",
        "deciders",
        "deciding",
        "delayed",
        "dropped",
        "effects",
        "elastic",
        "epoch",
        "evicted",
        "failed",
        "faults",
        "filled_slots",
        "finished",
        "growing",
        "hand_over",
        "holders",
        "holds",
        "keep",
        "last",
        "leaked",
        "learns",
        "most_buckets",
        "most_tasks",
        "most_timers",
        "moved",
        "moved_before",
        "not_folded",
        "open",
        "parked",
        "parked_any",
        "paused",
        "pending",
        "plain",
        "points",
        "pools",
        "queued",
        "quotas",
        "rates",
        "remembered",
        "rescanned_at",
        "reservation_shrank",
        "reserved",
        "reserved_at",
        "retained",
        "retries_exhausted",
        "retries_recovered",
        "retries_scheduled",
        "retrying",
        "returning",
        "rigid",
        "room",
        "running",
        "schedules",
        "seq",
        "served",
        "share_no",
        "shares",
        "sink",
        "stale_entries",
        "starts",
        "stopped",
        "submissions",
        "suspended",
        "tasks",
        "tell_completed",
        "tell_ready",
        "tell_started",
        "tell_submitted",
        "timer_no",
        "timers",
        "touched",
        "types",
        "undecided",
        "under_way",
        "vetoed",
        "waiting_slots",
        "watched",
        "workflows",
    )

    def __init__(  # noqa: PLR0915 - all that there is
        self,
        config: KernelConfig,
        deciders: Deciders,
        random: Random,
        pools: Units = (),
    ) -> None:
        self.config: KernelConfig = config
        self.deciders: Deciders = deciders
        self.context: DecisionContext = DecisionContext(self, random)
        self.concurrency: int = config.concurrency
        #: Finished tasks beyond which the oldest leaves memory; a driver may raise it
        #: and say itself when they `evict`.
        self.keep: int = config.keep_finished
        #: Whether the StateMachine wants to be asked about anything.
        self.watched: bool = deciders.watches is None or bool(deciders.watches)
        #: Whether a policy learns, and says what it has chosen for each attempt.
        self.learns: bool = deciders.learns
        #: Whether the allocator grants what fits, whole, and nothing else: then it is
        #: asked only about what fits.
        self.rigid: bool = deciders.rigid
        #: The owners, if the queue says which of them is served first.
        self.shares: dict[str | None, Share] | None = {} if deciders.ranks else None
        self.share_no: int = 0
        #: How often one of them was served.
        self.served: int = 0
        #: The tasks whose attempts hold something, each with when it is expected to
        #: have ended, in ns, once that is known; None: the queue does not backfill.
        self.under_way: dict[TaskRow, int | None] | None = (
            {} if deciders.backfills else None
        )
        #: What is kept for whom, and of which moment that is: see `_backfill`.
        self.reserved: Reservation | None = None
        self.reserved_at: tuple[int, int] | None = None
        #: It leaves more than when others were put off behind it; at which moment they
        #: were looked at again.
        self.reservation_shrank: bool = False
        self.rescanned_at: tuple[int, int] | None = None
        #: Whether a submission needs nobody's consent: see `consider`.
        self.plain: bool = False
        #: Nothing starts before the driver is ready, or while it drains to stop.
        self.stopped: bool = True
        #: Who holds starts back: while how many run (0 is all starts), why, and whether
        #: that outlives this life.
        self.holds: dict[str, tuple[int, str, bool]] = {}
        #: Whether nothing starts, for either reason.
        self.paused: bool = True
        #: How many attempts the system has room for.
        self.room: int = config.concurrency
        #: How long a task steps aside whose start the system had no room for.
        self.aside_ns: int = ASIDE_NS

        self.tasks: dict[str, TaskRow] = {}
        #: How many there were at once, since it was made smaller.
        self.most_tasks: int = MANY
        #: Finished tasks that have left memory.
        self.evicted: Evicted = Evicted()
        #: Those of them that had dependencies, or names of the user's choice.
        self.dropped: list[TaskRow] = []
        self.finished: deque[TaskRow] = deque()
        self.agents: dict[str, AgentRow] = {}
        #: Rises when an agent joins: what was said of the agents is out of date.
        self.agents_version: int = 0
        #: The watched agents that have got more to do, or less, or have failed: the
        #: latest last; and how many there were before these. See `_room`.
        self.moved: list[AgentRow] = []
        self.moved_before: int = 0
        self.pools: dict[str, PoolRow] = {
            name: PoolRow(name, units) for name, units in pools
        }
        #: The schedules: of each its document, and up to when its slots are decided
        #: about, in ns.
        self.schedules: dict[str, tuple[str, int]] = {}
        #: Of each, slots that have come and wait, in their order.
        self.waiting_slots: dict[str, dict[int, None]] = {}
        #: Of each, slots that are not decided about, and have their task already.
        self.filled_slots: dict[str, dict[int, None]] = {}
        #: By keys, whose result it is: the task, its type, its arguments, since when.
        self.remembered: dict[
            str, tuple[str, str, tuple[tuple[str, str], ...], int]
        ] = {}
        #: The quotas: of each that has one, its pools, and what each of them bounds.
        self.quotas: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}
        #: The runs of workflows that have one.
        self.workflows: dict[str, None] = {}
        #: Buckets above their soft quotas, for when nobody else can start:
        #: `(key, seq, bucket)`. And the one of them whose turn it is.
        self.above: list[Entry] = []
        self.last: Bucket | None = None
        #: Of each whose quota says so, how many may start in a time.
        self.rates: dict[tuple[str, str], RateRow] = {}
        #: What people hold, and as whose: as if they ran it on an agent.
        self.allocations: dict[str, AllocationRow] = {}
        self.by_hand: AgentRow = AgentRow(Agent("by-hand"))
        #: Who waits for that.
        self.claims: dict[Claim, None] = {}
        self.buckets: dict[Spec, Bucket] = {}
        #: Those of elastic requests.
        self.elastic: dict[Bucket, None] = {}
        #: The tasks whose attempts hold what was granted of such requests, each with
        #: whether it has come to a checkpoint: then it learns what it holds.
        self.holders: dict[TaskRow, bool] = {}
        #: Something has come free that these may use.
        self.growing: bool = False
        self.bucket_no: int = 0
        self.most_buckets: int = MANY
        self.types: dict[str, TypeRow] = {}
        #: Buckets that may have something to start: `(key, seq, bucket)`. Where owners
        #: share, it is their shares, and each has such a list of its own.
        self.open: list[Entry] = []
        #: How many of these have been replaced by others.
        self.stale_entries: int = 0
        #: Buckets that have something to start, and nowhere to start it.
        self.parked: dict[Bucket, None] = {}
        #: Those of them that a policy put off: asked again when something changes.
        self.parked_any: dict[Bucket, None] = {}
        #: Tasks whose start the StateMachine vetoed, until something changes.
        self.vetoed: dict[TaskRow, None] = {}
        #: Attempts that wait to have their slot again.
        self.returning: deque[TaskRow] = deque()
        #: Attempts that would not stop: what they still hold.
        self.leaked: dict[tuple[str, int], Leak] = {}
        self.timers: list[Timer] = []
        self.timer_no: int = 0
        #: With more than this, those that have lost their meaning are taken out.
        self.most_timers: int = FEW_TIMERS

        #: Slots taken; leaked ones count, those of waiting attempts do not.
        self.running: int = 0
        #: Tasks that are RUNNING.
        self.active: int = 0
        self.queued: int = 0
        #: Tasks of the batch that is being considered.
        self.admitting: int = 0
        self.pending: int = 0
        self.retrying: int = 0
        self.blocked: int = 0
        self.suspended: int = 0
        self.completed: int = 0
        self.failed: int = 0
        self.cancelled: int = 0
        self.submissions: int = 0
        #: The number of this life of the orchestrator: see `recover`.
        self.epoch: int = 1
        #: Parents of a batch that is being folded, before their own submissions.
        self.not_folded: dict[str, TaskRow] = {}
        #: Tasks about which something is to be decided since the fate of a parent has
        #: changed, each with why: see `_joins`.
        self.undecided: deque[tuple[TaskRow, str]] = deque()
        #: They are being decided about, or the facts that are folded say it.
        self.deciding: bool = False
        #: Tasks that wait, by their events; and events that nobody waited for.
        self.awaited: dict[str, dict[TaskRow, None]] = {}
        self.retained: dict[str, RetainedEvent] = {}
        #: Called when a wait ends well, before that is told, with the cargo of the task
        #: and that of its event (None: its time is over).
        self.hand_over: Callable[[Any, Any], object] = _nothing
        #: Places in our own code where a simulation makes the unusual happen.
        self.points: FaultPoints | None = None
        #: PENDING tasks that wait only for a time, and RETRYING ones.
        self.delayed: int = 0
        self.retries_scheduled: int = 0
        self.retries_recovered: int = 0
        self.retries_exhausted: int = 0
        self.causes: dict[str, int] = {}
        #: Of each part of the user's that has failed in this life: how often, when the
        #: last time, and what it raised then.
        self.faults: dict[str, tuple[int, int, str]] = {}

        self.seq: int = 0
        #: Where facts go, as `(fact, cargo)`; None: nobody listens.
        self.sink: list[tuple[Fact, Any]] | None = None
        self.tell_submitted: bool = False
        self.tell_started: bool = False
        self.tell_completed: bool = False
        self.tell_ready: bool = False
        self.starts: list[TaskRow] = []
        self.effects: list[Effect] = []
        #: Tasks, with their cargo, that ended or were blocked otherwise than plainly.
        self.touched: list[tuple[TaskRow, Any]] = []

    # -- the smallest steps --------------------------------------------------------

    def note(self, cls: type[Event], now: int, *fields: Any, cargo: Any = None) -> None:
        """Record a fact of *cls*: *fields* are those after its number and its time."""
        self.seq += 1
        if self.sink is not None:
            made: Any = cls
            self.sink.append((made(self.seq, now, *fields), cargo))

    def move(self, row: TaskRow, after: TaskState, now: int, detail: str = "") -> None:
        """
        Change the state of *row*, with its counters and its history.

        The plain path changes them in place instead.
        """
        before = row.state
        if after not in TRANSITIONS[before]:
            msg = f"{row.id}: no transition from {before} to {after}"
            raise InternalError(msg)
        self.count(before, -1)
        self.count(after, 1)
        remember(row, after, now, detail)
        row.state = after

    def count(self, state: TaskState, change: int) -> None:
        """Adjust the counter of *state*; queued tasks are counted by `enqueue`."""
        if state is _RUNNING:
            self.active += change
        elif state is not _QUEUED:
            name = state.value
            setattr(self, name, getattr(self, name) + change)

    def listen(
        self,
        sink: list[tuple[Fact, Any]] | None,
        classes: frozenset[type[Event]],
        *,
        ready: bool = False,
    ) -> None:
        """
        Send facts to *sink*; of the three frequent ones only those in *classes*.

        If *ready*, it gets a `TaskReady` for each task that is queued, too.
        """
        self.sink = sink
        self.tell_submitted = sink is not None and TaskSubmitted in classes
        self.tell_started = sink is not None and TaskStarted in classes
        self.tell_completed = sink is not None and TaskCompleted in classes
        self.tell_ready = sink is not None and ready

    def type_row(self, name: str) -> TypeRow:
        """The row of a type of task."""
        found = self.types.get(name)
        if found is None:
            if len(self.types) >= MANY:
                name = _OTHER
            found = self.types.setdefault(name, TypeRow())
        return found

    def record(self, agent: AgentRow, task_type: str) -> Record:
        """The record of *agent* at *task_type*."""
        found = agent.records.get(task_type)
        if found is None:
            if len(agent.records) >= MANY:
                task_type = _OTHER
            found = agent.records.setdefault(task_type, Record())
        return found

    def size(self, bucket: Bucket) -> None:
        """Find out what the elastic requests of *bucket* wait for: their least."""
        spec = bucket.spec
        assert spec.elastic is not None  # noqa: S101 - all others wait for all
        least = dict(self.deciders.least(spec.resources, spec.elastic))
        # What no pool has is the agents' own, and nobody divides that.
        bucket.need = tuple(
            (name, least.get(name, units) if name in self.pools else units)
            for name, units in spec.resources
        )
        bucket.sized = True

    # -- questions -----------------------------------------------------------------

    def row(self, task_id: str) -> TaskRow:
        """
        The row of a task in memory.

        Raises:
            KeyError: There is none.
        """
        return self.tasks[task_id]

    def next_due(self) -> int | None:
        """When `tick` has something to do, in ns, or None."""
        return self.timers[0][0] if self.timers else None

    def pool_stats(self) -> dict[str, PoolStats]:
        """The pools as values."""
        return {
            name: PoolStats(pool.total / 1e6, pool.used / 1e6)
            for name, pool in self.pools.items()
            if not pool.is_quota
        }

    def quiescent(self) -> bool:
        """Whether nothing can proceed without input from outside."""
        if self.active or self.delayed:
            return False
        # A token comes by itself.
        return not any(rate.is_awaited() for rate in self.rates.values())
