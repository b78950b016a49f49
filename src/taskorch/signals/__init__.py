"""Signals: events for receivers in this process, over blinker (imported only here)."""

from taskorch.signals._bus import Signals as Signals
from taskorch.signals._bus import TaskSignal as TaskSignal
