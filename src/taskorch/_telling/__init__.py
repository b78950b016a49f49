"""
What is told and shown of what happens, to people and to those who follow it.

Here belongs what listens on behalf of somebody: nothing here changes what becomes of a
task. What happens is in `events`, and what hands it out in `runtime` and `signals`;
spans and metrics are in `telemetry`. Each part is loaded by the first who asks for it,
so nothing is imported here.

- `causes`: by which line, message and part of the health people hear of each cause.
- `troubles`: what has failed, waits for a person or did not happen: told once.
- `notifying`: the receivers of such messages: webhooks, services, functions.
- `failed`: what an orchestrator knows of a task that has failed.
- `following`: `orch.events(…)`: one event after another.
- `show_progress`: `orch.show_progress()`: one line that says how far work is.
"""
