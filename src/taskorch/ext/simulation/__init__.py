"""
Forecasts: when plans and submitted work will end, by the kernel in virtual time.

Both drive the kernel as `core.worlds` does, without its world and without its faults.

- `_open`: forecasts for work that has been submitted.
- `_plans`: forecasts for plans.

Decision: simulation.
"""
