"""asyncio, loaded when the first coroutine needs it: it is a third of our start-up."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from taskorch.errors import UsageError

if TYPE_CHECKING:
    import asyncio
else:

    class _Asyncio:
        """Stand-in for the module that imports it when a name is asked for."""

        def __getattr__(self, name: str) -> Any:
            import asyncio as module  # noqa: PLC0415 - the module is imported late

            found = getattr(module, name)
            setattr(self, name, found)
            return found

    asyncio = _Asyncio()

__all__ = (
    "asyncio",
    "asyncio_loop",
    "is_cancellation",
    "resolve",
    "resolve_on",
    "running_loop",
)


def is_cancellation(error: BaseException) -> bool:
    """Return whether *error* is the one by which asyncio cancels a task."""
    return "asyncio" in sys.modules and isinstance(error, asyncio.CancelledError)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that the caller runs on, or None."""
    return asyncio._get_running_loop() if "asyncio" in sys.modules else None


def asyncio_loop(
    what: str, instead: str = "handle.result"
) -> asyncio.AbstractEventLoop:
    """
    Return the event loop that the caller runs on, where *what* is awaited.

    Args:
        what: For the message.
        instead: The call for another thread.

    Raises:
        UsageError: It runs on none of asyncio's.
    """
    loop = running_loop()
    if loop is not None:
        return loop
    msg = f"{what} is awaited where no event loop of asyncio's runs"
    hint = f"use {instead}(), or await it within asyncio.run(…)"
    if "trio" in sys.modules:
        hint = (
            f"under trio: await trio.to_thread.run_sync({instead}); anyio does it "
            "with its asyncio backend"
        )
    raise UsageError(msg, hint=hint)


def resolve(futures: Iterable[asyncio.Future[Any]], value: Any = None) -> None:
    """Resolve those of *futures* that are not done; call it on their loop."""
    for future in futures:
        if not future.done():
            future.set_result(value)


def resolve_on(
    loop: asyncio.AbstractEventLoop,
    futures: Iterable[asyncio.Future[Any]],
    value: Any = None,
) -> None:
    """Resolve *futures* of *loop*, from any thread, with one call."""
    if asyncio._get_running_loop() is loop:
        resolve(futures, value)
        return
    try:
        loop.call_soon_threadsafe(resolve, futures, value)
    except RuntimeError:
        # The loop is closed, so no coroutine waits there any more.
        return
