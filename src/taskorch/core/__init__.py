"""
The core: it takes tasks in, starts them within limits, ends them, keeps the events.

All else is an extension (`taskorch.ext`), and could be deleted. What users hold is in
`taskorch.api`, which gives again what is public here. The rooms, from the bottom up:

- `kernel`: decides what starts, and why something does not. It knows events, policies
  and values alone: no clock, no thread, no file.
- `executors`: runs attempts: threads, programs, processes. It knows no task.
- `journal`: keeps events in a file, and reads them. It knows no task, either.
- `signals`: brings events to listeners in this process.
- `workflows`: describes tasks with dependencies. It knows no orchestrator.
- `engine`: acts. It holds the lock, tells the kernel what has happened, starts what the
  kernel names, and commits the events. It knows the rooms below it.
- `handles`: what stands for a task: handles, futures, failures that are allowed.
- `workers`: workers that join, their leases and late ends.
- `resources`: the pools of a running orchestrator, and what is held of them.
- `runs`: runs of workflows: how they start, go on, and end.
- `worlds`: drives the rooms below in virtual time, for forecasts and for tests.
- `inside`: what an extension may ask of a running orchestrator.

Beside the core, and below it, stand the words of all: `kit`, `errors`, `model`,
`events`, `protocols`, `policies`.

Decisions: extensions, rooms-and-loading.
"""
