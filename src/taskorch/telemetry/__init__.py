"""
What ran, for tools that draw it: traces for ui.perfetto.dev and chrome://tracing.

Here belongs what collects events and histories and writes them in others' formats;
nothing here may read a clock, change a task, or decide.

- `_trace`, `_slices`: what really ran; attempts as slices of time, and the file of
  them.
- `_spans`, `_runs`: OpenTelemetry spans of tasks; of runs and their phases.
- `_metrics`: what there is now, and how long attempts and commits took.
- `_signals`: `orch.signals`, as those see it who may not import it.
- `_conventions`, `_carrier`: names of attributes; a span's context as text.
"""

from taskorch.telemetry._slices import Slice as Slice
from taskorch.telemetry._trace import Trace as Trace
