"""
One blinker signal for every event class, ordered and strong.

blinker holds listeners weakly by default, calls them in no order, and stops after an
error. Our signals hold them strongly, call them in the order of their connection, and
the publisher guards against errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import blinker

from taskorch.events import Event


def _key(receiver: Any) -> object:
    """Return an identity of a listener, as bound methods are new objects each time."""
    bound = getattr(receiver, "__self__", None)
    if bound is not None and hasattr(receiver, "__func__"):
        return id(bound), id(receiver.__func__)
    return id(receiver)


class TaskSignal(blinker.Signal):
    """
    The signal of one event class.

    `connect(receiver)` calls `receiver(event)` for every event from then on, on the
    publisher's thread; an `async def` listener runs on the loop. A listener may call
    the orchestrator. It works as a decorator.
    """

    def __init__(
        self, name: str, event_class: type[Event], changed: Callable[[], None]
    ) -> None:
        super().__init__(
            f"`{name}`: see {event_class.__module__}.{event_class.__name__}"
        )
        self.name = name
        self.event_class = event_class
        self._changed = changed
        self._ordered: dict[object, Callable[..., Any]] = {}

    def connect(
        self, receiver: Any, sender: Any = blinker.ANY, weak: bool = False
    ) -> Any:
        """
        Call *receiver* with every event of this class.

        Args:
            receiver: A function, or a coroutine function, of one argument.
            sender: Not used: all events come from one orchestrator.
            weak: Not used: listeners are held until they are disconnected.
        """
        if not callable(receiver):
            msg = f"a receiver is called with the event; {receiver!r} cannot be"
            raise TypeError(msg)
        del sender, weak
        super().connect(receiver, weak=False)
        self._ordered[_key(receiver)] = receiver
        self._changed()
        return receiver

    def disconnect(self, receiver: Any, sender: Any = blinker.ANY) -> None:
        """Disconnect *receiver* from the signal."""
        super().disconnect(receiver, sender)
        self._ordered.pop(_key(receiver), None)
        self._changed()

    @property
    def ordered(self) -> tuple[Callable[..., Any], ...]:
        """Listeners in the order in which they were connected."""
        return tuple(self._ordered.values())
