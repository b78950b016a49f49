"""
Messages and progress for people, and for programs that follow events.

These modules listen on behalf of somebody: none changes the outcome of a task. Events
are in `events`, and `engine` and `signals` publish them; spans and metrics are in
`telemetry`. Each part is loaded when it is first needed, so nothing is imported here.

- `causes`: the log line, message and part of the health that tell of a cause.
- `troubles`: failures, tasks that wait for a person, missing runs: reported once.
- `notifying`: the receivers of such messages: webhooks, services, functions.
- `failed`: the known data about a task that has failed.
- `following`: `orch.events(…)`: one event after another.
- `show_progress`: `orch.show_progress()`: one line on the progress of the work.
"""
