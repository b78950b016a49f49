"""
What ran, for tools that draw it: traces for ui.perfetto.dev and chrome://tracing.

Here belongs what collects events and histories and writes them in others' formats;
nothing here may read a clock, change a task, or decide.

- `_trace`: what really ran; attempts as slices of time, and the file of them.
- `_spans`, `_runs`: OpenTelemetry spans of tasks, their contexts as text; of runs and
  their phases.
- `_metrics`: what there is now, and how long attempts and commits took.
- `prometheus`: that, and the health, as the text that Prometheus reads.
- `_conventions`: names of attributes; `orch.signals`, as those see it who may not
  import it.
"""

from taskorch.telemetry._trace import Slice as Slice
from taskorch.telemetry._trace import Trace as Trace
