"""
What users hold: the orchestrator, its other faces, and what is public of the core.

`from taskorch import …` has the names of a first program. The private files are those:

- `_orchestrator`, `_aio`: the orchestrator; the same for coroutines.
- `_decorators`, `_contexts`: `@task`; what a function asks of its task.
- `_executor`: an executor of `concurrent.futures` over an orchestrator.
- `_options`: `orch.options(…)`: options that all calls share.
- `_extensions`: how extensions are joined to an orchestrator.
- `_settings`: settings, and the files that they are read from.

The other rooms are public:

- `verbs`: all that an orchestrator can be asked, each described once.
- `executors`, `journal`, `signals`, `workflows`: the public names of the rooms of the
  core that are named so.

Decision: rooms-and-loading.
"""
