"""
Sizes that are measured: what tasks of a type have used is what the next are granted.

Decision: 0233.
"""

from __future__ import annotations

import math
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
from taskorch.model import Resources, Units, quantile, to_units
from taskorch.policies._allocator import ProportionalAllocator
from taskorch.policies._words import amount
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

#: Measurements of a type that are remembered, and how many there must be.
_KEPT: Final = 100
_FEW: Final = 5
#: What is added to the safety after one measurement; after many, as much less.
_OF_ONE: Final = 2.0
#: The highest safety that is no slip.
_SAFEST: Final = 100
#: MB below which no size is: what the system takes for a process counts, too.
_LEAST: Final = 64
#: Events of earlier incarnations that are read, at the most.
_PAST: Final = 200_000
_MILLION: Final = 1_000_000
_MEMORY: Final = "memory_mb"


@attrs.frozen
class _Size:
    """What a task of a type is granted, in millionths of a MB, and why."""

    units: int
    reason: str


class Measured(Projection):
    """
    A ResourceAllocator that grants the memory that earlier tasks of a type have used.

    A task asks for the most that it may need, and few need it. Once five tasks of its
    type were measured, its first attempt is granted what the latest hundred of them
    used, with a margin, and never more than it asks for. With fewer measurements the
    margin is wider. An attempt that is short of memory then is made again with all
    that it asks for: that counts as no try, and is a measurement.

    Programs are measured, as are others whose usage stands in their last event. Elastic
    requests, tasks with `idempotent=False` and resources besides `memory_mb` are left
    as they are. What was measured in the latest 200,000 events of a journal is known
    after a restart.

    Args:
        base: The allocator that grants what is left to ask for; None is a
            `ProportionalAllocator`.
        quantile: The part of those measurements that a size covers, above 0: 1 is all
            of them. It counts in whole hundredths.
        safety: The size, in parts of what was measured: 1 or more. After n
            measurements it is 2/n more.

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
        safety: float = 1.1,
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
        # Rounded first: 0.07 * 100 is a little more than 7.
        self._percent = math.ceil(round(quantile * 100, 9))
        self._trusted = trusted(base, "allocate")
        self._lock = Lock()
        self._is_attached = False
        #: The types of tasks that have not ended.
        self._types: dict[str, str] = {}
        #: By type, in millionths of a MB: the latest last.
        self._used: dict[str, deque[int]] = {}
        self._sizes: dict[str, _Size] = {}

    @property
    def chunks(self) -> Any:
        """Those of the base: see `GrantsChunks`."""
        return said_of(self.base, "allocate", "chunks")

    @property
    def asks(self) -> tuple[ResourceAllocator, ...]:
        """The base: see `AsksOthers`."""
        return (self.base,)

    @property
    def sizes(self) -> Mapping[str, float]:
        """By type, the MB of memory that a task is granted if it asks for more."""
        with self._lock:
            return {kind: size.units / _MILLION for kind, size in self._sizes.items()}

    # -- granting ------------------------------------------------------------------

    def allocate(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        context: Context,
    ) -> Allocation:
        """What the base grants of *request*, or of its size if that is less."""
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
        """The size of what is asked for, if it is less than that."""
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
        Take in what a task used of which no event says so.

        Args:
            type: Its type.
            memory_mb: MB that it had at its peak.

        Raises:
            InvalidTaskError: That is no amount above 0.
        """
        units = to_units(_MEMORY, memory_mb)
        if not units:
            msg = "memory_mb: what a task has used is more than 0"
            raise InvalidTaskError(msg, hint="leave out what was not measured")
        with self._lock:
            self._learn(type, units)

    def hear(self, event: Event) -> None:
        """See `Hears`: take in what *event* says that a task has used."""
        self.take(event, None)

    def take(self, event: Event, document: Any) -> None:
        """See `Projection`: take in what *event* says that a task has used."""
        del document
        with self._lock:
            self._take_in(event)

    def _take_in(self, event: Event) -> None:
        if isinstance(event, TaskSubmitted):
            self._types[event.task_id] = event.type
        elif isinstance(event, TaskRetrying):
            # It was ended where it had too little, so it needs that and more.
            if event.cause == "undersized":
                self._measured(self._types.get(event.task_id), event.usage)
        elif isinstance(event, TaskCompleted):
            self._measured(self._types.pop(event.task_id, None), event.usage)
        elif isinstance(event, TaskFailed):
            kind = self._types.pop(event.task_id, None)
            # Others may have failed long before they had all that they need.
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
        most = quantile(sorted(used), self._percent)
        # Rounded first, so that what floats leave behind is no MB.
        size = round(most * (self.safety + _OF_ONE / count) / _MILLION, 6)
        part = "" if self._percent == 100 else f"{self._percent} % of "  # noqa: PLR2004
        reason = (
            f"{part}{count} tasks of its type used {amount(round(most / _MILLION))}"
        )
        self._sizes[kind] = _Size(
            max(_LEAST, math.ceil(size)) * _MILLION, f"{reason} or less"
        )

    # -- as one that learns --------------------------------------------------------

    def attach(self, orchestrator: Any) -> None:
        """
        See `Learns`: hear the events of *orchestrator*.

        Raises:
            InvalidTaskError: It is part of another one already.
        """
        if self._is_attached:
            msg = f"{self!r} measures for another orchestrator already"
            raise InvalidTaskError(msg, hint="make a Measured for each")
        self._is_attached = True
        orchestrator.signals.follow(self)

    def choice_of(self, task_id: str, attempt: int) -> None:
        """See `Learns`: it chooses among no arms."""

    def restore(self, kept: Callable[[str], Mapping[str, Any]]) -> None:
        """See `Learns`: what it has learnt stands in the events."""

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
