"""
Signals: events for receivers in this process, over blinker (imported only here).

Here belongs how an event finds its receivers; never when it is published, nor what is
in it. The runtime publishes, on a thread of its own, what is committed: a receiver that
is slow holds up nothing. Who follows from another process asks the service.

- `_bus`: the signals of an orchestrator, by the names of its events.
- `_signal`: one blinker signal for every event class, ordered and strong.
"""

from typing import TYPE_CHECKING

from taskorch.kit import load_late as _load_late
from taskorch.signals._bus import Signals as Signals

if TYPE_CHECKING:
    from taskorch.signals._signal import TaskSignal as TaskSignal

#: What is loaded when it is first asked for, and the module that has it.
_LATE = {"TaskSignal": "_signal"}

if not TYPE_CHECKING:
    # Checkers have the names from the imports above, and no others.

    def __getattr__(name: str) -> object:
        return _load_late(__name__, _LATE, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
