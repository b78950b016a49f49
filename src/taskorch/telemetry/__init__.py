"""
What ran, for tools that draw it: traces for ui.perfetto.dev and chrome://tracing.

Here belongs what collects events and histories and writes them in others' formats;
nothing here may read a clock, change a task, or decide.
"""

from taskorch.telemetry._slices import Slice as Slice
from taskorch.telemetry._trace import Trace as Trace
