"""
State of an orchestrator, the table of transitions, and tasks out of memory.

Decision: kernel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, cast

import attrs

from taskorch.core.kernel._deciders import Deciders, Ruling, contenders
from taskorch.core.kernel._history import Effect, remember
from taskorch.core.kernel._rows import (
    AllocationRow,
    Bucket,
    BudgetRow,
    Claim,
    Entry,
    Leak,
    PoolRow,
    Record,
    Reserving,
    RetainedEvent,
    Share,
    Shares,
    Spec,
    StartLimit,
    TaskRow,
    Timer,
    TypeRow,
    WorkerRow,
    name_units,
    nonzero,
)
from taskorch.errors import InternalError
from taskorch.events import (
    CAUSED,
    Event,
    TaskCompleted,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.kit.limits import (
    ASIDE_NS,
    CONCURRENCY,
    GRACE_SECONDS,
    KEEP_FINISHED,
    NS,
    POISON_ATTEMPTS,
)
from taskorch.model import (
    TERMINAL,
    Agent,
    PoolStats,
    Resources,
    TaskState,
    UnitNames,
    Units,
)
from taskorch.protocols import AgentView, Contender, PoolView

if TYPE_CHECKING:
    from random import Random


# -- states of finished tasks that have left memory ------------------------------------


#: The states by their number; 0 stands for none.
_STATES: Final[tuple[TaskState | None, ...]] = (None, *TaskState)
#: The bits of such a number.
_BITS: Final = 4
_MASK: Final = (1 << _BITS) - 1
#: The bits of a digest: with those of the state it is an integer of 32 bytes.
DIGEST_BITS: Final = 60 - _BITS
_BYTES: Final = {state: _STATES.index(state) for state in TaskState}
_COMPLETED: Final = TaskState.COMPLETED
_BYTE_OF_COMPLETED: Final = _BYTES[_COMPLETED]
#: How far a number may be beyond the end of its series, and by how much that grows
#: then: each number takes a byte, whether it is used or not.
_GAP: Final = 1_000_000
_MORE: Final = 1_000
#: A stem that no id has.
_NO_STEM: Final = "\n"


class Evicted:
    """States of tasks by id, in little memory, since they stay as long as the kernel.

    An id that the driver made is a stem, `3f0c52a1b7-`, and a number: such a task takes
    a byte. Any other takes an entry of a dict, about a hundred bytes. There, the driver
    may note a digest of a task whose name the user chose.
    """

    __slots__ = ("_latest", "_series", "_stem", "by_id")

    def __init__(self) -> None:
        #: Tasks in no series, such as tasks of runs or with names of the user: the
        #: number of the state, and above its bits the digest that was noted.
        self.by_id: dict[str, int] = {}
        #: The series by stem; each has a byte for every number.
        self._series: dict[str, bytearray] = {}
        #: The stem and the series of the latest task, since the next is mostly in the
        #: same.
        self._stem: str = _NO_STEM
        self._latest: bytearray = bytearray()

    def add(self, task_id: str, state: TaskState, *, named: bool) -> None:
        """Add a task that leaves memory; *named* says that the user chose its name.

        Any other name ends in a dash and a number as `str` writes it.
        """
        if not named and (task_id.startswith(self._stem) or self._turn_to(task_id)):
            try:
                number = int(task_id[len(self._stem) :])
            except ValueError:
                number = -1
            if 0 <= number < len(self._latest) or self._reaches(number):
                self._latest[number] = (
                    _BYTE_OF_COMPLETED if state is _COMPLETED else _BYTES[state]
                )
                return
        self.by_id[task_id] = _BYTES[state]

    def note_digest(self, task_id: str, digest: int) -> None:
        """
        Note a digest of a task that has left memory and whose name the user chose.

        Args:
            task_id: Its id.
            digest: The driver's own: an odd number of at most `DIGEST_BITS`.
        """
        self.by_id[task_id] |= digest << _BITS

    def digest(self, task_id: str) -> int | None:
        """Return the digest noted for a task, or None."""
        return self.by_id.get(task_id, 0) >> _BITS or None

    def _turn_to(self, task_id: str) -> bool:
        """Continue the series of *task_id*; return False if it fits none."""
        stem = _stem_of(task_id)
        if stem:
            self._stem = stem
            self._latest = self._series.setdefault(stem, bytearray())
        return stem != ""

    def _reaches(self, number: int) -> bool:
        """Extend the series up to *number*; return False if it is out of reach."""
        missing = number - len(self._latest)
        if not 0 <= missing <= _GAP:
            return False
        self._latest.extend(bytes(missing + _MORE))
        return True

    def update(self, ended: Iterable[tuple[str, TaskState]]) -> None:
        """Add tasks that have left memory."""
        for task_id, state in ended:
            if task_id not in self:
                self.by_id[task_id] = _BYTES[state]

    def discard(self, task_id: str) -> None:
        """Remove one id, if it is known."""
        if self.by_id.pop(task_id, None) is None and self.get(task_id) is not None:
            stem = _stem_of(task_id)
            self._series[stem][_number(task_id[len(stem) :])] = 0

    def clear(self) -> None:
        """Remove all ids."""
        self.by_id.clear()
        self._series.clear()
        self._stem = _NO_STEM

    def get(self, task_id: object) -> TaskState | None:
        """Return how a task ended; None if no such task has left memory."""
        if not isinstance(task_id, str):
            return None
        known = self.by_id.get(task_id)
        if known is not None:
            return _STATES[known & _MASK]
        stem = _stem_of(task_id)
        series = self._series.get(stem)
        if series is not None:
            number = _number(task_id[len(stem) :])
            if 0 <= number < len(series):
                return _STATES[series[number]]
        return None

    def isdisjoint(self, ids: Collection[Any]) -> bool:
        """Return whether none of *ids*, which may contain None, is known here."""
        if not self.by_id.keys().isdisjoint(ids):
            return False
        stems = tuple(self._series)
        for task_id in ids:
            if task_id is None or not task_id.startswith(stems):
                continue
            if self.get(task_id) is not None:
                return False
        return True

    def items(self) -> Iterator[tuple[str, TaskState]]:
        """Yield the ids and the states."""
        for task_id, known in self.by_id.items():
            yield task_id, cast("TaskState", _STATES[known & _MASK])
        for stem, series in self._series.items():
            for number in range(len(series)):
                state = _STATES[series[number]]
                if state is not None:
                    yield f"{stem}{number}", state

    def __contains__(self, task_id: object) -> bool:
        return self.get(task_id) is not None

    def __len__(self) -> int:
        taken = [len(series) - series.count(0) for series in self._series.values()]
        return len(self.by_id) + sum(taken)


def _stem_of(task_id: str) -> str:
    """Return the part of an id before its final number; "" if there is no dash."""
    return task_id[: task_id.rfind("-") + 1]


def _number(digits: str) -> int:
    """Return the number that *digits* is the canonical form of, or -1."""
    try:
        number = int(digits)
    except ValueError:
        return -1
    return number if str(number) == digits else -1


# -- the table of states: the changes that may follow, as data, in one place -----------

# The table is fixed. A user's StateMachine can forbid a transition, never add one. The
# table in the docs is made of it. `_table`, in a higher layer, names the event and the
# function for each change.


_S = TaskState

#: State before (None: not submitted yet) → states that may follow.
TRANSITIONS: Final[dict[TaskState | None, tuple[TaskState, ...]]] = {
    None: (_S.PENDING, _S.QUEUED, _S.BLOCKED),
    _S.PENDING: (_S.QUEUED, _S.BLOCKED, _S.SUSPENDED, _S.FAILED, _S.CANCELLED),
    # PENDING: a parent runs again. BLOCKED: after a restart, no worker can do it.
    # RETRYING: its attempt of unknown end had failed.
    _S.QUEUED: (
        _S.PENDING,
        _S.RUNNING,
        _S.RETRYING,
        _S.BLOCKED,
        _S.SUSPENDED,
        _S.FAILED,
        _S.CANCELLED,
    ),
    _S.RUNNING: (
        _S.COMPLETED,
        _S.RETRYING,
        _S.SUSPENDED,
        _S.BLOCKED,
        _S.FAILED,
        _S.CANCELLED,
    ),
    _S.RETRYING: (_S.QUEUED, _S.SUSPENDED, _S.FAILED, _S.CANCELLED),
    # SUSPENDED: it waits for an event.
    _S.BLOCKED: (
        _S.PENDING,
        _S.QUEUED,
        _S.SUSPENDED,
        _S.COMPLETED,
        _S.FAILED,
        _S.CANCELLED,
    ),
    _S.SUSPENDED: (
        _S.PENDING,
        _S.QUEUED,
        _S.RUNNING,
        _S.RETRYING,
        _S.BLOCKED,
        # The event that it waits for has come.
        _S.COMPLETED,
        _S.FAILED,
        _S.CANCELLED,
    ),
    _S.COMPLETED: (),
    _S.FAILED: (),
    _S.CANCELLED: (),
}


def diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    for before, afters in TRANSITIONS.items():
        lines += [f"    {before or '[*]'} --> {after}" for after in afters]
    lines += [f"    {state} --> [*]" for state in TaskState if state in TERMINAL]
    return "\n".join(lines)


# -- the state of the kernel, and the smallest steps that change it --------------------

# Every command (in `_control`, `_attempts`, …) is a function of this state, and nothing
# else writes to it. `Kernel` lists the commands.


_QUEUED: Final = TaskState.QUEUED
_RUNNING: Final = TaskState.RUNNING

#: Buckets, types and records kept before idle ones are forgotten, or counted together.
MANY: Final = 4_096
#: The number of obsolete timers below which the heap is not rebuilt.
FEW_TIMERS: Final = 1_024
#: Kinds of timers (`_queue` has others): an attempt has run for its timeout.
TIMEOUT: Final = 0
#: An attempt that was asked to stop has not stopped within its grace.
GRACE: Final = 1
#: The lease of a worker may be over.
LEASE: Final = 5
_OTHER: Final = "(other)"


@attrs.frozen
class KernelConfig:
    """Settings that do not change during a run of the program."""

    concurrency: int = CONCURRENCY
    keep_finished: int = KEEP_FINISHED
    grace_ns: int = int(GRACE_SECONDS * NS)
    poison_attempts: int = POISON_ATTEMPTS
    #: True if a capability that no worker has is refused, and False if tasks wait for
    #: it.
    refuse_unknown: bool = True
    #: Resources whose total could not be found out.
    unknown: tuple[str, ...] = ()
    #: True if the router lets tasks wait for a busy worker rather than use one that
    #: only fails: see `_limits.better_than`.
    waits_for_better: bool = False


class FaultPoints(Protocol):
    """Protocol: decides where, in a simulation, rare but legal faults happen."""

    def hit(self, name: str) -> bool:
        """Return whether the fault at point *name* happens now."""
        ...


class DecisionContext:
    """Context that every policy is given: see `taskorch.protocols.Context`."""

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
        """Tasks that wait for a slot, a worker or resources."""
        return self._kernel.queued + self._kernel.admitting

    @property
    def running(self) -> int:
        """Attempts under way."""
        return self._kernel.active

    def agents(self) -> Sequence[AgentView]:
        """Return all workers, in the order in which they joined."""
        return [worker.view for worker in self._kernel.workers.values()]

    def pools(self) -> dict[str, PoolView]:
        """Return the pools of resources by name, without quotas."""
        pools = self._kernel.pools.items()
        return {name: pool.view for name, pool in pools if not pool.is_quota}

    def contenders(self) -> Sequence[Contender]:
        """Return the elastic requests that contend, waiting ones in their order."""
        kernel = self._kernel
        for bucket in kernel.elastic:
            if not bucket.sized:
                kernel.size(bucket)
        slots = kernel.concurrency - kernel.running
        return contenders(kernel.elastic, kernel.holders, kernel.pools, slots)

    def state_of(self, task_id: str) -> TaskState | None:
        """Return the state of a task, or None if it is not known."""
        row = self._kernel.tasks.get(task_id)
        return self._kernel.evicted.get(task_id) if row is None else row.state


class ShareView:
    """A tenant as a policy sees it; read only, and live."""

    __slots__ = ("_kernel", "_share")

    def __init__(self, kernel: KernelState, share: Share) -> None:
        self._kernel = kernel
        self._share = share

    @property
    def name(self) -> str | None:
        """Name of the tenant; None for all tasks without a tenant."""
        return self._share.owner

    @property
    def running(self) -> int:
        """Number of slots that attempts of the tenant hold."""
        return self._share.running

    @property
    def queued(self) -> int:
        """Number of the tenant's tasks that wait for a slot, a worker or resources."""
        return self._share.queued

    @property
    def held(self) -> Resources:
        """Resources held for the tenant, those of `orch.resources` included."""
        return Resources.from_units(nonzero(self._share.held.items()))

    @property
    def wanted(self) -> Resources:
        """Resources that the tenant holds, plus those that its queued tasks ask for."""
        return Resources.from_units(nonzero(self._wanted().items()))

    @property
    def share(self) -> float:
        """The largest part of a pool, or of all slots, that the tenant holds."""
        return self._largest(self._share.running, self._share.held)

    @property
    def demand(self) -> float:
        """Dominant share of held and wanted resources; above 1, there is too little."""
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
    """Ignore the call, for a driver that keeps nothing."""


def _nobody(_: Any) -> str:
    """Return "", for a driver that does not know who may answer."""
    return ""


class KernelState:
    """The state of one orchestrator.

    *pools* exist before the first event, with totals in millionths; some have *named*
    units. *random* is for policies.
    """

    #: The classes of limits that every kernel has.
    _first_limits: ClassVar[tuple[type[StartLimit], ...]] = ()

    # CPython 3.15 finds only the first thirty entries of an object's dict quickly.
    __slots__ = (
        "above",
        "active",
        "admitting",
        "allocations",
        "aside_ns",
        "asked",
        "awaited",
        "beside",
        "blocked",
        "bucket_no",
        "buckets",
        "budgets",
        "by_hand",
        "caller",
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
        "denied",
        "dropped",
        "effects",
        "elastic",
        "epoch",
        "evicted",
        "failed",
        "faults",
        "finished",
        "growing",
        "hand_over",
        "has_accounts",
        "has_units",
        "holders",
        "holds",
        "judged",
        "keep",
        "kept",
        "last",
        "leaked",
        "learns",
        "limits",
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
        "reserving",
        "retained",
        "retries_exhausted",
        "retries_recovered",
        "retries_scheduled",
        "retrying",
        "returning",
        "rigid",
        "room",
        "ruling",
        "running",
        "runs",
        "seq",
        "shares",
        "sink",
        "spent",
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
        "vetoed",
        "watched",
        "whom",
        "workers",
        "workers_version",
        "workflows",
    )

    def __init__(  # noqa: PLR0915 - all that there is
        self,
        config: KernelConfig,
        deciders: Deciders,
        random: Random,
        pools: Units = (),
        named: UnitNames = (),
    ) -> None:
        #: The settings, which do not change.
        self.config: KernelConfig = config
        #: The user's policies, the seven and related ones.
        self.deciders: Deciders = deciders
        #: The context that they get with every question.
        self.context: DecisionContext = DecisionContext(self, random)
        #: How many attempts may run: the `room`, or less while starts are held.
        #: Checked: `check_books`.
        self.concurrency: int = config.concurrency
        #: The number of finished tasks beyond which the oldest leaves memory; a driver
        #: may raise it and call `evict` itself.
        self.keep: int = config.keep_finished
        #: True if the StateMachine wants to be asked about any transition.
        self.watched: bool = deciders.watches is None or bool(deciders.watches)
        #: True if a policy learns, and names its choice for each attempt.
        self.learns: bool = deciders.learns
        #: True if the allocator grants requests whole if they fit: then it is asked
        #: only about those.
        self.rigid: bool = deciders.rigid
        #: The shares of the tenants, if the queue ranks them; else None, and every
        #: bucket stands in `open` itself. Checked: `check_shares`.
        self.shares: Shares | None = Shares() if deciders.ranks else None
        #: The state of backfill scheduling; None if later tasks never pass.
        self.reserving: Reserving | None = Reserving() if deciders.backfills else None
        #: True if the resources of each attempt are counted, for a share or for a
        #: reservation.
        self.has_accounts: bool = deciders.ranks or deciders.backfills
        #: True if a submission needs no policy's consent: see `consider`.
        self.plain: bool = False
        #: True while nothing starts, since the driver is not ready, or drains to stop.
        self.stopped: bool = True
        #: The holds of starts by name: how many may run (0 is none), why, and whether
        #: the hold outlives this incarnation. Attempts under way go on. Checked:
        #: `check_books`.
        self.holds: dict[str, tuple[int, str, bool]] = {}
        #: True if nothing starts: it is `stopped`, or one of the `holds` allows no
        #: start.
        self.paused: bool = True
        #: How many attempts the system has room for: at most the configured number.
        #: Checked: `check_books`.
        self.room: int = config.concurrency
        #: How long a task steps aside if the system had no room for its start.
        self.aside_ns: int = ASIDE_NS

        #: Every task in memory, by its id; none of them is `evicted`. All checks count
        #: from these.
        self.tasks: dict[str, TaskRow] = {}
        #: The largest number of tasks in memory since the dict was last made smaller.
        self.most_tasks: int = MANY
        #: Finished tasks that have left memory, and their states; none of them is in
        #: `tasks`. The counters of `completed`, `failed` or `cancelled` include them.
        #: Checked: `check_counters`.
        self.evicted: Evicted = Evicted()
        #: Evicted tasks with dependencies, or with names that the user chose.
        self.dropped: list[TaskRow] = []
        #: The tasks in memory that have ended, in order: the first leaves memory next.
        #: Checked: `check_counters`.
        self.finished: deque[TaskRow] = deque()
        #: Every worker that has ever joined, by its name; one that is away is `lost`.
        #: Checked: `check_books`, `check_leases`.
        self.workers: dict[str, WorkerRow] = {}
        #: A version that rises when a worker joins: older answers about workers are out
        #: of date.
        self.workers_version: int = 0
        #: The watched workers whose load has changed, or that have failed, the latest
        #: last. See `_limits`. Checked: `check_room`.
        self.moved: list[WorkerRow] = []
        #: How many entries were dropped before these. Checked: `check_room`.
        self.moved_before: int = 0
        #: Each pool by its name, with those of quotas. Its use exceeds its total only
        #: by amounts held when the total became less. Checked: `check_books`.
        self.pools: dict[str, PoolRow] = {
            name: PoolRow(name, units) for name, units in pools
        }
        #: Hidden pools, which no policy sees, by name: locks of paths (see `_scopes`),
        #: budgets, and named units. Checked: `check_scopes`, `check_units`.
        self.beside: dict[str, PoolRow] = {}
        #: True if any units have names, or had: see `_units`.
        self.has_units: bool = named != ()
        for name, names in named:
            pool = self.pools.setdefault(name, PoolRow(name, 0))
            name_units(self.beside, pool, name, names)
        #: The limits beside slots, workers and pools, in the order in which they are
        #: asked: see `_queue.add_limit`.
        self.limits: tuple[StartLimit, ...] = tuple(
            [limit() for limit in self._first_limits]
        )
        #: The budgets: see `_budgets`. Checked: `check_budgets`.
        self.budgets: dict[str, BudgetRow] = {}
        #: Budgets that attempts have drawn on since the last dispatch.
        self.spent: dict[str, None] = {}
        #: Documents of extensions, as texts, by the names of the extensions and their
        #: keys; in the order of their latest events. Checked: `check_kept`.
        self.kept: dict[str, dict[str, str]] = {}
        #: The runs of workflows: for each, the ids of its tasks that are, or have been,
        #: in memory, in the order of their submission. Checked: `check_runs`.
        self.runs: dict[str, list[str]] = {}
        #: The pools of each quota, each with the resource that it bounds.
        self.quotas: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}
        #: The runs of workflows that have a quota.
        self.workflows: dict[str, None] = {}
        #: Buckets above their soft quotas, for when nobody else can start: `(key, seq,
        #: bucket)`. They are `parked`, too. Checked: `check_parking`.
        self.above: list[Entry] = []
        #: The bucket of `above` whose turn it is.
        self.last: Bucket | None = None
        #: Allocations by hand, by id; the `claims` have none yet. Checked:
        #: `check_books`.
        self.allocations: dict[str, AllocationRow] = {}
        #: A stand-in worker without slots that holds the allocations by hand. Checked:
        #: `check_books`.
        self.by_hand: WorkerRow = WorkerRow(Agent("by-hand"))
        #: The claims that wait for an allocation, in order.
        self.claims: dict[Claim, None] = {}
        #: The bucket that gets the next task of each spec.
        self.buckets: dict[Spec, Bucket] = {}
        #: The buckets of elastic requests.
        self.elastic: dict[Bucket, None] = {}
        #: The tasks whose attempts hold an elastic grant, each with True once it has
        #: come to a checkpoint, where it learns its grant. Checked: `check_holders`.
        self.holders: dict[TaskRow, bool] = {}
        #: True if resources have come free that the tasks in `holders` may use.
        self.growing: bool = False
        #: How many buckets there have been.
        self.bucket_no: int = 0
        #: The number of buckets above which empty ones are dropped.
        self.most_buckets: int = MANY
        #: All types of tasks so far, by name.
        self.types: dict[str, TypeRow] = {}
        #: Buckets that may have something to start: `(key, seq, bucket)`. If tenants
        #: share, these are their shares, and each has such a list of its own. None of
        #: them is in `parked`. Entries that are not their bucket's any more are stale.
        #: Checked: `check_parking`, `check_shares`.
        self.open: list[Entry] = []
        #: How many entries of `open` have been replaced.
        self.stale_entries: int = 0
        #: Buckets with queued tasks but no room for them; none of them has an entry in
        #: `open`. Their `places` wake them. Checked: `check_parking`.
        self.parked: dict[Bucket, None] = {}
        #: Buckets that a policy has put off, asked again when something changes. Some
        #: may be open again since.
        self.parked_any: dict[Bucket, None] = {}
        #: QUEUED tasks whose start the StateMachine vetoed, until something changes;
        #: none of them stands in its bucket. Checked: `check_queues`.
        self.vetoed: dict[TaskRow, None] = {}
        #: Attempts that wait for their slot again; of those that have ended since,
        #: `yielded` is False.
        self.returning: deque[TaskRow] = deque()
        #: Resources of attempts that did not stop, by task and number. They are not in
        #: the row any more. Checked: `check_books`, `check_holders`.
        self.leaked: dict[tuple[str, int], Leak] = {}
        #: A heap of timers by time; an obsolete one stays until it is due, or there are
        #: `most_timers`.
        self.timers: list[Timer] = []
        #: How many timers there have been.
        self.timer_no: int = 0
        #: The number of timers above which obsolete ones are taken out.
        self.most_timers: int = FEW_TIMERS

        #: Slots taken; those of `leaked` attempts count, those of attempts that wait do
        #: not. Checked: `check_books`.
        self.running: int = 0
        #: Tasks that are RUNNING. Checked: `check_counters`.
        self.active: int = 0
        #: Tasks that are QUEUED: each in its bucket, or `vetoed`. Checked:
        #: `check_counters`.
        self.queued: int = 0
        #: Tasks of the batch that is being considered.
        self.admitting: int = 0
        #: Tasks that are PENDING. Checked: `check_counters`.
        self.pending: int = 0
        #: Tasks that are RETRYING. Checked: `check_counters`.
        self.retrying: int = 0
        #: Tasks that are BLOCKED: by parents, for a person, or as waits. Checked:
        #: `check_counters`.
        self.blocked: int = 0
        #: Tasks that are SUSPENDED; some attempts of them are stopped in place.
        #: Checked: `check_counters`.
        self.suspended: int = 0
        #: Tasks that are COMPLETED, those that are `evicted` too. Checked:
        #: `check_counters`.
        self.completed: int = 0
        #: Tasks that are FAILED, those that are `evicted` too. Checked:
        #: `check_counters`.
        self.failed: int = 0
        #: Tasks that are CANCELLED, those that are `evicted` too. Checked:
        #: `check_counters`.
        self.cancelled: int = 0
        #: How many tasks were ever submitted, which is the `seq` of the next.
        self.submissions: int = 0
        #: The number of this incarnation of the orchestrator: see `recover`.
        self.epoch: int = 1
        #: Parents of a batch that is being folded, before their own submissions.
        self.not_folded: dict[str, TaskRow] = {}
        #: Tasks to decide about, since the end of a parent has changed, each with a
        #: reason: see `_ends`. None after a command. Checked: `check_waits`.
        self.undecided: deque[tuple[TaskRow, str]] = deque()
        #: True while `decide` runs, or while events are folded; else nothing is
        #: `undecided`. Checked: `check_waits`.
        self.deciding: bool = False
        #: Tasks that await an event now, by its name. Checked: `check_waits`.
        self.awaited: dict[str, dict[TaskRow, None]] = {}
        #: Tasks about which people are asked, longest wait first: waits for answers,
        #: some of them suspended, and failures. Checked: `check_asked`.
        self.asked: dict[TaskRow, None] = {}
        #: Events that no task waited for, by name, until their time is over. Checked:
        #: `check_waits`.
        self.retained: dict[str, RetainedEvent] = {}
        #: Called when a wait ends well, before that is told, with the cargo of the task
        #: and that of its event (None if its time is over).
        self.hand_over: Callable[[Any, Any], object] = _nothing
        #: Returns, in words, who may answer a question, given the cargo of its task.
        self.whom: Callable[[Any], str] = _nobody
        #: Places in our code where a simulation causes rare faults.
        self.points: FaultPoints | None = None
        #: PENDING tasks that wait only for a time, RETRYING ones, and waits with a
        #: timeout. Checked: `check_counters`.
        self.delayed: int = 0
        #: How many retries have followed a failure.
        self.retries_scheduled: int = 0
        #: How many tasks have completed after a failure.
        self.retries_recovered: int = 0
        #: How many tasks have failed for good after a retry.
        self.retries_exhausted: int = 0
        #: How many tasks have failed, by the cause.
        self.causes: dict[str, int] = {}
        #: For each policy that has failed in this incarnation: how often, when last,
        #: and its last error.
        self.faults: dict[str, tuple[int, int, str]] = {}

        #: True if rules are asked before starts: see `Deciders.judge`.
        self.judged: bool = False
        #: The ruling on the start that is under way; None if no rules were asked.
        self.ruling: Ruling | None = None
        #: Tasks that rules keep from starting, on hold until they allow it. Checked:
        #: `check_asked`.
        self.denied: dict[TaskRow, None] = {}

        #: The number of the latest event.
        self.seq: int = 0
        #: The proved name of the caller of the present command, or "".
        self.caller: str = ""
        #: The list for events, as `(event, cargo)`; None if nobody listens.
        self.sink: list[tuple[Event, Any]] | None = None
        #: True if `TaskSubmitted` is made, since somebody listens for it. So with the
        #: next two.
        self.tell_submitted: bool = False
        self.tell_started: bool = False
        self.tell_completed: bool = False
        #: True if a `TaskReady` is made for each task that is queued.
        self.tell_ready: bool = False
        #: Tasks whose attempts the driver is to begin; RUNNING already.
        self.starts: list[TaskRow] = []
        #: Further effects for the driver, in order.
        self.effects: list[Effect] = []
        #: Tasks, with their cargo, that ended or were blocked outside the usual path.
        self.touched: list[tuple[TaskRow, Any]] = []

    # -- the smallest steps --------------------------------------------------------

    def note(
        self,
        cls: type[Event],
        now: int,
        *fields: Any,
        cargo: Any = None,
        **others: Any,
    ) -> None:
        """Record an event of *cls*: *fields* are those after its number and its time.

        *others* has fields by name that are not positional.
        """
        self.seq += 1
        if self.sink is not None:
            made: Any = cls
            if self.caller and cls in CAUSED:
                event = made(self.seq, now, *fields, caller=self.caller, **others)
            else:
                event = made(self.seq, now, *fields, **others)
            self.sink.append((event, cargo))

    def move(self, row: TaskRow, after: TaskState, now: int, detail: str = "") -> None:
        """
        Change the state of *row*, with its counters and its history.

        The usual path (`_quick`) changes them in place instead.
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
        sink: list[tuple[Event, Any]] | None,
        classes: frozenset[type[Event]],
        *,
        ready: bool = False,
    ) -> None:
        """
        Send events to *sink*; of the three frequent ones only those in *classes*.

        If *ready*, it gets a `TaskReady` for each task that is queued, too.
        """
        self.sink = sink
        self.tell_submitted = sink is not None and TaskSubmitted in classes
        self.tell_started = sink is not None and TaskStarted in classes
        self.tell_completed = sink is not None and TaskCompleted in classes
        self.tell_ready = sink is not None and ready

    def type_row(self, name: str) -> TypeRow:
        """Return the row of a type of task."""
        found = self.types.get(name)
        if found is None:
            if len(self.types) >= MANY:
                name = _OTHER
            found = self.types.setdefault(name, TypeRow())
        return found

    def record(self, worker: WorkerRow, task_type: str) -> Record:
        """Return the record of *worker* at *task_type*."""
        found = worker.records.get(task_type)
        if found is None:
            if len(worker.records) >= MANY:
                task_type = _OTHER
            found = worker.records.setdefault(task_type, Record())
        return found

    def size(self, bucket: Bucket) -> None:
        """Find the least amounts that the elastic requests of *bucket* wait for."""
        spec = bucket.spec
        assert spec.elastic is not None  # noqa: S101 - all others wait for all
        least = dict(self.deciders.least(spec.resources, spec.elastic))
        # A resource without a pool is of the workers' own, and nobody divides it.
        bucket.need = tuple(
            (name, least.get(name, units) if name in self.pools else units)
            for name, units in spec.resources
        )
        bucket.sized = True

    # -- questions -----------------------------------------------------------------

    def row(self, task_id: str) -> TaskRow:
        """
        Return the row of a task in memory.

        Raises:
            KeyError: No such task is in memory.
        """
        return self.tasks[task_id]

    def next_due(self) -> int | None:
        """Return the time in ns at which `tick` has work, or None."""
        return self.timers[0][0] if self.timers else None

    def may_end_attempts(self, now: int) -> bool:
        """Return whether a timer due by *now* may end an attempt."""
        if not self.timers:
            return False
        when, _, kind, *_ = self.timers[0]
        return when <= now and kind in (TIMEOUT, GRACE, LEASE)

    def pool_stats(self) -> dict[str, PoolStats]:
        """Return the pools as values, and budgets by their names and resources."""
        stats = {
            name: PoolStats(pool.total / 1e6, pool.used / 1e6)
            for name, pool in self.pools.items()
            if not pool.is_quota
        }
        for name, budget in self.budgets.items():
            for resource, pool in budget.pools.items():
                amounts = pool.total, pool.used, budget.spent[resource]
                total, used, spent = (units / 1e6 for units in amounts)
                stats[f"budget {name}: {resource}"] = PoolStats(total, used, spent)
        return stats

    def quiescent(self) -> bool:
        """Return whether nothing can proceed without input from outside."""
        if self.active or self.delayed:
            return False
        return not any(limit.is_timed for limit in self.limits)

    def waits_for_leaks(self) -> bool:
        """Return whether queued tasks may start once leaked attempts end."""
        leaks = self.leaked.values()
        if not leaks or self.paused:
            return False
        if self.open and self.running >= self.concurrency:
            return True
        workers = {leak.worker for leak in leaks}
        names = {name for leak in leaks for name, _ in leak.alloc}
        return any(
            place.worker in workers or (place.pool and place.pool.name in names)
            for bucket in self.buckets.values()
            if bucket.parked is not None
            for place in bucket.places()
        )
