"""
What a plan would come to: `TaskOrchestrator.simulate`, from arguments to report.

Here belongs what runs work that has not been submitted, in virtual time, and what is
said of those runs. Nothing here may know of the world of the simulator, of crashes or
of a journal, and no part of it is loaded before somebody asks for one.

- `_report`: `TaskOrchestrator.simulate`: from what a user says to a report; how numbers
  stand in it.
- `_plan`, `_chance`: what is simulated, and with what; how long attempts take, which
  fail.
- `_run`: one run of a plan: the kernel, fed in virtual time.
- `_study`: what the runs say together.
- `_picture`: a schedule as a picture.
"""
