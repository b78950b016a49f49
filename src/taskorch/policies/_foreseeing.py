"""
Grants from the pools that leave room for an expected load.

Decision: worker-pools.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from taskorch.errors import InvalidTaskError, NotRunningError
from taskorch.events import Event
from taskorch.kit.checks import check_seconds
from taskorch.kit.frozen import frozen
from taskorch.kit.visible import show
from taskorch.kit.words import amount
from taskorch.model import NO_RESOURCES
from taskorch.policies._allocator import ProportionalAllocator
from taskorch.policies._rhythm import FORESIGHT, LONGEST, Rhythm
from taskorch.protocols import (
    Allocation,
    AllocationRequest,
    Context,
    PoolView,
    ResourceAllocator,
)
from taskorch.protocols._optional import check_asked
from taskorch.protocols._policies import said_of

_MINUTE: Final = 60.0
#: The most minutes without a question that are filled in: three days.
_MOST_FILLED: Final = 3 * 24 * 60


@frozen
class _NarrowedPool:
    """A pool without the amount that is expected to be needed: see `PoolView`."""

    name: str
    total: float
    free: float
    used: float


class ForeseeingAllocator:
    """
    ResourceAllocator that leaves room for rigid requests that recur.

    It learns, from the requests that it is asked about, how much of each pool rigid
    tasks held in each minute. If a rise recurs by the time of day, and is due within
    *ahead* seconds, elastic requests share the rest, but never get less than their
    least. A load that is three minutes late is no longer expected. Rigid requests are
    granted as by *base*, at any time. The past amounts are kept in the journal every
    quarter of an hour.

    Args:
        base: The allocator that is asked; None is `ProportionalAllocator()`.
        ahead: Seconds in which elastic tasks reach a checkpoint, or end; 7,200 at most.
        zone: The time zone of the recurring load.

    Raises:
        InvalidTaskError: *base* is no allocator, or one that learns; *ahead* is no
            number of seconds, or there is no such zone.
    """

    def __init__(
        self,
        base: ResourceAllocator | None = None,
        *,
        ahead: float = 600.0,
        zone: str = "UTC",
    ) -> None:
        self.base: Any = ProportionalAllocator() if base is None else base
        check_asked("base", self.base, ResourceAllocator)
        self.ahead: float = check_seconds("ahead", ahead)
        if self.ahead > LONGEST:
            msg = f"ahead={show(ahead)}: loads are foreseen for {LONGEST:g} seconds"
            raise InvalidTaskError(msg, hint="ahead=600, and checkpoints that often")
        self.zone = zone
        Rhythm("", zone)
        #: The rhythms by pool.
        self._rhythms: dict[str, Rhythm] = {}
        #: The time of the last question: no rigid task has started since.
        self._asked: float | None = None
        self._kept: Mapping[str, Any] = {}
        self._orch: Any = None
        #: Documents that the journal is to keep: names and payloads.
        self._due: deque[tuple[str, Any]] = deque()

    @property
    def rigid(self) -> bool:
        """True if *base* grants whole requests only: see `GrantsWhole`."""
        return bool(said_of(self.base, "allocate", "rigid"))

    @property
    def chunks(self) -> Mapping[str, float] | None:
        """Chunks of *base*: see `GrantsChunks`."""
        chunks: Mapping[str, float] | None = said_of(self.base, "allocate", "chunks")
        return chunks

    @property
    def asks(self) -> tuple[Any, ...]:
        """Allocator that it asks."""
        return (self.base,)

    def allocate(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        context: Context,
    ) -> Allocation:
        """Return the grant of *base* from the pools without the expected need."""
        held = self._held(pools, context)
        if request.least is not None:
            self._note(held, held, context.now)
            narrowed, words = self._narrowed(request, pools, held, context.now)
            answer = self.base.allocate(request, narrowed, context)
            if words and answer.granted is None:
                return self._plainly(request, pools, context)
            reason = "; ".join([answer.reason, *words])
            return Allocation(answer.granted, reason, answer.reusable)
        answer = self._plainly(request, pools, context)
        after = dict(held)
        for name, much in (answer.granted or NO_RESOURCES).items():
            after[name] = after.get(name, 0.0) + much
        self._note(held, after, context.now)
        return answer

    def _plainly(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        context: Context,
    ) -> Allocation:
        answer: Allocation = self.base.allocate(request, pools, context)
        return answer

    def _narrowed(
        self,
        request: AllocationRequest,
        pools: Mapping[str, PoolView],
        held: Mapping[str, float],
        now: float,
    ) -> tuple[dict[str, PoolView], list[str]]:
        """Return the pools less the expected need, but with the least of *request*."""
        narrowed, words = dict(pools), []
        least, own = request.least or NO_RESOURCES, request.held or NO_RESOURCES
        for name in set(request.resources).intersection(pools):
            expected = self._rhythm(name, now).expects(now, self.ahead)
            if expected is not None:
                pool = pools[name]
                room = max(0.0, pool.free + own[name] - least[name])
                room = min(room, expected.level - held[name])
                if room > 0:
                    narrowed[name] = _NarrowedPool(
                        name, pool.total - room, pool.free - room, pool.used
                    )
                    words.append(f"{amount(room)} {name} left free, {expected.words}")
        return narrowed, words

    @staticmethod
    def _held(pools: Mapping[str, PoolView], context: Context) -> dict[str, float]:
        """Return the amounts that rigid tasks hold of each pool."""
        held = {name: pool.used for name, pool in pools.items()}
        for each in context.view.contenders():
            for elastic in each.held:
                for name, much in elastic.items():
                    held[name] = held.get(name, 0.0) - much
        return held

    # -- recurring load ------------------------------------------------------------

    def _note(
        self, before: Mapping[str, float], after: Mapping[str, float], now: float
    ) -> None:
        """Note the amounts of rigid tasks *before* the answer, and *after* it."""
        since = now if self._asked is None else self._asked
        for name, much in after.items():
            rhythm = self._rhythm(name, now)
            # No rigid task has started since the last question, so the tasks that hold
            # amounts now have held them all the time.
            least = _level(before.get(name, 0.0))
            for minute in range(1, min(int((now - since) / _MINUTE), _MOST_FILLED) + 1):
                rhythm.note(now - minute * _MINUTE, least)
            rhythm.note(now, _level(much))
            if self._orch is not None:
                self._due += rhythm.to_keep(now)
        self._asked = now

    def _rhythm(self, pool: str, now: float) -> Rhythm:
        rhythm = self._rhythms.get(pool)
        if rhythm is None:
            rhythm = self._rhythms[pool] = Rhythm(f"allocator/{pool}", self.zone)
            rhythm.recall(self._kept, now)
        return rhythm

    # -- documents: see `Learns` ---------------------------------------------------

    def attach(self, orchestrator: Any) -> None:
        """
        Attach it to an orchestrator; called by that.

        Raises:
            InvalidTaskError: It belongs to another orchestrator already.
        """
        if self._orch is not None:
            msg = f"{self!r} learns for another orchestrator already"
            raise InvalidTaskError(msg, hint="make a ForeseeingAllocator for each")
        self._orch = orchestrator
        orchestrator.signals.task_started.connect(self._keep)

    def restore(self, kept: Callable[[str], Mapping[str, Any]]) -> None:
        """Load the documents of earlier incarnations; called at the start."""
        # The mapping is copied, since an allocation holds the lock and can read
        # nothing.
        self._kept = dict(kept(FORESIGHT))

    def choice_of(self, task_id: str, attempt: int) -> None:
        """Make no choice, as there are no arms; called as an attempt begins."""

    def _keep(self, _event: Event) -> None:
        """Keep the documents that are due in the journal; `allocate` has the lock."""
        while self._due:
            name, payload = self._due.popleft()
            with suppress(NotRunningError):
                self._orch.kept(FORESIGHT).update({name: payload})

    def __repr__(self) -> str:
        return f"ForeseeingAllocator({self.base!r})"


def _level(much: float) -> int:
    return math.ceil(round(much, 6))
