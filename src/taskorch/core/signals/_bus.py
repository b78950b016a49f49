"""The signals of an orchestrator, by the names of its events."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskorch.errors import InvalidTaskError
from taskorch.events import SIGNALS, Event

if TYPE_CHECKING:
    from taskorch.core.signals._signal import TaskSignal
    from taskorch.protocols import Projection


class Signals:
    """
    The signals, such as `orch.signals.task_completed`, by the names of their events.

    Args:
        changed: Called when a listener comes or goes.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        #: The function that starts a projection; None if there is none.
        self.begins: Callable[[Projection], Callable[[], None]] | None = None
        self._made: dict[str, TaskSignal] = {}

    def __getattr__(self, name: str) -> TaskSignal:
        cls = SIGNALS.get(name)
        if cls is None:
            names = ", ".join(SIGNALS)
            msg = f"no signal {name!r}; there are {names}"
            raise AttributeError(msg)
        signal = self._made.get(name)
        if signal is None:
            from taskorch.core.signals._signal import TaskSignal  # noqa: PLC0415 - with the first

            # If two threads ask first, both get the signal that was stored first.
            signal = self._made.setdefault(name, TaskSignal(name, cls, self._changed))
        return signal

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *SIGNALS]

    def follow(self, projection: Projection) -> Callable[[], None]:
        """
        Send past events to *projection*, and then all new ones.

        If a durable orchestrator has not started, past events are read at its start;
        otherwise they have been sent when this returns.

        Returns:
            A function without arguments that ends it.

        Raises:
            InvalidTaskError: The projection is malformed, or has taken more events than
                the journal has.
            JournalError: The journal cannot be read.
            NotRunningError: The orchestrator has stopped.
        """
        if self.begins is None:
            msg = "nothing follows the events of a simulation: a part has hear(event)"
            raise InvalidTaskError(msg, hint="see taskorch.protocols.Hears")
        return self.begins(projection)

    def connected(
        self,
    ) -> dict[type[Event], tuple[str, tuple[Callable[..., Any], ...]]]:
        """Return the listeners by event class."""
        return {
            signal.event_class: (signal.name, signal.ordered)
            for signal in list(self._made.values())
            if signal.ordered
        }
