"""
What stands for a task in a program, while it waits, runs, and is over.

Handles are made by the engine's rooms and by users' calls; they read the row of a task
and change nothing of it but by the verbs of an orchestrator.

- `handles`: the handle of a task; handles as their tasks end.
- `futures`: a handle as a future, for `concurrent.futures` and asyncio.
- `allowed`: results of tasks that may fail.
"""
