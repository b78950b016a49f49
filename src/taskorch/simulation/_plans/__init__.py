"""
What a plan would come to: `TaskOrchestrator.simulate`, from arguments to report.

Here belongs what runs work that has not been submitted, in virtual time, and what is
said of those runs. Nothing here may know of the world of the simulator, of crashes or
of a journal, and no part of it is loaded before somebody asks for one.

- `_simulate`: `TaskOrchestrator.simulate`: from what a user says to a report.
- `_plan`, `_chance`: what is simulated, and with what; how long attempts take, which
  fail.
- `_run`: one run of a plan: the kernel, fed in virtual time.
- `_study`, `_report`: what the runs say together; what is said of that.
- `_picture`, `_words`: a schedule as a picture; how numbers stand in what people read.
"""
