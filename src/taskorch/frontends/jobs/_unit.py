"""One unit of a job while it runs: its share, its threads, and its way to be heard."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any, Final, TypeVar

from taskorch._contexts import TaskContext
from taskorch.frontends.channel import Channel
from taskorch.model.ids import last_of, stem_of

T = TypeVar("T")
#: Seconds between two looks at what is granted, at the least.
_LOOK: Final = 0.05


class UnitThreads:
    """
    The threads of a unit: as many as are granted to it, which may change as it runs.

    Attributes:
        busy_seconds: How long threads have worked, all together.
        granted_seconds: How long threads were granted, all together.
    """

    def __init__(self, context: TaskContext, most: int) -> None:
        self._context = context
        self._most = most
        self._looked = monotonic()
        self._pool: ThreadPoolExecutor | None = None
        self.busy_seconds: float = 0.0
        self.granted_seconds: float = 0.0

    @property
    def granted(self) -> int:
        """How many threads it may use now."""
        return max(1, min(self._most, int(self._context.allocation.get("threads", 1))))

    def look(self, *, now: bool = False) -> None:
        """Stop here if that is asked, and take what the grant is from now on."""
        passed = monotonic() - self._looked
        if now or passed >= _LOOK:
            self.granted_seconds += passed * self.granted
            self._looked += passed
            self._context.checkpoint(self._context.restored)

    def map(self, fn: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
        """
        Call *fn* with each of *items*, on the threads; the results come in order.

        No more calls are under way than threads are granted; between two results the
        grant is looked at.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._most)

        def timed(item: Any) -> T:
            began = monotonic()
            try:
                return fn(item)
            finally:
                self.busy_seconds += monotonic() - began

        under_way: deque[Future[T]] = deque()
        for item in items:
            while len(under_way) >= self.granted:
                yield under_way.popleft().result()
                self.look()
            under_way.append(self._pool.submit(timed, item))
        while under_way:
            yield under_way.popleft().result()
            self.look()

    def close(self) -> None:
        """Let go of the threads."""
        self.granted_seconds += (monotonic() - self._looked) * self.granted
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class Unit:
    """
    What the function of an objective is given of the unit (*tadpole*) that it is.

    Attributes:
        id: Its id, a UUID.
        index: Which of the units of its job it is, from 0.
        count: How many there are.
        context: The context of its task.
        threads: Its threads.
    """

    def __init__(
        self,
        context: TaskContext,
        index: int,
        count: int,
        most_threads: int,
        channel: Channel,
        heard: Callable[[Unit, Any], None],
    ) -> None:
        self.context = context
        self.id: str = last_of(stem_of(context.task_id))
        self.index = index
        self.count = count
        self.threads: UnitThreads = UnitThreads(context, most_threads)
        self._channel = channel
        self._heard = heard
        #: What it thinks of itself: see `reward`.
        self.own_reward: float | None = None

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The part of *items* that is this unit's: those of all units are all."""
        return items[self.index :: self.count]

    def tell(self, message: Any) -> None:
        """Tell the orchestrator *message*, which JSON can say, over the channel."""
        received = self._channel.receive(self._channel.send(message))
        self._heard(self, received)

    def checkpoint(self) -> None:
        """Stop here if that is asked, and follow what is granted."""
        self.threads.look(now=True)
