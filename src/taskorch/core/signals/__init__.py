"""
Signals: events for listeners in this process, over blinker (imported only here).

This package brings an event to its listeners; it decides neither when it is published
nor its content. The runtime publishes committed events on a thread of its own, so a
slow listener delays nothing. A listener in another process asks the service.

- `_bus`: the signals of an orchestrator, by the names of its events.
- `_signal`: one blinker signal for every event class, ordered and strong.
"""

from typing import TYPE_CHECKING

from taskorch.core.signals._bus import Signals as Signals
from taskorch.kit import load_late as _load_late

if TYPE_CHECKING:
    from taskorch.core.signals._signal import TaskSignal as TaskSignal

#: The names that are loaded on first use, each with its module.
_LATE = {"TaskSignal": "_signal"}

if not TYPE_CHECKING:
    # Type checkers know the names from the imports above, and no others.
    __getattr__, __dir__ = _load_late(__name__, _LATE)
