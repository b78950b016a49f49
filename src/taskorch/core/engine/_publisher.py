"""
Publishing: listeners get events on one thread, in the order of their numbers.

A listener that holds the thread for longer than a second keeps that thread for itself,
and a new one takes over for all the others, so no listener delays another. The queue of
a listener is bounded; lost events are counted and reported.

Decision: followers-of-events.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from time import monotonic, sleep
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Protocol

from taskorch.core.engine._asyncio import asyncio
from taskorch.events import (
    VIEWS,
    Event,
    EventsLost,
    ReceiverFailed,
    TaskCompleted,
    signal_name,
    view_of,
)
from taskorch.kit.interrupts import (
    DEFERRED,
    defers_interrupts,
    raise_deferred,
)
from taskorch.kit.limits import (
    GRACE_SECONDS,
    RECEIVER_BACKLOG,
    SLOW_RECEIVER_SECONDS,
)
from taskorch.kit.visible import show

if TYPE_CHECKING:
    from taskorch.core.engine._loops import LoopHost

__all__ = ("Publisher", "Receiver")


#: In the place of a signal, the name of a listener to many.
PROJECTION: Final = "projection"
#: How often the thread yields to others before it goes to sleep.
_PATIENT: Final = 3
#: Seconds after which a wait for listeners looks for an interrupt.
_SLICE: Final = 0.1
#: The call of an async listener that the code is part of, so that it does not wait for
#: itself.
RECEIVING: Final[ContextVar[Call | None]] = ContextVar(
    "taskorch_receiving", default=None
)


class Call:
    """One call of a listener; a thread that makes many calls reuses one object."""

    __slots__ = ("excused", "receiver", "since")

    def __init__(self, receiver: Receiver) -> None:
        self.receiver: Receiver = receiver
        self.since: float = monotonic()
        #: Whether it waits for all to be served, so that nobody waits for it.
        self.excused = False


class Receiver:
    """The listener of one signal, with its backlog and its losses."""

    __slots__ = ("backlog", "busy", "call", "lost", "name", "own", "signal")

    #: Whether it takes documents as well, and one listener stands for all signals.
    is_projection = False
    #: Whether it reads missed events in the journal, so that it loses none.
    can_read_again = False
    #: The classes of events that a projection wants.
    classes: frozenset[type[Event]] = frozenset()

    def __init__(self, signal: str, call: Callable[..., Any]) -> None:
        self.signal: str = signal
        self.call: Callable[..., Any] = call
        self.name: str = getattr(call, "__qualname__", None) or show(call)
        #: Whether it has a thread of its own, because it was slow.
        self.own: bool = False
        self.backlog: deque[Any] = deque()
        #: Whether that thread is at work.
        self.busy: bool = False
        #: The number of events that it has lost.
        self.lost: int = 0

    def entry(self, event: Event, cargo: Any) -> Any:
        """Return the argument for the call of a projection."""
        del cargo
        return event

    def miss(self, seq: int) -> bool:
        """Note that an event is not passed on; return whether to mark its place."""
        del seq
        self.lost += 1
        return False

    def trouble(self) -> str:
        """Return the name, with details, if it is slow; else ""."""
        return self.name if self.own and self.busy else ""


def _nobody(event: object) -> None:
    """Do nothing: it takes the place of a listener after its call."""


_NOBODY: Final = Receiver("", _nobody)


class Watches(Protocol):
    """Protocol: the timer, which watches the publisher."""

    def watch(self, seconds: float) -> None:
        """Look after the publisher in *seconds*; hold the controller's lock."""
        ...


class Notes(Protocol):
    """Protocol: logs listeners that take long."""

    def receiver_was_slow(self, receiver: Receiver, seconds: float) -> None:
        """Log a listener or callback that took long."""
        ...


class Hurries(Protocol):
    """Protocol: knows whether all waits are to end at once."""

    @property
    def hurried(self) -> bool:
        """Whether all that waits is to end at once."""
        ...


class Tells(Protocol):
    """Protocol: what the publisher asks of the runtime."""

    lock: threading.Lock
    loops: LoopHost
    name: str

    @property
    def notices(self) -> Notes:
        """The log of slow listeners."""
        ...

    @property
    def timer(self) -> Watches:
        """The timer, which watches the publisher."""
        ...

    @property
    def waiting(self) -> Hurries:
        """The waits, which may be in a hurry."""
        ...

    def fail_stop(self, error: BaseException) -> None:
        """Stop everything because of a fault of our own."""
        ...

    def note_locked(self, cls: type[Event], *fields: Any) -> None:
        """Record an event and publish it; hold the lock."""
        ...

    def receiver_failed(self, receiver: Receiver, error: BaseException) -> None:
        """Report that a listener raised."""
        ...


class Publisher:
    """The queue of events, the thread that empties it, and the listeners."""

    def __init__(self, rt: Tells) -> None:
        self._rt = rt
        #: The items to publish: `(event, cargo)`, or `(callback, argument)`.
        self.queue: deque[tuple[Any, Any]] = deque()
        #: The calls for the item at hand.
        self._todo: deque[tuple[Receiver, Any]] = deque()
        self.receivers: dict[type[Event], tuple[Receiver, ...]] = {}
        #: The listeners that are projections.
        self.projections: tuple[Any, ...] = ()
        self.lost: int = 0
        self._wake = threading.Lock()
        self._wake.acquire()
        self._asleep = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = False
        #: The call that the thread is in.
        self._calling: Call | None = None
        #: The calls of slow and of async listeners, by thread or by task.
        self._apart: dict[object, Call] = {}
        self._idle = threading.Condition(self._lock)
        #: Async listeners under way.
        self._tasks: set[asyncio.Task[None]] = set()
        self.limit = RECEIVER_BACKLOG
        #: Seconds after which a listener gets a thread of its own.
        self.slow_after = SLOW_RECEIVER_SECONDS
        #: Seconds after which waits for a call end without it.
        self.patience = GRACE_SECONDS

    # -- the controller's side: under its lock --------------------------------------

    def put(self, items: list[tuple[Any, Any]]) -> None:
        """Publish *items* after those in the queue."""
        queue = self.queue
        if len(queue) >= self.limit:
            items = self._drop(items)
        queue.extend(items)
        if self._asleep:
            self._asleep = False
            self._wake.release()
        elif self._thread is None:
            # If the system has no thread for it, the timer tries again.
            with suppress(RuntimeError):
                self._begin()
        else:
            # The thread is at work already, and watched.
            return
        self._rt.timer.watch(self.slow_after)

    def begin(self) -> None:
        """Start the thread, and watch it, before there are events to publish."""
        with self._rt.lock:
            if self._thread is None:
                self._begin()
                self._rt.timer.watch(self.slow_after)

    def _drop(self, items: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        """Drop the newest events for slow listeners, and count them."""
        kept = []
        for item in items:
            event = item[0]
            if not isinstance(event, Event):
                # A done-callback must be called.
                kept.append(item)
                continue
            for cls in VIEWS[type(event)]:
                for receiver in self.receivers.get(cls, ()):
                    if receiver.miss(event.seq):
                        kept.append((receiver, None))
                    self.lost += not receiver.can_read_again
        return kept

    def _begin(self) -> None:
        before = self._thread
        self._thread = thread = threading.Thread(
            target=self._loop, name=f"{self._rt.name}-publisher", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            self._thread = before
            raise

    # -- the thread ----------------------------------------------------------------

    def _loop(self) -> None:
        try:
            self._publish()
        except BaseException as error:  # noqa: BLE001 - listeners' are caught below
            self._rt.fail_stop(error)

    def _publish(self) -> None:
        me = threading.current_thread()
        todo = self._todo
        call = Call(_NOBODY)
        while self._thread is me:
            if todo:
                call.receiver, arg = todo.popleft()
                self._deliver(call, arg)
                # The thread may be idle for long, so it keeps neither object alive.
                call.receiver = _NOBODY
                del arg
                continue
            try:
                item = self.queue.popleft()
            except IndexError:
                if not self._sleep():
                    return
                continue
            self._expand(*item)
            del item

    def _sleep(self) -> bool:
        """Wait for something to publish; return False if there will be no more."""
        # Running work mostly has an event at once: to sleep and be woken for each would
        # cost more than all the rest.
        for _ in range(_PATIENT):
            sleep(0)
            if self.queue:
                return True
        with self._rt.lock:
            if self.queue or self._todo:
                return True
            self._say_lost()
            if self.queue:
                return True
            with self._idle:
                if self._closing:
                    self._thread = None
                else:
                    self._asleep = True
                self._idle.notify_all()
            if self._closing:
                return False
        self._wake.acquire()
        return True

    def _say_lost(self) -> None:
        """Report the lost events of each listener; hold the controller's lock."""
        for receivers in list(self.receivers.values()):
            for receiver in receivers:
                lost, receiver.lost = receiver.lost, 0
                # The loss of this very event would be reported for ever.
                if lost and receiver.signal != signal_name(EventsLost):
                    self._rt.note_locked(
                        EventsLost, receiver.signal, receiver.name, lost
                    )

    def _expand(self, item: Any, cargo: Any) -> None:
        """Turn one item of the queue into calls."""
        if not isinstance(item, Event):
            receiver = item if isinstance(item, Receiver) else Receiver("done", item)
            self._todo.append((receiver, cargo))
            return
        for cls in VIEWS[type(item)]:
            receivers = self.receivers.get(cls)
            if not receivers:
                continue
            event = _event(cls, item, cargo)
            if event is not None:
                for receiver in receivers:
                    arg = event
                    if receiver.is_projection:
                        arg = receiver.entry(event, cargo)
                    self._todo.append((receiver, arg))

    def _deliver(self, call: Call, arg: Any) -> None:
        receiver = call.receiver
        if receiver.own:
            self._hand_over(receiver, arg)
            return
        call.since = monotonic()
        self._calling = call
        self._call_timed(call, arg)
        with self._lock:
            if self._calling is call:
                self._calling = None
                return
        # It was slow, so another thread has taken over, and this one belongs to it.
        self._serve(receiver)

    def _hand_over(self, receiver: Receiver, arg: Any) -> None:
        with self._lock:
            if len(receiver.backlog) >= self.limit:
                if not receiver.can_read_again:
                    receiver.lost += 1
                    self.lost += 1
                elif arg is not None:
                    # A mark takes the place of all: it reads them in the journal.
                    receiver.miss(arg[0].seq)
                    receiver.backlog.clear()
                    receiver.backlog.append(None)
                return
            receiver.backlog.append(arg)
            if receiver.busy:
                return
            receiver.busy = True
            thread = threading.Thread(
                target=self._serve_apart,
                args=(receiver,),
                name=f"{self._rt.name}-receiver",
                daemon=True,
            )
            self._apart[thread] = Call(receiver)
        try:
            thread.start()
        except RuntimeError:
            # The system has no more threads, so this one serves it.
            with self._lock:
                del self._apart[thread]
            self._serve(receiver)

    def _serve_apart(self, receiver: Receiver) -> None:
        try:
            self._serve(receiver)
        except BaseException as error:  # noqa: BLE001 - the reason is that of the loop
            self._rt.fail_stop(error)

    def _serve(self, receiver: Receiver) -> None:
        """Pass *receiver* the events in its backlog, on a thread of its own."""
        me = threading.current_thread()
        while True:
            with self._lock:
                self._apart.pop(me, None)
                if not receiver.backlog:
                    receiver.busy = False
                    self._idle.notify_all()
                    return
                event = receiver.backlog.popleft()
                self._apart[me] = call = Call(receiver)
            self._call_timed(call, event)
            del event

    def _call_timed(self, call: Call, arg: Any) -> None:
        self._call(call.receiver, arg)
        took = monotonic() - call.since
        if took > self.slow_after:
            self._rt.notices.receiver_was_slow(call.receiver, took)

    def _call(self, receiver: Receiver, arg: Any) -> None:
        try:
            result = receiver.call(arg)
            # Not every awaitable is awaited: a listener may return a task's handle.
            if type(result) is CoroutineType:
                self._await(receiver, result)
        except BaseException as error:  # noqa: BLE001 - no listener harms others
            self.failed(receiver, error)

    def _await(
        self, receiver: Receiver, coroutine: Coroutine[Any, Any, object]
    ) -> None:
        """Run an async listener on the loop."""
        call = Call(receiver)
        with self._lock:
            self._apart[call] = call

        def over() -> None:
            with self._lock:
                self._apart.pop(call, None)
                self._idle.notify_all()

        async def run() -> None:
            RECEIVING.set(call)
            try:
                await coroutine
            except asyncio.CancelledError:
                # The loop ends, and with it the listener.
                raise
            except BaseException as error:  # noqa: BLE001 - no listener harms others
                self.failed(receiver, error)

        def begin() -> None:
            task = asyncio.get_running_loop().create_task(run())
            # The loop itself holds tasks weakly.
            self._tasks.add(task)
            task.add_done_callback(end)

        def end(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            coroutine.close()
            over()

        if not self._rt.loops.call(begin):
            coroutine.close()
            over()

    def failed(self, receiver: Receiver, error: BaseException) -> None:
        """Report that *receiver* raised, unless it listens to such reports."""
        if receiver.signal != signal_name(ReceiverFailed):
            self._rt.receiver_failed(receiver, error)

    # -- watching ------------------------------------------------------------------

    def relieve(self) -> float | None:
        """
        Take over from a listener that holds the thread for too long.

        Returns:
            Seconds until the next look, or None.
        """
        with self._lock:
            call = self._calling
            if call is None:
                if self._thread is None and self.queue:
                    with suppress(RuntimeError):
                        self._begin()
                    return self.slow_after
                idle = self._thread is None or self._asleep
                return None if idle else self.slow_after
            left = call.since + self.slow_after - monotonic()
            if left > 0:
                return left
            receiver, before = call.receiver, self._thread
            receiver.own = receiver.busy = True
            self._apart[before] = call
            self._calling = None
            try:
                self._begin()
            except RuntimeError:
                # The system has no thread for it: all wait for the listener until there
                # is one.
                receiver.own = receiver.busy = False
                del self._apart[before]
                self._calling = call
        return self.slow_after

    @defers_interrupts
    def flush(self, timeout: float | None) -> bool:
        """
        Wait until listeners have had all items; return whether they have.

        It does not wait for a call that has lasted longer than `patience`, nor for one
        that waits here itself.
        """
        end = None if timeout is None else monotonic() + timeout
        if threading.current_thread() is self._thread:
            return True
        with self.excused(), self._idle:
            while not self._served():
                if self._rt.waiting.hurried and not self._closing:
                    return False
                # A Condition that an interrupt cuts short can keep its lock.
                if DEFERRED:
                    raise_deferred()
                left = _SLICE if end is None else min(end - monotonic(), _SLICE)
                if left <= 0:
                    return False
                self._idle.wait(left)
        return True

    def is_mine(self) -> bool:
        """Return whether the caller is on a thread that calls listeners."""
        me = threading.current_thread()
        return me is self._thread or me in self._apart

    def is_inside(self) -> bool:
        """Return whether the caller is a listener or a callback, or part of one."""
        return self.is_mine() or RECEIVING.get() is not None

    @contextmanager
    def excused(self) -> Iterator[None]:
        """Let the caller wait for other calls, while nobody waits for its own."""
        with self._lock:
            me = threading.current_thread()
            call = RECEIVING.get() or self._apart.get(me)
            if call is None and me is self._thread:
                call = self._calling
            if call is not None:
                call.excused = True
                self._idle.notify_all()
        try:
            yield
        finally:
            if call is not None:
                call.excused = False

    @defers_interrupts
    def hurry(self) -> None:
        """End all waits for listeners."""
        with self._lock:
            self._idle.notify_all()

    @defers_interrupts
    def is_served(self) -> bool:
        """Return whether listeners have had all items; hold the controller's lock."""
        if threading.current_thread() is self._thread:
            return True
        with self._lock:
            return self._served()

    def _served(self) -> bool:
        if self.queue or self._todo or (self._thread is not None and not self._asleep):
            return False
        oldest = monotonic() - self.patience
        return not any(
            call.since > oldest and not call.excused for call in self._apart.values()
        )

    def close(self) -> threading.Thread | None:
        """
        End the thread once the queue is empty; hold the controller's lock.

        Returns:
            The thread.
        """
        self._closing = True
        if self._asleep:
            self._asleep = False
            self._wake.release()
        return self._thread


def _event(cls: type[Event], event: Event, cargo: Any) -> Event | None:
    if type(event) is TaskCompleted:
        return event.with_result(cargo._kept_value)
    return view_of(cls, event)
