"""
The orchestrator as a service: tasks, workflows, statistics and events over HTTP.

    with TaskOrchestrator() as orch:
        token = new_token()
        with serve(create_app(orch, token=token)) as server:
            print(server.url, token)
            server.wait()

What comes over the wire is data: a task is of a type that an agent of the orchestrator
does, or calls a function that its owner has named. It needs Starlette, uvicorn and
prometheus-client: `pip install 'taskorch[serve]'`.
"""

from __future__ import annotations

try:
    from taskorch.frontends.service._app import create_app
    from taskorch.frontends.service._guard import new_token
    from taskorch.frontends.service._recorded import recorded_app
    from taskorch.frontends.service._server import Server, serve
except ImportError as _error:
    if _error.name is None or _error.name.startswith("taskorch"):
        raise
    _text = f"the service needs {_error.name}: pip install 'taskorch[serve]'"
    raise ImportError(_text, name=_error.name) from _error

__all__ = ("Server", "create_app", "new_token", "recorded_app", "serve")
