"""
Waiting on an event loop for threads; answers while another process has its turn.

While an orchestrator waits for its turn, probes are answered, and no more.

Decision: service.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Route

from taskorch.ext.service._bodies import answer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


class Waiter:
    """A wait for something new, on one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._is_woken = False

    def wake(self) -> None:
        """Report from any thread that there is news."""
        # One call into the loop is enough for any number of events.
        if not self._is_woken:
            self._is_woken = True
            # The loop may have ended by now.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._news.set)

    async def wait(self, seconds: float) -> bool:
        """Wait for `wake`, at most *seconds*; return whether it came."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        was_woken = self._news.is_set()
        # This comes before the caller looks, so that later events count as new.
        self._is_woken = False
        self._news.clear()
        return was_woken


def waiting_app(subject: str) -> Starlette:
    """Make an app that says that *subject* lives, and is not ready."""

    async def live(_request: Request) -> Response:
        return answer({"status": "ok", "detail": "it waits for its start"})

    async def wait(_request: Request) -> Response:
        return answer(
            {"status": "waiting", "detail": f"{subject} waits for its start"}, 503
        )

    routes = [Route("/livez", live), Route("/{path:path}", wait)]
    app = Starlette(routes=routes)
    app.state.close = lambda: None
    # It tells nothing that anybody may not know.
    app.state.is_open = False
    return app
