"""A collector of the events of a real orchestrator."""

from __future__ import annotations

from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from taskorch.core.inside import Inside
from taskorch.events import (
    CATALOGUE,
    Event,
    EventsLost,
    HealthReported,
    PerformanceReported,
    StatsReported,
    TaskReady,
    signal_name,
)
from taskorch.kit.visible import show

if TYPE_CHECKING:
    from taskorch.api._orchestrator import TaskOrchestrator

E = TypeVar("E", bound=Event)

#: Events that come by the clock, and only to listeners.
_MONITORING: Final = (StatsReported, HealthReported, PerformanceReported)
_PLACES: Final = {cls: place for place, cls in enumerate(CATALOGUE)}


class Capture:
    """
    The result of `capture_events`, which collects the events of a block.

    At its end it waits, as `wait` of the orchestrator does, until nothing can proceed
    by itself and all listeners have been served. If the block raises an error, it does
    not wait.
    """

    def __init__(
        self,
        orchestrator: TaskOrchestrator,
        classes: frozenset[type[Event]],
        timeout: float | None,
    ) -> None:
        self._orch = orchestrator
        self._classes = classes
        self._timeout = timeout
        self._seen: list[Event] = []
        #: The number of the last event before the block.
        self._before = inf

    @property
    def events(self) -> list[Event]:
        """The events so far, in order; all of the block's once it has ended."""
        # A listener that was delayed for long is served on a thread of its own.
        return sorted(
            (
                event
                for event in list(self._seen)
                if event.seq > self._before and type(event) in self._classes
            ),
            key=lambda event: (event.seq, _PLACES[type(event)]),
        )

    def of(self, cls: type[E]) -> list[E]:
        """The events of *cls* or a subclass."""
        return [event for event in self.events if isinstance(event, cls)]

    def for_task(self, task_id: str) -> list[Event]:
        """The events whose `task_id` is *task_id*."""
        return [e for e in self.events if getattr(e, "task_id", None) == task_id]

    def __enter__(self) -> Self:
        self._connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._check(self._orch.wait(self._timeout))
        finally:
            self._disconnect()

    async def __aenter__(self) -> Self:
        self._connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._check(await self._orch.aio.wait(self._timeout))
        finally:
            self._disconnect()

    def _signals(self) -> list[Any]:
        signals = self._orch.signals
        wanted = [cls for cls in CATALOGUE if cls in self._classes or cls is EventsLost]
        return [getattr(signals, signal_name(cls)) for cls in wanted]

    def _connect(self) -> None:
        self._seen, self._before = [], inf
        for signal in self._signals():
            signal.connect(self._receive)
        # Events from before the block may not have been published yet.
        self._before = Inside(self._orch).latest_seq()

    def _disconnect(self) -> None:
        for signal in self._signals():
            signal.disconnect(self._receive)

    def _receive(self, event: Event) -> None:
        self._seen.append(event)

    def _check(self, done: bool) -> None:
        if not done and self._timeout is not None:
            msg = (
                f"{self._timeout:g} s after the block events may still come from "
                f"{self._orch!r}: give capture_events a longer timeout, or wait or "
                "stop inside the block"
            )
            raise TimeoutError(msg)
        name = self._receive.__qualname__
        lost = [e for e in self._seen if isinstance(e, EventsLost)]
        if any(e.receiver == name and e.seq > self._before for e in lost):
            msg = "too many events at once, some were lost: capture fewer classes"
            raise RuntimeError(msg)


def capture_events(
    orchestrator: TaskOrchestrator,
    *classes: type[Event],
    timeout: float | None = 30.0,
) -> Capture:
    """
    Collect the events of *orchestrator* in a `with` or an `async with` block.

    The orchestrator may be entered before the block or inside it.

    Args:
        orchestrator: The orchestrator.
        classes: The classes of events, with their subclasses; if none is given, all but
            the three monitoring reports, which come by the clock. `TaskReady`, which
            the journal does not keep, has to be named itself.
        timeout: Seconds that the end of the block waits for work and listeners; None is
            for ever.

    Returns:
        The context manager; `as` gives it too. Its end raises TimeoutError if the
        orchestrator is still at work then, and RuntimeError if there were more events
        at once than it keeps for a listener.

    Raises:
        TypeError: One of *classes* is no class of events.
    """
    for cls in classes:
        candidate: Any = cls
        if not (isinstance(candidate, type) and issubclass(candidate, Event)):
            msg = f"capture_events takes classes of events, not {show(candidate)}"
            raise TypeError(msg)
    wanted = classes or tuple(cls for cls in CATALOGUE if cls not in _MONITORING)
    kinds = frozenset(
        cls
        for cls in CATALOGUE
        if issubclass(cls, wanted) and (cls is not TaskReady or cls in classes)
    )
    return Capture(orchestrator, kinds, timeout)
