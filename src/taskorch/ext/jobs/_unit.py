"""Running unit of a job: its share, its threads, and its messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any, Final, TypeVar

from taskorch.api._contexts import TaskContext
from taskorch.ext.channel import Channel
from taskorch.model.ids import last_of, stem_of

T = TypeVar("T")
#: The least seconds between two checks of the grant.
_LOOK: Final = 0.05


class UnitThreads:
    """
    Threads of a unit; their number follows its grant, which may change as it runs.

    Attributes:
        busy_seconds: The working time of all threads together.
        granted_seconds: The granted time of all threads together.
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
        """Number of threads that the unit may use now."""
        return max(1, min(self._most, int(self._context.allocation.get("threads", 1))))

    def look(self, *, now: bool = False) -> None:
        """Stop here if asked to, and follow the present grant of threads."""
        passed = monotonic() - self._looked
        if now or passed >= _LOOK:
            self.granted_seconds += passed * self.granted
            self._looked += passed
            self._context.checkpoint(self._context.restored)

    def map(self, fn: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
        """
        Call *fn* with each of *items* on the threads, and yield the results in order.

        Never more calls run than threads are granted; the grant is checked between two
        results.
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
        """Release the threads."""
        self.granted_seconds += (monotonic() - self._looked) * self.granted
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class Unit:
    """
    Unit (*tadpole*) of a job, which the function of an objective gets.

    Attributes:
        id: Its id, a UUID.
        index: Its index among the units of its job, from 0.
        count: The number of units of its job.
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
        #: The reward that it gives itself: see `reward`.
        self.own_reward: float | None = None

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return the part of *items* for this unit; the units share all of them."""
        return items[self.index :: self.count]

    def tell(self, message: Any) -> None:
        """Send *message*, a JSON value, to the orchestrator over the channel."""
        received = self._channel.receive(self._channel.send(message))
        self._heard(self, received)

    def checkpoint(self) -> None:
        """Stop here if asked to, and follow the present grant."""
        self.threads.look(now=True)
