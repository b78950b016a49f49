"""
The server as a path of a service.

Who may ask, by which name, and how much comes in a body, the service says before. There
are no sessions: each request stands for itself, so a client goes on with a service that
was started again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.routing import Route

from taskorch.ext.mcp._server import MOST_BYTES
from taskorch.ext.service._bodies import WHO, HttpProblem
from taskorch.kit.people import asking

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server
    from starlette.types import Receive, Scope, Send

PATH: Final = "/mcp"


class McpPath:
    """
    The path `/mcp` of an app, which answers while the app lives.

    Args:
        server: The server that answers there.
    """

    def __init__(self, server: Server[Any]) -> None:
        self._server = server
        self._manager: StreamableHTTPSessionManager | None = None

    @property
    def route(self) -> Route:
        """The route for the app."""
        return Route(PATH, self)

    @asynccontextmanager
    async def life(self) -> AsyncIterator[None]:
        """Run the server while the app runs."""
        # A session manager can be run once only.
        self._manager = StreamableHTTPSessionManager(
            self._server,
            stateless=True,
            # Answers are streams, so that a lost client is noticed.
            json_response=False,
            # A message is a little longer than its arguments.
            max_request_body_size=MOST_BYTES,
        )
        async with self._manager.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        who = scope[WHO]
        if who.tenants is not None:
            # Tools show data of all tenants.
            problem = HttpProblem(403, "not_for_tenants", "tools are of all tenants")
            await problem.response(scope)(scope, receive, send)
            return
        assert self._manager is not None  # noqa: S101 - the app lives
        with asking(who):
            await self._manager.handle_request(scope, receive, send)
