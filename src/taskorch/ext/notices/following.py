"""`orch.events(…)`: one event after another, as they happen."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, Self

from taskorch.core.engine import Latch, asyncio, resolve_on
from taskorch.core.handles.handles import TaskHandle
from taskorch.errors import InvalidTaskError, NotRunningError, WouldBlockError
from taskorch.events import (
    KEPT,
    SIGNALS,
    Event,
    EventsLost,
    OrchestratorStopped,
    signal_name,
)
from taskorch.kit.checks import check_count
from taskorch.kit.visible import as_text, show
from taskorch.kit.vocabulary import meant

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime

#: The classes of events that are followed, by the names of their signals.
FOLLOWED: Final = {name: cls for name, cls in SIGNALS.items() if cls in KEPT}


class EventStream:
    """
    Events as they happen, for a `for` or an `async for`, until the orchestrator stops.

    It is for one consumer. It has all events from the moment in which it was made;
    `close`, the end of a `with` block, or the loss of the last reference ends it.
    If events are not taken in time, an `EventsLost` takes their place.
    """

    def __init__(self, runtime: Any, task: object, types: object, most: int) -> None:
        check_count("buffer", most, least=1)
        if runtime.closed:
            msg = "the orchestrator has stopped: there are no more events"
            raise NotRunningError(msg, hint="orch.tasks() says what became of the work")
        runtime.deciders.refuse_reentry()
        self._rt: Runtime = runtime
        self._task = _task_of(task)
        self._classes = _classes_of(types)
        self._most = most
        self._events: deque[Event] = deque()
        self._missed = 0
        self._is_over = False
        self._lock = threading.Lock()
        self._latch = Latch()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]]] = []
        ref = weakref.ref(self)
        signals = runtime.signals
        names = [signal_name(cls) for cls in self._classes | {OrchestratorStopped}]

        def receive(event: Event) -> None:
            stream = ref()
            if stream is None:
                for name in names:
                    getattr(signals, name).disconnect(receive)
            else:
                stream._put(event)

        for name in names:
            getattr(signals, name).connect(receive)

    def _put(self, event: Event) -> None:
        """Add *event*, on the publisher's thread."""
        with self._lock:
            if self._is_over:
                return
            if type(event) in self._classes and self._is_about(event):
                if len(self._events) >= self._most:
                    self._events.popleft()
                    self._missed += 1
                self._events.append(event)
            self._is_over = type(event) is OrchestratorStopped
        self._wake()

    def _is_about(self, event: Event) -> bool:
        if self._task is None:
            return True
        task_id = getattr(event, "task_id", None)
        return task_id is not None and fnmatchcase(task_id, self._task)

    def _wake(self) -> None:
        self._latch.set()
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            resolve_on(loop, [future])

    def _take(self) -> Event | None:
        """Return the next event; None if there is none yet; hold the lock."""
        if not self._events:
            return None
        if self._missed:
            lost, self._missed, first = self._missed, 0, self._events[0]
            return EventsLost(first.seq, first.at_ns, "all", "orch.events()", lost)
        return self._events.popleft()

    def close(self) -> None:
        """End the stream: no more events come."""
        with self._lock:
            self._is_over = True
            self._events.clear()
            self._missed = 0
        self._wake()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while True:
            with self._lock:
                event = self._take()
                is_over = self._is_over
            if event is not None:
                return event
            if is_over:
                raise StopIteration
            if self._rt.loops.is_mine():
                msg = "the next event would block the event loop"
                hint = "async for event in orch.aio.events(…)"
                raise WouldBlockError(msg, hint=hint)
            self._latch.wait()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        loop = asyncio.get_running_loop()
        while True:
            future: asyncio.Future[Any] = loop.create_future()
            with self._lock:
                event = self._take()
                is_over = self._is_over
                if event is None and not is_over:
                    self._waiting.append((loop, future))
            if event is not None:
                return event
            if is_over:
                raise StopAsyncIteration
            await future

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _task_of(task: object) -> str | None:
    if isinstance(task, TaskHandle):
        return task.task_id
    if task is None or isinstance(task, str):
        return task
    msg = f"task is an id, a pattern such as 'night/*', or a handle, not {show(task)}"
    raise InvalidTaskError(msg)


def _classes_of(types: object) -> frozenset[type[Event]]:
    if types is None:
        return frozenset(FOLLOWED.values())
    if isinstance(types, str | type):
        types = (types,)
    if not isinstance(types, Iterable):
        msg = f"types are names or classes of events, not {show(types)}"
        raise InvalidTaskError(msg, hint="types=('task_completed', TaskFailed)")
    classes: set[type[Event]] = set()
    wanted: Iterable[Any] = types
    for each in wanted:
        cls: Any = SIGNALS.get(as_text(each)) if isinstance(each, str) else each
        if cls not in SIGNALS.values():
            hint = meant(each, SIGNALS, ", ".join(SIGNALS))
            msg = f"types: there is no event {show(each)}"
            raise InvalidTaskError(msg, hint=hint)
        classes.add(cls)
    return frozenset(classes)
