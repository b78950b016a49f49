"""
The orchestrator as a service: tasks, workflows, statistics and events over HTTP.

    with TaskOrchestrator() as orch:
        token = new_token()
        with serve(create_app(orch, token=token)) as server:
            print(server.url, token)
            server.wait()

What comes over the wire is data: a task is of a type that a worker of the orchestrator
does, or calls a function that its owner has named. It needs Starlette, uvicorn and
prometheus-client: `pip install 'taskorch[serve]'`.

- `_server`, `_app`: uvicorn on a thread of its own; the app, and what is asked before
  all.
- `_guard`: who may ask at all, by which token; sessions of browsers.
- `_people`, `_tenants`: who asks, and tokens; what who is bound to tenants may see.
- `_verbs`: the operations of an orchestrator, made of the table of verbs.
- `_operations`: the operations of the service, and their description.
- `_bodies`: what comes in a body, bounded; errors as answers; values as JSON can say
  them.
- `_tasks`, `_submissions`: lists of tasks, and results; tasks and workflows that come
  in.
- `_plans`: plans and adaptive jobs.
- `_suites`, `_recorded`: a test suite as a service; a journal, to be looked at.
- `_workers`, `_sessions`, `_artifacts`: workers: their work and words; files.
- `_feed`: past events, and new ones as they come.
- `_health`: whether all is well, and how several things stand; what Prometheus reads.
- `_waiting`: waits on a loop for threads; what answers while it is not our turn.
- `_page`: the dashboard in a browser, and its data.
- `_board`: what that shows of the past: counts, rates, when each worker did what.
- `_run_operations`: the grid of nights, the list of runs, one run.
- `_previews`: previews of acts.
- `page`: the files of that page.
"""

from __future__ import annotations

try:
    from taskorch.ext.service._app import create_app
    from taskorch.ext.service._guard import new_token
    from taskorch.ext.service._recorded import recorded_app
    from taskorch.ext.service._server import Server, serve
except ImportError as _error:
    if _error.name is None or _error.name.startswith("taskorch"):
        raise
    _text = f"the service needs {_error.name}: pip install 'taskorch[serve]'"
    raise ImportError(_text, name=_error.name) from _error

__all__ = ("Server", "create_app", "new_token", "recorded_app", "serve")
