"""
The state of an orchestrator, which states follow which, and what has left memory.

Decision: 0036.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, cast

import attrs

from taskorch.errors import InternalError
from taskorch.events import (
    CAUSED,
    Event,
    Fact,
    TaskCompleted,
    TaskStarted,
    TaskSubmitted,
)
from taskorch.kernel._deciders import Deciders, Ruling, contenders
from taskorch.kernel._history import Effect, remember
from taskorch.kernel._rows import (
    AgentRow,
    AllocationRow,
    Backfilling,
    Bucket,
    BudgetRow,
    Claim,
    Entry,
    Leak,
    PoolRow,
    Record,
    RetainedEvent,
    Share,
    Shares,
    Spec,
    StartLimit,
    TaskRow,
    Timer,
    TypeRow,
    name_units,
    nonzero,
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


# -- finished tasks that have left memory: how each of them ended ----------------------


#: By the number that stands for one; 0 stands for none.
_STATES: Final[tuple[TaskState | None, ...]] = (None, *TaskState)
#: The bits of such a number.
_BITS: Final = 4
_MASK: Final = (1 << _BITS) - 1
#: The bits of a digest: with those of the state it is an integer of 32 bytes.
DIGEST_BITS: Final = 60 - _BITS
_BYTES: Final = {state: _STATES.index(state) for state in TaskState}
_COMPLETED: Final = TaskState.COMPLETED
_BYTE_OF_COMPLETED: Final = _BYTES[_COMPLETED]
#: By how much a number may be beyond the end of its series, and how much longer that
#: becomes: a byte is spent on each number, whether it comes or not.
_GAP: Final = 1_000_000
_MORE: Final = 1_000
#: Begins no id.
_NO_STEM: Final = "\n"


class Evicted:
    """
    The states of tasks by id, in little memory, since they stay while the kernel does.

    Ids of the driver's own making are a stem, `3f0c52a1b7-`, and a number: such a task
    takes a byte. Any other takes an entry of a dict, which is a hundred. What one was,
    whose name is of the user's choice, the driver may note there.
    """

    __slots__ = ("_latest", "_series", "_stem", "by_id")

    def __init__(self) -> None:
        #: Those in no series, as names of the user's choice, and so all tasks of runs:
        #: the number of the state, and above its bits the digest that was noted.
        self.by_id: dict[str, int] = {}
        #: By stem; in each, a byte for every number.
        self._series: dict[str, bytearray] = {}
        #: The stem and the series of the latest: the next is mostly in the same.
        self._stem: str = _NO_STEM
        self._latest: bytearray = bytearray()

    def add(self, task_id: str, state: TaskState, *, named: bool) -> None:
        """
        A task leaves memory; *named* says that its name is of the user's choice.

        Another that ends in a dash and a number has that as `str` writes it.
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
        What a task with a name of the user's choice was, which has left memory.

        Args:
            task_id: Its id.
            digest: The driver's own: an odd number of at most `DIGEST_BITS`.
        """
        self.by_id[task_id] |= digest << _BITS

    def digest(self, task_id: str) -> int | None:
        """What was noted of a task; None if that is nothing."""
        return self.by_id.get(task_id, 0) >> _BITS or None

    def _turn_to(self, task_id: str) -> bool:
        """Go on with the series of *task_id*; False if it is of none."""
        stem = _stem_of(task_id)
        if stem:
            self._stem = stem
            self._latest = self._series.setdefault(stem, bytearray())
        return stem != ""

    def _reaches(self, number: int) -> bool:
        """Lengthen the series, so that it has *number*; False if that is no place."""
        missing = number - len(self._latest)
        if not 0 <= missing <= _GAP:
            return False
        self._latest.extend(bytes(missing + _MORE))
        return True

    def update(self, ended: Iterable[tuple[str, TaskState]]) -> None:
        """Tasks have left memory, in this life or an earlier one."""
        for task_id, state in ended:
            if task_id not in self:
                self.by_id[task_id] = _BYTES[state]

    def discard(self, task_id: str) -> None:
        """Forget one, if it is known."""
        if self.by_id.pop(task_id, None) is None and self.get(task_id) is not None:
            stem = _stem_of(task_id)
            self._series[stem][_number(task_id[len(stem) :])] = 0

    def clear(self) -> None:
        """Forget them all."""
        self.by_id.clear()
        self._series.clear()
        self._stem = _NO_STEM

    def get(self, task_id: object) -> TaskState | None:
        """How a task ended; None if none with this id has left memory."""
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
        """Whether none of them has one of these *ids*, of which some may be None."""
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
        """The ids and the states."""
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
    """What stands before a number at the end; "" if there is no dash."""
    return task_id[: task_id.rfind("-") + 1]


def _number(digits: str) -> int:
    """The number that is written so, and not otherwise; -1 if there is none."""
    try:
        number = int(digits)
    except ValueError:
        return -1
    return number if str(number) == digits else -1


# -- the table of states: which change may follow which, as data, in one place ---------

# The table is fixed. A user's StateMachine can forbid a transition, never add one.
# The table in the docs is made of it. Which fact makes which of these changes,
# and which function does it, is in `_table`, which stands above what it names.


_S = TaskState

#: State before (None: not submitted yet) → states that may follow.
TRANSITIONS: Final[dict[TaskState | None, tuple[TaskState, ...]]] = {
    None: (_S.PENDING, _S.QUEUED, _S.BLOCKED),
    _S.PENDING: (_S.QUEUED, _S.BLOCKED, _S.SUSPENDED, _S.FAILED, _S.CANCELLED),
    # PENDING: what it waited for runs again. BLOCKED: in a new life, nobody is there
    # who could do it. RETRYING: its attempt, whose end nobody knew, had
    # failed.
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
        # The event has come for which it waits.
        _S.COMPLETED,
        _S.FAILED,
        _S.CANCELLED,
    ),
    _S.COMPLETED: (),
    _S.FAILED: (),
    _S.CANCELLED: (),
}


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    for before, afters in TRANSITIONS.items():
        lines += [f"    {before or '[*]'} --> {after}" for after in afters]
    lines += [f"    {state} --> [*]" for state in TaskState if state in TERMINAL]
    return "\n".join(lines)


# -- the state of the kernel: all that is remembered, and the smallest steps that
# change it

# Every verb beside (`_control`, `_attempts`, …) is a function of this state, and
# nothing else writes to it. The door to the verbs is `Kernel`.


_QUEUED: Final = TaskState.QUEUED
_RUNNING: Final = TaskState.RUNNING

#: Buckets, types and records kept before idle ones are forgotten, or counted together.
MANY: Final = 4_096
#: Timers that are not worth a clean-up.
FEW_TIMERS: Final = 1_024
#: Kinds of timers (`_queue` has others): an attempt has run for its timeout.
TIMEOUT: Final = 0
#: An attempt was asked to stop, and has not.
GRACE: Final = 1
#: An agent may have been silent for too long.
LEASE: Final = 5
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
    #: only fails: see `_limits.better_than`.
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


def _nobody(_: Any) -> str:
    """For a driver that does not know who may answer."""
    return ""


class KernelState:
    """
    The state of one orchestrator.

    There are *pools*, in millionths, before the first fact; some have *named* units.
    *random* is for policies.
    """

    #: The limits that there are from the first.
    _first_limits: ClassVar[tuple[type[StartLimit], ...]] = ()

    # CPython 3.15 finds only the first thirty entries of an object's dict quickly.
    __slots__ = (
        "above",
        "active",
        "admitting",
        "agents",
        "agents_version",
        "allocations",
        "aside_ns",
        "asked",
        "awaited",
        "backfill",
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
        #: What does not change while it lives.
        self.config: KernelConfig = config
        #: Who is asked: the user's policies, the seven and what belongs to them.
        self.deciders: Deciders = deciders
        #: What these are given with every question.
        self.context: DecisionContext = DecisionContext(self, random)
        #: How many attempts may run: the `room`, or less while starts are held; so many
        #: are `running` at the most, unless they are held. Checked: `check_books`.
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
        #: The owners, if the queue says which of them is served first; else None, and
        #: every bucket stands in `open` itself. Checked: `check_shares`.
        self.shares: Shares | None = Shares() if deciders.ranks else None
        #: How later tasks pass those that cannot start; None: they do not.
        self.backfill: Backfilling | None = (
            Backfilling() if deciders.backfills else None
        )
        #: Whether it is counted what each attempt holds: for the share of its owner, or
        #: for a reservation.
        self.has_accounts: bool = deciders.ranks or deciders.backfills
        #: Whether a submission needs nobody's consent: see `consider`.
        self.plain: bool = False
        #: Nothing starts before the driver is ready, or while it drains to stop.
        self.stopped: bool = True
        #: Who holds starts back: while how many run (0 is all starts), why, and whether
        #: that outlives this life. What runs already goes on. Checked: `check_books`.
        self.holds: dict[str, tuple[int, str, bool]] = {}
        #: Whether nothing starts: it is `stopped`, or somebody of the `holds` lets
        #: none.
        self.paused: bool = True
        #: How many attempts the system has room for: at most what is configured.
        #: Checked: `check_books`.
        self.room: int = config.concurrency
        #: How long a task steps aside whose start the system had no room for.
        self.aside_ns: int = ASIDE_NS

        #: Every task in memory, by its id; none of them is `evicted`. All that is
        #: checked is counted from these.
        self.tasks: dict[str, TaskRow] = {}
        #: How many there were at once, since it was made smaller.
        self.most_tasks: int = MANY
        #: Finished tasks that have left memory, and their states; none of them is in
        #: `tasks`. They count as `completed`, `failed` or `cancelled` still. Checked:
        #: `check_counters`.
        self.evicted: Evicted = Evicted()
        #: Those of them that had dependencies, or names of the user's choice.
        self.dropped: list[TaskRow] = []
        #: The tasks in memory that have ended, the first first: those leave memory
        #: next. Checked: `check_counters`.
        self.finished: deque[TaskRow] = deque()
        #: Every agent that has ever joined, by its name; one that is away is `lost`.
        #: Checked: `check_books`, `check_leases`.
        self.agents: dict[str, AgentRow] = {}
        #: Rises when an agent joins: what was said of the agents is out of date.
        self.agents_version: int = 0
        #: The watched agents that have got more to do, or less, or have failed: the
        #: latest last. See `_limits`. Checked: `check_room`.
        self.moved: list[AgentRow] = []
        #: How many there were before these. Checked: `check_room`.
        self.moved_before: int = 0
        #: Each pool by its name, those of quotas too. No more of it is used than there
        #: is, but for what was held when it became less. Checked: `check_books`.
        self.pools: dict[str, PoolRow] = {
            name: PoolRow(name, units) for name, units in pools
        }
        #: Pools that no policy sees, by their names: what may be written, by folder or
        #: file (see `_scopes`), budgets, and units that have names. Checked:
        #: `check_scopes`, `check_units`.
        self.beside: dict[str, PoolRow] = {}
        #: Whether any units have names, or had: see `_units`.
        self.has_units: bool = named != ()
        for name, names in named:
            pool = self.pools.setdefault(name, PoolRow(name, 0))
            name_units(self.beside, pool, name, names)
        #: What may limit some kinds of tasks beside slots, agents and pools, in the
        #: order in which it is asked: see `_queue.add_limit`.
        self.limits: tuple[StartLimit, ...] = tuple(
            [limit() for limit in self._first_limits]
        )
        #: What is spent, and does not come back: see `_budgets`. Checked:
        #: `check_budgets`.
        self.budgets: dict[str, BudgetRow] = {}
        #: Budgets of which something has been spent since the last dispatch.
        self.spent: dict[str, None] = {}
        #: Documents of extensions, as texts, by the names of the extensions and their
        #: keys; in the order of their latest facts. Checked: `check_kept`.
        self.kept: dict[str, dict[str, str]] = {}
        #: The runs of workflows: of each, the ids of its tasks that are, or have been,
        #: in memory, in the order of their submission. Checked: `check_runs`.
        self.runs: dict[str, list[str]] = {}
        #: The quotas: of each that has one, its pools, and what each of them bounds.
        self.quotas: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}
        #: The runs of workflows that have one.
        self.workflows: dict[str, None] = {}
        #: Buckets above their soft quotas, for when nobody else can start: `(key, seq,
        #: bucket)`. Their buckets are `parked`, too. Checked: `check_parking`.
        self.above: list[Entry] = []
        #: The one of `above` whose turn it is.
        self.last: Bucket | None = None
        #: What people hold by hand, by its id; the `claims` have none yet. Checked:
        #: `check_books`.
        self.allocations: dict[str, AllocationRow] = {}
        #: As whose they hold it: as if they ran it on an agent, without a slot.
        #: Checked: `check_books`.
        self.by_hand: AgentRow = AgentRow(Agent("by-hand"))
        #: Who waits for an allocation, the first first.
        self.claims: dict[Claim, None] = {}
        #: By what its tasks have in common, the bucket that gets the next of them.
        self.buckets: dict[Spec, Bucket] = {}
        #: The buckets of elastic requests.
        self.elastic: dict[Bucket, None] = {}
        #: The tasks whose attempts hold what was granted of an elastic request, each
        #: with whether it has come to a checkpoint: then it learns what it holds.
        #: Checked: `check_holders`.
        self.holders: dict[TaskRow, bool] = {}
        #: Something has come free that these may use.
        self.growing: bool = False
        #: How many buckets there have been.
        self.bucket_no: int = 0
        #: With more than this, those that are empty are forgotten.
        self.most_buckets: int = MANY
        #: By their names, the types of tasks that there have been.
        self.types: dict[str, TypeRow] = {}
        #: Buckets that may have something to start: `(key, seq, bucket)`; where owners
        #: share, it is their shares, and each has such a list of its own. None of them
        #: is in `parked`. Entries that are not their bucket's any more are stale.
        #: Checked: `check_parking`, `check_shares`.
        self.open: list[Entry] = []
        #: How many of `open` have been replaced by others.
        self.stale_entries: int = 0
        #: Buckets that have something to start, and nowhere to start it; none of them
        #: has an entry in `open`. Who wakes it is in its `places`. Checked:
        #: `check_parking`.
        self.parked: dict[Bucket, None] = {}
        #: Buckets that a policy has put off: asked again when something changes. Some
        #: may be open again since.
        self.parked_any: dict[Bucket, None] = {}
        #: QUEUED tasks whose start the StateMachine vetoed, until something changes;
        #: none of them stands in its bucket. Checked: `check_queues`.
        self.vetoed: dict[TaskRow, None] = {}
        #: Attempts that wait to have their slot again; of those that have ended since,
        #: nothing is `yielded`.
        self.returning: deque[TaskRow] = deque()
        #: Attempts that would not stop, by task and number: what they still hold. It is
        #: not what a row holds any more. Checked: `check_books`, `check_holders`.
        self.leaked: dict[tuple[str, int], Leak] = {}
        #: A heap of what is due when; an entry that has lost its meaning stays until it
        #: is due, or there are `most_timers`.
        self.timers: list[Timer] = []
        #: How many timers there have been.
        self.timer_no: int = 0
        #: With more than this, those that have lost their meaning are taken out.
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
        #: Tasks that are SUSPENDED; an attempt of some is held. Checked:
        #: `check_counters`.
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
        #: How many tasks were ever submitted: the `seq` of the next.
        self.submissions: int = 0
        #: The number of this life of the orchestrator: see `recover`.
        self.epoch: int = 1
        #: Parents of a batch that is being folded, before their own submissions.
        self.not_folded: dict[str, TaskRow] = {}
        #: Tasks about which something is to be decided since the fate of a parent has
        #: changed, each with why: see `_ends`. None after a command. Checked:
        #: `check_waits`.
        self.undecided: deque[tuple[TaskRow, str]] = deque()
        #: They are being decided about, or the facts that are folded say it; else
        #: nothing is `undecided`. Checked: `check_waits`.
        self.deciding: bool = False
        #: Tasks that await an event now, by its name: all and only those. Checked:
        #: `check_waits`.
        self.awaited: dict[str, dict[TaskRow, None]] = {}
        #: Tasks about which people are asked, those first that wait longest: waits for
        #: what people say, of which some may be put aside, and failures. Checked:
        #: `check_asked`.
        self.asked: dict[TaskRow, None] = {}
        #: Events that nobody waited for, by their names, until their time is over.
        #: Checked: `check_waits`.
        self.retained: dict[str, RetainedEvent] = {}
        #: Called when a wait ends well, before that is told, with the cargo of the task
        #: and that of its event (None: its time is over).
        self.hand_over: Callable[[Any, Any], object] = _nothing
        #: Says who may answer a question, in words, given the cargo of its task.
        self.whom: Callable[[Any], str] = _nobody
        #: Places in our own code where a simulation makes the unusual happen.
        self.points: FaultPoints | None = None
        #: PENDING tasks that wait only for a time, RETRYING ones, and waits that have
        #: an end. Checked: `check_counters`.
        self.delayed: int = 0
        #: How many attempts were to follow a failure, since the beginning.
        self.retries_scheduled: int = 0
        #: How many tasks have completed after a failure.
        self.retries_recovered: int = 0
        #: How many have failed for good after one.
        self.retries_exhausted: int = 0
        #: How many tasks have failed, by the cause.
        self.causes: dict[str, int] = {}
        #: Of each part of the user's that has failed in this life: how often, when the
        #: last time, and what it raised then.
        self.faults: dict[str, tuple[int, int, str]] = {}

        #: Whether rules are asked before starts: see `Deciders.judge`.
        self.judged: bool = False
        #: What rules said of the start that is under way; None: they were not asked.
        self.ruling: Ruling | None = None
        #: Tasks that rules keep from starting, on hold until they allow it. Checked:
        #: `check_asked`.
        self.denied: dict[TaskRow, None] = {}

        #: The number of the latest fact.
        self.seq: int = 0
        #: Who asks for what is done now; "": nobody whose name was proved.
        self.caller: str = ""
        #: Where facts go, as `(fact, cargo)`; None: nobody listens.
        self.sink: list[tuple[Fact, Any]] | None = None
        #: Whether `TaskSubmitted` is made: somebody listens for it. So with the next
        #: two.
        self.tell_submitted: bool = False
        self.tell_started: bool = False
        self.tell_completed: bool = False
        #: Whether a `TaskReady` is made for each task that is queued.
        self.tell_ready: bool = False
        #: Tasks whose attempts the driver is to begin; RUNNING already.
        self.starts: list[TaskRow] = []
        #: What else the driver is to do, in this order.
        self.effects: list[Effect] = []
        #: Tasks, with their cargo, that ended or were blocked otherwise than plainly.
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
        """
        Record a fact of *cls*: *fields* are those after its number and its time.

        Of what stands behind its caller, *others* are the fields by name.
        """
        self.seq += 1
        if self.sink is not None:
            made: Any = cls
            if self.caller and cls in CAUSED:
                fact = made(self.seq, now, *fields, caller=self.caller, **others)
            else:
                fact = made(self.seq, now, *fields, **others)
            self.sink.append((fact, cargo))

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

    def may_end_attempts(self, now: int) -> bool:
        """Whether the timer that comes next is due by *now*, and may end an attempt."""
        if not self.timers:
            return False
        when, _, kind, *_ = self.timers[0]
        return when <= now and kind in (TIMEOUT, GRACE, LEASE)

    def pool_stats(self) -> dict[str, PoolStats]:
        """The pools as values, and budgets by their names and resources."""
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
        """Whether nothing can proceed without input from outside."""
        if self.active or self.delayed:
            return False
        return not any(limit.is_timed for limit in self.limits)

    def waits_for_leaks(self) -> bool:
        """Whether what is queued may start once attempts end that would not stop."""
        leaks = self.leaked.values()
        if not leaks or self.paused:
            return False
        if self.open and self.running >= self.concurrency:
            return True
        agents = {leak.agent for leak in leaks}
        names = {name for leak in leaks for name, _ in leak.alloc}
        return any(
            place.agent in agents or (place.pool and place.pool.name in names)
            for bucket in self.buckets.values()
            if bucket.parked is not None
            for place in bucket.places()
        )
