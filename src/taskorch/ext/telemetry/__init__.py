"""
Spans and metrics of tasks, for OpenTelemetry and Prometheus.

Code that collects events and histories and writes them in others' formats belongs here;
nothing here may read a clock, change a task, or decide.

- `_spans`, `_runs`: OpenTelemetry spans of tasks, their contexts as text; of runs and
  their phases.
- `_metrics`: present counts, and how long attempts and commits took.
- `prometheus`: metrics and the health, as the text that Prometheus reads.
- `_conventions`: names of attributes; `orch.signals`, typed for modules that may not
  import it.
"""
