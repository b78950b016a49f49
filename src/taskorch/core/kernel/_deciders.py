"""
Protocol of the seven policies as the kernel asks them.

Decision: kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import BuiltinFunctionType
from typing import Any, Final, Protocol, TypeVar

from taskorch.core.kernel._rows import (
    UNLIMITED,
    Bucket,
    Candidates,
    PoolRow,
    Share,
    Spec,
    TaskRow,
    WorkerRow,
)
from taskorch.kit.frozen import frozen
from taskorch.model import TASKS, Elasticity, Resources, TaskState, Units
from taskorch.protocols import Contender

# -- compiled functions as methods: Python binds only its own functions to an object ---


def bind(cls: type) -> None:
    """Make methods of the compiled functions with public names in *cls*."""
    for name, found in list(vars(cls).items()):
        if isinstance(found, BuiltinFunctionType) and not name.startswith("_"):
            setattr(cls, name, _method(found))


def _method(function: Any) -> Any:
    """Return *function* as a method; CPython's own class for that has no name."""
    # Only compiled functions need it.
    import ctypes  # noqa: PLC0415

    make = ctypes.pythonapi.PyInstanceMethod_New
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.py_object]
    return make(function)


# -- elastic requests that contend for a resource, like ones counted together ----------


T = TypeVar("T")

_SCALE: Final = 1_000_000


def contenders(
    buckets: Iterable[Bucket],
    holders: Iterable[TaskRow],
    pools: Mapping[str, PoolRow],
    slots: int,
) -> list[Contender]:
    """
    Return the kinds of elastic requests that contend, waiting ones in queue order.

    Only as many waiting tasks contend as there are *slots*, and slots on the workers
    that may run them: a task that could not start takes nothing from others.

    Args:
        buckets: The buckets of elastic requests.
        holders: The tasks whose attempts hold elastic grants.
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
    # The bucket may have been dropped while its tasks ran, and a like one made since.
    for bucket, allocs in held.items():
        kinds.setdefault(bucket.spec, (bucket, 0, []))[2].extend(allocs)
    # Many tasks hold the same amounts, and have the same least.
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
    """Return whether a quota keeps the tasks of *bucket* from their least amount."""
    # A quota for tasks counts each task as one.
    need = {TASKS: _SCALE, **dict(bucket.need)}
    return any(
        need.get(resource, 0) > pools[pool].total - pools[pool].used
        for pool, resource in bucket.bounds
        if pool in pools
    )


def _apportion(buckets: list[Bucket], slots: int) -> list[tuple[Bucket, int]]:
    """Distribute the *slots* to buckets in turns, the first bucket first."""
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
    """Return how many of *bucket* its workers have slots for; or `UNLIMITED`."""
    if bucket.checked < 0:
        return UNLIMITED
    return sum(max(0, worker.limit - worker.running) for worker in bucket.workers)


# -- the questions that the kernel asks ------------------------------------------------

# The runtime answers them with the user's policies: it makes the `Task` that a policy
# sees, guards the call and checks the answer. The kernel knows only rows.


class PolicyFault(Exception):  # noqa: N818 - not an error of the caller's
    """
    Error: a policy raised, or gave an answer that its protocol does not allow.

    Attributes:
        component: The policy: `router`, `queue`, ….
        error: The error that it raised, or a ValueError about its answer.
    """

    def __init__(self, component: str, error: BaseException) -> None:
        super().__init__(component, error)
        self.component = component
        self.error = error


class PolicyGone(PolicyFault):
    """A policy fault because an object of an earlier run of the program is missing."""


@frozen
class Again:
    """Decision of the retry policy after a failed attempt."""

    retry: bool
    delay_ns: int = 0
    reason: str = ""
    #: The class of the failure, or "".
    kind: str = ""
    #: The spec of the next attempts; None keeps the present one.
    spec: Spec | None = None
    #: The question to a person, who decides instead; "" asks nobody.
    ask: str = ""
    #: An object of the driver that goes with the spec.
    cargo: Any = None
    #: The cause, if the task is not to blame: then it counts as no try.
    blameless: str = ""


@frozen
class Ruling:
    """
    Ruling of the rules on a start.

    Attributes:
        permit: The rule that allows it; see `TaskStarted`.
        denied: The reason why it is denied, or "" if it is allowed.
        asks: True if people may allow it.
        shown: The same as `denied` for people, with the current values.
        violated: The fields of `PolicyViolated` after the task, or nothing if there is
            no violation.
    """

    permit: tuple[str, ...] = ()
    denied: str = ""
    asks: bool = False
    violated: tuple[Any, ...] = ()
    shown: str = ""


class Deciders(Protocol):
    """Protocol of the policies as the kernel asks them; all raise PolicyFault."""

    #: Nanoseconds that one level of priority is worth, if the queue has no other rule.
    aging_ns: int | None
    #: True if every task may join the queue.
    admits_all: bool
    #: Nanoseconds that a task may wait before it expires, if the queue admits all.
    max_age_ns: int | None
    #: The transitions about which the StateMachine wants to be asked; None is all.
    watches: frozenset[tuple[TaskState | None, TaskState]] | None
    #: True if the allocator `GrantsWhole`, the queue `RanksOwners` or `Backfills`, or
    #: any of them `Learns`: see these protocols.
    rigid: bool
    ranks: bool
    backfills: bool
    learns: bool

    def match(
        self, row: TaskRow, workers: Sequence[WorkerRow], now: int
    ) -> tuple[tuple[str, ...], str, bool]:
        """Return the names of matching workers, why, and if that can be kept."""
        ...

    def route(
        self, row: TaskRow, candidates: Candidates, now: int
    ) -> tuple[WorkerRow, str, bool]:
        """Return the worker, why, and whether the answer can be kept."""
        ...

    def order(self, row: TaskRow, priority: int, now: int) -> Any:
        """Return the key of the task in the queue."""
        ...

    def standing(self, share: Share, now: int) -> float:
        """Return the standing of a tenant, lowest served first; asked if it `ranks`."""
        ...

    def admit(self, row: TaskRow, now: int) -> tuple[str | None, int | None]:
        """Return why the task may not be queued, or None, and its largest age in ns."""
        ...

    def check(
        self,
        row: TaskRow,
        before: TaskState | None,
        after: TaskState,
        reason: str,
        now: int,
    ) -> str | None:
        """Return why the transition is forbidden, or None."""
        ...

    def is_judged(self, task_type: str) -> bool:
        """Return whether rules are asked before tasks of the type start."""
        ...

    def judge(self, row: TaskRow, now: int) -> Ruling:
        """Return the ruling on a start of the task; asked if the kernel is `judged`."""
        ...

    def join(self, row: TaskRow, states: dict[str, TaskState], now: int) -> bool:
        """Return whether the task may go on, by the states of its parents."""
        ...

    def retry(
        self,
        row: TaskRow,
        error: BaseException | None,
        cause: str,
        elapsed_ns: int,
        now: int,
    ) -> Again:
        """Return what follows a failure that does not count as a try yet."""
        ...

    def changed(self, row: TaskRow, answer: Again) -> None:
        """Note that the task has the spec of *answer* from now on."""
        ...

    def allocate(
        self,
        row: TaskRow,
        worker: WorkerRow,
        request: Units,
        now: int,
        least: Units | None = None,
        held: Units | None = None,
    ) -> tuple[Units | None, str, bool]:
        """
        Return the grant (None: nothing now), why, and whether that can be kept.

        Args:
            row: The task.
            worker: The worker that is to run it, or does.
            request: The amounts that it asks for of the pools.
            now: The time in ns.
            least: The least amounts that an elastic request needs.
            held: The amounts that a running task holds of the pools.
        """
        ...

    def ask_program(self, part: str, ask: Callable[[], T]) -> T:
        """Return the result of *ask*, which calls user code that is no policy."""
        ...

    def choice(self, row: TaskRow) -> tuple[str, float] | None:
        """Return the arm chosen for the attempt that begins; asked if it `learns`."""
        ...

    def expected(self, row: TaskRow) -> int | None:
        """Return the duration in ns that the user expects of an attempt, or None."""
        ...

    def least(self, request: Units, elastic: Elasticity) -> Units:
        """Return the least grant of *request*; inelastic resources are whole."""
        ...
