"""
What a plan would come to: `TaskOrchestrator.simulate`, from arguments to report.

Here belongs what runs work that has not been submitted, in virtual time, and what is
said of those runs. Nothing here may know of the world of the simulator, of crashes or
of a journal, and no part of it is loaded before somebody asks for one.
"""
