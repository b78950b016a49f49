"""
What answers while an orchestrator waits for its turn: probes, and no more.

Decision: 0124.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Route

from taskorch.frontends.service._problems import answer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


def waiting_app(subject: str) -> Starlette:
    """An app that says that *subject* lives, and is not ready."""

    async def live(_request: Request) -> Response:
        return answer({"status": "ok", "detail": "it waits for its start"})

    async def wait(_request: Request) -> Response:
        return answer(
            {"status": "waiting", "detail": f"{subject} waits for its start"}, 503
        )

    routes = [Route("/livez", live), Route("/{path:path}", wait)]
    app = Starlette(routes=routes)
    app.state.close = lambda: None
    return app
