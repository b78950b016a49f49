"""
Forecasts of plans: `TaskOrchestrator.simulate`, from arguments to report.

This package reports on runs of work that has not been submitted, which `core.worlds`
carries out. Nothing here may know of its world, of crashes or of a journal, and no part
of it is loaded before it is used.

- `_report`: `TaskOrchestrator.simulate`: from arguments to a report, and its numbers.
- `_chance`: random durations and failures.
- `_study`: the results of all runs together.
- `_picture`: a schedule as a picture.
"""
