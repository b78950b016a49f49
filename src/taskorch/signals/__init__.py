"""
Signals: events for receivers in this process, over blinker (imported only here).

Here belongs how an event finds its receivers; never when it is published, nor what is
in it. The runtime publishes, on a thread of its own, what is committed: a receiver that
is slow holds up nothing. Who follows from another process asks the service.

- `_bus`: one blinker signal for every event class, ordered and strong.
"""

from taskorch.signals._bus import Signals as Signals
from taskorch.signals._bus import TaskSignal as TaskSignal
