"""
Signals: events for receivers in this process, over blinker (imported only here).

Here belongs how an event finds its receivers; never when it is published, nor what is
in it.
"""

from taskorch.signals._bus import Signals as Signals
from taskorch.signals._bus import TaskSignal as TaskSignal
