"""
Forecasts of plans: `TaskOrchestrator.simulate`, from arguments to report.

This package runs work that has not been submitted, in virtual time, and reports on
these runs. Nothing here may know of the world of the simulator, of crashes or of a
journal, and no part of it is loaded before it is used.

- `_report`: `TaskOrchestrator.simulate`: from arguments to a report, and its numbers.
- `_plan`, `_chance`: the plan and its means; random durations and failures.
- `_run`: one run of a plan: its tasks in a kernel in virtual time.
- `_study`: the results of all runs together.
- `_picture`: a schedule as a picture.
"""
