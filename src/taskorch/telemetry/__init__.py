"""What ran, for tools that draw it: traces for ui.perfetto.dev and chrome://tracing."""

from taskorch.telemetry._slices import Slice as Slice
from taskorch.telemetry._trace import Trace as Trace
