"""
Grants by measurement: tasks get the amount that earlier ones of their type have used.

Decision: shares-and-sizes.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping
from copy import deepcopy
from threading import Lock
from typing import Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.events import (
    Event,
    TaskCancelled,
    TaskCompleted,
    TaskFailed,
    TaskRetrying,
    TaskSubmitted,
)
from taskorch.kit.checks import is_number
from taskorch.kit.visible import show
from taskorch.kit.words import amount
from taskorch.model import Resources, Units, quantile, to_units
from taskorch.policies._allocator import ProportionalAllocator
from taskorch.protocols import (
    Allocation,
    AllocationRequest,
    Context,
    PoolView,
    Projection,
    ResourceAllocator,
)
from taskorch.protocols._optional import check_asked
from taskorch.protocols._policies import said_of, trusted

#: The number of measurements of a type that are kept, and the least number for a size.
_KEPT: Final = 100
_FEW: Final = 5
#: Of n measurements, the spread counts so many n-ths more.
_UNSURE: Final = 5.0
#: The highest safety that is no mistake.
_SAFEST: Final = 100
#: The least size in MB, since the system's share of a process counts, too.
_LEAST: Final = 64
#: The most events of earlier incarnations that are read.
_PAST: Final = 200_000
_MILLION: Final = 1_000_000
_MEMORY: Final = "memory_mb"


@attrs.frozen
class _Size:
    """Memory granted to tasks of a type, in millionths of a MB, with the reason."""

    units: int
    reason: str


def _spread(amounts: list[int]) -> float:
    """Return the standard deviation of *amounts*; 0 for one alone."""
    many = len(amounts)
    mean = sum(amounts) / many
    return math.dist(amounts, [mean] * many) / math.sqrt(max(1, many - 1))


class Measured(Projection):
    """
    ResourceAllocator that grants the memory that earlier tasks of a type have used.

    A task asks for the most that it may need, and few need so much. Once five tasks of
    its type were measured, its first attempt is granted the usage of the latest hundred
    of them, with a margin, and never more than it asks for. The margin is the standard
    deviation of these, so types with the same usage each time have little of it. With
    fewer measurements it is wider. An attempt that is then short of memory is made
    again with the whole request: that counts as no try, and is a measurement.

    Programs are measured, and so are other tasks with usage in their last event.
    Elastic requests, tasks with `idempotent=False` and resources other than `memory_mb`
    are left as they are. Measurements in the latest 200,000 events of a journal are
    known after a restart.

    A size is at least 64 MB. With `enforce=True` it is the limit, unless the program's
    `limits` name another; a program that passes it counts as a measurement, so the next
    gets more. A program that is not held is measured by its largest process. The system
    keeps the most that it had, so short programs count, but without a cgroup it tells
    that only of a program larger than the process of the orchestrator. A worker with a
    `capacity` must have room for the size, and gets no task that asks for more than it
    has.

    Args:
        base: The allocator that grants the reduced request; None is a
            `ProportionalAllocator`.
        quantile: The share of the measurements that a size covers, above 0: 1 is all of
            them. It counts in whole hundredths.
        safety: The factor from measurement to size without the margin: 1 or more. The
            margin after n measurements is 1 + 5/n standard deviations of those that
            the size covers.

    Raises:
        InvalidTaskError: An argument is out of its range, or the base is no allocator,
            or one that learns.
    """

    wants: frozenset[type[Event]] | None = frozenset(
        {TaskSubmitted, TaskRetrying, TaskCompleted, TaskFailed, TaskCancelled}
    )
    past = _PAST

    def __init__(
        self,
        base: ResourceAllocator | None = None,
        *,
        quantile: float = 1.0,
        safety: float = 1.02,
    ) -> None:
        base = ProportionalAllocator() if base is None else base
        check_asked("base", base, ResourceAllocator)
        if not is_number(quantile, 0.01, 1):
            msg = f"quantile is a number from 0.01 to 1, not {show(quantile)}"
            raise InvalidTaskError(msg, hint="quantile=0.95 covers 95 of 100 tasks")
        if not is_number(safety, 1, _SAFEST):
            msg = f"safety is a number from 1 to {_SAFEST}, not {show(safety)}"
            raise InvalidTaskError(msg, hint="safety=1.1 is a tenth more than was used")
        self.base: ResourceAllocator = base
        self.quantile: float = quantile
        self.safety: float = safety
        # The product is rounded first: 0.07 * 100 is a little more than 7.
        self._percent = math.ceil(round(quantile * 100, 9))
        self._trusted = trusted(base, "allocate")
        self._lock = Lock()
        self._is_attached = False
        #: The types of tasks that have not ended.
        self._types: dict[str, str] = {}
        #: Measurements by type, in millionths of a MB, the latest last.
        self._used: dict[str, deque[int]] = {}
        self._sizes: dict[str, _Size] = {}

    @property
    def chunks(self) -> Any:
        """Chunks of the base: see `GrantsChunks`."""
        return said_of(self.base, "allocate", "chunks")

    @property
    def asks(self) -> tuple[ResourceAllocator, ...]:
        """Base allocator: see `AsksOthers`."""
        return (self.base,)

    @property
    def sizes(self) -> Mapping[str, float]:
        """Memory in MB that a task of each type is granted if it asks for more."""
        with self._lock:
            return {kind: size.units / _MILLION for kind, size in self._sizes.items()}

    # -- granting ------------------------------------------------------------------

    def allocate(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        context: Context,
    ) -> Allocation:
        """Return the base's grant of *request*, or of the measured size if less."""
        size = self._size_of(request)
        if size is None:
            answer = self.base.allocate(request, pools, context)
            if answer.reusable in self._trusted:
                return attrs.evolve(answer, reusable=Measured)
            return answer
        units = tuple(
            [
                (name, size.units if name == _MEMORY else much)
                for name, much in request.resources.units
            ]
        )
        sized = attrs.evolve(request, resources=Resources.from_units(units))
        answer = self.base.allocate(sized, pools, context)
        reason = answer.reason
        if answer.granted is not None:
            whole = amount(request.resources[_MEMORY])
            granted = amount(size.units / _MILLION)
            reason = f"{granted} of {whole} {_MEMORY}, since {size.reason}"
        return Allocation(answer.granted, reason)

    def _size_of(self, request: AllocationRequest) -> _Size | None:
        """Return the measured size of the request, if it is less than asked for."""
        if request.least is not None or request.attempt > 1:
            return None
        asked = to_units(_MEMORY, request.resources.get(_MEMORY, 0.0))
        size = self._sizes.get(request.task.type) if asked else None
        if size is None or size.units >= asked or request.task.idempotent is False:
            return None
        return size

    # -- measuring -----------------------------------------------------------------

    def observe(self, type: str, memory_mb: float) -> None:  # noqa: A002
        """
        Add a measurement of a task whose usage is in no event.

        Args:
            type: The type of the task.
            memory_mb: Its peak memory in MB.

        Raises:
            InvalidTaskError: The memory is no amount above 0.
        """
        units = to_units(_MEMORY, memory_mb)
        if not units:
            msg = "memory_mb: what a task has used is more than 0"
            raise InvalidTaskError(msg, hint="leave out what was not measured")
        with self._lock:
            self._learn(type, units)

    def hear(self, event: Event) -> None:
        """Learn from *event* how much a task has used: see `Hears`."""
        self.take(event, None)

    def take(self, event: Event, document: Any) -> None:
        """Learn from *event* how much a task has used: see `Projection`."""
        del document
        with self._lock:
            self._take_in(event)

    def _take_in(self, event: Event) -> None:
        if isinstance(event, TaskSubmitted):
            self._types[event.task_id] = event.type
        elif isinstance(event, TaskRetrying):
            # The attempt ended for want of memory, so the task needs more than it had.
            if event.cause == "undersized":
                self._measured(self._types.get(event.task_id), event.usage)
        elif isinstance(event, TaskCompleted):
            self._measured(self._types.pop(event.task_id, None), event.usage)
        elif isinstance(event, TaskFailed):
            kind = self._types.pop(event.task_id, None)
            # Other failed attempts may have ended long before they needed all their
            # memory.
            if event.failure_class == "memory_error":
                self._measured(kind, event.usage)
        elif isinstance(event, TaskCancelled):
            self._types.pop(event.task_id, None)

    def _measured(self, kind: str | None, usage: Units) -> None:
        units = dict(usage).get(_MEMORY, 0)
        if kind is not None and units:
            self._learn(kind, units)

    def _learn(self, kind: str, units: int) -> None:
        used = self._used.setdefault(kind, deque(maxlen=_KEPT))
        used.append(units)
        count = len(used)
        if count < _FEW:
            return
        ranked = sorted(used)
        most = quantile(ranked, self._percent)
        margin = _spread(ranked[: bisect_right(ranked, most)]) * (1 + _UNSURE / count)
        # The size is rounded first, since floats may leave a tiny rest.
        size = round((most * self.safety + margin) / _MILLION, 6)
        part = "" if self._percent == 100 else f"{self._percent} % of "  # noqa: PLR2004
        reason = (
            f"{part}{count} tasks of its type used {amount(round(most / _MILLION))}"
        )
        self._sizes[kind] = _Size(
            max(_LEAST, math.ceil(size)) * _MILLION, f"{reason} or less"
        )

    # -- methods of `Learns` -------------------------------------------------------

    def attach(self, orchestrator: Any) -> None:
        """
        Connect to the events of *orchestrator*: see `Learns`.

        Raises:
            InvalidTaskError: It belongs to another orchestrator already.
        """
        if self._is_attached:
            msg = f"{self!r} measures for another orchestrator already"
            raise InvalidTaskError(msg, hint="make a Measured for each")
        self._is_attached = True
        orchestrator.signals.follow(self)

    def choice_of(self, task_id: str, attempt: int) -> None:
        """Make no choice, as there are no arms: see `Learns`."""

    def restore(self, kept: Callable[[str], Mapping[str, Any]]) -> None:
        """Do nothing, since the events have all that it learnt: see `Learns`."""

    def __getstate__(self) -> dict[str, Any]:
        # A simulation asks a copy, and attaches it nowhere.
        own = {"_lock": None, "_is_attached": False, "position": 0}
        with self._lock:
            return deepcopy({**vars(self), **own})

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=Lock())

    def __repr__(self) -> str:
        arguments = f"quantile={self.quantile:g}, safety={self.safety:g}"
        return f"Measured({self.base!r}, {arguments})"
