"""
The server as an application of HTTP.

Who may ask, by which name, and how much comes in a body, is asked before. There are no
sessions: each request stands for itself, so a client goes on with a service that was
started again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from taskorch.ext.mcp._server import MOST_BYTES

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server
    from starlette.types import Receive, Scope, Send


class McpApp:
    """
    An application of ASGI that answers while it lives.

    A body has at most 1 MiB; a longer one is refused with 413.

    Args:
        server: The server that answers there, of `make_server`.
    """

    def __init__(self, server: Server[Any]) -> None:
        self._server = server
        self._manager: StreamableHTTPSessionManager | None = None

    @asynccontextmanager
    async def life(self) -> AsyncIterator[None]:
        """Answer requests within the block; it may be entered again after its end."""
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
        assert self._manager is not None  # noqa: S101 - the app lives
        await self._manager.handle_request(scope, receive, send)
