"""
The seven policies as the kernel asks them.

Decision: 0062.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import BuiltinFunctionType
from typing import Any, Final, Protocol, TypeVar

from taskorch.kernel._rows import (
    UNLIMITED,
    AgentRow,
    Bucket,
    Candidates,
    PoolRow,
    Share,
    Spec,
    TaskRow,
)
from taskorch.kit.frozen import frozen
from taskorch.model import TASKS, Elasticity, Resources, TaskState, Units
from taskorch.protocols import Contender

# -- compiled functions as methods: Python binds only its own to an object by itself ---


def bind(cls: type) -> None:
    """Make methods of the compiled functions with public names in *cls*."""
    for name, found in list(vars(cls).items()):
        if isinstance(found, BuiltinFunctionType) and not name.startswith("_"):
            setattr(cls, name, _method(found))


def _method(function: Any) -> Any:
    """*function* as a method: CPython's own class for that has no name in Python."""
    # Only what is compiled needs it.
    import ctypes  # noqa: PLC0415

    make = ctypes.pythonapi.PyInstanceMethod_New
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.py_object]
    return make(function)


# -- who contends for what is divided: elastic requests, like ones counted together ----


T = TypeVar("T")

_SCALE: Final = 1_000_000


def contenders(
    buckets: Iterable[Bucket],
    holders: Iterable[TaskRow],
    pools: Mapping[str, PoolRow],
    slots: int,
) -> list[Contender]:
    """
    The kinds of elastic requests that contend; of those that wait, the first first.

    Of those that wait, only as many contend as there are *slots*, and slots of the
    agents that may run them: what nobody could start takes nothing from others.

    Args:
        buckets: Those of elastic requests.
        holders: The tasks whose attempts hold what was granted of elastic ones.
        pools: The pools.
        slots: How many more attempts may run at once.
    """
    divided = {name for name, pool in pools.items() if not pool.is_quota}
    held: dict[Bucket, list[Units]] = {}
    for row in holders:
        held.setdefault(row.bucket, []).append(row.alloc)
    queue: list[tuple[Any, int, Bucket]] = []
    for bucket in buckets:
        head = bucket.head() if bucket.size else None
        if head is not None:
            queue.append((head.key, head.seq, bucket))
    queue.sort()
    able = [b for _, _, b in queue if not _is_bounded(b, pools)]
    kinds: dict[Spec, tuple[Bucket, int, list[Units]]] = {}
    for bucket, count in _apportion(able, slots):
        kinds[bucket.spec] = bucket, count, []
    # A bucket that was forgotten while its tasks ran may have a like one by now.
    for bucket, allocs in held.items():
        kinds.setdefault(bucket.spec, (bucket, 0, []))[2].extend(allocs)
    # Many hold the same, and have the same least.
    made: dict[Units, Resources] = {}

    def of_pools(units: Units) -> Resources:
        if units not in made:
            own = tuple([pair for pair in units if pair[0] in divided])
            made[units] = Resources.from_units(own)
        return made[units]

    found = []
    for bucket, waiting, allocs in kinds.values():
        spec = bucket.spec
        assert spec.elastic is not None  # noqa: S101 - only such contend
        _, weight, fallback = spec.elastic
        wanted, least = of_pools(spec.resources), of_pools(bucket.need)
        held_now = tuple(map(of_pools, allocs))
        found.append(
            Contender(wanted, least, weight / _SCALE, fallback, waiting, held_now)
        )
    return found


def _is_bounded(bucket: Bucket, pools: Mapping[str, PoolRow]) -> bool:
    """Whether a quota keeps the tasks of *bucket* from having their least."""
    # One task is as much of a quota for tasks.
    need = {TASKS: _SCALE, **dict(bucket.need)}
    return any(
        need.get(resource, 0) > pools[pool].total - pools[pool].used
        for pool, resource in bucket.bounds
        if pool in pools
    )


def _apportion(buckets: list[Bucket], slots: int) -> list[tuple[Bucket, int]]:
    """How many of each may start, as far as slots go: in turns, the first first."""
    most = {bucket: min(bucket.size, _room(bucket)) for bucket in buckets}
    counts = dict.fromkeys(buckets, 0)
    open_to_more = [bucket for bucket in buckets if most[bucket]]
    while slots > 0 and open_to_more:
        turn = max(1, slots // len(open_to_more))
        for bucket in open_to_more:
            more = min(turn, most[bucket] - counts[bucket], slots)
            counts[bucket] += more
            slots -= more
        open_to_more = [b for b in open_to_more if counts[b] < most[b]]
    return [(bucket, count) for bucket, count in counts.items() if count]


def _room(bucket: Bucket) -> int:
    """How many of *bucket* its agents have slots for; no limit if none is known yet."""
    if bucket.checked < 0:
        return UNLIMITED
    return sum(max(0, agent.limit - agent.running) for agent in bucket.agents)


# -- the questions that the kernel asks ------------------------------------------------

# The runtime answers them with the user's policies: it makes the `Task` that a policy
# sees, guards the call and checks the answer. The kernel knows rows only.


class PolicyFault(Exception):  # noqa: N818 - not an error of the caller's
    """
    A policy raised, or answered what its protocol does not allow.

    Attributes:
        component: Which part: `router`, `queue`, ….
        error: What it raised, or a ValueError that says what was wrong.
    """

    def __init__(self, component: str, error: BaseException) -> None:
        super().__init__(component, error)
        self.component = component
        self.error = error


class PolicyGone(PolicyFault):
    """What the answer needs was there in an earlier life only."""


@frozen
class Again:
    """What follows a failed attempt."""

    retry: bool
    delay_ns: int = 0
    reason: str = ""
    #: What kind of failure it was, or "".
    kind: str = ""
    #: What the next attempts are to be like; None: as the last.
    spec: Spec | None = None
    #: The question to a person, who decides instead; "": nobody is asked.
    ask: str = ""
    #: The driver's own: what goes with the spec.
    cargo: Any = None
    #: The cause, if the task is not to blame: then it counts as no try.
    blameless: str = ""


@frozen
class Ruling:
    """
    What rules say of a start.

    Attributes:
        permit: By what it is allowed; see `TaskStarted`.
        denied: Why it is not; "": it is.
        asks: Whether people may allow it.
        shown: The same as `denied` for people, who see what there is, too.
        violated: Of `PolicyViolated` what follows the task; nothing: there is nothing
            to tell.
    """

    permit: tuple[str, ...] = ()
    denied: str = ""
    asks: bool = False
    violated: tuple[Any, ...] = ()
    shown: str = ""


class Deciders(Protocol):
    """Protocol: the policies, as the kernel asks them. All raise PolicyFault."""

    #: Nanoseconds that one level of priority is worth, if that is the whole rule.
    aging_ns: int | None
    #: Whether admission needs no asking.
    admits_all: bool
    #: Nanoseconds that a task may wait before it expires, where admission is not
    #: asked.
    max_age_ns: int | None
    #: The transitions that the StateMachine wants to be asked about; None is all.
    watches: frozenset[tuple[TaskState | None, TaskState]] | None
    #: Whether the allocator `GrantsWhole`, the queue `RanksOwners` or `Backfills`, and
    #: any of them `Learns`: see these protocols.
    rigid: bool
    ranks: bool
    backfills: bool
    learns: bool

    def match(
        self, row: TaskRow, agents: Sequence[AgentRow], now: int
    ) -> tuple[tuple[str, ...], str, bool]:
        """Names of the agents that match, why, and whether that can be kept."""
        ...

    def route(
        self, row: TaskRow, candidates: Candidates, now: int
    ) -> tuple[AgentRow, str, bool]:
        """The agent, why, and whether that can be kept."""
        ...

    def order(self, row: TaskRow, priority: int, now: int) -> Any:
        """The key of the task in the queue."""
        ...

    def standing(self, share: Share, now: int) -> float:
        """Standing of an owner; the lowest is served first. Asked if it `ranks`."""
        ...

    def admit(self, row: TaskRow, now: int) -> tuple[str | None, int | None]:
        """Why the task may not join the queue (or None), and its largest age in ns."""
        ...

    def check(
        self,
        row: TaskRow,
        before: TaskState | None,
        after: TaskState,
        reason: str,
        now: int,
    ) -> str | None:
        """Why the transition is forbidden, or None."""
        ...

    def is_judged(self, task_type: str) -> bool:
        """Whether rules are asked before tasks of the type start."""
        ...

    def judge(self, row: TaskRow, now: int) -> Ruling:
        """What rules say of a start of the task; asked if the kernel is `judged`."""
        ...

    def join(self, row: TaskRow, states: dict[str, TaskState], now: int) -> bool:
        """Whether the task may go on, by the states of its parents."""
        ...

    def retry(
        self,
        row: TaskRow,
        error: BaseException | None,
        cause: str,
        elapsed_ns: int,
        now: int,
    ) -> Again:
        """What follows a failure that is not charged yet."""
        ...

    def changed(self, row: TaskRow, answer: Again) -> None:
        """The task has the spec of *answer* from now on."""
        ...

    def allocate(
        self,
        row: TaskRow,
        agent: AgentRow,
        request: Units,
        now: int,
        least: Units | None = None,
        held: Units | None = None,
    ) -> tuple[Units | None, str, bool]:
        """
        What is granted (None: nothing now), why, and whether that can be kept.

        Args:
            row: The task.
            agent: The agent that is to run it, or does.
            request: What it asks for of the pools.
            now: The time in ns.
            least: Of an elastic request, what it cannot do without.
            held: Of one that runs, what it holds of the pools.
        """
        ...

    def ask_program(self, part: str, ask: Callable[[], T]) -> T:
        """What *ask* returns, which calls a part of the program that is no policy."""
        ...

    def choice(self, row: TaskRow) -> tuple[str, float] | None:
        """The arm that was chosen for the attempt that begins; asked if it `learns`."""
        ...

    def expected(self, row: TaskRow) -> int | None:
        """How long an attempt takes, in ns, as its user said; None: nothing was."""
        ...

    def least(self, request: Units, elastic: Elasticity) -> Units:
        """What an elastic *request* cannot do without; what is not named, all of it."""
        ...
